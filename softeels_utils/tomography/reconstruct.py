"""``reconstruct``: one front door to every algorithm."""

import hashlib
import os
from dataclasses import dataclass, field

import numpy as np
import torch

from .backends import BACKENDS, reconstruct_with
from .classical import CGLS, SIRT, filtered_back_projection
from .constraint import Constraint
from .data_term import DataTerm, full_covariance
from .iterate import Checkpoint, iterate
from .projector import ParallelBeam, _finite
from .total_variation import COUPLINGS, TotalVariation

__all__ = ["ALGORITHMS", "Reconstruction", "reconstruct"]

ALGORITHMS = ("fbp", "sirt", "cgls", "tv", "joint_tv")

HELD_OUT = 0.05  # share of the detector pixels that judge in place of the truth
WARM_START = 20  # iterations of SIRT before total variation
SEARCH_GAP = 1e-2  # relative primal-dual gap while a weight is only being tried


@dataclass(frozen=True)
class Reconstruction:
    """What ``reconstruct(..., details=True)`` gives.

    Attributes
    ----------
    volume : array (C, Y, Z, X), float32
    iteration : int
        At which the volume was taken.
    converged : bool
        Whether the rule asked for ended the run (not a bare number of iterations).
    reason : str
        What ended it.
    weight : float
        Of the total variation (NaN without).
    scores : dict of float to float
        What the automatic choice of the weight saw: weight to chi-square a value, fitted or held out.
    chi2 : float
        Chi-square a measured value of the result: about 1 where it explains the data as well as their errors say.
    scale : array (C,)
        Value of a pure voxel (1 where ``calibrated``).
    shifts_px : array (T, 2)
        Shifts used.
    history : dict of arrays
        One entry a look: ``iteration``, ``chi2``, ``objective``, ``gap``, ``change``, ``heldout``, ``seconds``.
    """

    volume: np.ndarray
    iteration: int = 0
    converged: bool = True
    reason: str = "direct"
    weight: float = float("nan")
    scores: dict[float, float] = field(default_factory=dict)
    chi2: float = float("nan")
    scale: np.ndarray | None = None
    shifts_px: np.ndarray | None = None
    history: dict[str, np.ndarray] = field(default_factory=dict)


