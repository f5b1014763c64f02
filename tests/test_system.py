"""Phases and systems: what the files say, what is refused, and the twin of each system."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from softeels_utils import data, dose, fitting, pages, records, scattering, simulate, standards
from softeels_utils.scattering import load_system

FILES = Path(scattering.__file__).parent / "systems"
RECORDED = json.loads((Path(__file__).parent / "recorded" / "twin.json").read_text())


@pytest.fixture(scope="module", params=["iron_oxides", "manganese_oxides"])
def system(request):
    return load_system(request.param)


# ------------------------------------------------------------------------------------------------ the files


def test_the_package_has_these_systems():
    assert scattering.system_names() == ["iron_oxides", "manganese_oxides"]
    assert load_system("iron_oxides") is load_system("iron_oxides")
    assert {"FeO", "Fe3O4", "gamma-Fe2O3", "alpha-Fe2O3", "Fe"} <= set(load_system("iron_oxides").phases)
    assert {"MnO", "Mn3O4", "Mn2O3"} <= set(load_system("manganese_oxides").phases)


def test_cells_have_the_densities_that_are_stated(system):
    import periodictable

    for name, phase in system.phases.items():
        grams = sum(n * periodictable.elements.symbol(e).mass for e, n in phase.atoms_per_nm3.items()) * 1.66054e-3
        assert grams == pytest.approx(phase.density_g_cm3, rel=0.02), name


def test_every_phase_is_neutral(system):
    for name, phase in system.phases.items():
        if phase.ion_fractions:
            assert system.mean_valence(name) == pytest.approx(2 * system.anion_per_metal(name), abs=1e-6), name


def test_onsets_are_those_of_the_tables(system):
    for name in ("M2,3", "L2,3"):
        assert system.edges[name].onset_eV == pytest.approx(scattering.onset(system.metal, name), abs=4)


def test_vacancies_keep_the_charge_and_the_anions():
    system = load_system("iron_oxides")
    lean = system.with_vacancies("FeO", 0.1)
    old, new = system.phases["FeO"], lean.phases["FeO"]
    assert lean.mean_valence("FeO") == pytest.approx(2 * lean.anion_per_metal("FeO"))
    assert lean.anion_per_metal("FeO") == pytest.approx(1 / 0.9)
    assert new.atoms_per_nm3["O"] == old.atoms_per_nm3["O"] and new.density_g_cm3 < old.density_g_cm3
    assert new.ion_fractions["Fe3+ Oh"] == pytest.approx(0.2 / 0.9)
    assert system.phases["FeO"] is old
    maghemite = system.with_vacancies("Fe3O4", 1 / 9)  # magnetite that has lost a ninth of its iron
    assert maghemite.mean_valence("Fe3O4") == pytest.approx(3)
    assert old.expected_vacancies == (0.07, 0.13) and new.expected_vacancies == (0.0, 0.0)
    for bad in (0.2, -0.1):
        with pytest.raises(ValueError, match="fraction: got"):
            system.with_vacancies("Fe3O4", bad)
    with pytest.raises(ValueError, match="phase: got 'alpha-Fe2O3'"):
        system.with_vacancies("alpha-Fe2O3", 0.1)


def test_metal_and_its_valence_follow_from_thickness():
    system = load_system("iron_oxides")
    atoms, valence = system.metal_and_valence([[3.0, 0.0], [0.0, 0.0], [1.0, 2.0]], ("FeO", "Fe3O4", "carbon"))
    assert atoms == pytest.approx([3 * system.phases["FeO"].atoms_per_nm3["Fe"], 0])
    assert valence[0] == pytest.approx(2) and np.isnan(valence[1])
    with pytest.raises(ValueError, match="thickness_nm"):
        system.metal_and_valence([1.0, 2.0, 3.0])


def test_the_twin_reads_nothing_that_finds_standards():
    """Nor the other way round (test_house): neither may know what the other one is told."""
    twin = [*(FILES.parents[1] / "simulate").glob("*.py"), FILES.parent / "near_edge.py"]
    assert len(twin) > 3
    for path in twin:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {getattr(node, "attr", None) for node in ast.walk(tree)}
        assert not names & {"standards", "expected_vacancies"}, path.name


def test_standards_of_an_edge_are_optional(tmp_path):
    def change(content):
        content["edges"]["L2,3"].pop("standards")
        content["edges"]["M2,3"]["standards"]["tail"] = [0.2, 0.1]

    system = load_system(own(tmp_path, change))
    assert not system.edges["L2,3"].standards and system.edges["M2,3"].standards["tail"] == (0.2, 0.1)
    with pytest.raises(ValueError, match=r"system: got 'mine', without standards of \['L2,3'\]"):
        standards.PhasePair.of(system)


# ------------------------------------------------------------------------------------------------ one's own file


def own(folder, change):
    content = yaml.safe_load((FILES / "manganese_oxides.yml").read_text(encoding="utf-8"))
    change(content)
    path = folder / "mine.yml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


def test_the_background_of_a_fit_belongs_to_the_edge(tmp_path):
    iron, manganese = (load_system(name) for name in ("iron_oxides", "manganese_oxides"))
    assert {iron.edge(name).fit_background for name in ("M2,3", "L2,3")} == set(fitting.FIXED_POWERS)
    assert manganese.edge("M2,3").fit_options == {"window_eV": (41, 78), "background": (0, 2, 4, 6)}
    named = load_system(own(tmp_path, lambda c: c["edges"]["L2,3"].update(fit_background="plasmon_tail")))
    assert named.edge("L2,3").fit_background == "plasmon_tail"
    model = simulate.spectrum_model(system="manganese_oxides")
    assert len(dose.linear_model(model, 1e4).background) == 4
    assert len(dose.linear_model(model, 1e4, background="plasmon_tail").background) == 3


def test_ones_own_file_and_table(tmp_path):
    energy = np.arange(630, 670, 0.1)
    line = np.exp(-0.5 * ((energy - 641) / 1.0) ** 2)
    np.savetxt(tmp_path / "mine.csv", np.transpose([energy, line]), delimiter=",", header="energy_eV,measured")

    def change(content):
        content["ions"]["Mn3+ Oh"]["L2,3"] = {"table": "mine.csv", "column": "measured", "shift_eV": 2.0, "fwhm_eV": 1}
        content["channels"] = ["MnO", "Mn3O4", "Mn2O3"]

    system = load_system(own(tmp_path, change))
    assert (system.name, len(system.channels)) == ("mine", 3)
    grid, shape = system.ions["Mn3+ Oh"].tables["L2,3"]
    assert grid[shape.argmax()] == pytest.approx(643, abs=0.06)
    width = np.sqrt((shape * (grid - 643) ** 2).sum() / shape.sum())
    assert width == pytest.approx(np.hypot(1, 1 / np.sqrt(8 * np.log(2))), rel=0.02)
    model = simulate.spectrum_model(system=str(tmp_path / "mine.yml"))
    assert model.references("M2,3").shape == (3, 1024)
    assert dose.phase_bound(model, 1e4).shape == (3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("metal"), "mine.yml: metal: got None, wants a value"),
        (lambda c: c.update(metal="Xx"), "mine.yml: metal: got 'Xx', wants the symbol of an element"),
        (lambda c: c.update(colour=1), "mine.yml: colour: got 1, wants no such key here"),
        (lambda c: c.update(channels=["MnO", "carbon"]), "mine.yml: channels: got 'carbon'"),
        (lambda c: c.update(phases=[1]), r"mine.yml: phases: got \[1\], wants a mapping"),
        (lambda c: c["edges"].pop("M1"), "mine.yml: edges: got"),
        (lambda c: c["edges"]["L2,3"].pop("window_eV"), "mine.yml: edges.L2,3.window_eV: got None"),
        (lambda c: c["edges"]["L2,3"].update(window_eV=[5, 4]), "mine.yml: edges.L2,3.window_eV: got"),
        (lambda c: c["edges"]["M2,3"].update(fit_window_eV=[60, 70]), "mine.yml: edges.M2,3.fit_window_eV: got"),
        (lambda c: c["edges"]["M2,3"].update(fit_background="tail"), "fit_background: got 'tail', wants one of"),
        (lambda c: c["edges"]["M2,3"].update(fit_background=[1, "a"]), "fit_background: got .*up to eight exponents"),
        (lambda c: c["edges"]["L2,3"]["standards"].pop("l3_eV"), "mine.yml: edges.L2,3.standards.l3_eV: got None"),
        (lambda c: c["edges"]["L2,3"]["standards"].pop("shift_source"), "standards.shift_source: got None"),
        (lambda c: c["edges"]["L2,3"]["standards"].update(search_eV=[7, 5]), "standards.search_eV: got"),
        (lambda c: c["edges"]["M2,3"]["standards"].update(tail=[0.3]), r"standards.tail: got \[0.3\]"),
        (lambda c: c["edges"]["M2,3"]["standards"].update(tails=1), "standards.tails: got 1, wants no such key here"),
        (lambda c: c["edges"]["M1"].update(standards={"l3_eV": 1}), "edges.M1.standards.l3_eV: got 1"),
        (lambda c: c["phases"]["MnO"]["vacancies"].update(expected=[1]), r"phases.MnO.vacancies.expected: got \[1\]"),
        (
            lambda c: c["ions"]["Mn3+ Oh"]["M2,3"].update(table="../no.csv"),
            "mine.yml: ions.Mn3.*table: got '../no.csv'",
        ),
        (lambda c: c["ions"]["Mn3+ Oh"]["M2,3"].update(column="Fe"), "mine.yml: ions.Mn3.*column: got 'Fe'"),
        (
            lambda c: c["phases"]["MnO"].update(density_g_cm3=float("nan")),
            "mine.yml: phases.MnO.density_g_cm3: got nan",
        ),
        (lambda c: c["phases"]["MnO"].update(density_g_cm3="1/0"), "mine.yml: phases.MnO.density_g_cm3: got '1/0'"),
        (lambda c: c["phases"]["MnO"]["cell"].update(atoms={"Mn": 4, "o": 4}), "phases.MnO.atoms: got 'o'"),
        (lambda c: c["phases"]["MnO"].update(density_g_cm3=5400), "density_g_cm3: got 5400.*, wants about 5.3"),
        (
            lambda c: c["phases"]["MnO"]["cell"].update(edges_nm=[4.445]),
            "density_g_cm3: got 5.3.*which its atoms weigh",
        ),
        (lambda c: c["phases"]["MnO"].update(atoms_per_nm3={"Mn": 1}), "mine.yml: phases.MnO.cell: got"),
        (lambda c: c["phases"]["MnO"]["cell"].update(edges_nm=[-1]), "mine.yml: phases.MnO.cell.edges_nm: got"),
        (
            lambda c: c["phases"]["MnO"].update(ion_fractions={"Mn2+ Oh": 0.5}),
            "mine.yml: phases.MnO.ion_fractions: got",
        ),
        (lambda c: c["phases"]["MnO"].update(ion_fractions={"Fe2+": 1}), "mine.yml: phases.MnO.ion_fractions: got"),
        (lambda c: c["phases"]["MnO"].update(metal_range=[1.1, 1.2]), "mine.yml: phases.MnO.metal_range: got"),
        (lambda c: c["phases"]["MnO"].update(valence_loss=[[1, 2]]), "mine.yml: phases.MnO.valence_loss: got"),
    ],
)
def test_bad_files_are_named_with_the_key(tmp_path, change, message):
    path = own(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        load_system(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"system: got 'cobalt_oxides', wants one of \['iron_oxides'"):
        load_system("cobalt_oxides")
    with pytest.raises(ValueError, match=r"wants an existing file"):
        load_system(tmp_path / "none.yml")
    (tmp_path / "bad.yml").write_text("a: [1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad.yml: got text that is no YAML"):
        load_system(tmp_path / "bad.yml")
    (tmp_path / "code.yml").write_text("a: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"code.yml: got text that is no YAML"):
        load_system(tmp_path / "code.yml")
    with (tmp_path / "huge.yml").open("wb") as file:
        file.truncate(2 * 10**10)
    with pytest.raises(ValueError, match=r"system: .*huge.yml, cannot read it \(.*2e\+10 bytes"):
        load_system(tmp_path / "huge.yml")


def test_a_single_phase_is_asked_for_by_its_name(system):
    name = system.channels[0]
    assert system.metal_per_nm3(name) == system.metal_per_nm3([name])


@pytest.mark.parametrize("phases", [(), ("FeO", "FeO"), ("MnO",)])
def test_bad_phases_are_named(phases):
    with pytest.raises(ValueError, match="phases: got"):
        simulate.spectrum_model(phases=phases)


# ------------------------------------------------------------------------------------------------ the twin


def test_the_twin_of_the_iron_oxides_is_that_of_before_systems():
    model = simulate.spectrum_model(phases=("FeO", "Fe3O4", "carbon"))
    at = RECORDED["channels"]
    for phase, components in RECORDED["references"].items():
        for component, values in components.items():
            found = model.reference(phase, component)[at]
            np.testing.assert_allclose(found, values, rtol=1e-9, atol=1e-13 * np.abs(values).max() + 1e-25)
    np.testing.assert_allclose(model.mean_free_path_nm, RECORDED["mean_free_path_nm"], rtol=1e-12)
    for axis, values in RECORDED["expected"].items():
        np.testing.assert_allclose(model.expected([12.0, 8.0, 5.0], axis)[at], values, rtol=1e-9)
    signals = simulate.dual_eels(np.array([[[3.0, 12.0]], [[15.0, 4.0]]]), 1e5, seed=7)
    for signal, axis in zip(signals, ("low", "core"), strict=True):
        counts = signal.data.reshape(2, 16, 64).sum(axis=-1)
        np.testing.assert_array_equal(counts, RECORDED["counts"][axis])
    model = simulate.spectrum_model()
    for edge, bound in RECORDED["bound"].items():
        np.testing.assert_allclose(dose.phase_bound(model, 1e4, edge=edge), bound, rtol=1e-6)
    c = dose.compare_edges(model)
    parallel = dose.signal_ratio(collection_mrad=40.0)
    np.testing.assert_allclose(
        [parallel, c.shot_noise, c.total_metal, *c.phases.values()], RECORDED["comparison"], rtol=1e-6
    )
    assert c.signal == pytest.approx(dose.signal_ratio(collection_mrad=40.0, convergence_mrad=20.0), rel=1e-9)


def test_manganese_goes_from_end_to_end():
    """M2,3 near 50 eV and L2,3 near 640 eV; maps that are fitted to the twin's dual EELS are the true ones."""
    volume = simulate.core_shell_nanocube(16, 2.0, oversample=3)
    thickness = volume.sum(axis=2) * 2.0
    low, core = simulate.dual_eels(
        thickness, 1e6, system="manganese_oxides", pixel_size_nm=2.0, delocalisation=False, seed=1
    )
    assert low.metadata.Simulation.system == "manganese_oxides" and low.metadata.Simulation.phases == ["MnO", "Mn3O4"]
    model = simulate.spectrum_model(system="manganese_oxides")
    assert model.energy_eV("M2,3")[model.reference("MnO", "M2,3").argmax()] == pytest.approx(50.6, abs=0.5)
    assert model.energy_eV("L2,3")[model.reference("MnO", "L2,3").argmax()] == pytest.approx(640, abs=0.5)
    mean = core.data.sum(axis=(0, 1))
    rise = mean[(core.axes_manager.signal_axes[0].axis > 637)][:20]
    assert rise.max() > 1.2 * rise[0]  # L3 stands there
    fit = fitting.fit_phases(
        low,
        references=model.references("M2,3"),
        low_loss=low,
        nonnegative=False,
        **model.system.edges["M2,3"].fit_options,
    )
    ratio = fit.coefficients.sum(axis=(0, 1)) / thickness.sum(axis=(1, 2))
    error = np.sqrt(np.einsum("yxkk->k", fit.covariance)) / thickness.sum(axis=(1, 2))
    assert (np.abs(ratio - 1) < 0.1).all() and (error < 0.01).all()
    metal = model.system.metal_and_valence(fit.coefficients.sum(axis=(0, 1)))
    true = model.system.metal_and_valence(thickness.sum(axis=(1, 2)))
    assert metal[0] == pytest.approx(true[0], rel=0.03) and metal[1] == pytest.approx(true[1], abs=0.03)


