"""Measured spectra in place of the twin's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_positive
from ..doors import checked
from ..simulate import SpectrumModel
from ..spectra import energy_axis, zero_loss_position
from .acquisition import Acquisition

__all__ = ["measured_spectrum"]


@checked
def measured_spectrum(
    signal: Any,
    spectrum_model: SpectrumModel,
    edge: str,
    *,
    electrons: float | None = None,
    thickness_nm: ArrayLike | None = None,
) -> NDArray:
    """Measured spectrum on the axis of a model, counts per electron and channel, for ``spectrum=`` of `Acquisition`.

    Parameters
    ----------
    signal
        HyperSpy EELS signal in counts; spectrum images are averaged, a zero-loss peak is moved to 0 eV.
    spectrum_model
        Gives the energy axis, and the edge to scale by.
    edge
        ``"M2,3"`` or ``"L2,3"``.
    electrons
        Incident electrons of the (mean) spectrum. None: all counts of a low-loss spectrum that contains the zero-loss
        peak; any other spectrum is scaled so that its edge is as strong as that of ``thickness_nm`` in the
        model: then the ratio of edge to background is the measured one. (Its energy axis may be off by up to
        15 eV; it is shifted to where the edge fits best.)
    thickness_nm
        Thickness of each phase that the edge is scaled to; None: 10 nm of each.

    Returns
    -------
    numpy.ndarray
        ``(E,)`` on ``spectrum_model.energy_eV(edge)``.

    Raises
    ------
    ValueError
        If the signal's energies do not cover the edge's fit window, or no edge is found to scale by.
    """
    if electrons is not None:
        check_positive(electrons=electrons)
    acquisition = Acquisition(edge=edge, thickness_nm=thickness_nm).of_model(spectrum_model)
    energy = energy_axis(signal, of="signal")
    counts = np.nanmean(np.asarray(signal.data, dtype=float).reshape(-1, energy.size), axis=0)
    has_zero_loss = energy[0] < 0 < energy[-1]
    if has_zero_loss:
        energy = energy - float(zero_loss_position(counts, energy))
    low, high = acquisition.fit_window_eV
    if energy[0] > low or energy[-1] < high:
        raise ValueError(
            f"signal: got energies of {energy[0]:.1f} to {energy[-1]:.1f} eV, wants {low} to {high} eV for {edge}"
        )
    if has_zero_loss or electrons is not None:
        electrons = counts.sum() if electrons is None else electrons
        if not electrons > 0:
            raise ValueError(f"electrons: got {electrons!r}, wants a positive number")
        return _on_axis(spectrum_model, edge, energy, counts) / electrons
    shift_eV, strength = _edge_shift_and_strength(spectrum_model, acquisition, energy, counts)
    return _on_axis(spectrum_model, edge, energy + shift_eV, counts) / strength


def _on_axis(model: SpectrumModel, edge: str, energy: NDArray, counts: NDArray) -> NDArray:
    """Counts of each channel of the model's axis."""
    density = counts / np.gradient(energy)
    return np.interp(model.energy_eV(edge), energy, density) * model.microscope.dispersion_eV


def _edge_shift_and_strength(
    model: SpectrumModel, acquisition: Acquisition, energy: NDArray, counts: NDArray
) -> tuple[float, float]:
    """Shift of the energy axis (eV) at which the model's edge fits best, and the strength of the edge there."""
    edge, thickness = acquisition.edge, np.asarray(acquisition.thickness_nm, dtype=float)
    low, high = acquisition.fit_window_eV
    axis = model.energy_eV(edge)
    inside = acquisition.in_window(axis)
    one_edge = thickness @ model.derivative(thickness, edge)
    shapes = np.concatenate([one_edge[None, inside], acquisition.background_shapes(axis[inside])])
    # the pseudo-inverse of all shapes at once: each trial shift costs one product
    scale = np.linalg.norm(shapes, axis=1, keepdims=True)
    inverse = np.linalg.pinv((shapes / scale).T)
    best = (np.inf, 0.0, 0.0)
    for shift in np.arange(-15.0, 15.1, 0.25):
        if energy[0] + shift <= low and energy[-1] + shift >= high:
            spectrum = _on_axis(model, edge, energy + shift, counts)[inside]
            amplitudes = inverse @ spectrum
            residual = np.linalg.norm(spectrum - amplitudes @ (shapes / scale))
            best = min(best, (residual, amplitudes[0] / scale[0, 0], shift))
    _, strength, shift = best
    if not strength > 0:
        raise ValueError(f"signal: got no {edge} edge to scale it by, wants one, or electrons=")
    return shift, strength
