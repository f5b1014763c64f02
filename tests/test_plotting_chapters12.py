"""Figures of chapters 1 and 2, and what their pages compute by the package: forecasts, checks, groups of pixels."""

import inspect
import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from softeels_utils import chapters, dose, scattering, simulate, spectra, standards
from softeels_utils.plotting import COLORS, use_style
from softeels_utils.plotting import dose as dose_figures
from softeels_utils.plotting import standards as standards_figures

PHASES = ("FeO", "Fe3O4")


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def colors_of(ax):
    """``{label: colour}`` of the lines in a panel that have a label."""
    return {line.get_label(): line.get_color() for line in ax.lines if not line.get_label().startswith("_")}


def smallest_text(figure):
    figure.canvas.draw()
    texts = [text for text in figure.findobj(plt.Text) if text.get_visible() and text.get_text().strip()]
    return min(text.get_fontsize() for text in texts)


# ---------------------------------------------------------------- figures


def _comparison(factor):
    return dose.DoseComparison(55.0, 38.0, 13.0 * factor, {"FeO": 8.0 * factor, "Fe3O4": 11.0})


def _rotation():
    grid = np.linspace(-1, 2, 7)
    part = -((grid[:, None] - 0.0) ** 2) - (grid - 1.0) ** 2
    parts = dict.fromkeys(("oxygen", "cross_section", "leading_edge", "pure_rim", "pixels"), part)
    return SimpleNamespace(x0=0.0, x1=1.0, width=1.0, grid0=grid, grid1=grid, probability=np.exp(part), parts=parts)


ENERGY = np.linspace(45, 90, 40)
PAIR = np.stack([np.exp(-((ENERGY - middle) ** 2) / 40) for middle in (56, 58)])
BY_PHASE = dict(zip(PHASES, PAIR, strict=True))
IMAGE = np.linspace(0, 1, 20).reshape(4, 5)
FORECAST = dose.ErrorForecast(
    "Fe", ENERGY, PAIR[0] + 1, PAIR[1] + 1, 1 + 0 * ENERGY, 5, {"FeO": 9.0}, {"all Fe, as FeO": 90.0, "FeO": 300.0},
    (), 40.0,
)  # fmt: skip


def standing_for(kind, **values):
    """An object of a frozen class that holds these attributes and nothing else."""
    made = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


