"""Run all chapters at the quick preset N times in a row, to see whether any hangs or fails, and how long each takes.

    python benchmarks/chapters.py [N]

Writes benchmarks/results/chapters.json.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from datetime import date
from pathlib import Path

from softeels_utils import chapters

RESULTS = Path(__file__).parent / "results" / "chapters.json"


def main(rounds: int = 20) -> bool:
    """Run the chapters; return whether any failed."""
    seconds, failures = {name: [] for name in chapters.names()}, []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(rounds):
            for name in chapters.names():
                run, _ = chapters.execute(name, folder=folder, force=True)
                seconds[name].append(run.seconds)
                if run.error:
                    failures.append(f"round {index}, {name}: {run.error}")
            print(f"round {index + 1}/{rounds}: {[times[-1] for times in seconds.values()]}", flush=True)
            result = {
                "date": str(date.today()),
                "hardware": chapters.hardware(),
                "versions": chapters.versions(),
                "rounds in a row": index + 1,
                "failures or hangs": len(failures),
                "median seconds": {name: statistics.median(times) for name, times in seconds.items()},
                "longest seconds": {name: max(times) for name, times in seconds.items()},
            }
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(failures) or "no failure")
    return len(failures) > 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
