"""The parallel-beam projector: a sparse matrix with exact area weights, and its exact transpose."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import ArrayLike, NDArray

from ..checks import (
    check_count,
    check_index,
    check_number,
    check_positive,
    check_seed,
    check_tilts,
    describe,
    finite_array,
    real_array,
)
from ..doors import checked
from .checks import as_tensor, check_device

__all__ = ["LARGEST_SIDE", "ParallelBeam"]

MOST_STEPS = 10_000  # of a power iteration
LARGEST_SIDE = 2**16  # of a slice, in pixels


@checked
class ParallelBeam:
    r"""Parallel-beam projector of a single-axis tilt series, ``p = A(v)`` and ``A.T(p)``.

    A voxel at ``(z, x)`` from the centre of the slice lands on the detector at

    .. math:: u = x \cos\theta + z \sin\theta + \mathrm{shift}.

    Its shadow is a trapezoid of unit area (a square seen at an angle), and the weight of a voxel in a
    detector pixel is the exact integral of that trapezoid over the pixel (a strip, or area, weight).
    A projection is therefore the line integral averaged over the width of a detector pixel, in the unit
    of ``voxel_size_nm``. The matrix of one slice serves every slice and channel at once; the
    adjoint multiplies by its transpose, stored as well, so both directions are row-parallel.

    Parameters
    ----------
    n : int or (int, int)
        Size of a slice: ``n`` for a square, or ``(Z, X)``. The detector has ``X`` pixels.
    tilt_angles_deg : array_like (T,)
        Tilts in degrees, in any order and spacing; positive turns right-handed about +Y.
    voxel_size_nm : float
        Edge of a voxel and of a detector pixel.
    device : str or torch.device, optional
        Device to compute on. By default tensors stay where they are, and arrays go to the GPU if there is one.
    shifts_px : array_like (T,) or (T, 2), optional
        Where the specimen's centre lands, in detector pixels from the detector's centre: along X, or
        ``(dy, dx)``. The defaults are zero (an aligned series).
    axis_angle_deg : float
        Angle of the tilt axis on the detector, from +Y towards +X. Projections are rotated about the detector's centre
        by cubic convolution (R. Keys, IEEE Trans. Acoust. Speech Signal Process. 29, 1153 (1981)), then shifted. This
        blurs them slightly: leave an angle that is within its error of 0 at 0.

    Notes
    -----
    The matrix holds about ``2 T Z X`` weights (two detector pixels per voxel and tilt), each with 4 bytes and a 4-byte
    index, once as ``A`` and once as ``A.T``: 20 MB for 256² at 9 tilts, 0.26 GB for 512² at 29. It is built tilt by
    tilt at the first use. :attr:`nbytes` gives the exact size. A rotated axis adds 256 bytes per detector pixel for
    each number of rows that is projected: 0.03 GB for 112² at 9 tilts, 2 GB for 512² at 29.

    Strip weights: F. Natterer & F. Wübbeling, *Mathematical Methods in Image Reconstruction* (SIAM,
    2001), sec. 5; footprint form: Y. Long, J. A. Fessler & J. M. Balter, IEEE Trans. Med. Imaging 29,
    1839 (2010).

    Examples
    --------
    >>> import numpy as np
    >>> A = ParallelBeam(8, [-30.0, 0.0, 45.0])
    >>> volume = np.ones((2, 5, 8, 8), np.float32)      # (C, Y, Z, X)
    >>> A(volume).shape                                 # (C, T, Y, X)
    (2, 3, 5, 8)
    >>> A.T(A(volume)).shape
    (2, 5, 8, 8)
    """

    def __init__(
        self,
        n: int | tuple[int, int],
        tilt_angles_deg: ArrayLike,
        voxel_size_nm: float = 1.0,
        device: str | torch.device | None = None,
        *,
        shifts_px: ArrayLike | None = None,
        axis_angle_deg: float = 0.0,
    ):
        size = np.atleast_1d(real_array(n, "n"))
        if size.shape not in ((1,), (2,)) or size.dtype.kind not in "iu" or not 1 <= size.min() <= size.max() < 2**31:
            raise ValueError(f"n: got {describe(n)}, wants a positive integer or a pair (Z, X)")
        if size.max() > LARGEST_SIDE:
            raise ValueError(f"n: got {describe(n)}, wants at most {LARGEST_SIDE} pixels")
        self.n_z, self.n_x = int(size[0]), int(size[-1])
        self.tilt_angles_deg = check_tilts(tilt_angles_deg, series=False)
        check_positive(voxel_size_nm=voxel_size_nm)
        self.voxel_size_nm = float(voxel_size_nm)
        self.device = None if device is None else check_device(device)
        tilts = self.tilt_angles_deg.size
        shifts = np.zeros((tilts, 2)) if shifts_px is None else finite_array(shifts_px, "shifts_px")
        if shifts.shape == (tilts,):
            shifts = np.stack([np.zeros(tilts), shifts], axis=1)
        if shifts.shape != (tilts, 2):
            raise ValueError(f"shifts_px: got shape {shifts.shape}, wants ({tilts},) or ({tilts}, 2)")
        self.shifts_px = shifts
        self.axis_angle_deg = check_number(axis_angle_deg, "axis_angle_deg", -180, 180)
        self._cache, self._turns, self._still, self.is_absolute = {}, {}, None, False

    def __repr__(self) -> str:
        tilts = self.tilt_angles_deg
        turned = f", axis turned by {self.axis_angle_deg:g}°" if self.axis_angle_deg else ""
        return (
            f"ParallelBeam(({self.n_z}, {self.n_x}), {tilts.size} tilts {tilts.min():g}° to "
            f"{tilts.max():g}°, {self.voxel_size_nm:g} nm{turned})"
        )

    @property
    def n_tilts(self) -> int:
        """Number of tilts T."""
        return self.tilt_angles_deg.size

    @property
    def T(self) -> _Adjoint:
        """The adjoint (back-projection), a callable: ``A.T(projections)``; ``A.T.T is A``."""
        return _Adjoint(self)

    def __call__(self, volume: ArrayLike | torch.Tensor) -> NDArray | torch.Tensor:
        """Project a volume.

        Parameters
        ----------
        volume : array or tensor (..., Y, Z, X)

        Returns
        -------
        array or tensor (..., T, Y, X), of the kind and dtype given (integers become float32).
        """
        return self._apply(volume, adjoint=False)

    def like(self, **changes: Any) -> ParallelBeam:
        """The same projector with some of its arguments changed, by name."""
        same = {
            "n": (self.n_z, self.n_x),
            "tilt_angles_deg": self.tilt_angles_deg,
            "voxel_size_nm": self.voxel_size_nm,
            "device": self.device,
            "shifts_px": self.shifts_px,
            "axis_angle_deg": self.axis_angle_deg,
        }
        return ParallelBeam(**same | changes)

    def subset(self, tilts: ArrayLike | slice) -> ParallelBeam:
        """The projector of some of the tilts: ``tilts`` is an index, slice or mask over T."""
        check_index(tilts, "tilts", self.n_tilts)
        return self.like(tilt_angles_deg=self.tilt_angles_deg[tilts], shifts_px=self.shifts_px[tilts])

    def shifted(self, shifts_px: ArrayLike) -> ParallelBeam:
        """The same projector with other ``shifts_px``."""
        return self.like(shifts_px=shifts_px)

    @property
    def still(self) -> ParallelBeam:
        """The part of the projector that keeps every slice in its row: ``A(v)`` is ``A.move(A.still(v))``."""
        if not self.mixes_rows:
            return self
        if self._still is None:
            self._still = self.like(shifts_px=self._across, axis_angle_deg=0.0)
        return self._still

    def move(self, projections: torch.Tensor, adjoint: bool = False) -> torch.Tensor:
        """Rotate projections (..., T, Y, X) and shift them along Y: the rest of the projector; or its transpose."""
        shape = tuple(projections.shape)
        if len(shape) < 3 or (shape[-3], shape[-1]) != (self.n_tilts, self.n_x):
            raise ValueError(f"projections: got shape {shape}, wants (..., {self.n_tilts}, Y, {self.n_x})")
        return _Moved.apply(projections, self._move, adjoint)

    @property
    def mixes_rows(self) -> bool:
        """Whether a slice is seen in rows of the detector other than its own."""
        return bool(self.axis_angle_deg or self.shifts_px[:, 0].any())

    @property
    def absolute(self) -> ParallelBeam:
        """The same projector with the absolute values of all weights: some weights of a rotation are negative."""
        other = self.like()
        other.is_absolute = True
        return other if self.axis_angle_deg else self

    def reach(self, n_rows: int) -> int:
        """Largest distance, in rows, from a slice's own row to one that sees it; with a rotated axis all rows, since
        some of them must not be projected alone.
        """
        check_count(n_rows, "n_rows")
        return n_rows if self.axis_angle_deg else int(np.ceil(np.abs(self.shifts_px[:, 0]).max()))

    def source_rows(self, n_rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last slice that each pixel of ``n_rows`` rows sees, (T, Y, X) each; may lie beyond the ends of the
        volume.
        """
        shape = (self.n_tilts, check_count(n_rows, "n_rows", most=LARGEST_SIDE), self.n_x)
        if self.axis_angle_deg:
            y = np.floor(_before_turning(self, n_rows, slice(None))[0])
            first, last = y - 1, y + 2
        else:
            y = np.arange(n_rows) - self.shifts_px[:, :1]
            first, last = (np.broadcast_to(edge[..., None], shape) for edge in (np.floor(y), np.ceil(y)))
        return first.astype(np.int64), last.astype(np.int64)

    @property
    def _across(self) -> NDArray[np.float64]:
        """Shift (T,) across the tilt axis, which the matrix of a slice holds."""
        angle = np.deg2rad(self.axis_angle_deg)
        return self.shifts_px @ [-np.sin(angle), np.cos(angle)]

    def norm(self, iterations: int = 50, seed: int = 0) -> float:
        """Largest singular value of A for one slice, by power iteration (from below, within about 1 %)."""
        check_count(iterations, "iterations", most=MOST_STEPS)
        x = np.random.default_rng(check_seed(seed)).random((1, self.n_z, self.n_x))
        for _ in range(iterations):
            x = self.T(self(x))
            squared = np.linalg.norm(x)
            x /= squared
        return float(np.sqrt(squared))

    def matrix(self) -> scipy.sparse.csr_array:
        """The matrix of one slice as a ``scipy.sparse.csr_array`` (T X, Z X) in float64.

        Row ``t X + u`` is detector pixel ``u`` at tilt ``t``; column ``z X + x`` a voxel. The shift along Y is not part
        of it; with a rotated tilt axis, neither are the rotation and all shifts.
        """
        blocks = [_strip_weights(self, t, np.float64, self._across[t]) for t in range(self.n_tilts)]
        return scipy.sparse.csr_array(scipy.sparse.vstack(blocks, format="csr"))

    @property
    def nbytes(self) -> int:
        """Memory of the matrices built so far (A and its transpose), in bytes."""
        tensors = [
            t
            for pair in (*self._cache.values(), *self._turns.values())
            for m in pair
            for t in (m.values(), m.col_indices(), m.crow_indices())
        ]
        return sum(t.numel() * t.element_size() for t in tensors)

    def _matrices(self, dtype, device):
        """(A, A.T) as torch CSR of this dtype on this device, built once."""
        key = (dtype, str(device))
        if key not in self._cache:
            numpy_dtype = np.float64 if dtype == torch.float64 else np.float32
            blocks = [_strip_weights(self, t, numpy_dtype, self._across[t]) for t in range(self.n_tilts)]
            matrix = scipy.sparse.vstack(blocks, format="csr")
            del blocks
            transpose = matrix.T.tocsr()
            self._cache[key] = (_torch_csr(matrix, device), _torch_csr(transpose, device))
        return self._cache[key]

    def _apply(self, array, *, adjoint):
        """Check, bring to torch, multiply, and hand back what came in."""
        is_tensor = isinstance(array, torch.Tensor)
        if not is_tensor and not (isinstance(array, np.ndarray) and array.dtype.kind == "b"):
            array = real_array(array, "projections" if adjoint else "volume", finite=False)
        tensor = as_tensor(array, self.device)
        want = (self.n_tilts, None, self.n_x) if adjoint else (None, self.n_z, self.n_x)
        if tensor.ndim < 3 or any(w not in (None, s) for w, s in zip(want, tensor.shape[-3:], strict=True)):
            name, axes = ("projections", "(..., T, Y, X)") if adjoint else ("volume", "(..., Y, Z, X)")
            sizes = ", ".join("Y" if w is None else str(w) for w in want)
            raise ValueError(f"{name}: got shape {tuple(tensor.shape)}, wants {axes} = (..., {sizes})")
        result = _Product.apply(tensor, self, adjoint)
        return result if is_tensor else result.cpu().numpy()

    def _multiply(self, tensor, adjoint):
        """The product itself, without autograd."""
        matrix = self._matrices(tensor.dtype, tensor.device)[adjoint]
        *lead, first, second, last = tensor.shape
        if adjoint:
            tensor = self._move(tensor, adjoint=True)
            rows = tensor.movedim(-3, -2).reshape(-1, first * last)
            return _product(matrix, rows).reshape(*lead, second, self.n_z, self.n_x)
        result = _product(matrix, tensor.reshape(-1, second * last))
        result = result.reshape(*lead, first, self.n_tilts, self.n_x).movedim(-2, -3).contiguous()
        return self._move(result, adjoint=False)

    def _move(self, projections, *, adjoint):
        """Projections (..., T, Y, X) turned and shifted where the matrix of a slice cannot do it; or the transpose."""
        dy = self.shifts_px[:, 0]
        if self.axis_angle_deg:
            shape = projections.shape
            matrix = self._turn(shape[-2], projections.dtype, projections.device)[adjoint]
            return _product(matrix, projections.reshape(-1, matrix.shape[1])).reshape(shape)
        return _shift_rows(projections, -dy if adjoint else dy) if dy.any() else projections

    def _turn(self, n_rows, dtype, device):
        """Turn and shift of a detector of so many rows, and its transpose, as torch CSR (T Y X, T Y X)."""
        key = (n_rows, dtype, str(device))
        if key not in self._turns:
            numpy_dtype = np.float64 if dtype == torch.float64 else np.float32
            blocks = [_cubic_weights(self, n_rows, t, numpy_dtype) for t in range(self.n_tilts)]
            if sum(block.nnz for block in blocks) >= 2**31:
                size = f"{self.n_tilts} tilts of {n_rows} × {self.n_x} pixels"
                raise ValueError(f"axis_angle_deg: got an angle with {size}, wants a smaller detector, or 0")
            matrix = scipy.sparse.block_diag(blocks, format="csr")
            matrix = abs(matrix) if self.is_absolute else matrix
            self._turns[key] = (_torch_csr(matrix, device), _torch_csr(matrix.T.tocsr(), device))
        return self._turns[key]


