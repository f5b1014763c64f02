"""How sure: reconstructions from other seeds and other draws of the noise, and what their spread means."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softeels_utils.checks import (
    check_between,
    check_count,
    check_flag,
    check_path,
    check_seed,
    describe,
    finite_array,
    real_array,
)
from softeels_utils.doors import checked
from softeels_utils.fitting import Estimate
from softeels_utils.tomography import Measurement

from .dipm_tv import check_measurement, fit

__all__ = ["EnsembleResult", "ensemble", "fit_each", "resample"]

# The members' spread falls short of the error: all of them share the prior and the missing wedge. With this factor 90 %
# intervals hold 85 to 96 % of the voxels of each region but the bulk, on average over twelve specimens of the half
# `tune` (ensembles of six, 32 voxels, nine views, 5 % noise); the record `intervals` has them, and those of the other.
SPREAD_FACTOR = 1.15
# Standard deviation below which the members' agreement is not believed, in parts of the largest value.
SPREAD_FLOOR = 0.02
# Of an amount, in parts of all phases together: the members have the same blurred surfaces and thin film of fractions
# where there is vacuum. Chosen on the same specimens.
AMOUNT_FLOOR = 0.004
MOST_WORKERS = 1024
# Of local worker processes. Dask's own default also makes them give memory back at once (MALLOC_TRIM_THRESHOLD_), which
# costs as much time as the network itself: its arrays come and go at every step.
WORKERS = {"distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1}}


@checked(
    best="C Y Z X",
    mean="C Y Z X",
    std="C Y Z X",
    members="M C Y Z X",
    scale="M C",
    systematic="C Y Z X",
    transformed="S C Y Z X",
    unit="C",
)
@dataclass(frozen=True)
class EnsembleResult:
    """Members of an ensemble, the best volume, and its uncertainty.

    Attributes
    ----------
    best : array (C, Y, Z, X)
        The first member if the others are resampled, since only the first uses the data as measured (the others have
        twice the noise variance); otherwise the mean.
    mean : array (C, Y, Z, X)
        Of the members.
    std : array (C, Y, Z, X)
        Statistical standard uncertainty of ``best``: the members' standard deviation, widened by the factor found on
        simulations.
    members : array (M, C, Y, Z, X)
    stopped_at : tuple of int
    reasons : tuple of str
    scale : array (M, C)
        Value of a pure voxel, of each member.
    systematic : array (C, Y, Z, X)
        Standard uncertainty due to the references: root-mean-square difference between ``transformed`` and the first
        member; 0 without ``transforms``.
    transformed : array (S, C, Y, Z, X)
        The first member again, from the maps that other references would have given.
    unit : array (C,)
        Value of a pure voxel in these volumes: 1 where they are volume fractions.
    """

    best: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    members: np.ndarray
    stopped_at: tuple[int, ...]
    reasons: tuple[str, ...]
    scale: np.ndarray
    systematic: np.ndarray
    transformed: np.ndarray
    unit: np.ndarray

    def interval(self, level: float = 0.9) -> tuple[NDArray, NDArray]:
        """Lower and upper bound, which contain the true value of about the fraction ``level`` of the voxels near
        interfaces.

        Student's t allows for the spread of few members being itself uncertain; the systematic uncertainty is included.
        """
        from scipy.stats import norm, t

        check_between(level, "level", 0, 1)
        quantile = 0.5 + level / 2
        half = np.hypot(t.ppf(quantile, len(self.members) - 1) * self.std, norm.ppf(quantile) * self.systematic)
        return self.best - half, self.best + half

    def amounts(self) -> Estimate:
        """Sum of each channel over the volume, three arrays (C,): value, statistical and systematic error.

        For volume fractions in voxels, otherwise in the unit of the maps over the size of a voxel.
        """
        best, members, transformed = self._sums()
        return _estimate(best, members, transformed, self._floor(best))

    def weighted_sum(
        self, weights: ArrayLike, transformed_weights: Sequence[ArrayLike] | None = None, *, summed: bool = False
    ) -> Estimate:
        """A weighted sum of the channels, with its errors: the metal of all phases, for instance.

        Parameters
        ----------
        weights : (C,) or (C, Y, Z, X)
        transformed_weights : (S, C) or (S, C, Y, Z, X), optional
            Those of each of the volumes ``transformed``, where references change them, too.
        summed : bool
            Of the channels' sums over the volume (`amounts`); weights are (C,) then.

        Returns
        -------
        Estimate
            (Y, Z, X), or a number if summed.
        """
        if summed:
            best, members, transformed = self._sums()
            floor = self._floor(best)
        else:
            best, members, transformed = self.best, self.members, self.transformed
            floor = np.full(len(best), SPREAD_FACTOR * SPREAD_FLOOR * max(members.max(), 0))

        def total(volume, weights):
            weights = real_array(weights, "weights", finite=False)
            if weights.shape not in (best.shape[:1], best.shape):
                raise ValueError(f"weights: got shape {weights.shape}, wants {best.shape[:1]} or {best.shape}")
            return np.einsum("c...,c...->...", _spread(weights, best), volume)

        others = [weights] * len(transformed) if transformed_weights is None else transformed_weights
        if len(others) != len(transformed):
            raise ValueError(f"transformed_weights: got {len(others)}, wants {len(transformed)}, as in transformed")
        return _estimate(
            total(best, weights),
            np.array([total(member, weights) for member in members]),
            np.array([total(volume, own) for own, volume in zip(others, transformed, strict=True)]),
            np.sqrt(total(_spread(floor, best) ** 2, np.square(weights))),
        )

    def _sums(self):
        """Of each channel over the volume: best (C,), members (M, C), transformed (S, C)."""
        return tuple(volumes.sum(axis=(-3, -2, -1)) for volumes in (self.best, self.members, self.transformed))

    def _floor(self, best):
        """Error of a channel's sum below which the members' agreement is not believed."""
        return AMOUNT_FLOOR * self.unit * np.abs(best / self.unit).sum()


def _spread(values, like):
    """Values with as many axes as an array, the missing ones last and of length 1."""
    return np.reshape(values, (*np.shape(values), *[1] * (like.ndim - np.ndim(values))))


def _estimate(value, members, transformed, floor):
    """A quantity with the errors that its values in the members and in the transformed volumes tell."""
    statistical = np.hypot(SPREAD_FACTOR * members.std(axis=0, ddof=1), floor)
    away = (transformed - members[0]) ** 2 if len(transformed) else None
    return Estimate(value, statistical, 0 * statistical if away is None else np.sqrt(away.mean(axis=0)))


@checked
def resample(
    projections: ArrayLike, tilt_angles_deg: ArrayLike, *, seed: int, voxel_size_nm: float = 1.0, **errors: Any
) -> NDArray[np.float32]:
    """Draw the projections again: add noise of their covariance (Gaussian), or draw Poisson counts with their counts as
    means.

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


