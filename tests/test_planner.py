"""The planner: bounds of features against simulated projections, numbers from a record, the page."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from softeels_utils import dose, planner, records, scattering, simulate, study
from softeels_utils.tomography import ParallelBeam

TILTS = np.linspace(-70, 70, 9)
FLUENCES = (1000, 4000, 16000)


@pytest.fixture(scope="module")
def record():
    """A record with a law: the error falls with the fluence and with the views; two seeds."""
    rows = [
        {
            "n": 32, "views": views, "max_tilt": 70, "fluence": fluence, "edge": "M2,3", "method": "DIPm-TV",
            "specimen": "phantom", "seed": seed, "nrmse": error(views, fluence) * (1 + 0.2 * seed),
            "seconds": 10.0 + seed,
        }
        for views in (5, 9, 29) for fluence in FLUENCES for seed in (0, 1, 2)
    ]  # fmt: skip
    return records.Record("sparse_views", rows)


def error(views, fluence):
    return 0.3 - 0.02 * np.log(fluence / 1000) - 0.05 * np.log(views / 5)


def signal_to_noise(change, covariance):
    """Of a change of the maps (C, T, Y, X) under one covariance of a pixel."""
    return np.sqrt(np.einsum("ctyx,cd,dtyx->", change, np.linalg.inv(covariance), change))


# ---------------------------------------------------------------- bounds


def test_smallest_void_is_seen_with_five_standard_errors():
    size, pixel = 34.4, 0.9
    bound = dose.phase_bound(simulate.spectrum_model(), 60.0, thickness_nm=(17.2, 17.2), pixel_size_nm=pixel)
    diameter = dose.smallest_void_nm(bound, len(TILTS), pixel)
    assert diameter > 6 * pixel
    part = {"unit": "nm", "core": 10.0, "shell": 33.0, "skin": size, "void_center": (3.0, -4.0, 11.0)}
    holes = [simulate.core_shell_nanocube(48, pixel, void_radius=r, oversample=3, **part) for r in (None, diameter / 2)]
    change = ParallelBeam(48, TILTS, pixel)(holes[0] - holes[1])
    assert not change[0].any()  # the void is in Fe3O4 alone
    assert signal_to_noise(change, bound) == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize("range_deg", [20, 70])
def test_thinnest_skin_is_seen_with_five_standard_errors(range_deg):
    n, pixel, patch, tilts = 64, 0.5, 16.0, np.linspace(-range_deg, range_deg, 9)
    bound = dose.phase_bound(simulate.spectrum_model(), 3000.0, thickness_nm=(17.2, 17.2), pixel_size_nm=pixel)
    thickness = dose.thinnest_skin_nm(bound, tilts, pixel, patch_nm=patch)
    change = np.zeros((2, n, n, n), np.float32)
    inside = slice(n // 2 - int(patch / pixel / 2), n // 2 + int(patch / pixel / 2))
    change[:, inside, n // 2, inside] = np.reshape([1, -1], (2, 1, 1)) * thickness / pixel  # Y, X; a sheet in Z
    assert signal_to_noise(ParallelBeam(n, tilts, pixel)(change), bound) == pytest.approx(5, rel=0.1)


def test_features_scale_as_their_formulas_say():
    covariance = np.array([[9.0, -8.0], [-8.0, 9.0]])
    void, skin = dose.smallest_void_nm(covariance, 9, 0.1), dose.thinnest_skin_nm(covariance, TILTS, 0.1)
    assert dose.smallest_void_nm(covariance / 16, 9, 0.1) == pytest.approx(void / 2)
    assert dose.smallest_void_nm(covariance, 9 * 16, 0.1) == pytest.approx(void / 2)
    assert dose.smallest_void_nm(covariance / 4, 9, 0.2) == pytest.approx(void)  # larger pixels, the same electrons
    assert dose.smallest_void_nm(covariance / 1e9, 9, 0.1) == pytest.approx(0.2)  # two pixels
    assert dose.thinnest_skin_nm(covariance / 16, TILTS, 0.1) == pytest.approx(skin / 4)
    assert dose.thinnest_skin_nm(covariance, TILTS, 0.1, patch_nm=10.0) == pytest.approx(skin / 2)
    assert dose.thinnest_skin_nm(covariance, TILTS, 0.1, phases=(1, 0)) == pytest.approx(skin)
    independent = dose.thinnest_skin_nm(np.diag([9.0, 9.0]), TILTS, 0.1)
    assert skin == pytest.approx(independent * np.sqrt(17 / 9))  # what one phase gains the other loses: hard to see


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"covariance_nm2": np.eye(3)[:2]}, "covariance_nm2"),
        ({"covariance_nm2": [[1.0, 2.0], [2.0, 1.0]]}, "covariance_nm2"),
        ({"covariance_nm2": [[1.0, np.nan], [0.0, 1.0]]}, "covariance_nm2"),
        ({"pixel_size_nm": 0.0}, "pixel_size_nm"),
        ({"standard_errors": -1.0}, "standard_errors"),
    ],
)
def test_bounds_refuse_nonsense(arguments, name):
    common = {"covariance_nm2": np.eye(2), "pixel_size_nm": 0.5} | arguments
    with pytest.raises(ValueError, match=f"{name}: got"):
        dose.smallest_void_nm(views=9, **common)
    with pytest.raises(ValueError, match=f"{name}: got"):
        dose.thinnest_skin_nm(tilt_angles_deg=TILTS, **common)


def test_bounds_refuse_views_and_phases_that_do_not_exist():
    for views, phase, name in ((0, 1, "views"), (9, 2, "phase"), (9, -1, "phase"), (2.5, 0, "views")):
        with pytest.raises(ValueError, match=f"{name}: got"):
            dose.smallest_void_nm(np.eye(2), views, 0.5, phase=phase)
    for phases in ((0, 0), (0, 2), (-1, 0)):
        with pytest.raises(ValueError, match="phases: got"):
            dose.thinnest_skin_nm(np.eye(2), TILTS, 0.5, phases=phases)
    for tilts in ([-90, 0, 90], [0.0], [-1.2, 0, 1.2]):
        with pytest.raises(ValueError, match="tilt_angles_deg: got"):
            dose.thinnest_skin_nm(np.eye(2), tilts, 0.5)


# ---------------------------------------------------------------- one plan


def test_expectation_agrees_with_the_plan_of_a_series():
    found = planner.expect(5000.0, views=9, particle_nm=30.0, voxel_size_nm=0.7)
    plan = dose.plan_tilt_series(
        simulate.spectrum_model(), 45000.0, tilts=(9,), thickness_nm=(15.0, 15.0), pixel_size_nm=0.7, diameter_nm=30.0
    )
    np.testing.assert_allclose(list(found.error_nm.values()), plan.error_nm[0], rtol=1e-6)
    assert list(found.error_nm) == ["FeO", "Fe3O4"]
    assert found.total_metal_error_nm == pytest.approx(plan.total_metal_error_nm[0], rel=1e-6)
    assert found.crowther_nm == pytest.approx(plan.crowther_nm[0])
    assert found.total_fluence_e_per_A2 == pytest.approx(45000) and found.nyquist_nm == pytest.approx(1.4)


def test_more_electrons_and_more_views_are_better(record):
    few, many = (planner.expect(f, particle_nm=34.4, voxel_size_nm=0.1, record=record) for f in (1000.0, 16000.0))
    assert few.error_nm["FeO"] == pytest.approx(4 * many.error_nm["FeO"])
    assert few.void_nm == pytest.approx(2 * many.void_nm)
    assert few.skin_nm == pytest.approx(planner.expect(250.0, record=record).skin_nm / 2)
    assert many.nrmse < few.nrmse
    views = [planner.expect(1000.0, views=v, voxel_size_nm=0.1, record=record) for v in (5, 9, 20, 29)]
    for name in ("void_nm", "skin_nm", "crowther_nm", "nrmse"):
        assert (np.diff([getattr(found, name) for found in views]) < 0).all(), name
    other = planner.expect(1000.0, voxel_size_nm=0.1, edge="L2,3", record=record)
    assert other.error_nm["FeO"] > 2 * views[0].error_nm["FeO"] and other.void_nm > views[1].void_nm
    assert planner.expect(500.0, patch_nm=10.0).skin_nm == pytest.approx(planner.expect(500.0).skin_nm / 2)


def test_no_feature_is_given_below_the_delocalisation(record):
    """However many electrons there are; none in a particle that is smaller."""
    microscope, edge = simulate.Microscope(), scattering.load_system("iron_oxides").edge("M2,3")
    beam = {name: getattr(microscope, name) for name in ("beam_energy_keV", "collection_mrad")}
    blur = scattering.delocalisation_nm(edge.signal_eV, **beam)
    many = planner.expect(1e7, voxel_size_nm=0.1, record=record)
    assert many.void_nm == many.skin_nm == many.delocalisation_nm == pytest.approx(blur)
    stated = f"not below {blur:.2g} nm, the delocalisation of M2,3"
    assert many.remarks[:2] == (f"void: {stated}", f"skin: {stated}")
    harder = planner.expect(1e9, voxel_size_nm=0.1, edge="L2,3", record=record)
    assert harder.skin_nm == harder.delocalisation_nm < blur / 3
    wide = planner.expect(1e7, particle_nm=1.0, voxel_size_nm=0.1, patch_nm=0.9, record=record)
    assert wide.void_nm == pytest.approx(blur)  # a particle that holds one


# ---------------------------------------------------------------- the record


def test_recorded_cells_come_back(record):
    found = planner.expect(4000.0, views=9, record=record)
    assert found.equivalent_fluence_e_per_A2 == pytest.approx(4000)
    assert found.nrmse == pytest.approx(1.2 * error(9, 4000))
    np.testing.assert_allclose(found.nrmse_range, [error(9, 4000), 1.4 * error(9, 4000)])
    for fluence in FLUENCES:  # its ends too
        assert planner.expect(fluence, views=5, record=record).nrmse == pytest.approx(1.2 * error(5, fluence))
    assert found.element_nm == pytest.approx(2.0)
    assert planner.expect(1000.0, voxel_size_nm=2.0, record=record).remarks == ()
    assert found.remarks == ("NRMSE: on elements of 2 nm, with exact references; on voxels of 0.5 nm it is larger",)


def test_chance_does_not_make_more_views_or_electrons_worse(record):
    """A recorded value that is too low or too high is smoothed; the range stays about the median."""
    rows = [
        row | {"nrmse": row["nrmse"] * (0.5 if (row["views"], row["fluence"]) == (9, 4000) else 1)}
        for row in record.rows
    ]
    noisy = records.Record("sparse_views", rows)
    found = np.array([
        [planner.expect(f, views=v, record=noisy).nrmse for f in (1000, 2000, 4000, 8000, 16000)]
        for v in (5, 7, 9, 15, 29)
    ])  # fmt: skip
    assert (np.diff(found, axis=0) < 1e-12).all() and (np.diff(found, axis=1) < 1e-12).all()
    one = planner.expect(4000.0, views=9, record=noisy)
    assert 0.6 * error(9, 4000) < one.nrmse < 1.2 * error(9, 4000)
    assert one.nrmse_range[0] <= one.nrmse <= one.nrmse_range[1]


def test_fine_voxels_have_what_was_recorded_on_them():
    """The nearest record, unchanged; none for another edge, a smaller particle, or far from any."""
    kept = records.load("nanocube")
    found = planner.expect(4400.0, views=15).fine
    rows = kept.where(n=112, fluence=4000, edge="M2,3", method="DIPm-TV")
    errors = [row["nrmse"] for row in rows]
    assert found.nrmse == np.median(errors) and found.nrmse_range == (min(errors), max(errors))
    assert (found.voxel_size_nm, found.fluence_e_per_A2, found.views) == (64 / 112, 4000, 9)
    diameter = np.cbrt(6 * rows[0]["true_void_nm3"] / np.pi)
    scaled = diameter * np.sqrt(5 * np.median([row["void_effect_error"] for row in rows]))
    assert found.void_nm == pytest.approx(scaled) and found.void_nm > planner.expect(4400.0).void_nm
    assert planner.expect(4000.0, voxel_size_nm=1.2).fine.voxel_size_nm == pytest.approx(64 / 48)
    assert found.nrmse > planner.expect(4400.0).nrmse  # why the row is there
    larger = planner.expect(4400.0 / planner.expect(1.0, particle_nm=68.8).equivalent_fluence_e_per_A2,
                            particle_nm=68.8, voxel_size_nm=1.0).fine  # fmt: skip
    assert larger.nrmse == found.nrmse and larger.void_nm == pytest.approx(2 * found.void_nm)
    far = ({"edge": "L2,3"}, {"particle_nm": 30.0}, {"voxel_size_nm": 2.0}, {"voxel_size_nm": 0.1},
           {"system": "manganese_oxides"})  # fmt: skip
    assert [plan for plan in far if planner.expect(4000.0, **plan).fine is not None] == []
    assert planner.expect(400.0).fine is None and planner.expect(2e5).fine is None


def test_elements_smaller_than_the_delocalisation_are_outside_the_record(record):
    found = planner.expect(4000.0, particle_nm=10.0, voxel_size_nm=0.25, record=record)
    assert found.element_nm < found.delocalisation_nm and found.nrmse is None
    assert any("leaves out delocalisation" in remark for remark in found.remarks)


def test_between_recorded_cells_is_interpolated(record):
    found = planner.expect(8000.0, views=15, record=record)
    assert found.nrmse == pytest.approx(1.2 * error(15, 8000))  # the law is linear in both logarithms


def test_outside_the_record_there_is_no_number(record):
    plans = (
        {"fluence_e_per_A2": 900.0}, {"fluence_e_per_A2": 17000.0}, {"views": 4}, {"views": 31}, {"edge": "L2,3"},
        {"voxel_size_nm": 2.1}, {"system": "manganese_oxides"},
    )  # fmt: skip
    for plan in plans:
        found = planner.expect(**{"fluence_e_per_A2": 4000.0, "record": record} | plan)
        assert found.nrmse is None and found.nrmse_range is None, plan
        assert any("outside the record" in remark for remark in found.remarks)
        assert found.void_nm > 0 and found.cpu_seconds > 0


def test_without_a_record_the_bounds_stay(monkeypatch, tmp_path):
    monkeypatch.setattr(records.store, "FOLDER", tmp_path)  # as an installed package has it
    found = planner.expect(4000.0)
    assert found.nrmse is None and found.fine is None and found.cpu_seconds is None and len(found.remarks) == 2
    assert found.skin_nm > 0


def test_features_larger_than_the_particle_are_none(record):
    found = planner.expect(0.01, particle_nm=8.0, record=record)
    assert found.void_nm is None and found.skin_nm is None
    assert [remark for remark in found.remarks if "than the particle" in remark] == [
        "void: larger than the particle", "skin: thicker than the particle",
    ]  # fmt: skip


def test_other_rows_of_the_record_do_not_enter(record):
    row = record.rows[0] | {"nrmse": 9.0, "seconds": None}
    others = [row | {"max_tilt": 50}, row | {"n": 64}, row | {"method": "SIRT"}, row | {"edge": "L2,3"}]
    others += [row | {"specimen": 15}]  # a thin rod
    more = records.Record("sparse_views", record.rows + others)
    assert planner.expect(1000.0, views=5, record=more).nrmse == planner.expect(1000.0, views=5, record=record).nrmse


def test_time_grows_with_the_voxels_from_the_nearest_record(record):
    at = {"particle_nm": 34.4, "record": record}
    assert planner.expect(4000.0, voxel_size_nm=2.0, **at).cpu_seconds == pytest.approx(11)  # 32³, the median
    assert planner.expect(4000.0, voxel_size_nm=1.0, **at).cpu_seconds == pytest.approx(88)
    finer = records.Record("fine", [*record.rows, record.rows[0] | {"n": 64, "seconds": 50.0}])
    assert planner.expect(4000.0, voxel_size_nm=1.0, record=finer).cpu_seconds == pytest.approx(50)


@pytest.mark.parametrize("particle_nm", [17.2, 68.8])
def test_equivalent_fluence_makes_relative_errors_equal(particle_nm):
    """The noise of a case of the study, in parts of its voxels, is that of the record's at the equivalent fluence."""
    fluence = 4000 / planner.expect(1.0, particle_nm=particle_nm).equivalent_fluence_e_per_A2
    deviations = []
    for size, electrons in ((34.4, 4000.0), (particle_nm, fluence)):
        whole = np.full((2, 1, 1, 1), size / 2)
        pixel = size / planner.ELEMENTS
        deviations.append(np.sqrt(study.pixel_covariance(whole, electrons, pixel)[0, 0, 0].diagonal()) / pixel)
    np.testing.assert_allclose(deviations[0].max(), deviations[1].max(), rtol=0.03)
    np.testing.assert_allclose(deviations[0], deviations[1], rtol=0.1)  # the better phase, too


