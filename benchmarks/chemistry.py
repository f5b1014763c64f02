"""Standards and maps on specimens whose chemistry departs from the twin's: one half to choose settings on, the other to
report. Truth only scores.

``python benchmarks/chemistry.py [--half report] [--draws 30] [--seeds 2]`` goes on where it was and writes
``benchmarks/results/chemistry_HALF_48.json``, one row per draw and seed. ``--issue`` runs single departures in place of
drawn ones (``chemistry_single_48.json``); ``--instrument`` draws faults of the instrument alone; ``--more`` gives
drawn specimens, others than the ordinary ones, what `draw_chemistry` does not draw (``chemistry_more_HALF_48.json``):
metal that the second phase lacks, everywhere or in a part, or one phase in place of both. ``--renew 10`` measures ten
rows of older code again: if all of them are found again, all such rows count as of the present code.

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
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("SOFTEELS_HEADLESS", "1")

import numpy as np
from scipy.special import erf

from softeels_utils import data, fitting, records, scattering, standards
from softeels_utils.simulate import CHEMISTRY_KINDS, core_shell_nanocube, draw_chemistry

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
MORE = ("lacks metal", "lacks metal in part", "one phase")
MORE_STREAM = 201  # of `draw_more`: 201 for the half to choose on, 202 for that to report
MORE_SEED = 1000  # of its first draw, so that its specimens are others than those of `draw_chemistry` alone
LACKING = ", lacking metal"
COVERED = ("vacancies", "strengths", "normalisation", "shifts", "widths", "oxygen")  # by what constraints leave open


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


def draw_more(seed, half, kinds=None, **options):
    """A draw of `draw_chemistry`, of seed 1000 + ``seed``, with one more departure: each third seed of one of `MORE`.

    The second phase lacks metal, at most as much as its file allows: everywhere, or in the part of the shell that is
    below some depth, or above it. Or all of both phases is one of them; others, such as a skin that is oxidised, stay.
    """
    draw = draw_chemistry(MORE_SEED + seed, half, kinds, **options)
    first, second = draw.assumed.channels
    u = np.random.default_rng([MORE_STREAM + ("tune", "report").index(half), seed]).random(4)
    kind, thickness, phases, system = MORE[seed % len(MORE)], draw.thickness_nm.copy(), draw.phases, draw.system
    lacking = float(u[0] * (1 - draw.assumed.phases[second].metal_range[0]))
    values = {}
    if kind == "one phase":
        only = int(u[1] < 0.5)
        thickness[only], thickness[1 - only] = thickness[:2].sum(axis=0), 0
        values = {"only": (first, second)[only]}
        kind = kind if u[2] < 0.5 or not only else "one phase, lacks metal"
    if kind.endswith("lacks metal"):
        system, values = system.with_vacancies(second, lacking), values | {"lacking": lacking}
    if kind == "lacks metal in part":
        depth, inner = float(u[1]), bool(u[2] < 0.5)
        part = _inner_shell(draw, depth)
        part = part if inner else 1 - part
        system, phases = system.with_vacancies(second, lacking, second + LACKING), (*phases, second + LACKING)
        thickness = np.concatenate([thickness, part[None] * thickness[1]])
        thickness[1] *= 1 - part
        values = {"lacking": lacking, "depth": depth, "part": "inner" if inner else "outer"}
    label = draw.label | {"more": kind, "drawn_more": values}
    return replace(draw, system=system, phases=phases, thickness_nm=thickness, label=label)


def _inner_shell(draw, depth):
    """Fraction (n, n) of the projected shell between the core (``depth`` 0) and so far towards its surface (1)."""
    geometry = {"core": 0.25, "shell": 0.5, "skin": 0, **draw.label["drawn"].get("geometry", {})} | {"skin": 0}
    between = geometry["core"] + depth * (geometry["shell"] - geometry["core"])
    whole, inner = (
        core_shell_nanocube(draw.label["n"], oversample=3, **(geometry | {"shell": outer}))[1].sum(axis=1)
        for outer in (geometry["shell"], max(between, geometry["core"] * 1.001))
    )
    return np.clip(np.divide(inner, whole, out=np.zeros_like(whole), where=whole > 1e-6), 0, 1)


def true_channels(draw):
    """Projected thickness of the phases that an analysis assumes (C, n, n), with what of them lacks metal."""
    extra = [p.removesuffix(LACKING) if p.endswith(LACKING) else None for p in draw.phases]
    owners = [[p == channel or e == channel for p, e in zip(draw.phases, extra, strict=True)]
              for channel in draw.assumed.channels]  # fmt: skip
    return np.stack([draw.thickness_nm[owned].sum(axis=0) for owned in owners])


def score(draw, seed):
    """A row: standards from exposure ``2 seed``, maps from exposure ``2 seed + 1``."""
    began = time.process_time()
    found = standards.extract_standards(*draw.record(FLUENCE, 2 * seed), seed=seed, system=draw.assumed)
    low, _ = draw.record(FLUENCE, 2 * seed + 1)
    step = low.axes_manager.signal_axes[0].scale
    options = {"low_loss": low, "nonnegative": False, **draw.assumed.edges["M2,3"].fit_options}
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
    truth = true_channels(draw)[:, inside].sum(axis=1)
    scale = np.where(truth > 0, truth, truth.sum())  # of a phase that is not there, over all of both
    metal = draw.metal_per_nm2[inside]
    true_valence = float((metal * np.nan_to_num(draw.mean_valence[inside])).sum() / metal.sum())

    def measured(volume, density=density, valence=valence):
        iron = density @ volume
        return np.array([*(volume / scale), iron / metal.sum(), density * valence @ volume / iron])

    here, size = measured(fitted), np.abs(fitted).max() * 1e-4
    slope = np.array([(measured(fitted + size * e) - here) / size for e in np.eye(len(fitted))]).T
    statistical = np.sqrt(np.diag(slope @ noise @ slope.T))
    others = [
        measured(fitted + s, d, v) for s, d, v in zip(shifts, found.metal_samples, found.valence_samples, strict=True)
    ]
    systematic = np.sqrt(np.mean((np.array(others) - here) ** 2, axis=0)) if others else 0 * statistical
    names = [*system.channels, "total metal", "mean valence"]
    true = [*(truth / scale), 1.0, true_valence]
    table = {
        name: {
            "measured": float(here[i]), "true": float(true[i]),
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
    """Over all rows that ran: coverage of 90 % intervals, silent errors, flags, how near the metal and its valence are,
    and the root mean square of unflagged errors over the stated ones, by how many departures the specimen has of those
    that the stated errors cover."""
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

    def over_stated(rows, name):
        off = [
            (q["measured"] - q["true"]) / np.hypot(q["statistical"], q["systematic"])
            for q in (row["quantities"][name] for row in rows)
        ]
        return float(np.sqrt(np.mean(np.square(off))))

    departures = {"at most one": range(2), "two": (2,), "three or more": range(3, len(COVERED) + 1)}
    groups = {
        words: [row for row in unflagged if len(set(COVERED) & set(row["label"]["kinds"])) in counts]
        for words, counts in departures.items()
    }
    return {
        "rows": len(rows), "failed": len(rows) - len(ran), "flagged": len(ran) - len(unflagged),
        "silent_errors": float(np.mean([is_silent(row) for row in ran])) if ran else None,
        "coverage_90_unflagged": {name: within(unflagged, name) for name in names},
        "total_metal_within_5_percent": within(ran, "total metal", absolute=0.05),
        "mean_valence_within_0.05": within(ran, "mean valence", absolute=0.05),
        "expected_by_stated_errors": {n: expected(n, 0.05) for n in ("total metal", "mean valence")},
        "error_over_stated_unflagged": {
            words: {"rows": len(group)} | {name: over_stated(group, name) for name in names}
            for words, group in groups.items() if group
        },
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


def measure(job, more):
    """The row of a job."""
    name, arguments, settings, seed = job
    draw = (draw_more if more else draw_chemistry)(*arguments, **settings)
    row = {"name": name, "label": draw.label, "noise_seed": seed, "code": records.script_stamp("chemistry")}
    try:
        return row | score(draw, seed)
    except ValueError as error:  # a refusal is a result: it names what is wrong
        return row | {"error": str(error)}


def store(path, rows, size):
    """Write the record."""
    content = {
        "date": datetime.date.today().isoformat(), "pixels": size, "fluence_e_per_A2": FLUENCE,
        "kinds": CHEMISTRY_KINDS, "summary": summary(rows), "rows": rows,
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=1, default=float) + "\n")


def renew(rows, known, count, more, seed=0):
    """Give rows of older code the present stamp, if all of ``count`` of them are found again; whether they were."""
    stamp = records.script_stamp("chemistry")
    older = [row for row in rows if row["code"] != stamp and row["name"] in known]
    found = []
    for k in np.random.default_rng(seed).permutation(len(older))[:count]:
        new = json.loads(json.dumps(measure(known[older[k]["name"]], more), default=float))
        differ = records.differences(older[k], new, ("code", "seconds"))
        found.append(not differ)
        print(older[k]["name"], differ or "found again", flush=True)
    if found and all(found):
        for row in older:
            row["code"] = stamp
    return bool(found) and all(found)


def main():
    """Run the rows that are not there yet, or a sample of those of older code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--issue", action="store_true", help="single departures, of the default cube")
    parser.add_argument("--rows", type=int, default=10**6, help="stop after so many new rows")
    parser.add_argument("--instrument", action="store_true", help="faults of the instrument alone")
    parser.add_argument("--more", action="store_true", help="a second phase that lacks metal, or one phase only")
    parser.add_argument("--renew", type=int, help="measure so many rows of older code again; if all agree, all are new")
    options = parser.parse_args()
    kind = "instrument_" if options.instrument else "more_" if options.more else ""
    what = "single" if options.issue else kind + options.half
    path = RESULTS / f"chemistry_{what}_{options.size}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    known = {job[0]: job for job in jobs(options)}
    if options.renew:
        if renew(rows, known, options.renew, options.more):
            store(path, rows, options.size)
        return
    done = {row["name"] for row in rows}
    for job in [job for name, job in known.items() if name not in done][: options.rows]:
        row = measure(job, options.more)
        rows.append(row)
        store(path, rows, options.size)
        short = {k: [round(q["measured"], 3), round(float(np.hypot(q["statistical"], q["systematic"])), 3)]
                 for k, q in row.get("quantities", {}).items()}  # fmt: skip
        print(job[0], short or row["error"], row.get("warnings"), round(row.get("reduced_chi2", np.nan), 3), flush=True)


if __name__ == "__main__":
    main()
