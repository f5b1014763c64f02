"""Signal, bounds and their Monte-Carlo confirmation, comparison of edges, planner, calculator."""

import json

import numpy as np
import pytest

from softeels_utils import dose, fitting, simulate

WINDOWS = {"M2,3": (53, 73), "L2,3": (706, 746)}


@pytest.fixture(scope="module")
def model():
    return simulate.spectrum_model()


# ---------------------------------------------------------------------------------------------------- signal


@pytest.mark.parametrize(("collection", "ratio"), [(40.0, 55.0), (20.0, 61.0)])
def test_signal_ratio_at_300_kV(collection, ratio):
    assert dose.signal_ratio("M2,3", "L2,3", collection_mrad=collection) == pytest.approx(ratio, rel=0.1)


# ---------------------------------------------------------------------------------------------------- bounds


def test_bound_is_the_inverse_of_the_full_fisher_information(model):
    linear = dose.linear_model(model, 1e4, thickness_nm=(8.0, 14.0))
    design = np.concatenate([linear.phases, linear.background])
    scale = np.linalg.norm(design, axis=1)
    fisher = (design / scale[:, None] / linear.expected) @ (design / scale[:, None]).T
    full = np.linalg.inv(fisher) / np.outer(scale, scale)
    bound = dose.phase_bound(model, 1e4, thickness_nm=(8.0, 14.0))
    np.testing.assert_allclose(bound, full[:2, :2], rtol=1e-6)
    assert bound[0, 1] < 0  # similar shapes: what one phase gains the other loses


@pytest.mark.parametrize("edge", ["M2,3", "L2,3"])
def test_bound_scales_with_electrons_and_grows_with_ignorance(model, edge):
    bound = dose.phase_bound(model, 1e4, edge=edge)
    np.testing.assert_allclose(dose.phase_bound(model, 4e4, edge=edge), bound / 4, rtol=1e-9)
    np.testing.assert_allclose(dose.phase_bound(model, 1e4, edge=edge, pixel_size_nm=0.8), bound / 4, rtol=1e-9)
    # more unknowns, a narrower window or readout noise can only take information away
    fewer = dose.phase_bound(model, 1e4, edge=edge, background=[3.0])
    lo, hi = dose.FIT_WINDOW_EV[edge]
    narrow = dose.phase_bound(model, 1e4, edge=edge, window_eV=(lo + 3, hi - 3))
    noisy = dose.phase_bound(model, 1e4, edge=edge, readout_counts=2.0)
    for worse, better in ((bound, fewer), (narrow, bound), (noisy, bound)):
        assert np.linalg.eigvalsh(worse - better).min() > -1e-9 * np.trace(worse)
        assert np.trace(worse) > np.trace(better)
    assert np.allclose(dose.phase_bound(model, 1e4, edge=edge, readout_counts=8.0, gain=4.0), noisy)


@pytest.mark.parametrize("edge", ["M2,3", "L2,3"])
def test_monte_carlo_meets_the_bound(model, edge):
    """Variance over bound of 4,000 simulated and fitted pixels, off-diagonal too."""
    linear = dose.linear_model(model, 1e5, edge=edge)
    counts = dose.simulate_counts(linear, 4000, seed=11)
    fit = fitting.fit_phases(counts, linear.energy_eV, linear.phases, background=linear.background, nonnegative=False)
    bound = dose.phase_bound(model, 1e5, edge=edge)
    scatter = np.cov(fit.coefficients.T)
    ratio = scatter / bound
    assert (ratio > 0.95).all() and (ratio < 1.10).all()
    pull = (fit.coefficients.mean(axis=0) - linear.thickness_nm) / np.sqrt(np.diag(bound) / len(counts))
    assert np.abs(pull).max() < 4
    np.testing.assert_allclose(np.mean(fit.covariance, axis=0), scatter, rtol=0.1)


def test_monte_carlo_with_readout_noise(model):
    linear = dose.linear_model(model, 2e4, readout_counts=6.0)
    counts = dose.simulate_counts(linear, 3000, seed=5)
    fit = fitting.fit_phases(
        counts, linear.energy_eV, linear.phases, background=linear.background, nonnegative=False, readout_noise=6.0
    )
    ratio = np.cov(fit.coefficients.T) / dose.phase_bound(model, 2e4, readout_counts=6.0)
    assert (ratio > 0.93).all() and (ratio < 1.10).all()


def test_background_shapes_follow_the_twin(model):
    """The linear model's background is off by less than 3 % of a standard deviation per channel at 1e4 e/Å²."""
    for edge in WINDOWS:
        for thickness in ((5.0, 5.0), (15.0, 15.0)):
            assert dose.linear_model(model, 1e4, edge=edge, thickness_nm=thickness).misfit < 0.03


