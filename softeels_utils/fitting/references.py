"""Errors of the references, carried on to the maps: one draw for all pixels and tilts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import finite_array, real_array
from ..doors import checked

__all__ = ["ReferenceDraws", "drawn_references"]


@checked
@dataclass(frozen=True)
class ReferenceDraws:
    """S other sets of references that may be the true ones, expressed by what they do to the maps.

    Attributes
    ----------
    transforms : (S, K, K)
        ``coefficients @ transforms[s]`` are the maps that references ``s`` would give.
    metal_per_nm3, valence : (S + 1, K) or None
        Metal atoms per nm³ of each phase, and their mean valence; row 0 belongs to the references of the fit.
    """

    transforms: NDArray
    metal_per_nm3: NDArray | None = None
    valence: NDArray | None = None

    def __post_init__(self):
        shape = real_array(self.transforms, "transforms").shape
        if shape[0:1] != (0,) and (len(shape) != 3 or shape[1] != shape[2]):
            raise ValueError(f"transforms: got shape {shape}, wants (S, K, K)")
        for name in ("metal_per_nm3", "valence"):
            value = getattr(self, name)
            if value is None:
                continue
            rows = real_array(value, name).shape
            if len(rows) != 2 or rows[0] != shape[0] + 1 or rows[1:] != (shape[2:] or rows[1:]):
                raise ValueError(f"{name}: got shape {rows}, wants (S + 1, K) for transforms of shape {shape}")

    @property
    def modes(self) -> NDArray:
        """Independent directions (M, K, K), M at most K², the most important first.

        One standard deviation along mode m changes the maps by ``coefficients @ modes[m]``.
        """
        away = self.transforms - np.eye(self.transforms.shape[-1])
        flat = away.reshape(len(away), -1) / np.sqrt(len(away))
        _, size, directions = np.linalg.svd(flat, full_matrices=False)
        used = size > 1e-3 * max(size[0], 1e-300)
        return (size[:, None] * directions)[used].reshape(-1, *away.shape[1:])

    def check_chemistry(self) -> None:
        """Raise `ValueError` unless densities of the metal and valences are known."""
        if self.metal_per_nm3 is None or self.valence is None:
            raise ValueError("references: got an array, wants Standards, or metal_per_nm3 and valence of the phases")

    def metal_shifts(self) -> tuple[NDArray, NDArray]:
        """Metal atoms, and metal atoms times valence, per nm of each phase: each draw minus the fit, (S, K) each."""
        self.check_chemistry()
        metal, charge = self.metal_per_nm3, self.metal_per_nm3 * self.valence
        return tuple(np.einsum("skl,sl->sk", self.transforms, n[1:]) - n[0] for n in (metal, charge))


def drawn_references(
    references: Any,
    samples: ArrayLike | None,
    metal_per_nm3: ArrayLike | None,
    valence: ArrayLike | None,
    step_eV: float,
) -> tuple[Any, NDArray | None, NDArray | None, NDArray | None]:
    """References (K, E), samples (S, K, E), densities of the metal and valences (S + 1, K), from arrays or `Standards`.

    `Standards` are per eV: they are multiplied by the width of a channel.
    """
    if hasattr(references, "samples") and hasattr(references, "metal_samples"):
        found = references
        samples = step_eV * np.asarray(found.samples, float) if samples is None else samples
        metal_per_nm3 = np.concatenate([found.metal_per_nm3[None], found.metal_samples])
        valence = np.concatenate([found.valence[None], found.valence_samples])
        references = step_eV * np.asarray(found.references, float)
    if references is not None and not 1 <= finite_array(references, "references").ndim <= 2:
        raise ValueError(f"references: got shape {np.shape(references)}, wants (K, E)")
    if samples is not None:
        samples, shape = finite_array(samples, "reference_samples"), np.shape(references)
        if samples.ndim != 3 or samples.shape[1:] != shape or len(samples) < 2:
            raise ValueError(f"reference_samples: got shape {samples.shape}, wants (S, *{shape}), S at least 2")
    rows = 1 if samples is None else 1 + len(samples)
    phases = 0 if references is None else len(np.atleast_2d(finite_array(references, "references")))
    names = {"metal_per_nm3": metal_per_nm3, "valence": valence}
    each = {name: _rows(name, value, rows, phases) for name, value in names.items()}
    return references, samples, each["metal_per_nm3"], each["valence"]


def _rows(name, value, rows, phases):
    if value is None:
        return None
    value = np.atleast_2d(finite_array(value, name))
    if value.shape not in ((1, phases), (rows, phases)) or not (value >= 0).all():
        raise ValueError(f"{name}: got shape {value.shape}, wants {phases} numbers of at least 0, one per phase")
    return np.broadcast_to(value, (rows, phases))


def transforms_of(samples: NDArray, shapes: NDArray, n_references: int) -> NDArray:
    """What maps become with other references, (S, K, K): each sample (K, E') as a sum of the shapes (K + P, E').

    To first order in what the shapes cannot represent: it does not change the maps but is left in the residual.
    Weights as if every shape contributed equally to the counts.
    """
    height = np.abs(shapes).mean(axis=1, keepdims=True)
    expected = np.abs(shapes / np.where(height > 0, height, 1)).mean(axis=0)
    root = 1 / np.sqrt(np.maximum(expected, 0.1 * expected.mean()))
    scaled = (shapes / height) * root
    flat = (samples * root).reshape(-1, samples.shape[-1])
    amplitudes = np.linalg.lstsq(scaled.T, flat.T, rcond=None)[0].T / height[:, 0]
    return np.linalg.inv(amplitudes[:, :n_references].reshape(len(samples), n_references, n_references))
