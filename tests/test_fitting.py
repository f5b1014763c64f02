"""Fits of phases: exact against SciPy's NNLS, unbiased, error bars that agree with scatter, bad input named."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from clusters import CLUSTER
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import nnls

from softeels_utils import dose
from softeels_utils.data import read_signal, read_tilt_series
from softeels_utils.fitting import FitFlag, PhaseFit, background_shapes, confusable_phases, fit_phases
from softeels_utils.simulate import Detector, core_shell_nanocube, dual_eels, spectrum_model
from softeels_utils.standards import Standards

ENERGY = 42 + 0.25 * np.arange(160)


def gauss(centre, sigma):
    return np.exp(-0.5 * ((ENERGY - centre) / sigma) ** 2)


STEP = 0.3 / (1 + np.exp(-(ENERGY - 54) / 0.5)) * (ENERGY / 54) ** -2.0
REFERENCES = np.stack([gauss(57, 1.5) + 0.5 * gauss(60, 2) + STEP, 0.8 * gauss(58, 1.7) + 0.6 * gauss(61, 2) + STEP])
TAIL = background_shapes(ENERGY)
DESIGN = np.concatenate([REFERENCES, TAIL])


def expected(coefficients, scale=1.0):
    """Counts that the model of the fit can follow exactly."""
    return scale * (np.asarray(coefficients) @ REFERENCES + np.array([1.0, 2.0, 1.0]) @ TAIL)


def draws(coefficients, scale, n, seed):
    return np.random.default_rng(seed).poisson(np.tile(expected(coefficients, scale), (n, 1)))


# --- exact minimum


def reference_nnls(design, free, y, variance):
    """SciPy's NNLS of one weighted spectrum; free amplitudes as a difference of two non-negative ones."""
    root = 1 / np.sqrt(variance)
    both = np.concatenate([design, -design[free]])
    x = nnls((both * root).T, y * root, maxiter=2000)[0]
    out = x[: len(design)]
    out[free] -= x[len(design) :]
    return out


@pytest.mark.parametrize("bounded_background", [False, True])
@pytest.mark.parametrize("phases", [1, 2, 3, 4])
def test_equals_scipy_nnls_on_the_weighted_problem(phases, bounded_background):
    rng = np.random.default_rng(phases)
    references = np.stack([gauss(55 + 2.5 * k, 1.2 + 0.4 * k) + STEP for k in range(phases)])
    truth = rng.uniform(0, 1, (150, phases)) * rng.integers(0, 2, (150, phases))
    mean = truth @ references + (ENERGY / 50) ** -3.0
    y = rng.poisson(5 * mean) * 1.0
    variance = np.maximum(5 * mean, 0.5)
    fit = fit_phases(y, ENERGY, references, variance=variance, nonnegative_background=bounded_background)
    got = np.concatenate([fit.coefficients, fit.background], axis=-1)
    design = np.concatenate([references, TAIL])
    free = np.array([] if bounded_background else np.arange(phases, len(design)), int)
    want = np.array([reference_nnls(design, free, *row) for row in zip(y, variance, strict=True)])
    scale = np.abs(want).max(axis=1, keepdims=True)
    assert (np.abs(got - want) / scale).max() < 1e-5
    assert (got[:, :phases] == 0).any() and (got[:, :phases] >= 0).all()


def test_poisson_fit_is_the_nnls_solution_for_its_own_weights():
    y = draws([0.4, 0.0], 20, 60, seed=0)
    fit = fit_phases(y, ENERGY, REFERENCES, tolerance=1e-9, max_iterations=50)
    model, _ = fit.curves()
    want = np.array([reference_nnls(DESIGN, np.arange(2, 5), *row) for row in zip(y, model, strict=True)])
    assert np.abs(fit.coefficients - want[:, :2]).max() < 1e-5 * want.max()
    # the score of the Poisson likelihood is zero for every free amplitude, never positive at a bound
    score = ((y - model) / model) @ DESIGN.T
    inside = np.concatenate([fit.coefficients > 0, np.ones((60, 3), bool)], axis=1)
    assert np.abs(score[inside]).max() < 1e-4 * np.abs(DESIGN).sum()
    assert score[~inside].max() < 1e-4 * np.abs(DESIGN).sum()


@given(st.floats(1e-3, 1e3), st.floats(0, 5), st.floats(0, 5))
@settings(max_examples=30, deadline=None)
def test_noise_free_spectra_give_their_amplitudes_back_whatever_the_scale(scale, a, b):
    fit = fit_phases(expected([a, b], scale), ENERGY, scale * REFERENCES)
    np.testing.assert_allclose(fit.coefficients, [a, b], atol=1e-6)
    assert fit.reduced_chi2 < 1e-6


def test_channels_outside_the_window_and_masked_ones_do_not_count():
    y = draws([1, 1], 10, 20, seed=1).astype(float)
    clean = fit_phases(y, ENERGY, REFERENCES, window_eV=(44, 75))
    dirty = y.copy()
    dirty[:, ENERGY < 44] = np.nan
    again = fit_phases(dirty, ENERGY, REFERENCES, window_eV=(44, 75))
    np.testing.assert_array_equal(clean.coefficients, again.coefficients)
    variance = np.full(y.shape, 10.0)
    variance[:, 50] = np.inf
    one = fit_phases(y, ENERGY, REFERENCES, variance=variance)
    y[:, 50] += 1e6
    two = fit_phases(y, ENERGY, REFERENCES, variance=variance)
    np.testing.assert_allclose(one.coefficients, two.coefficients, rtol=1e-9)


# --- statistics


@pytest.mark.parametrize("scale", [0.02, 0.1, 1.0, 30.0])
def test_unbiased_and_error_bars_agree_with_the_scatter(scale):
    """From 0.1 to 150 counts a channel: bias, scatter against the bound, reported covariance against scatter."""
    n, truth = 5000, [1.0, 1.0]
    y = draws(truth, scale, n, seed=2)
    fit = fit_phases(y, ENERGY, scale * REFERENCES, nonnegative=False)
    mean = expected(truth, scale)
    bound = np.linalg.inv((scale * DESIGN / mean) @ (scale * DESIGN).T)[:2, :2]
    scatter = np.cov(fit.coefficients.T)
    bias = (fit.coefficients.mean(0) - truth) / np.sqrt(np.diag(bound))
    assert np.abs(bias).max() < 4 / np.sqrt(n) + (0.05 if scale < 0.05 else 0)
    three = ([0, 1, 0], [0, 1, 1])  # both variances and the covariance
    assert np.abs(scatter[three] / bound[three] - 1).max() < (0.15 if scale < 0.05 else 0.10)
    assert np.abs(fit.covariance.mean(0)[three] / scatter[three] - 1).max() < 0.10
    if scale > 0.05:
        assert fit.reduced_chi2.mean() == pytest.approx(1, abs=0.02)


