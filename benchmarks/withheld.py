"""Measured tilts, each withheld in turn: which method predicts them best?

``python benchmarks/withheld.py [--again METHOD ...]`` goes on where it was and writes
``benchmarks/results/withheld.json``: the section of a dust particle by X-rays (`idp_eds_tilt_series`, 16 tilts, four
elements, binned by two), each tilt left out once. Every method sees the same measurement with the same padding, because
the section leaves the field of view; each has its own rule. A row is a tilt: squared error over variance of each
element, 1 where nothing but noise is left.

That DIPm-TV holds out whole tilts here was decided on the tilt of -30° alone.
"""

import argparse
import datetime
import json
import os
from pathlib import Path

os.environ.setdefault("SOFTEELS_HEADLESS", "1")

import numpy as np
from scipy import ndimage
from skimage.measure import block_reduce

from softeels_utils import data, dip, records, tomography

RESULTS = Path(__file__).parent / "results" / "withheld.json"
DEPTH = 16  # of the slice, in voxels, half its width: a section is thin
QUIET = {"progress": False}
METHODS = {
    "SIRT": lambda m: tomography.sirt(m, stop=tomography.HeldOut(), **QUIET).volume,
    "TV": lambda m: tomography.tv(m, **QUIET).volume,
    "joint TV": lambda m: tomography.joint_tv(m, **QUIET).volume,
    "DIPm-TV": lambda m: dip.fit(m, head="nonnegative", calibrated=False, seed=0, **QUIET).volume,
}


def series():
    """(counts (C, T, Y, X), their variance, tilts, names of the elements)."""
    real, block = data.load("idp_eds_tilt_series"), (1, 1, 2, 2)
    counts, noise = (block_reduce(array, block, np.sum) for array in (real.projections, real.variance))
    # Few counts have a noisy variance: smoothed, or empty pixels weigh most.
    return counts, ndimage.uniform_filter(noise, (0, 0, 5, 5)) + 1, real.tilt_angles_deg, real.channels


def row_of(out, known, counts, noise, tilts, names):
    """Squared error over variance of each element at tilt number ``out`` of a series, for each method not yet known."""
    rest = np.arange(len(tilts)) != out
    covariance = np.moveaxis(noise[:, rest], 0, -1)[..., None] * np.eye(len(names))
    seen = tomography.Measurement(counts[:, rest], tilts[rest], covariance=covariance).padded(depth=DEPTH)
    predict = seen.projector.like(tilt_angles_deg=tilts[[out]], shifts_px=np.zeros((1, 2)))
    row = {"tilt_deg": float(tilts[out]), "padding": seen.padding} | known
    for name in (name for name in METHODS if name not in known):
        off = (seen.crop(predict(METHODS[name](seen))) - counts[:, [out]]) ** 2 / noise[:, [out]]
        row[name] = dict(zip(names, off.mean(axis=(1, 2, 3)).tolist(), strict=True))
        row["code"] = row.get("code", {}) | {name: records.script_stamp("withheld")}
        print(row["tilt_deg"], name, {n: round(v, 2) for n, v in row[name].items()}, flush=True)
    return row


def summary(rows):
    """Mean over the tilts of each method, by element, and its standard error against joint TV."""
    table = {}
    for name in (name for name in METHODS if all(name in row for row in rows)):
        values = np.array([list(row[name].values()) for row in rows])
        against = (values - [list(row["joint TV"].values()) for row in rows]).mean(axis=1)
        table[name] = dict(zip(rows[0][name], values.mean(axis=0).tolist(), strict=True)) | {
            "mean": float(values.mean()),
            "less joint TV": float(against.mean()),
            "its standard error over the tilts": float(against.std(ddof=1) / len(rows) ** 0.5) if rows[1:] else None,
        }
    return {"tilts": len(rows), "depth": DEPTH, "methods": table}


def main():
    """Run what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", nargs="*", default=[], choices=list(METHODS), metavar="METHOD")
    again = parser.parse_args().again
    old = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    kept = [name for name in (*METHODS, "code") if name not in again]
    known = {row["tilt_deg"]: {name: row[name] for name in kept if name in row} for row in old}
    rows, measured = [], series()
    for out, tilt in enumerate(measured[2]):
        rows.append(row_of(out, known.get(float(tilt), {}), *measured))
        rest = [row for row in old if row["tilt_deg"] > tilt]
        content = {"date": datetime.date.today().isoformat(), "summary": summary(rows), "rows": rows + rest}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