@pytest.mark.parametrize(
    ("plan", "name"),
    [
        ({"fluence_e_per_A2": 0.0}, "fluence_e_per_A2"),
        ({"fluence_e_per_A2": np.nan}, "fluence_e_per_A2"),
        ({"fluence_e_per_A2": "much"}, "fluence_e_per_A2"),
        ({"views": 1}, "views"),
        ({"views": 9.0}, "views"),
        ({"particle_nm": -1.0}, "particle_nm"),
        ({"particle_nm": 1e6}, "particle_nm"),
        ({"patch_nm": 35.0}, "patch_nm"),
        ({"voxel_size_nm": 0.0}, "voxel_size_nm"),
        ({"voxel_size_nm": 40.0}, "voxel_size_nm"),
        ({"edge": "K"}, "edge"),
        ({"edge": None}, "edge"),
        ({"patch_nm": 0.0}, "patch_nm"),
    ],
)
def test_expect_refuses_nonsense(plan, name):
    with pytest.raises(ValueError, match=f"{name}: got"):
        planner.expect(**{"fluence_e_per_A2": 4000.0} | plan)


# ---------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def grid(record):
    return planner.plan_grid(
        edge=("M2,3", "L2,3"), particle_nm=(20.0, 34.4), voxel_size_nm=(0.5, 1.5), views=(5, 9),
        fluence_e_per_A2=(500.0, 4000.0), record=record,
    )  # fmt: skip


