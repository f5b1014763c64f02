"""``dipm_tv``: all phases at once from few projections, with an untrained network and total variation."""

from __future__ import annotations

import functools
import numbers
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from softeels_utils.checks import check_choice, check_count, check_flag, check_kind, check_seed, check_tilts
from softeels_utils.doors import checked
from softeels_utils.tomography import (
    NONNEGATIVE,
    SIMPLEX,
    Checkpoint,
    IterationInfo,
    Loop,
    Measurement,
    joint_tv,
    learn_scale,
    short_sirt,
)

from .coordinates import Coordinates
from .formulation import WhitenedTV
from .head import HEADS
from .initial import add_correction, find_support, initial_reconstruction, mix, specimen_size
from .paper import PaperFormulation, PaperSettings, channel_maxima
from .settings import CoordinateSettings, TrainingSettings, TVSettings, build, flatten
from .training import STANDS_STILL, Training
from .voids import find_voids
from .voxels import Voxels

__all__ = ["PRESETS", "VARIANTS", "DIPResult", "check_measurement", "dipm_tv", "fit"]

VARIANTS = {
    "coordinates": (TrainingSettings, CoordinateSettings, TVSettings),
    "voxels": (TrainingSettings, TVSettings),
    "paper": (PaperSettings,),
}
TYPICAL_SIZE = 16  # voxels; the weight of TV is stated for a specimen of this size
ONE_THREAD_VOXELS = 80**3
TILTS_TO_SPLIT = 12  # fewer are missed too much
RESTARTS = 2  # of a network that stands still, each from another start
VOXELS = {
    "learning_rate": 0.3, "warmup": 0.1, "tv_weight": 2.0, "clip": 1e3, "blocks": 10**6, "ema": 0.33,
    "initial_tv_weight": 1.5,
}  # fmt: skip
PRESETS = {
    ("coordinates", "quick"): {"iterations": 1000},
    ("coordinates", "full"): {"iterations": 1000, "networks": 3},
    ("voxels", "quick"): VOXELS | {"iterations": 300},
    ("voxels", "full"): VOXELS | {"iterations": 600},
    ("paper", "quick"): {"iterations": 250},
    ("paper", "full"): {"iterations": 1000},
}


@checked(volume="C Y Z X", scale="C")
@dataclass(frozen=True)
class DIPResult:
    """A reconstruction.

    Attributes
    ----------
    volume : array (C, Y, Z, X), float32
    history : dict of arrays
        ``iteration``, ``chi2`` and ``heldout`` (chi-square per fitted and per held-out value: about 1 if residuals are
        as large as the errors; less if the error of the voxel grid, which is added, is not small), ``variance``
        (running variance of the volume, as a fraction of its squared norm) and ``seconds``, one entry per check.
    stopped_at : int
        Iteration of the volume; if that is a mean (see `dipm_tv`), the best iteration in it; with several networks,
        that of the last one. The run ended at ``history["iteration"][-1]``.
    reason : str
        Why this iteration was chosen.
    corrected : bool
        Whether a correction of least TV was added at the end (see `dipm_tv`).
    mixed : float
        Fraction of joint TV in the volume: above 0 if that predicts held-out values better than the network alone.
    scale : array (C,)
        Value of a pure voxel.
    voids : int
        Number of balls that were emptied because residuals call for it (see `dipm_tv`).
    settings : dict
    """

    volume: NDArray[np.float32]
    history: dict[str, NDArray]
    stopped_at: int
    reason: str
    corrected: bool
    mixed: float
    scale: NDArray
    voids: int = 0
    settings: dict = field(default_factory=dict)


