"""The components of a fit: references and background in the window, and which of them must not be negative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_flag, finite_array
from ..spectra import window_mask
from .background import background_shapes

__all__ = ["Components", "check_independent"]

MOST_NONNEGATIVE = 8  # 2**8 sets of phases are still tried in no time


@dataclass(frozen=True)
class Components:
    """Checked components of a fit.

    Attributes
    ----------
    energy_eV : (E,)
    window : slice
        Channels that are fitted, E' of them.
    references : (K, E)
    background : (P, E')
    nonnegative : (K + P,), bool
        Which amplitudes must not be negative.
    powers : bool
        Whether the background is made of powers of the energy, so is single scattering.
    """

    energy_eV: np.ndarray
    window: slice
    references: np.ndarray
    background: np.ndarray
    nonnegative: np.ndarray
    powers: bool

    @classmethod
    def checked(
        cls,
        energy: np.ndarray,
        references: ArrayLike | None,
        background: Any,
        window_eV: tuple[float, float] | None,
        nonnegative: Any,
        nonnegative_background: bool,
    ) -> Components:
        """Components from the arguments of `fit_phases`; raises ValueError naming the one that is wrong."""
        references = _checked_references(references, energy)
        window = _window(energy, window_eV)
        if background is not None and not isinstance(background, str):
            background = finite_array(background, "background")
            if background.ndim == 2 and background.shape[1] == energy.size:
                background = background[:, window]
        shapes = background_shapes(energy[window], background)
        signs = np.asarray(nonnegative)
        if signs.dtype != bool or signs.shape not in ((), (len(references),)):
            raise ValueError(f"nonnegative: got {nonnegative!r}, wants one bool or {len(references)} of them")
        check_flag(nonnegative_background, "nonnegative_background")
        bounded = np.r_[
            np.broadcast_to(signs, len(references)),
            np.full(len(shapes), bool(nonnegative_background)),
        ]
        if bounded.sum() > MOST_NONNEGATIVE:
            raise ValueError(f"nonnegative: got {bounded.sum()} bounded amplitudes, wants at most {MOST_NONNEGATIVE}")
        if energy[window].size <= len(bounded):
            raise ValueError(
                f"window_eV: got {energy[window].size} channels, wants more than the {len(bounded)} amplitudes"
            )
        return cls(energy, window, references, shapes, bounded, powers=len(shapes) > 0 and np.ndim(background) < 2)

    @property
    def shapes(self) -> np.ndarray:
        """References and background inside the window, (K + P, E')."""
        return np.concatenate([self.references[:, self.window], self.background])


def check_independent(shapes: np.ndarray, n_references: int, least: float = 1e-5) -> None:
    """Raise ValueError unless a fraction ``least`` of each reference is independent of all other shapes (Q, E')."""
    norm = np.linalg.norm(shapes, axis=1)
    if not norm[:n_references].all():
        row = int(np.argmin(norm[:n_references]))
        raise ValueError(f"references: got zero all over the window in row {row}, wants a spectrum")
    unit = shapes / np.where(norm > 0, norm, 1)[:, None]
    if n_references < len(shapes) and np.linalg.svd(unit[n_references:], compute_uv=False)[-1] < 1e-9:
        raise ValueError("background: got a shape that is zero or a sum of the others, wants independent shapes")
    for row in range(n_references):
        if _independent_fraction(unit, row) < least:
            alone = _independent_fraction(unit[:n_references], row) >= least
            other = "the background" if alone else "the other references"
            raise ValueError(f"references: got row {row} collinear with {other} in the window, wants it independent")


def _independent_fraction(unit, row):
    """Norm of what the other rows cannot represent of a row of unit norm."""
    others = np.delete(unit, row, axis=0)
    if not len(others):
        return 1.0
    return np.linalg.norm(unit[row] - others.T @ np.linalg.lstsq(others.T, unit[row], rcond=1e-12)[0])


def _checked_references(references, energy):
    if references is None:
        raise ValueError("references: got None, wants one spectrum per row")
    references = np.atleast_2d(finite_array(references, "references"))
    if references.ndim != 2 or references.shape[1] != energy.size or not len(references):
        raise ValueError(f"references: got shape {references.shape}, wants (K, {energy.size})")
    return references


def _window(energy, window_eV):
    """The window as a slice of channels, for views instead of copies."""
    if window_eV is None:
        return slice(0, energy.size)
    inside = np.flatnonzero(window_mask(energy, window_eV))
    return slice(inside[0], inside[-1] + 1) if inside.size else slice(0, 0)
