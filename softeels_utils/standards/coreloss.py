"""What a core-loss spectrum counts, as linear functionals: iron atoms, oxygen atoms, and the foot of Fe-L3."""

from __future__ import annotations

from functools import cache

import numpy as np

BOHR_NM = 0.0529177
RYDBERG_EV = 13.6057
REST_EV = 510998.95
# where each edge starts, eV, and how fast its atomic part rises (onset of the continuum, a little above)
ONSET_EV = {("O", "K"): 532.0, ("Fe", "L2,3"): 708.0, ("Fe", "M2,3"): 53.0}


@cache
def _henke(element):
    import periodictable

    energy_keV, _, f2 = getattr(periodictable, element).xray.sftable
    good = np.isfinite(f2) & (f2 > 0)
    return 1e3 * energy_keV[good], f2[good]


def edge_cross_section(element, edge, energy_eV, *, beam_energy_keV, collection_mrad):
    """Differential cross-section of the continuum of one edge, per atom, in nm²/eV.

    ``dσ/dE = 4π a0² R²/(E T) · df/dE · ln[1 + (β/θ_E)²]`` (Egerton 2011, eq. 4.26, small angles) with the oscillator
    strength ``df/dE = 2 f2/(π E)`` from the tables of Henke, Gullikson and Davis (At. Data Nucl. Data Tables 54,
    181 (1993)), less the power law of the shells below the edge. Near-edge structure is not in it: use it
    beyond about 40 eV above an edge.

    Parameters
    ----------
    element, edge : ("O", "K"), ("Fe", "L2,3") or ("Fe", "M2,3")
    energy_eV : (E,)
    """
    if (element, edge) not in ONSET_EV:
        raise ValueError(f"edge: got {element} {edge!r}, wants one of {sorted(ONSET_EV)}")
    energy = np.maximum(np.asarray(energy_eV, float), 1.0)
    onset = ONSET_EV[element, edge]
    table, f2 = _henke(element)
    log = np.interp(np.log(energy), np.log(table), np.log(f2))
    total = np.exp(log)
    if edge != "M2,3":  # below M2,3 of iron there is no shell but the valence band
        before = (table > 0.7 * onset) & (table < 0.97 * onset)
        slope = np.polyfit(np.log(table[before]), np.log(f2[before]), 1)
        total = total - np.exp(np.polyval(slope, np.log(energy)))
    t = 1e3 * beam_energy_keV
    effective = 0.5 * REST_EV * (1 - (REST_EV / (t + REST_EV)) ** 2)  # m v²/2
    angle = energy / (t * (t + 2 * REST_EV) / (t + REST_EV))  # E / (γ m v²)
    strength = 2 * np.maximum(total, 0) / (np.pi * energy)
    with np.errstate(over="ignore"):
        sigma = 4 * np.pi * (BOHR_NM * RYDBERG_EV) ** 2 / (energy * effective) * strength
    return np.where(energy > onset, sigma * np.log1p((1e-3 * collection_mrad / angle) ** 2), 0.0)


def power_law_basis(energy_eV, spectrum, window_eV, terms=2):
    """A power law with the exponent of the spectrum in a window, and its first derivatives by the exponent.

    With them a background ``A E^-r`` whose r differs a little from spectrum to spectrum is linear.

    Returns
    -------
    (terms, E)
    """
    inside = (energy_eV >= window_eV[0]) & (energy_eV <= window_eV[1])
    y = np.asarray(spectrum)[inside]
    good = y > 0
    if good.sum() < 4:
        raise ValueError(f"window_eV: {window_eV} holds {good.sum()} channels with signal, wants at least 4")
    middle = np.sqrt(window_eV[0] * window_eV[1])
    log = np.log(np.maximum(energy_eV, 1.0) / middle)
    exponent, _ = np.polyfit(log[inside][good], np.log(y[good]), 1, w=np.sqrt(y[good]))
    return np.exp(exponent * log) * np.stack([log**i for i in range(terms)])


def _least_squares(basis, weights):
    """Rows that give the amplitudes of ``basis`` (P, E) in a spectrum (E,), for weights (E,)."""
    scale = np.abs(basis).max(axis=1, keepdims=True)
    b = basis / scale
    return np.linalg.solve((b * weights) @ b.T, b * weights) / scale


def core_functionals(energy_eV, mean_spectrum, *, l3_eV, beam_energy_keV, collection_mrad):
    """Vectors f such that ``spectrum @ f`` is the number of atoms, by model-based quantification.

    Power-law background, O-K continuum and Fe-L2,3 continuum (`edge_cross_section`) are fitted together by weighted
    least squares where no near-edge structure is: before O-K, from 45 eV above O-K to 8 eV before Fe-L3, and from
    37 eV above Fe-L3 to Fe-L1 (Verbeeck and Van Aert, Ultramicroscopy 101, 207 (2004)). Taking the iron from the continuum
    beyond the white lines makes it independent of the number of 3d holes, which changes with valence.

    Parameters
    ----------
    energy_eV : (E,)
        Zero loss at 0.
    mean_spectrum : (E,)
        Mean over pixels, single scattering, background kept, probability per eV and electron.
    l3_eV : float
        Where the L3 maximum is on this energy axis; all windows move with it.

    Returns
    -------
    dict of str to (E,)
        "Fe" and, where the axis begins before O-K, "O": atoms/nm². "feet": rows (W, E), the intensity
        of 1 eV windows on the leading edge of L3 less the local background, per eV; "feet_eV": their centres.
    """
    energy, off = energy_eV, l3_eV - 709.0
    e = energy - off
    step = energy[1] - energy[0]
    mean = np.maximum(mean_spectrum, 1e-3 * np.abs(mean_spectrum).max())
    has_oxygen = e[0] <= 515.0
    first = (max(e[0], 440.0) + 2, 527.0) if has_oxygen else (max(e[0] + 2, 600.0), 698.0)
    fitted = (e >= first[0]) & (e <= first[1])
    fitted |= (e >= 577.0) & (e <= 701.0)
    fitted |= (e >= 746.0) & (e <= 838.0)
    last = e[-1]
    if last < 765.0:
        raise ValueError(
            f"core_loss: energies end at {energy[-1]:g} eV; wants at least {765 + off:g} eV, to see iron beyond L2"
        )
    sections = [("Fe", "L2,3")] + ([("O", "K")] if has_oxygen else [])
    shapes = [
        edge_cross_section(*s, e, beam_energy_keV=beam_energy_keV, collection_mrad=collection_mrad) for s in sections
    ]
    basis = np.concatenate([power_law_basis(e, mean, first), shapes])
    rows = np.zeros((len(basis), energy.size))
    rows[:, fitted] = _least_squares(basis[:, fitted], 1 / mean[fitted])
    out = {name: row for (name, _), row in zip(sections, rows[2:], strict=True)}
    # foot of L3: windows of 1 eV from 5 to 1.5 eV below its maximum
    local = (e >= 690.0) & (e <= 709.0 - 5.5)
    ground = power_law_basis(e, mean, (690.0, 703.5))
    fit = np.zeros((2, energy.size))
    fit[:, local] = _least_squares(ground[:, local], 1 / mean[local])
    centres = np.arange(709.0 - 4.5, 709.0 - 1.4, 0.25)
    feet = []
    for centre in centres:
        inside = (np.abs(e - centre) < 0.5 + 1e-9).astype(float)
        feet.append(step * (inside - (ground @ inside) @ fit))
    out["feet"], out["feet_eV"] = np.array(feet), centres + off
    return out