@checked
def dipm_tv(
    projections: ArrayLike,
    tilt_angles_deg: ArrayLike,
    *,
    covariance: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    noise: str = "gaussian",
    voxel_size_nm: float = 1.0,
    slice_shape: tuple[int, int] | None = None,
    shifts_px: ArrayLike | None = None,
    axis_angle_deg: float = 0.0,
    device: str | None = None,
    **options: Any,
) -> DIPResult:
    r"""Reconstruct all phases jointly with an untrained network and total variation (DIPm-TV).

    With :math:`f_w` the volume that the network makes from its parameters :math:`w`, :math:`A` the projector, :math:`b`
    the projections and :math:`\Sigma` the covariance of the channels in a detector pixel, DIPm-TV minimises

    .. math:: \tfrac12 \sum_{t,y,x} \| \Sigma^{-1/2} (A f_w - b) \|^2
              + \lambda \sum_{v} \Big( \sum_{c,d} (\partial_d f_{w,c})^2 \Big)^{1/2}.

    Parameters
    ----------
    projections : array (C, T, Y, X)
        Line integrals of volume fractions in the unit of ``voxel_size_nm`` (``calibrated=True``), in any unit
        (False), or counts (``noise="poisson"``, then ``calibrated=False``).
    tilt_angles_deg : array (T,)
    covariance, mask, voxel_size_nm, slice_shape, shifts_px, axis_angle_deg, device
        See `tomography.Measurement`. The error of the voxel grid itself (1 % of the range) is added.
    noise : {"gaussian", "poisson"}
    **options
        Arguments of `fit`: ``variant``, ``preset``, ``head``, ``calibrated``, ``holdout``, ``split``, ``validation``,
        ``iterations``, ``seed``, ``callbacks``, ``checkpoint``, ``progress``, and settings by name.

    Returns
    -------
    DIPResult

    Raises
    ------
    ValueError
        Before any work, naming the argument, what it got and what it wants.

    Notes
    -----
    Memory: about nine copies of the volume (initial reconstruction, last iterate, three means, and what the correction
    needs), the covariances if every pixel has its own, and the activations of one minibatch of slices.

    The network maps the coordinates of a point to the fractions of the phases there (`CoordinateSettings`). A loosely
    converged joint TV reconstruction of the fitted pixels has three uses: it shows where the specimen can be (elsewhere
    the volume is 0), its size sets the scale of the network's frequencies, and the first few iterations fit the network
    to it. With ``networks`` above 1, several are trained and averaged.

    Voids that the network fills are sought in the residuals of all values, held out or not, four times from two fifths
    of the schedule to its end, and emptied where they stand out beyond chance (with ``head="fractions"``, in bodies
    thicker than three voxels). In between, the network is trained with them empty; otherwise it would distort the rest
    of the specimen to fit without them. For the volume :math:`f` at the end, a correction :math:`r` is computed that
    minimises the misfit of :math:`f + r` plus the TV of :math:`r`, with :math:`f + r` under the constraint of the head.
    It adds details that the network's prior cannot make, and is kept if the held-out pixels are predicted better.
    Finally, as much of the joint TV reconstruction is mixed in as the held-out pixels call for beyond chance, in case
    the network's prior is wrong.

    Stopping. The held-out pixels are checked at regular intervals. If, after two fifths of the schedule, their misfit
    exceeds its lowest value at five checks in a row, each time by more than twice the standard error of the mean
    difference over pixels, the network overfits and the run stops early. Whether or not it stops early, the result is
    the mean of the iterates at the checks up to the best one, weighted with the fourth root of the likelihood that each
    gives to the held-out pixels. A mean, because with few pixels the lowest misfit is partly chance; up to the best
    one, because noise is fitted first where no projection sees it, so that later iterates may predict nearly as well
    and yet be worse. With ``iterations=``, the run returns to the best iterate instead, also when ten checks bring no
    lower misfit. The running variance of the volume is reported as a second opinion, but not acted on.

    A network in which every voxel is saturated has no gradient. If the volume is the same at two checks in the first
    half of the schedule, training restarts from another random start, at most twice; if that does not help, ``reason``
    says so.

    References
    ----------
    D. Ulyanov, A. Vedaldi & V. Lempitsky, CVPR 2018 (deep image prior);
    M. Tancik et al., NeurIPS 2020 (Fourier features of coordinates);
    N. Vyas et al., ICLR 2025 (the optimiser, `SOAP`).
    """
    errors = {"covariance": covariance, "mask": mask, "noise": noise}
    geometry = {"voxel_size_nm": voxel_size_nm, "slice_shape": slice_shape, "shifts_px": shifts_px}
    geometry |= {"axis_angle_deg": axis_angle_deg, "device": device}
    return fit(check_measurement(projections, tilt_angles_deg, **errors, **geometry), **options)


def check_measurement(projections, tilt_angles_deg, *, noise="gaussian", **options) -> Measurement:
    """The `Measurement` of the keywords of `dipm_tv`."""
    if not isinstance(noise, str) or noise not in ("gaussian", "poisson"):
        raise ValueError(f"noise: got {noise!r}, wants 'gaussian' or 'poisson'")
    return Measurement(projections, tilt_angles_deg, counts=noise == "poisson", **options)


def _on_few_threads(function):
    """Run on one thread where the volume is small: more gain little there, and on a busy machine wait for each other.

    Two threads on two idle cores took 0.85 of the time of one at 32 voxels a side and 0.75 at 64; with other work on
    the cores 16 times as long.
    """

    @functools.wraps(function)
    def run(measurement, **options):
        threads = torch.get_num_threads()
        small = isinstance(measurement, Measurement) and np.prod(measurement.volume_shape) < ONE_THREAD_VOXELS
        if small:
            torch.set_num_threads(1)
        try:
            return function(measurement, **options)
        finally:
            torch.set_num_threads(threads)

    return run


