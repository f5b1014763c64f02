"""The ladder of methods on drawn specimens: one half to choose settings on, the other to report. Truth only scores.

``python benchmarks/draws.py [--half report] [--draws 40 | --seeds N ...] [--size 48] [--methods NAME ...] [--again]``
goes on where it was, cell by cell (a draw, a method), and writes ``benchmarks/results/draws_HALF_SIZE.json``: 9 views
over ±70°, 5 % independent noise, two phases, no support, aligned. ``--views``, ``--noise`` and ``--tilt`` make another
series, and another file; so does ``--as-drawn``, which fixes nothing: any number of views, range and noise, missing
tilts, shifts (known) and a turned tilt axis (unknown), third phases and supports. ``--again`` computes those
results of the named methods anew that are of older code; ``--renew 2`` so many of each method only, and if all of them
are found again, all of the method count as of the present code. ``--table`` prints the table of what there is.

Every method has a rule of its own that does not see the truth, and is run until that ends it; ``joint TV, best``
alone, the reference of the ratios, has the weight that the truth likes best.
"""

import argparse
import datetime
import itertools
import json
import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

os.environ["SOFTEELS_HEADLESS"] = "1"

from softeels_utils import dip, metrics, records, study
from softeels_utils.simulate import draw_specimen
from softeels_utils.tomography import SIMPLEX, HeldOut, joint_tv, sirt, tgv, tv

RESULTS = Path(__file__).parent / "results"
SERIES = {
    "views": 9, "max_tilt_deg": 70, "noise": "independent", "level": 0.05, "missing_tilt": False, "shift_px": 0.0,
    "axis_angle_deg": 0.0, "support": False, "third_phase": None,
}  # fmt: skip
LEVELS = {
    "fit": {"fluence_e_per_A2": 4000.0},
    "poisson": {"counts": 100.0},
}  # of noise that is not a part of the signal
SIMPLEX_TV = {"constraint": SIMPLEX, "progress": False}
REFERENCE = "joint TV, best"
WEIGHTS = 0.1, 10.0  # of the reference: beyond, it is not sought

# ---------------------------------------------------------------- methods


def of_particle(draw):
    """Which channels are of the particle: all but a support."""
    return [phase != "support" for phase in draw.phases]


def best_joint_tv(measurement, draw):
    """At the weight that the truth likes best, which lies between two that are worse, or at an end of `WEIGHTS`."""
    volumes, particle = {}, of_particle(draw)

    def error(weight):
        if weight not in volumes:
            volumes[weight] = joint_tv(measurement, weight=weight, **SIMPLEX_TV).volume
        return metrics.nrmse(volumes[weight][particle], draw.truth[particle])

    best = min((0.6, 0.9, 1.3, 2.0), key=error)
    while best in (min(volumes), max(volumes)) and WEIGHTS[0] < best < WEIGHTS[1]:
        best = min((best / 1.5, best, best * 1.5), key=error)
    return volumes[best]


def best_by_heldout(fits):
    """The fit whose held-out pixels are predicted best."""
    return min(fits, key=lambda fit: min(fit.scores.values()))


def onto_simplex(volume):
    """The nearest volume fractions that add up to at most 1."""
    return SIMPLEX(torch.as_tensor(volume)).numpy()


def fit(measurement, seed, **options):
    """`dip.fit`; counts have to learn their scale."""
    return dip.fit(measurement, seed=seed, progress=False, calibrated=not measurement.counts, **options)


ALONE = {"correction_tv_weight": 0.0, "empty_voids": False, "mix": False}  # without the last stage
BARE = ALONE | {"initial_tv_weight": 0.0, "tv_weight": 0.0}  # without any total variation


def free_voxels(measurement, seed, entropies=(0.0,)):
    """Free voxels behind the head, converged: the weight of TV by held-out pixels, then that of the entropy."""
    options = ALONE | {"variant": "voxels", "iterations": 600, "return_to_best": False}
    fits = {}

    def score(weight, entropy=entropies[0]):
        if (weight, entropy) not in fits:
            fits[weight, entropy] = fit(measurement, seed, tv_weight=weight, entropy_weight=entropy, **options)
        return fits[weight, entropy].history["heldout"][-1]

    weight = min((1.5, 3.0, 6.0), key=score)
    while weight in (min(fits)[0], max(fits)[0]):
        weight = min((weight / 2, weight, weight * 2), key=score)
    return fits[weight, min(entropies, key=lambda entropy: score(weight, entropy))].volume


