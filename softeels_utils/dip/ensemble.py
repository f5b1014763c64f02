"""How sure: reconstructions from other seeds and other draws of the noise, and what their spread means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softeels_utils.checks import check_count, check_flag, check_seed

from .dipm_tv import check_measurement, fit

__all__ = ["EnsembleResult", "ensemble", "resample"]

# The members' spread falls short of the error: all of them share the prior and the missing wedge. With this factor the
# 90 % intervals of ensembles of six hold 85 to 96 % of the voxels in each region but the bulk (all), on average over
# four drawn specimens (skin, void rims, core edge, corners, surface, wedge; 32 voxels, 9 views, 5 % noise);
# `benchmarks/draws.py --intervals` measures it on further draws.
SPREAD_FACTOR = 1.15
# Standard deviation below which the members' agreement is not believed, in parts of the largest value.
SPREAD_FLOOR = 0.02


@dataclass(frozen=True)
class EnsembleResult:
    """Members of an ensemble, their mean, and how far off it may be.

    Attributes
    ----------
    mean : array (C, Y, Z, X)
    std : array (C, Y, Z, X)
        Standard uncertainty of the mean's error: the members' standard deviation, widened by the factor
        found on simulations.
    members : array (M, C, Y, Z, X)
    stopped_at : tuple of int
    reasons : tuple of str
    """

    mean: np.ndarray
    std: np.ndarray
    members: np.ndarray
    stopped_at: tuple[int, ...]
    reasons: tuple[str, ...]

    def interval(self, level: float = 0.9) -> tuple[NDArray, NDArray]:
        """Lower and upper bound that hold the true value of about ``level`` of the voxels near interfaces.

        By Student's t, as the spread of few members is itself not well known.
        """
        from scipy.stats import t

        if not 0 < level < 1:
            raise ValueError(f"level: got {level!r}, wants a fraction between 0 and 1")
        half = t.ppf(0.5 + level / 2, len(self.members) - 1) * self.std
        return self.mean - half, self.mean + half


def resample(
    projections: ArrayLike, tilt_angles_deg: ArrayLike, *, seed: int, voxel_size_nm: float = 1.0, **errors: Any
) -> NDArray[np.float32]:
    """Draw the projections again: add noise of their covariance (Gaussian), or draw Poisson counts of their counts.

    Parameters
    ----------
    projections, tilt_angles_deg, voxel_size_nm
        As in `dipm_tv`.
    seed : int
    **errors
        ``covariance``, ``mask`` and ``noise``, as in `dipm_tv`.

    Returns
    -------
    array (C, T, Y, X), float32
    """
    measurement = check_measurement(projections, tilt_angles_deg, voxel_size_nm=voxel_size_nm, device="cpu", **errors)
    return measurement.resample(seed).projections.numpy()


def _member(projections, tilt_angles_deg, stated, seed, resampled, options):
    """One member; a function of this module, that Dask's workers find it, and of arrays: each worker has its device."""
    measurement = check_measurement(projections, tilt_angles_deg, **stated)
    result = fit(measurement.resample(seed) if resampled else measurement, seed=seed, **options)
    return result.volume, result.stopped_at, result.reason


def ensemble(
    projections: ArrayLike,
    tilt_angles_deg: ArrayLike,
    *,
    members: int = 8,
    seed: int = 0,
    resample: bool = True,
    client: Any = None,
    workers: int = 1,
    checkpoint: str | Path | None = None,
    **options: Any,
) -> EnsembleResult:
    """Reconstruct several times, from other seeds and other draws of the noise, and say how far the results differ.

    Parameters
    ----------
    projections : array (C, T, Y, X)
    tilt_angles_deg : array (T,)
    members : int
        At least 2. Member ``k`` has seed ``seed + k``: network, minibatches, held-out pixels and noise draw.
    resample : bool
        Add a draw of the noise to the projections of every member but the first (see `dip.resample`), which then has
        twice the covariance. A ``validation`` stays as it is.
    client : dask.distributed.Client, optional
        Where the members run side by side.
    workers : int
        Without a client: 1 runs them one after the other here, more start so many local processes.
    checkpoint : path, optional
        Folder for one checkpoint per member; an ensemble that was killed goes on from there.
    **options
        As for `dipm_tv`.

    Returns
    -------
    EnsembleResult
    """
    check_count(members, "members", least=2)
    check_count(workers, "workers")
    check_seed(seed)
    check_flag(resample, "resample")
    names = ("covariance", "mask", "noise", "voxel_size_nm", "slice_shape", "shifts_px", "device")
    stated = {name: options.pop(name) for name in names if name in options}
    check_measurement(projections, tilt_angles_deg, **stated | {"device": "cpu"})
    projections, tilt_angles_deg = np.asarray(projections), np.asarray(tilt_angles_deg)
    tasks = []
    for k in range(members):
        file = {} if checkpoint is None else {"checkpoint": Path(checkpoint) / f"member{k}.pt"}
        tasks.append((projections, tilt_angles_deg, stated, seed + k, resample and k > 0, options | file))
    if client is None and workers == 1:
        results = [_member(*task) for task in tasks]
    else:
        results = _distribute(tasks, client, workers)
    volumes = np.stack([volume for volume, _, _ in results])
    mean = volumes.mean(axis=0)
    std = SPREAD_FACTOR * np.hypot(volumes.std(axis=0, ddof=1), SPREAD_FLOOR * max(volumes.max(), 0))
    return EnsembleResult(mean, std, volumes, tuple(at for _, at, _ in results), tuple(why for _, _, why in results))


def _distribute(tasks, client, workers):
    from dask.distributed import Client, LocalCluster

    for *_, options in tasks:
        options.setdefault("progress", False)
    if client is not None:
        return client.gather([client.submit(_member, *task, pure=False) for task in tasks])
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as own,
    ):
        return own.gather([own.submit(_member, *task, pure=False) for task in tasks])
