import base64
import json
import re
import zlib

import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
import pytest
from scipy import ndimage

from softeels_utils import plotting, simulate
from softeels_utils.plotting import bounds


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
        plotting.show_slices({"truth": cube}, channels=tuple("abc"))


def test_visibility_is_folded_onto_the_half_seen_along_the_tilt_axis():
    normals = [[0, 0, 1], [0, 0, -1], [-2, 0, 0], [0, 3, 4], [0, 1, 0]]
    figure = bounds.visibility_figure(normals, [1, 1, 2, 3, np.inf], max_tilt_deg=60)
    points = figure.axes[0].collections[0]
    np.testing.assert_allclose(points.get_offsets(), [[1, 0], [-1, 0], [0, 0], [0.8, 0.6]], atol=1e-12)
    np.testing.assert_array_equal(points.get_array(), [1, 1, 2, 3])  # what is unknown is left out
    np.testing.assert_allclose(figure.axes[0].lines[0].get_data(), [[-0.5, 0.5], [-(0.75**0.5), 0.75**0.5]])
    with pytest.raises(ValueError, match=r"normals: got \(5, 3\) with \(2,\)"):
        bounds.visibility_figure(normals, [1, 2])


def test_spectra_have_bands_labels_and_distinct_colours():
    energy = np.arange(5.0)
    figure = plotting.show_spectra(energy, {"FeO": energy, "x": energy, "y": energy}, bands={"x": 1 + energy})
    (ax,) = figure.axes
    assert ax.get_xlabel() == "energy loss (eV)" and len(ax.collections) == 1
    assert len({line.get_color() for line in ax.lines}) == 3


def test_only_phases_have_the_colours_of_phases(cube):
    """Channels, curves and Matplotlib's own cycle get others, the same in every figure."""
    figure = plotting.surfaces_figure(cube, channels=("Co", "FeO"))
    (unknown,), (known,) = ({t.color for t in figure.data if t.name == name} for name in ("Co", "FeO"))
    (ax,) = plotting.show_spectra(np.arange(3), {"Co": np.arange(3.0), "FeO": np.ones(3)}).axes
    assert [line.get_color() for line in ax.lines] == [unknown, known] and known == plotting.COLORS["FeO"]
    plotting.use_style()
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert unknown in cycle and not {c.upper() for c in plotting.COLORS.values()} & {c.upper() for c in cycle}


def test_a_long_caption_of_a_table_is_bold_in_its_first_clause(page):
    rest = " with a second clause that goes on for a while, so that nobody wants to read all of it in bold type"
    plotting.table([{"a": 1}], caption="What it costs:" + rest)
    assert page[0].data.startswith(f"**What it costs:**{rest}\n\n| a |")


def test_prose_tables_and_boxes(page):
    plotting.say("a **b**")
    plotting.table([{"method": "SIRT", "error": 0.123456}, {"method": "TV|x", "error": "-"}], caption="Errors")
    plotting.notice("No data: <script>alert(1)</script>", kind="warning")
    assert page[0].data == "a **b**" and page[1].data.startswith("**Errors**\n\n| method | error |")
    assert "| SIRT | 0.123 |" in page[1].data and "TV\\|x" in page[1].data
    assert "<script>" not in page[2].data and "admonition warning" in page[2].data
    with pytest.raises(ValueError, match="kind"):
        plotting.notice("x", kind="loud")
    plotting.notice(["", "one\nline", "`two`"], "warning")
    assert page[3].data.count("<li>") == 2 and "<code>two</code>" in page[3].data
    plotting.notice(["alone", ""])
    assert "<li>" not in page[4].data and "<p>alone</p>" in page[4].data
    plotting.notice([])
    plotting.notice("")
    assert len(page) == 5
    with pytest.raises(ValueError, match=r"rows: got \[\]"):
        plotting.table([])