def test_grid_holds_what_expect_says(grid, record):
    page = json.loads(grid.json())
    names = list(page["axes"])

    def value(name, index):
        quantity, flat = page["quantities"][name], 0
        for a in quantity["axes"]:
            flat = flat * len(page["axes"][names[a]]) + index[a]
        return quantity["values"][flat]

    indices = list(np.ndindex(*(len(values) for values in page["axes"].values())))
    for index in indices[::5]:
        plan = {name: values[i] for (name, values), i in zip(page["axes"].items(), index, strict=True)}
        found = planner.expect(**plan, record=record)
        wanted = {"void_nm": found.void_nm, "skin_nm": found.skin_nm, "nrmse": found.nrmse}
        wanted |= {"cpu_seconds": found.cpu_seconds, "total": found.total_fluence_e_per_A2}
        wanted["error_1"] = found.error_nm["Fe3O4"]
        for name, number in wanted.items():
            assert value(name, index) == (None if number is None else pytest.approx(number, rel=0.006)), (name, plan)
        assert value("total", index) == found.total_fluence_e_per_A2  # arithmetic is exact
    assert page["quantities"]["total"]["axes"] == [3, 4]  # stored along what it depends on
    assert page["quantities"]["nyquist_nm"]["axes"] == [2]


PAGE = """
const cells = __KEYS__.map(([key, unit]) => ({dataset: {planner: key, unit: unit}, textContent: ''}));
const controls = {}, summary = {textContent: ''};
const box = {
  querySelector: function (selector) {
    const name = (selector.match(/name="(\\w+)"/) || [])[1];
    if (!name) return summary;
    return controls[name] ??= {type: 'select', addEventListener: function (_, act) { this.act = act; }};
  },
  querySelectorAll: () => cells,
};
globalThis.document = {getElementById: () => ({closest: () => box})};
globalThis.Plotly = {restyle: () => 0, relayout: () => 0};
__SCRIPT__
const told = __PLANS__.map(function (plan) {
  Object.entries(plan).forEach(function ([name, index]) { controls[name].act.call({value: index}); });
  const texts = cells.map(cell => [cell.dataset.planner, cell.textContent]);
  return Object.fromEntries([...texts, ['summary', summary.textContent]]);
});
console.log(JSON.stringify(told));
"""