def reconstruct(
    projections,
    tilt_angles_deg,
    algorithm="sirt",
    *,
    voxel_size_nm=1.0,
    calibrated=True,
    covariance=None,
    weights=None,
    mask=None,
    model_error=0.01,
    bounds=(0.0, None),
    simplex=False,
    weight="heldout",
    coupling="nuclear",
    stop=None,
    tolerance=1e-3,
    iterations=None,
    max_iterations=5000,
    initial=None,
    window="ram-lak",
    slice_shape=None,
    shifts_px=None,
    refine_shifts=False,
    callbacks=(),
    checkpoint=None,
    checkpoint_seconds=20.0,
    progress=None,
    seed=0,
    device=None,
    details=False,
):
    r"""Reconstruct a tilt series of maps.

    Parameters
    ----------
    projections : array (C, T, Y, X)
        Line integrals in the unit of ``voxel_size_nm``; the volume then comes back as fractions.
    tilt_angles_deg : array (T,)
    algorithm : str
        ``"fbp"`` filtered back-projection, ``"sirt"``, ``"cgls"`` (least squares without constraints), ``"tv"``
        (total variation of each channel), ``"joint_tv"`` (of all channels together, 3-D), or another project's code:
        ``"astra:sirt"``, ``"tomopy:sirt"``, ``"skimage:fbp"``, ...
    calibrated : bool
        False: projections are in any unit, one scale a channel is learnt (see Notes), and the volume comes
        back in that unit per ``voxel_size_nm``. Bounds, simplex and weight then apply to volume / scale.
    covariance : array, optional
        Of the channels' noise in a detector pixel: variances (C,) or (C, T, Y, X), covariances (C, C) or
        (T, Y, X, C, C) as `fitting.fit_phases` reports them. By default independent, estimated from differences of
        neighbours.
    weights : array broadcasting to (C, T, Y, X), optional
        Inverse variances, in place of ``covariance``; 0 leaves a value out.
    mask : bool array (T, Y, X) or (C, T, Y, X), optional
        True where a value was measured. The rest may hold anything, NaN too.
    model_error : float
        Error of projecting a voxel grid, as a share of a channel's largest projection; its square is added to the
        variances.
    bounds : (float or None, float or None)
        Least and largest value of a voxel (sirt, tv, joint_tv).
    simplex : bool
        In place of ``bounds``: fractions, not negative, that add up to at most 1.
    weight : float, "noise", "discrepancy" or "heldout"
        Of the total variation. ``"noise"``: the RMS slope that pure noise of the errors stated gives the data term
        (one try, no search); ``"discrepancy"``: such that chi-square a value is 1 (V. A. Morozov, 1966);
        ``"heldout"``: such that a random twentieth of the detector pixels, not fitted, is predicted best.
    coupling : {"nuclear", "frobenius"}
        Norm that joint total variation takes of a voxel's Jacobian (see `TotalVariation`).
    stop : {"change", "discrepancy", "heldout"}, optional
        When sirt and cgls end. ``"discrepancy"`` if ``covariance`` or ``weights`` are given, else ``"change"``.
        Total variation always ends on its primal-dual gap.
    tolerance : float
        Relative primal-dual gap (total variation), or relative change of the volume in ten iterations.
    iterations : int, optional
        Do so many, and do not stop before.
    max_iterations : int
        Give up after so many (``converged`` is then False).
    initial : array (C, Y, Z, X), optional
        Start. For sirt, ``3 × 10`` iterations from the last volume are 30.
    slice_shape : (int, int), optional
        ``(Z, X)`` where a slice is not square.
    shifts_px : array (T,) or (T, 2), optional
        Where each projection of the specimen's centre lies, see `ParallelBeam`.
    refine_shifts : bool
        Refine them first by projection matching (`refine_alignment`).
    callbacks : sequence of callables
        Each gets a `Look` every ten iterations; one that returns True ends the run.
    checkpoint : path, optional
        File to write the state to (every ``checkpoint_seconds`` and at the end), and to go on from if it exists.
    progress : bool, optional
        Show a bar; by default unless ``SOFTEELS_HEADLESS`` is set.
    details : bool
        Give a `Reconstruction` in place of the volume alone.

    Returns
    -------
    array (C, Y, Z, X), float32, or Reconstruction

    Raises
    ------
    ValueError
        Before any work, naming the argument, what it got and what it wants.

    Notes
    -----
    Scales that are not known follow from closure: inside the specimen the fractions add up to 1, so that
    :math:`\sum_c u_c / s_c = 1` is solved for the :math:`s_c > 0` by least squares over the inner voxels of a short
    SIRT. A channel that this leaves undetermined gets its 99th percentile there.

    Examples
    --------
    >>> volume = np.zeros((2, 4, 16, 16), np.float32)
    >>> volume[0, :, 5:11, 4:9] = 1
    >>> tilts = np.linspace(-70, 70, 9)
    >>> fit = reconstruct(ParallelBeam(16, tilts)(volume), tilts, "joint_tv", weight=2.0, details=True)
    >>> fit.converged, bool(np.abs(fit.volume - volume).max() < 0.05)
    (True, True)
    """
    stack, tilts, mask, covariance_of = _checked(projections, tilt_angles_deg, mask, covariance, weights)
    settings = {
        "algorithm": algorithm, "voxel_size_nm": voxel_size_nm, "calibrated": calibrated, "bounds": tuple(bounds),
        "simplex": simplex, "weight": weight, "coupling": coupling, "stop": stop, "tolerance": tolerance, "seed":
        seed, "model_error": model_error, "window": window, "slice_shape": slice_shape, "refine_shifts":
        refine_shifts,
    }  # fmt: skip
    _check_settings(settings, stack, iterations, max_iterations)
    progress = os.environ.get("SOFTEELS_HEADLESS", "") in ("", "0") if progress is None else progress
    size = (stack.shape[-1],) * 2 if slice_shape is None else tuple(slice_shape)
    projector = ParallelBeam(size, tilts, voxel_size_nm, device, shifts_px=shifts_px)
    if projector.n_x != stack.shape[-1]:
        raise ValueError(f"slice_shape: got {slice_shape}, wants (Z, X) with X = {stack.shape[-1]}")
    if initial is not None and np.shape(initial) != (len(stack), stack.shape[2], *size):
        want = (len(stack), stack.shape[2], *size)
        raise ValueError(f"initial: got shape {np.shape(initial)}, wants (C, Y, Z, X) = {want}")
    if refine_shifts:
        from .alignment import refine_alignment

        found = refine_alignment(stack, tilts, mask=mask, shifts_px=projector.shifts_px, device=device)
        projector = projector.shifted(found)
    if ":" in algorithm:
        if not mask.all() or np.any(projector.shifts_px):
            raise ValueError(f"algorithm: {algorithm!r} knows neither mask nor shifts, wants complete, aligned data")
        volume = reconstruct_with(algorithm, stack, tilts, voxel_size_nm=voxel_size_nm, iterations=iterations or 100)
        return Reconstruction(volume, scale=np.ones(len(stack))) if details else volume

    scale = np.ones(len(stack))
    variance = covariance_of(model_error)
    data = DataTerm(projector, stack, variance, mask)
    if not calibrated:
        scale = _learn_scale(data)
        data = DataTerm(projector, stack / scale[:, None, None, None], variance / np.outer(scale, scale), mask)
    lower, upper = bounds
    job = _Job(
        data=data,
        constraint=Constraint(lower, upper, simplex),
        settings=settings,
        start=None if initial is None else _to_tensor(initial, data) / _column(scale, data),
        loop={"iterations": iterations, "max_iterations": max_iterations, "callbacks": _scaled(callbacks, scale)},
        checkpoint=Checkpoint(
            checkpoint, _mark(stack, mask, variance, projector, settings, initial), checkpoint_seconds
        ),
        stop=stop or ("change" if covariance is None and weights is None else "discrepancy"),
        progress=progress,
    )
    with torch.no_grad():
        volume, record = getattr(job, "joint_tv" if algorithm == "tv" else algorithm)()
        chi2 = data.chi2(volume)
    volume = (volume * _column(scale, data)).cpu().numpy()
    if not details:
        return volume
    return Reconstruction(volume, chi2=chi2, scale=scale, shifts_px=projector.shifts_px, **record)


