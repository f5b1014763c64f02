"""The ladder of methods on drawn specimens: one half to choose settings on, the other to report. Truth only scores.

``python benchmarks/draws.py [--half report] [--draws 40] [--workers 2]`` goes on where it was and writes
``benchmarks/results/draws_HALF_48.json``, one row a draw: 9 views over ±70°, 5 % independent noise, two phases, no
support, aligned; ``--intervals`` writes ``draws_intervals.json``. Every method has a rule of its own that does not see
the truth; ``joint TV, best`` alone, the reference of the ratios, has the weight that the truth likes best. All but SIRT
have the same constraint: fractions of at least 0 that add up to at most 1.
"""

import argparse
import datetime
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch

os.environ["SOFTEELS_HEADLESS"] = "1"

from softeels_utils import dip, metrics
from softeels_utils.simulate import draw_specimen
from softeels_utils.tomography import SIMPLEX, HeldOut, joint_tv, sirt

RESULTS = Path(__file__).parent / "results"
SERIES = {
    "views": 9, "max_tilt_deg": 70, "noise": "independent", "level": 0.05, "missing_tilt": False, "shift_px": 0.0,
    "axis_angle_deg": 0.0, "support": False, "third_phase": None,
}  # fmt: skip
SIMPLEX_TV = {"constraint": SIMPLEX, "progress": False}


def best_joint_tv(measurement, truth):
    """At the weight that the truth likes best, which lies between two that are worse."""
    volumes = {}

    def error(weight):
        if weight not in volumes:
            volumes[weight] = joint_tv(measurement, weight=weight, **SIMPLEX_TV).volume
        return metrics.nrmse(volumes[weight], truth)

    best = min((0.6, 0.9, 1.3, 2.0), key=error)
    while best in (min(volumes), max(volumes)):
        best = min((best / 1.5, best, best * 1.5), key=error)
    return volumes[best]


METHODS = {
    "SIRT": lambda m, seed: sirt(m, stop=HeldOut(), progress=False).volume,
    "joint TV": lambda m, seed: joint_tv(m, weight="heldout", **SIMPLEX_TV).volume,
    "voxels": lambda m, seed: dip.fit(m, variant="voxels", seed=seed, progress=False).volume,
    "DIPm-TV": lambda m, seed: dip.fit(m, seed=seed, progress=False).volume,
}


def score(volume, draw):
    """All measures of a volume, lengths in voxels."""
    voids, truth = draw.label["voids"], draw.truth
    edges = metrics.interface_error(volume, truth)
    skin = metrics.skin_error(volume, truth, region=draw.regions["skin"])
    found = metrics.void_errors(volume, truth, voids=voids)
    return {
        "nrmse": metrics.nrmse(volume, truth), "core": edges.core_rms_nm, "surface": edges.outer_rms_nm,
        "corner": metrics.corner_error(volume, truth, region=draw.regions["corners"]).rms_nm,
        "skin_rms": skin.rms_nm, "skin_false": skin.false_nm,
        "film": metrics.film_about_voids(volume, truth, voids=voids).mean,
        "false_skin": metrics.false_skin(volume, truth).mean,
        "void_contrast": float(np.mean([v.contrast for v in found])) if found else float("nan"),
        "worst_resolution": metrics.directional_resolution(volume, truth).worst_nm,
    }  # fmt: skip


def one(half, seed, n):
    """A row."""
    torch.set_num_threads(1)
    draw = draw_specimen(seed, half, n, **SERIES)
    measurement = draw.measurement()
    row = {"seed": seed, "label": draw.label, "methods": {"joint TV, best": None}}
    row["methods"]["joint TV, best"] = score(best_joint_tv(measurement, draw.truth), draw)
    for name, method in METHODS.items():
        began = time.process_time()
        volume = method(measurement, seed)
        row["methods"][name] = {"seconds": time.process_time() - began} | score(volume, draw)
    reference = row["methods"]["joint TV, best"]["nrmse"]
    for values in row["methods"].values():
        values["ratio"] = values["nrmse"] / reference
    return row


def summary(rows):
    """Median of each measure over the draws, and the worst tenth of the ratio."""
    table = {}
    for name in rows[0]["methods"]:
        values = [row["methods"][name] for row in rows]
        table[name] = {key: float(np.nanmedian([v.get(key, np.nan) for v in values])) for key in values[-1]}
        table[name]["ratio_worst_tenth"] = float(np.quantile([v["ratio"] for v in values], 0.9))
    return table


def plain(value):
    """NumPy's numbers as JSON's; NaN as None."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def intervals(half, seed, n=32, members=6):
    """Part of the voxels of each region inside their 90 % interval, an ensemble of few members at 32³."""
    torch.set_num_threads(1)
    draw = draw_specimen(seed, half, n, **SERIES)
    options = {"covariance": draw.covariance, "voxel_size_nm": draw.voxel_size_nm, "progress": False}
    result = dip.ensemble(draw.projections, draw.tilt_angles_deg, members=members, seed=seed, **options)
    coverage = metrics.coverage(*result.interval(0.9), draw.truth, draw.regions)
    return {"half": half, "seed": seed, "members": members, "voxels": n, "coverage": coverage}


def run_intervals(half, draws, workers):
    """The draws that are not there yet."""
    path = RESULTS / "draws_intervals.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    done = {(row["half"], row["seed"]) for row in rows}
    with ProcessPoolExecutor(workers) as pool:
        missing = [seed for seed in range(draws) if (half, seed) not in done]
        for job in as_completed([pool.submit(intervals, half, seed) for seed in missing]):
            rows.append(plain(job.result()))
            write_intervals(rows)
            print(rows[-1], flush=True)


def write_intervals(rows):
    """With the mean of each region over the draws of each half."""
    means = {}
    for half in sorted({row["half"] for row in rows}):
        table = [row["coverage"] for row in rows if row["half"] == half]
        means[half] = {r: float(np.nanmean([np.nan if c[r] is None else c[r] for c in table])) for r in table[0]}
    content = {"date": datetime.date.today().isoformat(), "mean": plain(means), "rows": rows}
    (RESULTS / "draws_intervals.json").write_text(json.dumps(content, indent=1) + "\n")


def main():
    """Run the draws that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--intervals", action="store_true", help="coverage by region, ensembles of six at 32³")
    options = parser.parse_args()
    if options.intervals:
        run_intervals(options.half, options.draws, options.workers)
        return
    path = RESULTS / f"draws_{options.half}_{options.size}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    missing = sorted(set(range(options.draws)) - {row["seed"] for row in rows})
    with ProcessPoolExecutor(options.workers) as pool:
        for job in as_completed([pool.submit(one, options.half, seed, options.size) for seed in missing]):
            rows = sorted([*rows, plain(job.result())], key=lambda row: row["seed"])
            as_nan = [{"methods": {m: {k: np.nan if x is None else x for k, x in v.items()}
                                   for m, v in row["methods"].items()}} for row in rows]  # fmt: skip
            content = {"date": datetime.date.today().isoformat(), "half": options.half, "voxels": options.size,
                       "series": SERIES, "medians": plain(summary(as_nan)), "rows": rows}  # fmt: skip
            path.write_text(json.dumps(content, indent=1) + "\n")
            ratios = {name: round(values["ratio"], 3) for name, values in rows[-1]["methods"].items()}
            print(len(rows), rows[-1]["seed"], ratios, flush=True)


if __name__ == "__main__":
    main()