def test_dose_of_manganese():
    model = simulate.spectrum_model(system="manganese_oxides")
    c = dose.compare_edges(model)
    assert c.signal == pytest.approx(
        dose.signal_ratio(system="manganese_oxides", collection_mrad=40.0, convergence_mrad=20.0), rel=1e-9
    )
    assert c.signal > c.shot_noise > 1 and c.total_metal > 1 and set(c.phases) == {"MnO", "Mn3O4"}
    named = dose.dose_efficiency(model, quantity="total manganese")
    assert named == c.total_metal
    with pytest.raises(ValueError, match="quantity: got 'total iron'"):
        dose.dose_efficiency(model, quantity="total iron")
    assert dose.linear_model(model, 1e4).misfit < 0.05  # the shapes of the background follow this twin, too
    grid = dose.calculator(
        beam_energy_keV=(300.0,),
        collection_mrad=(40.0,),
        energy_resolution_eV=(0.7,),
        thickness_nm=(20.0,),
        readout_electrons=(0.0,),
        system="manganese_oxides",
    )
    assert grid.quantities == ("MnO", "Mn3O4", "total manganese") and grid.error_nm.shape[-2] == 3
    assert "total manganese" in grid.html()


def test_every_phase_of_a_system_has_spectra(system):
    microscope = simulate.Microscope(channels=512, dispersion_eV=0.5, energy_resolution_eV=1.0)
    model = simulate.spectrum_model(microscope, system=system, phases=tuple(system.phases))
    for p, phase in enumerate(model.phases):
        valence = model.reference(phase, "valence")
        assert np.isfinite(valence).all() and valence.sum() > 0 and 50 < model.mean_free_path_nm[p] < 400
        for edge in ("M2,3", "L2,3"):
            signal = model.reference(phase, edge)
            holds = system.metal in system.phases[phase].atoms_per_nm3
            assert (signal.max() > 0) == holds and np.isfinite(signal).all()