@dataclass
class _Job:
    """One reconstruction, checked; its methods are the algorithms."""

    data: DataTerm
    constraint: Constraint
    settings: dict
    start: torch.Tensor | None
    loop: dict
    checkpoint: Checkpoint
    stop: str
    progress: bool

    def fbp(self):
        return filtered_back_projection(self.data, self.settings["window"]), {}

    def sirt(self):
        return self._algebraic(SIRT)

    def cgls(self):
        return self._algebraic(CGLS)

    def _algebraic(self, solver):
        fit, held = self.data, None
        if self.stop == "heldout" and self.loop["iterations"] is None:
            fit, held = fit.split(HELD_OUT, self.settings["seed"])
        every = 2 if self.stop == "heldout" else 10
        return self._run(solver(fit, self.constraint, self.start), self.stop, heldout=held, every=every)

    def _run(self, solver, stop, stage="", **options):
        options = {"tolerance": self.settings["tolerance"], "checkpoint": self.checkpoint} | self.loop | options
        return iterate(solver, stop=stop, stage=stage or self.settings["algorithm"], progress=self.progress, **options)

    # ---------------------------------------------------------------- total variation

    def joint_tv(self):
        weight, scores = self.settings["weight"], {}
        start = self.start
        if start is None:
            start = self._warm_start()
        unit, like = _typical(start), None
        if weight == "noise":
            weight = _noise_weight(self.data, start) / unit
        elif isinstance(weight, str):
            weight, scores, start, like = self._choose_weight(weight, start, unit)
        solver = self._solver(self.data, weight, start, unit, like)
        volume, record = self._run(solver, "gap", every=20)
        return volume, record | {"weight": float(weight), "scores": scores}

    def _warm_start(self):
        solver = SIRT(self.data, self.constraint)
        for _ in range(WARM_START):
            solver.step()
        return solver.volume

    def _solver(self, data, weight, start, unit, like):
        coupling = "none" if self.settings["algorithm"] == "tv" else self.settings["coupling"]
        return TotalVariation(data, self.constraint, weight, start, unit, coupling, like)

    def _choose_weight(self, rule, start, unit):
        """Search over the logarithm of the weight, from that at which noise alone would be flattened."""
        fit, held = self.data, self.data
        if rule == "heldout":
            fit, held = self.data.split(HELD_OUT, self.settings["seed"])
        scores = {float(w): s for w, s in self.checkpoint.content["scores"].items()}
        solved = {}  # weight: solver; the nearest one is where the next starts

        def nearest(weight):
            like = min(solved.values(), key=lambda s: abs(np.log(s.weight / weight)), default=None)
            return (start, None) if like is None else (like.volume, like)

        def score(weight):
            weight = float(f"{weight:.6g}")
            if weight not in scores:
                volume, like = nearest(weight)
                solver = self._solver(fit, weight, volume, unit, like)
                options = {
                    "tolerance": SEARCH_GAP,
                    "every": 20,
                    "callbacks": (),
                    "iterations": None,
                    "checkpoint": None,
                }
                self._run(solver, "gap", f"weight {weight:.3g}", **options)
                scores[weight] = held.chi2(solver.volume)
                solved[weight] = solver
                while len(solved) > 3:  # the field of a large volume is large
                    solved.pop(max(solved, key=lambda w: abs(np.log(w / min(scores, key=scores.get)))))
                self.checkpoint.content["scores"] = {f"{w:.6g}": s for w, s in scores.items()}
                if self.checkpoint.due():
                    self.checkpoint.write()
            return scores[weight]

        guess = _noise_weight(self.data, start) / unit
        weight = _root(score, guess) if rule == "discrepancy" else _minimum(score, guess)
        return weight, scores, *nearest(weight)


