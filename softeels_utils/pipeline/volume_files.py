"""Volumes and maps in the files of other programs: HyperSpy, ETSpy, IMOD, Fiji, tomviz, napari."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import data
from ..checks import (
    check_kind,
    check_mapping,
    check_names,
    check_path,
    check_positive,
    check_room,
    check_text,
    check_tilts,
    describe,
    real_array,
)
from ..doors import checked
from ..fitting import Estimate, PhaseFit
from .metal import knows_metal, metal_maps

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

__all__ = ["FORMATS", "METAL_FILES", "file_names", "volume_signal", "write_maps", "write_metal", "write_volume"]

#: What `write_volume` writes: files, and folders with one file for each channel.
FORMATS = ("volume.hspy", "volume.tif", "volume.ome.zarr", "mrc", "emd")
#: What `write_metal` writes.
METAL_FILES = ("metal.hspy", "metal.tif")
AXES = ("y", "z", "x")
MRC_LABEL = 80  # characters, of ASCII


def file_names(channels: Sequence[str]) -> list[str]:
    """Names of channels as parts of files' names, no two alike where letters are not told by their case."""
    found: list[str] = []
    for channel in channels:
        name = plain = re.sub(r"[^\w.-]+", "_", channel).strip("._") or "channel"
        number = 1
        while any(name.casefold() in (other.casefold(), f"{other}_error".casefold()) for other in found):
            number += 1
            name = f"{plain}_{number}"
        found.append(name)
    return found


@checked
def write_volume(
    folder: Path,
    arrays: Mapping[str, NDArray],
    channels: Sequence[str],
    voxel_size_nm: float | None,
    tilt_angles_deg: NDArray,
    unit: str,
) -> list[str]:
    """Write a volume with its errors.

    - ``volume.hspy``: HyperSpy; the variance of both errors together where HyperSpy looks for it
      (``Signal.Noise_properties.variance``); ``SoftEELS.statistical_error``, ``systematic_error`` and ``members``;
    - ``volume.tif``: an ImageJ hyperstack, values and errors as channels;
    - ``volume.ome.zarr``: OME-Zarr 0.4, the same channels;
    - ``mrc/CHANNEL.mrc`` and ``CHANNEL_error.mrc``: sections along Y, the order of IMOD's reconstructions;
    - ``emd/CHANNEL.emd``: Berkeley EMD.

    Parameters
    ----------
    folder : Path
    arrays : dict of array
        ``best``, ``std``, ``systematic`` (C, Y, Z, X) and ``members`` (M, C, Y, Z, X).
    channels : sequence of str
    voxel_size_nm : float or None
        None: the files do not state it.
    tilt_angles_deg : array (T,)
    unit : str
        Of the values.

    Returns
    -------
    list of str
        All files, relative to the folder.
    """
    folder = check_path(folder, "folder")
    if not folder.is_dir():
        raise ValueError(f"folder: got {folder}, wants one that exists")
    _check_volume(arrays, channels, voxel_size_nm, tilt_angles_deg, unit)
    best = np.asarray(arrays["best"], np.float32)
    errors = [np.asarray(arrays[name], np.float32) for name in ("std", "systematic")]
    names = [*channels, *(f"{c} {kind} error" for kind in ("statistical", "systematic") for c in channels)]
    whole = np.concatenate([best, *errors])
    signal = volume_signal(arrays, channels, voxel_size_nm, tilt_angles_deg, unit)
    members = np.size(arrays["members"]) if "members" in arrays else 0
    check_room(folder / "volume.hspy", 4 * (4 * whole.size + members), "folder")
    signal.save(str(folder / "volume.hspy"), overwrite=True)
    _write_imagej(folder / "volume.tif", whole.swapaxes(0, 1), names, voxel_size_nm)
    _write_ome_zarr(folder / "volume.ome.zarr", whole, names, voxel_size_nm)
    for part in ("mrc", "emd"):
        (folder / part).mkdir(exist_ok=True)
    for channel, name, values, error in zip(channels, file_names(channels), best, np.hypot(*errors), strict=True):
        _write_mrc(folder / "mrc" / f"{name}.mrc", values, voxel_size_nm, f"{channel} ({unit})")
        _write_mrc(folder / "mrc" / f"{name}_error.mrc", error, voxel_size_nm, f"{channel}, standard error")
        _signal(values, (*AXES,), voxel_size_nm, channel, unit).save(
            str(folder / "emd" / f"{name}.emd"), overwrite=True
        )
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".zarr" not in str(path)
    ]


