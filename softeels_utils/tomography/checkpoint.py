"""A file that a killed reconstruction goes on from."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

import torch

from ..checks import check_kind, check_not_negative, check_path
from ..doors import checked

__all__ = ["Checkpoint"]


@checked
class Checkpoint:
    """A file from which a killed reconstruction resumes; ``checkpoint=None`` keeps nothing.

    It contains only tensors and plain numbers, read by ``torch.load(weights_only=True)``. It is written under another
    name and then moved into place, so that a kill leaves either the old or the new file intact.

    Parameters
    ----------
    checkpoint : path or None
    fingerprint : str
        Of the data and settings (`Measurement.fingerprint`): a file from another run is refused.
    seconds : float
        Shortest time between two writes.
    device : str
        Device onto which tensors are read.
    """

    def __init__(
        self, checkpoint: str | Path | None, fingerprint: str, seconds: float = 20.0, device: str | torch.device = "cpu"
    ):
        check_not_negative(seconds=seconds)
        check_kind(fingerprint, "fingerprint", str)
        self.path = None if checkpoint is None else check_path(checkpoint, "checkpoint")
        self.seconds, self.written = seconds, time.perf_counter()
        self.content = {"fingerprint": fingerprint, "scores": {}, "stage": "", "run": None}
        if self._found():
            try:
                content = torch.load(self.path, weights_only=True, map_location=device)
            except Exception as error:
                raise ValueError(
                    f"checkpoint: got {self.path}, cannot read it ({error}), wants this run's or a new file"
                ) from error
            if not isinstance(content, dict) or content.get("fingerprint") != fingerprint:
                raise ValueError(
                    f"checkpoint: got {self.path} of other projections or settings, wants this run's or a new file"
                )
            self.content = content

    def _found(self):
        """Whether there is a file. Else it is tried whether one can be written, before the work that it is to keep."""
        if self.path is None:
            return False
        try:
            if self.path.exists():
                return True
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._beside.touch()
            self._beside.unlink()
        except OSError as error:
            raise ValueError(f"checkpoint: got {self.path}, wants a file that can be written ({error})") from None
        return False

    @property
    def _beside(self):
        return self.path.with_name(self.path.name + ".part")

    def due(self) -> bool:
        """Whether it is time to write again."""
        return self.path is not None and time.perf_counter() - self.written > self.seconds

    def save(self, stage: str, run: dict) -> None:
        """Write the state of a stage."""
        self.content |= {"stage": stage, "run": run}
        self.write()

    def write(self) -> None:
        """Write the current state."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(self.content, buffer)
        beside = self._beside
        with beside.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        self.written = time.perf_counter()

    def resume(self, stage: str, solver: Any) -> dict | None:
        """Restore a solver to where this stage was; return the run's record, or None."""
        run = self.content["run"]
        if self.content["stage"] != stage or run is None:
            return None
        for name, value in run["state"].items():
            solver.state[name] = value.to(solver.state[name].device)
        return run