@dataclass(frozen=True)
class _Task:
    """One member: what it reconstructs, from which seed, and where its result is kept (`run`)."""

    projections: NDArray
    tilt_angles_deg: NDArray
    stated: dict[str, Any]
    seed: int
    resampled: bool
    transform: NDArray | None
    fractions: bool
    folder: Path | None
    name: str
    options: dict[str, Any]

    def measurement(self) -> Measurement:
        """The projections, or those that other references would have given; with another draw of the noise, or not."""
        measurement = check_measurement(self.projections, self.tilt_angles_deg, **self.stated)
        if self.transform is not None:
            measurement = measurement.transformed(self.transform)
        return measurement.resample(self.seed) if self.resampled else measurement

    def run(self) -> dict[str, Any]:
        """Volume, scale, iteration and reason; from the file of an earlier run if there is one."""
        measurement, file, more = self.measurement(), None, {}
        settings = {name: value for name, value in self.options.items() if name not in ("progress", "callbacks")}
        fingerprint = measurement.fingerprint("member 2", self.seed, self.fractions, sorted(settings.items()))
        if self.folder is not None:
            file = self.folder / f"{self.name}.npz"
            more["checkpoint"] = self.folder / f"{self.name}.pt"
            if file.exists():
                return _stored(file, fingerprint)
        result = fit(measurement, seed=self.seed, **self.options, **more)
        volume = result.volume / result.scale[:, None, None, None] if self.fractions else result.volume
        found = {
            "volume": volume.astype(np.float32),
            "scale": np.asarray(result.scale),
            "at": result.stopped_at,
            "reason": result.reason,
        }
        if file is not None:
            part = file.with_suffix(".part")
            with part.open("wb") as stream:
                np.savez(stream, fingerprint=fingerprint, **found)
            part.replace(file)
            more["checkpoint"].unlink(missing_ok=True)
        return found