def test_measured_spectrum_takes_the_place_of_the_model(model):
    thickness = [[[10.0]], [[10.0]]]
    low, core = simulate.dual_eels(thickness, 1e4, noise=False, delocalisation=False)
    for signal, edge in ((low, "M2,3"), (core, "L2,3")):
        spectrum = dose.measured_spectrum(signal, model, edge)
        same = dose.phase_bound(model, 1e4, edge=edge, spectrum=spectrum)
        np.testing.assert_allclose(same, dose.phase_bound(model, 1e4, edge=edge), rtol=0.02)
        dark = dose.phase_bound(model, 1e4, edge=edge, spectrum=4 * spectrum)
        np.testing.assert_allclose(dark, 4 * same, rtol=1e-6)
    assert simulate.Microscope.from_metadata(low, simulate.Microscope(beam_energy_keV=80)) == model.microscope
    with pytest.raises(ValueError, match="no L2,3 edge"):
        core.data[:] = 1e6 * core.axes_manager.signal_axes[0].axis ** -3.0
        dose.measured_spectrum(core, model, "L2,3")
    with pytest.raises(ValueError, match="signal: got energies"):
        dose.measured_spectrum(low, model, "L2,3")


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"fluence_e_per_A2": 0}, "fluence_e_per_A2"),
        ({"edge": "K"}, "edge"),
        ({"thickness_nm": (1.0,)}, "thickness_nm"),
        ({"thickness_nm": (1.0, -1.0)}, "thickness_nm"),
        ({"pixel_size_nm": np.inf}, "pixel_size_nm"),
        ({"window_eV": (60, 50)}, "window_eV"),
        ({"window_eV": (60, 900)}, "window_eV"),
        ({"window_eV": (60, 60.5)}, "window_eV"),
        ({"readout_counts": -1}, "readout_counts"),
        ({"gain": 0}, "gain"),
        ({"spectrum": np.ones(7)}, "spectrum"),
        ({"background": "cubic"}, "background"),
    ],
)
def test_bad_bounds_are_named(model, bad, name):
    with pytest.raises(ValueError, match=name):
        dose.phase_bound(model, **{"fluence_e_per_A2": 1e4, **bad})


@pytest.mark.parametrize("array", ["spectrum", "thickness_nm"])
def test_acquisitions_with_arrays_can_be_compared_and_hashed(array):
    one, other = (dose.Acquisition(**{array: np.ones(2)}) for _ in range(2))
    assert one == one and one != other and len({one, one, other}) == 2


def test_a_default_window_off_the_axis_is_named():
    with pytest.raises(ValueError, match=r"window_eV: got \(640\.0, 750\.0\), wants energies within 500 to 700 eV"):
        dose.Acquisition(edge="L2,3").in_window(np.arange(500, 701))


def test_acquisition_holds_the_settings_of_all_functions(model):
    acquisition = dose.Acquisition(edge="L2,3", thickness_nm=(5.0, 15.0), readout_counts=2.0)
    bound = dose.phase_bound(model, 1e4, edge="L2,3", thickness_nm=(5.0, 15.0), readout_counts=2.0)
    np.testing.assert_array_equal(dose.phase_bound(model, 1e4, acquisition), bound)
    np.testing.assert_array_equal(
        dose.phase_bound(model, 1e4, acquisition, edge="M2,3"),
        dose.phase_bound(model, 1e4, thickness_nm=(5.0, 15.0), readout_counts=2.0),
    )
    plan = dose.plan_tilt_series(model, 2e4, acquisition, tilts=(2, 4))
    np.testing.assert_allclose(plan.error_nm[0] ** 2, np.diag(bound))
    calls = (
        lambda **wrong: dose.phase_bound(model, 1e4, **wrong),
        lambda **wrong: dose.linear_model(model, 1e4, **wrong),
        lambda **wrong: dose.dose_efficiency(model, **wrong),
        lambda **wrong: dose.compare_edges(model, **wrong),
        lambda **wrong: dose.plan_tilt_series(model, 1e5, **wrong),
    )
    for call in calls:
        with pytest.raises(TypeError, match="settings: got 'thicknes_nm', wants some of edge, thickness_nm"):
            call(thicknes_nm=(1.0, 1.0))


# ------------------------------------------------------------------------------------------------ comparison


def test_equal_fluence_ratio_gives_equal_bounds(model):
    for quantity, weights in (("FeO", [1, 0]), ("Fe3O4", [0, 1]), ("total iron", dose.metal_weights(model))):
        for readout in (0.0, 3.0):
            ratio = dose.dose_efficiency(model, quantity=quantity, readout_counts=readout)
            m = dose.phase_bound(model, 1e4, readout_counts=readout)
            l = dose.phase_bound(model, 1e4 * ratio, edge="L2,3", readout_counts=readout)
            weights = np.asarray(weights)
            assert weights @ m @ weights == pytest.approx(weights @ l @ weights, rel=1e-4)


