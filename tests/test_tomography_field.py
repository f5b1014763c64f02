"""A specimen that leaves the field of view: seen in the data, and reconstructed in a wider slice."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.measure import block_reduce
from specimens import TILTS, tilt_series

from softeels_utils.tomography import SIMPLEX, Measurement, ParallelBeam, joint_tv, leaves_field, sirt

TO_50 = np.linspace(-50, 50, 11)


@pytest.fixture(scope="module")
def section():
    """(truth in the field, projections with 5 % noise, covariance): a section three times as wide as the detector.

    24 columns of 72, projected on a grid twice as fine.
    """
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.normal(size=(8, 16, 144)), (4, 3, 3))
    texture /= texture.std()
    fine = np.zeros((2, 8, 48, 144), np.float32)
    fine[0, :, 16:32], fine[1, :, 16:32] = texture > 0.3, texture < 0
    clean = block_reduce(ParallelBeam((48, 144), TO_50, 0.5)(fine), (1, 1, 2, 2), np.mean)[..., 24:48]
    sigma = 0.05 * clean.max(axis=(1, 2, 3))
    noisy = clean + rng.standard_normal(clean.shape) * sigma[:, None, None, None]
    return block_reduce(fine, (1, 2, 2, 2), np.mean)[..., 24:48], noisy.astype(np.float32), np.diag(sigma**2)


def test_a_section_that_leaves_the_field_is_noticed(section):
    _, projections, covariance = section
    found = leaves_field(Measurement(projections, TO_50, covariance=covariance))
    assert found and (found.variation > 0.1).all() and (found.edge > 10 * found.edge_error).all()
    assert found.mass.shape == found.mass_error.shape == (2, 11)
    assert leaves_field(Measurement(projections, TO_50, covariance=covariance).padded(5))
    counts = np.random.default_rng(0).poisson(20 * projections.clip(0))
    assert leaves_field(Measurement(counts, TO_50, counts=True))


@pytest.mark.parametrize("noise", [0.005, 0.05, 0.3])
def test_a_particle_inside_the_field_is_not_taken_for_one_outside(noise):
    for seed in range(3):
        _, projections, covariance = tilt_series(24, noise, seed)
        assert not leaves_field(Measurement(projections, TILTS, covariance=covariance))
    dimmer = projections * np.linspace(1, 0.7, 9)[:, None, None]  # the beam fades: its mass changes, but not its place
    faded = leaves_field(Measurement(dimmer, TILTS, covariance=covariance))
    assert not faded and (noise > 0.1 or (faded.variation > 0.05).all())


def test_a_wider_slice_is_better_where_the_specimen_leaves_the_field(section):
    truth, projections, covariance = section

    def error(measurement, **options):
        solve = joint_tv if options else sirt
        volume = measurement.crop(solve(measurement, iterations=80, **options).volume)
        missing = (24 - volume.shape[2]) // 2
        volume = np.pad(volume, ((0, 0), (0, 0), (missing, missing), (0, 0)))
        return np.linalg.norm(volume - truth) / np.linalg.norm(truth)

    narrow = Measurement(projections, TO_50, covariance=covariance)
    for options in ({}, {"weight": "noise", "constraint": SIMPLEX}):
        assert error(narrow.padded(8), **options) < 0.8 * error(narrow, **options)
        assert error(narrow.padded(depth=12), **options) < 0.85 * error(narrow, **options)
    assert narrow.padded(depth=12).volume_shape == (2, 4, 12, 52)  # (24 + 12 sin) / 2 cos - 12 = 13.8 columns


@pytest.mark.parametrize("kind", ["constant", "per pixel", "counts"])
def test_a_padded_measurement_is_the_same_measurement(kind):
    rng = np.random.default_rng(0)
    projections = rng.poisson(30, (2, 9, 4, 12)).astype(np.float32)
    root = rng.normal(size=(9, 4, 12, 2, 2)) + 3 * np.eye(2)
    options = {
        "constant": {"covariance": np.array([[1.0, -0.9], [-0.9, 1.5]])},
        "per pixel": {"covariance": root @ root.swapaxes(-1, -2), "mask": rng.random((2, 9, 4, 12)) > 0.2},
        "counts": {"counts": True},
    }[kind]
    narrow = Measurement(projections, TILTS, voxel_size_nm=0.7, shifts_px=rng.uniform(-1, 1, (9, 2)), **options)
    wide = narrow.padded(3)
    volume, dual = torch.rand(wide.volume_shape), torch.rand(wide.projections.shape)
    assert wide.size == narrow.size and wide.crop(dual).shape == narrow.projections.shape
    torch.testing.assert_close((wide.forward(volume) * dual).sum(), (volume * wide.adjoint(dual)).sum())
    inner = torch.nn.functional.pad(wide.crop(volume), (3, 3))  # nothing beyond: the same projections
    torch.testing.assert_close(wide.chi2(inner), narrow.chi2(wide.crop(inner)), rtol=1e-4, atol=0)
    assert not wide.misfit(volume)[..., :3].any() and not wide.misfit(volume)[..., -3:].any()
    scaled = wide.rescaled([2.0, 0.5])
    torch.testing.assert_close(scaled.chi2(volume / torch.tensor([2.0, 0.5])[:, None, None, None]), wide.chi2(volume))
    assert np.isfinite(sirt(wide.resample(0), iterations=3).volume).all()
    twice = narrow.padded(1).padded(2)
    assert twice.padding == 3 and twice.fingerprint() == wide.fingerprint()
    assert narrow.fingerprint() != wide.fingerprint()
    with pytest.raises(ValueError, match="columns: got -1"):
        narrow.padded(-1)