def test_weights_from_raw_counts_are_biased_and_ours_are_not():
    """Why the weights come from the model: the textbook choice 1/max(counts, 1) is many errors off at low dose."""
    y = draws([1.0, 1.0], 0.3, 3000, seed=3)
    ours = fit_phases(y, ENERGY, 0.3 * REFERENCES, nonnegative=False)
    raw = fit_phases(y, ENERGY, 0.3 * REFERENCES, nonnegative=False, variance=np.maximum(y, 1.0))
    total = ours.coefficients.sum(-1)
    error = total.std() / np.sqrt(len(y))
    assert abs(total.mean() - 2) < 4 * error
    assert abs(raw.coefficients.sum(-1).mean() - 2) > 10 * error


@pytest.mark.parametrize("edge", ["M2,3", "L2,3"])
def test_scatter_meets_the_cramer_rao_bound_on_the_twin(edge):
    model = spectrum_model()
    linear = dose.linear_model(model, 2e5, edge=edge, thickness_nm=(12.0, 18.0))
    bound = dose.phase_bound(model, 2e5, edge=edge, thickness_nm=(12.0, 18.0))
    y = dose.simulate_counts(linear, 4000, seed=4)
    fit = fit_phases(y, linear.energy_eV, linear.phases, background=linear.background, nonnegative=False)
    scatter = np.cov(fit.coefficients.T)
    assert np.all(np.diag(scatter) / np.diag(bound) > 0.95) and np.all(np.diag(scatter) / np.diag(bound) < 1.10)
    three = ([0, 1, 0], [0, 1, 1])
    assert np.abs(fit.covariance.mean(0)[three] / scatter[three] - 1).max() < 0.10


def test_electrons_are_in_the_unit_of_the_counts():
    """Of a camera with four counts per electron they are four times as many; the fitted curve is that of the counts."""
    model = spectrum_model()
    energy, references, mean = model.low_energy_eV, model.references("M2,3"), model.expected([10.0, 10.0], "low")
    options = {"window_eV": (42, 88), "nonnegative": False}
    one, four = (
        fit_phases(gain * 1e6 * mean, energy, references, gain=gain, electrons=gain * 1e6, **options)
        for gain in (1.0, 4.0)
    )
    np.testing.assert_allclose(four.coefficients, one.coefficients, rtol=1e-3)
    np.testing.assert_allclose(four.covariance, one.covariance, rtol=1e-2)
    np.testing.assert_allclose(four.curves()[0], 4 * one.curves()[0], rtol=1e-3)


def test_gain_and_readout_noise_enter_the_error_bars():
    rng = np.random.default_rng(5)
    y = 4.0 * draws([1, 1], 3.0, 4000, seed=5) + rng.normal(0, 8, (4000, ENERGY.size))
    fit = fit_phases(y, ENERGY, 12.0 * REFERENCES, nonnegative=False, gain=4.0, readout_noise=8.0)
    scatter = np.cov(fit.coefficients.T)
    np.testing.assert_allclose(fit.covariance.mean(0), scatter, rtol=0.1)
    assert fit.reduced_chi2.mean() == pytest.approx(1, abs=0.02)
    twice = fit_phases(y, ENERGY, 12.0 * REFERENCES, nonnegative=False, gain=1.0, scale_covariance=True)
    np.testing.assert_allclose(twice.covariance.mean(0), scatter, rtol=0.25)


def test_error_bars_hold_for_a_camera_with_readout_noise_and_point_spread():
    """The spread ties channels together, so chi² per channel falls; what an edge sees of the noise does not change."""
    model, camera = spectrum_model(), Detector(gain=4.0, readout_counts=8.0, point_spread_channels=0.8)
    maps = np.full((2, 45, 45), 12.0)
    low, _ = dual_eels(maps, 1e4, detector=camera, delocalisation=False, seed=11)
    references = gaussian_filter1d(model.references("M2,3"), 0.8, axis=-1)
    options = dict(low_loss=low, window_eV=(42, 88), gain=4.0, readout_noise=8.0, nonnegative=False)
    fit = fit_phases(low, None, references, **options)
    scatter = np.cov(fit.coefficients.reshape(-1, 2).T)
    np.testing.assert_allclose(np.median(fit.covariance, axis=(0, 1)), scatter, rtol=0.1)
    assert np.median(fit.reduced_chi2) < 0.6
    assert np.abs(fit.coefficients.mean(axis=(0, 1)) - 12).max() < 1.0


# --- physics on the twin


def test_low_loss_brings_plural_scattering_and_nanometres():
    model = spectrum_model()
    truth = np.array([[5.0, 10.0], [10.0, 18.0], [0.0, 30.0]])
    electrons = 1e6
    low, core = electrons * model.expected(truth, "low"), electrons * model.expected(truth, "core")
    e_low, e_core = model.low_energy_eV, model.core_energy_eV
    soft = fit_phases(low, e_low, model.references("M2,3"), low_loss=low, window_eV=(42, 88))
    hard = fit_phases(
        core,
        e_core,
        model.references("L2,3"),
        background="power_law",
        low_loss=low,
        low_loss_energy_eV=e_low,
        window_eV=(640, 750),
    )
    assert np.abs(soft.coefficients - truth).max() < 0.02 * truth.max()
    assert np.abs(hard.coefficients - truth).max() < 0.01 * truth.max()
    ignored = fit_phases(low, e_low, model.references("M2,3"), electrons=electrons, window_eV=(42, 88))
    assert np.abs(ignored.coefficients - truth).max() > 3 * np.abs(soft.coefficients - truth).max()


