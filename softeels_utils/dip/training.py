"""Training a volume model: the loop, looks at the held-out pixels, checkpoints."""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from softeels_utils.progress import progress_bar
from softeels_utils.tomography import Checkpoint, IterationInfo, Measurement

from .formulation import Formulation
from .stopping import EarlyStopping
from .voids import find_voids

__all__ = ["STANDS_STILL", "Training"]

HISTORY = ("iteration", "chi2", "heldout", "variance", "seconds")
# What a checkpoint keeps of the training beside parameters and optimiser.
STATE = ("iteration", "seconds", "history", "rate_factor", "previous", "running_mean", "running_variance", "reason")
EARLIEST_STOP = 0.4  # of the schedule
VOIDS_AT = (0.4, 0.6, 0.8)  # of the schedule
STANDS_STILL = "the network stands still: it has lost its gradient"


class Training:
    """A run: its state, and what happens to it.

    Parameters
    ----------
    formulation : Formulation
    held_out : Measurement
        Judges the iterates; may be empty.
    fixed : bool
        Do all iterations, whatever the held-out pixels say.
    voids : bool
        Look now and then for voids that the model has filled, and keep them empty from then on: it would bend the rest
        of the specimen to fit without them.
    seed : int
        Of the minibatches and the noise on the inputs.
    """

    def __init__(self, formulation: Formulation, held_out: Measurement, *, fixed: bool, voids: bool, seed: int):
        self.formulation, self.held_out, self.fixed, self.voids = formulation, held_out, fixed, voids
        self.average = [p.detach().clone() for p in formulation.parameters]
        self.optimizer, self.stopping = formulation.optimizer(), EarlyStopping()
        self.generator = torch.Generator().manual_seed(seed)
        self.iteration, self.seconds, self.rate_factor = 0, 0.0, 1.0
        self.previous, self.running_mean, self.running_variance = None, None, 0.0
        self.reason, self.asked_to_stop = None, False
        self.history = {name: [] for name in HISTORY}

    # -------------------------------------------------------------- keeping and restoring

    def state(self) -> dict:
        """Everything that decides what comes next, as tensors and plain values."""
        f = self.formulation
        return {name: getattr(self, name) for name in STATE} | {
            "parameters": [p.detach() for p in f.parameters], "buffers": self._buffers(),
            "average": self.average, "optimizer": self.optimizer.state_dict(), "generator": self.generator.get_state(),
            "stopping": vars(self.stopping), "kept": f.kept,
        }  # fmt: skip

    def _buffers(self):
        """Buffers that the model cannot make again."""
        model = self.formulation.model
        kept = model.state_dict(keep_vars=True)
        return {name: buffer for name, buffer in model.named_buffers() if name in kept}

    def load(self, state: dict) -> None:
        """Go on from there."""
        f = self.formulation
        with torch.no_grad():
            for parameter, value in zip(f.parameters, state["parameters"], strict=True):
                parameter.copy_(value)
            for name, buffer in self._buffers().items():
                buffer.copy_(state["buffers"][name])
        self.average, f.kept = state["average"], state["kept"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.stopping = EarlyStopping(**state["stopping"])
        for name in STATE:
            setattr(self, name, state[name])

    # -------------------------------------------------------------- the loop

    def run(self, callbacks, checkpoint: Checkpoint, prepared: dict, progress: bool | None) -> None:
        """Iterate to the end of the schedule, or to a stop.

        Parameters
        ----------
        callbacks : sequence of callables
            Each gets an `IterationInfo` at every look.
        checkpoint : Checkpoint
        prepared : dict
            What was made before the first step, kept in the checkpoint beside the state.
        progress : bool or None
        """
        f, began = self.formulation, time.perf_counter() - self.seconds
        with progress_bar(total=f.iterations, initial=self.iteration, show=progress, desc="DIPm-TV") as bar:
            while self.iteration < f.iterations and self.reason is None and not self.asked_to_stop:
                self.step()
                self.iteration += 1
                bar.update()
                last = self.iteration == f.iterations
                if self.iteration % f.every == 0 or last:
                    self.seconds = time.perf_counter() - began
                    info = self.look()
                    bar.set_postfix(heldout=f"{info.heldout:.3f}")
                    self.asked_to_stop = any([callback(info) for callback in callbacks])
                if last or self.asked_to_stop or self.reason is not None or checkpoint.due():
                    self.seconds = time.perf_counter() - began
                    checkpoint.save("dip", {"prepared": prepared, "state": self.state()})

    def step(self) -> None:
        """One step of the optimiser, and the running average of the parameters."""
        f = self.formulation
        for group in self.optimizer.param_groups:
            group["lr"] = f.learning_rate(self.iteration) * self.rate_factor
        loss = f.loss(self.iteration, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if f.clip < math.inf:
            torch.nn.utils.clip_grad_norm_(f.parameters, f.clip)
        self.optimizer.step()
        with torch.no_grad():
            weight = 1 / (1 + f.ema * self.iteration)
            torch._foreach_lerp_(self.average, [p.detach() for p in f.parameters], weight)

    @torch.no_grad()
    def averaged(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Volume (C, Y, Z, X) and scale (C,) of the averaged parameters."""
        f = self.formulation
        present = [p.detach().clone() for p in f.parameters]
        self._set(self.average)
        volume, scale = f.volume(), f.scale.clone()
        self._set(present)
        return volume, scale

    @torch.no_grad()
    def _set(self, values):
        for parameter, value in zip(self.formulation.parameters, values, strict=True):
            parameter.copy_(value)

    @torch.no_grad()
    def look(self) -> IterationInfo:
        """Judge by the held-out pixels, remember the best, decide whether to stop; if it is time, look for voids."""
        volume, scale = self.averaged()
        f, held_out = self.formulation, self.held_out
        before = max(self.history["iteration"], default=0)
        if self.voids and any(before < part * f.iterations <= self.iteration for part in VOIDS_AT):
            parts = [part.rescaled(scale.cpu().numpy()) for part in (f.fitted, held_out)]
            f.kept, _ = find_voids(volume / scale[:, None, None, None], parts)
        seen = volume * f.kept
        model = f.fitted.projector(seen)
        chi2 = 2 * float(f.fitted.loss(model)[f.fitted.used].mean())
        heldout = float("nan")
        if held_out.size:
            misfit = held_out.loss(model)[held_out.used]
            heldout = 2 * float(misfit.mean())
            self.stopping.update(misfit, volume, scale, self.iteration, self.average if self.fixed else [])
            self._decide()
        self._update_variance(volume)
        # Where the softmax saturates in every voxel nothing moves any more, and nothing ever will.
        if self.iteration < f.iterations / 2 and self.previous is not None and torch.equal(volume, self.previous[0]):
            self.reason = STANDS_STILL
        self.previous = volume, scale
        entry = (self.iteration, chi2, heldout, self.running_variance, self.seconds)
        for name, value in zip(HISTORY, entry, strict=True):
            self.history[name].append(value)
        return IterationInfo(
            self.iteration, np.ascontiguousarray(seen.cpu().numpy()), f.iterations, chi2=chi2, heldout=heldout,
            best_iteration=self.stopping.iteration, seconds=self.seconds,
        )  # fmt: skip

    def _update_variance(self, volume, weight=0.2):
        """Exponentially weighted mean and variance of the volumes, the latter in parts of the volume's norm squared."""
        self.running_mean = volume if self.running_mean is None else self.running_mean
        difference = volume - self.running_mean
        self.running_mean = self.running_mean + weight * difference
        change = float((difference.norm() / volume.norm().clamp_min(1e-12)) ** 2)
        self.running_variance = (1 - weight) * (self.running_variance + weight * change)

    def _decide(self):
        """Stop, or go back to the best iterate, once the held-out misfit says so."""
        stopping, f = self.stopping, self.formulation
        if self.iteration <= EARLIEST_STOP * f.iterations:
            return
        if not self.fixed:
            if stopping.overfits:
                self.reason = f"held-out misfit rises above that of iteration {stopping.iteration}"
        elif f.return_to_best and (stopping.overfits or stopping.stalled):
            self._set(stopping.weights)
            for average, value in zip(self.average, stopping.weights, strict=True):
                average.copy_(value)
            self.rate_factor /= 100
            stopping.reset()
            self.optimizer = f.optimizer()

    # -------------------------------------------------------------- the end

    def result(self) -> dict:
        """What is kept of a run that has ended: volume (C, Y, Z, X), scale (C,), the iteration they stand for (``at``),
        why it is these (``reason``), ``iterations`` done and ``history``."""
        (volume, scale), at, reason = self.previous, self.iteration, self.reason
        if self.fixed:
            returned = f", returned to iteration {self.stopping.iteration}" if self.rate_factor < 1 else ""
            reason = f"did the {self.iteration} iterations of its schedule{returned}"
        else:
            volume, scale, at = self.stopping.mean, self.stopping.scale, self.stopping.iteration
            when = "at its end" if at == self.iteration else f"at iteration {at}"
            reason = reason or f"end of schedule; held-out misfit is lowest {when}"
            iterations, variance = self.history["iteration"], self.history["variance"]
            calmest = iterations[1 + int(np.argmin(variance[1:]))] if len(variance) > 1 else at
            reason += f" (running variance is lowest at {calmest})"
        if self.reason == STANDS_STILL:
            reason = self.reason
        if self.asked_to_stop and self.reason is None and self.iteration < self.formulation.iterations:
            reason = "a callback asked for it"
        return {
            "volume": volume, "scale": scale, "at": at, "reason": reason, "iterations": self.iteration,
            "history": self.history,
        }  # fmt: skip
