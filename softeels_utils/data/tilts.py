"""Tilt angles: from a signal's axes and metadata, from a file beside a stack, or from the names of single files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_tilts, describe
from ..doors import checked
from ..spectra.arrays import data_of, is_signal

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

__all__ = [
    "AXIS_NAMES",
    "STAGE_TOLERANCE_DEG",
    "angles_in_text",
    "degrees_per",
    "get_tilts",
    "is_tilt_axis",
    "replaces_tilts",
    "stage_tilt",
    "tilts_in_names",
    "tilts_of_stack",
]

DEGREES_PER = dict.fromkeys(("degrees", "degree", "deg", "°"), 1.0)
DEGREES_PER |= dict.fromkeys(("radians", "radian", "rad"), 180 / np.pi) | {"mrad": 0.18 / np.pi}
AXIS_NAMES = ("tilt", "tilts", "tilt angle", "tilt angles", "tilt_angle", "tilt_angle_deg", "projections", "alpha")
SCATTERING = ("outer", "inner", "scatter", "detector", "collection", "convergence", "azimuth")  # names of other angles
STAGE_TOLERANCE_DEG = 1.0  # between two sources of one angle: the stage, the name of a file, a list of angles
SIGNS = "−+-"  # the hyphen last, as a pattern of single characters wants it
NUMBER = rf"([{SIGNS}]?\d+(?:[.,p]\d+)?)"


def degrees_per(unit: Any) -> float | None:
    """Degrees in one unit of an angle, as HyperSpy or EMD (``[r_a_d]``) write it; None for any other unit."""
    return DEGREES_PER.get(str(unit).lower().strip("[]").replace("_", ""))


def is_tilt_axis(name: Any, unit: Any) -> bool:
    """Whether an axis holds tilts, by its name or its unit; scattering angles are none.

    Examples
    --------
    >>> is_tilt_axis("angle", "mrad"), is_tilt_axis("bin_outer_angle", "mrad")
    (True, False)
    """
    name = str(name).lower()
    return name in AXIS_NAMES or (degrees_per(unit) is not None and not any(word in name for word in SCATTERING))


@checked
def get_tilts(signal: BaseSignal) -> NDArray[np.float64] | None:
    """Return the tilt angles in degrees that a signal carries, or None.

    From ``metadata.Tomography.tilts`` (in degrees, or in the unit of a signal there, as ETSpy writes it), from a
    navigation axis in degrees or radians, one named ``tilt`` that is calibrated, or from the extended header of an
    ``.mrc`` file.

    Raises
    ------
    ValueError
        Angles that are no real, finite numbers.
    """
    if not is_signal(signal):
        raise ValueError(f"signal: got {describe(signal)}, wants a HyperSpy signal")
    stored = signal.metadata.get_item("Tomography.tilts", default=None)
    if stored is not None:
        axes = getattr(stored, "axes_manager", None)
        factor = degrees_per(axes.signal_axes[0].units) if axes is not None and axes.signal_axes else None
        tilts = check_tilts(np.ravel(np.asarray(data_of(stored))), name="Tomography.tilts", series=False)
        return tilts * (factor or 1.0)
    for axis in (*signal.axes_manager.navigation_axes, *signal.axes_manager.signal_axes[2:]):
        factor = degrees_per(axis.units)
        calibrated = (getattr(axis, "offset", 1.0), getattr(axis, "scale", 1.0)) != (0, 1)
        if is_tilt_axis(axis.name, axis.units) and (factor or calibrated):
            return np.asarray(axis.axis, dtype=float) * (factor or 1.0)
    header = signal.original_metadata.get_item("fei_header.a_tilt", default=None)
    if header is not None and signal.axes_manager.navigation_dimension == 1:
        tilts = np.ravel(np.asarray(header, dtype=float))[: signal.axes_manager.navigation_size]
        return tilts if np.ptp(tilts) else None
    return None


def stage_tilt(signal: BaseSignal) -> float | None:
    """Return the tilt in degrees at which one file of a series was recorded, or None where its metadata do not say."""
    for key in ("Tomography.tilts", "Acquisition_instrument.TEM.Stage.tilt_alpha"):
        found = signal.metadata.get_item(key, default=None)
        try:
            tilt = float(np.asarray(data_of(found), dtype=float).item())
        except (TypeError, ValueError):  # absent, no number, or of the series that this image was taken from
            continue
        if np.isfinite(tilt):
            return tilt
    return None


# ---------------------------------------------------------------- a file beside a stack


def tilts_of_stack(path: Path, stated: ArrayLike | None) -> NDArray[np.float64] | None:
    """Angles of a stack: those that it states, else those of a file beside it; None where there are none.

    That file is a ``.rawtlt`` or ``.tlt`` (see `angles_in_text`) or a SerialEM ``.mdoc``. Its name is that of the stack
    (or of what it links to), with the suffix in place of its own or after it.

    Raises
    ------
    ValueError
        ``tilt_angles_deg``, naming a file that holds something else, or says something else than the stack or another
        such file.
    """
    found = {} if stated is None else {path: check_tilts(stated, series=False)}
    found |= _tilts_beside(path)
    if not found:
        return None
    (first, tilts), *others = found.items()
    for sidecar, beside in others:
        if len(beside) != len(tilts) or np.abs(beside - tilts).max() > STAGE_TOLERANCE_DEG:
            got, wanted = (f"{len(a)} ({', '.join(f'{one:g}' for one in a[:3])}, ...)" for a in (beside, tilts))
            raise ValueError(
                f"tilt_angles_deg: got {got} in {sidecar.name}, wants those that {first.name} states, {wanted}, or the "
                "angles as an argument"
            )
    return tilts


def replaces_tilts(given: ArrayLike, stated: ArrayLike | None, path: Path) -> bool:
    """Whether angles that are given for a stack are others than those that it states.

    Raises
    ------
    ValueError
        ``tilt_angles_deg``, where they are the same angles in another order.
    """
    given, stated = np.asarray(given, float), np.ravel([] if stated is None else stated)
    if not stated.size or stated.dtype.kind not in "fiu":
        return False
    if given.shape != stated.shape or np.abs(np.sort(given) - np.sort(stated)).max() > STAGE_TOLERANCE_DEG:
        return True
    if np.abs(given - stated).max() > STAGE_TOLERANCE_DEG:
        order = ", ".join(f"{angle:g}" for angle in stated[:3])
        raise ValueError(
            f"tilt_angles_deg: got the angles of {path.name} in another order, wants that of its images ({order}, "
            "...): leave the angles out"
        )
    return False


def _tilts_beside(path):
    """Angles of the files beside a stack, or else beside what it links to."""
    for stack in (path, path.resolve()):
        found = {}
        for suffix in (".rawtlt", ".tlt", ".mdoc"):
            for sidecar in (stack.with_suffix(suffix), stack.with_name(stack.name + suffix)):
                if sidecar.is_file():
                    text = sidecar.read_bytes()[: 2**24].decode("utf-8-sig", errors="replace")
                    where = f" in {sidecar.name}"
                    found[sidecar] = _of_mdoc(text, where) if suffix == ".mdoc" else angles_in_text(text, where)
        if found:
            return found
    return {}


def angles_in_text(text: str, where: str = "") -> NDArray[np.float64]:
    """Angles that stand in lines or words; what follows ``#``, ``;`` or ``//`` in a line is a comment.

    A comma between two rows of digits is the decimal sign (``-17,5``); other commas part two angles (``-60,-30,0``).
    ``where`` the text stands is for error messages.

    Examples
    --------
    >>> angles_in_text("-60,5 -30  # degrees")
    array([-60.5, -30. ])
    >>> angles_in_text("-60,-30,0")
    array([-60., -30.,   0.])
    """
    values = []
    for line in text.replace("\N{MINUS SIGN}", "-").splitlines():
        for word in re.split(r"\s+|,\s+", re.split(r"#|;|//", line)[0].strip(" ,\t")):
            try:
                decimal = re.fullmatch(r"[+-]?\d+,\d+", word)
                values += [float(part) for part in ([word.replace(",", ".")] if decimal else word.split(",")) if part]
            except ValueError:
                raise ValueError(f"tilt_angles_deg: got {word[:40]!r}{where}, wants angles") from None
    return np.array(values)


def _of_mdoc(text, where):
    """Angles of SerialEM's sections, by the number of their image (``ZValue``) where they state it."""
    parts = re.split(r"(?m)^\s*\[(ZValue|FrameSet|Image)\s*=\s*([^\]]*)\]", text)
    kinds, names, sections = parts[1::3], parts[2::3], parts[3::3] or [text]
    tilts = [re.search(r"(?m)^\s*TiltAngle\s*=\s*(\S+)", section) for section in sections]
    try:
        angles = np.array([float(found.group(1)) for found in tilts])
        order = np.array([int(name) for name in names]) if set(kinds) == {"ZValue"} else np.arange(len(angles))
    except (AttributeError, ValueError):
        raise ValueError(f"tilt_angles_deg: got sections without one{where}, wants a TiltAngle each") from None
    if sorted(order) != list(range(len(angles))):
        raise ValueError(f"tilt_angles_deg: got sections {order.tolist()}{where}, wants one for each image, from 0")
    return angles[np.argsort(order)]


