"""Filtered back-projection."""

from __future__ import annotations

import numpy as np
import torch

from ..checks import check_choice
from ..doors import checked
from .iterate import Reconstruction, start_from
from .measurement import Measurement

__all__ = ["fbp"]

WINDOWS = {"ram-lak": np.ones_like, "hann": lambda f: 0.5 + 0.5 * np.cos(2 * np.pi * f)}


@checked
def fbp(measurement: Measurement, *, window: str = "ram-lak") -> Reconstruction:
    r"""Filtered back-projection for irregular tilts.

    .. math:: v = \sum_t \Delta\theta_t\; A_t^T (h * p_t) / a^2, \qquad
        h_0 = \tfrac14,\quad h_k = -\tfrac{1}{\pi^2 k^2} \;(k\;\text{odd}),\quad 0 \;(k\;\text{even})

    with voxel edge a. A tilt represents the angles half-way to its neighbours; at the edges of a missing wedge, as if
    the tilts continued. A. C. Kak & M. Slaney, *Principles of Computerized Tomographic Imaging* (1988), ch. 3.

    Parameters
    ----------
    measurement : Measurement
        Values that are not used are interpolated along the detector.
    window : {"ram-lak", "hann"}
        Window by which the ramp filter is multiplied.
    """
    start_from(measurement, None)  # checks it
    measurement, window = measurement.as_gaussian(), check_window(window)
    A, stack = measurement.projector, _interpolated(measurement)
    if A.axis_angle_deg:  # the filter runs across the tilt axis
        A, stack = A.still, A.move(stack, adjoint=True)
    length = 1 << int(np.ceil(np.log2(2 * A.n_x)))
    k = np.fft.fftfreq(length, 1 / length)
    ramp = np.where(k % 2 == 0, 0.0, -1 / (np.pi * np.where(k == 0, 1, k)) ** 2)
    ramp[0] = 0.25
    response = np.fft.rfft(ramp).real * WINDOWS[window](np.fft.rfftfreq(length))
    response = torch.as_tensor(response, dtype=stack.dtype, device=stack.device)
    filtered = torch.fft.irfft(torch.fft.rfft(stack, length) * response, length)[..., : A.n_x]
    weights = torch.as_tensor(_tilt_weights(A.tilt_angles_deg), dtype=stack.dtype, device=stack.device)
    volume = A.T(filtered * weights[:, None, None] / A.voxel_size_nm**2)
    return Reconstruction(volume.cpu().numpy(), chi2=measurement.chi2(volume))


def check_window(window: str) -> str:
    """The window; ValueError for one that does not exist."""
    return check_choice(window, "window", WINDOWS)


def _tilt_weights(tilt_angles_deg):
    """Angle (rad) that each tilt stands for on the circle of 180°; equal tilts have equal parts of theirs."""
    angle = np.mod(np.asarray(tilt_angles_deg, float), 180.0).round(6)
    unique, inverse, counts = np.unique(angle, return_inverse=True, return_counts=True)
    if unique.size == 1:
        return np.full(angle.size, np.pi / angle.size)
    gaps = np.diff(np.append(unique, unique[0] + 180.0))
    usual = np.median(gaps)
    gaps[gaps > 2 * usual] = usual
    return np.deg2rad(((gaps + np.roll(gaps, 1)) / 2 / counts)[inverse])


def _interpolated(measurement):
    """Projections with unmeasured pixels interpolated along the detector."""
    if measurement.used.all():
        return measurement.projections
    stack, used = measurement.projections.cpu().numpy().copy(), measurement.used.cpu().numpy()
    x = np.arange(stack.shape[-1])
    for index in map(tuple, np.argwhere(~used.all(-1) & used.any(-1))):
        stack[index] = np.interp(x, x[used[index]], stack[index][used[index]])
    return torch.as_tensor(stack, device=measurement.device)
