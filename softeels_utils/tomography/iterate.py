"""The loop around every iterative algorithm: stop rules, callbacks, checkpoints, progress."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checks import check_flag, check_kind, check_not_negative, check_path, check_tilts, real_array
from ..doors import checked
from ..progress import progress_bar
from .checkpoint import Checkpoint
from .checks import as_tensor, check_count
from .measurement import Measurement
from .stopping import IterationInfo, StopRule

__all__ = ["HeldOutPixels", "Loop", "Reconstruction", "iterate", "start_from"]


@checked(volume="C Y Z X")
@dataclass(frozen=True)
class Reconstruction:
    """What every algorithm returns.

    Attributes
    ----------
    volume : array (C, Y, Z, X), float32
    iteration : int
        Iteration at which the volume was taken.
    converged : bool
        Whether the stopping rule ended the run, not just the number of iterations.
    reason : str
        What ended it.
    chi2 : float
        Chi-square per measured value of the result: about 1 if it explains the data within their errors.
    weight : float
        Of the total variation (NaN without).
    weight_at_bound : bool
        Whether the automatic choice ended at the largest or smallest weight that it tries: data that are nearly all
        noise are best explained by no volume at all, and errors stated too small or too large also move the weight.
    scores : dict of float to float
        What the automatic choice of the weight was based on: ``{weight: chi-square per value}``, fitted or held out.
    history : dict of arrays
        ``iteration``, ``chi2``, ``objective``, ``gap``, ``change``, ``heldout``, ``seconds``; one entry each time that
        the stopping rule was called. With `HeldOut`: from the run without the held-out pixels.
    """

    volume: np.ndarray
    iteration: int = 0
    converged: bool = True
    reason: str = "direct"
    chi2: float = float("nan")
    weight: float = float("nan")
    weight_at_bound: bool = False
    scores: dict[float, float] = field(default_factory=dict)
    history: dict[str, np.ndarray] = field(default_factory=dict)


@checked
@dataclass(frozen=True)
class Loop:
    """How an iterative algorithm is run: keyword arguments of `sirt`, `cgls`, `tv`, `joint_tv` and `tgv`.

    Attributes
    ----------
    iterations : int, optional
        Do this many (a resumed run counts those already done), and ignore the stopping rule.
    max_iterations : int
        Give up after this many (``converged`` is then False).
    callbacks : sequence of callables
        Each is called with an `IterationInfo` whenever the stopping rule is; one that returns True ends the run (with
        `HeldOut`: the search for the number of iterations, which are then done with all pixels).
    checkpoint : path, optional
        File to write the state to (every ``checkpoint_seconds`` and at the end), and to resume from if it exists.
    progress : bool, optional
        Show a bar; by default unless ``SOFTEELS_HEADLESS`` is set.
    """

    iterations: int | None = None
    max_iterations: int = 5000
    callbacks: Sequence[Callable[[IterationInfo], bool | None]] = ()
    checkpoint: str | Path | None = None
    checkpoint_seconds: float = 20.0
    progress: bool | None = None

    def __post_init__(self):
        for name in ("iterations", "max_iterations"):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name)
        if not isinstance(self.callbacks, Sequence) or not all(map(callable, self.callbacks)):
            raise ValueError(f"callbacks: got {self.callbacks!r}, wants a sequence of callables")
        if self.checkpoint is not None:
            check_path(self.checkpoint, "checkpoint")
        check_not_negative(checkpoint_seconds=self.checkpoint_seconds)
        if self.progress is not None:
            check_flag(self.progress, "progress")

    @classmethod
    def from_keywords(cls, keywords: dict[str, Any]) -> Loop:
        """The loop described by keyword arguments; `ValueError` for an unknown one."""
        names = [entry.name for entry in fields(cls)]
        for name, value in keywords.items():
            if name not in names:
                raise ValueError(f"{name}: got {value!r}, wants only {', '.join(names)} beside the named arguments")
        return cls(**keywords)

    def open_checkpoint(
        self, measurement: Measurement, *settings: Any, initial: torch.Tensor | None = None
    ) -> Checkpoint:
        """The checkpoint of this run: of this measurement, these settings and this start."""
        fingerprint = "" if self.checkpoint is None else measurement.fingerprint(*settings, initial=initial)
        return Checkpoint(self.checkpoint, fingerprint, self.checkpoint_seconds, measurement.device)


HISTORY = ("iteration", "chi2", "objective", "gap", "change", "heldout", "seconds")


class HeldOutPixels:
    """Pixels that a run does not fit, and how well its looks predict them: one is chosen by that afterwards.

    Of looks that are 3 % of the iterations apart, since neighbours differ little.

    Parameters
    ----------
    measurement : Measurement
        Of these pixels.
    """

    def __init__(self, measurement: Measurement):
        self.measurement, self.pixels = measurement, measurement.used.any(0)
        self.looks: dict[int, torch.Tensor] = {}  # misfit of each pixel after so many iterations

    def look(self, iteration: int, volume: torch.Tensor) -> float:
        """Keep the misfit after so many iterations; returns chi-square per held-out value."""
        misfit = self.measurement.misfit(volume).sum(0)[self.pixels]
        if iteration >= 1.03 * max(self.looks, default=0):
            self.looks[iteration] = misfit
        return 2 * float(misfit.sum(dtype=torch.float64)) / max(self.measurement.size, 1)

    def choose(self) -> int:
        """The first iteration that predicts them worse than the best one by at most one standard error.

        The minimum is flat and its place is chance, while the volume goes on taking up noise: the rule of L. Breiman et
        al., *Classification and Regression Trees* (Wadsworth, 1984), sec. 3.4.3, for differences pixel by pixel. None
        before a third of the best iteration: where few pixels see the specimen, a standard error allows anything.
        """
        best = min(self.looks, key=lambda iteration: float(self.looks[iteration].sum(dtype=torch.float64)))
        for iteration, misfit in self.looks.items():
            excess = (misfit - self.looks[best]).double()
            if 3 * iteration >= best and excess.mean() <= excess.std(correction=0) / len(excess) ** 0.5:
                return iteration
        return best


class _Run:
    """A solver on its way: what was seen so far."""

    def __init__(self, solver, stop, loop, checkpoint, stage, held_out):
        self.solver, self.stop, self.loop, self.held_out = solver, stop, loop, held_out
        self.checkpoint, self.stage, self.began = checkpoint, stage, time.perf_counter()
        self.total = loop.iterations or loop.max_iterations
        self.done, self.reason, self.history = 0, "", {name: [] for name in HISTORY}
        self.best_iteration, self.best_score = 0, np.inf
        self.previous = solver.volume.clone()
        run = checkpoint.resume(stage, solver) if checkpoint else None
        if run is not None:
            for name in ("done", "history", "reason", "best_iteration", "best_score"):
                setattr(self, name, run[name])
            if held_out is not None:
                held_out.looks = run["looks"]
            self.previous = run["previous"].to(self.previous.device)
            self.began -= self.history["seconds"][-1] if self.history["seconds"] else 0.0
            if loop.iterations and self.done < loop.iterations:
                self.reason = ""

    def save(self):
        names = ("done", "history", "reason", "best_iteration", "best_score", "previous")
        looks = {} if self.held_out is None else {"looks": self.held_out.looks}
        self.checkpoint.save(self.stage, {"state": self.solver.state} | looks | {n: getattr(self, n) for n in names})

    def step(self):
        """One iteration of the solver, and what follows from it."""
        asks = (self.done + 1) % self.stop.every == 0 or self.done + 1 == self.total
        measured = self.solver.step(measure=asks)
        self.done += 1
        if self.stop.watches_chi2 and self.loop.iterations is None and not asks:
            self.reason = self.stop(IterationInfo(self.done, None, self.total, chi2=measured["chi2"]))
        if asks or self.reason:
            self.ask(measured)
        if self.checkpoint and (self.checkpoint.due() or self.reason or self.done == self.total):
            self.save()
        return measured

    def ask(self, measured):
        """Ask the stop rule and the callbacks."""
        volume = self.solver.volume
        measured["change"] = float((volume - self.previous).norm()) / max(float(volume.norm()), 1e-30)
        self.previous = volume.clone()
        if self.held_out is not None:
            measured["heldout"] = self.held_out.look(self.done, volume)
            if measured["heldout"] < self.best_score:
                self.best_iteration, self.best_score = self.done, measured["heldout"]
            earlier = self.history["heldout"][: bisect_right(self.history["iteration"], self.done / 2)]
            measured |= {"heldout_best": self.best_score, "heldout_before": min(earlier, default=np.inf)}
        measured |= {"best_iteration": self.best_iteration, "seconds": time.perf_counter() - self.began}
        info = IterationInfo(self.done, None, self.total, **measured)
        for name, values in self.history.items():
            values.append(float(getattr(info, name)))
        if self.loop.iterations is None:
            self.reason = self.reason or self.stop(info)
        if self.loop.callbacks:
            info = replace(info, volume=volume.cpu().numpy())
            if any([callback(info) for callback in self.loop.callbacks]):
                self.reason = self.reason or "a callback asked for it"


def iterate(
    solver,
    stop: StopRule,
    loop: Loop,
    *,
    checkpoint: Checkpoint | None = None,
    stage: str = "",
    held_out: HeldOutPixels | None = None,
) -> tuple[torch.Tensor, dict]:
    """Step a solver until its stop rule, a callback or the number of iterations ends it.

    Parameters
    ----------
    solver : object with ``volume``, ``state`` (a dict of tensors) and ``step(measure) -> dict``
    stage : str
        Name of this run in the checkpoint and on the progress bar.
    held_out : HeldOutPixels, optional
        What was not fitted: it sees the volume whenever the stop rule is asked.

    Returns
    -------
    volume, record : tensor (C, Y, Z, X), dict
        ``iteration``, ``converged``, ``reason`` and ``history`` of a `Reconstruction`.
    """
    with torch.no_grad():
        run = _Run(solver, stop, loop, checkpoint, stage, held_out)
        with progress_bar(total=run.total, initial=run.done, show=loop.progress, desc=stage) as bar:
            while run.done < run.total and not run.reason:
                measured = run.step()
                bar.update()
                bar.set_postfix({k: f"{v:.3g}" for k, v in measured.items() if k in ("gap", "chi2", "change")})
    return solver.volume, {
        "iteration": run.done,
        "converged": bool(run.reason) and "callback" not in run.reason,
        "reason": run.reason or ("iterations asked for" if loop.iterations else "max_iterations"),
        "history": {name: np.asarray(values) for name, values in run.history.items()},
    }


def start_from(measurement: Measurement, initial) -> torch.Tensor | None:
    """A start volume as a tensor beside the measurement's, checked; None where none is wanted."""
    check_kind(measurement, "measurement", Measurement)
    check_tilts(measurement.projector.tilt_angles_deg)
    if initial is None:
        return None
    if not isinstance(initial, torch.Tensor):
        initial = real_array(initial, "initial")
    if tuple(np.shape(initial)) != measurement.volume_shape:
        raise ValueError(
            f"initial: got shape {tuple(np.shape(initial))}, wants (C, Y, Z, X) = {measurement.volume_shape}"
        )
    start = as_tensor(initial, measurement.device).float()
    if not start.isfinite().all():
        raise ValueError("initial: got NaN or inf, wants finite values")
    return start