def _stored(file, fingerprint):
    """The result of a member that was finished before."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        known = str(found.pop("fingerprint"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"checkpoint: got {file}, cannot read it ({error}), wants a new folder") from error
    if known != fingerprint:
        raise ValueError(f"checkpoint: got {file} of other projections or settings, wants this run's or a new folder")
    return found | {"at": int(found["at"]), "reason": str(found["reason"])}


@checked
def ensemble(
    projections: ArrayLike,
    tilt_angles_deg: ArrayLike,
    *,
    members: int = 8,
    seed: int = 0,
    resample: bool = True,
    transforms: ArrayLike | None = None,
    fractions: bool = False,
    client: Any = None,
    workers: int = 1,
    checkpoint: str | Path | None = None,
    finished: Callable[[int, int], None] | None = None,
    **options: Any,
) -> EnsembleResult:
    """Reconstruct several times, with other seeds and other draws of the noise, to see how far the results differ.

    Parameters
    ----------
    projections : array (C, T, Y, X)
    tilt_angles_deg : array (T,)
    members : int
        At least 2. Member ``k`` has seed ``seed + k``: network, minibatches, held-out pixels and noise draw.
    resample : bool
        Add a draw of the noise to the projections of every member except the first (see `dip.resample`), which doubles
        their covariance. A ``validation`` is left as it is.
    transforms : array (S, C, C), optional
        Draws of what other references would do to the maps (``maps @ transform``, `PhaseFit.draw_references`): for
        each, the first member is reconstructed again. How far it moves is the systematic uncertainty; with
        ``calibrated=False``, a factor common to all references has no effect.
    fractions : bool
        Divide each member by its own value of a pure voxel, which gives volume fractions also with
        ``calibrated=False``.
    client : dask.distributed.Client, optional
        Where the members run side by side.
    workers : int
        Without a client: 1 runs them one after the other in this process, more start that many local processes.
    checkpoint : path, optional
        Folder for one checkpoint per member and for finished members; an ensemble that was killed resumes from there.
    finished : callable, optional
        Called with the number of finished members and the total, whenever another member is finished.
    **options
        As for `dipm_tv`.

    Returns
    -------
    EnsembleResult
    """
    check_count(members, "members", least=2)
    check_flag(resample, "resample")
    _check_run(seed, fractions, client, workers, finished)
    names = ("covariance", "mask", "noise", "voxel_size_nm", "slice_shape", "shifts_px", "axis_angle_deg", "device")
    stated = {name: options.pop(name) for name in names if name in options}
    check_measurement(projections, tilt_angles_deg, **stated | {"device": "cpu"})
    projections, tilt_angles_deg = np.asarray(projections), np.asarray(tilt_angles_deg)
    if fractions and options.get("head", "fractions") != "fractions":
        raise ValueError(f"fractions: got True with head={options['head']!r}, wants False (no fractions)")
    transforms = _check_transforms(transforms, len(projections))
    folder = _folder(checkpoint)
    draws = [(f"member{k}", seed + k, resample and k > 0, None) for k in range(members)]
    draws += [(f"references{k}", seed, False, transform) for k, transform in enumerate(transforms)]
    tasks = [
        _Task(projections, tilt_angles_deg, stated, own, drawn, transform, fractions, folder, name, options)
        for name, own, drawn, transform in draws
    ]
    results = _perform(tasks, client, workers, finished)
    volumes = np.stack([found["volume"] for found in results])
    volumes, transformed = volumes[:members], volumes[members:]
    std = SPREAD_FACTOR * np.hypot(volumes.std(axis=0, ddof=1), SPREAD_FLOOR * max(volumes.max(), 0))
    away = [(volume - volumes[0]) ** 2 for volume in transformed]
    scale = np.stack([found["scale"] for found in results[:members]])
    return EnsembleResult(
        best=volumes[0] if resample else volumes.mean(axis=0),
        mean=volumes.mean(axis=0),
        std=std,
        members=volumes,
        stopped_at=tuple(found["at"] for found in results[:members]),
        reasons=tuple(found["reason"] for found in results[:members]),
        scale=scale,
        unit=np.ones_like(scale[0]) if fractions else scale.mean(axis=0),
        systematic=np.sqrt(np.mean(away, axis=0)) if away else np.zeros_like(volumes[0]),
        transformed=transformed,
    )


@checked
def fit_each(
    series: Sequence[tuple[ArrayLike, ArrayLike, Mapping[str, Any]]],
    *,
    seed: int = 0,
    fractions: bool = False,
    client: Any = None,
    workers: int = 1,
    checkpoint: str | Path | None = None,
    finished: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[NDArray]:
    """Reconstruct several series side by side, such as two halves of the counts; volumes (C, Y, Z, X).

    Parameters
    ----------
    series : sequence of (projections, tilt_angles_deg, stated)
        ``stated``: covariance, mask, voxel size, shifts, ..., as for `dipm_tv`.
    seed, fractions, client, workers, checkpoint, finished, **options
        As for `ensemble`.
    """
    _check_run(seed, fractions, client, workers, finished)
    right = isinstance(series, Sequence) and all(isinstance(one, Sequence) and len(one) == 3 for one in series)
    if not right or not len(series) or not all(isinstance(stated, Mapping) for *_, stated in series):
        raise ValueError(f"series: got {describe(series)}, wants a list of (projections, tilt_angles_deg, stated)")
    folder = _folder(checkpoint)
    tasks = []
    for k, (projections, tilt_angles_deg, stated) in enumerate(series):
        check_measurement(projections, tilt_angles_deg, **dict(stated) | {"device": "cpu"})
        arrays = np.asarray(projections), np.asarray(tilt_angles_deg), dict(stated)
        tasks.append(_Task(*arrays, seed, False, None, fractions, folder, f"series{k}", options))
    return [found["volume"] for found in _perform(tasks, client, workers, finished)]


def _check_run(seed, fractions, client, workers, finished):
    """How an ensemble is run; ValueError naming what is wrong."""
    check_seed(seed)
    check_flag(fractions, "fractions")
    if check_count(workers, "workers") > MOST_WORKERS:
        raise ValueError(f"workers: got {workers!r}, wants at most {MOST_WORKERS}")
    if client is not None and not callable(getattr(client, "submit", None)):
        raise ValueError(f"client: got {describe(client)}, wants a dask.distributed.Client")
    if finished is not None and not callable(finished):
        raise ValueError(f"finished: got {describe(finished)}, wants a callable")


def _folder(checkpoint):
    """The folder of a checkpoint, made; None without."""
    if checkpoint is None:
        return None
    folder = check_path(checkpoint, "checkpoint")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"checkpoint: got {folder}, wants a folder that can be written ({error})") from None
    return folder


def _check_transforms(transforms, channels):
    if transforms is None:
        return np.zeros((0, channels, channels))
    transforms = finite_array(transforms, "transforms")
    if transforms.ndim != 3 or transforms.shape[1:] != (channels, channels):
        raise ValueError(f"transforms: got shape {transforms.shape}, wants (S, {channels}, {channels})")
    return transforms


def _perform(tasks, client, workers, finished):
    """Results of the tasks, here or on workers."""
    tell = finished or (lambda done, total: None)
    if client is not None or min(workers, len(tasks)) > 1:
        return _distribute(tasks, client, min(workers, len(tasks)), tell)
    results = []
    for task in tasks:
        results.append(task.run())
        tell(len(results), len(tasks))
    return results


def _run(task):
    """One member; a function of this module, that Dask's workers find it."""
    return task.run()


def _distribute(tasks, client, workers, tell):
    import dask
    from dask.distributed import Client, LocalCluster, as_completed

    tasks = [replace(task, options={"progress": False} | task.options) for task in tasks]
    with contextlib.ExitStack() as stack:
        if client is None:
            stack.enter_context(dask.config.set(WORKERS))
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": ":0"},  # a free port, beside other clusters
            )
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        futures = [client.submit(_run, task, pure=False) for task in tasks]
        for done, _ in enumerate(as_completed(futures), 1):
            tell(done, len(tasks))
        return client.gather(futures)