DIAGNOSTICS = SimpleNamespace(
    signal=np.array([1e4, 90, 1.0, 0.9]), residual_energy_eV=ENERGY, residual_spectrum=1 + 0 * ENERGY
)
PLAN = SimpleNamespace(tilts=np.array([5, 9, 15]), error_nm=np.array([[2.0, 3.0], [4.0, 3.0], [5.0, 6.0]]))
ELLIPSE = dose.error_ellipse([[1.0, -0.9], [-0.9, 1.0]])
CASE = {"volume": (1.0, 1.1), "volume_error": (0.1, 0.2), "valence": 0.02, "valence_error": 0.03}
FIGURES = {
    "edges": lambda: dose_figures.edges_figure(
        {"M2,3": (ENERGY, BY_PHASE), "L2,3": (ENERGY, BY_PHASE)}, windows_eV={"M2,3": (53, 73), "L2,3": (60, 70)}
    ),
    "signal": lambda: dose_figures.signal_figure([1, 2], {"80 keV": [3, 2]}, [1, 2], {"10 eV": [1, 5]}),
    "ellipses": lambda: dose_figures.ellipses_figure((10, 10), {"M2,3": ELLIPSE, "L2,3": 3 * ELLIPSE}),
    "sweep": lambda: dose_figures.sweep_figure(
        {f"condition {k}": ([1, 2], [_comparison(1), _comparison(2)]) for k in range(6)}
    ),
    "thickness": lambda: dose_figures.thickness_figure([5, 10], {"M2,3": {"FeO": [1, 2], "total iron": [0.5, 1]}}),
    "scatter": lambda: dose_figures.scatter_figure({"M2,3": 10 + ELLIPSE.T}, {"M2,3": [ELLIPSE]}, (10, 10)),
    "tilts": lambda: dose_figures.tilts_figure({"M2,3": PLAN, "L2,3": PLAN}, 5.0),
    "counts": lambda: dose_figures.counts_figure(
        [{"title": "LSMO", "kind": "measured", "energy_eV": ENERGY, "counts": PAIR[0], "twin": PAIR[1]}] * 2
    ),
    "fit": lambda: dose_figures.fit_figure(FORECAST),
    "fluence": lambda: dose_figures.fluence_figure(FORECAST, 5.0, pixel_size_nm=0.4),
    "specimen": lambda: standards_figures.specimen_figure(
        {"FeO": IMAGE, "Fe3O4": 2 * IMAGE}, IMAGE, fraction_label="iron in FeO", pixel_size_nm=1.0
    ),
    "recordings": lambda: standards_figures.recordings_figure(
        (ENERGY - 45, {"one pixel": PAIR[0] + 1, "mean of 25": PAIR[1] + 1}),
        (ENERGY * 10, {"": PAIR[0]}),
        marks=({"M2,3": 10.0}, {"O-K": 534.0}),
    ),
    "valence": lambda: standards_figures.valence_figure(ENERGY, BY_PHASE, marks={"Fe²⁺": 56, "Fe³⁺": 58}, title="L2,3"),
    "constraints": lambda: standards_figures.constraints_figure(_rotation(), PHASES),
    "references": lambda: standards_figures.references_figure(
        ENERGY, BY_PHASE, {p: 0.1 * y for p, y in BY_PHASE.items()}, PAIR * 1.01
    ),
    "diagnostics": lambda: standards_figures.diagnostics_figure(DIAGNOSTICS),
    "cases": lambda: standards_figures.cases_figure(
        {"as described": CASE | {"flags": 0}, "ligands": CASE | {"flags": 3}}, PHASES
    ),
    "hidden": lambda: standards_figures.hidden_figure(
        ENERGY, ("gamma-Fe2O3", PAIR[1]), ("1.5 Fe3O4 - 0.5 FeO", PAIR[1]), BY_PHASE
    ),
    "comparison": lambda: standards_figures.comparison_figure(
        SimpleNamespace(energy_eV=ENERGY, spectrum=PAIR[0], matched=PAIR[1], ratio_map=IMAGE, position_map=IMAGE),
        (50, 80),
        reference="Fe2O3",
    ),
    "pair": lambda: standards_figures.pair_figure(
        SimpleNamespace(
            energy_eV=ENERGY, reference=PAIR[0], uncertainty=0.1 * PAIR[0], core_signal=np.ones(3),
            core_error=0.1 * np.ones(3), low_signal=np.ones(3), low_error=0.1 * np.ones(3),
        ),
        (50, 80),
    ),
    "found": lambda: standards_figures.found_figure(
        SimpleNamespace(
            energy_eV=ENERGY, references=PAIR, uncertainty=0.1 * PAIR, phases=PHASES, diagnostics=DIAGNOSTICS
        ),
        (50, 80),
        title="Fe-M2,3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_figures_fit_the_page_and_can_be_read(name):
    figure = FIGURES[name]()
    assert figure.get_figwidth() <= 7.5
    assert smallest_text(figure) >= 9
    assert any(ax.has_data() or ax.images for ax in figure.axes)
    assert not [ax for ax in figure.axes if ax.get_subplotspec() and ax.get_subplotspec().get_gridspec().ncols > 3]


def test_every_figure_is_tested():
    for module in (dose_figures, standards_figures):
        named = {name.removesuffix("_figure") for name in module.__all__} - {"rotation"}
        assert named <= set(FIGURES)
        assert all(inspect.getdoc(getattr(module, name)) for name in module.__all__)


@pytest.mark.parametrize(("name", "panel"), [("edges", 0), ("references", 1), ("hidden", 0)])
def test_phases_have_their_colours(name, panel):
    colors = colors_of(FIGURES[name]().axes[panel])
    assert {phase: colors[phase] for phase in PHASES} == {phase: COLORS[phase] for phase in PHASES}


def test_groups_of_pixels_have_the_colour_of_what_they_are_rich_in():
    colors = colors_of(FIGURES["valence"]().axes[0])
    assert colors == {f"pixels rich in {phase}": COLORS[phase] for phase in PHASES}


@pytest.mark.parametrize("name", ["signal", "counts", "recordings", "diagnostics", "fit", "pair"])
def test_colours_of_phases_are_used_for_nothing_else(name):
    for ax in FIGURES[name]().axes:
        assert not set(colors_of(ax).values()) & {COLORS[phase] for phase in PHASES}


def test_sweep_draws_what_it_is_given():
    axes = FIGURES["sweep"]().axes
    assert [ax.get_xlabel() for ax in axes[:6]] == [f"condition {k}" for k in range(6)]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes[3].lines}
    assert lines["bound, FeO"] == [8, 16] and lines["bound, total Fe"] == [13, 26] and lines["signal"] == [55, 55]


def test_tilts_show_the_worse_phase():
    assert list(FIGURES["tilts"]().axes[0].lines[0].get_ydata()) == [3, 4, 6]


def test_constraints_are_shown_about_the_result():
    axes = FIGURES["constraints"]().axes
    titles = [ax.get_title() for ax in axes if ax.get_title()]
    assert titles == ["oxygen", "cross-section", "leading edge", "pure rim", "pixels", "all together"]
    image = axes[0].images[0]
    row, column = np.unravel_index(image.get_array().argmax(), image.get_array().shape)
    left, right, bottom, top = image.get_extent()
    place = np.linspace(left, right, 7)[column], np.linspace(bottom, top, 7)[row]
    np.testing.assert_allclose(place, (0, 1), atol=1e-9)


def test_rotation_shows_one_pair_at_a_time():
    amounts = [-0.1, 0.0, 0.1]
    figure = standards_figures.rotation_figure(ENERGY, amounts, [PAIR, PAIR, PAIR], PHASES)
    visible = [trace.visible for trace in figure.data]
    assert visible == [False, False, True, True, False, False]
    steps = figure.layout.sliders[0].steps
    assert [step.args[0]["visible"].index(True) // 2 for step in steps] == [0, 1, 2]
    assert [trace.line.color for trace in figure.data[:2]] == [COLORS[phase] for phase in PHASES]


# ---------------------------------------------------------------- what the pages compute by the package


@pytest.fixture(scope="module")
def model():
    return simulate.spectrum_model()


def test_standard_errors_are_those_of_the_bound(model):
    bound = dose.phase_bound(model, 1e5)
    errors = dose.standard_errors(model, bound)
    assert list(errors) == ["FeO", "Fe3O4", "total iron"]
    assert errors["FeO"] == pytest.approx(bound[0, 0] ** 0.5)
    weights = dose.metal_weights(model)
    assert errors["total iron"] == pytest.approx((weights @ bound @ weights) ** 0.5)
    with pytest.raises(ValueError, match=r"covariance: got shape \(3, 3\), wants \(2, 2\)"):
        dose.standard_errors(model, np.eye(3))


@pytest.fixture(scope="module")
def recorded():
    """Low and core loss of a slab: FeO in the first half of the columns, Fe3O4 in the second."""
    thickness_nm = np.zeros((2, 6, 6))
    thickness_nm[0, :, :3] = thickness_nm[1, :, 3:] = 20.0
    options = {"delocalisation": False, "progress": False, "seed": 1}
    return simulate.dual_eels(thickness_nm, 1e7, pixel_size_nm=1.0, **options)


MICROSCOPE = {"beam_energy_keV": 300.0, "collection_mrad": 40.0, "convergence_mrad": 20.0}


def test_forecast_is_the_bound_of_the_specimen(model, recorded):
    step = model.microscope.dispersion_eV
    found = SimpleNamespace(
        energy_eV=model.energy_eV("M2,3"),
        references=model.references("M2,3") / step,
        phases=PHASES,
    )
    forecast = dose.forecast_errors(recorded[0], references=found, pixel_size_nm=0.4, **MICROSCOPE)
    assert forecast.doubt == "" and forecast.spectra == 36 and forecast.metal == "Fe"
    assert forecast.thickness_nm["FeO"] == pytest.approx(10, rel=0.05)  # the mean of the slab
    bound = dose.standard_errors(model, dose.phase_bound(model, 1.0, pixel_size_nm=0.4))
    for phase in PHASES:
        assert forecast.error_nm[phase] == pytest.approx(bound[phase], rel=0.1)
        assert forecast.fluence_e_per_A2(2.0)[phase] == pytest.approx((forecast.error_nm[phase] / 2) ** 2)
    coarse = dose.forecast_errors(recorded[0], pixel_size_nm=0.8, **MICROSCOPE)
    name = "all Fe, as FeO"
    assert coarse.error_nm[name] == pytest.approx(forecast.error_nm[name] / 2)


def test_forecast_doubts_another_metal_and_refuses_what_does_not_reach_the_edge(recorded):
    low, _ = recorded
    other = dose.forecast_errors(low, system="manganese_oxides", **MICROSCOPE)
    assert "Fe" in other.doubt
    with pytest.raises(ValueError, match=r"signal: got energies .* wants the zero loss and Fe-M2,3"):
        dose.forecast_errors(low.isig[:70.0], **MICROSCOPE)
    short = SimpleNamespace(
        energy_eV=np.linspace(45, 90, 90),
        references=np.ones((2, 90)),
        phases=PHASES,
    )
    with pytest.raises(ValueError, match="references: got energies of 45 to 90 eV"):
        dose.forecast_errors(low, references=short, **MICROSCOPE)


def test_complete_microscope_prefers_the_metadata(recorded):
    low = recorded[0].deepcopy()
    low.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 80.0)
    del low.metadata.Acquisition_instrument.TEM.Detector
    here, assumed = scattering.complete_microscope(low, beam_energy_keV=300.0, collection_mrad=33.0)
    assert here["beam_energy_keV"] == 80 and here["collection_mrad"] == 33 and assumed == ("collection_mrad",)


def test_recordings_are_checked_for_the_edges(recorded):
    low, core = recorded
    assert standards.check_dual_eels(low, core) == ()
    (sentence,) = standards.check_dual_eels(low, core.isig[560.0:])
    assert "too late for O-K" in sentence
    for text, wrong in {
        "core_loss: got energies of 660": (low, core.isig[660.0:]),
        "low_loss: got energies": (low.isig[:70.0], core),
        r"got pixels \(6, 6\) and \(6, 2\)": (low, core.inav[:2]),
    }.items():
        with pytest.raises(ValueError, match=text):
            standards.check_dual_eels(*wrong)
    flat = core.deepcopy()
    flat.data = np.full(core.data.shape, 50.0)
    with pytest.raises(ValueError, match="wants the edge Fe-L2,3"):
        standards.check_dual_eels(low, flat)


def test_groups_of_pixels_show_their_valence(recorded):
    dual = standards.prepare_dual_eels(*recorded)
    nm = np.zeros((2, 6, 6))
    nm[0, :, :3] = nm[1, :, 3:] = 20.0
    mask = np.ones((6, 6), bool)
    mask[0] = False
    found = standing_for(standards.Standards, abundances=nm, phases=PHASES, diagnostics=SimpleNamespace(mask=mask))
    groups = standards.group_by_valence(dual, found)
    assert [where.sum() for where in groups.pixels.values()] == [15, 15]
    assert groups.pixels["FeO"][1:, :3].all()
    l3 = {
        phase: float(standards.white_lines(y, groups.energy_eV).l3_position_eV) for phase, y in groups.spectra.items()
    }
    assert l3["Fe3O4"] - l3["FeO"] == pytest.approx(1.6, abs=0.3)
    before = spectra.window_mask(groups.energy_eV, (660, 695))
    assert all(abs(y[before].mean()) < 0.02 * y.max() for y in groups.spectra.values())


def test_checklist_names_each_quantity_and_its_limit():
    nothing = {"NDArray": np.zeros(2), "float": 0.0, "str": "", "str | None": None}
    fields = standards.Diagnostics.__dataclass_fields__.values()
    values = {field.name: nothing.get(field.type, {}) for field in fields}
    values |= {"system": "iron_oxides", "phases": PHASES, "window_eV": (50.0, 60.0), "condition_number": 9.4}
    values |= {"signal": np.array([1e4, 90.0, 1.01]), "residual": 0.98}
    rows = standards.Diagnostics(**values | {"tension": 0.3, "leakage": np.array([0.05, 0.07])}).checklist()
    assert [row["value"] for row in rows] == [9.4, 1.01, 0.98, 0.3, 0.05, 0.07]
    assert rows[1]["doubt if"].startswith("above 1.6") and rows[3]["doubt if"].startswith("below 0.02")
    assert rows[-1]["quantity"] == "leakage of Fe3O4"


# ---------------------------------------------------------------- the pages


@pytest.mark.parametrize("chapter", ["01_dose_analysis", "02_standards"])
def test_pages_show_little_code_that_fits(chapter):
    """At most 30 cells, 150 lines of code that a reader sees, 80 columns; every figure is named in the text."""
    cells = {own: chapters.as_run(chapter, own).cells for own in (False, True)}
    code = [cell for cell in cells[False] + cells[True] if cell.cell_type == "code"]
    folded = {"hide-input", "hide-cell"}
    seen = [cell for cell in cells[False] if cell in code and not folded & set(cell.metadata.get("tags", []))]
    assert len(cells[False]) <= 30
    assert 20 <= sum(bool(line.strip()) for cell in seen for line in cell.source.splitlines()) <= 150
    assert max(len(line) for cell in code for line in cell.source.splitlines()) <= 80
    text = "\n".join(cell.source for cell in cells[False])
    names = re.findall(r'(?m)^ +name="([\w-]+)"', text) + ["calculator"] * ("dose.calculator" in text)
    linked = re.findall(r'href="#fig-([\w-]+)"', text)
    assert len(names) >= 9 and set(names) == set(linked)
    assert text.count("caption=") >= text.count("    show(") and "plt.show" not in text
    solutions = [cell for cell in code if "solution" in cell.metadata.get("tags", [])]
    assert len(solutions) == 3 and all("hide-cell" in cell.metadata["tags"] for cell in solutions)
    assert not re.search(r"(?s)class: dropdown.*?```python", text)
