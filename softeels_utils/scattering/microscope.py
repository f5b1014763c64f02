"""What the metadata of a signal say of the microscope."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import check_not_negative, check_positive
from ..doors import checked

__all__ = ["MICROSCOPE_KEYS", "complete_microscope", "microscope_from_metadata"]

#: Where HyperSpy keeps beam energy and half angles.
MICROSCOPE_KEYS = {
    "beam_energy_keV": "Acquisition_instrument.TEM.beam_energy",
    "collection_mrad": "Acquisition_instrument.TEM.Detector.EELS.collection_angle",
    "convergence_mrad": "Acquisition_instrument.TEM.convergence_angle",
}


@checked
def microscope_from_metadata(signal: Any) -> dict[str, float]:
    """Beam energy and half angles that the metadata of a HyperSpy signal state; anything not stated is left out.

    Returns
    -------
    dict
        Some of ``beam_energy_keV``, ``collection_mrad``, ``convergence_mrad``; empty for a plain array.
    """
    metadata = getattr(signal, "metadata", None)
    if signal is not None and metadata is None and not np.ndim(signal):
        raise ValueError(f"signal: got {signal!r}, wants a HyperSpy signal or an array")
    stated = (
        {}
        if metadata is None
        else {name: metadata.get_item(key, default=None) for name, key in MICROSCOPE_KEYS.items()}
    )
    return {name: float(value) for name, value in stated.items() if value}


@checked
def complete_microscope(signal: Any, **otherwise: float) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the microscope that recorded a signal, and the names of the values that its metadata do not state.

    Parameters
    ----------
    signal
        HyperSpy signal.
    **otherwise
        ``beam_energy_keV``, ``convergence_mrad`` and ``collection_mrad``, used where the metadata do not state them.

    Examples
    --------
    >>> complete_microscope(None, beam_energy_keV=300.0, collection_mrad=40.0)
    ({'beam_energy_keV': 300.0, 'collection_mrad': 40.0}, ('beam_energy_keV', 'collection_mrad'))
    """
    stated = microscope_from_metadata(signal)
    for name, value in otherwise.items():
        (check_not_negative if name == "convergence_mrad" else check_positive)(**{name: value})
    return otherwise | stated, tuple(name for name in otherwise if name not in stated)
