import re

import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
import pytest

from softeels_utils import plotting


@pytest.fixture(autouse=True)
def page(monkeypatch):
    """Headless, as in the book; returns what is put into the page."""
    shown = []
    monkeypatch.setenv("SOFTEELS_HEADLESS", "1")
    monkeypatch.setattr("IPython.display.display", lambda *objects, **_: shown.extend(objects))
    yield shown
    plt.close("all")


@pytest.fixture
def cube():
    volume = np.zeros((2, 12, 10, 14), np.float32)
    volume[0, 4:8, 3:7, 5:9] = 1
    volume[1, 2:10, 2:8, 3:11] = 1 - volume[0, 2:10, 2:8, 3:11]
    return volume


def test_maps_share_limits_or_not():
    maps = {"a": np.array([[0.0, 1.0]]), "b": np.array([[0.0, 5.0]])}
    limits = [image.get_clim() for ax in plotting.show_maps(maps).axes for image in ax.images]
    assert limits == [(0, 5), (0, 5)]
    figure = plotting.show_maps(maps, share=False, unit="nm")
    assert [image.get_clim() for ax in figure.axes for image in ax.images] == [(0, 1), (0, 5)]
    with pytest.raises(ValueError, match=r"maps\['c'\]: got shape \(3,\)"):
        plotting.show_maps({"c": np.zeros(3)})


def test_maps_of_nothing_or_nan_have_limits():
    (ax, *_) = plotting.show_maps({"flat": np.zeros((3, 3)), "nan": np.full((3, 3), np.nan)}).axes
    assert ax.images[0].get_clim() == (0, 1)


def test_slices_show_the_slice_asked_for(cube):
    figure = plotting.show_slices({"truth": cube, "other": cube * 0.5}, index=5, voxel_size_nm=0.4)
    images = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    np.testing.assert_array_equal(images[0], cube[0, 5])
    np.testing.assert_array_equal(images[3], cube[1, 5] * 0.5)
    with pytest.raises(ValueError, match="wants \\(C, Y, Z, X\\) with C = 3"):
        plotting.show_slices({"truth": cube}, channels="abc")


def test_visibility_is_folded_onto_the_half_seen_along_the_tilt_axis():
    normals = [[0, 0, 1], [0, 0, -1], [-2, 0, 0], [0, 3, 4], [0, 1, 0]]
    figure = plotting.show_visibility(normals, [1, 1, 2, 3, np.inf], max_tilt_deg=60)
    points = figure.axes[0].collections[0]
    np.testing.assert_allclose(points.get_offsets(), [[1, 0], [-1, 0], [0, 0], [0.8, 0.6]], atol=1e-12)
    np.testing.assert_array_equal(points.get_array(), [1, 1, 2, 3])  # what is unknown is left out
    np.testing.assert_allclose(figure.axes[0].lines[0].get_data(), [[-0.5, 0.5], [-(0.75**0.5), 0.75**0.5]])
    with pytest.raises(ValueError, match=r"normals: got \(5, 3\) with \(2,\)"):
        plotting.show_visibility(normals, [1, 2])


def test_spectra_have_bands_labels_and_distinct_colours():
    energy = np.arange(5.0)
    figure = plotting.show_spectra(energy, {"FeO": energy, "x": energy, "y": energy}, bands={"x": 1 + energy})
    (ax,) = figure.axes
    assert ax.get_xlabel() == "energy loss (eV)" and len(ax.collections) == 1
    assert len({line.get_color() for line in ax.lines}) == 3


def test_prose_tables_and_boxes(page):
    plotting.say("a **b**")
    plotting.table([{"method": "SIRT", "error": 0.123456}, {"method": "TV|x", "error": "-"}], caption="Errors")
    plotting.notice("No data: <script>alert(1)</script>", kind="warning")
    assert page[0].data == "a **b**" and page[1].data.startswith("**Errors**\n\n| method | error |")
    assert "| SIRT | 0.123 |" in page[1].data and "TV\\|x" in page[1].data
    assert "<script>" not in page[2].data and "admonition warning" in page[2].data
    with pytest.raises(ValueError, match="kind"):
        plotting.notice("x", kind="loud")
    with pytest.raises(ValueError, match="rows: got none"):
        plotting.table([])


def test_markdown_tables_have_a_column_for_every_key():
    text = plotting.markdown_table([{"a": 0.123456}, {"b": 2}], digits=4)
    assert text.splitlines() == ["| a | b |", "|---|---|", "| 0.1235 |  |", "|  | 2 |"]


def test_interactive_figure_loads_the_local_script(page, monkeypatch):
    monkeypatch.setenv("SOFTEELS_PLOTLYJS", "../assets/plotly.min.js")
    plotting.show(go.Figure(go.Scatter(y=[1, 2])))
    assert re.findall(r'src="([^"]*)"', page[0]["text/html"]) == ["../assets/plotly.min.js"]
    assert plotting.plotly_file().stat().st_size > 1e6


