"""Is a grain of metal noticed? The test of `extract_standards` on drawn specimens, with one and without.

    python benchmarks/grains.py [--half tune] [--first 0] [--draws 24] [--fluence 1e5] [--third none|Fe]

Adds to ``results/grains.json``, one row per draw, and goes on where it was. Every draw of `draw_chemistry` keeps all
its departures but the third phase, which is left out or made metallic iron (4 to 9 nm; 6 nm where none was drawn). The
test and its limits were chosen on draws 0 to 23 of the half "tune". Truth only scores.
"""

import argparse
import datetime
import json
import os
from pathlib import Path

os.environ.setdefault("SOFTEELS_HEADLESS", "1")

from softeels_utils import standards
from softeels_utils.simulate import draw_chemistry

RESULTS = Path(__file__).parent / "results" / "grains.json"
COUNTED = ("draws", "flagged", "flagged, nothing else warns", "nothing warns")
PIXELS, BOOTSTRAP = 48, 20  # the test does not depend on the bootstrap


def row_of(half, seed, third, fluence):
    """What the standards of one draw say."""
    draw = draw_chemistry(seed, half, n=PIXELS, third_phase=third)
    row = {"half": half, "seed": seed, "third_phase": third, "fluence_e_per_A2": fluence}
    row["thickest_grain_nm"] = float(draw.thickness_nm[draw.phases.index(third)].max()) if third in draw.phases else 0.0
    try:
        found = standards.extract_standards(*draw.record(fluence, 0), system=draw.assumed, bootstrap=BOOTSTRAP)
    except ValueError as error:  # a refusal is a result: it names what is wrong
        return row | {"error": str(error)}
    spot = [text for text in found.warnings if text.startswith("Around pixel")]
    row |= {name: getattr(found.diagnostics, name) for name in ("oxygen_deficit", "oxygen_deficit_deviations")}
    return row | {"flagged": bool(spot), "other_warnings": len(found.warnings) - len(spot)}


def summary(rows):
    """Flagged, and flagged by this test alone, out of all, for each half, third phase and fluence."""
    counts = {}
    for row in rows:
        if "error" not in row:
            inside = row["thickest_grain_nm"] > 0 if row["third_phase"] else True  # a grain may fall outside
            key = f"{row['half']}, {row['third_phase'] or 'none'}, {row['fluence_e_per_A2']:g}"
            cell = counts.setdefault(key, dict.fromkeys(COUNTED, 0))
            cell["draws"] += inside
            cell["flagged"] += inside and row["flagged"]
            cell["flagged, nothing else warns"] += inside and row["flagged"] and not row["other_warnings"]
            cell["nothing warns"] += inside and not row["flagged"] and not row["other_warnings"]
    return counts


def main():
    """Run the rows that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("tune", "report"), default="tune")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--fluence", type=float, default=1e5)
    parser.add_argument("--third", choices=("none", "Fe"), default="none")
    options = parser.parse_args()
    third = None if options.third == "none" else options.third
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    done = {(row["half"], row["seed"], row["third_phase"], row["fluence_e_per_A2"]) for row in rows}
    for seed in range(options.first, options.first + options.draws):
        if (options.half, seed, third, options.fluence) in done:
            continue
        rows.append(row_of(options.half, seed, third, options.fluence))
        about = {"date": datetime.date.today().isoformat(), "pixels": PIXELS, "bootstrap": BOOTSTRAP}
        content = about | {"summary": summary(rows), "rows": rows}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