def test_one_low_loss_for_all_pixels_and_one_for_each():
    model = spectrum_model()
    low = 1e5 * model.expected([[10.0, 10.0]] * 3, "low")
    args = (low, model.low_energy_eV, model.references("M2,3"))
    tight = {"window_eV": (42, 88), "tolerance": 1e-6, "max_iterations": 30}
    each = fit_phases(*args, low_loss=low, **tight)
    alone = fit_phases(low[0], *args[1:], low_loss=low[0], **tight)
    np.testing.assert_allclose(each.coefficients[1], alone.coefficients, rtol=1e-8)
    np.testing.assert_allclose(each.covariance[1], alone.covariance, rtol=1e-6)
    # one for all serves the references only
    one = fit_phases(*args, low_loss=low[0], **tight)
    np.testing.assert_allclose(each.coefficients, one.coefficients, rtol=0.03)
    longer = fit_phases(3 * low, *args[1:], low_loss=low[0], exposure_ratio=3.0, window_eV=(42, 88))
    np.testing.assert_allclose(longer.coefficients, one.coefficients, rtol=1e-4)
    longer = fit_phases(3 * low, *args[1:], low_loss=low, exposure_ratio=3.0, window_eV=(42, 88))
    np.testing.assert_allclose(longer.coefficients, each.coefficients, rtol=1e-4)
    # your own shapes are not convolved: the fit is that of one low loss for all
    shapes = background_shapes(model.low_energy_eV[(model.low_energy_eV >= 42) & (model.low_energy_eV <= 88)])
    unconvolved = fit_phases(*args, low_loss=low, background=shapes, **tight)
    np.testing.assert_allclose(unconvolved.coefficients, one.coefficients, rtol=1e-6)


def test_a_low_loss_that_serves_the_background_is_in_counts():
    """Repeated losses have a fixed amplitude: a normalised low loss would change the result, so is refused."""
    model = spectrum_model()
    electrons = 1e5
    low = electrons * model.expected([[10.0, 10.0]] * 3, "low")
    args = (low, model.low_energy_eV, model.references("M2,3"))
    more = {"window_eV": (42, 88), "electrons": electrons}
    with pytest.raises(ValueError, match="low_loss"):
        fit_phases(*args, low_loss=low / electrons, **more)
    # one for all serves the references only, which may have any scale
    one = fit_phases(*args, low_loss=low[0], window_eV=(42, 88))
    scaled = fit_phases(*args, low_loss=low[0] / electrons, **more)
    np.testing.assert_allclose(scaled.coefficients, one.coefficients, rtol=1e-6)
    assert one.fixed == 0 and fit_phases(*args, low_loss=low, window_eV=(42, 88)).fixed is None


@pytest.mark.parametrize("off_eV", [-6.0, 6.0])
def test_a_pixel_whose_zero_loss_is_off_is_flagged(off_eV):
    model = spectrum_model()
    low = 1e5 * model.expected([[10.0, 10.0], [10.0, 10.0], [0.0, 0.0], [30.0, 60.0]], "low")
    good = low.copy()
    low[1] = np.roll(low[1], round(off_eV / (model.low_energy_eV[1] - model.low_energy_eV[0])))
    args = (model.low_energy_eV, model.references("M2,3"))
    fit = fit_phases(good, *args, low_loss=low, window_eV=(42, 88))
    assert ((fit.flags & FitFlag.BAD_INPUT) > 0).tolist() == [False, True, False, False]
    assert np.isnan(fit.coefficients[1]).all()


def test_a_low_loss_kept_as_it_is_may_lie_anywhere():
    """Nothing is parted from the zero loss then, and its place shifts the references."""
    model = spectrum_model()
    step = model.low_energy_eV[1] - model.low_energy_eV[0]
    low = 1e5 * model.expected([10.0, 10.0], "low")
    args = (model.low_energy_eV, model.references("M2,3"))
    more = {"background": background_shapes(np.maximum(model.low_energy_eV, 1)), "window_eV": (42, 88)}
    moved = fit_phases(low, *args, low_loss=np.roll(low, round(3 / step)), zero_loss_peak="keep", **more)
    assert np.isfinite(moved.coefficients).all()
    with pytest.raises(ValueError, match="align_zero_loss"):
        fit_phases(low, *args, low_loss=np.roll(low, round(3 / step)), **more)


@pytest.mark.parametrize("window", [(40, 90), (42, 88)])
def test_background_follows_the_plural_scattering_of_each_pixel(window):
    """True references in noise-free spectra of 0.1 to 0.6 mean free paths: within 1.5 % of the thickness."""
    model = spectrum_model()
    truth = np.array([[4.0, 8.0], [8.0, 24.0], [16.0, 16.0], [0.0, 30.0], [20.0, 50.0]])
    low = 1e6 * model.expected(truth, "low")
    fit = fit_phases(low, model.low_energy_eV, model.references("M2,3"), low_loss=low, window_eV=window)
    assert (np.abs(fit.coefficients - truth).max(-1) < 0.015 * truth.sum(-1)).all()
    for zero_loss_peak in ("delta", "keep"):
        one = fit_phases(
            low[1], model.low_energy_eV, model.references("M2,3"), low_loss=low[1], window_eV=window,
            zero_loss_peak=zero_loss_peak,
        )  # fmt: skip
        total, background = one.curves()
        seen = low[1][(model.low_energy_eV >= window[0]) & (model.low_energy_eV <= window[1])]
        np.testing.assert_allclose(total, seen, rtol=0.02)
        assert (background <= total * (1 + 1e-9)).all()


def test_maps_of_a_nanocube_within_their_error_bars():
    volume = core_shell_nanocube(16, 4.0)
    maps = 4.0 * volume.sum(axis=2)  # (C, Y, X), nm
    low, _ = dual_eels(maps, 1e3, pixel_size_nm=4.0, delocalisation=False, seed=6)
    model = spectrum_model()
    fit = fit_phases(low, None, model.references("M2,3"), low_loss=low, window_eV=(42, 88), nonnegative=False)
    z = (fit.coefficients - np.moveaxis(maps, 0, -1)) / fit.standard_error
    inside = maps.sum(axis=0) > 1
    assert 0.85 < z[inside].std() < 1.15
    assert np.abs(z[inside].mean(axis=0)).max() < 0.5
    assert fit.correlation[inside][:, 0, 1].mean() < -0.8


