"""What an unknown geometry costs, and what refining it inside the fit gets back, on drawn specimens.

    python benchmarks/geometry.py [--half report] [--first 0] [--draws 10] [--voxels 48]

Adds to ``results/geometry.json``, one row per draw, and goes on where it was. Each specimen is seen in nine views over
±70° with 5 % noise, shifts of up to a pixel and a tilt axis that is 1 to 4° off, and reconstructed by DIPm-TV with the
geometry ignored, with the shifts of `tomography.align`, with all that `tomography.refine_geometry` finds from those,
and with the truth. How the error of the angle is stated was chosen on draws of the half "tune". Truth only scores;
volumes are compared after the translation that no alignment can know is taken off the shifts.
"""

import argparse
import datetime
import json
import os
import time
from pathlib import Path

os.environ.setdefault("SOFTEELS_HEADLESS", "1")

import numpy as np

from softeels_utils import dip, metrics, records, tomography
from softeels_utils.simulate import draw_specimen

RESULTS = Path(__file__).parent / "results" / "geometry.json"
SERIES = {
    "views": 9, "max_tilt_deg": 70, "missing_tilt": False, "noise": "independent", "level": 0.05, "support": False,
    "third_phase": None, "shift_px": 1.0,
}  # fmt: skip
WAYS = ("ignored", "aligned", "refined", "known")


def row_of(half, seed, n):
    """NRMSE of a specimen for each way, and how well the geometry was found."""
    angle = float(np.random.default_rng([seed, 17]).choice([-4, -3, -2, -1, 1, 2, 3, 4]))
    draw = draw_specimen(seed, half, n, axis_angle_deg=angle, **SERIES)
    tilts, seen = draw.tilt_angles_deg, draw.measurement(known_shifts=False)
    aligned = tomography.align(draw.projections, tilts).shifts_px
    began = time.process_time()
    refined = tomography.refine_geometry(seen.with_geometry(shifts_px=aligned))
    seconds = time.process_time() - began
    geometry = {
        "ignored": {},
        "aligned": {"shifts_px": in_place(aligned, draw)},
        "refined": {"shifts_px": in_place(refined.shifts_px, draw), "axis_angle_deg": refined.axis_angle_deg},
        "known": {"shifts_px": draw.shifts_px, "axis_angle_deg": angle},
    }
    row = {"half": half, "seed": seed, "voxels": n, "shape": draw.label["shape"]["name"], "axis_angle_deg": angle}
    row["code"] = records.script_stamp("geometry")
    row |= {"found_deg": refined.axis_angle_deg, "found_error_deg": refined.axis_angle_error_deg, "seconds": seconds}
    for name, shifts in (("aligned", aligned), ("refined", refined.shifts_px)):
        row[f"shift_error_px, {name}"] = tomography.alignment_error(shifts, draw.shifts_px, tilts)
    for way in WAYS:
        volume = dip.fit(seen.with_geometry(**geometry[way]), seed=seed, progress=False).volume
        row[f"nrmse, {way}"] = metrics.nrmse(volume, draw.truth)
    return row


def in_place(shifts_px, draw):
    """Shifts less the translation of the specimen by which they differ from the true ones."""
    angle = np.deg2rad(draw.tilt_angles_deg)
    basis = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    off = shifts_px - draw.shifts_px
    across = basis @ np.linalg.lstsq(basis, off[:, 1], rcond=None)[0]
    return shifts_px - np.stack([np.full(len(angle), off[:, 0].mean()), across], axis=1)


def summary(rows):
    """Medians over the specimens of each half: NRMSE over that with the geometry known, and errors of the geometry."""
    found = {}
    for half in sorted({row["half"] for row in rows}):
        mine = [row for row in rows if row["half"] == half]
        off = np.array([row["found_deg"] - row["axis_angle_deg"] for row in mine])
        errors = np.array([row["found_error_deg"] for row in mine])
        found[half] = {"draws": len(mine)} | {
            f"nrmse, {way} over known": float(np.median([row[f"nrmse, {way}"] / row["nrmse, known"] for row in mine]))
            for way in WAYS[:3]
        }
        found[half] |= {
            f"shift_error_px, {way}": float(np.median([row[f"shift_error_px, {way}"] for row in mine]))
            for way in ("aligned", "refined")
        }
        found[half] |= {
            "angle_off_deg": float(np.median(np.abs(off))),
            "angle_within_two_errors": float(np.mean(np.abs(off) < 2 * errors)),
            "seconds": float(np.median([row["seconds"] for row in mine])),
        }
    return found


def main():
    """Run the rows that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--voxels", type=int, default=48)
    options = parser.parse_args()
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    done = {(row["half"], row["seed"], row["voxels"]) for row in rows}
    for seed in range(options.first, options.first + options.draws):
        if (options.half, seed, options.voxels) in done:
            continue
        rows.append(row_of(options.half, seed, options.voxels))
        content = {"date": datetime.date.today().isoformat(), "summary": summary(rows), "rows": rows}
        RESULTS.write_text(json.dumps(content, indent=1, default=float) + "\n", encoding="utf-8")
        print({name: round(x, 3) if isinstance(x, float) else x for name, x in rows[-1].items()}, flush=True)


if __name__ == "__main__":
    main()