def one_channel(draw, seed):
    """A network for each channel, which knows nothing of the others, of fractions or of total variation."""
    parts = [slice(c, c + 1) for c in range(len(draw.projections))]
    volumes = []
    for part in parts:
        covariance = None if draw.covariance is None else draw.covariance[..., part, part]
        single = replace(draw, projections=draw.projections[part], covariance=covariance).measurement()
        volumes.append(fit(single, seed, head="nonnegative", **BARE).volume)
    return np.concatenate(volumes)


# Each of a draw, its measurement and a seed. Those that take the draw look at its projections alone.
METHODS = {
    REFERENCE: lambda d, m, seed: best_joint_tv(m, d),
    "SIRT": lambda d, m, seed: sirt(m, stop=HeldOut(), progress=False).volume,
    "TV": lambda d, m, seed: tv(m, progress=False).volume,
    "TV, simplex after": lambda d, m, seed: onto_simplex(tv(m, progress=False).volume),
    "joint TV, non-negative": lambda d, m, seed: joint_tv(m, progress=False).volume,
    "joint TV": lambda d, m, seed: joint_tv(m, **SIMPLEX_TV).volume,
    "TGV": lambda d, m, seed: best_by_heldout([tgv(m, ratio=ratio, **SIMPLEX_TV) for ratio in (0.5, 2.0)]).volume,
    "free voxels": lambda d, m, seed: free_voxels(m, seed),
    "discrete": lambda d, m, seed: free_voxels(m, seed, entropies=(0.3, 0.0, 1.0)),
    "voxels": lambda d, m, seed: fit(m, seed, variant="voxels").volume,
    "DIP one channel": lambda d, m, seed: one_channel(d, seed),
    "paper": lambda d, m, seed: fit(m, seed, variant="paper", preset="full", learning_rate=records.PAPER_RATE).volume,
    "network": lambda d, m, seed: fit(m, seed, **BARE).volume,
    "network and TV": lambda d, m, seed: fit(m, seed, initial_tv_weight=0.0, **ALONE).volume,
    "DIPm-TV, no last stage": lambda d, m, seed: fit(m, seed, **ALONE).volume,
    "DIPm-TV, no support": lambda d, m, seed: fit(m, seed, initial_tv_weight=0.0).volume,
    "DIPm-TV, no TV": lambda d, m, seed: fit(m, seed, tv_weight=0.0).volume,
    "DIPm-TV, filled voids left": lambda d, m, seed: fit(m, seed, empty_voids=False).volume,
    "DIPm-TV, non-negative": lambda d, m, seed: fit(m, seed, head="nonnegative").volume,
    "DIPm-TV": lambda d, m, seed: fit(m, seed).volume,
    "DIPm-TV, three networks": lambda d, m, seed: fit(m, seed, preset="full").volume,
}
# What each step of the ladder adds; the gain is the ratio of the errors of two that follow each other.
LADDER = {
    "joint TV, non-negative": "",
    "joint TV": "simplex",
    "free voxels": "head, in place of the simplex",
    "network": "network, in place of TV",
    "network and TV": "TV",
    "DIPm-TV, no last stage": "support by the first reconstruction",
    "DIPm-TV": "last stage: correction, voids and mixing",
}

# ---------------------------------------------------------------- cells


def score(volume, draw):
    """All measures of a volume, lengths in voxels; of the particle alone, without a support."""
    particle = of_particle(draw)
    volume, voids, truth = np.asarray(volume)[particle], draw.label["voids"], draw.truth[particle]
    edges = metrics.interface_error(volume, truth)
    skin = metrics.skin_error(volume, truth, region=draw.regions["skin"])
    invented = metrics.false_void(volume, truth)
    found = metrics.void_errors(volume, truth, voids=voids)
    return {
        "nrmse": metrics.nrmse(volume, truth), "surface": edges.outer_rms_nm,
        "core": edges.core_rms_nm if draw.label["core"] else float("nan"),
        "corner": metrics.corner_error(volume, truth, region=draw.regions["corners"]).rms_nm,
        "skin_rms": skin.rms_nm, "skin_false": skin.false_nm,
        "film": metrics.film_about_voids(volume, truth, voids=voids).mean,
        "false_skin": metrics.false_skin(volume, truth).mean,
        "void_contrast": float(np.mean([v.contrast for v in found])) if found else float("nan"),
        "false_void": invented.fraction * invented.voxels if invented.voxels else float("nan"),  # voxels
        "worst_resolution": metrics.directional_resolution(volume, truth).worst_nm,
    }  # fmt: skip


