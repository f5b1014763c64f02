"""Which phases the data cannot tell apart, given the errors of the references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_not_negative, check_window, finite_array
from ..doors import checked
from .background import background_shapes
from .misfit import STRUCTURE

__all__ = ["Confusion", "confusable_phases", "doubtful_phases"]

CERTAIN = 3.0  # times the angle that the errors of the references alone would make
MOST_MOVED = 0.25  # of a phase, by a misfit of `STRUCTURE`, which is not warned of


@checked
@dataclass(frozen=True)
class Confusion:
    """How close a phase comes to a sum of the other phases, see `confusable_phases`.

    Attributes
    ----------
    phase : str
    mixture : dict of str to float
        The sum of the other references that is nearest to it: the amount of each, of either sign.
    angle_deg : float
        Between the phase and that sum, with the background projected out.
    expected_deg : float
        Angle that the errors of the references alone would produce.
    distinct : bool
        Whether the angle exceeds both what the errors explain and ``least_deg``.
    """

    phase: str
    mixture: dict[str, float]
    angle_deg: float
    expected_deg: float
    distinct: bool

    def __str__(self) -> str:
        terms = " + ".join(f"{amount:.2f} {name}" for name, amount in self.mixture.items())
        verdict = "distinct from" if self.distinct else "not distinct from"
        return f"{self.phase}: {verdict} {terms} ({self.angle_deg:.2f}°)"


@checked
def confusable_phases(
    energy_eV: ArrayLike,
    references: ArrayLike,
    names: Sequence[str],
    *,
    uncertainty: float | ArrayLike = 0.0,
    background: str | ArrayLike | None = "plasmon_tail",
    variance: ArrayLike | None = None,
    window_eV: tuple[float, float] | None = None,
    least_deg: float = 0.5,
) -> list[Confusion]:
    """For each phase, the sum of the others that looks most like it, and whether the data can tell them apart.

    A phase that is a sum of others is invisible to a fit that leaves it out: it is fitted as that sum, with a good
    chi². For the same reason it cannot be added as a component of its own.

    Parameters
    ----------
    energy_eV : (E,)
    references : (K, E)
        Per metal atom, or in any other unit; the mixtures are in the same unit.
    names : K names
    uncertainty : float, (E,), (K, E) or samples (S, K, E)
        One standard deviation of the references, taken as independent between channels, or samples of them.
    background : see `background_shapes`
        Projected out: a difference that looks like background does not count.
    variance : (E,), optional
        Of the counts, for the weights; by default the same in all channels.
    window_eV : (float, float), optional
    least_deg : float
        Smaller angles are never called distinct: no calculated or measured shape is that exact.

    Raises
    ------
    ValueError
        For fewer than two references, names that do not match them, too few channels in the window, or a variance or
        uncertainty of another shape.

    Examples
    --------
    >>> energy = np.linspace(48, 80, 129)
    >>> a, b = (np.exp(-0.5 * ((energy - centre) / 2) ** 2) for centre in (55, 59))
    >>> found = confusable_phases(energy, [a, b, 1.5 * b - 0.5 * a], ["A", "B", "C"])
    >>> print(found[2])
    C: not distinct from -0.50 A + 1.50 B (0.00°)
    """
    energy, references = finite_array(energy_eV, "energy_eV"), finite_array(references, "references")
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    if not listed or not all(isinstance(name, str) for name in names):
        raise ValueError(f"names: got {names!r}, wants one for each reference")
    check_not_negative(least_deg=least_deg)
    if references.ndim != 2 or len(references) < 2 or references.shape[1] != energy.size:
        raise ValueError(
            f"references: got shape {references.shape}, wants (K, {energy.size}) as energy_eV, K at least 2"
        )
    if len(names) != len(references):
        raise ValueError(f"names: got {len(names)}, wants {len(references)}, one for each reference")
    low, high = (energy[0], energy[-1]) if window_eV is None else check_window(window_eV)
    inside = (energy >= low) & (energy <= high)
    if inside.sum() <= len(references) + 3:
        raise ValueError(f"window_eV: got {inside.sum()} channels, wants more than {len(references) + 3}")
    root = np.ones(inside.sum()) if variance is None else 1 / np.sqrt(_checked_variance(variance, energy)[inside])
    seen = _beside_background(references[:, inside] * root, background_shapes(energy[inside], background) * root)
    errors = _errors(uncertainty, references, inside, root)
    return [_confusion(seen, errors, names, k, least_deg) for k in range(len(names))]


def doubtful_phases(shapes: NDArray, n_references: int, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Sentences on references so close to a sum of the others that a misfit too small for a warning moves them far.

    Shapes (K + P, E') in the window: K references, then the background.
    """
    seen = _beside_background(shapes[:n_references], shapes[n_references:])
    names = names or [f"reference {k}" for k in range(n_references)]
    exact = np.zeros((1, *seen.shape))
    near = [_confusion(seen, exact, names, k, 0.0) for k in range(n_references)] if n_references > 1 else []
    least_deg = np.degrees(np.arcsin(STRUCTURE / MOST_MOVED))
    worst = ", ".join(f"{c.phase} ({c.angle_deg:.1f}°)" for c in near if c.angle_deg < least_deg)
    if not worst:
        return ()
    return (
        f"References are alike: within {least_deg:.1f}°, each of these is a sum of the others: {worst}. A misfit of "
        f"{100 * STRUCTURE:.0f} % of the edges, which goes unnoticed, moves it by {100 * MOST_MOVED:.0f} % or more, "
        "and no error holds that; the sum of the phases is known better.",
    )