def test_markdown_tables_have_a_column_for_every_key():
    text = plotting.markdown_table([{"a": 0.123456}, {"b": 2}], digits=4)
    assert text.splitlines() == ["| a | b |", "|---|---|", "| 0.1235 |  |", "|  | 2 |"]


def test_interactive_figure_loads_the_local_script(page, monkeypatch):
    monkeypatch.setenv("SOFTEELS_PLOTLYJS", "../assets/plotly.min.js")
    plotting.show(go.Figure(go.Scatter(y=[1, 2])))
    assert re.findall(r'src="([^"]*)"', page[0]["text/html"]) == ["../assets/plotly.min.js"]
    assert plotting.plotly_file().stat().st_size > 1e6


def test_formulas_have_their_subscripts_in_text_tables_and_captions(page):
    plotting.say("Fe3O4 and `Fe3O4` at $M$, [L2,3](M2,3.html): 5% of gamma-Fe2O3")
    text = "Fe<sub>3</sub>O<sub>4</sub> and `Fe3O4` at $M$, [L<sub>2,3</sub>](M2,3.html): 5\xa0% of "
    assert page[0].data == text + "γ-Fe<sub>2</sub>O<sub>3</sub>"
    plotting.notice("L3/L2 of `M2,3`", title="Mn3O4")
    assert "L<sub>3</sub>/L<sub>2</sub> of <code>M2,3</code>" in page[1].data
    assert ">Mn<sub>3</sub>O<sub>4</sub></p>" in page[1].data
    assert plotting.markdown_table([{"M2,3": "Fe3O4"}]).splitlines()[0] == "| M<sub>2,3</sub> |"
    assert plotting.markdown_table([{"a": -0.5}, {"a": "2-3"}]).splitlines()[2:] == ["| −0.500 |", "| 2-3 |"]
    numbers = plotting.markdown_table([{"a": value} for value in (1.0, 0.04321, 100.0, 12345.6)]).splitlines()[2:]
    assert numbers == ["| 1.00 |", "| 0.0432 |", "| 100 |", "| 12,300 |"]
    plotting.say("a\n- b, fitted - true: × 2 (1.0 ± 0.1)")
    assert page.pop().data == "a\n- b, fitted − true: ×\xa02 (1.0\xa0±\xa00.1)"
    untouched = "FeO, 3-D, NRMSE, 112³, `50%`, `-p 1`, 2026-11-29, <a style='width: 100%'>"
    plotting.say(untouched)
    assert page[2].data == untouched


def test_formulas_have_their_subscripts_in_figures(page):
    figure, (left, right) = plt.subplots(1, 2)
    left.plot([1], [1], label="Fe3O4, M2,3")
    left.set(title="Fe-L2,3")
    left.legend()
    right.set_yticks([0, 1], ["Fe2O3", "FeO"])
    plotting.show(figure)
    assert left.get_title() == "Fe-L$_{2{,}3}$" and left.get_legend().get_texts()[0].get_text().startswith("Fe$_3$O")
    assert [label.get_text() for label in right.get_yticklabels()] == ["Fe$_2$O$_3$", "FeO"]
    drawn = go.Figure(go.Scatter(y=[1], name="Fe3O4", meta="Fe3O4"), layout={"title": {"text": "M2,3"}})
    step = {"label": "Fe3O4", "method": "restyle", "args": [{"name": "Fe3O4", "visible": True}]}
    drawn.update_layout(updatemenus=[{"buttons": [step]}])
    markup = plotting.figure_html(drawn, include_plotlyjs=False)
    assert markup.count("Fe\\u003csub\\u003e3") + markup.count("Fe<sub>3<") == 2 and '"meta":"Fe3O4"' in markup
    assert json.dumps("Fe₃O₄")[1:-1] in markup  # of the button


