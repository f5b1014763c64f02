"""The Cramér-Rao bounds of `dose` against those of pyEELSMODEL, an independent programme for single spectra.

    pip install pyEELSModel
    python benchmarks/crossbound.py

Writes ``results/crossbound.json``: the bound on the thickness of each phase over that of pyEELSMODEL, both as standard
errors, with its amplitudes of the same phases and background as parameters and the same counts expected. pyEELSMODEL is
no dependency of the package.
"""

import json
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np

from softeels_utils import chapters, dose, simulate

RESULTS = Path(__file__).parent / "results" / "crossbound.json"
FLUENCES = (1e2, 1e3, 1e4, 1e5)
THICKNESS_NM = ((10.0, 10.0), (20.0, 5.0), (2.0, 30.0))
BACKGROUNDS = {"M2,3": ("plasmon_tail", "power_law"), "L2,3": ("power_law",)}


def standard_errors(linear):
    """Bound on each amplitude of a `dose.LinearModel` by pyEELSMODEL: phases, then background, (P + B,).

    Its shapes are fixed patterns of pyEELSMODEL. Each is scaled to its counts, so that the information matrix, which
    pyEELSMODEL inverts as it is, is well conditioned; the scale is taken out again.
    """
    from pyEELSMODEL.api import LinearFitter, Model, Spectrum, Spectrumshape
    from pyEELSMODEL.components.fixedpattern import FixedPattern

    shapes = np.concatenate([linear.phases, linear.background])
    amplitudes = np.concatenate([linear.thickness_nm, linear.amplitudes])
    energy = linear.energy_eV
    scale = np.abs(shapes).max(axis=1) / linear.linear.max()
    shape = Spectrumshape(energy[1] - energy[0], energy[0], energy.size)
    parts = [FixedPattern(shape, Spectrum(shape, data=row)) for row in shapes / scale[:, None]]
    model = Model(shape, components=parts)
    fitter = LinearFitter(Spectrum(shape, data=linear.linear), model, use_weights=True)
    fitter.calculate_A_matrix()  # leaves all amplitudes but one at 0
    for part, value in zip(parts, amplitudes * scale, strict=True):
        part.parameters[0].setvalue(float(value))
    fitter.set_information_matrix()
    return np.array([fitter.CRLB(part.parameters[0]) for part in parts]) / scale


def compared(model, fluence, edge, thickness_nm, background):
    """Bounds on the phases by both, nm, and their ratio; the same with the spectrum itself in place of its model."""
    settings = {"edge": edge, "thickness_nm": thickness_nm, "background": background}
    linear = dose.linear_model(model, fluence, **settings)
    ours, theirs = np.sqrt(np.diag(linear.covariance(linear.linear))), standard_errors(linear)[: len(thickness_nm)]
    public = np.sqrt(np.diag(dose.phase_bound(model, fluence, **settings)))  # noise from the spectrum itself
    return {
        "edge": edge, "background": background, "fluence_e_per_A2": fluence, "thickness_nm": thickness_nm,
        "bound_nm": ours.tolist(), "pyEELSMODEL_nm": theirs.tolist(), "ratio": (ours / theirs).tolist(),
        "ratio of phase_bound": (public / theirs).tolist(),
    }  # fmt: skip


def main():
    model = simulate.spectrum_model()
    rows = [
        compared(model, fluence, edge, thickness, background)
        for edge, backgrounds in BACKGROUNDS.items()
        for background in backgrounds
        for fluence in FLUENCES
        for thickness in THICKNESS_NM
    ]
    away = {name: float(np.abs(np.array([row[name] for row in rows]) - 1).max()) for name in list(rows[0])[-2:]}
    content = {
        "date": str(date.today()), "versions": chapters.versions(), "pyEELSMODEL": version("pyEELSModel"),
        "largest distance from 1": away, "rows": rows,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    print(len(rows), away)


if __name__ == "__main__":
    main()
