"""Speed of `fit_phases` against HyperSpy's linear `multifit`, on the same spectra, in one run.

    python benchmarks/fitting.py                    writes benchmarks/results/fitting.json
    python benchmarks/fitting.py --energy-errors    measures what errors of the energy axis cost, and adds it

Spectra of the twin's two iron oxides around Fe-M2,3 on 1,024 channels, two phases and three background shapes, as a
user meets them: counts of unequal thickness, a third of the pixels with a phase missing. Each case is timed several
times, the fastest counts. HyperSpy is given the same shapes as fixed patterns; where it goes pixel by pixel (a noise
variance for each pixel), fewer pixels are timed and the rate is compared. What shift and broadening of each pixel cost
is told in seconds of the processor, in which other programs on the machine matter less.
"""

import json
import os
import platform
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from softeels_utils.fitting import background_shapes, fit_phases
from softeels_utils.simulate import spectrum_model

CHANNELS, PIXELS, SEED = 1024, 30_000, 0
PATH = Path(__file__).parent / "results" / "fitting.json"


def make_spectra():
    model = spectrum_model()
    energy = np.linspace(42, 88, CHANNELS)
    resample = lambda y: np.stack([np.interp(energy, model.low_energy_eV, row) for row in y])  # noqa: E731
    references = resample(model.references("M2,3"))
    rng = np.random.default_rng(SEED)
    thickness = rng.uniform(1, 25, (PIXELS, 2)) * (rng.random((PIXELS, 2)) > 0.2)
    level, slope = resample(model.background(np.eye(2) * 10.0, "M2,3")).mean(0), rng.uniform(0.5, 1.5, (PIXELS, 1))
    electrons = 2e5
    counts = rng.poisson(electrons * (thickness @ references + slope * level)).astype(np.float32)
    return energy, electrons * references, counts


def rate(function, spectra, repeats=7):
    """Spectra per second, the fastest of some runs (the first warms up)."""
    function(spectra[:1000])
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(spectra)
        seconds.append(time.perf_counter() - start)
    return len(spectra) / min(seconds)


def processor_rates(energy, references, counts, repeats=5):
    """Spectra per second of the processor without and with shift and broadening of each pixel, in turns."""
    errors = {"shift_error_eV": 0.1, "broadening_error_eV": 0.3}
    cases = {
        "non-negative": {},
        "non-negative, shift and broadening": errors,
        "free": {"nonnegative": False},
        "free, shift and broadening": {"nonnegative": False} | errors,
    }
    least = dict.fromkeys(cases, np.inf)
    for _ in range(repeats):
        for name, options in cases.items():
            start = time.process_time()
            fit_phases(counts, energy, references, **options)
            least[name] = min(least[name], time.process_time() - start)
    return {name: round(len(counts) / seconds) for name, seconds in least.items()}


def hyperspy_rate(counts, energy, shapes, optimizer, *, errors, weighted, repeats=3):
    """`multifit` of the same linear model; building the model is not timed."""
    import hyperspy.api as hs

    def signal(data):
        s = hs.signals.Signal1D(np.asarray(data, dtype=float))
        s.axes_manager[-1].offset, s.axes_manager[-1].scale = energy[0], energy[1] - energy[0]
        return s

    image = signal(counts)
    if weighted:
        image.set_noise_variance(signal(np.maximum(counts, 1)))
    model = image.create_model()
    for number, shape in enumerate(shapes):
        component = hs.model.components1D.ScalableFixedPattern(signal(shape))
        component.name = f"c{number}"
        component.shift.free = component.xscale.free = False
        model.append(component)
    return rate(lambda _: model.multifit(optimizer=optimizer, calculate_errors=errors), counts, repeats)


def nnls_agreement(counts, energy, references, n=200):
    """Largest relative difference to SciPy's NNLS on the weighted problem, and its rate."""
    tail = background_shapes(energy)
    variance = np.maximum(counts[:n], 1.0)
    fit = fit_phases(counts[:n], energy, references, variance=variance)
    got = np.concatenate([fit.coefficients, fit.background], axis=-1)
    design = np.concatenate([references, tail, -tail])
    start = time.perf_counter()
    x = np.array(
        [nnls((design / s).T, y / s, maxiter=1000)[0] for y, s in zip(counts[:n], np.sqrt(variance), strict=True)]
    )
    seconds = time.perf_counter() - start
    k, p = len(references), len(tail)
    want = np.concatenate([x[:, :k], x[:, k : k + p] - x[:, k + p :]], axis=1)
    return float((np.abs(got - want) / np.abs(want).max(axis=1, keepdims=True)).max()), n / seconds


