"""Specimens whose chemistry is drawn: halves apart, truth that adds up, and each departure where it should be seen."""

import json

import numpy as np
import pytest

from softeels_utils import simulate
from softeels_utils.scattering import load_system
from softeels_utils.simulate import CHEMISTRY_KINDS, draw_chemistry
from softeels_utils.simulate.chemistry import DRAWS

SMALL = {"n": 12, "microscope": simulate.Microscope(channels=512, dispersion_eV=0.5, energy_resolution_eV=1.0)}


@pytest.fixture(scope="module")
def plain():
    return draw_chemistry(0, kinds=(), **SMALL)


@pytest.fixture(scope="module")
def plain_signals(plain):
    return plain.record(1e4, noise=False, delocalisation=False, dtype="float64")


def test_same_seed_same_draw_and_halves_apart():
    a, b, c, d = (draw_chemistry(s, h, **SMALL) for s, h in ((5, "tune"), (5, "tune"), (5, "report"), (6, "tune")))
    assert a.label == b.label and a.label != c.label and a.label != d.label
    np.testing.assert_array_equal(a.thickness_nm, b.thickness_nm)
    for draw in (a, c, d):
        json.dumps(draw.label)  # plain numbers and words only


def test_what_is_fixed_changes_nothing_else():
    free, fixed = draw_chemistry(2, **SMALL), draw_chemistry(2, carbon_nm=7.0, **SMALL)
    assert fixed.label["drawn"] == {**free.label["drawn"], "carbon_nm": 7.0}
    one = draw_chemistry(2, kinds=("vacancies",), **SMALL).label["drawn"]
    every = draw_chemistry(2, kinds=CHEMISTRY_KINDS, **SMALL).label["drawn"]
    assert one.items() <= every.items() and set(one) == {"vacancies"}


def test_drawn_numbers_stay_in_range():
    rng, system = np.random.default_rng(0), load_system("iron_oxides")
    values = [{k: v for draw in DRAWS.values() for k, v in draw(rng.random(16), system).items()} for _ in range(200)]
    assert all(0 <= v["vacancies"] <= 0.12 + 1e-12 and 0 <= v["ligand_nm"] <= 4 for v in values)
    shifts = np.abs([v["m23_shift_eV"] + v["l23_shift_eV"] for v in values])
    assert shifts.min() >= 0.1 and shifts.max() <= 0.5
    faults = [len({"dispersion_error", "core_shift_eV", "exposure_ratio", "gain"} & set(v)) for v in values]
    assert set(faults) == {1}
    assert {v["third_phase"] for v in values} == {"gamma-Fe2O3", "alpha-Fe2O3", "Fe"}


def test_draws_have_several_departures_and_never_a_fault_unasked():
    many = [draw_chemistry(seed, n=8, microscope=SMALL["microscope"]).label["kinds"] for seed in range(12)]
    assert 2 < np.mean([len(kinds) for kinds in many]) < 6
    assert not any("instrument" in kinds for kinds in many)


def test_a_draw_as_its_system_is_the_default_cube(plain, plain_signals):
    volume = simulate.core_shell_nanocube(24, oversample=3)
    thickness = volume.sum(axis=2, dtype=float).reshape(2, 12, 2, 12, 2).mean(axis=(2, 4)) * 64 / 24
    np.testing.assert_allclose(plain.thickness_nm, thickness, atol=1e-4)
    options = {"pixel_size_nm": 64 / 12, "noise": False, "delocalisation": False, "dtype": "float64"}
    signals = simulate.dual_eels(thickness, 1e4, microscope=SMALL["microscope"], **options)
    for ours, theirs in zip(plain_signals, signals, strict=True):
        np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-4, atol=1e-6)
        assert ours.axes_manager.signal_axes[0].offset == theirs.axes_manager.signal_axes[0].offset


def test_truth_counts_iron_and_its_valence(plain):
    system = plain.assumed
    iron = np.tensordot(system.metal_per_nm3(), plain.channels_nm, axes=1)
    np.testing.assert_allclose(plain.metal_per_nm2, iron, rtol=1e-9)
    inside = plain.mean_valence[plain.particle]
    assert inside.min() >= 2 and inside.max() < 8 / 3 and 0 < plain.particle.mean() < 1
    np.testing.assert_allclose(plain.valence_fraction(3), plain.mean_valence - 2, atol=1e-12)
    with_iron = draw_chemistry(0, kinds=(), third_phase="Fe", **SMALL)
    metal = with_iron.valence_fraction(0)
    assert np.nanmax(metal) > 0.02
    charge = 2 * with_iron.valence_fraction(2) + 3 * with_iron.valence_fraction(3)
    np.testing.assert_allclose(charge, with_iron.mean_valence, atol=1e-12)
    lean = draw_chemistry(0, kinds=(), vacancies=0.1, **SMALL)
    missing = 0.1 * system.phases["FeO"].atoms_per_nm3["Fe"] * plain.channels_nm[0]
    np.testing.assert_allclose(lean.metal_per_nm2, iron - missing, rtol=1e-9)
    # vacancies keep the charge: that of all iron is what the oxygen asks for
    charge = (lean.metal_per_nm2 * np.nan_to_num(lean.mean_valence)).sum()
    assert charge == pytest.approx((plain.metal_per_nm2 * np.nan_to_num(plain.mean_valence)).sum())


