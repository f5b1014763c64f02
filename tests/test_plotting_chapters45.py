"""Figures of chapters 4 and 5, and what their pages promise: short code, a true reading time."""

import inspect
import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from softeels_utils import chapters, records
from softeels_utils.plotting import COLORS, browse_slices, nanocube, recorded, sparse, use_style

CHAPTERS = ["04_sparse_view_study", "05_dipm_tv_nanocubes"]


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


@pytest.fixture
def cube():
    truth = np.zeros((2, 16, 16, 16), np.float32)
    truth[1, 3:13, 3:13, 3:13] = 1
    truth[:, 6:10, 6:10, 6:10] = np.array([1, 0])[:, None, None, None]
    return truth


SUMMARY = [
    {"method": "SIRT", "views": 5, "fluence": 4000.0, "oracle": 0.3, "automatic": 0.4, "end": 0.35},
    {"method": "SIRT", "views": 9, "fluence": 4000.0, "oracle": 0.2, "automatic": 0.25, "end": 0.5},
    {"method": "joint TV", "views": 9, "fluence": 4000.0, "oracle": 0.1, "automatic": 0.1, "end": 0.1},
]


def curve(values):
    return SimpleNamespace(frequency=np.linspace(0, 0.25, len(values)), correlation=np.array(values))


def measures(core=0.4, void=40.0):
    edges = SimpleNamespace(core_rms_nm=core, outer_rms_nm=0.3, void_nm3=void, true_void_nm3=56.0, missed=0.0)
    return edges, SimpleNamespace(mean_nm=1.2, true_mean_nm=1.3, missed=0.25)


def figures(cube):
    """One of each, by name."""
    run = {"step": [1, 2, 3], "heldout": [2, 0.8, 0.9], "fitted": [2, 0.7, 0.5], "error": [0.9, 0.3, 0.4]}
    return {
        "stopping": sparse.stopping([10, 20], [2.0, 0.9], [0.4, 0.3], {"discrepancy": 19}),
        "weights": sparse.weights([20, 40], [0.1, 0.0], {1.0: 0.2, 2.0: 0.3}, {1.0: 0.8, 2.0: 0.7}),
        "methods": sparse.methods_over_views(SUMMARY),
        "correlations": sparse.correlations({"SIRT": {"two halves": curve([1, 0.5]), "truth": curve([1, 0.2])}}),
        "shifts": sparse.shifts([-10, 0, 10], [[0, 1], [1, 0], [0.5, 2]]),
        "sections": sparse.sections({name: cube for name in "abcdef"}, voxel_size_nm=2.0),
        "diagram": nanocube.network_diagram(),
        "training": nanocube.training({"DIPm-TV": run}, marks={"best": 2}),
        "anatomy": nanocube.anatomy(cube, {"a": cube}, {"a": measures()}, members=[measures()]),
    }


def test_figures_are_readable_and_use_phase_colours_for_phases_only(cube):
    phases = {to_hex(color) for name, color in COLORS.items() if name != "truth"}
    for name, figure in figures(cube).items():
        assert figure.get_size_inches()[0] <= 7.5, name
        figure.canvas.draw()
        texts = [text for text in figure.findobj(plt.Text) if text.get_text().strip() and text.get_visible()]
        assert min(text.get_fontsize() for text in texts) >= 9, name
        assert len(figure.axes) <= 6, name
        if name not in ("sections", "diagram", "anatomy"):
            assert not phases & {to_hex(line.get_color()) for ax in figure.axes for line in ax.lines}, name


def test_stops_and_the_weight_chosen_are_marked():
    figure = sparse.stopping([10, 20, 40], [2.0, 1.1, 0.9], [0.4, 0.3, 0.35], {"discrepancy": 27, "held out": 35})
    vertical = [line.get_xdata()[0] for line in figure.axes[1].lines[1:]]
    assert vertical == [27, 35]
    figure = sparse.weights([20], [1e-3], {1.0: 0.2, 2.0: 0.3}, {1.0: 0.8, 2.0: 0.7, 4.0: 0.9})
    assert figure.axes[1].lines[-1].get_xdata()[0] == 2.0  # held-out pixels choose, not the truth


def test_methods_have_a_point_by_their_rule_and_a_bar_from_the_oracle_to_the_end():
    (ax,) = sparse.methods_over_views(SUMMARY).axes
    points = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert points == {"SIRT": [0.4, 0.25], "joint TV": [0.1]}
    bars = [segment[:, 1].tolist() for collection in ax.collections for segment in collection.get_segments()]
    assert bars == [[0.3, 0.4], [0.2, 0.5], [0.1, 0.1]]
    two = sparse.methods_over_views([*SUMMARY, SUMMARY[0] | {"fluence": 100.0}])
    assert [ax.get_title() for ax in two.axes] == ["100 e/Å² per tilt", "4,000 e/Å² per tilt"]


def test_correlations_with_the_truth_are_dashed():
    (ax,) = sparse.correlations({"SIRT": {"two halves": curve([1, 0.5]), "truth, squared": curve([1, 0.2])}}).axes
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--", ":"]
    assert ax.lines[0].get_color() == ax.lines[1].get_color() and ax.lines[2].get_ydata()[0] == 0.143