@checked
def volume_signal(
    arrays: Mapping[str, NDArray],
    channels: Sequence[str],
    voxel_size_nm: float | None,
    tilt_angles_deg: NDArray,
    unit: str,
    title: str = "Reconstruction",
) -> BaseSignal:
    """A volume as a HyperSpy signal (channel, Y, Z, X), as `write_volume` writes it.

    Parameters
    ----------
    arrays : dict of array
        ``best``, ``std``, ``systematic`` (C, Y, Z, X); ``members`` (M, C, Y, Z, X), if they are to be kept.
    channels, voxel_size_nm, tilt_angles_deg, unit
        As for `write_volume`.
    title : str
    """
    check_text(title, "title")
    _check_volume(arrays, channels, voxel_size_nm, tilt_angles_deg, unit)
    axes = ("channel", *AXES)
    best, *errors = (np.asarray(arrays[name], np.float32) for name in ("best", "std", "systematic"))
    signal = _signal(best, axes, voxel_size_nm, title, unit)
    variance = _signal(errors[0] ** 2 + errors[1] ** 2, axes, voxel_size_nm, "Variance", unit)
    signal.metadata.set_item("Signal.Noise_properties.variance", variance)
    signal.metadata.set_item("Tomography.tilts", np.asarray(tilt_angles_deg, float))
    signal.metadata.set_item("Tomography.channels", list(channels))
    for name, error in zip(("statistical_error", "systematic_error"), errors, strict=True):
        signal.metadata.set_item(f"SoftEELS.{name}", error)
    if "members" in arrays:
        signal.metadata.set_item("SoftEELS.members", np.asarray(arrays["members"], np.float32))
    return signal


def _check_volume(arrays, channels, voxel_size_nm, tilt_angles_deg, unit):
    """Refuse arrays that are not those of one volume, and what cannot be told of it."""
    check_tilts(tilt_angles_deg, series=False)
    check_text(unit, "unit")
    arrays, count = check_mapping(arrays, "arrays"), len(check_names(channels, "channels"))
    for name in ("best", "std", "systematic"):
        if name not in arrays:
            raise ValueError(f"arrays: got {', '.join(arrays)}, wants {name}, too")
        shape = real_array(arrays[name], f"arrays[{name!r}]", ndim=4, finite=False).shape
        if shape != np.shape(arrays["best"]) or shape[0] != count:
            raise ValueError(f"arrays[{name!r}]: got shape {shape}, wants ({count}, Y, Z, X) as of {count} channels")
        if name != "best" and np.min(arrays[name]) < 0:
            raise ValueError(
                f"arrays[{name!r}]: got values down to {np.min(arrays[name]):.3g}, wants errors of at least 0"
            )
    if "members" in arrays:
        shape = real_array(arrays["members"], "arrays['members']", ndim=5, finite=False).shape
        if shape[1:] != np.shape(arrays["best"]):
            raise ValueError(f"arrays['members']: got shape {shape}, wants (M, {count}, Y, Z, X), those of 'best'")
    if voxel_size_nm is not None:
        check_positive(voxel_size_nm=voxel_size_nm)


@checked
def write_maps(folder: Path, fit: PhaseFit) -> None:
    """Write the maps of a fit over tilt, one file for each phase: a stack for ETSpy and HyperSpy, TIFFs for Fiji.

    ``PHASE.hspy`` (T, Y, X) with tilts and statistical variance; ``PHASE.tif`` and ``PHASE_error.tif``. NaN where there
    is no result. If the fit knows what its phases contain, ``metal`` (atoms per nm²) and ``mean_valence`` (NaN where
    there is little metal, see `metal_maps`) as well, with ``_systematic_error.tif``.
    """
    if not isinstance(fit, PhaseFit):
        raise ValueError(f"fit: got {describe(fit)}, wants a PhaseFit")
    if fit.tilt_angles_deg is None:
        raise ValueError("fit: got one without tilts, wants that of a tilt series (T, Y, X)")
    folder = check_path(folder, "folder")
    if not folder.is_dir() and not folder.absolute().parent.is_dir():
        raise ValueError(f"folder: got {folder}, wants one in a folder that exists")
    folder.mkdir(exist_ok=True)
    names = fit.phases or [f"phase {k}" for k in range(fit.coefficients.shape[-1])]
    values, errors = (np.moveaxis(np.asarray(a), -1, 0) for a in (fit.coefficients, fit.standard_error))
    maps = [("nm", {"": value, "_error": error}) for value, error in zip(values, errors, strict=True)]
    if knows_metal(fit.drawn):
        names = [*names, "metal", "mean valence"]
        for unit, found in zip(("atoms per nm²", "mean valence"), metal_maps(fit), strict=True):
            arrays = {"": found.value, "_error": found.statistical, "_systematic_error": found.systematic}
            maps.append((unit, arrays))
    for (unit, arrays), channel, name in zip(maps, names, file_names(names), strict=True):
        arrays = {suffix: np.asarray(array, np.float32) for suffix, array in arrays.items()}
        variance = arrays["_error"][None] ** 2
        known = (arrays[""][None], fit.tilt_angles_deg, (channel,), fit.pixel_size_nm, variance)
        data.TiltSeries(*known, unit=unit).save(folder / f"{name}.hspy")
        for suffix, image in arrays.items():
            _write_imagej(folder / f"{name}{suffix}.tif", image[:, None], [channel], fit.pixel_size_nm)


