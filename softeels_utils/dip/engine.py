"""The engine: fit the network to the projections, watch held-out pixels, stop, keep checkpoints."""

from __future__ import annotations

import hashlib
import math
import numbers
import os
import time
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from softeels_utils.tomography.iterate import Checkpoint

from .guide import correct, first_reconstruction
from .networks import SliceDecoder, UNet3d
from .problem import pose
from .settings import choose
from .stopping import Watch


@dataclass(frozen=True)
class Look:
    """What a callback sees: the run at one of its looks at the held-out pixels.

    Attributes
    ----------
    iteration, iterations : int
        Done, and planned.
    loss, heldout : float
        Misfit of the fitted and of the held-out pixels, means over values (NaN: none held out). With Gaussian noise of
        the stated covariance the truth has 0.5; less where the error of the voxel grid, which is added, is not small.
    seconds : float
    volume : array (C, Y, Z, X)
    """

    iteration: int
    iterations: int
    loss: float
    heldout: float
    seconds: float
    volume: np.ndarray


@dataclass(frozen=True)
class DIPResult:
    """A reconstruction.

    Attributes
    ----------
    volume : array (C, Y, Z, X), float32
    history : dict of arrays
        ``iteration``, ``loss``, ``heldout``, ``variance`` (running variance of the volume, in parts of its norm
        squared) and ``seconds``, one entry a look.
    stopped_at : int
        Iteration of the volume; where that is a mean (see `dipm_tv`), the best one in it. The run ended at
        ``history["iteration"][-1]``.
    reason : str
        Why it is this one.
    refined : bool
        Whether a correction of least TV was added after the last step (see `dipm_tv`).
    scale : array (C,)
        Value of a pure voxel.
    settings : dict
    """

    volume: np.ndarray
    history: dict[str, np.ndarray]
    stopped_at: int
    reason: str
    refined: bool
    scale: np.ndarray
    settings: dict = field(default_factory=dict)


