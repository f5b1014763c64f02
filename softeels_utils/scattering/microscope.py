"""What the metadata of a signal say of the microscope."""

from __future__ import annotations

KEYS = {
    "beam_energy_keV": "Acquisition_instrument.TEM.beam_energy",
    "collection_mrad": "Acquisition_instrument.TEM.Detector.EELS.collection_angle",
    "convergence_mrad": "Acquisition_instrument.TEM.convergence_angle",
}


def microscope_from_metadata(signal) -> dict[str, float]:
    """Beam energy and half angles that a HyperSpy signal states; what it does not state is left out.

    Returns
    -------
    dict
        Some of ``beam_energy_keV``, ``collection_mrad``, ``convergence_mrad``.
    """
    metadata = getattr(signal, "metadata", None)
    found = {} if metadata is None else {name: metadata.get_item(key, default=None) for name, key in KEYS.items()}
    return {name: float(value) for name, value in found.items() if value}