# ---------------------------------------------------------------- names of files


def tilts_in_names(paths: Sequence[Path], *, explicit: bool = False) -> NDArray[np.float64] | None:
    """Angles in the names of files, one tilt in each; None where they do not say, or may mean something else.

    A number before ``deg`` or ``°``; else one after ``tilt``, ``angle`` or ``alpha``, unless these are consecutive and
    without a sign (they count the files); else the number at the end of names that are the same apart from it, where it
    has a sign in one of them at least. A hyphen after a letter or digit in every name may only separate words:
    ``cube-10deg`` says nothing, unless another name has a sign of its own (``cube+10deg``, ``cube--10deg``).

    Parameters
    ----------
    paths : sequence of path
    explicit : bool
        Only angles that cannot count the files: before ``deg`` or ``°``, or with a sign.

    Examples
    --------
    >>> tilts_in_names([Path("cube_+17.5deg.dm4"), Path("cube_-35deg.dm4")])
    array([ 17.5, -35. ])
    """
    stems = [path.stem for path in paths]
    found = [re.search(rf"(?i){NUMBER} ?(?:deg|°)", stem) for stem in stems]
    if all(found):
        return _angles(found)
    found = [re.search(rf"(?i)(?:tilt|angle|alpha)[_ =]*{NUMBER}", stem) for stem in stems]
    if all(found):
        angles, signed = _angles(found), any(match[1][0] in SIGNS for match in found)
        return angles if signed or not (explicit or _counts(angles)) else None
    found = [re.fullmatch(rf"(?:.*?[^\d.+\-−])??{NUMBER}", stem) for stem in stems]
    if not all(found) or len({match.string[: match.start(1)] for match in found}) > 1:
        return None
    return _angles(found) if any(match[1][0] in SIGNS for match in found) else None


def _counts(numbers):
    """Whether numbers may count the files; one alone does not tell."""
    return len(numbers) > 1 and not (numbers % 1).any() and (np.diff(np.unique(numbers)) == 1).all()


def _angles(found):
    """Numbers of matches as angles; None where each has a hyphen before it that may be no minus."""
    words = [match[1] for match in found]
    before = [match.string[: match.start(1)][-1:] for match in found]
    joined = [word[0] == "-" and last.isalnum() for word, last in zip(words, before, strict=True)]
    if any(word[0] in SIGNS and last == "-" for word, last in zip(words, before, strict=True)):
        words = [word[1:] if hyphen else word for word, hyphen in zip(words, joined, strict=True)]
    elif all(joined):
        return None
    return np.array([float(re.sub("[,p]", ".", word).replace("\N{MINUS SIGN}", "-")) for word in words])