def dipm_tv(
    projections,
    tilt_angles_deg,
    *,
    variant="fast",
    preset="quick",
    head="fractions",
    calibrated=True,
    covariance=None,
    mask=None,
    noise="gaussian",
    holdout=0.1,
    split="pixels",
    validation=None,
    voxel_size_nm=1.0,
    slice_shape=None,
    shifts_px=None,
    iterations=None,
    seed=0,
    callbacks=(),
    checkpoint=None,
    checkpoint_seconds=20.0,
    progress=None,
    device=None,
    **settings,
):
    r"""Reconstruct all phases jointly with an untrained network and total variation (DIPm-TV).

    With :math:`f_w` the volumes the network makes of its parameters :math:`w`, :math:`A` the projector, :math:`b` the
    projections and :math:`\Sigma` the covariance of the channels in a detector pixel, it minimises

    .. math:: \tfrac12 \sum_{t,y,x} \| \Sigma^{-1/2} (A f_w - b) \|^2
              + \lambda \sum_{v} \Big( \sum_{c,d} (\partial_d f_{w,c})^2 \Big)^{1/2}.

    Parameters
    ----------
    projections : array (C, T, Y, X)
        One to eight channels. Line integrals of volume fractions in the unit of ``voxel_size_nm``
        (``calibrated=True``), in any unit (False), or counts (``noise="poisson"``).
    tilt_angles_deg : array (T,)
    variant : {"fast", "paper"}
        This project's network, or the formulation of arXiv:2606.10893: 3-D U-Net on noise, squared output, channels
        divided by their maxima, L1, TV of the channel sum, a fixed number of iterations and no stopping.
    preset : {"quick", "full"}
    head : {"fractions", "nonnegative"}
        Volume fractions that add up to at most one (softmax with vacuum), or just non-negative values.
    calibrated : bool
        False: learn one scale per channel; the volume is then in the projections' unit per voxel.
    covariance : array, optional
        Of the channels' noise: (C,) or (C, T, Y, X) variances, (C, C), or (T, Y, X, C, C) as
        `fitting.fit_phases` reports it. By default independent, one variance a channel, estimated from the
        projections. The error of the voxel grid itself (1 % of the range) is added.
    mask : array of bool, (T, Y, X) or (C, T, Y, X), optional
        True where a pixel was measured; the rest may hold anything, NaN too.
    noise : {"gaussian", "poisson"}
    holdout : float
        Share of what was measured that is not fitted but used to stop by; 0: none.
    split : {"pixels", "counts"}
        What that is a share of: the detector pixels, or, with ``noise="poisson"``, the counts of every pixel, drawn
        binomially, which leaves two independent measurements of it.
    validation : array (C, T, Y, X), optional
        A second measurement of the same pixels and of the same covariance, such as the other half of the frames
        (counts may be of another dose). It is stopped by in place of held-out pixels, and not fitted.
    slice_shape : (int, int), optional
        ``(Z, X)`` of a slice where it is not square.
    shifts_px : array, optional
        As in `tomography.ParallelBeam`.
    iterations : int, optional
        Do so many and do not stop before; the last iterate is returned (see ``settle`` in `Settings`).
    seed : int
        Of the network, the minibatches and the held-out pixels.
    callbacks : sequence of callables
        Each is called with a `Look` at every look at the held-out pixels; one that returns True ends the run.
    checkpoint : path, optional
        File to write the state to (at least every ``checkpoint_seconds``), and to go on from if it exists. On one
        machine and thread count a run that was killed and resumed gives the volume of one that was not.
    progress : bool, optional
        Show a bar with the held-out misfit. By default, unless ``SOFTEELS_HEADLESS`` is set.
    device : str, optional
        By default the GPU if there is one.
    **settings
        Fields of `Settings`, in place of the preset's.

    Returns
    -------
    DIPResult

    Raises
    ------
    ValueError
        Before any work, naming the argument, what it got and what it wants.

    Notes
    -----
    Memory: about eight copies of the volume (first reconstruction at all levels, last iterate, mean, running mean, and
    what the correction needs), the covariances where every pixel has its own, and the activations of one minibatch of
    slices: 1 GiB for two volumes of 112³ voxels (``benchmarks/dip.py size``).

    A loosely converged joint TV reconstruction of the fitted pixels is given to the network at every level, with fresh
    noise in each step, so that it learns what to make of it instead of copying it. At the end a correction
    :math:`r` is added that makes :math:`f_w + r` fit as well as it can while :math:`r` has least TV: details that the
    network's prior cannot make, as a void of two voxels. It is kept if the held-out pixels are predicted better.

    Stopping. When the misfit of the held-out pixels rises above its least, by more than twice the standard error of the
    mean difference, pixel by pixel, five looks in a row and after two fifths of the schedule, the network fits noise
    and the run ends before its schedule does. Returned is, also at the end of the schedule, the mean of the iterates
    seen at the looks, weighted with the root of the likelihood that each gives to the held-out pixels: with few of them
    the least misfit is in part chance. With ``iterations=`` the run settles by the best iterate instead, also if the
    misfit is no lower for ten looks. The running variance of the volume is a second opinion: told, not acted on.

    References
    ----------
    D. Ulyanov, A. Vedaldi & V. Lempitsky, CVPR 2018 (deep image prior);
    R. Heckel & P. Hand, ICLR 2019 (deep decoder).
    """
    chosen = choose(variant, preset, iterations, settings)
    if head not in ("fractions", "nonnegative"):
        raise ValueError(f"head: got {head!r}, wants 'fractions' or 'nonnegative'")
    if noise == "poisson" and calibrated:
        raise ValueError("calibrated: got True with noise='poisson', wants False (counts have no calibrated unit)")
    if not isinstance(seed, numbers.Integral) or seed < 0:
        raise ValueError(f"seed: got {seed!r}, wants a non-negative integer")
    try:
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"device: got {device!r}, wants one of torch's ({error})") from None
    paper = variant == "paper"
    if paper:
        holdout, validation = 0.0, None
    problem = pose(projections, tilt_angles_deg, voxel_size_nm=voxel_size_nm, calibrated=calibrated,
                   covariance=covariance, mask=mask, noise=noise, holdout=holdout, split=split, validation=validation,
                   slice_shape=slice_shape, shifts_px=shifts_px, seed=seed, device=device)  # fmt: skip
    fixed = iterations is not None or paper or not problem.held.any()
    run = _Run(problem, chosen, paper, head, calibrated, seed, fixed)
    kept = Checkpoint(checkpoint, run.fingerprint(), checkpoint_seconds, device)
    if kept.content["run"] is None:
        run.build()
    else:
        run.load(kept.content["run"])
    if progress is None:
        progress = os.environ.get("SOFTEELS_HEADLESS", "") in ("", "0")
    run.train(callbacks, kept, progress)
    return run.result()


