"""Containers and energy axes: the same functions for arrays, Dask arrays and HyperSpy signals."""

from __future__ import annotations

import numpy as np

BLOCK = 2048  # spectra worked on at once: large enough for NumPy, small enough for the cache and for memory


def energy_axis(spectra, energy_eV=None, name="energy_eV"):
    """Energy of each channel in eV: from the signal itself, or ``energy_eV`` checked against the data.

    Returns
    -------
    ndarray (E,), float64, increasing and evenly spaced.

    Raises
    ------
    ValueError
        If an array comes without energies, or the energies are not 1-D, finite, increasing and even, or
        their number is not the length of the last axis (a sign of a wrong axis order).
    """
    if is_signal(spectra):
        axes = spectra.axes_manager.signal_axes
        if len(axes) != 1:
            raise ValueError(f"spectra must have one signal axis (energy), got {len(axes)}")
        energy_eV = axes[0].axis if energy_eV is None else energy_eV
        spectra = spectra.data
    if energy_eV is None:
        raise ValueError(f"{name} is needed when the spectra are a plain array")
    energy = np.asarray(energy_eV, dtype=float)
    if energy.ndim != 1 or energy.size < 3 or not np.isfinite(energy).all():
        raise ValueError(f"{name} must be a finite 1-D array of at least 3 energies, got {energy.shape}")
    step = np.diff(energy)
    if step.min() <= 0 or np.ptp(step) > 1e-3 * step.mean():
        raise ValueError(f"{name} must increase in even steps, got steps {step.min():.4g} to {step.max():.4g}")
    shape = np.shape(spectra)
    if len(shape) == 0 or shape[-1] != energy.size:
        hint = " (energy must be the last axis)" if energy.size in shape else ""
        raise ValueError(f"{name} has {energy.size} energies, but spectra have shape {shape}{hint}")
    return energy


def is_signal(x):
    return hasattr(x, "axes_manager")


def is_dask(x):
    return hasattr(x, "dask")


def data_of(x):
    return x.data if is_signal(x) else x if is_dask(x) else np.asarray(x)


def like(x, data):
    """Data in the container of x, with its axes and metadata."""
    return x._deepcopy_with_new_data(data) if is_signal(x) else data


def map_spectra(function, *inputs, core_shape, dtype=float):
    """Apply a function of blocks ``(n, E), (n, E2), ... -> (n, *core_shape)`` to arrays ``(..., E), ...``.

    Arrays are worked on `BLOCK` spectra at a time; Dask arrays lazily, chunk by chunk. An input without
    leading axes is given to every block as one row.
    """
    inputs = [data_of(x) for x in inputs]
    lead = max((x.shape[:-1] for x in inputs), key=len)
    for x in inputs:
        if x.ndim > 1 and x.shape[:-1] != lead:
            raise ValueError(f"spectra do not agree in their leading axes: {x.shape[:-1]} and {lead}")
    if any(is_dask(x) for x in inputs):
        return _map_dask(function, inputs, lead, core_shape, dtype)
    rows = [x.reshape(-1, x.shape[-1]) for x in inputs]
    n = int(np.prod(lead, dtype=int))
    out = np.empty((n, *core_shape), dtype=dtype)
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        out[part] = function(*(r[part] if x.ndim > 1 else r for r, x in zip(rows, inputs, strict=True)))
    return out.reshape((*lead, *core_shape))


def _map_dask(function, inputs, lead, core_shape, dtype):
    import dask.array as da

    lazy = next(x for x in inputs if is_dask(x) and x.ndim == len(lead) + 1)
    chunks = lazy.chunks[:-1]
    arrays = [da.asarray(x) for x in inputs]
    arrays = [x.rechunk({**dict(enumerate(chunks)), x.ndim - 1: -1} if x.ndim > 1 else -1) for x in arrays]

    def block(*parts):
        shape = max((p.shape[:-1] for p in parts), key=len)
        return map_spectra(function, *parts, core_shape=core_shape, dtype=dtype).reshape((*shape, *core_shape))

    nav = tuple(range(len(lead)))
    new = {100 + i: size for i, size in enumerate(core_shape)}
    pairs = [pair for i, x in enumerate(arrays) for pair in (x, (*nav, 50 + i) if x.ndim > 1 else (50 + i,))]
    return da.blockwise(block, (*nav, *new), *pairs, new_axes=new, concatenate=True, dtype=dtype, meta=np.empty(0))


def window_mask(energy, window_eV, name="window_eV"):
    try:
        low, high = (float(v) for v in window_eV)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair (low, high) in eV, got {window_eV!r}") from None
    step = energy[1] - energy[0]
    if not low < high:
        raise ValueError(f"{name} must increase, got ({low:g}, {high:g})")
    if low < energy[0] - step or high > energy[-1] + step:
        raise ValueError(
            f"{name} ({low:g}, {high:g}) eV is not covered by the energy axis {energy[0]:g} to {energy[-1]:g} eV"
        )
    return (energy >= low) & (energy <= high)


NM_PER = {"nm": 1.0, "µm": 1e3, "um": 1e3, "μm": 1e3, "Å": 0.1, "A": 0.1, "pm": 1e-3, "m": 1e9}


def step_nm(axis) -> float | None:
    """Step of a HyperSpy axis in nm; None where its unit is no length."""
    return float(axis.scale) * NM_PER[str(axis.units)] if str(axis.units) in NM_PER else None