def shown(grid, plans):
    """The texts of the page's table for some plans (indices along the axes), by its script."""
    script = (records.store.PACKAGE / "planner.js").read_text(encoding="utf-8").replace("__GRID__", grid.json())
    page = PAGE.replace("__SCRIPT__", script).replace(
        "__KEYS__", json.dumps([(key, unit) for key, _, unit, _ in grid.rows])
    )
    page = page.replace("__PLANS__", json.dumps([dict(zip(grid.axes, map(int, plan), strict=True)) for plan in plans]))
    done = subprocess.run(["node", "-"], input=page, capture_output=True, text=True, check=True)
    return [
        {key: text.replace("\xa0", " ").replace("\u2060", "") for key, text in one.items()}
        for one in json.loads(done.stdout)
    ]


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node to run the page's script")
def test_page_shows_what_expect_says():
    grid = planner.plan_grid(particle_nm=(10.0, 34.4), voxel_size_nm=(0.5, 2.0))
    plans = list(np.ndindex(*(len(values) for values in grid.axes.values())))
    kinds = set()
    for plan, texts in zip(plans, shown(grid, plans), strict=True):
        at = {name: values[i] for (name, values), i in zip(grid.axes.items(), plan, strict=True)}
        assert texts["total"] == f"{at['views'] * at['fluence_e_per_A2']:,.0f} e/Å²"
        (void, skin), wanted = (texts["void_nm"], texts["skin_nm"]), grid.values
        blur = wanted["delocalisation_nm"][plan]
        for word, text in (("larger", void), ("thicker", skin)):
            number = wanted["void_nm" if word == "larger" else "skin_nm"][plan]
            if np.isnan(number):
                assert text == f"{word} than the particle"
            elif number == blur:
                assert text == f"not below {blur:.2g} nm, the delocalisation of {at['edge']}"
            else:
                assert float(text.removesuffix(" nm")) == pytest.approx(number, rel=0.06)
        for name in ("nrmse", "fine_nrmse"):
            number = wanted[name][plan]
            kinds.add((name, bool(np.isnan(number))))
            if np.isnan(number):
                assert texts[name] == "outside the record"
                continue
            assert float(texts[name].split()[0].rstrip(",")) == pytest.approx(number, abs=0.00501)
            assert texts[name] in texts["summary"]
        if not np.isnan(wanted["fine_nrmse"][plan]):
            near = f"voxels of {wanted['fine_voxel_nm'][plan]:.2g} nm at {wanted['fine_fluence'][plan]:,.0f} e/Å²"
            assert texts["fine_nrmse"].endswith(f", 9 tilts, {near}")
    assert len(kinds) == 4


