"""Figures of chapter 3 show the numbers they are given; its reading time and its code are as it says."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from softeels_utils import chapters
from softeels_utils.fitting import background_shapes, fit_phases, sweep_windows
from softeels_utils.plotting import COLORS
from softeels_utils.plotting import fitting as figures

ENERGY = np.linspace(42, 88, 185)
PHASES = ("FeO", "Fe3O4")
PEAKS = np.exp(-0.5 * ((ENERGY - np.array([[56.0], [59.0]])) / 2) ** 2)
COUNTS = np.random.default_rng(0).poisson(np.array([30, 60]) @ PEAKS + 100 * background_shapes(ENERGY).sum(axis=0))


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fit():
    return fit_phases(COUNTS, ENERGY, PEAKS, phases=PHASES)


def line(ax, label):
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def test_references_have_the_colours_of_their_phases_and_a_spectrum_above():
    found = dict(zip(PHASES, PEAKS, strict=True))
    alone = figures.references(ENERGY, found, 0.1 * PEAKS, 0.9 * PEAKS)
    (ax,) = alone.axes
    assert [line(ax, name).get_color() for name in PHASES] == [COLORS[name] for name in PHASES]
    np.testing.assert_array_equal(line(ax, "FeO, the twin's own").get_ydata(), 0.9 * PEAKS[0])
    assert len(ax.collections) == 2  # bands
    above, below = figures.references(ENERGY, found, spectrum=(ENERGY, COUNTS), onset_eV=53.5).axes
    assert above.get_yscale() == "log" and above.lines[1].get_xdata()[0] == 53.5 and len(below.lines) == 2


def test_a_pixel_shows_counts_fit_parts_and_residual(fit):
    curve, background = fit.curves()
    top, middle, bottom = figures.pixel(fit, COUNTS).axes
    np.testing.assert_array_equal(line(top, "fit").get_ydata(), curve)
    np.testing.assert_allclose(sum(line(middle, p).get_ydata() for p in PHASES), curve - background, atol=1e-6)
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), (COUNTS - curve) / np.sqrt(curve))
    quiet = figures.pixel(fit, COUNTS, variance=4 * curve).axes[2]
    np.testing.assert_allclose(quiet.lines[0].get_ydata(), (COUNTS - curve) / np.sqrt(4 * curve))


def test_fluences_have_a_step_each_and_only_one_is_shown(fit):
    figure = figures.fluences([fit, fit, fit], np.stack([COUNTS] * 3), [1e2, 1e3, 1e4], active=1)
    assert [bool(trace.visible) for trace in figure.data] == [False] * 5 + [True] * 5 + [False] * 5
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["100", "1,000", "10,000"] and slider.active == 1
    assert slider.steps[2].args[0]["visible"] == [False] * 10 + [True] * 5
    assert f"FeO {fit.coefficients[0]:.1f} ± {fit.standard_error[0]:.1f} nm" in figure.layout.title.text


def test_errors_have_a_scale_of_their_own():
    maps = {phase: (np.full((4, 4), 30.0), np.full((4, 4), 20.0), np.full((4, 4), 2.0)) for phase in PHASES}
    figure = figures.maps_and_errors(maps, ("truth", "fit", "error bar"), pixel_size_nm=2.0)
    limits = [ax.images[0].get_clim() for ax in figure.axes if ax.images]
    assert limits == [(0, 30), (0, 30), (0, 2)] * 2
    assert [ax.get_title() for ax in figure.axes if ax.images][:3] == ["truth", "fit", "error bar"]


def test_pulls_are_counted_and_the_ellipse_is_drawn():
    pull = np.random.default_rng(0).standard_normal((2000, 2))
    left, right = figures.pulls(pull, 3 * pull, np.array([[0, 1, 2], [2, 1, 0]]), PHASES).axes
    assert max(patch.get_xy()[:, 1].max() for patch in left.patches) == pytest.approx(0.4, abs=0.08)
    np.testing.assert_array_equal(line(right, "2 error bars").get_xydata(), [[0, 2], [1, 1], [2, 0]])


def test_cases_put_the_odd_quantity_into_its_own_panel():
    results = {"right": {"FeO": (0.01, 0.1), "mean valence": (0.02, 0.03)}, "wrong *": {}}
    results["wrong *"] = {"FeO": (-0.7, 0.2), "mean valence": (0.0, 0.03)}
    left, right = figures.cases(results).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["right", "wrong *"]
    np.testing.assert_allclose(left.lines[0].get_xdata(), [1, -70])  # per cent
    np.testing.assert_allclose(right.lines[0].get_xdata(), [0.02, 0])
    first, second = left.lines[0].get_ydata()
    assert left.get_ylim()[0] > second > first  # the first stands above


def test_biases_are_drawn_as_given():
    (ax,) = figures.weights([1.0, 10.0], {"model": np.array([0.0, 0.1]), "counts": np.array([-6.0, 1.0])}, [3, 1]).axes
    np.testing.assert_array_equal(line(ax, "counts").get_ydata(), [-6, 1])
    assert ax.get_ylim()[0] < -6 and ax.get_xscale() == "log"
    biases = {"convolved": np.zeros((3, 2)), "ignored": np.array([[0, 0], [-5, -10], [-10, -20.0]])}
    (ax,) = figures.plural_scattering([0, 0.5, 1], biases, PHASES).axes
    np.testing.assert_array_equal(line(ax, "Fe3O4, ignored").get_ydata(), [0, -10, -20])
    assert line(ax, "FeO, ignored").get_linestyle() != line(ax, "FeO, convolved").get_linestyle()
    (ax,) = figures.background_choices(["one", "three"], [[5, -3], [0, 0.5]], [[3, 4], [4, 5]], PHASES).axes
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [5, 0])


def test_crossover_shows_each_edge_with_its_limit():
    both = {"M2,3": np.array([[3.0, 4], [1, 1]]), "L2,3": np.array([[9.0, 9], [0.5, 0.6]])}
    left, right = figures.crossover([1e2, 1e6], both, both, {"M2,3": 0.9, "L2,3": 0.1}, PHASES).axes
    np.testing.assert_array_equal(line(left, "Fe3O4, L2,3").get_ydata(), [9, 0.6])
    assert {0.9, 0.1} <= {float(x.get_ydata()[0]) for x in right.lines}
    assert len(figures.edges({"a": np.ones((3, 3)), "b": np.ones((3, 3))}, vmax=2).axes) == 3


def test_measured_amounts_are_averaged_in_groups(fit):
    other, errors = np.linspace(0.8, 1.2, 40), np.full(40, 2.0)
    figure = figures.measured_edge(fit, COUNTS, other, 10 * other, errors)
    right = figure.axes[1]
    np.testing.assert_allclose(line(right, "proportional").get_ydata(), 10 * other[[0, -1]])
    (means,) = [c for c in right.containers if c.get_label() == "means of 5"]
    np.testing.assert_allclose(means[0].get_ydata(), 10 * other.reshape(8, 5).mean(axis=1))


def test_window_sweep_has_a_line_for_each_end_and_phase():
    spectra = np.stack([COUNTS] * 3)
    ends = {"starts_eV": [43, 46], "ends_eV": [75, 85]}
    sweep = sweep_windows(spectra, ENERGY, PEAKS, phases=PHASES, nonnegative=False, **ends)
    (ax,) = figures.window_sweep(sweep, scale=0.5, expected=(10.0, 2.0)).axes
    assert len(ax.containers) == 4
    np.testing.assert_allclose(ax.containers[3][0].get_ydata(), 0.5 * sweep.amounts[:, 1, 1])
    assert ax.patches[0].get_extents is not None and "thickness by the low loss" in [
        text.get_text() for text in ax.figure.legends[0].get_texts()
    ]


# ---------------------------------------------------------------- the chapter

CHAPTER = "03_m23_fitting"


def cells(kind, own_data=False):
    return [cell for cell in chapters.as_run(CHAPTER, own_data).cells if cell.cell_type == kind]


def test_code_fits_into_the_page_and_is_little():
    shown = [c.source for c in cells("code") if not {"hide-input", "hide-cell"} & set(c.metadata.get("tags", []))]
    assert sum(bool(text.strip()) for source in shown for text in source.splitlines()) <= 150
    everything = [c.source for own in (False, True) for c in cells("code", own)]
    assert max(len(text) for source in everything for text in source.splitlines()) <= 80
    assert len(cells("code")) <= 30


def test_every_figure_has_a_name_a_caption_an_alternative_and_a_link():
    code, text = ("\n".join(c.source for c in cells(kind)) for kind in ("code", "markdown"))
    names = re.findall(r'name="([\w-]+)"', code)
    assert len(names) == len(set(names)) == code.count("caption=") - code.count("table(") == code.count("alt=") > 10
    for name in names:
        assert f"#fig-{name}" in text + code, f"no link to {name}"
    assert set(re.findall(r'href="#fig-([\w-]+)"', text + code)) <= set(names)


def test_reading_time_is_that_of_its_words_and_figures():
    """200 words per minute and 20 seconds per figure; what `say` puts into the page is read, too."""
    code, text = ("\n".join(c.source for c in cells(kind)) for kind in ("code", "markdown"))
    said = [*re.findall(r"(?s)\bsay\((.*?)\n\)", code), *re.findall(r"(?s)caption=(.*?)alt=", code)]
    said = re.sub(r"(?m)^\s*f?[\"']|[\"']$|\{[^}]*\}", "0", "\n".join(said))  # a number in prose is a word
    read = re.sub(r"<[^>]*>|(?m:^[-#|:*\d. ]+)", "", f"{text}\n{said}").split()
    (stated,) = re.findall(r"(\d+) minutes to read", text)
    assert int(stated) == pytest.approx(len(read) / 200 + code.count("alt=") / 3, abs=2)


def test_solutions_are_code_that_runs_with_the_chapter():
    solutions = [c for c in cells("code") if "solution" in c.metadata.get("tags", [])]
    assert len(solutions) == 3 and all({"hide-cell", "twin"} <= set(c.metadata["tags"]) for c in solutions)
    levels = [level for c in cells("markdown") for level in re.findall(r"\d\. \*(\w+)\.\*", c.source)]
    assert levels == ["Basic", "Intermediate", "Research"]
    assert Path(figures.__file__).name == "fitting.py"