def test_changes_of_an_edge():
    system = load_system("iron_oxides")
    energy = np.arange(45.0, 90.0, 0.05)
    strength = scattering.near_edge_oscillator_strength

    def changed(edge, energy, **changes):
        return strength(system, system.phases["Fe3O4"].with_edge(edge, **changes), edge, energy)

    plain = strength(system, "Fe3O4", "M2,3", energy)
    np.testing.assert_allclose(changed("M2,3", energy, strength=1.1), 1.1 * plain, rtol=1e-12)
    np.testing.assert_allclose(changed("M2,3", energy + 0.4, shift_eV=0.4), plain, rtol=1e-6, atol=1e-9)
    broad = changed("M2,3", energy, fwhm_eV=1.5)
    assert broad.max() < plain.max() and broad.sum() == pytest.approx(plain.sum(), rel=0.01)
    # ions of equal strength in the window, or of equal continuum far from the white lines
    core = np.array([744.0])
    window = np.arange(706.0, 746.0, 0.02)
    for normalisation, same in ((0.0, window), (1.0, core)):
        both = [
            strength(system, system.phases[p].with_edge("L2,3", normalisation=normalisation), "L2,3", same).sum()
            for p in ("FeO", "alpha-Fe2O3")
        ]
        assert both[0] == pytest.approx(both[1], rel=0.02)
    apart = [strength(system, p, "L2,3", core)[0] for p in ("FeO", "alpha-Fe2O3")]
    assert apart[0] > 1.05 * apart[1]


