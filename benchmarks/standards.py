"""Accuracy of `extract_standards` against the twin's truth: cubes of several sizes and rotations, with and without
skin; and a guard of specimens on which no choice in the package was based.

    python benchmarks/standards.py        writes benchmarks/results/standards.json

Each cube is recorded on 48 x 48 pixels at 1e5 electrons per Å², with several seeds. Scored: the spectral angle
of each reference to the truth (48 to 90 eV), and the bias of the phase maps that are fitted with the references
to the same cube recorded with infinitely many electrons. The bias is counted against the maps fitted with the
true references ("brought by the standards") and against the true thickness ("total"), in parts of the maximum
of each phase: mean and rms over the particle.
"""

import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from skimage.measure import block_reduce

os.environ.setdefault("SOFTEELS_HEADLESS", "1")

from softeels_utils import fitting, simulate, standards

PIXELS, BOX_NM, FLUENCE = 48, 64.0, 1e5
SEEDS = (0, 1, 2)
GUARD_SEEDS = (3, 4)
CUBES = {
    "default": {},
    "no skin": {"skin": 0},
    "rotated": {"rotation_deg": (20.0, 35.0, 10.0)},
    "rotated by 45 and 35 degrees, no skin": {"rotation_deg": (45.0, 35.0, 0.0), "skin": 0},
    "large core": {"core": 60 / 160, "shell": 84 / 160, "skin": 90 / 160},
    "small": {"core": 24 / 160, "shell": 60 / 160, "skin": 64 / 160},
    "small, no skin, rotated": {"core": 30 / 160, "shell": 56 / 160, "skin": 0, "rotation_deg": (10.0, 20.0, 30.0)},
    "core off centre": {"core_center": (10 / 160, -8 / 160, 12 / 160), "rotation_deg": (12.0, -9.0, 27.0)},
}
GUARD = {
    "sphere": {"shape": "sphere"},
    "octahedron, no skin": {"shape": "octahedron", "core": 70 / 160, "shell": 130 / 160, "skin": 0},
    "thick skin": {"core": 50 / 160, "shell": 74 / 160, "skin": 90 / 160, "rotation_deg": (31.0, 12.0, -20.0)},
    "thin skin": {"skin": 82 / 160},
    "inverted": {"core_phase": 1, "shell_phase": 0, "skin_phase": 1, "rotation_deg": (8.0, -15.0, 4.0)},
}


def projected(cube):
    """Thickness of both phases, nm, (2, PIXELS, PIXELS), from a grid twice as fine."""
    volume = simulate.core_shell_nanocube(2 * PIXELS, BOX_NM / PIXELS / 2, oversample=3, **cube)
    return block_reduce(volume.sum(axis=2) * BOX_NM / PIXELS / 2, (1, 2, 2), np.mean)


def score(thickness_nm, seed, model):
    pixel_size_nm, step = BOX_NM / PIXELS, model.microscope.dispersion_eV
    low, core = simulate.dual_eels(thickness_nm, FLUENCE, pixel_size_nm=pixel_size_nm, seed=seed)
    start = time.perf_counter()
    found = standards.extract_standards(low, core, seed=seed)
    seconds = time.perf_counter() - start
    truth = model.references("M2,3")
    window = (found.energy_eV > 48) & (found.energy_eV < 90)
    angles = standards.spectral_angle_deg(found.references[:, window], truth[:, window] / step)
    clean, _ = simulate.dual_eels(thickness_nm, FLUENCE, pixel_size_nm=pixel_size_nm, noise=False, delocalisation=False)
    options = {"low_loss": clean, "window_eV": (40, 90), "nonnegative": False}
    maps = [fitting.fit_phases(clean, references=r, **options).coefficients for r in (found.references * step, truth)]
    maps = [np.moveaxis(m, -1, 0) for m in (*maps, np.moveaxis(thickness_nm, 0, -1))]
    particle, most = thickness_nm.sum(axis=0) > 0.5, thickness_nm.max(axis=(1, 2))
    bias = {}
    for name, other in (("brought by the standards", maps[1]), ("total", maps[2])):
        off = (maps[0] - other)[:, particle]
        bias[name] = {"mean": (off.mean(1) / most).tolist(), "rms": (np.sqrt((off**2).mean(1)) / most).tolist()}
    return {
        "seed": seed,
        "angle_deg": angles.tolist(),
        "bias": bias,
        "leakage": found.diagnostics.leakage.tolist(),
        "seconds": round(seconds, 1),
    }


def main():
    model, results, worst = simulate.SpectrumModel(), {}, {}
    for name, cube in (CUBES | GUARD).items():
        thickness_nm = projected(cube)
        results[name] = [score(thickness_nm, seed, model) for seed in (SEEDS if name in CUBES else GUARD_SEEDS)]
        worst[name] = {
            "angle_deg": max(max(r["angle_deg"]) for r in results[name]),
            **{kind: max(max(r["bias"][kind]["rms"]) for r in results[name]) for kind in results[name][0]["bias"]},
        }
        print(name, {k: round(v, 3) for k, v in worst[name].items()}, flush=True)

    def met(names):
        return all(worst[n][kind] <= 0.05 for n in names for kind in results[n][0]["bias"])

    target = {n: 3.0 if n == "default" else 5.0 for n in CUBES}
    record = {
        "what": "references found without standards, against the twin's truth; phases in the order FeO, Fe3O4",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": sys.version.split()[0], "numpy": np.__version__},
        "pixels": PIXELS,
        "fluence_e_per_A2": FLUENCE,
        "target_angle_deg": target,
        "angles_met": all(worst[n]["angle_deg"] <= target[n] for n in CUBES),
        "target_rms_bias": 0.05,
        "bias_met": met(CUBES),
        "guard_met": met(GUARD),
        "worst": worst,
        "cubes": {n: results[n] for n in CUBES},
        "guard": {n: results[n] for n in GUARD},
    }
    path = Path(__file__).parent / "results" / "standards.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