def _root(score, weight, target=1.0):
    """Weight at which a growing score is ``target``, to 2 % of the score or 5 % of the weight."""
    low = high = weight
    value = score(weight)
    while value > target and low > 1e-4 * weight:
        high, low = low, low / 4
        value = score(low)
    while value <= target and high < 1e4 * weight and score(high) <= target:
        low, high = high, high * 4
    if score(low) > target or score(high) <= target:
        return low if score(low) > target else high
    for _ in range(8):
        a, b = score(low), score(high)
        if high / low < 1.05 or min(target - a, b - target) < 0.01 * target:
            break
        # Regula falsi in the logarithms, kept off the ends so that it cannot stall.
        part = np.clip((np.log(target) - np.log(a)) / (np.log(b) - np.log(a)), 0.15, 0.85)
        middle = low * (high / low) ** part
        low, high = (middle, high) if score(middle) <= target else (low, middle)
    return low if target - score(low) < score(high) - target else high


def _minimum(score, weight):
    """Weight of the least score, on a grid of factors 2 and then √2 about the best."""
    factor = 0.5 if score(weight / 2) < score(weight) else 2.0
    best = weight
    for _ in range(12):
        if score(best * factor) >= score(best):
            break
        best *= factor
    return min((best / np.sqrt(2), best, best * np.sqrt(2)), key=score)