def _checked_variance(variance, energy):
    variance = finite_array(variance, "variance")
    if variance.shape != energy.shape or (variance <= 0).any():
        raise ValueError(f"variance: got shape {variance.shape}, wants {energy.size} positive numbers")
    return variance


def _beside_background(spectra, shapes):
    if not len(shapes):
        return spectra
    basis = np.linalg.qr((shapes / np.linalg.norm(shapes, axis=1, keepdims=True)).T)[0]
    return spectra - (spectra @ basis) @ basis.T


def _errors(uncertainty, references, inside, root) -> NDArray:
    """Deviations (S, K, E') of the references, weighted: samples less their mean, or one standard deviation."""
    uncertainty, shape = finite_array(uncertainty, "uncertainty"), references.shape
    if uncertainty.shape not in ((), shape[1:], shape) and (uncertainty.ndim != 3 or uncertainty.shape[1:] != shape):
        raise ValueError(f"uncertainty: got shape {uncertainty.shape}, wants (), {shape[1:]}, {shape} or (S, *{shape})")
    if uncertainty.ndim == 3:
        return (uncertainty - uncertainty.mean(axis=0))[..., inside] * root
    rng = np.random.default_rng(0)
    sigma = np.broadcast_to(uncertainty, references.shape)[:, inside] * root
    return sigma * rng.standard_normal((50, *sigma.shape))


def _confusion(seen, errors, names, k, least_deg):
    others = np.delete(seen, k, axis=0)
    amounts = np.linalg.lstsq(others.T, seen[k], rcond=None)[0]
    size = np.linalg.norm(seen[k])
    angle = np.degrees(np.arcsin(min(np.linalg.norm(seen[k] - amounts @ others) / size, 1.0)))
    # what the errors put beside the span of the others
    away = errors[:, k] - np.einsum("o,soe->se", amounts, np.delete(errors, k, axis=1))
    basis = np.linalg.qr(others.T)[0]
    away = away - (away @ basis) @ basis.T
    expected = np.degrees(np.arcsin(min(np.sqrt((away**2).sum(-1).mean()) / size, 1.0)))
    mixture = {name: float(a) for name, a in zip(np.delete(np.array(names, object), k), amounts, strict=True)}
    return Confusion(names[k], mixture, float(angle), float(expected), bool(angle > max(CERTAIN * expected, least_deg)))
