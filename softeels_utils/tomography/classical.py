"""Linear and algebraic reconstruction: FBP, SIRT, CGLS."""

import numpy as np
import torch

from .data_term import mix

__all__ = ["CGLS", "SIRT", "filtered_back_projection"]


def filtered_back_projection(data, window="ram-lak"):
    r"""Filtered back-projection for irregular tilts.

    .. math:: v = \sum_t \Delta\theta_t\; A_t^T (h * p_t) / a^2, \qquad
        h_0 = \tfrac14,\quad h_k = -\tfrac{1}{\pi^2 k^2} \;(k\;\text{odd}),\quad 0 \;(k\;\text{even})

    with voxel edge a. A tilt stands for the angles half-way to its neighbours; at the edges of a missing wedge
    as if the tilts went on. A. C. Kak & M. Slaney, *Principles of Computerized Tomographic Imaging* (1988), ch. 3.
    """
    taper = {"ram-lak": lambda f: np.ones_like(f), "hann": lambda f: 0.5 + 0.5 * np.cos(2 * np.pi * f)}
    if window not in taper:
        raise ValueError(f"window must be one of {sorted(taper)}, got {window!r}")
    A, stack = data.projector, _filled(data)
    length = 1 << int(np.ceil(np.log2(2 * A.n_x)))
    k = np.fft.fftfreq(length, 1 / length)
    ramp = np.where(k % 2 == 0, 0.0, -1 / (np.pi * np.where(k == 0, 1, k)) ** 2)
    ramp[0] = 0.25
    response = np.fft.rfft(ramp).real * taper[window](np.fft.rfftfreq(length))
    response = torch.as_tensor(response, dtype=stack.dtype, device=stack.device)
    filtered = torch.fft.irfft(torch.fft.rfft(stack, length) * response, length)[..., : A.n_x]
    weights = torch.as_tensor(_tilt_weights(A.tilt_angles_deg), dtype=stack.dtype, device=stack.device)
    return A.T(filtered * weights[:, None, None] / A.voxel_size_nm**2)


def _tilt_weights(tilt_angles_deg):
    """Angle (rad) that each tilt stands for on the circle of 180°; equal tilts share theirs."""
    angle = np.mod(np.asarray(tilt_angles_deg, float), 180.0).round(6)
    unique, inverse, counts = np.unique(angle, return_inverse=True, return_counts=True)
    if unique.size == 1:
        return np.full(angle.size, np.pi / angle.size)
    gaps = np.diff(np.append(unique, unique[0] + 180.0))
    usual = np.median(gaps)
    gaps[gaps > 2 * usual] = usual
    return np.deg2rad(((gaps + np.roll(gaps, 1)) / 2 / counts)[inverse])


def _filled(data):
    """Projections with unmeasured pixels interpolated along the detector."""
    if data.used.all():
        return data.projections
    stack, used = data.projections.cpu().numpy().copy(), data.used.cpu().numpy()
    x = np.arange(stack.shape[-1])
    for index in map(tuple, np.argwhere(~used.all(-1) & used.any(-1))):
        stack[index] = np.interp(x, x[used[index]], stack[index][used[index]])
    return torch.as_tensor(stack, device=data.data.device)