@checked
@_on_few_threads
def fit(
    measurement: Measurement,
    *,
    variant: str = "coordinates",
    preset: str = "quick",
    head: str = "fractions",
    calibrated: bool = True,
    holdout: float = 0.1,
    split: str | None = None,
    validation: ArrayLike | None = None,
    iterations: int | None = None,
    seed: int = 0,
    callbacks: Sequence[Callable[[IterationInfo], bool | None]] = (),
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 20.0,
    progress: bool | None = None,
    **settings: Any,
) -> DIPResult:
    """DIPm-TV of a `Measurement`; see `dipm_tv` for the method.

    Parameters
    ----------
    measurement : Measurement
    variant : {"coordinates", "voxels", "paper"}
        This project's network on coordinates; the same without a network (free voxels with the same head); or the
        formulation of arXiv:2606.10893: 3-D U-Net on noise, squared output, channels divided by their maxima, L1, TV of
        the channel sum, a fixed number of iterations and no stopping (`PaperSettings`).
    preset : {"quick", "full"}
    head : {"fractions", "nonnegative"}
        Volume fractions that add up to at most one (softmax with vacuum), or simply non-negative values.
    calibrated : bool
        False: learn one scale per channel; the volume is then in the projections' unit per
        unit of ``voxel_size_nm``.
    holdout : float
        Fraction of the data that is not fitted but decides when to stop; 0: none.
    split : {"pixels", "tilts", "counts"}, optional
        What is held out: detector pixels; whole tilts; or, for counts, a binomial draw of the counts in every pixel,
        which leaves two independent measurements of it. By default tilts with ``head="nonnegative"`` and at least 12
        tilts, otherwise pixels. A measured tilt has errors of its own, which its held-out pixels share with the fitted
        ones: a volume that fits these errors predicts pixels well but other tilts badly. Held-out tilts decide about
        the correction and the fraction of joint TV; both are then computed with all tilts.
    validation : array (C, T, Y, X), optional
        A second measurement of the same pixels with the same covariance, such as the other half of the frames (counts
        may have another exposure). It replaces the held-out pixels and is not fitted.
    iterations : int, optional
        Do exactly this many; the last iterate is returned (see ``return_to_best``).
    seed : int
        Of the network, the minibatches and the held-out pixels.
    callbacks : sequence of callables
        Each is called with an `IterationInfo` at every check of the held-out pixels; one that returns True ends the
        run. A network that restarts counts its iterations anew.
    checkpoint : path, optional
        File to write the state to (every ``checkpoint_seconds``), and to resume from if it exists. On the same machine
        and thread count, a run that was killed and resumed gives the same volume as one that was not.
    progress : bool, optional
        Show a bar with the held-out chi-square. By default, unless ``SOFTEELS_HEADLESS`` is set.
    **settings
        Fields of `TrainingSettings`, `CoordinateSettings` and `TVSettings`, instead of the preset's.

    Returns
    -------
    DIPResult
    """
    check_kind(measurement, "measurement", Measurement)
    Loop(callbacks=callbacks, checkpoint=checkpoint, checkpoint_seconds=checkpoint_seconds, progress=progress)  # checks
    check_tilts(measurement.projector.tilt_angles_deg)
    chosen, calibrated = _choose(variant, preset, iterations, settings), check_flag(calibrated, "calibrated")
    if calibrated and measurement.counts:
        raise ValueError("calibrated: got True for counts, wants False (counts have no calibrated unit)")
    check_choice(head, "head", HEADS)
    if head != "fractions" and getattr(chosen[0], "entropy_weight", 0):
        raise ValueError(f"entropy_weight: got {chosen[0].entropy_weight!r} with head={head!r}, wants 0 (no fractions)")
    seed = check_seed(seed)
    holdout, validation = (0.0, None) if variant == "paper" else (holdout, validation)
    split = _choose_split(split, head, measurement, validation)
    fitted, held_out = _hold_out(measurement, holdout, split, validation, seed)
    fixed = iterations is not None or not held_out.size
    fingerprint = ""
    if checkpoint is not None:
        about = (variant, chosen, head, calibrated, seed, fixed, holdout, split, held_out.fingerprint())
        fingerprint = fitted.fingerprint("dip 8", *about)
    stored = Checkpoint(checkpoint, fingerprint, checkpoint_seconds, measurement.device)
    run = stored.content["run"]
    scale_is_known = calibrated and head == "fractions"
    prepared = run["prepared"] if run else _prepare(fitted, variant, chosen, scale_is_known)
    column = prepared["scale"].cpu().numpy().astype(np.float32)[:, None, None, None]
    fitted, held_out = (part.rescaled(prepared["scale"].cpu().numpy()) for part in (fitted, held_out))
    trained, state = prepared["trained"], run["state"] if run else None
    networks = getattr(chosen[0], "networks", 1)
    while len(trained) < networks:
        k, restarts = len(trained), prepared["restarts"]
        entropy = [seed, k] + [restarts] * (restarts > 0)
        own_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0]) if k or restarts else seed
        about = variant, chosen, head, prepared["initial"], not calibrated, own_seed
        formulation = _formulation(fitted, held_out, *about)
        voids = variant != "paper" and head == "fractions" and chosen[-1].empty_voids
        training = Training(formulation, held_out, fixed=fixed, voids=voids, seed=own_seed)
        training.seconds = prepared["seconds"]
        if state:
            training.load(state)
            state = None
        counts = sum(one["iterations"] for one in trained), (networks - 1 - k) * formulation.iterations
        training.run([_in_unit(callback, column, *counts) for callback in callbacks], stored, prepared, progress)
        prepared["seconds"] = training.seconds
        if training.reason == STANDS_STILL and restarts < RESTARTS and variant != "paper":
            prepared["restarts"] += 1
            continue
        prepared["restarts"] = 0
        trained.append(training.result())
        if training.asked_to_stop:
            break
    volume, scale = _average(trained, held_out)
    reason, corrected, voids, mixed = trained[-1]["reason"], False, 0, 0.0
    still = sum(one["reason"] == STANDS_STILL for one in trained[:-1])
    reason += f"; of those before it {still} stood still" if still else ""
    if variant != "paper":
        whole = measurement.rescaled(column.ravel()) if split == "tilts" and held_out.size else None
        about = chosen[-1], head, prepared["initial"]
        volume, corrected, voids, mixed = _mend(volume, scale, (fitted, held_out), whole, *about)
        reason += f"; {100 * mixed:.0f} % of joint TV mixed in, as held-out values ask" if mixed else ""
        reason += f"; filled voids emptied, as residuals ask: {voids}" if voids else ""
    scale = column.ravel() * scale.cpu().numpy()
    volume = np.ascontiguousarray(column * volume.cpu().numpy(), dtype=np.float32)
    return DIPResult(volume, *_join(trained), reason, corrected, mixed, scale, voids, flatten(*chosen))