def test_a_series_keeps_tilts_pixels_and_phases(tmp_path):
    low, _ = dual_eels(np.full((2, 3, 2, 4), 5.0), 1e3, tilt_angles_deg=[-60, 0, 45.5], pixel_size_nm=2.5, seed=1)
    model = spectrum_model()
    fit = fit_phases(low, None, model.references("M2,3"), low_loss=low, window_eV=(42, 88), phases=model.phases)
    fit.save(tmp_path / "fit.hspy")
    for known in (fit, PhaseFit.load(tmp_path / "fit.hspy")):
        assert known.phases == ("FeO", "Fe3O4") and known.pixel_size_nm == 2.5
        np.testing.assert_allclose(known.tilt_angles_deg, [-60, 0, 45.5])
    series = read_tilt_series(tmp_path / "fit.hspy")
    assert series.channels == model.phases and series.pixel_size_nm == 2.5 and series.unit == "nm"
    np.testing.assert_allclose(np.moveaxis(series.projections, 0, -1), fit.coefficients, rtol=1e-6)
    np.testing.assert_allclose(series.covariance, fit.covariance)
    with pytest.raises(ValueError, match="phases"):
        fit_phases(low, None, model.references("M2,3"), low_loss=low, window_eV=(42, 88), phases=("FeO",))
    low.save(tmp_path / "spectra.hspy")
    with pytest.raises(ValueError, match="path"):
        PhaseFit.load(tmp_path / "spectra.hspy")


# --- errors of the references