def test_view_in_three_dimensions(page, cube, monkeypatch):
    monkeypatch.setenv("SOFTEELS_PLOTLYJS", "../assets/plotly.min.js")
    plotting.show_3d(cube, voxel_size_nm=0.4, turning=True, caption="A *view*.", name="view", alt="a cube")
    (frame,) = page
    markup = frame["text/html"]
    assert markup.count("mesh3d") >= 2 and markup.startswith('<figure class="softeels" id="fig-view"><iframe')
    assert 'title="a cube"' in markup and "A <em>view</em>." in markup and "prefers-reduced-motion" in markup
    assert "arrow keys turn it" in markup and "phases shown" in markup
    with pytest.raises(ValueError, match="volume: got shape"):
        plotting.show_3d(cube[0])


def _inside(mesh):
    """Volume and faces' plane extent of a closed mesh, given as its traces."""
    volume, x = 0.0, []
    for trace in mesh:
        points = np.stack([trace.x, trace.y, trace.z], axis=1).astype(float)
        a, b, c = (points[index] for index in (trace.i, trace.j, trace.k))
        volume += np.sum(np.cross(a, b) * c) / 6
        x.append(points[:, 0])
    return abs(volume), x


def test_bodies_are_closed_and_meet_at_the_cut(cube):
    figure = plotting.surfaces_figure(cube, voxel_size_nm=2.0, level=0.5)
    core, shell = ([trace for trace in figure.data if trace.name == name] for name in ("FeO", "Fe3O4"))
    assert [len(core), len(shell)] == [2, 2]  # outside and section
    cut = (14 // 2 + 0.5) * 2.0
    for body, voxels in ((core, cube[0, ..., :8]), (shell, cube[1, ..., :8])):
        volume, (outside, section) = _inside(body)
        assert np.all(section == cut) and outside.max() == cut
        # half a voxel is missing at the cut, and corners are rounded off
        assert 0.75 * voxels[..., :7].sum() < volume / 8 < voxels.sum()
    whole = plotting.surfaces_figure(cube, voxel_size_nm=2.0, cutaway=False)
    assert _inside([t for t in whole.data if t.name == "FeO"])[0] / 8 == pytest.approx(cube[0].sum(), rel=0.25)


def test_a_skin_is_shown_where_its_own_fraction_is_below_one_half(cube):
    cube[0, 9], cube[1, 9] = 0.4 * cube[1, 9], 0.0
    names = {trace.name: trace.y.max() for trace in plotting.surfaces_figure(cube).data}
    assert names["FeO"] > 9.5 and names["Fe3O4"] < 9.5


def _surface_area(mesh, filled):
    """Area of a mesh where a field is about 0.3, the level at which the surface of a specimen is drawn."""
    points = np.stack([mesh.y, mesh.z, mesh.x]).astype(float)
    there = abs(ndimage.map_coordinates(filled, points - 0.5, order=1) - 0.3) < 0.1
    a, b, c = (points[:, index] for index in (mesh.i, mesh.j, mesh.k))
    chosen = there[mesh.i] & there[mesh.j] & there[mesh.k]
    return np.linalg.norm(np.cross(b - a, c - a, axis=0), axis=0)[chosen].sum() / 2


def test_a_skin_below_one_voxel_is_drawn_without_stripes():
    """The skin of 0.6 voxels covers the tilted cube as a whole."""
    truth = simulate.core_shell_nanocube(32)
    filled = ndimage.gaussian_filter(truth.sum(0), 0.5)
    traces = plotting.surfaces_figure({"a": truth, "b": truth, "c": truth}).data  # of several, each is coarser
    skin, shell = (next(trace for trace in traces if trace.name == name) for name in ("FeO", "Fe3O4"))
    assert _surface_area(shell, filled) < 0.001 * _surface_area(skin, filled)
    whole = plotting.surfaces_figure(truth.sum(0, keepdims=True), channels=("oxide",)).data[0]
    assert _surface_area(skin, filled) == pytest.approx(_surface_area(whole, filled), rel=0.03)


def test_the_outside_shows_patches_and_not_single_voxels():
    """Noise leaves no flecks on a body; a patch of four by four voxels is seen, near its true size."""
    area = {}
    for side in (1, 4):
        volume = np.zeros((2, 16, 16, 16), np.float32)
        volume[0, 4:12, 4:12, 4:12], volume[1, 4:12, 4:12, 4:12] = 0.6, 0.4
        patch = slice(8 - side // 2, 8 - side // 2 + side)
        volume[:, 4, patch, patch] = volume[::-1, 4, patch, patch].copy()
        filled = ndimage.gaussian_filter(volume.sum(0), 0.5)
        traces = plotting.surfaces_figure(volume, cutaway=False).data
        area[side] = sum(_surface_area(trace, filled) for trace in traces if trace.name == "Fe3O4")
    assert area[1] == 0 and area[4] == pytest.approx(16, rel=0.4)


def test_view_in_three_dimensions_of_several_volumes_with_errors(cube):
    volumes = {"truth": cube, "DIPm-TV": 0.9 * cube}
    figure = plotting.surfaces_figure(volumes, errors={name: 0.1 * v for name, v in volumes.items()})
    choose, colour = figure.layout.updatemenus
    assert [button.label for button in choose.buttons] == ["truth", "DIPm-TV"]
    shown = np.array([button.args[0]["visible"] for button in choose.buttons])
    assert np.all(shown.sum(0) == 1) and shown[0].tolist() == [trace.visible for trace in figure.data]
    assert colour.buttons[1].args[0]["cmax"] == pytest.approx(0.1, rel=0.05)
    assert np.concatenate([trace.intensity for trace in figure.data]).max() == pytest.approx(0.1, rel=0.05)
    with pytest.raises(ValueError, match=r"errors: got .*wants one for each volume"):
        plotting.surfaces_figure(volumes, errors={"truth": cube})
    with pytest.raises(ValueError, match="volume: got shapes"):
        plotting.surfaces_figure({"a": cube, "b": cube[:, 1:]})


def test_views_in_three_dimensions_stay_small():
    y, z, x = np.mgrid[:112, :112, :112] - 55.5
    ball = (y**2 + z**2 + x**2 < 50**2).astype(np.float32)
    volume = np.stack([ball * (abs(x) < 20), ball * (abs(x) >= 20)])
    figure = plotting.surfaces_figure({"a": volume, "b": volume, "c": volume})
    assert len(plotting.figure_html(figure, include_plotlyjs=False)) < 1.5e6


def test_nothing_to_show_in_three_dimensions_is_an_empty_view():
    assert not plotting.surfaces_figure(np.zeros((2, 4, 4, 4))).data


def test_sliders_and_menus_become_controls_with_names(cube):
    figure = plotting.slices_figure({"a": cube, "b": cube})
    markup = plotting.figure_html(figure, include_plotlyjs=False, full_html=False)
    settings = json.loads(re.search(r"controls = (\{.*\});", markup)[1])
    (slider,), (menu,) = settings["sliders"], settings["menus"]
    assert slider["prefix"] == "slice along Y: " and slider["active"] == 6 and len(slider["steps"]) == 12
    assert [step["label"] for step in menu["steps"]] == ["a", "b"] and menu["name"] == "volume"
    assert settings["wide"]["height"] == 400 and settings["narrow"]["xaxis2.domain"] == [0, 1]
    drawn = markup[markup.index("Plotly.newPlot") :]
    assert (
        "slice along Y" not in drawn[: drawn.index("controls =")] and figure.layout.sliders
    )  # the figure keeps its own


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
    with pytest.raises(ValueError, match=r"volumes: got \{\}"):
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


@pytest.fixture
def fitted():
    """A map, energies, spectra and fits of 3 x 4 pixels, one not measured."""
    energy, rng = np.linspace(40, 80, 50), np.random.default_rng(0)
    fits = 200 * np.exp(-(energy - 40) / 20) * (1 + np.arange(12).reshape(3, 4, 1))
    spectra = rng.poisson(fits).astype(float)
    spectra[0, 1, 7] = np.nan
    return fits[..., 0], energy, spectra, fits


def _unpacked(packed):
    """What the script in the page does."""
    rows, columns, channels = packed["shape"]
    size = rows * columns * channels
    data = zlib.decompress(base64.b64decode(packed["data"]))
    planes = np.frombuffer(data, np.uint8).reshape(3, 2, size).astype(int)
    folded = planes[:, 0] | planes[:, 1] << 8
    fit, left, band = ((folded >> 1) ^ -(folded & 1)).reshape(3, rows, columns, channels)
    scales = np.reshape(packed["scales"], (2, rows, columns, 1))
    return scales[0] * fit.cumsum(-1), scales[1] * left, scales[1] * band.cumsum(-1)


def test_pixel_explorer_keeps_spectra_fits_and_bands(fitted):
    image, _, spectra, fits = fitted
    figure = plotting.pixel_explorer(*fitted, bands=fits**0.5, values={"FeO": (image, 0.1 * image), "total": image})
    packed = figure.layout.meta["pixels"]
    assert packed["start"] == [2, 3] and packed["measured"] == [1, 0] + 10 * [1]
    assert packed["values"][0][2][2][3] == pytest.approx(0.1 * image[2, 3]) and packed["values"][1][2] is None
    fit, left, band = _unpacked(packed)
    measured = np.isfinite(spectra).all(-1)
    for got, wanted, steps in ((fit, fits, 4000), (left, spectra - fits, 500), (band, fits**0.5, 500)):
        error = np.abs(got - wanted)[measured].max(-1)
        top = np.abs(fits if steps == 4000 else np.maximum(abs(spectra - fits), fits**0.5))[measured].max(-1)
        assert np.all(error <= 0.51 * top / steps)
    np.testing.assert_allclose(figure.data[3].y, spectra[2, 3])
    np.testing.assert_allclose(figure.data[6].y, (spectra - fits)[2, 3])


def test_pixel_explorer_is_small_and_refuses_what_does_not_fit(fitted):
    rng = np.random.default_rng(0)
    fits = 300 * np.exp(-np.linspace(0, 2, 150)) * rng.random((32, 32, 1))
    figure = plotting.pixel_explorer(fits[..., 0], np.arange(150), rng.poisson(fits), fits, bands=fits**0.5)
    assert len(plotting.figure_html(figure, include_plotlyjs=False)) < 0.6e6
    image, energy, spectra, fits = fitted
    with pytest.raises(ValueError, match=r"fits: got shape \(3, 4, 49\), wants \(Y, X, E\) = \(3, 4, 50\)"):
        plotting.pixel_explorer(image, energy, spectra, fits[..., 1:])
    with pytest.raises(ValueError, match=r"start: got \(3, 0\), wants a row and a column"):
        plotting.pixel_explorer(*fitted, start=(3, 0))
    with pytest.raises(ValueError, match=r"values\['FeO'\]: got shape \(4,\)"):
        plotting.pixel_explorer(*fitted, values={"FeO": image[0]})


def test_pixels_are_browsed_with_widgets_where_a_kernel_lives(page, fitted, monkeypatch):
    plotting.browse_pixels(*fitted, name="pixels", values={"FeO": fitted[0]})
    assert 'id="fig-pixels"' in page[0]["text/html"] and "DecompressionStream" in page[0]["text/html"]
    calls = []
    monkeypatch.setenv("SOFTEELS_HEADLESS", "0")
    monkeypatch.setattr("ipywidgets.interact", lambda function, **controls: calls.append((function, controls)))
    plotting.browse_pixels(*fitted, values={"FeO": (fitted[0], fitted[0])}, start=(1, 2))
    ((draw, controls),) = calls
    assert (controls["row"].value, controls["column"].value, controls["column"].max) == (1, 2, 3)
    draw(2, 0)
    image, curve, *_ = plt.gcf().axes
    assert image.lines[0].get_xydata().tolist() == [[0, 2]] and "FeO 1.8e+03 ± 1.8e+03 nm" in curve.get_title()