def _product(matrix, rows):
    """``rows @ matrix.T`` for many rows, on the CPU in pieces that stay in its cache (2 to 3 times faster)."""
    piece = max(16, 2**18 // matrix.shape[1]) if rows.device.type == "cpu" else len(rows)
    if len(rows) <= piece:
        return (matrix @ rows.T).T.contiguous()
    result = rows.new_empty(len(rows), matrix.shape[0])
    for start in range(0, len(rows), piece):
        result[start : start + piece] = (matrix @ rows[start : start + piece].T).T
    return result


class _Adjoint:
    """``A.T`` of a projector."""

    def __init__(self, projector):
        self.T = projector

    def __call__(self, projections):
        """Back-project ``(..., T, Y, X)`` to ``(..., Y, Z, X)``: the exact transpose."""
        return self.T._apply(projections, adjoint=True)

    def __repr__(self):
        return f"{self.T!r}.T"


class _Product(torch.autograd.Function):
    """A or A.T, whose derivative is A.T or A (so that it may be differentiated any number of times)."""

    @staticmethod
    def forward(ctx, tensor, projector, adjoint):
        ctx.projector, ctx.adjoint = projector, adjoint
        return projector._multiply(tensor, adjoint)

    @staticmethod
    def backward(ctx, gradient):
        return _Product.apply(gradient, ctx.projector, not ctx.adjoint), None, None


class _Moved(torch.autograd.Function):
    """Turn and shift along Y, or the transpose, each the derivative of the other."""

    @staticmethod
    def forward(ctx, tensor, move, adjoint):
        ctx.move, ctx.adjoint = move, adjoint
        return move(tensor, adjoint=adjoint)

    @staticmethod
    def backward(ctx, gradient):
        return _Moved.apply(gradient, ctx.move, not ctx.adjoint), None, None


def _strip_weights(projector, t, dtype, shift):
    """Weights of one tilt as a CSR matrix (X, Z X): the integral of each voxel's shadow over each bin."""
    theta = np.deg2rad(projector.tilt_angles_deg[t])
    cos, sin = np.cos(theta), np.sin(theta)
    wide, narrow = max(abs(cos), abs(sin)), min(abs(cos), abs(sin))
    half_top, half_base = (wide - narrow) / 2, (wide + narrow) / 2
    n_z, n_x = projector.n_z, projector.n_x

    def integral(v):
        """∫ of the unit-area trapezoid from 0 to v, closed form, odd in v."""
        q = np.abs(v)
        ramp = np.clip(q - half_top, 0, narrow)
        area = np.minimum(q, half_top) + ramp - ramp**2 / (2 * max(narrow, 1e-300))
        return np.sign(v) * area / wide

    x = np.arange(n_x) - (n_x - 1) / 2
    z = np.arange(n_z)[:, None] - (n_z - 1) / 2
    centre = (x * cos + z * sin + shift + n_x / 2).ravel()
    first = np.floor(centre - half_base).astype(np.int64)
    rows, columns, weights = [], [], []
    for bins in (first, first + 1, first + 2):  # a base of at most √2 touches at most three bins
        weight = integral(bins + 1 - centre) - integral(bins - centre)
        keep = np.flatnonzero((bins >= 0) & (bins < n_x) & (weight > 1e-12))
        rows.append(bins[keep].astype(np.int32))
        columns.append(keep.astype(np.int32))
        weights.append((weight[keep] * projector.voxel_size_nm).astype(dtype))
    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return scipy.sparse.coo_array(entries, shape=(n_x, n_z * n_x)).tocsr()


def _before_turning(projector, n_rows, tilts):
    """Where the detector's pixels lie in the projections of `still`, at some tilts: rows, columns (T, Y, X)."""
    angle = np.deg2rad(projector.axis_angle_deg)
    middle = (n_rows - 1) / 2, (projector.n_x - 1) / 2
    y, x = np.arange(n_rows)[:, None] - middle[0], np.arange(projector.n_x) - middle[1]
    along = projector.shifts_px[tilts] @ [np.cos(angle), np.sin(angle)]
    rows = np.cos(angle) * y + np.sin(angle) * x + middle[0] - along[:, None, None]
    columns = np.cos(angle) * x - np.sin(angle) * y + middle[1]
    return rows, np.broadcast_to(columns, rows.shape)


def _cubic_weights(projector, n_rows, t, dtype):
    """Cubic convolution of the projection at one tilt to where it lies on the detector, as a CSR array (Y X, Y X)."""
    rows, columns = (place[0] for place in _before_turning(projector, n_rows, slice(t, t + 1)))
    shape, pixels = rows.shape, np.arange(rows.size, dtype=np.int32).reshape(rows.shape)
    entries = []
    for y in (np.floor(rows).astype(np.int32) + k for k in (-1, 0, 1, 2)):
        for x in (np.floor(columns).astype(np.int32) + k for k in (-1, 0, 1, 2)):
            weight = _keys(rows - y) * _keys(columns - x)
            keep = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1]) & (np.abs(weight) > 1e-12)
            entries.append((weight[keep].astype(dtype), pixels[keep], (y * shape[1] + x)[keep]))
    weights, to, of = (np.concatenate(part) for part in zip(*entries, strict=True))
    return scipy.sparse.coo_array((weights, (to, of)), shape=(pixels.size, pixels.size)).tocsr()


def _keys(distance):
    """Cubic convolution kernel with a = -1/2."""
    d = np.abs(distance)
    near, far = (1.5 * d - 2.5) * d**2 + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _shift_rows(projections, dy):
    """Move each tilt along Y by ``dy`` pixels with area weights; its transpose is the shift by ``-dy``."""
    whole = np.floor(dy).astype(int)
    moved = torch.zeros_like(projections)
    rows = projections.shape[-2]
    for t, (k, fraction) in enumerate(zip(whole, dy - whole, strict=True)):
        for step, weight in ((k, 1 - fraction), (k + 1, fraction)):
            if weight and abs(step) < rows:
                source = projections[..., t, max(0, -step) : rows - max(0, step), :]
                moved[..., t, max(0, step) : rows - max(0, -step), :] += float(weight) * source
    return moved


def _torch_csr(matrix, device):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data),
            size=matrix.shape,
            device=device,
            check_invariants=False,
        )