def joint_variation(volume, smooth=1e-3):
    r"""Joint total variation :math:`\sum_v \sqrt{\sum_{c,d} (\partial_d f_c)^2 + \epsilon^2}` of ``(C, Y, Z, X)``.

    One root over all channels: interfaces cost least where those of two phases coincide.
    """
    pad = torch.nn.functional.pad
    d_y = pad(volume[:, 1:] - volume[:, :-1], (0, 0, 0, 0, 0, 1))
    d_z = pad(volume[:, :, 1:] - volume[:, :, :-1], (0, 0, 0, 1))
    d_x = pad(volume[..., 1:] - volume[..., :-1], (0, 1))
    return ((d_y**2 + d_z**2 + d_x**2).sum(0) + smooth**2).sqrt().sum()


# Version of what a checkpoint holds.
STATE = 2


class _Run:
    """State of a run, and what happens to it."""

    def __init__(self, problem, settings, paper, head, calibrated, seed, fixed):
        self.problem, self.settings, self.paper, self.head = problem, settings, paper, head
        self.calibrated, self.seed, self.fixed, self.device = calibrated, seed, fixed, problem.data.device
        self.iteration, self.seconds, self.rate, self.watch = 0, 0.0, 1.0, Watch()
        self.previous, self.running, self.variance, self.reason, self.asked = None, None, 0.0, None, False
        self.history = {name: [] for name in ("iteration", "loss", "heldout", "variance", "seconds")}
        self.generator = torch.Generator().manual_seed(seed)

    # -------------------------------------------------------------- making and restoring

    def fingerprint(self):
        """Hash of data, geometry and settings: a checkpoint of another problem is refused."""
        p = self.problem
        given = asdict(self.settings), self.paper, self.head, self.calibrated, self.seed, self.fixed
        digest = hashlib.sha256(repr((STATE, given, p.shape, p.exposure, p.poisson)).encode())
        for tensor in (p.data, p.modes, p.precision, p.train, p.held, p.judge, p.unit):
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
        for array in (p.projector.tilt_angles_deg, p.projector.shifts_px):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def build(self):
        """Scale of the channels, and a new network."""
        problem, s, began = self.problem, self.settings, time.perf_counter()
        if self.paper:
            self._make(torch.where(problem.train, problem.data, 0).amax((1, 2, 3)).clamp_min(1e-12), None)
        else:
            known = self.calibrated and self.head == "fractions"
            guide, scale = first_reconstruction(problem, s.guide_weight, even=s.least_variance, calibrated=known)
            self._make(scale, guide)
        self.seconds = time.perf_counter() - began

    def _make(self, scale, guide):
        self.scale, self.guide = scale, guide
        # Modules draw from torch's global generator: seed it inside a fork, which leaves the caller's alone.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)  # not those of GPUs, which are not forked
            if self.paper:
                self.model = UNet3d(self.problem.shape, scale.cpu())
            else:
                s, width = self.settings, max(self.problem.shape[2:])
                levels = max(2, 1 + round(math.log2(width / 6)))

                def fit(x):
                    return (x[:1] * max(0, levels - len(x)) + x)[-levels:]

                self.model = SliceDecoder(
                    self.problem.shape, head=self.head, scale=scale.cpu(), share=self._share(scale).cpu(),
                    guide=None if guide is None else guide.cpu(), learn_scale=not self.calibrated,
                    sharpness=s.sharpness, channels=fit(s.channels), latents=fit(s.latents), along=fit(s.along),
                )  # fmt: skip
        self.model.to(self.device)
        self.weights = [p for p in self.model.parameters() if p.requires_grad and p.numel()]
        self.average = [w.detach().clone() for w in self.weights]
        self._optimize()

    def _optimize(self):
        kind = torch.optim.AdamW if self.paper else torch.optim.Adam
        betas = (0.9, 0.999 if self.paper else 0.99)
        self.optimizer = kind(self.weights, lr=self.settings.learning_rate, betas=betas)

    def _share(self, scale):
        """Mean over the field of view of what each channel's head should put out, from the projections alone."""
        kept = self.problem.train
        mean = torch.where(kept, self.problem.data, 0).sum((1, 2, 3)) / kept.sum((1, 2, 3)).clamp_min(1)
        return mean / self.problem.projector.n_z / scale

    def state(self):
        """Everything that decides what comes next, as tensors and plain values."""
        return {
            "scale": self.scale, "guide": self.guide, "weights": [w.detach() for w in self.weights],
            "buffers": dict(self.model.named_buffers()) if self.paper else {},
            "average": self.average, "optimizer": self.optimizer.state_dict(), "generator": self.generator.get_state(),
            "iteration": self.iteration, "seconds": self.seconds, "history": self.history, "rate": self.rate,
            "watch": vars(self.watch), "previous": self.previous, "running": self.running, "variance": self.variance,
            "reason": self.reason,
        }  # fmt: skip

    def load(self, state):
        """Go on from there."""
        self._make(state["scale"], state["guide"])
        with torch.no_grad():
            for weight, value in zip(self.weights, state["weights"], strict=True):
                weight.copy_(value)
            for name, buffer in self.model.named_buffers():
                if name in state["buffers"]:
                    buffer.copy_(state["buffers"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.watch = Watch(**state["watch"])
        for name in ("average", "iteration", "seconds", "history", "rate", "previous", "running", "variance", "reason"):
            setattr(self, name, state[name])

    # -------------------------------------------------------------- training

    def train(self, callbacks, checkpoint, progress):
        """Iterate to the end of the schedule, or to a stop."""
        from tqdm.auto import tqdm

        s = self.settings
        every = s.every or max(1, s.iterations // 40)
        began = time.perf_counter() - self.seconds
        with tqdm(total=s.iterations, initial=self.iteration, disable=not progress, desc="DIPm-TV") as bar:
            while self.iteration < s.iterations and self.reason is None and not self.asked:
                self._step()
                self.iteration += 1
                bar.update()
                last = self.iteration == s.iterations
                if self.iteration % every == 0 or last:
                    self.seconds = time.perf_counter() - began
                    look = self._look()
                    bar.set_postfix(heldout=f"{look.heldout:.3f}")
                    self.asked = any([callback(look) for callback in callbacks])
                if last or self.asked or self.reason is not None or checkpoint.due():
                    self.seconds = time.perf_counter() - began
                    checkpoint.save("dip", self.state())

    def _rows(self):
        """Rows of this iteration's minibatch, blocks of neighbours, and where TV along Y is cut."""
        total, s = self.problem.shape[1], self.settings
        blocks = s.blocks or max(3, total // 16)
        if self.paper or blocks * s.block_rows >= total:
            return torch.arange(total, device=self.device), []
        starts = torch.randperm(total // s.block_rows, generator=self.generator)[:blocks] * s.block_rows
        starts = starts + torch.randint(0, total % s.block_rows + s.block_rows, (1,), generator=self.generator)
        rows = (starts[:, None] + torch.arange(s.block_rows)).flatten() % total
        # A block may go on from the last row to the first.
        cuts = [k for k in range(1, len(rows)) if k % s.block_rows == 0 or rows[k] == 0]
        return rows.to(self.device), cuts

    def _step(self):
        s = self.settings
        t = self.iteration / s.iterations
        rise, fall = min(1.0, (t + 1 / s.iterations) / s.warmup), math.cos(math.pi * t / 2) ** 2
        rate = 1.0 if self.paper else self.rate * rise * max(fall, 0.02)
        for group in self.optimizer.param_groups:
            group["lr"] = s.learning_rate * rate
        rows, cuts = self._rows()
        volume = self.model(rows, jitter=s.jitter, guide_noise=s.guide_noise, generator=self.generator)
        model = self.problem.projector(volume)
        if self.paper:
            loss = self._paper_loss(volume, model)
        else:
            misfit = self.problem.misfit(model, rows, even=s.least_variance).sum()
            unit = volume / self.model.log_scale.detach().exp()[:, None, None, None]
            rough = sum(joint_variation(part) for part in unit.tensor_split(cuts, dim=1))
            loss = (misfit + s.tv_weight * rough) / model.numel()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if not self.paper:
            torch.nn.utils.clip_grad_norm_(self.weights, s.clip)
        self.optimizer.step()
        decay = 1 - 1 / (1 + s.ema * self.iteration)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [w.detach() for w in self.weights], 1 - decay)

    def _paper_loss(self, volume, model):
        """Mean L1 of what was measured, and TV of the channel sum."""
        scale, kept = self.scale[:, None, None, None], self.problem.train
        misfit = ((model - self.problem.data) / scale * kept).abs().sum() / kept.sum()
        return misfit + self.settings.tv_weight * joint_variation((volume / scale).sum(0, keepdim=True))

    @torch.no_grad()
    def averaged(self):
        """Volume (C, Y, Z, X) and scale (C,) of the averaged network."""
        kept = [w.detach().clone() for w in self.weights]
        for weight, value in zip(self.weights, self.average, strict=True):
            weight.copy_(value)
        rows = torch.arange(self.problem.shape[1], device=self.device)
        parts = [rows] if self.paper else rows.split(16)
        volume = torch.cat([self.model(part) for part in parts], dim=1)
        scale = self.scale if self.paper else self.model.log_scale.detach().exp()
        for weight, value in zip(self.weights, kept, strict=True):
            weight.copy_(value)
        return volume, scale

    @torch.no_grad()
    def _look(self):
        """Judge by the held-out pixels; remember the best, and decide whether to stop."""
        volume, scale = self.averaged()
        model, problem = self.problem.projector(volume), self.problem
        loss, score = float(problem.misfit(model)[problem.train].mean()), float("nan")
        if problem.held.any():
            misfit = problem.misfit(model, part="held")[problem.held]
            score = float(misfit.mean())
            self.watch.see(misfit, volume, scale, self.iteration, self.average if self.fixed else [])
            self._decide()
        self._vary(volume)
        self.previous = volume, scale
        entry = (self.iteration, loss, score, self.variance, self.seconds)
        for name, value in zip(self.history, entry, strict=True):
            self.history[name].append(value)
        return Look(self.iteration, self.settings.iterations, loss, score, self.seconds, self._output(volume))

    def _vary(self, volume, share=0.2):
        """Exponentially weighted mean and variance of the volumes, the latter in parts of the volume's norm squared."""
        self.running = volume if self.running is None else self.running
        difference = volume - self.running
        self.running = self.running + share * difference
        self.variance = (1 - share) * (self.variance + share * float((difference.norm() / volume.norm()) ** 2))

    def _decide(self):
        """Stop, or go back to the best iterate, once the held-out misfit says so."""
        watch, s = self.watch, self.settings
        if self.iteration <= 0.4 * s.iterations:
            return
        if not self.fixed:
            if watch.rising:
                self.reason = f"held-out misfit rises above that of iteration {watch.iteration}"
        elif s.settle and (watch.rising or watch.flat):
            for weight, average, value in zip(self.weights, self.average, watch.weights, strict=True):
                weight.copy_(value)
                average.copy_(value)
            self.rate /= 100
            watch.again()
            self._optimize()

    def _output(self, volume):
        return np.ascontiguousarray((self.problem.unit * volume).cpu().numpy(), dtype=np.float32)

    def result(self):
        """The volume to return, and why it is this one."""
        (volume, scale), at, reason = self.previous, self.iteration, self.reason
        history = {name: np.array(values) for name, values in self.history.items()}
        if self.fixed:
            settled = f", settled by iteration {self.watch.iteration}" if self.rate < 1 else ""
            reason = f"did the {self.iteration} iterations of its schedule{settled}"
        else:
            volume, scale, at = self.watch.mean, self.watch.scale, self.watch.iteration
            when = "at its end" if at == self.iteration else f"at iteration {at}"
            reason = reason or f"end of schedule; held-out misfit is least {when}"
            calm = history["iteration"][history["variance"][1:].argmin() + 1] if len(history["iteration"]) > 1 else at
            reason += f" (running variance is least at {calm})"
        if self.asked and self.reason is None and self.iteration < self.settings.iterations:
            reason = "a callback asked for it"
        refined = False
        if not self.paper:
            simplex = self.head == "fractions"
            volume, refined = correct(self.problem, volume, scale, self.settings.refine_weight, simplex)
        scale = (self.problem.unit.flatten() * scale).cpu().numpy()
        return DIPResult(self._output(volume), history, at, reason, refined, scale, asdict(self.settings))
