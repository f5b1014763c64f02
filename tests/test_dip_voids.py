"""Voids that a reconstruction has filled: found in the residuals, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from softeels_utils.dip.voids import empty_voids, inside_specimen
from softeels_utils.tomography import Measurement, ParallelBeam

N, TILTS = 24, np.linspace(-70, 70, 9)
CENTRE, RADIUS = (13, 10, 12), 2.0


def specimen(radius: float = RADIUS) -> tuple[np.ndarray, np.ndarray]:
    """A core in a shell, (2, N, N, N), with a void of this radius; and the same with the void filled."""
    offset = np.abs(np.indices((N, N, N)) - (N - 1) / 2).max(0)
    filled = np.zeros((2, N, N, N), np.float32)
    filled[1, offset < 8] = 1
    filled[:, offset < 4] = np.array([1, 0])[:, None]
    distance = np.linalg.norm(np.indices((N, N, N)) - np.reshape(CENTRE, (3, 1, 1, 1)), axis=0)
    return filled * (1 - (radius + 0.5 - distance).clip(0, 1)), filled


def measured(truth: np.ndarray, noise: float, seed: int, **options) -> Measurement:
    clean = ParallelBeam(N, TILTS, shifts_px=options.get("shifts_px"))(truth)
    noisy = clean + noise * np.random.default_rng(seed).standard_normal(clean.shape)
    return Measurement(noisy, TILTS, covariance=[noise**2, noise**2], model_error=0.0, **options)


@pytest.mark.parametrize("by", ["one", "two parts", "shifted"])
def test_a_filled_void_is_emptied_where_it_is(by):
    truth, filled = specimen()
    shifts = {"shifts_px": np.linspace([-2, 1.5], [1.5, -1], len(TILTS))} if by == "shifted" else {}
    measurement = measured(truth, 0.5, 1, **shifts)
    parts = measurement.split(0.1, 0) if by == "two parts" else (measurement,)
    volume, balls = empty_voids(torch.as_tensor(filled), parts)
    assert balls >= 1
    removed = filled.sum(0) - volume.numpy().sum(0)
    missing = filled.sum(0) - truth.sum(0)
    assert removed.sum() == pytest.approx(missing.sum(), rel=0.25)
    assert removed[missing > 0.5].mean() > 0.7
    assert removed[missing == 0].sum() < 0.2 * missing.sum()
    assert volume.min() >= 0


def test_nothing_is_emptied_where_there_is_no_void():
    _, filled = specimen()
    found = [empty_voids(torch.as_tensor(filled), [measured(filled, 0.5, seed)])[1] for seed in range(40)]
    assert sum(count > 0 for count in found) <= 4  # 0.8 by chance


def test_counts_bring_their_own_noise():
    truth, filled = specimen()
    options = {"counts": True, "voxel_size_nm": 20.0}  # counts per voxel of a pure phase
    for volume, wanted in ((truth, True), (filled, False)):
        counts = np.random.default_rng(3).poisson(ParallelBeam(N, TILTS, 20.0)(volume).clip(0))
        _, balls = empty_voids(torch.as_tensor(filled), Measurement(counts, TILTS, **options).split(0.1, 0, "counts"))
        assert (balls > 0) is wanted


def test_a_wrong_error_model_makes_no_voids():
    """Residuals that are everywhere larger than stated are no sign of a void."""
    _, filled = specimen()
    small = 0.25
    noisy = measured(filled, 0.5, 4).projections.numpy()
    stated = Measurement(noisy, TILTS, covariance=[small**2, small**2], model_error=0.0)
    assert empty_voids(torch.as_tensor(filled), [stated])[1] == 0


@pytest.mark.parametrize("shape", [(2, 1, N, N), (1, N, N, N)])
def test_volumes_without_an_inside_stay_as_they_are(shape):
    volume = torch.zeros(shape)
    volume[:, :, 8:12, 8:12] = 1.0 / shape[0] if shape[1] == 1 else 0.0
    stack = ParallelBeam(N, TILTS)(volume.numpy())
    same, balls = empty_voids(volume, [Measurement(stack + 1e-3, TILTS, covariance=[1.0] * shape[0])])
    assert balls == 0 and torch.equal(same, volume)


def test_depth_counts_voids_as_inside():
    truth, filled = specimen()
    solid, depth = inside_specimen(truth.sum(0))
    wanted, its_depth = inside_specimen(filled.sum(0))
    np.testing.assert_array_equal(solid, wanted)
    np.testing.assert_array_equal(depth, its_depth)