def wrong_references(n=40, seed=0, size=0.1):
    """Samples (n, 2, E) of references that are mixed with each other and with background, and the mixing (n, 2, 2)."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(2) + size * rng.standard_normal((n, 2, 2))
    return mixing @ REFERENCES + 0.3 * rng.standard_normal((n, 2, 3)) @ TAIL, mixing


def test_samples_of_references_become_transforms_of_maps():
    samples, mixing = wrong_references()
    y = draws([1.0, 0.5], 100, 30, seed=3)
    fit = fit_phases(y, ENERGY, 100 * REFERENCES, reference_samples=100 * samples, nonnegative=False)
    np.testing.assert_allclose(fit.drawn.transforms, np.linalg.inv(mixing), rtol=1e-6, atol=1e-8)
    again = fit_phases(y, ENERGY, 100 * samples[7], nonnegative=False)
    np.testing.assert_allclose(fit.coefficients @ fit.drawn.transforms[7], again.coefficients, atol=1e-2)
    # second moment of the draws, in as many modes as there are directions
    away = fit.coefficients @ fit.drawn.transforms - fit.coefficients
    np.testing.assert_allclose(fit.systematic_error, np.sqrt((away**2).mean(axis=0)), rtol=1e-3)
    assert len(fit.systematic) == 4
    exact = fit_phases(y, ENERGY, 100 * REFERENCES)
    assert exact.systematic.shape == (0, 2, 2) and not exact.systematic_error.any()


def test_in_a_sum_statistical_errors_add_in_quadrature_and_systematic_ones_linearly():
    samples, _ = wrong_references()
    y = np.tile(expected([1.0, 0.5], 100), (25, 1)).reshape(5, 5, -1)
    fit = fit_phases(y, ENERGY, 100 * REFERENCES, reference_samples=100 * samples)
    whole = fit.summed()
    np.testing.assert_allclose(whole.coefficients, 25 * fit.coefficients[0, 0])
    np.testing.assert_allclose(whole.standard_error, 5 * fit.standard_error[0, 0])
    np.testing.assert_allclose(whole.systematic_error, 25 * fit.systematic_error[0, 0])
    half = fit.summed(np.arange(25).reshape(5, 5) < 10)
    np.testing.assert_allclose(half.coefficients, 10 * fit.coefficients[0, 0])
    for mask in (np.ones(3, bool), np.zeros((5, 5), bool)):
        with pytest.raises(ValueError, match="mask"):
            fit.summed(mask)


def test_references_are_drawn_once_for_each_member():
    samples, _ = wrong_references()
    fit = fit_phases(draws([1, 1], 100, 3, seed=0), ENERGY, 100 * REFERENCES, reference_samples=100 * samples)
    drawn = fit.draw_references(500, seed=1)
    np.testing.assert_array_equal(drawn, fit.draw_references(500, seed=1))
    assert not np.array_equal(drawn, fit.draw_references(500, seed=2))
    spread = np.sqrt(((fit.coefficients @ drawn - fit.coefficients) ** 2).mean(axis=0))
    np.testing.assert_allclose(spread, fit.systematic_error, rtol=0.25)
    with pytest.raises(ValueError, match="reference_samples"):
        fit_phases(draws([1, 1], 100, 3, seed=0), ENERGY, REFERENCES).draw_references(3)


def test_iron_and_valence_with_both_errors():
    iron, valence = np.array([50.0, 40.0]), np.array([2.0, 8 / 3])
    samples, _ = wrong_references(200)
    y = draws([1.0, 0.5], 200, 4000, seed=4)
    known = {"metal_per_nm3": iron, "valence": valence, "nonnegative": False}
    fit = fit_phases(y, ENERGY, 200 * REFERENCES, reference_samples=200 * samples, **known)
    assert fit.metal().value.mean() == pytest.approx(70, rel=0.01)
    assert fit.mean_valence().value.mean() == pytest.approx((50 * 2 + 20 * 8 / 3) / 70, abs=0.01)
    for estimate in (fit.metal(), fit.mean_valence()):
        assert estimate.statistical.mean() == pytest.approx(estimate.value.std(), rel=0.1)
    # against the maps of each sample, one by one
    one = fit.summed()
    each = one.coefficients @ fit.drawn.transforms
    total = each @ iron
    assert one.metal().systematic == pytest.approx(np.sqrt(((total - one.metal().value) ** 2).mean()), rel=1e-6)
    away = each @ (iron * valence) / total - one.mean_valence().value
    assert one.mean_valence().systematic == pytest.approx(np.sqrt((away**2).mean()), rel=0.3)
    exact = fit_phases(y, ENERGY, 200 * REFERENCES, **known)
    assert not exact.metal().systematic.any() and not exact.mean_valence().systematic.any()
    # exchanging one phase for the other changes the amount of iron less than either phase
    assert exact.metal().statistical.mean() / 70 < 0.5 * (exact.standard_error / exact.coefficients.mean(0)).min()
    with pytest.raises(ValueError, match="references"):
        fit_phases(y[:3], ENERGY, REFERENCES).metal()


@pytest.mark.parametrize(
    "change, word",
    [
        ({"reference_samples": REFERENCES}, "reference_samples"),
        ({"reference_samples": np.full((3, *REFERENCES.shape), np.nan)}, "reference_samples"),
        ({"metal_per_nm3": [1.0, 2.0, 3.0]}, "metal_per_nm3"),
        ({"metal_per_nm3": [1.0, 2.0], "valence": [2.0, -1.0]}, "valence"),
    ],
)
def test_bad_samples_are_named(change, word):
    with pytest.raises(ValueError, match=word):
        fit_phases(draws([1, 1], 10, 4, seed=1), ENERGY, REFERENCES, **change)


def test_warnings_of_the_references_travel_with_the_fit(tmp_path):
    samples, _ = wrong_references(20)
    known = {"metal_per_nm3": np.array([50.0, 40.0]), "valence": np.array([2.0, 8 / 3])}
    draws_of = {"metal_samples": np.full((20, 2), 50.0), "valence_samples": np.full((20, 2), 2.0)}
    told = ("Something does not fit.", "Nor does this.")
    found = Standards("iron_oxides", ("FeO", "Fe3O4"), ENERGY, REFERENCES, 0 * REFERENCES, samples, **known, **draws_of)
    y = draws([1.0, 0.5], 100, 100, seed=3).reshape(10, 10, -1)
    assert fit_phases(y, ENERGY, found).warnings == ()
    fit = fit_phases(y, ENERGY, replace(found, warnings=told))
    assert fit.warnings == ("References: Something does not fit.", "References: Nor does this.")
    fit.save(tmp_path / "fit.hspy")
    assert PhaseFit.load(tmp_path / "fit.hspy").warnings == fit.summed().warnings == fit.warnings


def test_fits_of_earlier_versions_keep_their_chemistry(tmp_path):
    known = {"metal_per_nm3": [50.0, 40.0], "valence": [2.0, 8 / 3]}
    fit = fit_phases(draws([1.0, 0.5], 100, 4, seed=3), ENERGY, 100 * REFERENCES, **known)
    fit.save(tmp_path / "fit.hspy")
    former = read_signal(tmp_path / "fit.hspy")
    about = former.metadata.SoftEELS.fit
    about.drawn = about.drawn.replace("metal_per_nm3", "iron_per_nm3")
    np.testing.assert_allclose(PhaseFit.from_signal(former).metal().value, fit.metal().value)


def test_errors_of_the_references_are_saved(tmp_path):
    samples, _ = wrong_references()
    y = draws([1.0, 0.5], 100, 100, seed=3).reshape(10, 10, -1)
    known = {"reference_samples": 100 * samples, "metal_per_nm3": [50.0, 40.0], "valence": [2.0, 8 / 3]}
    fit = fit_phases(y, ENERGY, 100 * REFERENCES, shift_error_eV=0.1, **known)
    fit.save(tmp_path / "fit.hspy")
    back = PhaseFit.load(tmp_path / "fit.hspy")
    np.testing.assert_allclose(back.systematic_error, fit.systematic_error)
    np.testing.assert_allclose(back.mean_valence().systematic, fit.mean_valence().systematic)
    np.testing.assert_allclose(back.binned_residual, fit.binned_residual)
    np.testing.assert_allclose(back.energy_errors, fit.energy_errors)
    assert back.misfit.structure == pytest.approx(fit.misfit.structure)
    fit_phases(y, ENERGY, 100 * REFERENCES).save(tmp_path / "plain.hspy")
    assert PhaseFit.load(tmp_path / "plain.hspy").drawn is None


# --- errors of the energy axis


def shifted(coefficients, scale, shifts):
    """Expected counts whose edges are shifted by ``shifts`` (n,), eV."""
    edges = np.asarray(coefficients) @ REFERENCES
    moved = np.array([np.interp(ENERGY - s, ENERGY, edges) for s in shifts])
    return scale * (moved + np.array([1.0, 2.0, 1.0]) @ TAIL)


@pytest.mark.parametrize("variance", [None, "one for all"])
@pytest.mark.parametrize("scale, correlation", [(300, 0.5), (3000, 0.9)])
def test_shifted_spectra_are_fitted_with_their_shift(scale, correlation, variance):
    """The difference of the two phases looks like a shift: the error bars must grow to the scatter, and no further."""
    rng = np.random.default_rng(8)
    shifts = 0.1 * rng.standard_normal(1500)
    mean = shifted([1.0, 0.5], scale, shifts)
    y = rng.poisson(mean)
    options = {"nonnegative": False, "variance": mean.mean(axis=0) if variance else None}
    plain = fit_phases(y, ENERGY, scale * REFERENCES, **options)
    fit = fit_phases(y, ENERGY, scale * REFERENCES, shift_error_eV=0.1, **options)
    found = fit.energy_errors[:, 0]
    assert np.corrcoef(found, shifts)[0, 1] > correlation and np.abs(found).max() <= 0.3
    assert fit.coefficients.std(axis=0) == pytest.approx(fit.standard_error.mean(axis=0), rel=0.1)
    assert (fit.coefficients.std(axis=0) < 0.9 * plain.coefficients.std(axis=0)).all()
    assert (plain.coefficients.std(axis=0) > 1.5 * plain.standard_error.mean(axis=0)).all()
    assert fit.coefficients.mean(axis=0) == pytest.approx([1.0, 0.5], abs=0.03)
    assert np.median(fit.reduced_chi2) == pytest.approx(1, abs=0.04) and plain.energy_errors is None


def test_a_broadening_is_a_second_parameter():
    wide = gaussian_filter1d(np.array([1.0, 0.5]) @ REFERENCES, 0.5 / 0.25, mode="nearest")
    y = 3000 * (wide + np.array([1.0, 2.0, 1.0]) @ TAIL)
    plain, fit = (
        fit_phases(y, ENERGY, 3000 * REFERENCES, nonnegative=False, **options)
        for options in ({}, {"shift_error_eV": 0.1, "broadening_error_eV": 0.6})
    )
    assert fit.energy_errors[1] == pytest.approx(0.25, rel=0.3) and abs(fit.energy_errors[0]) < 0.05
    assert fit.reduced_chi2 < 0.1 * plain.reduced_chi2
    off = np.abs([plain.coefficients - [1.0, 0.5], fit.coefficients - [1.0, 0.5]])
    assert (off[1] < 0.9 * off[0]).all()
    with pytest.raises(ValueError, match="shift_error_eV"):
        fit_phases(y, ENERGY, REFERENCES, shift_error_eV=-0.1)


# --- what cannot be known


def test_maghemite_is_a_sum_of_wustite_and_magnetite_at_m23():
    model = spectrum_model(phases=("FeO", "Fe3O4", "gamma-Fe2O3"), energy_resolution_eV=0.3)
    energy = model.energy_eV("M2,3")
    inside = (energy > 50) & (energy < 75)
    iron = model.system.metal_per_nm3(model.phases)
    phases = model.references("M2,3")[:, inside] / np.asarray(iron)[:, None]
    found = confusable_phases(energy[inside], phases, ["FeO", "Fe3O4", "maghemite"], background=None)
    assert found[2].mixture["FeO"] == pytest.approx(-0.5, abs=0.05)
    assert found[2].mixture["Fe3O4"] == pytest.approx(1.5, abs=0.05)
    two = confusable_phases(energy[inside], phases[:2], ["FeO", "Fe3O4"], background=None, least_deg=3.0)
    assert all(confusion.distinct for confusion in two) and two[0].angle_deg > 3 > found[2].angle_deg
    assert "distinct from" in str(found[2])


def test_references_that_are_not_well_known_are_not_distinct():
    phases = [gauss(56, 2), gauss(60, 2), 0.5 * gauss(56, 2) + 0.5 * gauss(60, 2) + 0.1 * gauss(58, 1)]
    names = ["A", "B", "C"]
    known, vague = (confusable_phases(ENERGY, phases, names, uncertainty=u)[2] for u in (0.001, 0.1))
    assert known.distinct and not vague.distinct
    assert vague.expected_deg > 10 * known.expected_deg
    for change, word in (({"names": ["A"]}, "names"), ({"window_eV": (50, 50.5)}, "window_eV")):
        with pytest.raises(ValueError, match=word):
            confusable_phases(ENERGY, phases, **{"names": names, **change})


def test_a_fit_with_references_that_are_alike_says_so():
    names = ("FeO", "Fe3O4", "gamma-Fe2O3")
    model = spectrum_model(phases=names)
    energy, references = model.energy_eV("M2,3"), model.references("M2,3")
    background = 1e4 * (np.maximum(energy, 20) / 40) ** -3.0
    counts = 1e7 * np.array([[8.0, 8, 4], [4, 8, 8]]) @ references + background
    options = {"window_eV": (42, 88), "nonnegative": False}
    three = fit_phases(counts, energy, references, phases=names, **options)
    assert len(three.doubts) == 1 and all(name in three.doubts[0] for name in names)
    assert not fit_phases(counts, energy, references[:2], phases=names[:2], **options).doubts
    assert "reference 2" in fit_phases(counts, energy, references, **options).doubts[0]


# --- misfit of a whole fit


def test_a_fit_that_fits_has_no_warnings():
    fit = fit_phases(draws([1.0, 0.5], 10, 2000, seed=5), ENERGY, 10 * REFERENCES)
    assert fit.warnings == () and fit.misfit.p_value > 1e-4
    assert fit.misfit.median_chi2 == pytest.approx(1, abs=0.03)
    assert fit_phases(draws([1, 1], 10, 1, seed=0)[0], ENERGY, REFERENCES).warnings == ()


@pytest.mark.parametrize("variance", [None, "one for all", "one for each"])
def test_a_third_phase_shows_in_the_sum_of_the_residuals(variance):
    """A line of 3 % of the edges: no single pixel's chi² shows it."""
    mean = expected([1.0, 0.5], 10) + 10 * 0.12 * gauss(66, 0.7)
    y = np.random.default_rng(6).poisson(np.tile(mean, (3000, 1)))
    variance = {None: None, "one for all": mean, "one for each": np.tile(mean, (3000, 1))}[variance]
    fit = fit_phases(y, ENERGY, 10 * REFERENCES, variance=variance)
    assert ((fit.flags & FitFlag.POOR_FIT) > 0).mean() < 0.01
    assert fit.misfit.p_value < 1e-10 and fit.misfit.structure > 0.02
    assert len(fit.warnings) == 1 and "structure" in fit.warnings[0]


