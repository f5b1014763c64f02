"""Functions of blocks of spectra, applied to every pixel: in threads for arrays, lazily for Dask arrays."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..checks import check_count, describe
from ..doors import checked
from .arrays import data_of, is_dask

__all__ = ["map_spectra"]

BLOCK = 2048  # spectra worked on at once: large enough for NumPy, small enough for memory


@checked
def map_spectra(
    function: Callable[..., np.ndarray],
    *inputs: ArrayLike | None,
    core_shape: tuple[int, ...],
    dtype: DTypeLike = float,
    block: int = BLOCK,
) -> np.ndarray:
    """Apply a function that works on blocks of spectra to every pixel.

    Parameters
    ----------
    function : callable
        ``(n, E), (n, E2), ... -> (n, *core_shape)``. Blocks run side by side in threads (``OMP_NUM_THREADS``, by
        default one per core) with single-threaded BLAS, so the function must not change any state.
    *inputs : arrays (..., E), (..., E2), ... or None
        Arrays, Dask arrays or HyperSpy signals with the same leading axes. An input without leading axes is passed to
        every block as one row (1, E); None is passed on as None.
    core_shape : tuple of int
        Shape of the result for one pixel.
    block : int
        Spectra per block.

    Returns
    -------
    ndarray, or Dask array if one input is lazy, ``(..., *core_shape)``

    Raises
    ------
    ValueError
        If the leading axes of the inputs differ.

    Examples
    --------
    >>> counts = np.arange(12.0).reshape(2, 2, 3)
    >>> map_spectra(lambda y, scale: (y * scale).sum(-1), counts, np.ones(3), core_shape=())
    array([[ 3., 12.],
           [21., 30.]])
    """
    if not callable(function):
        raise ValueError(f"function: got {describe(function)}, wants a function of blocks of spectra")
    if not isinstance(core_shape, Iterable):
        raise ValueError(f"core_shape: got {describe(core_shape)}, wants a shape")
    core_shape = tuple(check_count(size, "core_shape", 0) for size in core_shape)
    check_count(block, "block")
    try:
        np.dtype(dtype)
    except TypeError:
        raise ValueError(f"dtype: got {describe(dtype)}, wants a type of numbers") from None
    arrays = [None if x is None else data_of(x) for x in inputs]
    if all(x is None for x in arrays):
        raise ValueError("inputs: got no spectra, wants at least one array")
    lead = _leading_axes(arrays)
    for x in arrays:
        if x is not None and x.ndim > 1 and x.shape[:-1] != lead:
            raise ValueError(f"spectra: got leading axes {x.shape[:-1]}, wants {lead} as the others have")
    settings = {"core_shape": core_shape, "dtype": dtype, "block": block}
    if any(is_dask(x) for x in arrays):
        return _lazily(function, arrays, len(lead), **settings)
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0] or os.cpu_count() or 1
    return _in_blocks(function, *arrays, threads=max(1, int(threads)), **settings)


def _leading_axes(arrays):
    return max((x.shape[:-1] for x in arrays if x is not None), key=len)


def _in_blocks(function, *arrays, core_shape, dtype, block, threads=1):
    """The result for arrays in memory, ``block`` spectra at a time."""
    lead = _leading_axes(arrays)
    rows = [None if x is None else x.reshape(-1, x.shape[-1]) for x in arrays]
    per_pixel = [x is not None and x.ndim > 1 for x in arrays]
    n = int(np.prod(lead, dtype=int))
    out = np.empty((n, *core_shape), dtype)

    def work(start):
        part = slice(start, start + block)
        out[part] = function(*(r[part] if cut else r for r, cut in zip(rows, per_pixel, strict=True)))

    starts = range(0, n, block)
    with _single_threaded_blas:
        if threads == 1 or len(starts) < 2:
            for start in starts:
                work(start)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, starts))
    return out.reshape((*lead, *core_shape))


def _lazily(function, arrays, n_lead, *, core_shape, dtype, block):
    """The same as a Dask array, chunk by chunk; each chunk in one thread, as Dask brings its own."""
    import dask.array as da

    whole = [x for x in arrays if x is not None and x.ndim == n_lead + 1]
    chunks = da.asarray(next((x for x in whole if is_dask(x)), whole[0])).chunks[:-1]
    lead = tuple(range(n_lead))
    new_axes = {n_lead + i: size for i, size in enumerate(core_shape)}
    operands = []
    for number, x in enumerate(arrays, start=n_lead + len(core_shape)):
        if x is None:
            operands += [None, None]  # a literal
        elif x.ndim > 1:
            operands += [da.asarray(x).rechunk((*chunks, -1)), (*lead, number)]
        else:
            operands += [da.asarray(x).rechunk(-1), (number,)]
    return da.blockwise(
        partial(_in_blocks, function, core_shape=core_shape, dtype=dtype, block=block),
        (*lead, *new_axes),
        *operands,
        new_axes=new_axes,
        concatenate=True,
        dtype=dtype,
        meta=np.empty((0,) * (n_lead + len(core_shape)), dtype),
    )


@cache
def _thread_pools():
    """The BLAS libraries of the process; looking for them takes a hundred times longer than limiting them."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


class _SingleThreadedBLAS:
    """Blocks run side by side, each on one core: BLAS must not spread each small product over all of them.

    The limit belongs to the process, so the first one in sets it and the last one out lifts it.
    """

    def __init__(self):
        self.lock, self.inside, self.limit = threading.Lock(), 0, None

    def __enter__(self):
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.limit = _thread_pools().limit(limits=1, user_api="blas")

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limit.restore_original_limits()


_single_threaded_blas = _SingleThreadedBLAS()
