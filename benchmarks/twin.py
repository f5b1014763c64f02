"""The twin of a whole tilt series, 9 × 112 × 112 pixels × 2 × 1024 channels: time and peak memory; the bound met.

    python benchmarks/twin.py

Writes ``results/twin.json``. Each way of making the series runs in its own process, with its own peak of memory.
"""

import json
import multiprocessing
import resource
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

from softeels_utils import chapters, dose, fitting, simulate

RESULTS = Path(__file__).parent / "results" / "twin.json"
TILTS = np.linspace(-70, 70, 9)


def series(way, folder):
    """Make the series in memory or to disk; seconds and peak memory in GiB, the specimen included."""
    volume = simulate.core_shell_nanocube(112, 0.4)
    maps = np.repeat(volume.sum(axis=2)[:, None] * 0.4, 9, axis=1)  # one view nine times: the cost is the same
    start = time.perf_counter()
    low, core = simulate.dual_eels(maps, 1e4, tilt_angles_deg=TILTS, lazy=way != "in memory", seed=0)
    if way != "in memory":
        for name, signal in (("low", low), ("core", core)):
            signal.save(f"{folder}/{name}.zspy")
    seconds = time.perf_counter() - start
    return {
        "seconds": round(seconds, 1),
        "peak GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def in_process(queue, way, folder):
    queue.put(series(way, folder))


def monte_carlo(draws=20000, fluence=1e5, seed=0):
    model, results = simulate.spectrum_model(), {}
    for edge in ("M2,3", "L2,3"):
        linear = dose.linear_model(model, fluence, edge=edge)
        counts = dose.simulate_counts(linear, draws, seed=seed)
        fit = fitting.fit_phases(
            counts, linear.energy_eV, linear.phases, background=linear.background, nonnegative=False
        )
        scatter, bound = np.cov(fit.coefficients.T), dose.phase_bound(model, fluence, edge=edge)
        results[edge] = {
            "variance over bound, FeO": round(scatter[0, 0] / bound[0, 0], 4),
            "variance over bound, Fe3O4": round(scatter[1, 1] / bound[1, 1], 4),
            "covariance over bound": round(scatter[0, 1] / bound[0, 1], 4),
            "reported over scatter": np.round(fit.covariance.mean(axis=0) / scatter, 4).tolist(),
        }
    return {"draws": draws, "fluence_e_per_A2": fluence, "seed": seed, **results}


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    result = {"date": str(date.today()), "hardware": chapters.hardware(), "versions": chapters.versions()}
    with tempfile.TemporaryDirectory() as folder:
        for way in ("in memory", "lazy, to .zspy"):
            queue = context.Queue()
            process = context.Process(target=in_process, args=(queue, way, folder))
            process.start()
            result[way] = queue.get()
            process.join()
            print(way, result[way], flush=True)
    result["Monte Carlo against the bound"] = monte_carlo()
    result["signal ratio at 300 kV"] = {
        f"{b:.0f} mrad": round(dose.signal_ratio(collection_mrad=b), 2) for b in (20, 40)
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
