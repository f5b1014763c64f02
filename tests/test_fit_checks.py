"""What a user checks a fit with: thickness from the low loss, windows that move, metal per oxygen."""

import numpy as np
import pytest

from softeels_utils import simulate
from softeels_utils.fitting import background_shapes, fit_phases, sweep_windows, thickness_map
from softeels_utils.scattering import load_system
from softeels_utils.standards import metal_per_oxygen

ENERGY = np.arange(-10.0, 100.0, 0.5)


def low_loss(paths, electrons=1e4):
    """Expected counts of a Gaussian zero loss and a plasmon, with plural scattering."""
    peak = np.exp(-0.5 * (ENERGY / 0.5) ** 2)
    plasmons = [np.exp(-0.5 * ((ENERGY - 22 * n) / (4 * np.sqrt(n))) ** 2) / np.sqrt(n) for n in (1, 2, 3)]
    weights = [paths, paths**2 / 2, paths**3 / 6]
    lost = sum(w * p / plasmons[0].sum() for w, p in zip(weights, plasmons, strict=True))
    return electrons * np.exp(-paths) * (peak / peak.sum() + lost)


def test_thickness_and_its_error_are_those_of_the_draws():
    counts = np.random.default_rng(0).poisson(np.tile(low_loss(0.5), (4000, 1))).astype(float)
    found = thickness_map(counts, ENERGY, mean_free_path_nm=100.0, mean_free_path_error=0.1)
    assert found.value.mean() == pytest.approx(50, rel=0.02)
    assert found.value.std() / found.statistical.mean() == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(found.systematic, 0.1 * found.value)
    paths = thickness_map(counts[:3], ENERGY)
    np.testing.assert_allclose(100 * paths.value, found.value[:3])
    assert not paths.systematic.any()


def test_thickness_error_follows_the_gain_and_dark_pixels_are_nan():
    counts = np.stack([low_loss(0.5), 0 * ENERGY])
    one, four = (thickness_map(gain * counts, ENERGY, gain=gain) for gain in (1.0, 4.0))
    np.testing.assert_allclose(four.statistical[0], one.statistical[0])
    assert np.isnan(one.value[1]) and np.isnan(one.statistical[1])
    with pytest.raises(ValueError, match="mean_free_path_nm"):
        thickness_map(counts, ENERGY, mean_free_path_nm=0.0)


FIT_ENERGY = np.linspace(40, 90, 201)
PEAK = np.exp(-0.5 * ((FIT_ENERGY - 57) / 2) ** 2)


def test_windows_agree_for_the_right_background_and_not_for_a_wrong_one():
    mean = 30 * PEAK + 300 * np.array([1, 1, 1]) @ background_shapes(FIT_ENERGY)
    counts = np.random.default_rng(1).poisson(np.tile(mean, (60, 1)))
    ends = {"starts_eV": [42, 45, 48], "ends_eV": [70, 85]}
    right = sweep_windows(counts, FIT_ENERGY, PEAK, nonnegative=False, **ends)
    assert right.amounts.shape == (3, 2, 1) and right.reduced_chi2.shape == (3, 2)
    assert (np.abs(right.amounts - 30) < 4 * right.standard_error).all()
    wrong = sweep_windows(counts, FIT_ENERGY, PEAK, nonnegative=False, background=(1.0,), **ends)
    assert wrong.spread[0] > 3 * right.spread[0] and wrong.spread[0] > 10 * wrong.standard_error.max()


def test_windows_use_only_pixels_that_can_be_fitted_and_are_asked_for():
    counts = np.tile(30 * PEAK + 300 * background_shapes(FIT_ENERGY).sum(axis=0), (4, 1))
    counts[0] = np.nan
    counts[3] *= 2
    ends = {"starts_eV": [45], "ends_eV": [85]}
    two = sweep_windows(counts, FIT_ENERGY, PEAK, mask=[True, True, True, False], **ends)
    three = sweep_windows(counts, FIT_ENERGY, PEAK, **ends)
    assert two.amounts[0, 0, 0] == pytest.approx(30, rel=1e-3) and three.amounts[0, 0, 0] == pytest.approx(40, rel=1e-3)
    for bad in ({"starts_eV": [80], "ends_eV": [70]}, {"starts_eV": 45, "ends_eV": [85]}):
        with pytest.raises(ValueError, match="starts_eV"):
            sweep_windows(counts, FIT_ENERGY, PEAK, **bad)
    with pytest.raises(ValueError, match="window_eV"):
        sweep_windows(counts, FIT_ENERGY, PEAK, window_eV=(42, 85), **ends)


@pytest.fixture(scope="module")
def halves():
    """Dual EELS of 20 nm of FeO on the left and of Fe3O4 on the right, with a margin of vacuum."""
    maps = np.zeros((2, 12, 20))
    maps[0, :, :8], maps[1, :, 8:16] = 20, 20
    return simulate.dual_eels(maps, 1e5, pixel_size_nm=2.0, seed=3, progress=False)


def test_iron_per_oxygen_is_within_its_errors(halves):
    found = metal_per_oxygen(*halves)
    formulas = 1 / np.array([load_system("iron_oxides").anion_per_metal(p) for p in ("FeO", "Fe3O4")])
    assert np.isnan(found.value[:, 18:]).all()
    inside = np.array([found.value[:, 1:6].mean(), found.value[:, 10:15].mean()])
    assert inside[1] / inside[0] == pytest.approx(formulas[1] / formulas[0], rel=0.06)  # common errors cancel
    assert (np.abs(inside / formulas - 1) < 0.35).all() and (found.systematic[:, 2] / found.value[:, 2] > 0.3).all()
    scatter = found.value[:, 1:6].std() / found.statistical[:, 1:6].mean()
    assert 0.75 < scatter < 1.25


def test_iron_per_oxygen_wants_oxygen(halves):
    low, core = halves
    with pytest.raises(ValueError, match="core_loss: got energies from 600"):
        metal_per_oxygen(low, core.isig[600.0:])
    with pytest.raises(ValueError, match="mask"):
        metal_per_oxygen(low, core, mask=np.zeros((12, 20), bool))


def test_curves_of_pixels_with_a_low_loss_of_their_own():
    model = simulate.spectrum_model()
    mean = 4e5 * model.expected(np.array([[20.0, 5.0], [0.0, 30.0], [10.0, 10.0]]), "low")
    counts = np.random.default_rng(2).poisson(mean).astype(float)
    arguments = model.low_energy_eV, model.references("M2,3")
    options = {"window_eV": (42, 88), "nonnegative": False}
    fit = fit_phases(counts, *arguments, low_loss=counts, **options)
    curves, backgrounds = fit.curves(counts)
    for k, spectrum in enumerate(counts):
        curve, background = fit_phases(spectrum, *arguments, low_loss=spectrum, **options).curves()
        np.testing.assert_allclose(curves[k], curve, rtol=1e-3)
        np.testing.assert_allclose(backgrounds[k], background, rtol=1e-2, atol=0.01 * curve.max())
    for wrong in (None, counts[:2]):
        with pytest.raises(ValueError, match="low_loss"):
            fit.curves(wrong)
    with pytest.raises(ValueError, match="low_loss"):
        fit.summed().curves(counts)