def _average(trained, held_out):
    """Volume and scale: the mean over networks, equal unless held-out values ask for another beyond chance."""
    volume, scale = trained[0]["volume"], trained[0]["scale"]
    for k, other in enumerate(trained[1:], 2):
        volume, part = mix(volume, other["volume"], held_out, 1 / k)
        scale = scale.lerp(other["scale"], part)
    return volume, scale


def _join(trained):
    """History of all networks one after the other, and the iteration that stands for the last."""
    before = np.cumsum([0] + [one["iterations"] for one in trained])
    history = {name: np.concatenate([one["history"][name] for one in trained]) for name in trained[0]["history"]}
    history["iteration"] = np.concatenate(
        [np.array(one["history"]["iteration"]) + start for one, start in zip(trained, before, strict=False)]
    )
    return history, int(before[-2]) + trained[-1]["at"]


def _choose(variant, preset, iterations, settings):
    """The settings of a variant's preset, with those handed in instead; all names checked."""
    check_choice(variant, "variant", VARIANTS)
    check_choice(preset, "preset", ("quick", "full"))
    if iterations is not None:
        settings = {**settings, "iterations": check_count(iterations, "iterations")}
    return build(VARIANTS[variant], PRESETS[variant, preset] | settings)


def _choose_split(split, head, measurement, validation):
    """What is held out; see `fit`."""
    if split is not None:
        check_choice(split, "split", ("pixels", "tilts", "counts"))
    if split is not None or validation is not None:
        return split or "pixels"
    enough = measurement.projections.shape[1] >= TILTS_TO_SPLIT
    return "tilts" if head == "nonnegative" and enough else "pixels"


def _hold_out(measurement, holdout, split, validation, seed):
    """(fitted, held out) parts of a measurement."""
    if isinstance(holdout, bool) or not isinstance(holdout, numbers.Real) or not 0 <= holdout < 0.5:
        raise ValueError(f"holdout: got {holdout!r}, wants a fraction from 0 to below 0.5")
    if split == "counts" and not measurement.counts:
        raise ValueError("split: got 'counts', wants 'pixels' or 'tilts' (the projections are not counts)")
    if validation is not None:
        return measurement, measurement.repeated(validation)
    return measurement.split(holdout, seed, by=split if holdout else "pixels")