def test_view_in_three_dimensions(page, cube, monkeypatch):
    monkeypatch.setenv("SOFTEELS_PLOTLYJS", "../assets/plotly.min.js")
    plotting.show_3d(cube, voxel_size_nm=0.4)
    (frame,) = page
    assert frame["text/html"].count("mesh3d") >= 2 and frame["text/html"].startswith("<iframe")
    with pytest.raises(ValueError, match="volume: got shape"):
        plotting.show_3d(cube[0])


def test_interactive_figures_have_no_button_that_uploads_data(page):
    plotting.show(go.Figure(go.Scatter(y=[1, 2])))
    assert '"showSendToCloud": false' in page[0]["text/html"]


def test_slices_have_one_frame_each_and_open_at_the_middle(cube):
    figure = plotting.slices_figure({"DIPm-TV": 0.5 * cube, "truth": cube}, voxel_size_nm=0.4)
    (slider,) = figure.layout.sliders
    assert (
        [step.args[0][0] for step in slider.steps]
        == [frame.name for frame in figure.frames]
        == list(map(str, range(12)))
    )
    assert slider.active == 6
    np.testing.assert_array_equal(figure.data[2].z, np.rint(100 * cube[0, 6]))  # truth, FeO: per cent of 0 to 1
    np.testing.assert_array_equal(figure.frames[9].data[1].z, np.rint(50 * cube[1, 9]))
    assert [trace.visible for trace in figure.data] == [True, True, False, False]
    (menu,) = figure.layout.updatemenus
    assert menu.buttons[1].label == "truth" and menu.buttons[1].args[0]["visible"] == [False, False, True, True]


def test_slices_keep_the_colour_limits_and_survive_nan():
    volume = np.full((1, 2, 3, 3), np.nan)
    volume[0, 1] = [[-1, 2, 3], [4, 5, 6], [7, 8, 99]]
    figure = plotting.slices_figure({"a": volume}, channels=["Fe"], vmin=2, vmax=6)
    np.testing.assert_array_equal(figure.data[0].z, [[0, 0, 25], [50, 75, 100], [100, 100, 100]])
    assert not figure.layout.updatemenus and list(figure.layout.coloraxis.colorbar.ticktext) == ["2", "4", "6"]
    with pytest.raises(ValueError, match="volumes: got shapes"):
        plotting.slices_figure({"a": volume, "b": volume[:, :1]}, channels=["Fe"])
    with pytest.raises(ValueError, match="volumes: got shapes"):
        plotting.slices_figure({})


def test_browser_of_slices_is_one_page_without_widgets(page, monkeypatch):
    monkeypatch.setenv("SOFTEELS_PLOTLYJS", "../assets/plotly.min.js")
    monkeypatch.setattr("ipywidgets.interact", lambda *_, **__: pytest.fail("made a widget"))
    volumes = {name: np.random.default_rng(0).random((2, 48, 48, 48)) for name in ("a", "b", "c")}
    plotting.browse_slices(volumes)
    (shown,) = page
    assert len(shown["text/html"]) < 2e6 and "Plotly.animate" not in shown["text/html"]  # waits for the reader
    volumes = {name: np.zeros((2, 112, 112, 112)) for name in ("a", "b", "c")}
    plotting.browse_slices(volumes)
    assert len(page[1]["text/html"]) < 2e6
    assert [frame.name for frame in plotting.slices_figure(volumes).frames][:3] == ["0", "2", "4"]


def test_browser_of_slices_draws_at_full_resolution_with_a_live_kernel(page, cube, monkeypatch):
    calls = []
    monkeypatch.setenv("SOFTEELS_HEADLESS", "0")
    monkeypatch.setattr("ipywidgets.interact", lambda function, **controls: calls.append((function, controls)))
    plotting.browse_slices({"DIPm-TV": 0.5 * cube, "truth": cube})
    ((draw, controls),) = calls
    assert not page and controls["volume"] == ["DIPm-TV", "truth"]
    assert (controls["index"].min, controls["index"].value, controls["index"].max) == (0, 6, 11)
    draw("truth", 5)
    np.testing.assert_array_equal(plt.gcf().axes[0].images[0].get_array(), cube[0, 5])


def test_captions_hold_symbols_and_the_alternative_text_is_plain(page):
    figure, _ = plt.subplots()
    plotting.show(figure, caption="Fe<sub>2</sub> and $\\sigma_1 < 2$ **grow**", name="growth")
    markup = page[0]["text/html"]
    assert markup.startswith('<figure class="softeels" id="fig-growth"><img') and 'alt="Fe2 and ' in markup
    assert r'<span class="math inline">\(\sigma_1 &lt; 2\)</span> <strong>grow</strong></figcaption>' in markup
    assert re.search('alt="([^"]*)"', markup)[1] == "Fe2 and \\sigma_1 &lt; 2 grow"
