"""Joint total variation on a 48³ nanocube from 9 views with 5 % noise: convergence and quality, against SIRT.

Projections come from a grid twice as fine, so that no method meets its own matrix. Writes ``results/joint_tv.json``.
Oracle values are the best against the truth (over iterations, over weights); automatic ones never see it.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

from softeels_utils import metrics, simulate
from softeels_utils.study import project_fine
from softeels_utils.tomography import SIMPLEX, Measurement, joint_tv, sirt

os.environ["SOFTEELS_HEADLESS"] = "1"
TILTS = np.linspace(-70, 70, 9)


def problem(seed, noise, n=48):
    """(projections, covariance, truth); noise is 5 % of each channel's maximum, or of the largest."""
    fine = simulate.core_shell_nanocube(2 * n)
    truth, clean = project_fine(fine, TILTS)
    sigma = 0.05 * (clean.max(axis=(1, 2, 3)) if noise == "channel" else np.full(2, clean.max()))
    error = np.random.default_rng(seed).standard_normal(clean.shape) * sigma[:, None, None, None]
    return (clean + error).astype(np.float32), np.diag(sigma**2), truth


def study(seed, noise):
    projections, covariance, truth = problem(seed, noise)
    measurement, errors = Measurement(projections, TILTS, covariance=covariance), []
    sirt(measurement, iterations=200, callbacks=[lambda k: errors.append(metrics.nrmse(k.volume, truth))])
    row = {"seed": seed, "noise": f"5 % of the maximum of {'each channel' if noise == 'channel' else 'both'}"}
    row["sirt_oracle_nrmse"] = min(errors)
    for coupling in ("nuclear", "frobenius"):
        scores = {}
        for weight in (0.5, 0.75, 1.0, 1.5, 2.0, 3.0):
            fit = joint_tv(measurement, weight=weight, coupling=coupling)
            scores[weight] = metrics.nrmse(fit.volume, truth)
        row[f"{coupling}_oracle_nrmse"], row[f"{coupling}_oracle_weight"] = min((s, w) for w, s in scores.items())
    for rule in ("heldout", "discrepancy"):
        began = time.perf_counter()
        fit = joint_tv(measurement, weight=rule)
        row |= {
            f"{rule}_nrmse": metrics.nrmse(fit.volume, truth), f"{rule}_weight": fit.weight,
            f"{rule}_seconds": time.perf_counter() - began,
        }  # fmt: skip
    fit = joint_tv(measurement, constraint=SIMPLEX)
    row["heldout_simplex_nrmse"] = metrics.nrmse(fit.volume, truth)
    return row


def convergence(iterations):
    """Objective at the default tolerance over that of a long run."""
    projections, covariance, _ = problem(0, "channel")
    rows = []
    for correlation in (0.0, -0.96):
        sigma = np.sqrt(covariance.diagonal())
        c = covariance + correlation * np.prod(sigma) * (1 - np.eye(2))
        measurement = Measurement(projections, TILTS, covariance=c)
        began = time.perf_counter()
        fit = joint_tv(measurement, weight=1.5)
        seconds = time.perf_counter() - began
        long = joint_tv(measurement, weight=1.5, iterations=iterations)
        objective = [r.history["objective"][-1] for r in (fit, long)]
        rows.append(
            {
                "covariance_correlation": correlation, "iterations": fit.iteration, "seconds": seconds,
                "reported_gap": fit.history["gap"][-1], "objective": objective[0], "long_run_objective": objective[1],
                "long_run_iterations": iterations, "excess": objective[0] / objective[1] - 1,
                "long_run_gap": long.history["gap"][-1],
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=20000)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for noise in ("channel", "largest"):
        for seed in range(args.seeds):
            rows.append(study(seed, noise))
            print(rows[-1], flush=True)
    result = {
        "date": str(date.today()),
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "quality": rows,
        "convergence": convergence(args.iterations),
    }
    path = Path(__file__).parent / "results" / "joint_tv.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