def _noise_weight(data, volume):
    """RMS over the specimen's voxels of the data term's slope where residuals are pure noise of the errors stated."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(data.data.shape, generator=generator, dtype=data.data.dtype).to(data.data.device)
    where = volume.abs().sum(0)
    return float(((data.adjoint(noise) ** 2).mean(0) * where).sum() / where.sum().clamp_min(1e-30)) ** 0.5


def _typical(volume):
    """The value that volumes reach: the 99.5th percentile of the largest channel, to set step sizes."""
    values = [np.quantile(c, 0.995) for c in volume.abs().cpu().numpy().reshape(len(volume), -1)]
    return max(float(max(values)), 1e-12)


def _learn_scale(data):
    """Value of a pure voxel in each channel, from closure inside the specimen (see `reconstruct`)."""
    from scipy.ndimage import binary_erosion
    from scipy.optimize import nnls

    with torch.no_grad():
        solver = SIRT(data, Constraint(0.0, None))
        for _ in range(2 * WARM_START):
            solver.step()
    volume = solver.volume.cpu().numpy().astype(float)
    reach = np.array([np.quantile(c[c > 0], 0.99) if (c > 0).any() else 0.0 for c in volume])
    reach = np.where(reach > 0, reach, reach.max() or 1.0)  # an empty channel is like the largest
    total = (volume / reach[:, None, None, None]).sum(0)
    inside = total > 0.5 * np.quantile(total, 0.99)
    deep = binary_erosion(inside, iterations=2)
    inside = deep if deep.sum() > 50 else inside
    samples = (volume / reach[:, None, None, None])[:, inside].T
    inverse = nnls(samples, np.ones(len(samples)))[0] if len(samples) else np.zeros(len(reach))
    return reach / np.where(inverse > 0.1, inverse, 1.0)


def _checked(projections, tilt_angles_deg, mask, covariance, weights):
    """Projections as float32 without NaN, tilts, full mask, and the covariance as a function of the model error."""
    stack = np.asarray(projections)
    if stack.ndim != 4 or 0 in stack.shape or not np.issubdtype(stack.dtype, np.number) or np.iscomplexobj(stack):
        raise ValueError(f"projections: got {stack.dtype} of shape {stack.shape}, wants real numbers (C, T, Y, X)")
    tilts = _finite(tilt_angles_deg, "tilt_angles_deg")
    if tilts.shape != stack.shape[1:2]:
        raise ValueError(
            f"tilt_angles_deg: got shape {tilts.shape}, wants ({stack.shape[1]},), one for each projection"
        )
    used = np.ones(stack.shape, bool)
    if mask is not None:
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape not in (stack.shape, stack.shape[1:]):
            raise ValueError(
                f"mask: got {mask.dtype} of shape {mask.shape}, wants bool {stack.shape[1:]} or {stack.shape}"
            )
        used &= mask
    if covariance is not None and weights is not None:
        raise ValueError("weights: got both weights and covariance, wants one of them")
    if weights is not None:
        try:
            weights = np.broadcast_to(np.asarray(weights, float), stack.shape)
        except ValueError:
            raise ValueError(
                f"weights: got shape {np.shape(weights)}, wants one that broadcasts to {stack.shape}"
            ) from None
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError("weights: got negative or not finite values, wants inverse variances (0: leave out)")
        used &= weights > 0
        covariance = 1 / np.where(weights > 0, weights, 1)
    if not np.isfinite(stack[used]).all():
        raise ValueError("projections: got NaN or inf where the mask says measured, wants finite values there")
    for c in np.flatnonzero(~used.any(axis=(1, 2, 3))):
        raise ValueError(f"mask: leaves nothing measured in channel {c}")
    stack = np.where(used, stack, 0).astype(np.float32)
    covariance = full_covariance(covariance, stack, used)

    def with_model_error(share):
        model = np.diag((share * np.abs(stack).max(axis=(1, 2, 3))) ** 2)
        return covariance + model

    return stack, tilts, used, with_model_error


def _check_settings(settings, stack, iterations, max_iterations):
    algorithm, weight = settings["algorithm"], settings["weight"]
    if algorithm not in ALGORITHMS and str(algorithm).partition(":")[0] not in BACKENDS:
        raise ValueError(
            f"algorithm: got {algorithm!r}, wants one of {ALGORITHMS} or 'astra:...', 'tomopy:...', 'skimage:...'"
        )
    if isinstance(weight, str) and weight not in ("noise", "discrepancy", "heldout"):
        raise ValueError(f"weight: got {weight!r}, wants a number, 'noise', 'discrepancy' or 'heldout'")
    if not isinstance(weight, str) and not (np.isfinite(weight) and weight >= 0):
        raise ValueError(f"weight: got {weight!r}, wants a number of at least 0")
    if settings["coupling"] not in COUPLINGS[:2]:
        raise ValueError(f"coupling: got {settings['coupling']!r}, wants one of {COUPLINGS[:2]}")
    if settings["stop"] not in (None, "change", "discrepancy", "heldout"):
        raise ValueError(f"stop: got {settings['stop']!r}, wants 'change', 'discrepancy' or 'heldout'")
    for name, value in (("iterations", iterations), ("max_iterations", max_iterations)):
        if value is not None and (int(value) != value or value < 1):
            raise ValueError(f"{name}: got {value!r}, wants an integer of at least 1")
    if not settings["tolerance"] > 0:
        raise ValueError(f"tolerance: got {settings['tolerance']!r}, wants a number above 0")
    lower, upper = settings["bounds"]
    if lower is not None and upper is not None and not lower < upper:
        raise ValueError(f"bounds: got {settings['bounds']}, wants (low, high) with low < high")


def _mark(stack, mask, covariance, projector, settings, initial):
    """What makes a checkpoint belong to this run (not how long it is asked to go on)."""
    digest = hashlib.sha256(repr(sorted(settings.items(), key=lambda item: item[0])).encode())
    start = np.zeros(0) if initial is None else np.asarray(initial)
    for array in (stack, mask, covariance, projector.tilt_angles_deg, projector.shifts_px, start):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _to_tensor(array, data):
    return torch.as_tensor(np.ascontiguousarray(array), dtype=data.data.dtype, device=data.data.device)


def _column(scale, data):
    return _to_tensor(scale, data)[:, None, None, None]


def _scaled(callbacks, scale):
    """Callbacks see volumes in the caller's unit."""
    if (scale == 1).all():
        return callbacks
    from dataclasses import replace

    factor = scale[:, None, None, None].astype(np.float32)
    return [lambda look, f=f: f(replace(look, volume=look.volume * factor)) for f in callbacks]