def test_skin_mixture_and_third_phase_keep_the_volume(plain):
    solid = plain.thickness_nm.sum()
    whole = draw_chemistry(0, kinds=(), skin_oxidised=1.0, **SMALL)
    half = draw_chemistry(0, kinds=(), skin_oxidised=0.5, **SMALL)
    assert whole.phases == half.phases == ("FeO", "Fe3O4", "gamma-Fe2O3")
    np.testing.assert_allclose(half.thickness_nm[2], whole.thickness_nm[2] / 2, rtol=1e-6)
    mixed = draw_chemistry(0, kinds=(), mixture="shell", mixture_fraction=0.8, **SMALL)
    np.testing.assert_allclose(mixed.thickness_nm[1], 0.8 * plain.thickness_nm[1], rtol=1e-6)
    third = draw_chemistry(0, kinds=(), third_phase="Fe", third_phase_nm=6.0, **SMALL)
    ball = third.thickness_nm[third.phases.index("Fe")].sum() * third.pixel_size_nm**2
    assert ball == pytest.approx(np.pi / 6 * 6**3, rel=0.15)
    for draw in (whole, half, mixed, third):
        assert draw.thickness_nm.sum() == pytest.approx(solid, rel=1e-5)
    bare = draw_chemistry(0, kinds=(), skin=False, **SMALL)
    assert bare.thickness_nm[0].sum() < plain.thickness_nm[0].sum() and len(bare.phases) == 2


def test_what_lies_about_the_particle():
    draw = draw_chemistry(0, kinds=(), ligand_nm=3.0, carbon_nm=5.0, **SMALL)
    ligand, carbon = (draw.thickness_nm[draw.phases.index(p)] for p in ("ligand", "carbon"))
    assert (carbon == 5.0).all()
    assert ligand.max() > 2 * 3.0 and ligand[0, 0] == 0
    assert (ligand[draw.thickness_nm[1] > 15] > 5.9).all()  # 3 nm above and below, more where faces are inclined


def ratio(signals, plain, axis, window):
    """Counts of a draw over those of the plain one in a window, summed over the image."""
    energy = plain[axis].axes_manager.signal_axes[0].axis
    inside = (energy > window[0]) & (energy < window[1])
    return signals[axis].data[..., inside].sum() / plain[axis].data[..., inside].sum()


@pytest.mark.parametrize(
    ("departure", "axis", "window", "grows"),
    [
        ({"m23_strength": (1.3, 1.3)}, 0, (56, 60), True),
        ({"l23_strength": (1.3, 1.3)}, 1, (708, 714), True),
        ({"oxygen_strength": (1.3, 1.3)}, 1, (536, 545), True),
        ({"oxygen_pre_peak": (3.0, 3.0)}, 1, (530, 533), True),
        ({"l23_shift_eV": (2.0, 2.0)}, 1, (706.5, 708.5), False),
        ({"m23_shift_eV": (-2.0, -2.0)}, 0, (53, 55.5), True),
        ({"plasmon_energy": (0.8, 0.8)}, 0, (12, 17), True),
        ({"ligand_nm": 8.0, "ligand": "silica"}, 1, (536, 541), True),
        ({"vacancies": 0.12}, 1, (706, 709), False),
    ],
)
def test_each_departure_is_seen_where_it_should_be(plain_signals, departure, axis, window, grows):
    draw = draw_chemistry(0, kinds=(), **departure, **SMALL)
    signals = draw.record(1e4, noise=False, delocalisation=False, dtype="float64")
    before = (-5, 5) if window[0] < 50 else (45, 50) if axis == 0 else (690, 703) if window[0] > 700 else (505, 525)
    change = ratio(signals, plain_signals, axis, window) / ratio(signals, plain_signals, axis, before) - 1
    assert change > 1e-3 if grows else change < -1e-3


