"""Forward and back projection, 64 slices of 256²: this project's projector, ASTRA's CPU `linear`, scikit-image's radon.

Writes ``results/projector.json``: milliseconds for one forward and one back projection of all slices (best of several
runs; building the matrix is timed apart), accuracy against a disk's analytic projections, and memory of a large SIRT
run. All in one process, same threads. Scikit-image is timed on a few slices, and the time scaled.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from skimage.measure import block_reduce

from softeels_utils import chapters
from softeels_utils.tomography import ParallelBeam

N, SLICES = 256, 64


def best(function, repeats=5):
    """Shortest of several runs, seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def disk(radius=80.0, centre=(10.0, -17.0), oversample=8):
    """A disk on the grid, anti-aliased."""
    fine = (np.arange(N * oversample) + 0.5) / oversample - N / 2
    inside = (fine[:, None] - centre[0]) ** 2 + (fine - centre[1]) ** 2 < radius**2
    return block_reduce(inside, (oversample, oversample), np.mean).astype(np.float32)


def analytic(tilts, radius=80.0, centre=(10.0, -17.0)):
    """Exact projections of the disk, averaged over each detector pixel."""
    theta = np.deg2rad(tilts)[:, None]
    u = np.arange(N) - (N - 1) / 2 - (centre[1] * np.cos(theta) + centre[0] * np.sin(theta))

    def primitive(v):
        v = np.clip(v, -radius, radius)
        return v * np.sqrt(radius**2 - v**2) + radius**2 * np.arcsin(v / radius)

    return primitive(u + 0.5) - primitive(u - 0.5)


def ours(volume, tilts):
    A = ParallelBeam(N, tilts, device="cpu")
    began = time.perf_counter()
    projections = A(volume)
    built = time.perf_counter() - began
    return {
        "forward_ms": 1e3 * best(lambda: A(volume), 20), "back_ms": 1e3 * best(lambda: A.T(projections), 20),
        "build_s": built, "matrix_MB": A.nbytes / 1e6, "disk_rms": error(A(disk()[None])[:, 0], tilts),
    }  # fmt: skip


def astra_linear(volume, tilts):
    import astra

    geometry = astra.create_proj_geom("parallel", 1.0, N, -np.deg2rad(tilts))
    space = astra.create_vol_geom(N, N)
    projector = astra.create_projector("linear", geometry, space)

    def forward(image):
        number, sinogram = astra.create_sino(image, projector)
        astra.data2d.delete(number)
        return sinogram

    def back(sinogram):
        number, image = astra.create_backprojection(sinogram, projector)
        astra.data2d.delete(number)
        return image

    sinograms = [forward(image) for image in volume]
    return {
        "forward_ms": 1e3 * best(lambda: [forward(image) for image in volume], 2),
        "back_ms": 1e3 * best(lambda: [back(s) for s in sinograms], 2),
        "disk_rms": error(forward(disk()), tilts),
    }


def scikit_image(volume, tilts, slices=4):
    from skimage.transform import iradon, radon

    sinograms = [radon(image, theta=-tilts, circle=True) for image in volume[:slices]]
    scale = 1e3 * len(volume) / slices
    forward = best(lambda: [radon(image, theta=-tilts, circle=True) for image in volume[:slices]], 2)
    back = best(lambda: [iradon(s, theta=-tilts, filter_name=None, circle=True) for s in sinograms], 2)
    found = radon(disk(), theta=-tilts, circle=True).T
    return {"forward_ms": scale * forward, "back_ms": scale * back, "disk_rms": error(found, tilts)}


def error(found, tilts):
    exact = analytic(tilts)
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)))


def memory():
    """Peak memory and time of two SIRT iterations on 4 channels × 256 slices × 256², 29 views."""
    code = (
        "import resource, time, numpy as np; from softeels_utils.tomography import reconstruct\n"
        "p = np.random.default_rng(0).random((4, 29, 256, 256), np.float32)\n"
        "began = time.perf_counter()\n"
        "reconstruct(p, np.linspace(-70, 70, 29), 'sirt', iterations=2, progress=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter() - began)"
    )
    kilobytes, seconds = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    return {"case": "SIRT, 4 × 256 × 256², 29 views", "peak_GiB": int(kilobytes) / 1024**2, "seconds": float(seconds)}


if __name__ == "__main__":
    torch.set_num_threads(2)
    volume = np.random.default_rng(0).random((SLICES, N, N), dtype=np.float32)
    inside = np.hypot(*np.meshgrid(*[np.arange(N) - (N - 1) / 2] * 2)) < N / 2 - 1
    volume *= inside  # scikit-image wants zeros outside the circle
    rows = []
    for views in (9, 29):
        tilts = np.linspace(-70, 70, views)
        row = {"views": views, "ours": ours(volume, tilts)}
        for name, run in (("astra", astra_linear), ("skimage", scikit_image)):
            try:
                row[name] = run(volume, tilts)
            except ImportError:
                continue
            sums = [row[k]["forward_ms"] + row[k]["back_ms"] for k in (name, "ours")]
            row[f"times_faster_than_{name}"] = sums[0] / sums[1]
        rows.append(row)
        print(json.dumps(row, indent=1), flush=True)
    result = {
        "date": str(date.today()), "hardware": chapters.hardware(), "versions": chapters.versions(),
        "threads": torch.get_num_threads(), "slices": SLICES, "size": N, "runs": rows, "memory": memory(),
        "peak_GiB_of_this_benchmark": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
    }  # fmt: skip
    path = Path(__file__).parent / "results" / "projector.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(result["memory"])