def test_three_definitions_differ_in_the_known_order(model):
    """Plain signal flatters M2,3 most; background and the other phase cost some of it."""
    c = dose.compare_edges(model)
    assert c.signal > c.shot_noise > max(c.phases.values()) > 1
    assert c.total_metal > min(c.phases.values())
    simple = dose.compare_edges(model, background_a=[3.0], background_b=[3.0])
    assert simple.total_metal > c.total_metal  # one background shape: less is unknown under M2,3 in particular


def test_readout_noise_favours_the_strong_edge(model):
    ratios = [dose.dose_efficiency(model, readout_counts=r) for r in (0.0, 1.0, 5.0)]
    assert ratios[0] < ratios[1] < ratios[2]


def test_sweep_runs_over_microscope_thickness_and_settings(model):
    angles = dose.sweep("collection_mrad", [10.0, 40.0])
    assert angles[0].signal > angles[1].signal
    assert angles[1].total_metal == pytest.approx(dose.compare_edges(model).total_metal, rel=1e-6)
    wide = dose.sweep("convergence_mrad", [1.0, 20.0, 60.0], microscope=simulate.Microscope(collection_mrad=20.0))
    assert [c.signal for c in wide] == pytest.approx([61.3, 66.3, 53.2], abs=0.1)
    thick = dose.sweep("thickness_nm", [10.0, 60.0])
    assert thick[0].shot_noise != thick[1].shot_noise
    assert dose.sweep("readout_counts", [0.0, 4.0])[1].total_metal > thick[0].total_metal / 10
    with pytest.raises(ValueError, match="quantity"):
        dose.dose_efficiency(model, quantity="oxygen")


# ----------------------------------------------------------------------------------------- planner, calculator


def test_planner(model):
    plan = dose.plan_tilt_series(model, 1e5, tilts=(9, 5, 15), target_error_nm=4.0)
    np.testing.assert_array_equal(plan.tilts, [5, 9, 15])
    np.testing.assert_allclose(plan.fluence_e_per_A2 * plan.tilts, 1e5)
    np.testing.assert_allclose(plan.error_nm[1] ** 2, np.diag(dose.phase_bound(model, 1e5 / 9)))
    np.testing.assert_allclose(plan.volume_error, plan.volume_error[0], rtol=1e-6)  # dose fractionation
    assert plan.recommended == 9 and (plan.error_nm[1] <= 4).all() and (plan.error_nm[2] > 4).any()
    assert np.all(np.diff(plan.crowther_nm) < 0)
    noisy = dose.plan_tilt_series(model, 1e5, tilts=(5, 9, 15), readout_counts=5.0)
    assert np.all(np.diff(noisy.volume_error) > 0)  # each readout costs
    for bad, name in (({"tilts": (1, 5)}, "tilts"), ({"target_error_nm": 0}, "target_error_nm")):
        with pytest.raises(ValueError, match=name):
            dose.plan_tilt_series(model, 1e5, **bad)
    with pytest.raises(ValueError, match="total_fluence"):
        dose.plan_tilt_series(model, -1.0)


def test_calculator_holds_the_bounds_that_phase_bound_gives(model):
    grid = dose.calculator(
        beam_energy_keV=(300.0,),
        collection_mrad=(40.0,),
        energy_resolution_eV=(0.7,),
        thickness_nm=(20.0,),
        readout_electrons=(0.0, 2.0),
    )
    for r, readout in enumerate((0.0, 2.0)):
        for e, edge in enumerate(("M2,3", "L2,3")):
            n = 5
            bound = dose.phase_bound(
                model, grid.electrons[n] / 16, edge=edge, readout_counts=readout, thickness_nm=(10.0, 10.0)
            )
            np.testing.assert_allclose(grid.error_nm[0, 0, 0, 0, r, e, :2, n] ** 2, np.diag(bound), rtol=1e-6)
    page = json.loads(grid.json())
    assert page["shape"] == list(grid.error_nm.shape)
    flat = np.reshape(page["log_error"], page["shape"])
    np.testing.assert_allclose(10**flat, grid.error_nm, rtol=2e-4)
    html = grid.html()
    assert "softeels-dose-calculator" in html and "__GRID__" not in html and "{plot_id}" not in html


def test_simulated_counts_refuse_nonsense(model):
    linear = dose.linear_model(model, 1e4)
    with pytest.raises(ValueError, match="draws"):
        dose.simulate_counts(linear, 0)
    same = [dose.simulate_counts(linear, 3, seed=s) for s in (1, 1, 2)]
    np.testing.assert_array_equal(same[0], same[1])
    assert (same[0] != same[2]).any()