def test_page_can_stand_in_markdown_and_names_its_controls(grid):
    page = grid.html(include_plotlyjs="../assets/plotly.min.js")
    assert "\n\n" not in page and "```" not in page and "__GRID__" not in page and "{plot_id}" not in page
    assert len(page) < 200_000
    controls = re.findall(r'<(?:input|select)[^>]* id="([^"]+)"', page)
    assert len(controls) == 5 and all(f'<label for="{control}">' in page for control in controls)
    cells = set(re.findall(r'<td><span data-planner="(\w+)"', page))
    assert cells == {key for key, *_ in grid.rows} <= set(grid.values)


def body_nm(specimen):
    """Size of a drawn body of the record, without its skin; it does not depend on the grid."""
    plain = {"views": 9, "max_tilt_deg": 70, "noise": "independent", "support": False, "third_phase": None}
    draw = simulate.draw_specimen(specimen, "report", 8, **plain)
    return draw.label["shape"]["voxels"] * draw.voxel_size_nm  # half of it, in half voxels


def test_planning_page_has_the_placeholder_and_the_numbers_of_the_code():
    page = (records.store.PACKAGE.parent / "book" / "planning.md").read_text(encoding="utf-8")
    assert page.count(f"\n{planner.MARK}\n") == 1
    blur = planner.expect(4000.0).delocalisation_nm
    fine = records.load("nanocube").where(method=planner.METHOD, edge="M2,3")
    (void,) = {f"{np.cbrt(6 * row['true_void_nm3'] / np.pi):.1f}" for row in fine}
    assert len([row for row in fine if row["n"] == max(row["n"] for row in fine)]) == 1  # "one run"
    kept = records.load("sparse_views").where(method=planner.METHOD, max_tilt=planner.MAX_TILT_DEG)
    drawn = sorted({row["specimen"] for row in kept} & set(planner.SIMILAR) - {"phantom"})
    assert len(drawn) == 5 and {row["seed"] for row in kept if row["specimen"] == "phantom"} == {0, 1, 2}
    sizes = [body_nm(specimen) for specimen in drawn]
    stated = (
        f", of {min(sizes):.0f} to {max(sizes):.0f} nm", f"({blur:.2g} nm for M<sub>2,3</sub>)", f"void of {void} nm",
        f"the phantom ({planner.RECORDED_NM:g} nm, three draws", f"all on voxels of {planner.RECORDED_VOXEL_NM:g} nm",
        f"at {simulate.Microscope().beam_energy_keV:g} keV", f"over ±{planner.MAX_TILT_DEG:g}°",
        f"about {planner.ELEMENTS:.0f} elements", f"$d' = {dose.planning.ROSE:g}$",
    )  # fmt: skip
    assert [text for text in stated if text not in " ".join(page.split())] == []


@pytest.mark.parametrize("values", [{"microscope": 300}, {"record": "sparse_views"}])
def test_what_is_no_microscope_or_record_is_refused(values):
    with pytest.raises(TypeError, match=f"{next(iter(values))}: got"):
        planner.expect(4000.0, **values)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"edge": ("K",)}, "edge"),
        ({"views": (1, 9)}, "views"),
        ({"particle_nm": ()}, "particle_nm"),
        ({"particle_nm": (5.0, 20.0)}, "particle_nm"),
        ({"fluence_e_per_A2": (0.0, 1.0)}, "fluence_e_per_A2"),
        ({"voxel_size_nm": (0.5, 20.0)}, "voxel_size_nm"),
    ],
)
def test_grid_refuses_nonsense(values, name):
    with pytest.raises(ValueError, match=f"{name}: got"):
        planner.plan_grid(**values)