def main():
    warnings.simplefilter("ignore")
    import hyperspy
    import hyperspy.api as hs
    import scipy

    hs.preferences.General.show_progressbar = False
    load = os.getloadavg()[0]
    energy, references, counts = make_spectra()
    shapes = np.concatenate([references, background_shapes(energy)])
    ours = {
        "non-negative, Poisson, covariance": rate(lambda y: fit_phases(y, energy, references), counts),
        "free, Poisson, covariance": rate(lambda y: fit_phases(y, energy, references, nonnegative=False), counts),
        "non-negative, equal weights, covariance": rate(
            lambda y: fit_phases(y, energy, references, variance=1.0), counts
        ),
        "free, equal weights, covariance": rate(
            lambda y: fit_phases(y, energy, references, variance=1.0, nonnegative=False), counts
        ),
    }
    cases = {
        "nnls, a variance for each pixel": dict(optimizer="nnls", errors=True, weighted=True, n=150),
        "nnls, equal weights, errors": dict(optimizer="nnls", errors=True, weighted=False, n=6000),
        "nnls, equal weights, no errors": dict(optimizer="nnls", errors=False, weighted=False, n=6000),
        "lstsq, a variance for each pixel": dict(optimizer="lstsq", errors=True, weighted=True, n=150),
        "lstsq, equal weights, errors": dict(optimizer="lstsq", errors=True, weighted=False, n=PIXELS),
        "lstsq, equal weights, no errors": dict(optimizer="lstsq", errors=False, weighted=False, n=PIXELS),
    }
    theirs = {}
    for name, case in cases.items():
        n = case.pop("n")
        theirs[name] = hyperspy_rate(counts[:n], energy, shapes, **case)
    difference, scipy_rate = nnls_agreement(counts, energy, references)
    pairs = {
        "nnls, a variance for each pixel": "non-negative, Poisson, covariance",
        "nnls, equal weights, errors": "non-negative, equal weights, covariance",
        "nnls, equal weights, no errors": "non-negative, equal weights, covariance",
        "lstsq, a variance for each pixel": "free, Poisson, covariance",
        "lstsq, equal weights, errors": "free, equal weights, covariance",
        "lstsq, equal weights, no errors": "free, equal weights, covariance",
    }
    kept = json.loads(PATH.read_text()).get("per_second_of_processor") if PATH.exists() else None
    result = {
        "what": f"{PIXELS} spectra of {CHANNELS} channels, 2 phases + 3 background shapes; spectra per second",
        "fit_phases": {name: round(value) for name, value in ours.items()},
        "hyperspy_multifit": {name: round(value, 1) for name, value in theirs.items()},
        "times_faster_like_for_like": {name: round(ours[pairs[name]] / theirs[name], 1) for name in cases},
        "scipy_nnls_one_by_one": round(scipy_rate),
        "largest_relative_difference_to_scipy_nnls": difference,
        "seed": SEED,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load_before": round(load, 1),  # above 0.5 the machine was not ours alone: rates are too low
        "hardware": platform.processor() or platform.machine(),
        "versions": {
            "python": sys.version.split()[0],
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "hyperspy": hyperspy.__version__,
        },
    }
    write(result | ({"per_second_of_processor": kept} if kept else {}))


def add_energy_errors():
    """Measure what errors of the energy axis cost, and add it to the record."""
    load = os.getloadavg()[0]
    energy, references, counts = make_spectra()
    rates = processor_rates(energy, references, counts[:6000])
    about = {"load_before": round(load, 1), "date": datetime.now(UTC).strftime("%Y-%m-%d")}
    write(json.loads(PATH.read_text()) | {"per_second_of_processor": {"Poisson, covariance": rates} | about})


def write(result):
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    add_energy_errors() if sys.argv[1:] == ["--energy-errors"] else main()