def test_normalisation_and_width_move_strength_about(plain_signals):
    equal = draw_chemistry(0, kinds=(), l23_normalisation=1.0, **SMALL)
    ions = equal.system.phases["Fe3O4"].edge_change("L2,3")
    assert ions.normalisation == 1.0 and equal.assumed.phases["Fe3O4"].edge_change("L2,3").normalisation == 0.0
    broad = draw_chemistry(0, kinds=(), l23_fwhm_eV=(2.0, 2.0), **SMALL)
    signals = broad.record(1e4, noise=False, delocalisation=False, dtype="float64")
    assert ratio(signals, plain_signals, 1, (707, 709.5)) < 0.999
    assert ratio(signals, plain_signals, 1, (700, 745)) == pytest.approx(1, abs=2e-3)


def test_measured_shapes_take_the_place_of_the_multiplets(plain_signals):
    energy = np.arange(695, 745, 0.1)
    line = np.exp(-0.5 * ((energy - 711.5) / 1.0) ** 2)
    draw = draw_chemistry(0, kinds=(), ion_tables={"Fe3+ Oh": {"L2,3": (energy, line)}}, **SMALL)
    signals = draw.record(1e4, noise=False, delocalisation=False, dtype="float64")
    assert ratio(signals, plain_signals, 1, (711, 713)) > 1.01
    assert draw.label["drawn"] == {}


def test_faults_of_the_instrument(plain, plain_signals):
    stretched = draw_chemistry(0, kinds=(), dispersion_error=0.02, **SMALL)
    low, core = stretched.record(1e4, noise=False, delocalisation=False)
    for ours, theirs in zip((low, core), plain_signals, strict=True):  # the metadata know nothing of it
        ours, theirs = ours.axes_manager.signal_axes[0], theirs.axes_manager.signal_axes[0]
        assert (ours.offset, ours.scale) == (theirs.offset, theirs.scale)
    energy = low.axes_manager.signal_axes[0].axis
    assert energy[low.data.sum(axis=(0, 1)).argmax()] == 0
    axis = core.axes_manager.signal_axes[0].axis
    near = (axis > 695) & (axis < 715)

    def l3(signal):
        slope = np.gradient(signal.data[..., near].sum(axis=(0, 1)))
        return axis[near][slope.argmax()]

    assert l3(core) - l3(plain_signals[1]) == pytest.approx(500 + 207.5 / 1.02 - 707.5, abs=1.1)
    shifted = draw_chemistry(0, kinds=(), core_shift_eV=-2.0, **SMALL).record(1e4, noise=False)[1]
    assert shifted.axes_manager.signal_axes[0].offset == core.axes_manager.signal_axes[0].offset - 2
    longer = draw_chemistry(0, kinds=(), exposure_ratio=20.0, gain=0.5, **SMALL)
    signals = longer.record(1e4, noise=False, delocalisation=False)
    assert ratio(signals, plain_signals, 0, (-5, 100)) == pytest.approx(0.5, rel=1e-3)
    assert ratio(signals, plain_signals, 1, (505, 745)) == pytest.approx(10, rel=1e-3)


def test_exposures_are_independent(plain):
    a, b = plain.record(1e3, 0)[0].data, plain.record(1e3, 1)[0].data
    assert (a != b).mean() > 0.05
    np.testing.assert_array_equal(a, plain.record(1e3, 0)[0].data)


def test_manganese_can_be_drawn():
    draw = draw_chemistry(1, system="manganese_oxides", skin_oxidised=1.0, **SMALL)
    assert draw.phases[:2] == ("MnO", "Mn3O4") and "Mn2O3" in draw.phases
    low, core = draw.record(1e3)
    assert low.data.shape == core.data.shape == (12, 12, 512)
    assert 2 < np.nanmean(draw.mean_valence) < 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"half": "both"}, "half: got 'both'"),
        ({"seed": -1}, "seed: got -1"),
        ({"n": 4}, "n: got 4"),
        ({"kinds": ("colour",)}, r"kinds: got \['colour'\]"),
        ({"colour": 1}, r"fixed: got \['colour'\]"),
        ({"vacancies": 0.9}, "vacancies: got 0.9, wants a number within 0 to 0.3"),
        ({"m23_strength": 1.1}, "m23_strength: got 1.1, wants a pair of numbers"),
        ({"gain": 0}, "gain: got 0"),
        ({"mixture": "void"}, "mixture: got 'void'"),
        ({"third_phase": "MnO"}, "phase: got 'MnO'"),
        ({"ion_tables": {"Fe4+": {}}}, "ion_tables: got 'Fe4\\+'"),
        ({"system": "iron"}, "system: got 'iron'"),
    ],
)
def test_bad_draws_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        draw_chemistry(**{"seed": 0, **bad})
