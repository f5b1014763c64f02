"""Standards and maps on specimens whose chemistry departs from the twin's: one half to choose settings on, the other to
report. Truth only scores.

``python benchmarks/chemistry.py [--half report] [--draws 30] [--seeds 2]`` goes on where it was and writes
``benchmarks/results/chemistry_HALF_48.json``, one row per draw and seed. ``--issue`` runs single departures in place of
drawn ones (``chemistry_single_48.json``); ``--instrument`` draws faults of the instrument alone.

Standards are extracted from one exposure; maps are fitted with them to another, independent one, at 1e5 electrons per
Å². Scored are the sum over the particle of each phase and of all iron, fitted over true, and the mean valence of all
iron (Fe3+ fraction plus two), with the errors that the results state, and whatever they warn of. A *silent* row is one
that is off by more than three of its standard errors, and warns of nothing.
"""

import argparse
import datetime
import json
import os
import time
from pathlib import Path

os.environ.setdefault("SOFTEELS_HEADLESS", "1")

import numpy as np
from scipy.special import erf

from softeels_utils import data, fitting, records, scattering, standards
from softeels_utils.simulate import CHEMISTRY_KINDS, draw_chemistry

RESULTS = Path(__file__).parent / "results"
FLUENCE = 1e5
SINGLE = {
    "as the twin": {},
    "Fe0.95O, no skin": {"vacancies": 0.05, "skin": False},
    "Fe0.90O, skin": {"vacancies": 0.10},
    "L2,3 equal in the continuum": {"l23_normalisation": 1.0},
    "ligand shell, 4 nm oleic acid": {"ligand_nm": 4.0},
    "shell of silica, 4 nm": {"ligand_nm": 4.0, "ligand": "silica"},
    "skin oxidised": {"skin_oxidised": 1.0},
    "skin a mixture 80/20": {"mixture": "skin", "mixture_fraction": 0.8},
    "M2,3 of Fe3+ 5 % stronger": {"m23_strength": (1.0, 1.05)},
    "dispersion 2 % off": {"dispersion_error": 0.02},
    "core loss shifted by -2 eV": {"core_shift_eV": -2.0},
    "exposure ratio of 20 untold": {"exposure_ratio": 20.0},
    "gain of 0.35 untold": {"gain": 0.35},
}
MEASURED = "measured L2,3 of Fe3+"


def measured_ferric():
    """White lines of Fe2O3 from the EELS Data Base on an even axis: background and continuum taken off."""
    signal = data.load("eelsdb_fe2o3")
    axis, counts = signal.axes_manager.signal_axes[0].axis, np.asarray(signal.data, dtype=float)
    bad = np.any([np.abs(axis - e) < 0.03 for e in (706.95, 716.10, axis[-1])], axis=0)  # dead, a spike, the last
    energy = np.arange(700.0, 740.0, 0.05)
    y = np.interp(energy, axis[~bad], counts[~bad])
    y -= np.polyval(np.polyfit(axis[axis < 704], counts[axis < 704], 1), energy[0])
    steps = (2 * scattering.arctangent_step(energy, 709.0, 1.0) + scattering.arctangent_step(energy, 722.1, 1.0)) / 3
    white = np.maximum(y - steps * y[energy > 734].mean(), 0) * (energy < 732)
    return {ion: {"L2,3": (energy, white)} for ion in ("Fe3+ Oh", "Fe3+ Td")}