def test_the_page_on_systems_says_what_is_recorded():
    measured = records.benchmark("standards")
    record, page = measured["manganese"], pages.standards_in_words(measured)
    assert "within 2.3°" in page
    rows = [row for cube in record.values() for row in cube]
    assert len(rows) == 12 and not any(row["warnings"] or row["left_out"] for row in rows)
    assert max(max(row["angle_deg"]) for row in rows) < 2.3
    off = {name: [max(abs(v - 1) for v in row["volume"]) for row in cube] for name, cube in record.items()}
    skin = [value for name, cube in off.items() if name != "no skin" for value in cube]
    assert sum(value <= 0.10 for value in skin) == 8 and "in 8 of 9 cases" in page and 0.12 < max(skin) < 0.13
    assert [round(min(off["no skin"]), 2), round(max(off["no skin"]), 2)] == [0.22, 0.32] and "1.22 to 1.32" in page
    pulls = [(v - 1) / e for row in rows for v, e in zip(row["volume"], row["volume_error"], strict=True)]
    assert max(map(abs, pulls)) < 2  # of the stated errors


@pytest.mark.skipif(not data.is_cached("lsmo_dual_eels"), reason="lsmo_dual_eels is not in the cache (SOFTEELS_DATA)")
def test_measured_manganese_is_taken_for_manganese():
    """Dual EELS of LSMO: Mn-M2,3 fits this system's shapes, not those of iron, and is more Mn3+ than Mn2+."""
    low, core = data.load("lsmo_dual_eels")
    settings = {"dispersion_eV": 0.5, "low_start_eV": -50.0, "core_start_eV": 430.0, "energy_resolution_eV": 1.0}
    microscope = simulate.Microscope.from_metadata(low, simulate.Microscope(**settings))
    model = simulate.spectrum_model(microscope, system="manganese_oxides", phases=("MnO", "Mn2O3"))
    misfit = {}
    for name, one in (("Mn", model), ("Fe", simulate.spectrum_model(microscope))):
        linear = dose.linear_model(one, 1e4, spectrum=dose.measured_spectrum(low, one, "M2,3"))
        edge = linear.thickness_nm @ linear.phases
        misfit[name] = np.std(linear.expected - linear.linear) / np.std(edge)
        if name == "Mn":
            assert linear.thickness_nm[1] > 2 * linear.thickness_nm[0]
    assert misfit["Mn"] < 0.5 < misfit["Fe"]  # 0.42 and 1.4: multiplets in a cubic field are no measurement
    spectrum = dose.measured_spectrum(core, model, "L2,3")  # white lines at these energies, the axis shifted to them
    assert (dose.linear_model(model, 1e4, edge="L2,3", spectrum=spectrum).thickness_nm > 0).all()