def test_sections_show_phases_in_their_colours_and_vacuum_white(cube):
    figure = sparse.sections({"truth": cube, "twice": 2 * cube, "SIRT": -cube}, voxel_size_nm=2.0)
    truth, twice, nothing = (ax.images[0].get_array() for ax in figure.axes)
    np.testing.assert_allclose(truth[8, 8], to_rgb(COLORS["FeO"]), atol=1e-6)
    np.testing.assert_allclose(truth[4, 4], to_rgb(COLORS["Fe3O4"]), atol=1e-6)
    assert truth[0, 0].tolist() == [1, 1, 1] and np.all(nothing == 1)
    np.testing.assert_allclose(twice, truth)
    assert figure.axes[0].images[0].get_extent() == [0, 32, 32, 0]
    half = sparse.phase_image(0.5 * cube[:, 8], (COLORS["FeO"], COLORS["Fe3O4"]))
    np.testing.assert_allclose(half, (1 + truth) / 2)
    with pytest.raises(ValueError, match=r"volumes\['a'\]: got shape"):
        sparse.sections({"a": cube[0]})


def test_the_slice_browser_has_a_caption_and_a_name(cube, monkeypatch):
    shown = []
    monkeypatch.setenv("SOFTEELS_HEADLESS", "1")
    monkeypatch.setattr("IPython.display.display", lambda *objects, **_: shown.extend(objects))
    browse_slices({"truth": cube}, caption="Every *slice*.", name="a-name", alt="Slices")
    (page,) = shown
    assert (
        '<figure class="softeels" id="fig-a-name">' in page["text/html"]
        and "Every <em>slice</em>." in page["text/html"]
    )


def test_rows_of_the_record_count_the_voids_that_are_filled():
    measures = dict.fromkeys(("ratio", "surface", "corner"), 0.5)
    contrasts = [0.1, 0.7, None, 0.19]
    cores = [None, {"name": "cube"}, {"name": "sphere"}, None]  # without a core its edge is none
    rows = []
    for contrast, core in zip(contrasts, cores, strict=True):
        cell = measures | {"void_contrast": contrast, "core": 0.1 if core else 9.0}
        rows.append({"label": {"core": core}, "methods": {"DIPm-TV": cell}})
    rows[0]["methods"]["SIRT"] = measures | {"void_contrast": None, "core": None}
    (row,) = sparse.draws_rows({"rows": rows})
    assert row["method"] == "DIPm-TV" and row["voids filled"] == "2 of 3" and row["core's edge"] == "0.10"


def test_a_method_is_shown_shape_by_shape():
    cell = {"surface": 0.5, "corner": 0.5, "void_contrast": 0.7}
    bodies = (("rod", None, 0.3), ("cube", {"name": "cube"}, 0.4), ("cube", None, 0.8), ("cube", None, 0.5))
    rows = [
        {"label": {"shape": {"name": shape}, "core": core}, "methods": {"DIPm-TV": cell | {"ratio": r, "core": r}}}
        for shape, core, r in bodies
    ]
    cube, rod = sparse.shape_rows({"rows": [*rows, rows[0] | {"methods": {"SIRT": cell}}]})
    assert (cube["shape"], cube["specimens"], cube["core's edge"]) == ("cube", "3", "0.40")
    assert cube["error over joint TV's"] == "0.50 (0.40 to 0.80)" and rod["core's edge"] == "–"


def test_draws_with_nothing_fixed_say_what_is_odd_about_them():
    plain = dict.fromkeys(("support", "third_phase", "mixture"))
    plain |= {"shape": {"name": "cube"}, "views": 7, "max_tilt_deg": 52.4, "noise": {"kind": "fit"}}
    plain |= {"missing_tilt": False, "largest_shift_px": 0.0, "axis_angle_deg": -0.04}
    odd = plain | {"third_phase": "skin", "support": {"thickness_nm": 5}, "axis_angle_deg": -0.8}
    methods = {"SIRT": {"nrmse": 0.5}, "DIPm-TV": {"nrmse": 0.25}}
    rows = [{"seed": k, "label": label, "methods": methods} for k, label in enumerate((plain, odd))]
    rows[0] = rows[0] | {"methods": methods | {"TV": {"nrmse": 0.4}}}
    first, second = sparse.as_drawn_rows({"rows": rows})
    assert list(first) == list(second)  # TV was run on one of them alone
    assert (first["specimen"], first["tilts"], first["also"]) == ("0: cube", "7 over ±52°", "–")
    assert second["also"] == "support, third phase, axis turned by 0.8°" and second["DIPm-TV"] == "0.250"