def score(draw, seed):
    """A row: standards from exposure ``2 seed``, maps from exposure ``2 seed + 1``."""
    began = time.process_time()
    found = standards.extract_standards(*draw.record(FLUENCE, 2 * seed), seed=seed, system=draw.assumed)
    low, _ = draw.record(FLUENCE, 2 * seed + 1)
    step = low.axes_manager.signal_axes[0].scale
    options = {"low_loss": low, "window_eV": draw.assumed.edges["M2,3"].fit_window_eV, "nonnegative": False}
    fit = fitting.fit_phases(low, references=found.references * step, **options)
    inside = draw.particle
    row = quantities(draw, fit.coefficients[inside], fit.covariance[inside], found, step, fit)
    row["reduced_chi2"] = float(np.nanmedian(fit.reduced_chi2[inside]))
    diagnostics = found.diagnostics
    row["leakage_error"] = [float(value) for value in diagnostics.leakage]
    row["constraint_loss"] = float(-sum(diagnostics.constraints.values()))
    row["warnings"] = [*map(str, getattr(found, "warnings", ())), *map(str, getattr(fit, "warnings", ()))]
    row["tension_p"] = getattr(diagnostics, "tension", None)
    row["poor_pixels"] = float((fit.flags[inside] & fitting.FitFlag.POOR_FIT > 0).mean())
    row["seconds"] = time.process_time() - began
    return row


def quantities(draw, coefficients, covariance, found, step, fit):
    """Fitted over true of every phase and of the metal, its mean valence, and the standard errors of all of them.

    Statistical errors from the covariance of the pixels, systematic ones from the samples of the references: a sample
    is mixed from the references, and so moves the maps by a matrix.
    """
    system = draw.assumed
    density, valence = found.metal_per_nm3, found.valence  # as the standards find them, vacancies included
    fitted, noise = coefficients.sum(axis=0), covariance.sum(axis=0)
    shifts = reference_shifts(found, fitted, step, fit)
    inside = draw.particle
    truth = draw.channels_nm[:, inside].sum(axis=1)
    metal = draw.metal_per_nm2[inside]
    true_valence = float((metal * np.nan_to_num(draw.mean_valence[inside])).sum() / metal.sum())

    def measured(volume, density=density, valence=valence):
        iron = density @ volume
        return np.array([*(volume / truth), iron / metal.sum(), density * valence @ volume / iron])

    here, size = measured(fitted), np.abs(fitted).max() * 1e-4
    slope = np.array([(measured(fitted + size * e) - here) / size for e in np.eye(len(fitted))]).T
    statistical = np.sqrt(np.diag(slope @ noise @ slope.T))
    others = [
        measured(fitted + s, d, v) for s, d, v in zip(shifts, found.metal_samples, found.valence_samples, strict=True)
    ]
    systematic = np.sqrt(np.mean((np.array(others) - here) ** 2, axis=0)) if others else 0 * statistical
    names = [*system.channels, "total metal", "mean valence"]
    table = {
        name: {
            "measured": float(here[i]), "true": true_valence if name == "mean valence" else 1.0,
            "statistical": float(statistical[i]), "systematic": float(systematic[i]),
        }
        for i, name in enumerate(names)
    }  # fmt: skip
    return {"quantities": table}


def reference_shifts(found, fitted, step, fit):
    """How far the summed thicknesses (C,) move if one spectrum is fitted with each sample of the references."""
    energy = found.energy_eV
    used = (energy >= fit.energy_eV[0]) & (energy <= fit.energy_eV[-1])
    references = found.references[:, used] * step
    spectrum = fitted @ references
    weight = 1 / np.sqrt(np.maximum(spectrum, 0.05 * spectrum.max()))
    background = fitting.background_shapes(energy[used])
    shifts = []
    for sample in found.samples:
        shapes = np.concatenate([sample[:, used] * step, background])
        scale = np.linalg.norm(shapes * weight, axis=1)
        amplitudes = np.linalg.lstsq((shapes * weight / scale[:, None]).T, spectrum * weight, rcond=None)[0] / scale
        shifts.append(amplitudes[: len(fitted)] - fitted)
    return np.array(shifts).reshape(-1, len(fitted))


def is_silent(row):
    """Off by more than three standard errors, statistical and systematic, without a warning."""
    off = [
        abs(q["measured"] - q["true"]) > 3 * np.hypot(q["statistical"], q["systematic"])
        for q in row["quantities"].values()
    ]
    return bool(any(off)) and not row["warnings"]