def test_a_bound_is_no_misfit_of_the_model_and_biases_the_sum():
    """Pixels of one phase only, exact shapes: half of them are at the bound of the other."""
    y, references = draws([0.0, 1.0], 10, 2000, seed=21), 10 * REFERENCES
    for variance in (None, expected([0.0, 1.0], 10)):
        fit, free = (fit_phases(y, ENERGY, references, variance=variance, nonnegative=n) for n in (True, False))
        assert fit.warnings == () and free.warnings == ()
        np.testing.assert_allclose(fit.misfit.residual, free.misfit.residual, atol=0.02)
        biased, total = fit.summed(), free.summed()
        assert biased.coefficients[0] > 5 * total.standard_error[0] > abs(total.coefficients[0])
        assert biased.flags == FitFlag.AT_BOUND and "at its bound" in biased.warnings[0]
        assert total.flags == FitFlag.OK and total.warnings == ()


def test_a_right_model_of_few_pixels_is_seldom_improbable():
    """48 pixels: T² has the distribution of Hotelling, whose tail is far above that of chi²."""
    y = draws([1.0, 0.5], 10, 48 * 120, seed=22)
    fits = [fit_phases(part, ENERGY, 10 * REFERENCES, nonnegative=False) for part in np.split(y, 120)]
    p = np.array([fit.misfit.p_value for fit in fits])
    assert (p < 1e-3).sum() <= 1 and 0.35 < p.mean() < 0.65


def test_counts_that_a_camera_has_spoiled_are_named(tmp_path):
    model = spectrum_model()
    energy, references = model.low_energy_eV, model.references("M2,3")
    options = {"window_eV": (42, 88), "nonnegative": False}
    low = np.random.default_rng(8).poisson(np.tile(1e5 * model.expected([10.0, 10.0], "low"), (60, 1))).astype(float)
    assert fit_phases(low, energy, references, low_loss=low, **options).warnings == ()
    cut = np.minimum(low, 0.3 * low.max())
    assert "saturated" in fit_phases(cut, energy, references, low_loss=cut, **options).warnings[0]
    low[:, np.argmin(np.abs(energy - 56.5))] = 0
    fit = fit_phases(low, energy, references, low_loss=low, **options)
    assert "56.50 eV" in fit.warnings[0]
    fit.save(tmp_path / "fit.hspy")
    assert PhaseFit.load(tmp_path / "fit.hspy").warnings == fit.warnings