class SIRT:
    r"""Simultaneous iterative reconstruction technique, projected onto the constraint.

    .. math:: v \leftarrow P\,[\,v + C A^T R M (p - A v)\,]

    with R the inverse row sums of A, M a pixel's inverse covariance relative to that of the mean pixel
    (1 if all are alike, 0 where not measured), C the inverse of :math:`A^T` applied to M's largest eigenvalues, and P
    the projection onto the constraint. A covariance that is the same everywhere drops out, as it does from every
    least-squares problem in which all channels see the same A. J. Gregor & T. Benson, IEEE Trans. Med. Imaging 27,
    918 (2008).
    """

    def __init__(self, data, constraint, initial=None):
        self.data, self.constraint = data, constraint
        A, size = data.projector, data.projector.voxel_size_nm
        volume = data.data.new_zeros(data.volume_shape) if initial is None else initial.clone()
        self.precision, largest = _relative_precision(data)
        rows = A(volume.new_ones((1, *volume.shape[1:])))
        self.by_row = torch.where(rows > 1e-3 * size, 1 / rows.clamp_min(1e-6 * size), 0)
        columns = A.T(largest)
        self.by_column = torch.where(columns > 1e-4 * size, 1 / columns.clamp_min(1e-6 * size), 0)
        self.state = {"volume": volume}

    @property
    def volume(self):
        return self.state["volume"]

    def step(self):
        """One iteration; gives chi-square a value of the volume before it."""
        data, volume = self.data, self.volume
        residual = torch.where(data.used, data.projections - data.projector(volume), 0)
        update = data.projector.T(self.by_row * mix(self.precision, residual)).mul_(self.by_column)
        self.state["volume"] = self.constraint(update.add_(volume))
        return {"chi2": float((mix(data.whitener, residual) ** 2).sum(dtype=torch.float64)) / max(data.size, 1)}


def _relative_precision(data):
    """(M, its largest eigenvalue): M = mean(W)⁻¹ W with W = Lᵀ L, over the measured pixels."""
    L = data.whitener
    if data.used.all() and L[0, 0].numel() == 1:
        return torch.eye(len(L), dtype=L.dtype, device=L.device)[..., None, None, None], torch.ones_like(data.data[:1])
    W = torch.einsum("ki...,kj...->ij...", L, L)
    pixels = data.used.any(0)
    mean = (W * pixels).flatten(2).sum(-1).double() / pixels.sum().clamp_min(1)
    values, vectors = torch.linalg.eigh(mean)
    root = (vectors * values.clamp_min(1e-300).rsqrt()) @ vectors.T  # mean^(-1/2)
    root = root.to(L.dtype)
    M = torch.einsum("ij,jk,kl...->il...", root, root, W)
    symmetric = torch.einsum("ij,jk...,kl->il...", root, W, root)
    if len(L) == 1:
        largest = symmetric[0]
    else:
        largest = torch.linalg.eigvalsh(symmetric.movedim((0, 1), (-2, -1)))[..., -1][None]
    return M, (largest * pixels).clamp_min(0)


class CGLS:
    r"""Conjugate gradients for :math:`\min_v \lVert L(Av - p) \rVert^2`, without constraints.

    Preconditioned by the column sums of :math:`|L|A`. Early stopping regularises.
    Å. Björck, *Numerical Methods for Least Squares Problems* (SIAM, 1996), sec. 7.4.
    """

    def __init__(self, data, constraint=None, initial=None):
        self.data = data
        volume = data.data.new_zeros(data.volume_shape) if initial is None else initial.clone()
        columns = data.sums()[1]
        self.scale = torch.where(columns > 1e-6 * columns.max(), columns.clamp_min(1e-30).rsqrt(), 0)
        residual = -data.residual(volume)
        gradient = self.scale * data.adjoint(residual)
        square = (gradient**2).sum(dtype=torch.float64)
        self.state = {
            "volume": volume, "residual": residual, "direction": gradient, "square": square, "first": square.clone(),
        }  # fmt: skip

    @property
    def volume(self):
        return self.state["volume"]

    def step(self):
        s = self.state
        chi2 = float((s["residual"] ** 2).sum(dtype=torch.float64)) / max(self.data.size, 1)
        update = self.scale * s["direction"]
        image = self.data.forward(update)
        length = (image**2).sum(dtype=torch.float64)
        if length == 0:
            return {"chi2": chi2, "gap": 0.0}
        alpha = (s["square"] / length).to(update.dtype)
        s["volume"] = s["volume"] + alpha * update
        s["residual"] = s["residual"] - alpha * image
        gradient = self.scale * self.data.adjoint(s["residual"])
        square = (gradient**2).sum(dtype=torch.float64)
        s["direction"] = gradient + (square / s["square"]).to(update.dtype) * s["direction"]
        s["square"] = square
        # The relative residual of the normal equations stands in for the gap: 0 at the least-squares solution.
        return {"chi2": chi2, "gap": float((square / s["first"]).sqrt())}
