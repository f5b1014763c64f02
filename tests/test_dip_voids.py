"""Voids that a reconstruction has filled: found in the residuals, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from softeels_utils import dip
from softeels_utils.dip import training, voids
from softeels_utils.dip.voids import find_voids, inside_specimen
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
    clean = project(truth, shifts_px=options.get("shifts_px"))
    return with_noise(clean, noise, seed, **options)


def project(volume: np.ndarray, voxel_size_nm: float = 1.0, **options) -> np.ndarray:
    return ParallelBeam(N, TILTS, voxel_size_nm, "cpu", **options)(volume)


def with_noise(clean: np.ndarray, noise: float, seed: int, **options) -> Measurement:
    noisy = clean + noise * np.random.default_rng(seed).standard_normal(clean.shape)
    stated = {"covariance": [noise**2, noise**2], "model_error": 0.0, "device": "cpu"}
    return Measurement(noisy, TILTS, **stated | options)


@pytest.mark.parametrize("by", ["one", "two parts", "shifted"])
def test_a_filled_void_is_emptied_where_it_is(by):
    truth, filled = specimen()
    shifts = {"shifts_px": np.linspace([-2, 1.5], [1.5, -1], len(TILTS))} if by == "shifted" else {}
    measurement = measured(truth, 0.5, 1, **shifts)
    parts = measurement.split(0.1, 0) if by == "two parts" else (measurement,)
    kept, balls = find_voids(torch.as_tensor(filled), parts)
    volume = torch.as_tensor(filled) * kept
    assert balls >= 1 and kept.max() == 1 and kept.min() >= 0
    removed = filled.sum(0) - volume.numpy().sum(0)
    missing = filled.sum(0) - truth.sum(0)
    assert removed.sum() == pytest.approx(missing.sum(), rel=0.25)
    assert removed[missing > 0.5].mean() > 0.7
    assert removed[missing == 0].sum() < 0.2 * missing.sum()
    assert volume.min() >= 0


def test_nothing_is_emptied_where_there_is_no_void():
    _, filled = specimen()
    clean = project(filled)
    found = [find_voids(torch.as_tensor(filled), [with_noise(clean, 0.5, seed)])[1] for seed in range(100)]
    assert sum(count > 0 for count in found) <= 5  # 2 by chance


def test_counts_bring_their_own_noise():
    truth, filled = specimen()
    options = {"counts": True, "voxel_size_nm": 20.0, "device": "cpu"}  # counts per voxel of a pure phase
    for volume, wanted in ((truth, True), (filled, False)):
        counts = np.random.default_rng(3).poisson(project(volume, 20.0).clip(0))
        _, balls = find_voids(torch.as_tensor(filled), Measurement(counts, TILTS, **options).split(0.1, 0, "counts"))
        assert (balls > 0) is wanted


WRONG = {
    "shifts that nobody knows": lambda volume: project(volume, shifts_px=np.linspace([-0.5, 0.4], [0.5, -0.6], 9) ** 3),
    "the axis of tilt off by a voxel": lambda volume: project(volume, shifts_px=np.tile([0.0, 1.0], (9, 1))),
    "a wrong reference": lambda volume: project(volume) * np.reshape([0.9, 1], (2, 1, 1, 1)),
    "one tilt too low": lambda volume: project(volume) * np.where(np.arange(9) == 4, 0.95, 1)[:, None, None],
    "noise twice that stated": lambda volume: with_noise(project(volume), 0.45, 5).projections.numpy(),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_void_makes_none(what):
    _, filled = specimen()
    clean = WRONG[what](filled)
    found = [find_voids(torch.as_tensor(filled), [with_noise(clean, 0.3, seed)])[1] for seed in range(5)]
    assert found == [0] * 5


def test_one_phase_taken_for_another_makes_no_void(monkeypatch):
    _, filled = specimen()
    offsets = np.indices((N, N, N)) - np.reshape((12, 12, 14), (3, 1, 1, 1))  # at the edge of the core
    ball = (2.5 - np.linalg.norm(offsets, axis=0)).clip(0, 1)
    mixed = filled * (1 - ball) + ball * np.reshape([0.4, 0.6], (2, 1, 1, 1))
    taken = filled * (1 - ball) + ball * np.reshape([1, 0], (2, 1, 1, 1))  # for the phase with less noise
    stated = {"covariance": [0.3**2, 0.9**2], "model_error": 0.0, "device": "cpu"}
    noise = np.random.default_rng(4).standard_normal((2, len(TILTS), N, N)) * np.reshape([0.3, 0.9], (2, 1, 1, 1))

    def balls(true):
        measurement = Measurement(project(true) + noise, TILTS, **stated)
        return find_voids(torch.as_tensor(taken, dtype=torch.float32), [measurement])[1]

    assert balls(mixed) == 0
    assert balls(taken * (1 - 0.9 * ball)) > 0  # a void in the same place
    monkeypatch.setattr(voids, "_beyond_exchange", lambda *about: np.inf)
    assert balls(mixed) > 0  # as it was taken for one


@pytest.mark.parametrize(("rows", "channels"), [(1, 2), (3, 2), (N, 1)])
def test_thin_bodies_and_empty_fields_stay_as_they_are(rows, channels):
    volume = torch.zeros((channels, rows, N, N))
    if rows < N:
        volume[:, :, 2:22, 2:22] = 1 / channels
    stack = project(volume.numpy()) - 1.0  # as of a body that is nearly empty
    measurement = Measurement(stack, TILTS, covariance=[1.0] * channels, device="cpu")
    kept, balls = find_voids(volume, [measurement])
    assert balls == 0 and (kept == 1).all()


def test_depth_counts_voids_as_inside():
    truth, filled = specimen()
    solid, depth = inside_specimen(truth.sum(0))
    wanted, its_depth = inside_specimen(filled.sum(0))
    np.testing.assert_array_equal(solid, wanted)
    np.testing.assert_array_equal(depth, its_depth)


def test_a_void_found_during_the_run_is_kept_empty_and_survives_an_interruption(tmp_path, monkeypatch):
    measurement, path = measured(specimen()[0], 0.5, 1), tmp_path / "state.pt"
    kept, seen = torch.ones(N, N, N), []
    kept[11:16, 8:13, 10:15] = 0
    monkeypatch.setattr(training, "find_voids", lambda volume, parts: (kept, 1))
    options = {"iterations": 20, "every": 2, "correction_tv_weight": 0.0, "mix": False}

    def look(info):
        seen.append(info.volume[:, kept.numpy() == 0].sum())
        if len(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dip.fit(measurement, checkpoint=path, checkpoint_seconds=0, callbacks=[look], **options)
    assert min(seen[:3]) > 0 and max(seen[3:]) == 0  # from two fifths of the 20 iterations on
    resumed, whole = dip.fit(measurement, checkpoint=path, **options), dip.fit(measurement, **options)
    assert np.array_equal(resumed.volume, whole.volume)
    without = dip.fit(measurement, empty_voids=False, **options)
    assert not np.array_equal(whole.volume, without.volume)
