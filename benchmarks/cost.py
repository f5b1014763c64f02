"""What a series costs: time of one core for the fit of `reconstruct`, and for one member of its ensemble.

    OMP_NUM_THREADS=1 python benchmarks/cost.py        writes benchmarks/results/cost.json

The fit is that of the command: the dual-EELS twin's low loss on 1,024 channels, each pixel with the shapes of its own
low loss, and an error of the energy axis. A member is DIPm-TV of drawn maps, as in the records, which have larger ones;
here it shows how the time depends on the number of tilts. The peak of memory is reached within a few iterations, and
each is measured in a process of its own. Times are those of the processor: other work on the machine matters little.
"""

import json
import os
import platform
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from softeels_utils import fitting, scattering, simulate, spectra, study
from softeels_utils.tomography import ParallelBeam

PIXELS, TILTS, FLUENCE = 64, (-60.0, 0.0, 60.0), 4000.0
MEMBERS = ((32, 9), (32, 29), (64, 9), (64, 29))  # voxels per side, tilts
PEAKS = (64, 96, 128)  # voxels per side


def time_fit(repeats=3):
    """Spectra, channels of each, and the least seconds that the fit took."""
    size = 64.0 / PIXELS
    maps = ParallelBeam(PIXELS, TILTS, size)(simulate.core_shell_nanocube(PIXELS, size, oversample=2))
    low, _ = simulate.dual_eels(maps, FLUENCE, tilt_angles_deg=TILTS, pixel_size_nm=size, seed=0)
    system, energy = scattering.load_system("iron_oxides"), spectra.energy_axis(low)
    references, seconds = simulate.spectrum_model().references("M2,3"), []
    for _ in range(repeats):
        began = time.process_time()
        fitting.fit_phases(
            low,
            None,
            references,
            low_loss=low,
            **system.edge("M2,3").fit_options,
            nonnegative=False,
            shift_error_eV=float(energy[1] - energy[0]) / 12**0.5,
            scale_covariance=True,
        )
        seconds.append(time.process_time() - began)
    return {"spectra": PIXELS**2 * len(TILTS), "channels": len(energy), "seconds": round(min(seconds), 3)}


def time_member(n, views):
    """Seconds of one network on maps (2, views, n, n)."""
    case = study.make_case(n, views, FLUENCE, seed=0)
    found = study.run_method("DIPm-TV", case, seed=0, oracle=False)
    return {"n": n, "views": views, "seconds": round(found.seconds, 1)}


def peak_of_member(n):
    """Peak of memory of one network on nine maps (2, 9, n, n)."""
    case = study.make_case(n, 9, FLUENCE, seed=0)
    study.run_method("DIPm-TV", case, seed=0, oracle=False, network={"iterations": 3})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"n": n, "gigabytes": round(peak / 1e9, 3)}


def alone(function, *arguments):
    """The result of a function in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(function, *arguments).result()
    print(found, flush=True)
    return found


def main():
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("set OMP_NUM_THREADS=1: the times are those of one core")
    result = {
        "what": "seconds of one core: the fit of reconstruct, and one member of an ensemble on maps of two phases",
        "fit": time_fit(),
        "members": [alone(time_member, *size) for size in MEMBERS],
        "peaks": [alone(peak_of_member, n) for n in PEAKS],
    }
    result |= {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "hardware": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
    }
    path = Path(__file__).parent / "results" / "cost.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
