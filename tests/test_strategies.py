"""Whatever `strategies` calls valid is accepted, and the laws that hold for any input hold for it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import covariances, energy_axes, projections, slice_shapes, spectrum_images, tilt_angles, volumes

from softeels_utils import metrics, spectra
from softeels_utils.tomography import ParallelBeam, reconstruct

few = settings(deadline=None, max_examples=25)


@few
@given(st.data())
def test_projector_has_its_adjoint_for_all_tilts_and_shapes(data):
    tilts, shape = data.draw(tilt_angles()), data.draw(slice_shapes())
    volume = data.draw(volumes(slice_shape=shape))
    project = ParallelBeam(shape, tilts)
    forward = project(volume)
    other = np.random.default_rng(0).standard_normal(forward.shape).astype(np.float32)
    left = np.vdot(forward.astype(float), other)
    right = np.vdot(volume.astype(float), project.T(other))
    assert abs(left - right) <= 1e-4 * (np.linalg.norm(forward) * np.linalg.norm(other) + 1e-6)


@few
@given(st.data())
def test_reconstruction_takes_any_tilt_series_with_any_covariance(data):
    tilts = data.draw(tilt_angles(min_tilts=2))
    stack = data.draw(projections(tilts=tilts.size))
    covariance = data.draw(covariances(channels=len(stack)))
    volume = reconstruct(stack, tilts, "joint_tv", covariance=covariance, weight=0.1, iterations=3)
    assert volume.shape == (len(stack), stack.shape[2], stack.shape[3], stack.shape[3])
    assert np.isfinite(volume).all()


@few
@given(volumes(), st.floats(0.1, 10))
def test_nrmse_has_no_scale(volume, scale):
    volume = volume + 0.1
    assert metrics.nrmse(volume, volume) == 0
    expected = metrics.nrmse(volume[..., ::-1], volume)
    assert np.isclose(metrics.nrmse(scale * volume[..., ::-1], scale * volume), expected, rtol=1e-5, atol=1e-7)


@few
@given(st.data())
def test_background_is_removed_from_any_spectrum_image(data):
    energy = data.draw(energy_axes(start_eV=(50.0, 600.0)))
    counts = data.draw(spectrum_images(energy))
    window = (energy[0], energy[energy.size // 4])
    cleaned = spectra.remove_background(counts, energy, window_eV=window)
    assert cleaned.shape == counts.shape and np.isfinite(cleaned).all()
