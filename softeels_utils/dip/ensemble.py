"""How sure: reconstructions from other seeds and other draws of the noise, and what their spread means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .engine import dipm_tv
from .problem import pose

# The members' spread falls short of the error: all of them share the prior and the missing wedge. Widened so that the
# 90 % intervals hold 85 to 95 % of the voxels near interfaces of seven simulated specimens (32 voxels, 9 views, 5 %
# noise, 8 members, first draw of the noise), as nearly as one factor does; benchmarks/dip.py calibration checks it on
# further draws.
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

    def interval(self, level=0.9):
        """Lower and upper bound that hold the true value of about ``level`` of the voxels near interfaces.

        By Student's t, as the spread of few members is itself not well known.
        """
        from scipy.stats import t

        if not 0 < level < 1:
            raise ValueError(f"level: got {level!r}, wants a share between 0 and 1")
        half = t.ppf(0.5 + level / 2, len(self.members) - 1) * self.std
        return self.mean - half, self.mean + half


def resample(projections, tilt_angles_deg, *, seed, covariance=None, mask=None, noise="gaussian", voxel_size_nm=1.0):
    """Draw the projections again: add noise of their covariance (Gaussian), or draw Poisson counts of their counts.

    Parameters
    ----------
    projections, tilt_angles_deg, covariance, mask, noise, voxel_size_nm
        As in `dipm_tv`.
    seed : int

    Returns
    -------
    array (C, T, Y, X), float32
    """
    problem = pose(projections, tilt_angles_deg, covariance=covariance, mask=mask, noise=noise, holdout=0.0,
                   voxel_size_nm=voxel_size_nm, device="cpu")  # fmt: skip
    rng = np.random.default_rng([seed, 2])
    data = problem.data.numpy().astype(np.float64)
    if problem.poisson:
        return rng.poisson(data).astype(np.float32)
    precision = problem.precision.numpy().astype(np.float64)
    spread = np.divide(1.0, precision, out=np.zeros_like(precision), where=precision > 0)
    draw = np.einsum("cdtyx,ctyx->dtyx", problem.modes.numpy(), spread * rng.standard_normal(data.shape))
    return ((data + draw) * voxel_size_nm).astype(np.float32)


def _member(projections, tilt_angles_deg, seed, again, options):
    """One member; a function of this module so that Dask's workers find it."""
    if again:
        names = ("covariance", "mask", "noise", "voxel_size_nm")
        known = {name: options[name] for name in names if name in options}
        projections = resample(projections, tilt_angles_deg, seed=seed, **known)
        if options.get("covariance") is not None:  # now there are two draws in them
            options = {**options, "covariance": 2 * np.asarray(options["covariance"])}
    result = dipm_tv(projections, tilt_angles_deg, seed=seed, **options)
    return result.volume, result.stopped_at, result.reason


def ensemble(
    projections,
    tilt_angles_deg,
    *,
    members=8,
    seed=0,
    resample=True,
    client=None,
    workers=1,
    checkpoint=None,
    **options,
):
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
        Folder for one checkpoint a member; an ensemble that was killed goes on from there.
    **options
        As for `dipm_tv`.

    Returns
    -------
    EnsembleResult
    """
    if int(members) != members or members < 2:
        raise ValueError(f"members: got {members!r}, wants an integer of at least 2")
    if int(workers) != workers or workers < 1:
        raise ValueError(f"workers: got {workers!r}, wants a positive integer")
    tasks = []
    for k in range(members):
        own = dict(options)
        if checkpoint is not None:
            own["checkpoint"] = Path(checkpoint) / f"member{k}.pt"
        tasks.append((np.asarray(projections), np.asarray(tilt_angles_deg), seed + k, resample and k > 0, own))
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