@lru_cache(maxsize=1)
def drawn(half, seed, n, series):
    """A draw; the last one is kept."""
    return draw_specimen(seed, half, n, fit_covariance=study.pixel_covariance, **dict(series))


def cell(half, seed, n, series, name):
    """(label of the draw, scores of one method on it)."""
    torch.set_num_threads(1)
    draw = drawn(half, seed, n, series)
    began = time.process_time()
    volume = METHODS[name](draw, draw.measurement(), seed)
    seconds = time.process_time() - began
    about = {"seconds": seconds, "commit": commit(), "date": datetime.date.today().isoformat()}
    about["code"] = records.script_stamp("draws")
    return draw.label, plain(about | score(volume, draw))


@lru_cache
def commit():
    """Of the code that runs; "-dirty" where that has been changed since."""
    here = Path(__file__).parent
    said = subprocess.run(
        ["git", "-C", here, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    code = [here / "draws.py", here.parent / "softeels_utils"]
    clean = subprocess.run(["git", "-C", here, "diff", "--quiet", "HEAD", "--", *code], check=False).returncode == 0
    return (said.stdout.strip() + "-dirty" * (not clean)) or "unknown"


def load(path):
    """Rows of a record, by seed."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return {row["seed"]: row for row in rows}


def store(path, about, seed, label, name, values):
    """Add a cell to what is in the file by now, and its ratio to the reference; all rows."""
    rows = load(path)
    row = rows.setdefault(seed, {"seed": seed, "label": plain(label), "methods": {}})
    row["methods"][name] = values
    write(path, about, rows)
    return rows


def write(path, about, rows):
    """The record, in one piece."""
    for row in rows.values():
        reference = row["methods"].get(REFERENCE, {}).get("nrmse")
        for values in row["methods"].values():
            values["ratio"] = values["nrmse"] / reference if reference else None
        row["methods"] = {name: row["methods"][name] for name in METHODS if name in row["methods"]}
    rows = [rows[seed] for seed in sorted(rows)]
    content = about | {"medians": plain(summary(rows)), "split": plain(split(rows)), "rows": rows}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)


# ---------------------------------------------------------------- the table


def summary(rows):
    """Of each method: number of draws, median of each measure over them, and the worst tenth of the ratio."""
    table = {}
    for name in METHODS:
        found = [row["methods"][name] for row in rows if name in row["methods"]]
        if not found:
            continue
        keys = [key for key in found[-1] if key not in ("code", "commit", "date", "note")]
        values = {key: np.array([one.get(key) for one in found], float) for key in keys}
        table[name] = {"draws": len(found)} | {key: median(column) for key, column in values.items()}
        table[name]["ratio_worst_tenth"] = (
            float(np.nanquantile(values["ratio"], 0.9)) if median(values["ratio"]) else None
        )
    return table


def median(values):
    """Of what is a number; None where nothing is."""
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else None


def split(rows):
    """Error of each step of the ladder over that of the one before, on the draws that have both: median and tenths."""
    names, steps = list(LADDER), []
    found = [name for name in names if any(name in row["methods"] for row in rows)]
    for before, after in itertools.pairwise(found):
        both = [row["methods"] for row in rows if before in row["methods"] and after in row["methods"]]
        if both:
            ratios = [methods[after]["nrmse"] / methods[before]["nrmse"] for methods in both]
            low, middle, high = np.quantile(ratios, (0.1, 0.5, 0.9))
            adds = [LADDER[name] for name in names[names.index(before) + 1 : names.index(after) + 1]]
            step = {"from": before, "to": after, "adds": "; ".join(adds), "draws": len(both), "median": middle}
            steps.append(step | {"best_tenth": low, "worst_tenth": high})
    return steps


SHOWN = {
    "ratio": "ratio", "ratio_worst_tenth": "worst 1/10", "core": "core", "surface": "surface", "corner": "corner",
    "skin_rms": "skin", "film": "film", "false_skin": "false skin", "void_contrast": "void", "worst_resolution": "res.",
    "seconds": "seconds",
}  # fmt: skip


def print_table(path):
    """Of a record."""
    content = json.loads(path.read_text())
    print(f"{path.name}\n{'':26}{'draws':>6}" + "".join(f"{word:>11}" for word in SHOWN.values()))
    for name, values in content["medians"].items():
        numbers = [values.get(key) for key in SHOWN]
        cells = "".join(f"{'-':>11}" if number is None else f"{number:11.4g}" for number in numbers)
        print(f"{name:26}{values.get('draws', len(content['rows'])):6}{cells}")
    print("split of the gain: error over that of the step before (tenths), number of draws")
    for step in content["split"]:
        tenths = f"{step['best_tenth']:.3f} to {step['worst_tenth']:.3f}"
        print(f"  {step['median']:.3f} ({tenths}) {step['draws']:4}  {step['from']} -> {step['to']}: {step['adds']}")


def plain(value):
    """NumPy's numbers as JSON's; NaN as None."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def parse():
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", help="these draws, in place of the first ones")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="NAME")
    parser.add_argument(
        "--again", action="store_true", help="compute results of these methods that are of older code anew"
    )
    parser.add_argument(
        "--renew", type=int, help="compute so many of older code; where all are found again, all are new"
    )
    parser.add_argument("--views", type=int, default=SERIES["views"])
    parser.add_argument("--tilt", type=int, default=SERIES["max_tilt_deg"], help="the largest, degrees")
    parser.add_argument("--noise", choices=("independent", "anticorrelated", "fit", "poisson"), default="independent")
    parser.add_argument("--as-drawn", action="store_true", help="fix nothing of a draw")
    parser.add_argument("--table", action="store_true", help="print the table of the record, run nothing")
    return parser.parse_args()


def series_of(options):
    """(file of the record, what all its draws have in common)."""
    if options.as_drawn:
        return RESULTS / f"draws_{options.half}_{options.size}_as_drawn.json", {}
    series = SERIES | {"views": options.views, "max_tilt_deg": options.tilt, "noise": options.noise}
    series |= LEVELS.get(options.noise, {})
    other = [f"views{options.views}"] * (options.views != SERIES["views"])
    other += [options.noise] * (options.noise != SERIES["noise"])
    other += [f"tilt{options.tilt}"] * (options.tilt != SERIES["max_tilt_deg"])
    return RESULTS / f"{'_'.join(['draws', options.half, str(options.size), *other])}.json", series


def is_older(values):
    """Whether a result is of other code than the present."""
    return values.get("code") != records.script_stamp("draws")


def renew(path, about, names, measure, count):
    """Give results of older code the present stamp, method by method, if ``count`` of them are found again."""
    for name in names:
        rows = load(path)
        older = [seed for seed, row in rows.items() if name in row["methods"] and is_older(row["methods"][name])]
        if not older:
            continue
        moved = set()
        for seed in np.random.default_rng(0).permutation(older)[:count].tolist():
            old, (_, new) = rows[seed]["methods"][name], measure(seed, name)
            moved.update(records.moved(old, new))
        told = f"not found again: {', '.join(sorted(moved))}" if moved else "found again"
        print(f"{name}: {min(count, len(older))} of {len(older)}, {told}", flush=True)
        if not moved:
            for seed in older:
                rows[seed]["methods"][name]["code"] = records.script_stamp("draws")
            write(path, about, rows)


def main():
    """Run the cells that are not there yet, draw by draw."""
    options = parse()
    path, series = series_of(options)
    if options.table:
        print_table(path)
        return
    rows, key = load(path), tuple(series.items())
    about = {"half": options.half, "voxels": options.size, "series": series}
    if options.renew:
        renew(
            path,
            about,
            options.methods,
            lambda seed, name: cell(options.half, seed, options.size, key, name),
            options.renew,
        )
        return
    found = [(seed, name, values) for seed, row in rows.items() for name, values in row["methods"].items()]
    done = {(seed, name) for seed, name, values in found if not (options.again and is_older(values))}
    seeds = range(options.draws) if options.seeds is None else options.seeds
    missing = [(s, name) for s in seeds for name in options.methods if (s, name) not in done]
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = {pool.submit(cell, options.half, seed, options.size, key, name): (seed, name) for seed, name in missing}
        for job in as_completed(jobs):
            seed, name = jobs[job]
            label, values = job.result()
            rows = store(path, about, seed, label, name, values)
            ratio, seconds = rows[seed]["methods"][name]["ratio"] or np.nan, values["seconds"]
            print(f"{seed:3} {name:26} nrmse {values['nrmse']:.4f} ratio {ratio:.3f} {seconds:.0f} s", flush=True)
    print_table(path)


if __name__ == "__main__":
    main()