def summary(rows):
    """Over all rows that ran: coverage of 90 % intervals, silent errors, flags, and how near the metal and its valence
    are."""
    ran = [row for row in rows if "error" not in row]
    unflagged = [row for row in ran if not row["warnings"]]

    def within(rows, name, errors=1.645, absolute=None):
        hits = [
            abs(q["measured"] - q["true"]) <= (absolute or errors * np.hypot(q["statistical"], q["systematic"]))
            for q in (row["quantities"][name] for row in rows)
        ]
        return float(np.mean(hits)) if hits else None

    def expected(name, absolute):
        errors = [
            np.hypot(row["quantities"][name]["statistical"], row["quantities"][name]["systematic"]) for row in ran
        ]
        return float(np.mean(erf(absolute / np.sqrt(2) / np.array(errors)))) if errors else None

    names = list(ran[0]["quantities"]) if ran else []
    return {
        "rows": len(rows), "failed": len(rows) - len(ran), "flagged": len(ran) - len(unflagged),
        "silent_errors": float(np.mean([is_silent(row) for row in ran])) if ran else None,
        "coverage_90_unflagged": {name: within(unflagged, name) for name in names},
        "total_metal_within_5_percent": within(ran, "total metal", absolute=0.05),
        "mean_valence_within_0.05": within(ran, "mean valence", absolute=0.05),
        "expected_by_stated_errors": {n: expected(n, 0.05) for n in ("total metal", "mean valence")},
    }  # fmt: skip


def jobs(options):
    """``(name of the row, arguments of draw_chemistry, seed of the noise)`` of every row."""
    seeds = range(options.seeds)
    if options.issue:
        single = dict(SINGLE)
        if data.is_cached("eelsdb_fe2o3"):
            single[MEASURED] = {"ion_tables": measured_ferric()}
        fixed = [(name, {"n": options.size} | departure) for name, departure in single.items()]
        return [(f"{name}, {s}", (0, "tune", ()), settings, s) for name, settings in fixed for s in seeds]
    kinds = ("instrument",) if options.instrument else None
    return [
        (f"{seed}, {s}", (seed, options.half, kinds), {"n": options.size}, s)
        for seed in range(options.draws)
        for s in seeds
    ]


def main():
    """Run the rows that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--issue", action="store_true", help="single departures, of the default cube")
    parser.add_argument("--rows", type=int, default=10**6, help="stop after so many new rows")
    parser.add_argument("--instrument", action="store_true", help="faults of the instrument alone")
    options = parser.parse_args()
    what = "single" if options.issue else f"instrument_{options.half}" if options.instrument else options.half
    path = RESULTS / f"chemistry_{what}_{options.size}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    done = {row["name"] for row in rows}
    missing = [job for job in jobs(options) if job[0] not in done]
    for name, arguments, settings, seed in missing[: options.rows]:
        draw = draw_chemistry(*arguments, **settings)
        row = {"name": name, "label": draw.label, "noise_seed": seed, "code": records.script_stamp("chemistry")}
        try:
            row |= score(draw, seed)
        except ValueError as error:  # a refusal is a result: it names what is wrong
            row["error"] = str(error)
        rows.append(row)
        content = {
            "date": datetime.date.today().isoformat(), "pixels": options.size, "fluence_e_per_A2": FLUENCE,
            "kinds": CHEMISTRY_KINDS, "summary": summary(rows), "rows": rows,
        }  # fmt: skip
        path.write_text(json.dumps(content, indent=1, default=float) + "\n")
        short = {k: [round(q["measured"], 3), round(float(np.hypot(q["statistical"], q["systematic"])), 3)]
                 for k, q in row.get("quantities", {}).items()}  # fmt: skip
        print(name, short or row["error"], row.get("warnings"), round(row.get("reduced_chi2", np.nan), 3), flush=True)


if __name__ == "__main__":
    main()