def test_a_gain_that_is_not_stated_is_noticed_on_either_side():
    y = draws([1.0, 0.5], 30, 500, seed=7)
    for gain, flag in ((4.0, FitFlag.TOO_GOOD), (0.25, FitFlag.POOR_FIT)):
        fit = fit_phases(y, ENERGY, 30 * REFERENCES, gain=gain)
        assert ((fit.flags & flag) > 0).mean() > 0.9
        assert any("gain" in sentence for sentence in fit.warnings)
    vacuum = fit_phases(np.zeros((100, ENERGY.size)), ENERGY, REFERENCES)
    assert not (vacuum.flags & FitFlag.TOO_GOOD).any() and vacuum.warnings == ()


# --- containers


def test_dask_and_lazy_signals_give_the_same_as_arrays(tmp_path):
    import dask.array as da

    volume = core_shell_nanocube(10, 6.0)
    low, _ = dual_eels(6.0 * volume.sum(axis=2), 1e3, pixel_size_nm=6.0, detector=Detector(), seed=7)
    model = spectrum_model()
    more = dict(low_loss=low, window_eV=(42, 88))
    plain = fit_phases(low, None, model.references("M2,3"), **more)
    assert isinstance(plain.coefficients, np.ndarray) and plain.coefficients.shape == (10, 10, 2)
    lazy = fit_phases(low.as_lazy(), None, model.references("M2,3"), **{**more, "low_loss": low.as_lazy()})
    assert isinstance(lazy.coefficients, da.Array)
    done = lazy.compute()
    for name in ("coefficients", "covariance", "reduced_chi2", "residual_rms", "background"):
        np.testing.assert_allclose(getattr(done, name), getattr(plain, name), rtol=1e-7, atol=1e-10)
    np.testing.assert_array_equal(done.flags, plain.flags)
    chunked = da.from_array(low.data, chunks=(3, 4, 300))
    again = fit_phases(chunked, model.low_energy_eV, model.references("M2,3"), **{**more, "low_loss": low.data})
    np.testing.assert_allclose(again.compute().coefficients, plain.coefficients, rtol=1e-7, atol=1e-10)
    lazy.save(tmp_path / "fit.hspy")
    back = PhaseFit.load(tmp_path / "fit.hspy")
    np.testing.assert_allclose(back.coefficients, plain.coefficients, rtol=1e-7, atol=1e-10)
    np.testing.assert_array_equal(back.flags, plain.flags)
    assert back.covariance.shape == (10, 10, 2, 2)