def test_the_ladder_shows_every_method_on_the_same_specimens():
    """In the order of its steps; a method that was run on fewer specimens says so."""
    runs = {"DIPm-TV": (0.4, 0.6, 0.1), "TGV": (1.1,), "SIRT": (2.0, 2.4)}  # the third specimen has DIPm-TV alone
    cell = {"surface": 0.5, "corner": 0.5, "void_contrast": 0.7}
    rows = [
        {"methods": {name: cell | {"ratio": found[k]} for name, found in runs.items() if k < len(found)}}
        for k in range(3)
    ]
    shown = sparse.ladder_rows({"rows": rows}, least=2)
    assert [row["method"] for row in shown] == ["SIRT", "total generalised variation (on 1 of them)", "DIPm-TV"]
    assert shown[2]["error over joint TV's"] == "0.50 (0.40 to 0.60)" and shown[1]["error over joint TV's"] == "1.10"
    drawn = records.benchmark("draws_report_48")
    methods = {name for row in drawn["rows"] for name in row["methods"]}
    assert len(sparse.ladder_rows(drawn)) == len(methods)  # none is left out


def test_the_diagram_fits_its_boxes():
    figure = nanocube.network_diagram()
    figure.canvas.draw()
    (ax,) = figure.axes
    boxes = [box.get_window_extent() for box in ax.patches]
    labels = [text for text in ax.texts if text.get_text() and not text.get_text().startswith("gradient")]
    assert len(labels) >= len(nanocube.BOXES) + len(nanocube.FRACTIONS) - 1
    for text in labels:
        x0, y0, x1, y1 = text.get_window_extent().extents
        assert any(b.x0 <= x0 and x1 <= b.x1 and b.y0 <= y0 and y1 <= b.y1 for b in boxes), text.get_text()


def test_training_shows_the_noise_level_and_the_error_where_it_is_known():
    run = {"step": [1, 2], "heldout": [1.2, 0.8], "fitted": [1.1, 0.7]}
    (ax,) = nanocube.training({"run 1": run, "run 2": run}).axes
    assert [1, 1] in [list(line.get_ydata()) for line in ax.lines] and ax.get_legend() is None
    error, misfit = nanocube.training({"DIPm-TV": run | {"error": [0.5, 0.2]}}, marks={"best": 2}).axes
    assert list(error.lines[0].get_ydata()) == [0.5, 0.2] and misfit.get_ylim()[1] > 1
    assert {text.get_text() for text in error.get_legend().texts} == {"DIPm-TV", "best"}


def test_anatomy_has_a_point_for_each_method_and_the_truth_beside_it(cube):
    found = {"SIRT": measures(core=0.6, void=50.0), "DIPm-TV": measures()}
    figure = nanocube.anatomy(cube, {"DIPm-TV": cube}, found, members=[measures(void=20.0)], voxel_size_nm=2.0)
    void = figure.axes[3]
    assert [list(line.get_xdata()) for line in void.lines] == [[20.0], [50.0, 40.0], [56.0, 56.0]]
    assert list(figure.axes[1].lines[1].get_xdata()) == [0.6, 0.4]
    rows = nanocube.anatomy_rows(found)
    assert [row[""] for row in rows] == ["SIRT", "DIPm-TV", "truth"]
    assert rows[0]["skin found"] == "75%" and rows[2]["void (nm³)"] == 56.0


# ---------------------------------------------------------------- what the pages promise


def cells(chapter):
    return chapters.as_run(chapter, own_data=False).cells


def is_open(cell):
    return cell.cell_type == "code" and not {"hide-input", "hide-cell"} & set(cell.metadata.get("tags", []))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_code_is_short_and_narrow(chapter):
    lines = [line for cell in cells(chapter) if is_open(cell) for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= 150
    assert sum(cell.cell_type == "markdown" or is_open(cell) for cell in cells(chapter)) <= 32
    for own_data in (False, True):
        code = [c.source for c in chapters.as_run(chapter, own_data).cells if c.cell_type == "code"]
        assert max(len(line) for source in code for line in source.splitlines()) <= 80


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_link_to_a_figure_has_one_and_every_figure_a_caption(chapter):
    text = "\n".join(cell.source for cell in cells(chapter))
    names = re.findall(r'name="((?:sparse|nanocube)-[\w-]+)"', text)
    assert len(names) == len(set(names)) >= 6
    shown = {f"recorded-{name}" for name in re.findall(r'found\["([\w-]+)"\]', inspect.getsource(recorded))}
    assert set(re.findall(r'<a href="#fig-([\w-]+)"></a>', text)) <= {*names, *(shown if "recorded." in text else ())}
    assert len(re.findall(r"\bcaption=", text)) >= len(names) and text.count("alt=") >= len(names)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_reading_time_is_that_of_the_words_and_figures(chapter):
    read = [cell.source for cell in cells(chapter) if cell.cell_type == "markdown"]
    text = "\n".join(cell.source for cell in cells(chapter))
    stated = int(re.search(r"\| Time \| (\d+) minutes to read", text).group(1))
    spoken = re.findall(r"say\((.*?)\n\)", text, flags=re.DOTALL)
    words = sum(len(part.split()) for part in [*read, *spoken])
    minutes = words / 200 + len(re.findall(r"\bshow(?:_3d)?\(|browse_slices\(", text)) / 3
    assert 0.75 * minutes < stated < 1.25 * minutes, round(minutes)