def write_metal(
    folder: Path,
    metal: Estimate,
    valence: Estimate,
    symbol: str,
    voxel_size_nm: float | None,
    tilt_angles_deg: NDArray,
) -> list[str]:
    """Write atoms of the metal per nm³ and their mean valence in each voxel, with errors.

    ``metal.hspy`` as `write_volume` writes ``volume.hspy``, with these two channels; ``metal.tif``: an ImageJ
    hyperstack, values and errors as channels. The mean valence is NaN where there is little metal.

    Parameters
    ----------
    folder : Path
    metal, valence : Estimate
        (Y, Z, X), see `metal_and_valence`.
    symbol : str
        Of the metal.
    voxel_size_nm : float or None
    tilt_angles_deg : array (T,)

    Returns
    -------
    list of str
        The files, relative to the folder.
    """
    folder, channels = check_path(folder, "folder"), [f"{check_text(symbol, 'symbol')} per nm³", "mean valence"]
    pairs = {
        name: np.stack([getattr(check_kind(one, "metal, valence", Estimate), part) for one in (metal, valence)])
        for name, part in (("best", "value"), ("std", "statistical"), ("systematic", "systematic"))
    }
    title, unit = f"{symbol} and its mean valence", f"atoms per nm³; mean valence of {symbol}"
    signal = volume_signal(pairs, channels, voxel_size_nm, tilt_angles_deg, unit, title)
    signal.save(str(folder / "metal.hspy"), overwrite=True)
    names = [*channels, *(f"{c} {kind} error" for kind in ("statistical", "systematic") for c in channels)]
    whole = np.concatenate([np.asarray(array, np.float32) for array in pairs.values()])
    _write_imagej(folder / "metal.tif", whole.swapaxes(0, 1), names, voxel_size_nm)
    return list(METAL_FILES)


def _signal(values, axes, voxel_size_nm, title, unit):
    """A HyperSpy signal with axes in nm; the last two are the signal's."""
    import hyperspy.api as hs

    step = {"scale": voxel_size_nm, "units": "nm"} if voxel_size_nm else {}
    described = [
        {"name": name, "size": size, **(step if name in AXES else {})}
        for name, size in zip(axes, values.shape, strict=True)
    ]
    signal = hs.signals.Signal2D(values, axes=described)
    signal.metadata.General.title = title
    signal.metadata.Signal.quantity = unit
    return signal


def _write_imagej(path, stack, labels, voxel_size_nm):
    """An ImageJ hyperstack (Z, C, Y, X); each plane is labelled with its channel."""
    import tifffile

    known = {"resolution": (1 / voxel_size_nm,) * 2} if voxel_size_nm else {}
    about = {"spacing": voxel_size_nm, "unit": "nm"} if voxel_size_nm else {}
    about |= {"axes": "ZCYX", "mode": "composite", "Labels": list(labels) * len(stack)}
    tifffile.imwrite(path, np.ascontiguousarray(stack, np.float32), imagej=True, metadata=about, **known)


def _write_mrc(path, values, voxel_size_nm, label):
    import mrcfile

    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.ascontiguousarray(values, np.float32))
        file.set_volume()
        if voxel_size_nm:
            file.voxel_size = 10 * voxel_size_nm  # Å
        file.add_label(label.encode("ascii", "replace").decode()[:MRC_LABEL])


def _write_ome_zarr(path, values, labels, voxel_size_nm):
    """OME-Zarr (NGFF 0.4): one resolution, axes c, z, y, x; z runs along the tilt axis, as in the TIFF."""
    import zarr

    unit = {"unit": "nanometer"} if voxel_size_nm else {}
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", **unit} for n in "zyx")]
    scale = {"type": "scale", "scale": [1.0, *[float(voxel_size_nm or 1.0)] * 3]}
    colors = ("0072B2", "D55E00", "009E73", "CC79A7")
    windows = [{"min": 0.0, "max": 1.0, "start": 0.0, "end": float(max(v.max(), 1e-6))} for v in values]
    group = zarr.open_group(str(path), mode="w")
    group.create_dataset("0", data=values, chunks=(1, *(min(n, 64) for n in values.shape[1:])), dimension_separator="/")
    group.attrs["multiscales"] = [
        {
            "version": "0.4", "name": path.name.split(".")[0], "axes": axes,
            "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
        }
    ]  # fmt: skip
    group.attrs["omero"] = {
        "channels": [
            {"label": label, "color": colors[k % len(colors)], "active": k < len(labels) // 3, "window": window}
            for k, (label, window) in enumerate(zip(labels, windows, strict=True))
        ]
    }