@pytest.mark.slow
def test_lazy_spectra_on_two_workers_of_which_one_is_killed(tmp_path):
    """Workers are processes and read the file themselves; what the dead one had fitted is fitted again."""
    import hyperspy.api as hs
    from dask.distributed import Client, LocalCluster

    maps = 2.0 * core_shell_nanocube(32, 2.0).sum(axis=2)
    low, _ = dual_eels(np.stack([maps] * 30, axis=1), 2e3, pixel_size_nm=2.0, detector=Detector(), seed=7)
    low.metadata.set_item("Tomography.tilts", np.linspace(-60, 60, 30).tolist())
    low.save(tmp_path / "low.hspy", chunks=(1, *low.data.shape[1:]))
    references, options = spectrum_model().references("M2,3"), {"window_eV": (42, 88), "scale_covariance": True}
    plain = fit_phases(low, None, references, low_loss=low, **options)
    series = hs.load(tmp_path / "low.hspy", lazy=True)
    lazy = fit_phases(series, None, references, low_loss=series, **options)
    with (
        LocalCluster(n_workers=2, **CLUSTER) as cluster,
        Client(cluster) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        pids = client.run(os.getpid)
        job, until, holds = pool.submit(lazy.compute), time.monotonic() + 60, []
        while not holds and time.monotonic() < until:
            time.sleep(0.02)
            holds = [worker for worker, results in client.has_what().items() if results]
        assert holds and not job.done()
        os.kill(pids[holds[0]], signal.SIGKILL)
        done = job.result(timeout=120)
        assert holds[0] not in client.scheduler_info()["workers"]
    for name in ("coefficients", "covariance", "background", "reduced_chi2", "residual_rms", "binned_residual"):
        np.testing.assert_allclose(getattr(done, name), getattr(plain, name), rtol=1e-7, atol=1e-7, err_msg=name)
    # Other blocks and threads round otherwise: a phase that is exactly 0 may come out just above it.
    np.testing.assert_array_equal(done.flags & ~FitFlag.AT_BOUND, plain.flags & ~FitFlag.AT_BOUND)
    assert (done.flags != plain.flags).mean() < 2e-3
    np.testing.assert_array_equal(done.tilt_angles_deg, plain.tilt_angles_deg)
    assert done.warnings == plain.warnings


def test_a_variance_per_pixel_may_be_lazy():
    import dask.array as da

    y = draws([1, 0.2], 5, 40, seed=13).reshape(5, 8, -1)
    variance = np.maximum(y, 1.0)
    plain = fit_phases(y, ENERGY, REFERENCES, variance=variance)
    for spectra in (y, da.from_array(y, chunks=(2, 3, 50))):
        lazy = fit_phases(spectra, ENERGY, REFERENCES, variance=da.from_array(variance, chunks=(5, 4, 60)))
        assert isinstance(lazy.coefficients, da.Array)
        np.testing.assert_allclose(lazy.compute().coefficients, plain.coefficients, rtol=1e-9, atol=1e-12)


def test_blocks_and_leading_axes_do_not_matter():
    y = draws([1, 0.2], 5, 300, seed=8)
    whole = fit_phases(y, ENERGY, REFERENCES)
    shaped = fit_phases(y.reshape(3, 10, 10, -1), ENERGY, REFERENCES)
    alone = fit_phases(y[7], ENERGY, REFERENCES)
    np.testing.assert_allclose(shaped.coefficients.reshape(300, 2), whole.coefficients, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(alone.coefficients, whole.coefficients[7], rtol=1e-9, atol=1e-12)
    assert alone.covariance.shape == (2, 2) and alone.flags.shape == ()


# --- flags and bad input


def test_bad_pixels_are_flagged_and_the_others_fitted():
    y = draws([1, 1], 10, 6, seed=9).astype(float)
    good = fit_phases(y, ENERGY, REFERENCES)
    y[2, 10] = np.nan
    y[4, 3] = np.inf
    fit = fit_phases(y, ENERGY, REFERENCES)
    bad = (fit.flags & FitFlag.BAD_INPUT) > 0
    assert bad.tolist() == [False, False, True, False, True, False]
    assert np.isnan(fit.coefficients[bad]).all() and np.isnan(fit.covariance[bad]).all()
    np.testing.assert_array_equal(fit.coefficients[~bad], good.coefficients[~bad])
    variance = np.full(y.shape, 10.0)
    variance[1, 0], variance[3, 0] = 0.0, -1.0
    fit = fit_phases(y, ENERGY, REFERENCES, variance=variance)
    assert ((fit.flags & FitFlag.BAD_INPUT) > 0).tolist() == [False, True, True, True, True, False]


@pytest.mark.parametrize("nonnegative", [True, False])
def test_one_variance_for_all_pixels_is_the_same_as_one_for_each(nonnegative):
    y = draws([1, 0.05], 10, 700, seed=12).astype(np.float32)
    y[5, 60:63] += 3000  # a misfit
    y[3, 10], y[600, 3] = np.nan, np.inf
    masked = np.full(ENERGY.size, 7.0)
    masked[50] = np.inf
    for variance in (7.0, np.linspace(5, 9, ENERGY.size), masked):
        options = dict(nonnegative=nonnegative, scale_covariance=True)
        one = fit_phases(y, ENERGY, REFERENCES, variance=variance, **options)
        each = fit_phases(y, ENERGY, REFERENCES, variance=np.broadcast_to(variance, y.shape), **options)
        np.testing.assert_array_equal(one.flags, each.flags)
        for name in ("coefficients", "background", "covariance", "reduced_chi2", "residual_rms"):
            np.testing.assert_allclose(getattr(one, name), getattr(each, name), rtol=1e-7, atol=1e-9, err_msg=name)
    assert one.flags[5] & FitFlag.POOR_FIT and (one.flags[[3, 600]] & FitFlag.BAD_INPUT).all()


def test_a_variance_that_leaves_too_few_channels_is_refused_in_silence(recwarn):
    with pytest.raises(ValueError, match="variance"):
        fit_phases(draws([1, 1], 10, 5, seed=1), ENERGY, REFERENCES, variance=np.full(ENERGY.size, np.inf))
    assert not recwarn.list


def test_flags_of_vacuum_bounds_and_misfit():
    vacuum = fit_phases(np.zeros((3, ENERGY.size)), ENERGY, REFERENCES)
    assert np.isfinite(vacuum.covariance).all() and (np.diagonal(vacuum.covariance, axis1=-2, axis2=-1) > 0).all()
    assert (vacuum.flags & FitFlag.FEW_COUNTS).all()
    np.testing.assert_allclose(vacuum.coefficients, 0, atol=1e-9)
    bound = fit_phases(draws([1.0, 0.0], 50, 50, seed=10), ENERGY, REFERENCES)
    at = (bound.flags & FitFlag.AT_BOUND) > 0
    np.testing.assert_array_equal(at, (bound.coefficients == 0).any(-1))
    assert 0.3 < at.mean() < 0.7
    odd = expected([1, 1], 100) + 500 * gauss(65, 0.5)
    assert fit_phases(odd, ENERGY, REFERENCES).flags & FitFlag.POOR_FIT


Y = expected([1, 1], 10) * np.ones((4, 1))


@pytest.mark.parametrize(
    "change, word",
    [
        (dict(spectra=Y.T), "last axis"),
        (dict(spectra=np.full_like(Y, np.nan)), "spectra"),
        (dict(energy_eV=None), "energy_eV"),
        (dict(energy_eV=ENERGY[::-1]), "energy_eV"),
        (dict(window_eV=(20, 60)), "window_eV"),
        (dict(window_eV=(50, 51)), "window_eV"),
        (dict(references=None), "references"),
        (dict(references=REFERENCES[:, 1:]), "references"),
        (dict(references=REFERENCES * np.nan), "references"),
        (dict(references=np.stack([REFERENCES[0], 2 * REFERENCES[0]])), "references.*collinear with the other"),
        (dict(references=np.stack([REFERENCES[0], ENERGY**-3.0])), "references.*collinear with the background"),
        (dict(references=np.stack([REFERENCES[0], 0 * ENERGY])), "references.*zero"),
        (dict(references=np.ones((9, ENERGY.size))), "nonnegative"),
        (dict(variance=0.0), "variance"),
        (dict(variance=-np.ones(ENERGY.size)), "variance"),
        (dict(variance=np.zeros_like(Y)), "variance"),
        (dict(variance=np.ones(3)), "variance"),
        (dict(background="spline"), "background"),
        (dict(background=np.ones((2, 3))), "background"),
        (dict(background=(3.0, 3.0)), "background"),
        (dict(background=np.zeros((1, ENERGY.size))), "background"),
        (dict(nonnegative=(True, False, True)), "nonnegative"),
        (dict(max_iterations=0), "max_iterations"),
        (dict(gain=0.0), "gain"),
        (dict(readout_noise=-1.0), "readout_noise"),
        (dict(electrons=0.0), "electrons"),
        (dict(low_loss=np.ones((3, ENERGY.size)), low_loss_energy_eV=ENERGY - 50), "low_loss"),
        (dict(low_loss=np.ones(ENERGY.size)), "low_loss_energy_eV"),
        (dict(low_loss=Y, low_loss_energy_eV=ENERGY - 50, zero_loss_peak="drop"), "zero_loss_peak"),
        (dict(exposure_ratio=0.0), "exposure_ratio"),
    ],
)
def test_bad_arguments_are_named(change, word):
    good = dict(spectra=Y, energy_eV=ENERGY, references=REFERENCES)
    with pytest.raises(ValueError, match=word):
        fit_phases(**{**good, **change})


def test_power_laws_need_positive_energies():
    energy = ENERGY - 60
    with pytest.raises(ValueError, match="window_eV"):
        fit_phases(Y, energy, REFERENCES)
    assert background_shapes(energy, None).shape == (0, energy.size)