def _prepare(fitted, variant, chosen, scale_is_known):
    """What is made before the first step: scale of the channels (C,), initial reconstruction, seconds."""
    began, initial = time.perf_counter(), None
    if variant == "paper":
        scale = channel_maxima(fitted)
    else:
        training, *_, tv = chosen
        scale = np.ones(len(fitted.projections)) if scale_is_known else learn_scale(fitted)
        scale = torch.as_tensor(scale, dtype=torch.float32, device=fitted.device)
        if tv.initial_tv_weight:
            evened = fitted.rescaled(scale.cpu().numpy()).with_variance_floor(training.variance_floor)
            initial = initial_reconstruction(evened, tv.initial_tv_weight)
    return {"scale": scale, "initial": initial, "seconds": time.perf_counter() - began, "trained": [], "restarts": 0}


def _formulation(fitted, held_out, variant, chosen, head, initial, learn, seed):
    """The volume model and its loss, drawn with the seed."""
    gaussian = fitted.as_gaussian()
    sums = gaussian.projections.sum((1, 2, 3)) / gaussian.used.sum((1, 2, 3)).clamp_min(1)
    mean = (sums / gaussian.projector.voxel_size_nm / gaussian.projector.n_z).cpu()
    initial = None if initial is None else initial.to(fitted.device)
    support = find_support(fitted, held_out, initial).cpu() if variant == "coordinates" else None
    # Modules draw from torch's global generator: seed it inside a fork, which leaves the caller's alone.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not those of GPUs, which are not forked
        if variant == "paper":
            return PaperFormulation(fitted, *chosen)
        if variant == "coordinates":
            start = SIMPLEX(short_sirt(gaussian)) if initial is None else initial
            size = specimen_size(start, support.to(fitted.device))
            model = Coordinates(fitted.volume_shape, chosen[1], head=head, mean=mean, support=support, size=size)
            settings = replace(chosen[0], tv_weight=chosen[0].tv_weight * (TYPICAL_SIZE / size) ** 2)
            return WhitenedTV(model, fitted, settings, learn, start if head == "fractions" else None)
        else:
            start = None if initial is None else initial.cpu()
            model = Voxels(fitted.volume_shape, head=head, mean=mean, initial=start)
    return WhitenedTV(model, fitted, chosen[0], learn)


def _joint_tv(measurement, constraint):
    """Joint TV by its own rule."""
    volume = joint_tv(measurement.as_gaussian(), constraint=constraint, progress=False).volume
    return torch.as_tensor(volume, device=measurement.device)


def _mend(volume, scale, parts, whole, tv, head, initial):
    """The volume with what it lacks: (volume, whether corrected by joint TV, voids emptied, part of joint TV).

    Voids come first: a correction of least TV makes some of each, and what is then left in the residuals too little.

    The held-out part of ``parts`` (fitted, held out) decides. Where ``whole`` is given, what it decided is then done
    with all that was measured.
    """
    constraint = SIMPLEX if head == "fractions" else NONNEGATIVE
    column, mixed = scale[:, None, None, None], 0.0
    fitted, held_out = (part.rescaled(scale.cpu().numpy()) for part in parts)
    network, corrected, voids = volume / column, False, 0
    if tv.empty_voids and head == "fractions":
        kept, voids = find_voids(network, (fitted, held_out))
        network = network * kept
    volume = network
    if tv.correction_tv_weight and held_out.size:
        candidate = add_correction(network, fitted, tv.correction_tv_weight, constraint)
        corrected = bool(held_out.misfit(candidate).sum() < held_out.misfit(network).sum())
        volume = candidate if corrected else network
    if tv.mix and initial is not None:
        volume, mixed = mix(volume, constraint(initial / column), held_out)
    if whole is not None:
        whole = whole.rescaled(scale.cpu().numpy())
        volume = add_correction(network, whole, tv.correction_tv_weight, constraint) if corrected else network
        volume = volume.lerp(_joint_tv(whole, constraint), mixed) if mixed else volume
    return volume * column, corrected, voids, mixed


def _in_unit(callback, column, before, after):
    """A callback that sees volumes in the caller's unit, and iterations counted over all networks."""

    def call(info):
        counts = {"iteration": before, "best_iteration": before, "iterations": before + after}
        counts = {name: getattr(info, name) + more for name, more in counts.items()}
        return callback(replace(info, volume=info.volume * column, **counts))

    return call
