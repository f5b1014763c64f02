"""The loop around every iterative algorithm: when to stop, what callbacks see, checkpoints, progress."""

import io
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

__all__ = ["Checkpoint", "Look", "iterate"]


@dataclass(frozen=True)
class Look:
    """What a callback sees: a reconstruction at one of its looks.

    Attributes
    ----------
    iteration : int
    volume : array (C, Y, Z, X)
    chi2 : float
        Chi-square a measured value (of the volume before this iteration); NaN where not computed.
    objective, gap : float
        Objective and relative primal-dual gap (total variation; NaN elsewhere).
    change : float
        Relative change of the volume since the look before.
    heldout : float
        Chi-square a held-out value (NaN: none held out).
    seconds : float
        Since the loop began.
    """

    iteration: int
    volume: np.ndarray
    chi2: float = np.nan
    objective: float = np.nan
    gap: float = np.nan
    change: float = np.nan
    heldout: float = np.nan
    seconds: float = 0.0


class Checkpoint:
    """A file that a killed reconstruction goes on from; ``path=None`` keeps nothing.

    Tensors and plain numbers only, read by ``torch.load(weights_only=True)``; written beside and moved in place, so
    that a kill leaves the old or the new file whole.
    """

    def __init__(self, path, mark, seconds=20.0, device="cpu"):
        self.path = None if path is None else Path(path)
        self.mark, self.seconds, self.written = mark, seconds, time.perf_counter()
        self.content = {"mark": mark, "scores": {}, "stage": "", "run": None}
        if self.path is not None and self.path.exists():
            try:
                content = torch.load(self.path, weights_only=True, map_location=device)
            except Exception as error:
                raise ValueError(f"checkpoint: cannot read {self.path} ({error})") from error
            if not isinstance(content, dict) or content.get("mark") != mark:
                raise ValueError(
                    f"checkpoint: {self.path} is of other projections or settings, wants this run's or a new file"
                )
            self.content = content

    def due(self):
        """Whether it is time to write again."""
        return self.path is not None and time.perf_counter() - self.written > self.seconds

    def save(self, stage, run):
        """Write the state of a stage."""
        self.content |= {"stage": stage, "run": run}
        self.write()

    def write(self):
        """Write what is known."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(self.content, buffer)
        beside = self.path.with_name(self.path.name + ".part")
        with beside.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        self.written = time.perf_counter()

    def resume(self, stage, solver):
        """Bring a solver to where this stage was; the run's record, or None."""
        run = self.content["run"]
        if self.content["stage"] != stage or run is None:
            return None
        for name, value in run["state"].items():
            solver.state[name] = value.to(solver.state[name].device)
        return run


def iterate(
    solver,
    *,
    stop,
    tolerance,
    iterations=None,
    max_iterations=5000,
    every=10,
    heldout=None,
    callbacks=(),
    checkpoint=None,
    stage="",
    progress=False,
):
    """Step a solver until it is done.

    Parameters
    ----------
    stop : {"gap", "change", "discrepancy", "heldout"}
        ``"gap"``: relative primal-dual gap below the tolerance; ``"change"``: relative change between two looks;
        ``"discrepancy"``: chi-square a value at most 1, or as ``"change"`` if it is never reached;
        ``"heldout"``: the held-out chi-square has not improved for five looks; gives back the best.
    iterations : int, optional
        Do so many in all (a resumed run counts those done) and ignore ``stop``.

    Returns
    -------
    (tensor, dict)
        The volume, and its record: ``history``, ``iteration``, ``converged``, ``reason``.
    """
    from tqdm.auto import tqdm

    began, total = time.perf_counter(), iterations or max_iterations
    previous = solver.volume.clone()
    history = {name: [] for name in ("iteration", "chi2", "objective", "gap", "change", "heldout", "seconds")}
    done, reason, best, best_at, score = 0, "", None, 0, np.inf
    run = checkpoint.resume(stage, solver) if checkpoint else None
    if run is not None:
        done, history, reason, best_at, score = (run[k] for k in ("done", "history", "reason", "best_at", "score"))
        best, previous = run["best"], run["previous"].to(previous.device)
        began -= history["seconds"][-1] if history["seconds"] else 0.0
        if iterations and done < iterations:
            reason = ""

    def record():
        return {
            "state": solver.state, "done": done, "history": history, "reason": reason, "best": best,
            "best_at": best_at, "score": score, "previous": previous,
        }  # fmt: skip

    with tqdm(total=total, initial=done, disable=not progress, desc=stage or type(solver).__name__) as bar:
        while done < total and not reason:
            look_now = (done + 1) % every == 0 or done + 1 == total
            measured = solver.step(measure=True) if look_now and stop == "gap" else solver.step()
            done += 1
            bar.update()
            if iterations is None and stop == "discrepancy" and measured.get("chi2", np.inf) <= 1:
                reason, look_now = "discrepancy principle", True
            if look_now:
                volume = solver.volume
                size = float(volume.norm())
                measured["change"] = float((volume - previous).norm()) / max(size, 1e-30)
                previous = volume.clone()
                if heldout is not None:
                    measured["heldout"] = heldout.chi2(volume)
                    if measured["heldout"] < score:
                        best, best_at, score = previous, done, measured["heldout"]
                measured |= {"iteration": done, "seconds": time.perf_counter() - began}
                for name, values in history.items():
                    values.append(float(measured.get(name, np.nan)))
                if iterations is None:
                    reason = reason or _verdict(stop, measured, tolerance, done - best_at, every, size)
                bar.set_postfix({k: f"{v:.3g}" for k, v in measured.items() if k in ("gap", "chi2", "change")})
                if callbacks:
                    known = {k: v for k, v in measured.items() if k in Look.__dataclass_fields__}
                    look = Look(**(known | {"volume": volume.cpu().numpy()}))
                    if any([callback(look) for callback in callbacks]):
                        reason = reason or "a callback asked for it"
            if checkpoint and (checkpoint.due() or reason or done == total):
                checkpoint.save(stage, record())
    if heldout is not None and iterations is None and best is not None:
        volume, at = best.to(solver.volume.device), best_at
    else:
        volume, at = solver.volume, done
    history = {name: np.asarray(values) for name, values in history.items()}
    converged = bool(reason) and "callback" not in reason
    reason = reason or ("iterations asked for" if iterations else "max_iterations")
    return volume, {"history": history, "iteration": at, "converged": converged, "reason": reason}


def _verdict(stop, measured, tolerance, since_best, every, size):
    """Why to stop now, or an empty string."""
    if stop == "gap" and measured.get("gap", np.inf) <= tolerance:
        return "primal-dual gap"
    if stop in ("change", "discrepancy") and (measured["change"] <= tolerance or size == 0):
        return "relative change"
    if stop in ("change", "discrepancy") and measured.get("gap", np.inf) <= 1e-6:
        return "normal equations solved"
    if stop == "heldout" and (since_best >= 5 * every or measured["change"] <= tolerance / 10):
        return "held-out pixels"
    return ""
