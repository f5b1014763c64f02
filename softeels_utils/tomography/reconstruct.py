"""``reconstruct``: one door to every algorithm, for projections and keywords in place of a `Measurement`."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_flag, check_tilts, is_real
from ..doors import checked
from .backends import BACKENDS, reconstruct_with
from .cgls import cgls
from .checks import check_count
from .constraint import SIMPLEX, Constraint, check_constraint
from .fbp import check_window, fbp
from .iterate import Loop, start_from
from .measurement import Measurement
from .scale import learn_scale
from .sirt import default_stop, sirt
from .stopping import Change, Discrepancy, Gap, HeldOut
from .tv import check_coupling, check_ratio, check_weight, joint_tv, tgv, tv

__all__ = ["ALGORITHMS", "reconstruct"]

ALGORITHMS = {"fbp": fbp, "sirt": sirt, "cgls": cgls, "tv": tv, "joint_tv": joint_tv, "tgv": tgv}
TOTAL_VARIATIONS = ("tv", "joint_tv", "tgv")
CHECKS = {
    "weight": check_weight, "coupling": check_coupling, "ratio": check_ratio, "window": check_window,
    "constraint": check_constraint,
}  # fmt: skip
STOP_RULES = {"change": Change, "discrepancy": Discrepancy, "heldout": HeldOut, "gap": Gap}


@checked
def reconstruct(
    projections: ArrayLike,
    tilt_angles_deg: ArrayLike,
    algorithm: str = "sirt",
    *,
    voxel_size_nm: float = 1.0,
    calibrated: bool = True,
    covariance: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    counts: bool = False,
    mask: ArrayLike | None = None,
    slice_shape: tuple[int, int] | None = None,
    shifts_px: ArrayLike | None = None,
    axis_angle_deg: float = 0.0,
    model_error: float = 0.01,
    device: str | None = None,
    **options: Any,
) -> NDArray[np.float32]:
    r"""Reconstruct a tilt series of maps.

    Parameters
    ----------
    projections : array (C, T, Y, X)
        Line integrals in the unit of ``voxel_size_nm``; the volume then comes back in fractions.
    tilt_angles_deg : array (T,)
    algorithm : str
        A name of `ALGORITHMS`: ``"fbp"`` filtered back-projection, ``"sirt"``, ``"cgls"`` (least squares without
        constraints), ``"tv"`` (total variation of each channel), ``"joint_tv"`` (of all channels together), ``"tgv"``
        (total generalised variation of all together); or another project's code: ``"astra:sirt"``, ``"tomopy:sirt"``,
        ``"skimage:fbp"``, ...
    calibrated : bool
        False: projections may be in any unit, one scale per channel is learned (`learn_scale`), and the volume comes
        back in that unit per unit of ``voxel_size_nm``. Constraints and weight then apply to volume / scale.
    covariance, weights, counts, mask, slice_shape, shifts_px, axis_angle_deg, model_error, device
        See `Measurement`.
    **options
        Arguments of that algorithm's function (`sirt`, `cgls`, `fbp`, `tv`, `joint_tv`, `tgv`; back-ends take only
        ``iterations``). In addition, ``bounds=(low, high)`` or ``simplex=True`` sets the constraint, and a stopping
        rule may be named: ``stop="heldout"``, ``"discrepancy"`` or ``"change"``, with its ``tolerance``.

    Returns
    -------
    array (C, Y, Z, X), float32
        For more (what ended the run, the weight chosen, the history), call the algorithm's function with a
        `Measurement`.

    Raises
    ------
    ValueError
        Before any work, naming the argument, what it got and what it wants.

    Examples
    --------
    >>> from softeels_utils.tomography import ParallelBeam
    >>> tilts = np.linspace(-70, 70, 9)
    >>> projections = ParallelBeam(16, tilts)(np.ones((1, 4, 16, 16), np.float32))
    >>> reconstruct(projections, tilts, "joint_tv", weight=1.0, simplex=True).shape
    (1, 4, 16, 16)
    """
    calibrated = check_flag(calibrated, "calibrated")
    stated = {"covariance": covariance, "weights": weights, "slice_shape": slice_shape}
    if ":" in str(algorithm):
        stated |= {"counts": counts or None, "calibrated": None if calibrated else False, "device": device}
        stated |= {"mask": None if np.all(mask is None or mask) else mask}
        stated |= {"shifts_px": None if not np.any(shifts_px) else shifts_px}
        stated |= {"axis_angle_deg": axis_angle_deg or None}
        stated |= {"model_error": None if model_error == 0.01 else model_error}
        return _with_backend(algorithm, projections, tilt_angles_deg, voxel_size_nm, stated, options)
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        others = " or ".join(f"'{name}:...'" for name in BACKENDS)
        raise ValueError(f"algorithm: got {algorithm!r}, wants one of {tuple(ALGORITHMS)}, {others}")
    options = _checked_options(algorithm, options)
    measurement = Measurement(
        projections, tilt_angles_deg, voxel_size_nm=voxel_size_nm, counts=counts, mask=mask, shifts_px=shifts_px,
        axis_angle_deg=axis_angle_deg, model_error=model_error, device=device, **stated,
    )  # fmt: skip
    if "tolerance" in options:
        options["stop"] = default_stop(measurement, options.pop("tolerance"))
    start_from(measurement, options.get("initial"))  # checks it
    if calibrated:
        return ALGORITHMS[algorithm](measurement, **options).volume
    scale = learn_scale(measurement)
    column = scale[:, None, None, None].astype(np.float32)
    if options.get("initial") is not None:
        options["initial"] = np.asarray(options["initial"]) / column
    if "callbacks" in options:  # they see volumes in the caller's unit
        options["callbacks"] = [_in_unit(callback, column) for callback in options["callbacks"]]
    return column * ALGORITHMS[algorithm](measurement.rescaled(scale), **options).volume


def _in_unit(callback, column):
    return lambda info: callback(replace(info, volume=info.volume * column))


def _checked_options(algorithm, options):
    """Keyword arguments of the algorithm's function, checked as far as they can be without data.

    A ``tolerance`` that is left waits for the measurement, which decides the rule.
    """
    parameters = inspect.signature(ALGORITHMS[algorithm]).parameters
    loop = [field.name for field in fields(Loop)] if "loop" in parameters else []
    takes = [name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY] + loop
    takes += ["tolerance"] * ("stop" in parameters) + ["bounds", "simplex"] * ("constraint" in parameters)
    for name, value in options.items():
        if name not in takes:
            raise ValueError(f"{name}: got {value!r} with {algorithm!r}, wants only {', '.join(sorted(takes))}")
        if name in CHECKS:
            CHECKS[name](value)
    Loop.from_keywords({name: options[name] for name in loop if name in options})
    options = _with_constraint(dict(options))
    rules = ("gap",) if algorithm in TOTAL_VARIATIONS else ("change", "discrepancy", "heldout")
    stop, tolerance = options.get("stop"), options.get("tolerance")
    if isinstance(stop, str):
        if stop not in rules:
            raise ValueError(f"stop: got {stop!r}, wants one of {rules} or a rule")
        options["stop"] = STOP_RULES[stop](**({} if tolerance is None else {"tolerance": tolerance}))
        options.pop("tolerance", None)
    elif stop is not None and tolerance is not None:
        raise ValueError(f"tolerance: got {tolerance!r} beside stop={stop!r}, wants one of them")
    elif tolerance is not None and rules == ("gap",):
        options["stop"] = Gap(options.pop("tolerance"))
    return options


def _with_constraint(options):
    """``bounds`` or ``simplex`` as a `Constraint`."""
    stated = [name for name in ("constraint", "simplex", "bounds") if options.get(name) not in (None, False)]
    if len(stated) > 1:
        raise ValueError(f"{stated[1]}: got {options[stated[1]]!r} beside {stated[0]}, wants one of them")
    bounds, simplex = options.pop("bounds", None), options.pop("simplex", False)
    if bounds is not None:
        pair = isinstance(bounds, (tuple, list, np.ndarray)) and len(bounds) == 2
        if not pair or not all(bound is None or is_real(bound) for bound in bounds):
            raise ValueError(f"bounds: got {bounds!r}, wants (low, high)")
        options["constraint"] = Constraint(*bounds)
    elif simplex:
        options["constraint"] = SIMPLEX
    return options


def _with_backend(algorithm, projections, tilt_angles_deg, voxel_size_nm, stated, options):
    """Another project's code, which knows neither errors nor masks nor shifts."""
    for name, value in {**stated, **options}.items():
        if name != "iterations" and value is not None:
            got = value if np.ndim(value) == 0 else f"an array of shape {np.shape(value)}"
            raise ValueError(f"{name}: got {got} with {algorithm!r}, wants only iterations and voxel_size_nm")
    measurement = Measurement(projections, tilt_angles_deg, device="cpu")  # checks them
    iterations = check_count(options.get("iterations", 100), "iterations")
    stack, tilts = measurement.projections.numpy(), check_tilts(measurement.projector.tilt_angles_deg)
    return reconstruct_with(algorithm, stack, tilts, voxel_size_nm=voxel_size_nm, iterations=iterations)
