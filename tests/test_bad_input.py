"""Bad input at every door: a `ValueError` or `TypeError` that names the argument, before any work, and nothing hangs.

`DOORS` is the table: a function, arguments that it takes, and the kinds of badness that each argument may have. To add
a function is one entry. Hypothesis draws the bad values, the same in every run.
"""

import enum
import inspect
import os
import re
import shutil
import signal
import struct
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softeels_utils import (
    data,
    dip,
    dose,
    fitting,
    metrics,
    pipeline,
    plotting,
    scattering,
    simulate,
    spectra,
    standards,
    tomography,
)

EXAMPLES = 2  # of each kind of badness
SECONDS = 5.0  # until an answer

# ---------------------------------------------------------------- kinds of badness, each from a valid value


def somewhere(*values):
    """The valid array with a bad value at one place."""

    @st.composite
    def strategy(draw, valid):
        array = np.array(valid, float)
        array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from(values))
        return array

    return strategy


def one_of(*values):
    return lambda valid: st.sampled_from(values)


@st.composite
def other_rank(draw, valid):
    array = np.asarray(valid)
    return draw(st.sampled_from([array[None, None], array[..., None, None], array[(0,) * array.ndim], array[:0]]))


@st.composite
def other_length(draw, valid):
    array = np.asarray(valid)
    axis = draw(st.integers(0, array.ndim - 1))
    return draw(st.sampled_from([array.take(range(array.shape[axis] - 1), axis), np.concatenate([array, array], axis)]))


@st.composite
def bad_tilts(draw, valid):
    tilts = np.array(valid, float)
    twice = tilts.copy()
    twice[draw(st.integers(1, tilts.size - 1))] = tilts[0]
    same = np.full_like(tilts, draw(st.floats(-90, 90)))
    return draw(st.sampled_from([twice, same, np.deg2rad(tilts), tilts + 1e8, tilts * 100, tilts[:-1], tilts[:1]]))


@st.composite
def bad_mask(draw, valid):
    mask = np.asarray(valid)
    wrong = [mask.astype(float), mask.astype(int), np.zeros_like(mask), mask[..., :-1], mask.astype(complex), "all"]
    return draw(st.sampled_from(wrong))


@st.composite
def bad_covariance(draw, valid):
    good = np.array(valid, float)
    skew = good.copy()
    skew[0, -1] += draw(st.floats(1, 10)) * np.abs(good).max()
    return draw(
        st.sampled_from([skew, 0 * good, -good, 1e300 * good, good * 1j, good[:1], np.nan * good, "identity", 0])
    )


TEXT = one_of("twelve", ["a", "b"], {"a": 1}, object())
KINDS: dict[str, Callable[[Any], st.SearchStrategy]] = {
    "nan": somewhere(np.nan, np.inf, -np.inf),
    "huge": somewhere(1e300, -1e300),
    "complex": lambda valid: st.just(np.asarray(valid) * (1 + 1j)),
    "text": TEXT,
    "ragged": one_of([[1.0, 2.0], [3.0]]),
    "rank": other_rank,
    "length": other_length,
    "none": one_of(None),
    "zeros": lambda valid: st.sampled_from([np.zeros_like(valid), np.full_like(valid, 3)]),
    "negative": somewhere(-1.0, -0.3),
    "tilts": bad_tilts,
    "mask": bad_mask,
    "covariance": bad_covariance,
    "positive": one_of(0, -1.0, np.nan, np.inf, 1e300, 1e-300, "1", 1j, [1.0, 2.0], True),
    "at least 0": one_of(-1.0, np.nan, np.inf, 1e300, "1", 1j, [1.0, 2.0]),
    "count": one_of(0, -1, 1.5, np.nan, "3", True, [2], 10**12),
    "fraction": one_of(-0.1, 1.5, np.nan, np.inf, "half", 1j, [0.1, 0.2]),
    "flag": one_of(2, "yes", np.nan, [True, False]),
    "choice": one_of("nonsense", 3, ["tv"], 1j, b"tv"),
    "seed": one_of(-1, 1.5, "a", np.nan, [1.0, 2.0], "1"),
    "window": one_of((60.0, 50.0), (np.nan, 60.0), (50.0,), "ab", (50.0, 60.0, 70.0), (1e6, 2e6), 5.0),
    "bounds": one_of((np.nan, None), (1.0, 0.0), (0.0, np.inf), ("0", "1"), (0.0,), 1.0, (0.0, 1e300)),
    "device": one_of("nonsense", 1j, "cuda:99:1"),
    "names": one_of("twelve", ["a"], ("a", "b", "c"), (1, 2), None, 3),
    "object": one_of(3, "measurement", None, np.zeros((2, 2))),
    "other kind": one_of(3, "measurement", np.zeros((2, 2))),  # where None is a default
    "path": one_of(3, b"a", "", "a\0b"),
    "folder": one_of(3, b"a", "", "a\0b", "/proc/none/c.npz"),
    "voids": one_of(3, "a", [3], [{}], [{"center": 3, "radius": 1}], [{"center": (1, 2, 3), "radius": -1}]),
    "below the edge": one_of((10.0, 20.0), (700.0, 706.0)),
    "no signal": one_of(3, "a.hspy", object()),
    "dtype": one_of("nonsense", "complex64", object, None, 3),
    "nothing": lambda valid: st.just(np.zeros_like(valid)),
    "number": one_of(np.nan, np.inf, "0", 1j, [0.0]),
    "thin": one_of(np.zeros(3), np.zeros((2, 8, 8, 9)), 3, None),
    "features": one_of("void", ("x",), 3, None),
    "words": one_of(3, b"nm", ["a"], object()),
    "empty": lambda valid: st.just(np.zeros(0)),
    "plain name": one_of(3, None, "", "..", "../a", "a/b"),
    "plain names": one_of(3, None, "ab", ["../a"], ["a", "a"], [3]),
    "paths": one_of(3, None, "a", [3], ["/none/a"]),
    "no JSON": one_of({"a": object()}, {"a": {1, 2}}),
    "members": one_of("abc", np.zeros((2, 2)), np.zeros((3, 2, 8, 8, 9))),
    "file": one_of(3, b"", "a\0b", [], 1.5),
    "mapping": one_of(3, "abc", [1, 2], np.ones(3)),
    "no type": one_of("nonsense", 3, object()),
    "pair": one_of(3, (1.0,), ("a", "b"), (1.0, 2.0, 3.0), {}),
    "scalar": one_of(3, 1.5, object(), "a"),
    "tensor": one_of(torch.zeros(3), torch.zeros(2, 3, 8, 9), torch.zeros(1, 2, 5, 8)),
    "unknown": one_of(3, "nonsense", "", "a/b", ["lsmo_dual_eels"], object()),
    "function": one_of(3, "print", {}),
    "series": one_of(3, "a", None, [], [3], [(np.ones(3), np.ones(3))], [(1, 2, 3)]),
}
ARRAY = "nan huge complex text ragged rank"


# ---------------------------------------------------------------- the doors


@dataclass(frozen=True)
class Door:
    """A function, keyword arguments that it takes, and the kinds of badness of each argument."""

    function: Callable[..., Any]
    valid: dict[str, Any]
    bad: dict[str, str]


RNG = np.random.default_rng(0)
TILTS = np.linspace(-60, 60, 5)
VOLUME = np.zeros((2, 8, 8, 8), np.float32)
VOLUME[0, 2:6, 2:6, 2:6], VOLUME[1, 3:5, 3:5, 3:5] = 0.7, 0.2
MAPS = tomography.ParallelBeam(8, TILTS)(VOLUME) + RNG.normal(0, 0.05, (2, 5, 8, 8)).astype(np.float32)
MASK = RNG.random(MAPS.shape[1:]) < 0.9
LOW_EV, EV = -10 + 0.5 * np.arange(200), 45 + 0.25 * np.arange(160)
LOW = 1e4 * np.exp(-0.5 * LOW_EV**2) + 200 * np.exp(-0.5 * ((LOW_EV - 22) / 5) ** 2) + RNG.random((3, 4, 200))
REFERENCES = np.exp(-0.5 * ((EV - np.array([[56.0], [59.0]])) / 2) ** 2)
COUNTS = RNG.poisson(1000 * (EV / 50) ** -3.0 + RNG.random((3, 4, 2)) @ (300 * REFERENCES))
BIG = RNG.random((40, 40, 40))


def measured(function):
    """An algorithm behind `Measurement`, with plain arrays."""
    return lambda **keywords: function(tomography.Measurement(MAPS, TILTS), **keywords)


@cache
def linear():
    return dose.linear_model(simulate.spectrum_model(), 1e4)


GEOMETRY = {
    "projections": ARRAY, "tilt_angles_deg": ARRAY + " tilts", "covariance": "covariance", "mask": "mask",
    "voxel_size_nm": "positive", "shifts_px": ARRAY + " length", "device": "device",
}  # fmt: skip
SERIES = {
    "projections": MAPS, "tilt_angles_deg": TILTS, "covariance": np.diag([0.1, 0.2]), "mask": MASK,
    "voxel_size_nm": 1.0, "shifts_px": np.zeros((5, 2)), "device": None,
}  # fmt: skip
LOOP = {"iterations": "count", "callbacks": "text", "initial": ARRAY + " length"}
LOOPED = {"iterations": 2, "callbacks": (), "initial": VOLUME}
PAIR = {"volume": ARRAY + " length", "truth": ARRAY + " length"}
VOLUMES = {"volume": VOLUME + 0.01, "truth": VOLUME}
LOW_LOSS = {"low_loss": "complex text ragged", "energy_eV": "nan complex text length rank none"}
LOW_VALID = {"low_loss": LOW, "energy_eV": LOW_EV}
SPECTRA = {"spectra": "complex text ragged", "energy_eV": "nan complex text length rank none"}
SPECTRA_VALID = {"spectra": COUNTS, "energy_eV": EV}
KV = {"beam_energy_keV": "positive", "collection_mrad": "positive"}
KV_VALID = {"beam_energy_keV": 300.0, "collection_mrad": 40.0}


def model(**keywords):
    return simulate.spectrum_model(**keywords)


def bound(**keywords):
    return dose.phase_bound(simulate.spectrum_model(), **keywords)


def plan(**keywords):
    return dose.plan_tilt_series(simulate.spectrum_model(), **keywords)


def feature(**keywords):
    return dip.feature_test(tomography.Measurement(MAPS, TILTS, covariance=[0.1, 0.1]), **keywords)


@cache
def maps_file():
    """A file of maps with nothing but the maps."""
    path = Path(tempfile.mkdtemp()) / "maps.npz"
    np.savez(path, projections=MAPS)
    return path


def closed(function):
    """A figure of Matplotlib that is not kept."""

    def draw(**keywords):
        try:
            return function(**keywords)
        finally:
            plt.close("all")

    return draw


IN_NM = {"voxel_size_nm": 0.4}
DRAWS = fitting.ReferenceDraws(np.eye(2) + 0.01 * RNG.normal(size=(9, 2, 2)))
PARTS = {name: VOLUME for name in ("best", "std", "systematic")}


@cache
def folder_of_steps():
    """A folder for a chain of steps."""
    return Path(tempfile.mkdtemp())


@cache
def folder():
    return pipeline.Folder(folder_of_steps(), report=lambda line: None)


def written(folder=None, **keywords):
    """A volume in files, by default of a folder that is removed again."""
    with tempfile.TemporaryDirectory() as place:
        return pipeline.write_volume(place if folder is None else folder, **keywords)


IRON = scattering.load_system("iron_oxides")
SEEN = tomography.Measurement(MAPS, TILTS)
NOTHING = torch.zeros(SEEN.volume_shape)
DISC = tomography.disc([4, 4, 4], [1, 0, 0], 3.0)
NETWORK = {"variant": "voxels", "iterations": 1, "initial_tv_weight": 0.0, "correction_tv_weight": 0.0}


@cache
def dual():
    """Low and core loss of a small specimen of two phases."""
    nm = 10 * np.ones((2, 10, 10)) + np.linspace(-9, 9, 10) * np.array([1, -1])[:, None, None]
    return simulate.dual_eels(nm, 2e4, seed=1, progress=False)


def prepared(**keywords):
    low, core = dual()
    return standards.prepare_dual_eels(low, core, **keywords)


def extracted(**keywords):
    """What so few pixels hold is not enough, which is refused last."""
    try:
        return standards.extract_standards(*dual(), **keywords)
    except ValueError as error:
        if not str(error).startswith(("low_loss: ", "core_loss: ")):
            raise


def on_core(function):
    return lambda **keywords: function(dual()[1], **keywords)


L23_EV = 640 + 0.5 * np.arange(200)
L23 = np.exp(-0.5 * ((L23_EV - 708) / 1.5) ** 2) + 0.4 * np.exp(-0.5 * ((L23_EV - 721) / 1.5) ** 2) + 0.01
PURE = {"FeO": (EV, REFERENCES[0] + 0.01), "Fe3O4": (EV, REFERENCES[1] + 0.01)}
HALVES = {"FeO": np.arange(100).reshape(10, 10) < 50, "Fe3O4": np.arange(100).reshape(10, 10) >= 50}
PIXELS = np.full((3, 4), True)
CORE_EV = 500 + 0.5 * np.arange(800)
CORE = 1e-6 * (CORE_EV / 500) ** -3.0 + 1e-8 * (CORE_EV > 532) + 1e-8 * (CORE_EV > 709)
PLANE, SCORES = RNG.random((2, 20)), RNG.random((40, 2))
KNOWN = fitting.ReferenceDraws(np.zeros((0, 2, 2)), np.ones((1, 2)), np.ones((1, 2)))
MEMBERS = dip.EnsembleResult(
    best=VOLUME, mean=VOLUME, std=VOLUME, members=np.stack([VOLUME, 0.9 * VOLUME]), stopped_at=(1, 1),
    reasons=("a", "b"), scale=np.ones((2, 2)), systematic=VOLUME, transformed=np.zeros((0, *VOLUME.shape)),
    unit=np.ones(2),
)  # fmt: skip


@cache
def recorded():
    """Low and core loss that reach from the zero loss to L2,3."""
    return simulate.dual_eels(10 * np.ones((2, 3, 3)), 2e4, seed=1, progress=False)


@cache
def plain_model():
    return simulate.spectrum_model()


REGION = np.zeros((8, 8, 8), bool)
REGION[3:5, 3:5, 3:5] = True
HOLE = np.where(REGION, 0, VOLUME)

DOORS = {
    # scattering, dose
    "partial_cross_section": Door(
        scattering.partial_cross_section,
        {"element": "Fe", "edge": "M2,3", "window_eV": (53.0, 73.0), **KV_VALID},
        {"edge": "choice", "window_eV": "window", **KV},
    ),
    "inelastic_mean_free_path": Door(
        scattering.inelastic_mean_free_path, {"density_g_cm3": 5.2, **KV_VALID}, {"density_g_cm3": "positive", **KV}
    ),
    "signal_ratio": Door(
        dose.signal_ratio, {"edge_a": "M2,3", "window_a_eV": (53.0, 73.0), **KV_VALID},
        {"edge_a": "choice", "window_a_eV": "window", **KV},
    ),
    "phase_bound": Door(
        bound,
        {"fluence_e_per_A2": 1e4, "edge": "M2,3", "thickness_nm": (10.0, 10.0), "pixel_size_nm": 0.4, "gain": 1.0,
         "readout_counts": 0.0, "window_eV": (45.0, 75.0)},
        {"fluence_e_per_A2": "positive", "edge": "choice", "thickness_nm": ARRAY + " length negative",
         "gain": "positive", "pixel_size_nm": "positive", "readout_counts": "at least 0", "window_eV": "window"},
    ),
    "plan_tilt_series": Door(
        plan,
        {"total_fluence_e_per_A2": 1e5, "diameter_nm": 34.0, "feature_nm": 2.0, "tilt_range_deg": 140.0,
         "tilts": (5, 9), "target_error_nm": 5.0},
        {"total_fluence_e_per_A2": "positive", "diameter_nm": "positive", "feature_nm": "positive",
         "tilt_range_deg": "positive", "tilts": "nan complex text rank", "target_error_nm": "positive"},
    ),
    "shot_noise_ratio": Door(
        dose.shot_noise_ratio, {"thickness_nm": (10.0, 10.0), "background_factor": 1.0},
        {"thickness_nm": ARRAY + " length negative", "background_factor": "at least 0"},
    ),
    "error_ellipse": Door(
        dose.error_ellipse, {"covariance": np.array([[2.0, 1.0], [1.0, 2.0]]), "sigmas": 1.0, "points": 20},
        {"covariance": "covariance", "sigmas": "positive", "points": "count"},
    ),
    "simulate_counts": Door(
        lambda **keywords: dose.simulate_counts(linear(), **keywords), {"draws": 2, "seed": 0},
        {"draws": "count", "seed": "seed"},
    ),
    # simulate
    "core_shell_nanocube": Door(
        simulate.core_shell_nanocube,
        {"n": 8, "voxel_size_nm": 0.4, "shape": "cube", "core": 0.25, "void_center": (0.0, 0.1, 0.1), "oversample": 2,
         "rotation_deg": (5.0, 7.0, 13.0), "unit": "box", "core_phase": 0},
        {"n": "count", "voxel_size_nm": "positive", "shape": "choice", "core": "at least 0", "oversample": "count",
         "void_center": ARRAY + " length", "rotation_deg": ARRAY + " length", "unit": "choice",
         "core_phase": "at least 0"},
    ),
    "dual_eels": Door(
        lambda **keywords: simulate.dual_eels(**keywords, microscope=simulate.Microscope(channels=64), progress=False),
        {"projections_nm": 5 * np.ones((2, 3, 2, 2)), "fluence_e_per_A2": 1e3, "tilt_angles_deg": TILTS[:3],
         "pixel_size_nm": 0.4, "carbon_nm": 0.0, "drift_eV": 0.0, "seed": 0, "chunk_pixels": 4},
        {"projections_nm": ARRAY + " negative", "fluence_e_per_A2": "nan negative complex text",
         "pixel_size_nm": "positive",
         "tilt_angles_deg": ARRAY + " length", "carbon_nm": "at least 0", "drift_eV": "at least 0", "seed": "seed",
         "chunk_pixels": "count"},
    ),
    "project_fine": Door(
        simulate.project_fine,
        {"fine": VOLUME, "tilt_angles_deg": TILTS, "voxel_size_nm": 1.0, "shifts_px": np.zeros((5, 2)),
         "axis_angle_deg": 0.0},
        {"fine": ARRAY, "tilt_angles_deg": ARRAY, "voxel_size_nm": "positive", "shifts_px": ARRAY + " length",
         "axis_angle_deg": "text"},
    ),
    "Microscope": Door(
        simulate.Microscope, {"energy_resolution_eV": 0.7, "dispersion_eV": 0.25, "channels": 64, **KV_VALID},
        {"energy_resolution_eV": "positive", "dispersion_eV": "positive", "channels": "count", **KV},
    ),
    "Detector": Door(
        simulate.Detector, {"gain": 1.0, "readout_counts": 0.0, "spike_rate": 0.0},
        {"gain": "positive", "readout_counts": "at least 0", "spike_rate": "fraction"},
    ),
    "draw_specimen": Door(
        simulate.draw_specimen, {"seed": 0, "half": "tune", "n": 8, "box_nm": 64.0},
        {"seed": "seed", "half": "choice", "n": "count", "box_nm": "positive"},
    ),
    # spectra
    "zero_loss_position": Door(
        spectra.zero_loss_position, {**LOW_VALID, "smoothing_eV": 0.5}, {**LOW_LOSS, "smoothing_eV": "at least 0"}
    ),
    "align_zero_loss": Door(
        spectra.align_zero_loss, {**LOW_VALID, "method": "linear", "smoothing_eV": 0.5},
        {**LOW_LOSS, "method": "choice", "smoothing_eV": "at least 0"},
    ),
    "shift_spectra": Door(
        spectra.shift_spectra, {**SPECTRA_VALID, "shift_eV": np.ones((3, 4)), "method": "linear"},
        {**SPECTRA, "shift_eV": "nan huge complex text ragged length", "method": "choice"},
    ),
    "fit_background": Door(
        spectra.fit_background, {**SPECTRA_VALID, "window_eV": (46.0, 52.0), "model": "power_law", "iterations": 3},
        {**SPECTRA, "window_eV": "window", "model": "choice", "iterations": "count"},
    ),
    "remove_background": Door(
        spectra.remove_background, {**SPECTRA_VALID, "window_eV": (46.0, 52.0), "model": "power_law"},
        {**SPECTRA, "window_eV": "window", "model": "choice"},
    ),
    "find_spikes": Door(
        spectra.find_spikes, {"spectra": COUNTS, "threshold": 8.0, "width": 3, "readout_noise": 0.0, "gain": 1.0},
        {"spectra": "complex text ragged", "threshold": "positive", "width": "count", "readout_noise": "at least 0",
         "gain": "positive"},
    ),
    "find_rare_spikes": Door(
        spectra.find_rare_spikes, {"spectra": COUNTS, "threshold": 10.0, "width": 3},
        {"spectra": "complex text ragged", "threshold": "positive", "width": "count"},
    ),
    "remove_spikes": Door(
        spectra.remove_spikes, {"spectra": COUNTS, "mask": COUNTS > 1e9},
        {"spectra": "complex text ragged", "mask": "text ragged length nan"},
    ),
    "noise_gain": Door(
        spectra.noise_gain, {**SPECTRA_VALID, "window_eV": (62.0, 80.0), "block": 4},
        {**SPECTRA, "window_eV": "window", "block": "count"},
    ),
    "zero_loss": Door(spectra.zero_loss, {**LOW_VALID, "split_eV": 3.0}, {**LOW_LOSS, "split_eV": "positive"}),
    "relative_thickness": Door(spectra.relative_thickness, LOW_VALID, LOW_LOSS),
    "fourier_log": Door(spectra.fourier_log, LOW_VALID, LOW_LOSS),
    "repeated_losses": Door(
        spectra.repeated_losses, {**LOW_VALID, "below_eV": 40.0}, {**LOW_LOSS, "below_eV": "positive"}
    ),
    "fourier_ratio": Door(
        spectra.fourier_ratio,
        {"core_loss": LOW, "low_loss": LOW, "energy_eV": LOW_EV + 500, "low_loss_energy_eV": LOW_EV},
        {"core_loss": "complex text", "low_loss": "complex text", "energy_eV": "nan text length",
         "low_loss_energy_eV": "nan text length"},
    ),
    "convolve_low_loss": Door(
        spectra.convolve_low_loss,
        {"references": np.ones((2, 200)), "low_loss": LOW, "energy_eV": LOW_EV + 50, "low_loss_energy_eV": LOW_EV,
         "zero_loss_peak": "delta"},
        {"references": "nan huge complex text", "low_loss": "complex text", "energy_eV": "nan text length",
         "low_loss_energy_eV": "nan text length", "zero_loss_peak": "choice"},
    ),
    "cut_off_fraction": Door(spectra.cut_off_fraction, {"spectra": COUNTS}, {"spectra": "complex text ragged"}),
    "find_bad_channels": Door(
        spectra.find_bad_channels, {"spectra": COUNTS, "inside": EV > 50, "gain": 1.0},
        {"spectra": "complex text ragged", "inside": "length text nan", "gain": "positive"},
    ),
    "mend_channels": Door(
        spectra.mend_channels, {"spectra": COUNTS, "channels": np.array([3])},
        {"spectra": "complex text ragged", "channels": "nan huge negative complex text"},
    ),
    "window_mask": Door(
        spectra.window_mask, {"energy": EV, "window_eV": (50.0, 60.0)}, {"energy": ARRAY, "window_eV": "window"}
    ),
    # fitting
    "fit_phases": Door(
        fitting.fit_phases,
        {**SPECTRA_VALID, "references": REFERENCES, "background": "plasmon_tail", "nonnegative": True,
         "nonnegative_background": False, "variance": None, "gain": 1.0, "readout_noise": 0.0,
         "window_eV": (45.0, 80.0), "exposure_ratio": 1.0, "electrons": 1.0, "shift_error_eV": 0.0,
         "broadening_error_eV": 0.0, "scale_covariance": False, "tolerance": 1e-2, "max_iterations": 12},
        {**SPECTRA, "references": ARRAY + " none", "background": "choice", "nonnegative": "text",
         "nonnegative_background": "flag", "variance": "text ragged", "gain": "positive", "readout_noise": "at least 0",
         "window_eV": "window", "exposure_ratio": "positive", "electrons": "positive", "shift_error_eV": "at least 0",
         "broadening_error_eV": "at least 0", "scale_covariance": "flag", "tolerance": "positive",
         "max_iterations": "count"},
    ),
    "background_shapes": Door(
        fitting.background_shapes, {"energy_eV": EV, "background": np.ones((2, EV.size))},
        {"energy_eV": "nan complex text rank", "background": ARRAY + " choice"},
    ),
    "sweep_windows": Door(
        fitting.sweep_windows,
        {**SPECTRA_VALID, "references": REFERENCES, "starts_eV": [46.0], "ends_eV": [75.0], "mask": PIXELS},
        {**SPECTRA, "references": ARRAY, "starts_eV": ARRAY, "ends_eV": ARRAY, "mask": "length nan text"},
    ),
    "fit_phases, names": Door(
        fitting.fit_phases, {**SPECTRA_VALID, "references": REFERENCES, "phases": ("A", "B"), "zero_loss_peak": "keep"},
        {"phases": "names", "zero_loss_peak": "choice"},
    ),
    "ReferenceDraws": Door(
        fitting.ReferenceDraws,
        {"transforms": np.ones((4, 2, 2)), "metal_per_nm3": np.ones((5, 2)), "valence": np.ones((5, 2))},
        {"transforms": "nan huge complex text ragged", "metal_per_nm3": ARRAY + " length",
         "valence": ARRAY + " length"},
    ),
    "Estimate": Door(
        fitting.Estimate, {"value": np.ones(3), "statistical": np.ones(3), "systematic": np.ones(3)},
        {"value": "complex text ragged none", "statistical": "complex text ragged rank length none",
         "systematic": "complex text ragged rank length none"},
    ),
    "Acquisition": Door(
        dose.Acquisition,
        {"edge": "M2,3", "thickness_nm": (10.0, 10.0), "pixel_size_nm": 0.4, "window_eV": (45.0, 75.0),
         "background": "power_law", "readout_counts": 0.0, "gain": 1.0, "spectrum": EV},
        {"edge": "choice", "thickness_nm": "nan huge complex text ragged negative empty", "pixel_size_nm": "positive",
         "window_eV": "window", "background": "choice", "readout_counts": "at least 0", "gain": "positive",
         "spectrum": ARRAY},
    ),
    "sweep": Door(
        dose.sweep, {"parameter": "collection_mrad", "values": [20.0]},
        {"parameter": "choice", "values": "nan negative text complex"},
    ),
    # standards
    "Chemistry": Door(
        standards.Chemistry,
        {"vacancies": 0.1, "most_vacancies": 0.1, "oxidised_vacancies": 0.1, "most_oxidised_vacancies": 0.1,
         "oxidised_probability": 0.3, "valence_strength": 1.0, "valence_strength_uncertainty": 0.1,
         "metal_strength": 1.3, "metal_strength_uncertainty": 0.3, "oxygen_uncertainty": 0.1},
        {"vacancies": "at least 0", "most_vacancies": "at least 0", "oxidised_vacancies": "at least 0",
         "most_oxidised_vacancies": "at least 0", "oxidised_probability": "at least 0",
         "valence_strength": "positive",
         "valence_strength_uncertainty": "at least 0", "metal_strength": "positive",
         "metal_strength_uncertainty": "positive", "oxygen_uncertainty": "positive"},
    ),
    "LeadingEdge": Door(
        standards.LeadingEdge,
        {"lower_fraction": 0.3, "shift_eV": 1.7, "uncertainty": 0.1, "strength": 1.1, "strength_uncertainty": 0.4,
         "lower_uncertainty": 0.1},
        {"lower_fraction": "fraction", "shift_eV": "at least 0", "uncertainty": "positive", "strength": "positive",
         "strength_uncertainty": "at least 0", "lower_uncertainty": "at least 0"},
    ),
    "OxygenCount": Door(
        standards.OxygenCount, {"product": 1.3, "uncertainty": 0.3}, {"product": "positive", "uncertainty": "positive"}
    ),
    "OxygenRatio": Door(
        standards.OxygenRatio, {"ratio": 1.3, "uncertainty": 0.3}, {"ratio": "positive", "uncertainty": "positive"}
    ),
    "PixelRange": Door(standards.PixelRange, {"uncertainty": 0.01}, {"uncertainty": "positive"}),
    "PureRim": Door(
        standards.PureRim, {"uncertainty": 0.02, "probability": 0.5},
        {"uncertainty": "positive", "probability": "fraction"},
    ),
    "select_constraints": Door(
        standards.select_constraints, {"constraints": ["pixels"], "pair": standards.PhasePair.of()},
        {"constraints": "text count", "pair": "text"},
    ),
    "prepare_dual_eels": Door(
        prepared,
        {"beam_energy_keV": 300.0, "collection_mrad": 40.0, "convergence_mrad": 0.0, "exposure_ratio": 1.0,
         "spikes": False, "gain": 1.0, "window_eV": (36.0, 110.0), "pixel_size_nm": 0.4},
        {"beam_energy_keV": "positive", "collection_mrad": "positive", "convergence_mrad": "at least 0",
         "exposure_ratio": "positive", "spikes": "flag", "gain": "positive", "window_eV": "window",
         "pixel_size_nm": "positive"},
    ),
    "extract_standards": Door(
        extracted,
        {"onset_eV": 48.0, "mask": np.full((10, 10), True), "constraints": "pixels", "chemistry": standards.Chemistry(),
         "delocalisation_nm": 0.0, "bootstrap": 20, "seed": 0, "gain": 1.0},
        {"onset_eV": "positive", "mask": "length nan", "constraints": "text count", "chemistry": "text",
         "delocalisation_nm": "at least 0", "bootstrap": "count", "seed": "seed", "gain": "positive"},
    ),
    "broaden": Door(
        standards.broaden, {**SPECTRA_VALID, "fwhm_eV": 1.0}, {**SPECTRA, "fwhm_eV": "at least 0"}
    ),
    "spectral_angle_deg": Door(
        standards.spectral_angle_deg, {"a": EV, "b": EV}, {"a": ARRAY.removesuffix(" rank"), "b": "nan complex length"}
    ),
    "match_spectrum": Door(
        standards.match_spectrum,
        {"spectrum": REFERENCES[0], "energy_eV": EV, "reference": REFERENCES[1], "reference_energy_eV": EV,
         "window_eV": (52.0, 64.0), "max_shift_eV": 5.0, "fwhm_eV": (0.0, 3.0)},
        {"spectrum": ARRAY + " length", "energy_eV": ARRAY + " length", "reference": ARRAY + " length",
         "reference_energy_eV": ARRAY + " length", "window_eV": "window", "max_shift_eV": "positive",
         "fwhm_eV": "positive"},
    ),
    "white_lines": Door(
        standards.white_lines,
        {"spectra": L23, "energy_eV": L23_EV, "l3_search_eV": (700.0, 715.0), "splitting_eV": 13.0,
         "window_eV": (-5.0, 7.0), "continuum_eV": (20.0, 25.0), "step_width_eV": 1.0, "smoothing_eV": 0.4},
        {**SPECTRA, "l3_search_eV": "window", "splitting_eV": "positive", "window_eV": "window",
         "continuum_eV": "window", "step_width_eV": "positive", "smoothing_eV": "at least 0"},
    ),
    "find_l3": Door(
        standards.find_l3, {"energy_eV": L23_EV, "mean_spectrum": L23, "window_eV": (700.0, 715.0)},
        {"energy_eV": ARRAY + " length", "mean_spectrum": ARRAY + " length", "window_eV": "window"},
    ),
    "edge_cross_section": Door(
        standards.edge_cross_section, {"element": "Fe", "edge": "L2,3", "energy_eV": L23_EV, **KV_VALID},
        {"element": "choice", "edge": "choice", "energy_eV": "nan huge complex text ragged", **KV},
    ),
    "estimate_range": Door(
        standards.estimate_range,
        {"x": np.linspace(0, 1, 30), "sigma": np.full(30, 0.1), "points": 20, "iterations": 5, "strays": 0.01},
        {"x": ARRAY, "sigma": ARRAY + " length negative", "points": "count", "iterations": "count",
         "strays": "fraction"},
    ),
    "reference_from_abundances": Door(
        standards.reference_from_abundances,
        {"spectra": COUNTS.reshape(12, -1), "abundances": RNG.random((12, 2)), "variance": np.zeros(12),
         "weights": np.ones(12), "bootstrap": 2, "seed": 0},
        {"spectra": ARRAY.removesuffix(" rank"), "abundances": ARRAY.removesuffix(" rank"),
         "variance": "nan huge complex text ragged length negative", "weights": ARRAY + " length negative",
         "bootstrap": "seed", "seed": "seed"},
    ),
    "rotated_references": Door(
        standards.rotated_references, {"references": REFERENCES, "reduced": -0.1, "oxidised": 0.1},
        {"references": ARRAY, "reduced": "text nan", "oxidised": "text nan"},
    ),
    "neighbours": Door(standards.neighbours, {"ndim": 2}, {"ndim": "count"}),
    "standards_from_spectra": Door(
        standards.standards_from_spectra,
        {"spectra": PURE, "edge": "M2,3", "background_eV": None, "bad_eV": (50.0,), "cross_section_barn": 1e6,
         "window_eV": (53.0, 73.0), "scale_uncertainty": 0.0, "uncertainty": 0.01, "samples": 3, "seed": 0},
        {"spectra": "object text", "edge": "choice", "background_eV": "window", "bad_eV": "nan complex text",
         "cross_section_barn": "positive", "window_eV": "window", "scale_uncertainty": "at least 0",
         "uncertainty": "at least 0", "samples": "count", "seed": "seed"},
    ),
    "standards_from_roi": Door(
        lambda **keywords: standards.standards_from_roi(dual()[0], **keywords),
        {"regions": HALVES, "cross_section_barn": 1e6, "onset_eV": 48.0, "window_eV": (36.0, 110.0), "spikes": False,
         "gain": 1.0, "samples": 3, "seed": 0},
        {"regions": "object text", "cross_section_barn": "positive", "onset_eV": "positive", "window_eV": "window",
         "spikes": "flag", "gain": "positive", "samples": "count", "seed": "seed"},
    ),
    "compare_l23": Door(
        on_core(standards.compare_l23), {"window_eV": (704.0, 730.0), "background_eV": 50.0, "max_shift_eV": 5.0},
        {"background_eV": "positive", "max_shift_eV": "positive"},
    ),
    "find_specimen": Door(
        lambda **keywords: standards.find_specimen(**{"dual": prepared(spikes=False), **keywords}),
        {"mask": np.full((10, 10), True)}, {"mask": "nan length"},
    ),
    # tomography
    "Measurement": Door(
        tomography.Measurement,
        {**SERIES, "counts": False, "weights": None, "slice_shape": (8, 8), "model_error": 0.01},
        {**GEOMETRY, "counts": "flag", "slice_shape": ARRAY + " length", "model_error": "at least 0"},
    ),
    "Measurement, weights": Door(
        tomography.Measurement, {"projections": MAPS, "tilt_angles_deg": TILTS, "weights": np.ones((2, 5, 8, 8))},
        {"weights": "nan huge complex text ragged negative nothing"},
    ),
    "Measurement, counts": Door(
        tomography.Measurement, {"projections": np.abs(MAPS), "tilt_angles_deg": TILTS, "counts": True},
        {"projections": ARRAY + " negative"},
    ),
    "ParallelBeam": Door(
        tomography.ParallelBeam,
        {"n": (8, 8), "tilt_angles_deg": TILTS, "voxel_size_nm": 1.0, "shifts_px": np.zeros((5, 2)), "device": "cpu",
         "axis_angle_deg": 0.0},
        {"n": "nan huge complex text ragged", "tilt_angles_deg": ARRAY, "voxel_size_nm": "positive",
         "shifts_px": ARRAY + " length", "axis_angle_deg": "text", "device": "device"},
    ),
    "reconstruct": Door(
        tomography.reconstruct,
        {**SERIES, "algorithm": "sirt", "calibrated": True, "bounds": (0.0, 1.0), **LOOPED},
        {**GEOMETRY, "algorithm": "choice", "calibrated": "flag", "bounds": "bounds", **LOOP},
    ),
    "sirt": Door(measured(tomography.sirt), LOOPED | {"constraint": tomography.FREE}, LOOP | {"constraint": "object"}),
    "cgls": Door(measured(tomography.cgls), LOOPED, LOOP),
    "tv": Door(measured(tomography.tv), LOOPED | {"weight": 1.0}, LOOP | {"weight": "at least 0"}),
    "joint_tv": Door(
        measured(tomography.joint_tv), LOOPED | {"weight": 1.0, "coupling": "nuclear", "seed": 0, "stop": None},
        LOOP | {"weight": "at least 0", "coupling": "choice", "seed": "seed", "stop": "text"},
    ),
    "tgv": Door(measured(tomography.tgv), LOOPED | {"weight": 1.0, "ratio": 2.0}, LOOP | {"ratio": "positive"}),
    "fbp": Door(measured(tomography.fbp), {"window": "hann"}, {"window": "choice"}),
    "fbp, measurement": Door(
        tomography.fbp, {"measurement": tomography.Measurement(MAPS, TILTS)}, {"measurement": "object"}
    ),
    "sirt, measurement": Door(
        lambda measurement: tomography.sirt(measurement, iterations=1),
        {"measurement": tomography.Measurement(MAPS, TILTS)}, {"measurement": "object"},
    ),
    "joint_tv, measurement": Door(
        lambda measurement: tomography.joint_tv(measurement, weight=1.0, iterations=1),
        {"measurement": tomography.Measurement(MAPS, TILTS)}, {"measurement": "object"},
    ),
    "Gap": Door(tomography.Gap, {"tolerance": 1e-3}, {"tolerance": "positive"}),
    "Measurement.split": Door(
        tomography.Measurement(MAPS, TILTS).split, {"fraction": 0.1, "seed": 0, "by": "pixels"},
        {"fraction": "fraction", "seed": "seed", "by": "choice"},
    ),
    "align": Door(
        tomography.align,
        {"projections": MAPS, "tilt_angles_deg": TILTS, "weights": np.ones(2), "mask": np.ones(MAPS.shape, bool),
         "rounds": 1, "isolated": True, "refine": False},
        {"projections": ARRAY, "tilt_angles_deg": ARRAY + " tilts", "weights": "nan huge complex text length",
         "mask": "mask", "rounds": "count", "isolated": "flag", "refine": "flag"},
    ),
    "refine_alignment": Door(
        tomography.refine_alignment,
        {"projections": MAPS, "tilt_angles_deg": TILTS, "shifts_px": np.zeros((5, 2)), "rounds": 1, "device": None},
        {"projections": ARRAY, "tilt_angles_deg": ARRAY + " tilts", "shifts_px": ARRAY + " length", "rounds": "count",
         "device": "device"},
    ),
    "refine_geometry": Door(
        tomography.refine_geometry,
        {"measurement": tomography.Measurement(MAPS, TILTS), "axis_angle": True, "rounds": 1},
        {"measurement": "object", "axis_angle": "flag", "rounds": "count"},
    ),
    "shift_projections": Door(
        tomography.shift_projections, {"projections": MAPS, "shifts_px": np.zeros((5, 2))},
        {"projections": "nan huge complex text ragged", "shifts_px": ARRAY + " length"},
    ),
    "alignment_error": Door(
        tomography.alignment_error,
        {"found_px": np.zeros((5, 2)), "true_px": np.zeros((5, 2)), "tilt_angles_deg": TILTS},
        {"found_px": ARRAY + " length", "true_px": ARRAY + " length", "tilt_angles_deg": ARRAY + " length"},
    ),
    "estimate_covariance": Door(
        tomography.estimate_covariance, {"projections": MAPS}, {"projections": "huge complex text ragged rank"}
    ),
    # dip
    "dipm_tv": Door(
        dip.dipm_tv,
        {**SERIES, "noise": "gaussian", "variant": "voxels", "preset": "quick", "head": "fractions", "holdout": 0.1,
         "calibrated": True, "iterations": 1, "seed": 0, "tv_weight": 2.0, "initial_tv_weight": 0.0,
         "correction_tv_weight": 0.0, "progress": False},
        {**GEOMETRY, "noise": "choice", "variant": "choice", "preset": "choice", "head": "choice",
         "holdout": "fraction", "calibrated": "flag", "iterations": "count", "seed": "seed", "tv_weight": "at least 0"},
    ),
    "ensemble": Door(
        dip.ensemble,
        {"projections": MAPS, "tilt_angles_deg": TILTS, "members": 2, "seed": 0, "workers": 1, "resample": True,
         "variant": "voxels", "iterations": 1, "initial_tv_weight": 0.0, "correction_tv_weight": 0.0,
         "progress": False},
        {"projections": ARRAY, "tilt_angles_deg": ARRAY + " tilts", "members": "count", "seed": "seed",
         "workers": "count", "resample": "flag", "variant": "choice", "iterations": "count"},
    ),
    "feature_test": Door(
        feature, {"volume": HOLE, "region": REGION, "alternative": "fill", "feature": "vacuum", "places": 1.0,
                  "level": 0.05, "seed": 0},
        {"volume": ARRAY + " length", "region": "mask length", "alternative": "choice", "feature": "choice",
         "places": "positive", "level": "fraction", "seed": "seed"},
    ),
    "fill_in": Door(dip.fill_in, {"volume": VOLUME, "region": REGION}, {"volume": ARRAY, "region": "mask length"}),
    "find_features": Door(
        dip.find_features, {"volume": VOLUME, "contrast": 0.25}, {"volume": ARRAY, "contrast": "fraction"}
    ),
    "resample": Door(
        dip.resample, {"projections": MAPS, "tilt_angles_deg": TILTS, "seed": 0, "voxel_size_nm": 1.0},
        {"projections": ARRAY, "tilt_angles_deg": ARRAY + " tilts", "seed": "seed", "voxel_size_nm": "positive"},
    ),
    # metrics
    "nrmse": Door(metrics.nrmse, VOLUMES, PAIR),
    "psnr": Door(metrics.psnr, VOLUMES | {"data_range": 1.0}, PAIR | {"data_range": "positive"}),
    "ssim": Door(metrics.ssim, VOLUMES | {"data_range": 1.0}, PAIR | {"data_range": "positive"}),
    "phase_fraction_error": Door(metrics.phase_fraction_error, VOLUMES | {"channel": 0}, PAIR | {"channel": "seed"}),
    "fourier_shell_correlation": Door(
        metrics.fourier_shell_correlation,
        {"first": VOLUME, "second": VOLUME, "voxel_size_nm": 1.0, "axis": "Z", "half_angle_deg": 30.0,
         "threshold": 0.143},
        {"first": ARRAY + " length", "second": ARRAY + " length", "voxel_size_nm": "positive", "axis": "choice",
         "half_angle_deg": "positive", "threshold": "fraction"},
    ),
    "directional_resolution": Door(
        metrics.directional_resolution, VOLUMES | {"voxel_size_nm": 1.0, "directions": 4, "threshold": 0.5},
        PAIR | {"voxel_size_nm": "positive", "directions": "count", "threshold": "fraction"},
    ),
    "psd_resolution": Door(
        metrics.psd_resolution, {"volume": BIG, "voxel_size_nm": 1.0, "band_per_nm": 0.25, "median": 11, "tail": 0.2},
        {"volume": ARRAY + " zeros", "voxel_size_nm": "positive", "band_per_nm": "positive", "median": "count",
         "tail": "fraction"},
    ),
    "interface_error": Door(
        metrics.interface_error, VOLUMES | {"voxel_size_nm": 1.0, "directions": 20, "step": 0.5},
        PAIR | {"voxel_size_nm": "positive", "directions": "count", "step": "positive"},
    ),
    "skin_error": Door(
        metrics.skin_error, VOLUMES | {"voxel_size_nm": 1.0, "channel": 0, "directions": 20, "step": 0.5},
        PAIR | {"voxel_size_nm": "positive", "channel": "seed", "directions": "count", "step": "positive"},
    ),
    "void_errors": Door(metrics.void_errors, VOLUMES | {"voxel_size_nm": 1.0}, PAIR | {"voxel_size_nm": "positive"}),
    "corner_error": Door(
        metrics.corner_error, VOLUMES | {"voxel_size_nm": 1.0, "reach": 4.0},
        PAIR | {"voxel_size_nm": "positive", "reach": "positive"},
    ),
    "false_skin": Door(metrics.false_skin, VOLUMES | {"channel": 0}, PAIR | {"channel": "seed"}),
    "coverage": Door(
        metrics.coverage, {"lower": VOLUME, "upper": VOLUME, "truth": VOLUME, "regions": {"all": REGION}},
        {"lower": "complex text ragged length", "upper": "complex text length", "truth": ARRAY + " length",
         "regions": "text"},
    ),
    # more of all of them
    "oscillator_strength": Door(
        scattering.oscillator_strength, {"element": "Fe", "energy_eV": EV},
        {"element": "choice", "energy_eV": "nan huge complex text ragged negative"},
    ),
    "onset": Door(scattering.onset, {"element": "Fe", "edge": "M2,3"}, {"element": "choice", "edge": "choice"}),
    "arctangent_step": Door(
        scattering.arctangent_step, {"energy_eV": EV, "centre_eV": 55.0, "width_eV": 1.0},
        {"energy_eV": "nan huge complex text ragged", "centre_eV": "text", "width_eV": "positive"},
    ),
    "angular_factor": Door(
        scattering.angular_factor, {"energy_eV": EV, **KV_VALID, "convergence_mrad": 0.0},
        {"energy_eV": "nan huge complex text ragged", **KV, "convergence_mrad": "at least 0"},
    ),
    "load_system": Door(scattering.load_system, {"system": "iron_oxides"}, {"system": "choice"}),
    "calculator": Door(
        lambda **keywords: dose.calculator(beam_energy_keV=(300.0,), collection_mrad=(40.0,), **keywords),
        {"energy_resolution_eV": (0.7,), "thickness_nm": (10.0,), "readout_electrons": (0.0,)},
        {"energy_resolution_eV": ARRAY, "thickness_nm": ARRAY + " negative", "readout_electrons": ARRAY + " negative"},
    ),
    "dose_efficiency": Door(
        dose.dose_efficiency, {"quantity": "total metal", "fluence_e_per_A2": 1e4, "thickness_nm": (10.0, 10.0)},
        {"quantity": "choice", "fluence_e_per_A2": "positive", "thickness_nm": ARRAY + " length negative"},
    ),
    "SpectrumModel.expected": Door(
        simulate.spectrum_model().expected, {"thickness_nm": np.ones((3, 2)), "axis": "low"},
        {"thickness_nm": "nan huge complex text ragged", "axis": "choice"},
    ),
    "confusable_phases": Door(
        fitting.confusable_phases,
        {"energy_eV": EV, "references": REFERENCES, "names": ("A", "B"), "uncertainty": 0.0,
         "variance": np.ones(EV.size), "window_eV": (46.0, 80.0), "least_deg": 0.5},
        {"energy_eV": "nan complex text ragged length", "references": "nan huge complex text ragged rank",
         "names": "names", "uncertainty": "text", "variance": ARRAY + " length negative", "window_eV": "window",
         "least_deg": "at least 0"},
    ),
    "detectability": Door(
        measured(tomography.detectability), {"volume": VOLUME, "alternative": HOLE, "voxel_deviation": 0.1},
        {"volume": ARRAY + " length", "alternative": ARRAY + " length", "voxel_deviation": "at least 0"},
    ),
    "parameter_bound": Door(
        measured(tomography.parameter_bound), {"directions": VOLUME[None], "prior_covariance": [1.0]},
        {"directions": "nan huge complex text ragged", "prior_covariance": "text nan negative"},
    ),
    "fluence_factor": Door(
        tomography.fluence_factor, {"d_prime": 2.0, "level": 0.05, "power": 0.9},
        {"d_prime": "at least 0", "level": "fraction", "power": "fraction"},
    ),
    "disc": Door(
        tomography.disc, {"centre": np.ones(3), "normal": np.ones(3), "diameter": 3.0, "spacing": 0.5},
        {"centre": ARRAY + " length", "normal": ARRAY + " length", "diameter": "positive", "spacing": "positive"},
    ),
    "extract_surface": Door(
        tomography.extract_surface, {"field": VOLUME[0], "level": 0.3, "smoothing": 1.0},
        {"field": ARRAY, "level": "text", "smoothing": "at least 0"},
    ),
    "phase_volumes": Door(
        tomography.phase_volumes, {"volume": VOLUME, "region": np.ones((8, 8, 8), bool)},
        {"volume": ARRAY, "region": "mask length"},
    ),
    "film_about_voids": Door(metrics.film_about_voids, VOLUMES | {"channel": 0}, PAIR | {"channel": "seed"}),
    "HeldOut": Door(
        tomography.HeldOut, {"tolerance": 1e-3, "fraction": 0.05, "least": 20, "gain": 1e-3},
        {"tolerance": "positive", "fraction": "fraction", "least": "count", "gain": "fraction"},
    ),
    "draw_chemistry": Door(
        simulate.draw_chemistry, {"seed": 0, "half": "tune", "n": 8, "box_nm": 64.0},
        {"seed": "seed", "half": "choice", "n": "count", "box_nm": "positive"},
    ),
    "SpectrumModel": Door(model, {"system": "iron_oxides", "phases": ("FeO",), "plural": True}, {"system": "choice"}),
    "characteristic_angle": Door(
        scattering.characteristic_angle, {"energy_eV": EV, "beam_energy_keV": 300.0},
        {"energy_eV": "nan huge complex text ragged negative", "beam_energy_keV": "positive"},
    ),
    "differential_cross_section": Door(
        scattering.differential_cross_section,
        {"oscillator_strength_per_eV": np.ones(EV.size), "energy_eV": EV, **KV_VALID},
        {"oscillator_strength_per_eV": "nan complex text ragged length",
         "energy_eV": "nan complex text negative", **KV},
    ),
    "hydrogenic_cross_section": Door(
        scattering.hydrogenic_cross_section, {"window_eV": (708.0, 728.0), "near_edge_reduction": True, **KV_VALID},
        {"window_eV": "below the edge", "near_edge_reduction": "flag", **KV},
    ),
    "near_edge_oscillator_strength": Door(
        scattering.near_edge_oscillator_strength,
        {"system": IRON, "phase": "FeO", "edge": "M2,3", "energy_eV": EV},
        {"system": "object", "phase": "object", "edge": "choice", "energy_eV": "nan complex text ragged"},
    ),
    "m1_oscillator_strength": Door(
        scattering.m1_oscillator_strength, {"system": IRON, "energy_eV": EV},
        {"system": "object", "energy_eV": "nan complex text ragged"},
    ),
    "complete_microscope": Door(
        scattering.complete_microscope, {"signal": None, **KV_VALID}, {"signal": "no signal", **KV}
    ),
    "dual_eels, kinds": Door(
        lambda **keywords: simulate.dual_eels(5 * np.ones((2, 2, 2)), 1e3, progress=False, **keywords),
        {"microscope": simulate.Microscope(channels=64), "detector": None, "plural": True, "delocalisation": True,
         "noise": True, "lazy": False, "dtype": "float32"},
        {"microscope": "other kind", "detector": "other kind", "plural": "flag", "delocalisation": "flag",
         "noise": "flag", "lazy": "flag", "dtype": "dtype"},
    ),
    "Microscope, bethe_ridge": Door(simulate.Microscope, {"bethe_ridge": True}, {"bethe_ridge": "flag"}),
    "SpectrumModel, kinds": Door(
        simulate.SpectrumModel, {"microscope": simulate.Microscope(), "plural": True},
        {"microscope": "object", "plural": "flag"},
    ),
    "draw_specimen, kinds": Door(
        simulate.draw_specimen, {"seed": 0, "n": 8, "oversample": 2, "fit_covariance": None},
        {"oversample": "count", "fit_covariance": "other kind"},
    ),
    "even_directions": Door(metrics.even_directions, {"count": 3}, {"count": "count"}),
    "nrmse, per_channel": Door(metrics.nrmse, VOLUMES | {"per_channel": True}, {"per_channel": "flag"}),
    "fourier_shell_correlation, taper": Door(
        metrics.fourier_shell_correlation, {"first": VOLUME, "second": VOLUME, "taper": True}, {"taper": "flag"}
    ),
    "void_errors, voids": Door(
        metrics.void_errors, VOLUMES | {"voids": [{"center": (4, 4, 4), "radius": 1.5}]}, {"voids": "voids"}
    ),
    "film_about_voids, voids": Door(
        metrics.film_about_voids, VOLUMES | {"voids": [{"center": (4, 4, 4), "radius": 1.5}]}, {"voids": "voids"}
    ),
    "best_smoothing": Door(
        metrics.best_smoothing,
        {"noise_free": np.ones((8, 8, 1)), "truth": np.ones((8, 8, 1)), "variance": [1.0], "widths_pixels": [0.0, 1.0]},
        {"noise_free": ARRAY, "truth": ARRAY + " length", "variance": "nan complex text negative",
         "widths_pixels": ARRAY + " negative"},
    ),
    "learn_scale": Door(tomography.learn_scale, {"measurement": SEEN}, {"measurement": "object"}),
    "leaves_field": Door(tomography.leaves_field, {"measurement": SEEN}, {"measurement": "object"}),
    "visibility": Door(
        tomography.visibility,
        {"measurement": SEEN, "normals": [[1.0, 0, 0]], "size": 3.0, "centre": np.ones(3), "profile_reach": 3.0},
        {"measurement": "object", "normals": ARRAY + " nothing", "size": "positive", "centre": ARRAY + " length",
         "profile_reach": "at least 0"},
    ),
    "short_sirt": Door(
        tomography.short_sirt, {"measurement": SEEN, "constraint": tomography.FREE, "iterations": 1},
        {"measurement": "object", "constraint": "object", "iterations": "count"},
    ),
    "noise_weight": Door(
        tomography.noise_weight, {"measurement": SEEN, "volume": torch.ones(SEEN.volume_shape)},
        {"measurement": "object", "volume": "object"},
    ),
    "variation": Door(
        tomography.variation, {"volume": torch.as_tensor(VOLUME), "coupling": "none"},
        {"volume": "object", "coupling": "choice"},
    ),
    "joint_variation": Door(
        tomography.joint_variation, {"volume": torch.as_tensor(VOLUME), "smoothing": 1e-3},
        {"volume": "object", "smoothing": "at least 0"},
    ),
    "bin_images": Door(
        tomography.bin_images, {"images": MAPS[0], "largest": 4, "reduce": np.mean},
        {"images": "rank none", "largest": "count", "reduce": "object"},
    ),
    "Constraint": Door(
        tomography.Constraint, {"lower": 0.0, "upper": 1.0, "simplex": False},
        {"lower": "number", "upper": "number", "simplex": "flag"},
    ),
    "HeldOut, seed": Door(tomography.HeldOut, {"seed": 0}, {"seed": "seed"}),
    "Loop": Door(
        tomography.Loop, {"checkpoint": None, "checkpoint_seconds": 1.0, "progress": False},
        {"checkpoint": "path", "checkpoint_seconds": "at least 0", "progress": "flag"},
    ),
    "sirt, checkpoint": Door(
        measured(tomography.sirt), {"iterations": 1, "checkpoint": None}, {"checkpoint": "folder"}
    ),
    "Checkpoint": Door(
        tomography.Checkpoint,
        {"checkpoint": None, "fingerprint": "a", "seconds": 1.0},
        {"checkpoint": "folder", "fingerprint": "object", "seconds": "at least 0"},
    ),
    "displacements": Door(
        tomography.displacements,
        {"surface": DISC, "difference": [1.0, 0.0], "shape": (8, 8, 8), "modes": np.ones((2, len(DISC.areas)))},
        {"surface": "object", "difference": ARRAY, "shape": ARRAY + " negative", "modes": ARRAY},
    ),
    "Measurement.rescaled": Door(SEEN.rescaled, {"scale": [1.0, 2.0]}, {"scale": ARRAY + " length negative nothing"}),
    "Measurement.crop": Door(SEEN.crop, {"volume": VOLUME}, {"volume": "thin"}),
    "ParallelBeam.__call__": Door(SEEN.projector, {"volume": VOLUME}, {"volume": "complex text ragged"}),
    "fit": Door(
        lambda **keywords: dip.fit(SEEN, **NETWORK, **keywords),
        {"callbacks": (), "checkpoint": None, "checkpoint_seconds": 1.0, "progress": False, "ema": 0.1},
        {"callbacks": "object", "checkpoint": "folder", "checkpoint_seconds": "at least 0", "progress": "flag",
         "ema": "fraction"},
    ),
    "ensemble, run": Door(
        lambda **keywords: dip.ensemble(MAPS, TILTS, members=2, progress=False, **NETWORK, **keywords),
        {"fractions": False, "client": None, "checkpoint": None, "finished": None},
        {"fractions": "flag", "client": "other kind", "checkpoint": "folder", "finished": "other kind"},
    ),
    "fit_each": Door(
        lambda **keywords: dip.fit_each(**NETWORK, progress=False, **keywords),
        {"series": [(MAPS, TILTS, {})], "seed": 0, "workers": 1},
        {"series": "series", "seed": "seed", "workers": "count"},
    ),
    "audit": Door(
        lambda **keywords: dip.audit(SEEN, VOLUME, **keywords),
        {"other": VOLUME, "kinds": ("skin",), "errors": None, "level": 0.05, "reconstruct": None, "seed": 0},
        {"other": "other kind", "kinds": "features", "errors": "other kind", "level": "fraction",
         "reconstruct": "other kind", "seed": "seed"},
    ),
    # data
    "TiltSeries": Door(
        data.TiltSeries,
        {"projections": MAPS, "tilt_angles_deg": TILTS, "channels": ("FeO", "Fe3O4"), "pixel_size_nm": 0.4,
         "variance": MAPS**2, "covariance": np.ones((5, 8, 8, 2, 2)), "haadf": MAPS[0]},
        {"projections": "complex text ragged rank", "tilt_angles_deg": ARRAY + " tilts", "channels": "names",
         "pixel_size_nm": "positive", "variance": "complex text length", "covariance": "complex text length",
         "haadf": "complex text rank"},
    ),
    "read_tilt_series": Door(
        lambda **keywords: data.read_tilt_series(maps_file(), **keywords),
        {"tilt_angles_deg": TILTS, "channels": ("FeO", "Fe3O4"), "pixel_size_nm": 0.4},
        {"tilt_angles_deg": ARRAY + " tilts", "channels": "object names", "pixel_size_nm": "positive"},
    ),
    "get_tilts": Door(data.get_tilts, {"signal": hs.signals.Signal1D(COUNTS)}, {"signal": "object"}),
    "is_cached": Door(data.is_cached, {"name": "lsmo_dual_eels"}, {"name": "choice"}),
    "TiltSeries, metadata": Door(
        data.TiltSeries, {"projections": MAPS, "tilt_angles_deg": TILTS, "channels": ("a", "b"), "metadata": {}},
        {"metadata": "mapping"},
    ),
    # pipeline
    "Maps": Door(
        pipeline.Maps,
        {"values": MAPS, "tilt_angles_deg": TILTS, "channels": ("FeO", "Fe3O4"),
         "covariance": np.ones((5, 8, 8, 2, 2)), "pixel_size_nm": 0.4, "unit": "nm", "draws": DRAWS,
         "shifts_px": np.zeros((5, 2)), "axis_angle_deg": 0.0},
        {"values": "complex text ragged rank none", "tilt_angles_deg": ARRAY + " length none", "channels": "names",
         "covariance": "complex text ragged length", "pixel_size_nm": "positive", "unit": "words",
         "draws": "other kind", "shifts_px": ARRAY + " length", "axis_angle_deg": "number"},
    ),
    "Settings": Door(
        pipeline.Settings,
        {"maps": maps_file(), "tilt_angles_deg": tuple(TILTS), "output": "out", "system": "iron_oxides"},
        {"maps": "file", "output": "file", "tilt_angles_deg": ARRAY + " tilts", "system": "choice"},
    ),
    "Folder": Door(
        lambda **keywords: pipeline.Folder(folder_of_steps(), **keywords), {"report": print, "total": 2},
        {"report": "function", "total": "seed"},
    ),
    "Folder.step": Door(
        lambda name, **keywords: folder().step(name, **keywords),
        {"name": "a", "work": lambda place: None, "inputs": (), "parameters": {}, "outputs": ()},
        {"name": "plain name", "work": "function", "inputs": "paths", "parameters": "mapping no JSON",
         "outputs": "plain names"},
    ),
    "Folder.record": Door(lambda name: folder().record(name), {"name": "a"}, {"name": "plain name"}),
    "Maps.tilts": Door(
        pipeline.Maps(MAPS, TILTS, ("a", "b")).tilts, {"chosen": TILTS > 0}, {"chosen": "mask nan length"}
    ),
    "Maps.measurement": Door(
        pipeline.Maps(MAPS, TILTS, ("a", "b")).measurement, {"padding": 1}, {"padding": "seed"}
    ),
    "Maps.reference_draws": Door(
        lambda n: pipeline.Maps(MAPS, TILTS, ("a", "b"), draws=DRAWS).reference_draws(n, scale_is_learned=True),
        {"n": 2}, {"n": "seed"},
    ),
    "write_volume": Door(
        written,
        {"folder": None, "arrays": PARTS | {"members": VOLUME[None]}, "channels": ("a", "b"), "voxel_size_nm": 1.0,
         "tilt_angles_deg": TILTS, "unit": "nm"},
        {"folder": "folder", "channels": "names"},
    ),
    "write_volume, members": Door(
        lambda members: written(
            arrays=PARTS | {"members": members}, channels=("a", "b"), voxel_size_nm=1, tilt_angles_deg=TILTS, unit=""
        ),
        {"members": VOLUME[None]}, {"members": "members"},
    ),
    "Inspection": Door(
        pipeline.Inspection,
        {"path": "a", "kind": "maps", "facts": {}, "missing": (), "problems": (), "enters": "", "images": {}},
        {"path": "file", "kind": "words", "facts": "mapping", "missing": "object", "problems": "object",
         "enters": "words", "images": "mapping"},
    ),
    "volume_signal": Door(
        pipeline.volume_signal,
        {"arrays": PARTS, "channels": ("a", "b"), "voxel_size_nm": 1.0, "tilt_angles_deg": TILTS, "unit": "nm",
         "title": "a volume"},
        {"arrays": "mapping", "channels": "names", "voxel_size_nm": "positive", "tilt_angles_deg": ARRAY,
         "unit": "words", "title": "words"},
    ),
    "expand": Door(
        lambda **keywords: pipeline.expand([maps_file()], **keywords), {"folder": None, "name": "path"},
        {"folder": "file", "name": "words"},
    ),
    "PhaseFit.from_signal": Door(
        lambda signal: signal is None or fitting.PhaseFit.from_signal(signal), {"signal": None},
        {"signal": "no signal"},
    ),
    "p_value_text": Door(fitting.p_value_text, {"p": 0.01}, {"p": "text complex"}),
    # more of the functions that other functions are made of
    "data_of": Door(spectra.data_of, {"x": COUNTS}, {"x": "complex text none"}),
    "energy_axis": Door(
        spectra.energy_axis, {**SPECTRA_VALID, "name": "energy_eV", "of": "spectra"},
        {**SPECTRA, "name": "words none", "of": "words none"},
    ),
    "in_window": Door(
        spectra.in_window, {"energy_eV": EV, "window_eV": (50.0, 60.0)},
        {"energy_eV": "complex text none", "window_eV": "pair none"},
    ),
    "map_spectra": Door(
        lambda spectra_, **keywords: spectra.map_spectra(lambda y: y, spectra_, **keywords),
        {"spectra_": COUNTS, "core_shape": (160,), "dtype": float, "block": 7},
        {"core_shape": "negative none", "dtype": "no type", "block": "count"},
    ),
    "step_nm": Door(spectra.step_nm, {"axis": hs.signals.Signal1D(COUNTS).axes_manager[0]}, {"axis": "object"}),
    "with_data": Door(
        spectra.with_data, {"container": hs.signals.Signal1D(COUNTS), "data": COUNTS},
        {"container": "none scalar", "data": "scalar none"},
    ),
    "check_dual_eels": Door(
        lambda **keywords: standards.check_dual_eels(*recorded(), **keywords), {"system": "iron_oxides", "gain": 1.0},
        {"system": "choice", "gain": "positive"},
    ),
    "core_loss_estimators": Door(
        standards.core_loss_estimators,
        {"energy_eV": CORE_EV, "mean_spectrum": CORE, "system": "iron_oxides", "l3_eV": 709.0, "convergence_mrad": 0.0,
         **KV_VALID},
        {"energy_eV": ARRAY + " length none", "mean_spectrum": ARRAY + " length none", "system": "choice",
         "l3_eV": "positive", "convergence_mrad": "at least 0", **KV},
    ),
    "errors_in_variables_regression": Door(
        standards.errors_in_variables_regression,
        {"coordinates": RNG.random((12, 2)), "variance": np.zeros(12), "weights": np.ones(12),
         "spectra": RNG.random((12, 5)), "noisy": False, "exact": 0},
        {"coordinates": ARRAY + " none", "variance": ARRAY + " length none", "weights": ARRAY + " length none",
         "spectra": ARRAY + " none", "noisy": "flag", "exact": "seed"},
    ),
    "find_plane": Door(
        standards.find_plane,
        {"spectra": SCORES @ PLANE, "variance": np.full((40, 20), 1e-4), "background": np.ones((1, 20))},
        {"spectra": ARRAY + " length none", "variance": ARRAY + " length none", "background": ARRAY + " none"},
    ),
    "metal_per_oxygen": Door(
        lambda **keywords: standards.metal_per_oxygen(*recorded(), **keywords), {"mask": np.full((3, 3), True)},
        {"mask": "length nan text"},
    ),
    "outermost_phase": Door(
        standards.outermost_phase,
        {"mask": np.full((4, 4), True), "x": np.ones(16), "metal": np.ones(16), "ends": (0.0, 1.0),
         "names": ("a", "b")},
        {"mask": "text none", "x": ARRAY + " length none", "metal": ARRAY + " length none", "ends": ARRAY + " none",
         "names": "names"},
    ),
    "oxygen_to_l3": Door(
        standards.oxygen_to_l3, {"energy_eV": CORE_EV, "spectra": CORE, "l3_eV": 709.0, "system": "iron_oxides"},
        {"energy_eV": ARRAY + " length none", "spectra": "nan huge complex text ragged length none",
         "l3_eV": "positive", "system": "choice"},
    ),
    "pair_edges": Door(
        lambda **keywords: standards.pair_edges(*recorded(), bootstrap=2, **keywords), {"system": None},
        {"system": "choice"},
    ),
    "stated_exposure_ratio": Door(
        standards.stated_exposure_ratio, {"low_loss": LOW, "core_loss": COUNTS},
        {"low_loss": "complex text none", "core_loss": "complex text none"},
    ),
    "subshell_oscillator_strength": Door(
        standards.subshell_oscillator_strength, {"element": "Fe", "edge": "L2,3", "energy_eV": EV + 680},
        {"element": "choice", "edge": "choice", "energy_eV": "nan huge complex text ragged none"},
    ),
    "valence_blur_nm": Door(
        standards.valence_blur_nm, {"system": "iron_oxides", **KV_VALID}, {"system": "choice", **KV}
    ),
    "thickness_map": Door(
        fitting.thickness_map,
        {**LOW_VALID, "mean_free_path_nm": 120.0, "mean_free_path_error": 0.1, "gain": 1.0, "split_eV": 3.0},
        {**LOW_LOSS, "mean_free_path_nm": "positive", "mean_free_path_error": "at least 0", "gain": "positive",
         "split_eV": "positive"},
    ),
    "functional_bound": Door(
        lambda **keywords: tomography.functional_bound(SEEN, **keywords),
        {"functionals": VOLUME[None], "voxel_deviation": 0.1, "at": VOLUME, "least_counts": 1.0},
        {"functionals": ARRAY + " none", "voxel_deviation": "at least 0", "at": ARRAY + " length",
         "least_counts": "at least 0"},
    ),
    "false_void": Door(metrics.false_void, VOLUMES, PAIR),
    "compare_edges": Door(
        dose.compare_edges, {"thickness_nm": (10.0, 10.0)}, {"thickness_nm": ARRAY + " length negative"}
    ),
    "forecast_errors": Door(
        lambda **keywords: dose.forecast_errors(recorded()[0], **keywords),
        {"pixel_size_nm": 0.4, "gain": 1.0, "energy_resolution_eV": 0.7, "system": None, "references": None,
         **KV_VALID},
        {"pixel_size_nm": "positive", "gain": "positive", "energy_resolution_eV": "positive", "system": "choice",
         "references": "other kind", **KV},
    ),
    "measured_spectrum": Door(
        lambda **keywords: dose.measured_spectrum(recorded()[0], **{"spectrum_model": plain_model(), **keywords}),
        {"edge": "M2,3", "electrons": 1e4, "thickness_nm": (10.0, 10.0)},
        {"edge": "choice", "electrons": "positive", "thickness_nm": ARRAY + " length negative"},
    ),
    "linear_model": Door(
        lambda **keywords: dose.linear_model(plain_model(), 1e4, **keywords), {"edge": "M2,3", "gain": 1.0},
        {"edge": "choice", "gain": "positive"},
    ),
    "spectrum_model": Door(
        simulate.spectrum_model, {"beam_energy_keV": 300.0, "dispersion_eV": 0.25, "plural": True},
        {"beam_energy_keV": "positive", "dispersion_eV": "positive", "plural": "flag"},
    ),
    "metal_weights": Door(dose.metal_weights, {"model": simulate.spectrum_model()}, {"model": "object"}),
    "smallest_void_nm": Door(
        dose.smallest_void_nm,
        {"covariance_nm2": np.eye(2), "views": 9, "pixel_size_nm": 0.4, "phase": 1, "standard_errors": 5.0},
        {"covariance_nm2": "covariance", "views": "count", "pixel_size_nm": "positive", "phase": "seed",
         "standard_errors": "positive"},
    ),
    "standard_errors": Door(
        lambda covariance: dose.standard_errors(plain_model(), covariance), {"covariance": np.eye(2)},
        {"covariance": ARRAY + " none"},
    ),
    "thinnest_skin_nm": Door(
        dose.thinnest_skin_nm,
        {"covariance_nm2": np.eye(2), "tilt_angles_deg": TILTS, "pixel_size_nm": 0.4, "patch_nm": 5.0,
         "phases": (0, 1), "standard_errors": 5.0},
        {"covariance_nm2": "covariance", "tilt_angles_deg": ARRAY + " tilts", "pixel_size_nm": "positive",
         "patch_nm": "positive", "phases": "pair none", "standard_errors": "positive"},
    ),
    "available": Door(data.available, {"name": "lsmo_dual_eels"}, {"name": "choice"}),
    "fetch": Door(lambda name: name is None or data.fetch(name), {"name": None}, {"name": "unknown"}),
    "load": Door(lambda name: name is None or data.load(name), {"name": None}, {"name": "unknown"}),
    "classical_volumes": Door(
        pipeline.classical_volumes,
        {"measurement": SEEN, "head": "nonnegative", "calibrated": True},
        {"head": "choice", "calibrated": "flag", "measurement": "object"},
    ),
    "inspection_page": Door(pipeline.inspection_page, {"found": []}, {"found": "object"}),
    "inspection_table": Door(pipeline.inspection_table, {"found": []}, {"found": "object"}),
    "metal_maps": Door(lambda fit: fit is None or pipeline.metal_maps(fit), {"fit": None}, {"fit": "other kind"}),
    "metal_and_valence": Door(
        pipeline.metal_and_valence,
        {"result": MEMBERS, "known": KNOWN, "transforms": None, "summed": True, "scale_is_learned": True},
        {"summed": "flag", "scale_is_learned": "flag", "result": "object", "known": "object", "transforms": "scalar"},
    ),
    "plain_yaml": Door(pipeline.plain_yaml, {"text": "a: 1"}, {"text": "words none"}),
    "write_maps": Door(
        lambda **keywords: keywords["fit"] is None or pipeline.write_maps(**keywords), {"folder": "a", "fit": None},
        {"fit": "other kind"},
    ),
    "write_settings": Door(
        lambda **keywords: keywords["found"] is None or pipeline.write_settings(path="/none/a.yml", **keywords),
        {"found": None}, {"found": "other kind"},
    ),
    "as_system": Door(scattering.as_system, {"system": "iron_oxides"}, {"system": "choice"}),
    "check_window": Door(
        scattering.check_window, {"window_eV": (50.0, 60.0), "relative": False},
        {"window_eV": "window none", "relative": "flag"},
    ),
    "collected_fraction": Door(
        scattering.collected_fraction, {"collection_mrad": 40.0, "convergence_mrad": 20.0},
        {"collection_mrad": "positive", "convergence_mrad": "at least 0"},
    ),
    "delocalisation_nm": Door(
        scattering.delocalisation_nm, {"energy_eV": 57.0, **KV_VALID}, {"energy_eV": "positive", **KV}
    ),
    "edge_oscillator_strength": Door(
        scattering.edge_oscillator_strength, {"element": "Fe", "edge": "M2,3", "energy_eV": EV},
        {"element": "choice", "edge": "choice", "energy_eV": "nan huge complex text ragged none"},
    ),
    "effective_energy_eV": Door(
        scattering.effective_energy_eV, {"beam_energy_keV": 300.0}, {"beam_energy_keV": "positive"}
    ),
    "lorentz_factor": Door(scattering.lorentz_factor, {"beam_energy_keV": 300.0}, {"beam_energy_keV": "positive"}),
    "microscope_from_metadata": Door(
        scattering.microscope_from_metadata, {"signal": hs.signals.Signal1D(COUNTS)}, {"signal": "no signal"}
    ),
    "Measurement.rows": Door(SEEN.rows, {"rows": slice(2, 4)}, {"rows": "object text"}),
    "Measurement.forward": Door(SEEN.forward, {"volume": NOTHING}, {"volume": "object tensor"}),
    "Measurement.adjoint": Door(SEEN.adjoint, {"dual": torch.zeros(MAPS.shape)}, {"dual": "object tensor"}),
    "Measurement.residual": Door(SEEN.residual, {"volume": NOTHING}, {"volume": "object tensor"}),
    "Measurement.misfit": Door(SEEN.misfit, {"volume": NOTHING}, {"volume": "object tensor"}),
    "Measurement.less": Door(SEEN.less, {"volume": NOTHING}, {"volume": "object tensor"}),
    "Measurement.with_variance_floor": Door(SEEN.with_variance_floor, {"fraction": 0.2}, {"fraction": "fraction"}),
    "Measurement.padded": Door(SEEN.padded, {"columns": 1, "depth": 6}, {"columns": "seed", "depth": "count"}),
    "Measurement.with_geometry": Door(
        SEEN.with_geometry, {"tilt_angles_deg": TILTS, "shifts_px": np.zeros((5, 2)), "axis_angle_deg": 0.0},
        {"tilt_angles_deg": ARRAY + " tilts", "shifts_px": ARRAY + " length", "axis_angle_deg": "number"},
    ),
    "Measurement.repeated": Door(
        SEEN.repeated, {"validation": MAPS}, {"validation": "nan huge complex text ragged rank length none"}
    ),
    "Measurement.resample": Door(SEEN.resample, {"seed": 1}, {"seed": "seed"}),
    "Measurement.transformed": Door(SEEN.transformed, {"transform": np.eye(2)}, {"transform": ARRAY + " length none"}),
    "ParallelBeam.subset": Door(SEEN.projector.subset, {"tilts": slice(1, 3)}, {"tilts": "object text"}),
    "ParallelBeam.reach": Door(SEEN.projector.reach, {"n_rows": 8}, {"n_rows": "count"}),
    "ParallelBeam.source_rows": Door(SEEN.projector.source_rows, {"n_rows": 8}, {"n_rows": "count"}),
    "ParallelBeam.norm": Door(
        SEEN.projector.norm, {"iterations": 2, "seed": 0}, {"iterations": "count", "seed": "seed"}
    ),
    "ParallelBeam.move": Door(
        SEEN.projector.move, {"projections": torch.zeros(MAPS.shape), "adjoint": False},
        {"projections": "object tensor", "adjoint": "flag"},
    ),
    "Surface": Door(
        tomography.Surface, {"points": np.ones((4, 3)), "normals": np.ones((4, 3)), "areas": np.ones(4)},
        {"points": "complex text rank length none", "normals": "complex text rank length none",
         "areas": "complex text rank length none"},
    ),
    "Surface.select": Door(DISC.select, {"keep": DISC.areas > 0}, {"keep": "length text object"}),
    "Surface.moved": Door(DISC.moved, {"distance": 1.0}, {"distance": "number"}),
    "Surface.patches": Door(DISC.patches, {"size": 2.0, "rounds": 2}, {"size": "positive", "rounds": "seed"}),
    "VolumeErrors": Door(
        dip.VolumeErrors, {"interface_px": 0.5, "bulk": 0.1, "length_px": 1.0},
        {"interface_px": "at least 0", "bulk": "at least 0", "length_px": "positive"},
    ),
    "EnsembleResult.interval": Door(MEMBERS.interval, {"level": 0.9}, {"level": "fraction"}),
    "EnsembleResult.weighted_sum": Door(
        MEMBERS.weighted_sum, {"weights": (1.0, 2.0), "summed": False},
        {"weights": "complex text ragged rank length none", "summed": "flag"},
    ),
    "SpecimenDraw.measurement": Door(
        lambda **keywords: simulate.draw_specimen(0, n=8).measurement(**keywords), {"known_shifts": True},
        {"known_shifts": "flag"},
    ),
    "System.with_phases": Door(
        lambda phase: IRON.with_phases(phase), {"phase": IRON.phase("FeO")}, {}
    ),
    "Standards.on": Door(
        lambda energy_eV: standards.standards_from_spectra(PURE, samples=2).on(energy_eV), {"energy_eV": EV[2:9]},
        {"energy_eV": ARRAY + " none"},
    ),
    # plotting
    "show_3d": Door(
        plotting.show_3d, {"volume": VOLUME, "turning": False, "caption": "a", "name": "b", "alt": "c"},
        {"turning": "flag", "caption": "words", "name": "words", "alt": "words"},
    ),
    "table": Door(plotting.table, {"rows": [{"a": 1}], "caption": "a"}, {"caption": "words"}),
    "maps_figure, texts": Door(
        closed(plotting.maps_figure), {"maps": {"a": MASK[0]}, "unit": "nm", "share": True, "title": "a"},
        {"unit": "words", "share": "flag", "title": "words"},
    ),
    "show_spectra, texts": Door(
        closed(plotting.show_spectra),
        {"energy_eV": EV, "spectra": {"a": EV}, "ylabel": "y", "logy": False, "marks": {}, "title": "a"},
        {"ylabel": "words", "logy": "flag", "marks": "mapping", "title": "words"},
    ),
    "maps_figure": Door(
        closed(plotting.maps_figure),
        {"maps": {"a": MASK[0]}, "columns": 2, "pixel_size_nm": 0.4, "percentile": 99.0, "vmin": 0.0},
        {"maps": "text none object", "columns": "count", "pixel_size_nm": "positive", "percentile": "fraction",
         "vmin": "text"},
    ),
    "slices_panels": Door(
        closed(plotting.slices_panels), {"volumes": {"a": VOLUME}, "channels": ("a", "b"), "index": 3, **IN_NM},
        {"volumes": "text none object", "channels": "object", "index": "text", "voxel_size_nm": "positive"},
    ),
    "slices_figure": Door(
        plotting.slices_figure, {"volumes": {"a": VOLUME}, "channels": ("a", "b"), "vmax": 1.0, **IN_NM},
        {"volumes": "text none object", "channels": "object", "vmax": "text", "voxel_size_nm": "positive"},
    ),
    "surfaces_figure": Door(
        plotting.surfaces_figure, {"volume": VOLUME, "channels": ("a", "b"), "level": 0.3, **IN_NM},
        {"volume": "text none object complex", "channels": "object", "level": "text", "voxel_size_nm": "positive"},
    ),
    "show_spectra": Door(
        closed(plotting.show_spectra), {"energy_eV": EV, "spectra": {"a": EV}},
        {"energy_eV": ARRAY + " length none", "spectra": "text none object"},
    ),
    "pixel_explorer": Door(
        plotting.pixel_explorer,
        {"image": LOW[..., 0], "energy_eV": LOW_EV, "spectra": LOW, "fits": LOW, "start": (1, 2), "values": {}},
        {"image": "text complex rank", "energy_eV": "text complex rank length", "spectra": "text complex length",
         "fits": "text complex length", "start": "text nan", "values": "text"},
    ),
    "phase_colors": Door(plotting.phase_colors, {"names": ("FeO",)}, {"names": "object"}),
    "markdown_table": Door(plotting.markdown_table, {"rows": [{"a": 1}]}, {"rows": "object"}),
}  # fmt: skip


# ---------------------------------------------------------------- what comes of it


@contextmanager
def time_limit(seconds):
    def stop(*_):
        raise TimeoutError(f"no answer within {seconds:g} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(call, argument):
    """``"clear"``, ``"unclear"``, ``"other"``, ``"hangs"`` or ``"accepted"``, and the message."""
    try:
        with time_limit(SECONDS):
            result = call()
    except (ValueError, TypeError) as error:
        named = re.search(rf"\b{re.escape(argument)}\b", str(error))
        return ("clear" if named else "unclear"), f"{type(error).__name__}: {error}"
    except TimeoutError as error:
        return "hangs", str(error)
    except Exception as error:
        return "other", f"{type(error).__name__}: {error}"
    return "accepted", f"returned a {type(result).__name__}"


def refuses(call, argument, got):
    kind, message = outcome(call, argument)
    assert kind == "clear", f"{kind} for {argument}={got!r}: {message}"


CASES = [(name, argument) for name, door in DOORS.items() for argument in door.bad]


def kinds_of(words):
    """Names of `KINDS` in a text: some have spaces."""
    return [kind for kind in KINDS if re.search(rf"(^| ){kind}($| )", words)]


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.filterwarnings("ignore")
def test_valid_input_passes(name):
    """Or else what follows would show nothing."""
    door = DOORS[name]
    door.function(**door.valid)


@pytest.mark.parametrize(("name", "argument"), CASES)
@pytest.mark.filterwarnings("ignore")
def test_bad_arguments_are_named(name, argument):
    door = DOORS[name]
    kinds = kinds_of(door.bad[argument])

    @settings(
        max_examples=EXAMPLES * len(kinds), derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.one_of([KINDS[kind](door.valid[argument]) for kind in kinds]))
    def check(value):
        refuses(lambda: door.function(**{**door.valid, argument: value}), argument, value)

    check()


# ---------------------------------------------------------------- that no door is forgotten

DATA_PATH = (
    spectra, standards, fitting, tomography, dip, metrics, dose, simulate, data, pipeline, scattering,
)  # fmt: skip
NO_DOOR = {
    "cache_folder": "takes nothing",
    "registry": "takes nothing",
    "system_names": "takes nothing",
    "check_not_negative": "is itself a check, of all that stands behind a door",
    "check_positive": "is itself a check, of all that stands behind a door",
    "counted_metal": "takes results of other functions alone: their kind is checked below",
    "estimate_rotation": "takes results of other functions alone: their kind is checked below",
    "find_other_matter": "takes results of other functions alone: their kind is checked below",
    "group_by_valence": "takes results of other functions alone: their kind is checked below",
    "inspect": "takes files: see those of `bad_file`",
    "read_signal": "takes files: see those of `bad_file`",
    "read_spectrum_series": "takes files: see those of `bad_file`",
    "reconstruct": "takes settings: see those of `Settings`",
}


def public():
    """Functions, and classes, of the way of the data, by name."""
    found = {name: getattr(package, name) for package in DATA_PATH for name in package.__all__}
    return {name: value for name, value in found.items() if callable(value) and value.__module__ != "builtins"}


def test_every_function_on_the_way_of_the_data_has_a_door_or_a_reason():
    functions = {name for name, value in public().items() if inspect.isfunction(value)}
    doors = {name.split(", ")[0] for name in DOORS}
    assert not functions - doors - set(NO_DOOR), "add them to DOORS, or say in NO_DOOR why not"
    assert not set(NO_DOOR) - functions, "there are no such functions any more"
    assert all(len(reason.split()) > 1 for reason in NO_DOOR.values())


def every_call():
    """Functions, constructors and methods: name, function, and whether it belongs to an object."""
    for name, value in sorted(public().items()):
        if inspect.isfunction(value):
            if value.__module__ != "softeels_utils.checks":
                yield name, value, False
        elif inspect.isclass(value) and not issubclass(value, (Exception, enum.Enum)):
            for method in ("__init__", *(method for method in vars(value) if not method.startswith("_"))):
                member = inspect.getattr_static(value, method)
                if isinstance(member, (classmethod, staticmethod)):
                    yield f"{name}.{method}", getattr(value, method), False
                elif inspect.isfunction(member) and method in vars(value):
                    yield f"{name}.{method}", member, True


TYPING_ONLY = "Standards|PluralScattering"  # imported for typing alone somewhere, and checked there by hand


class Anything:
    """Of no kind."""


@pytest.mark.parametrize(("name", "function", "of_object"), list(every_call()))
def test_every_argument_of_another_kind_is_named(name, function, of_object):
    """Of whatever has an annotation that says what it wants: before anything is done, so that no more is passed."""
    for argument, about in list(inspect.signature(function).parameters.items())[of_object:]:
        several = about.kind in (about.VAR_POSITIONAL, about.VAR_KEYWORD)
        if several or re.search(rf"\b(Any|object|DTypeLike|{TYPING_ONLY})\b", str(about.annotation)):
            continue
        call = partial(function, Anything()) if of_object else function
        refuses(lambda call=call, argument=argument: call(**{argument: Anything()}), argument, "anything")


# ---------------------------------------------------------------- files


def write_mrc(path, stack):
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, *stack.shape[::-1], 2)
    struct.pack_into("<3i", header, 28, *stack.shape[::-1])
    struct.pack_into("<3f", header, 40, *(4.0 * size for size in stack.shape[::-1]))
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    header[208:216] = b"MAP DA\x00\x00"
    path.write_bytes(bytes(header) + stack.astype("<f4").tobytes())


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A good file of each kind: maps over tilt, and spectra."""
    folder = tmp_path_factory.mktemp("good")
    series = data.TiltSeries(MAPS, TILTS, ("FeO", "Fe3O4"), pixel_size_nm=0.4)
    for suffix in (".hspy", ".zspy", ".npz"):
        series.save(folder / f"maps{suffix}")
    tifffile.imwrite(folder / "maps.tif", MAPS[0], photometric="minisblack")
    write_mrc(folder / "maps.mrc", MAPS[0])
    stack = hs.signals.Signal2D(MAPS[0])
    stack.axes_manager[0].name, stack.axes_manager[0].units = "tilt", "degrees"
    stack.axes_manager[0].offset, stack.axes_manager[0].scale = -60, 30
    stack.save(folder / "maps.emd")
    for name in ("maps.tif", "maps.mrc"):
        np.savetxt((folder / name).with_suffix(".rawtlt"), TILTS)
    hs.signals.Signal1D(COUNTS[0, 0].astype(float)).save(folder / "spectrum.msa")
    standards.standards_from_spectra(PURE).save(folder / "standards.npz")
    return folder


@st.composite
def bad_file(draw, folder, good):
    """Nothing, a folder, a pipe, a device, nothing in it, another kind, garbage, part of it; or no path at all."""
    path, content = folder / good.name, good.read_bytes()
    for old in folder.iterdir():
        old.rmdir() if old.is_dir() and not old.is_symlink() else old.unlink()
    kind = draw(st.sampled_from("nothing folder pipe device empty other garbage part none null long".split()))
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "other":
        path = path.with_suffix(".txt")
        path.write_bytes(content)
    elif kind in ("empty", "garbage", "part"):
        size = {"empty": 0, "part": draw(st.integers(1, int(0.9 * len(content)))), "garbage": len(content)}[kind]
        path.write_bytes(draw(st.randoms()).randbytes(size) if kind == "garbage" else content[:size])
    odd = {
        "none": draw(st.sampled_from([None, 3, 1.5, b"a.npz", {}])),
        "null": "a\0.npz",
        "long": 300 * "a" + good.suffix,
    }
    return odd.get(kind, path)


READERS = {
    "read_signal": (data.read_signal, "maps.hspy maps.emd maps.tif maps.mrc spectrum.msa", "path"),
    "read_tilt_series": (data.read_tilt_series, "maps.hspy maps.emd maps.tif maps.mrc maps.npz", "path"),
    "read_spectrum_series": (
        lambda path: data.read_spectrum_series([path, path]),
        "maps.hspy maps.emd spectrum.msa",
        "paths",
    ),
    "Standards.load": (standards.Standards.load, "standards.npz", "path"),
}
FILES = [(reader, name) for reader, (_, names, _) in READERS.items() for name in names.split()]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize(("reader", "name"), FILES)
@pytest.mark.filterwarnings("ignore")
def test_bad_files_are_named(reader, name, good, tmp_path):
    read, _, argument = READERS[reader]

    @settings(max_examples=22, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(bad_file(tmp_path, good / name))
    def check(path):
        refuses(lambda: read(path), argument, path)

    check()


@pytest.mark.parametrize(
    "content", [20_000 * b"[", "title: Eisenoxid, natürlich".encode("latin-1"), b"\0", b"title: ["]
)
def test_system_files_that_are_no_text_are_refused(content, tmp_path):
    path = tmp_path / "mine.yml"
    path.write_bytes(content)
    refuses(lambda: scattering.load_system(path), "mine.yml", path)


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def npy_header(shape, dtype="<f4"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize(
    "member",
    [
        npy_header((3000, 3000, 1000, 1000)) + bytes(100),  # claims 36 TB
        npy_header((1, 5, 8, 8)) + bytes(100),  # claims more than there is
        npy_header((1, 5, 8, 8)) + bytes(1280 + 4),  # or less
        npy_header((1, 5, 8000, 8000)) + bytes(5 * 8000 * 8000 * 4 // 10),
        npy_header((5,), "|O") + b"cos\nsystem\n(S'true'\ntR.",
        b"\x93NUMPY\x09\x00" + bytes(50),
        b"nothing of the kind",
    ],
    ids=["36 TB", "too short", "too long", "a tenth", "pickle", "version", "text"],
)
def test_archives_that_lie_are_refused_unread(member, tmp_path):
    path = tmp_path / "series.npz"
    write_zip(path, {"projections.npy": member})
    refuses(lambda: data.read_tilt_series(path, tilt_angles_deg=TILTS), "path", path)


def test_an_archive_that_unpacks_into_a_thousand_times_its_size_is_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, projections=np.zeros((1, 5, 2000, 2000), np.float32), tilt_angles_deg=TILTS)
    assert path.stat().st_size < 2**17
    refuses(lambda: data.read_tilt_series(path), "path", path)


def test_a_hyperspy_file_that_claims_more_than_it_holds_is_refused(good, tmp_path):
    import h5py

    path = tmp_path / "huge.hspy"
    path.write_bytes((good / "maps.hspy").read_bytes())
    with h5py.File(path, "a") as file:
        group = next(iter(file["Experiments"].values()))
        del group["data"]
        group.create_dataset("data", (2, 5, 10**6, 10**6), "f4", chunks=(1, 1, 100, 100))
    refuses(lambda: data.read_signal(path), "path", path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".zarray", '{"filters": [{"id": "\\u0070ickle"}], "compressor": null}'),
        (".zarray", '{"filters": null, "compressor": {"id": "PICKLE"}}'),
        (".zmetadata", '{"metadata": {"a/.zarray": {"filters": [{"id": "pickle"}]}}}'),
        (
            "zarr.json",
            '{"codecs": [{"name": "sharding_indexed", "configuration": {"codecs": [{"name": "pi\\u0063kle"}]}}]}',
        ),
        ("zarr.json", '{"codecs": ["numcodecs.pickle"]}'),
        (".zarray", '{"filters": [{"id": "one_of_a_plugin"}]}'),
        (".zarray", "not JSON"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_codecs_that_may_run_code_are_found_however_they_are_spelt(name, text, packed, tmp_path):
    path = tmp_path / "evil.zspy"
    if packed:
        write_zip(path, {f"Experiments/a/data/{name}": text})
    else:
        (path / "Experiments/a/data").mkdir(parents=True)
        (path / "Experiments/a/data" / name).write_text(text)
    kind, message = outcome(lambda: data.read_signal(path), "path")
    assert kind == "clear" and ("pickles are never read" in message or "JSON" in message), message


def test_an_axis_that_claims_more_than_the_data_have_is_refused(good, tmp_path):
    import h5py

    path = tmp_path / "huge.hspy"
    path.write_bytes((good / "maps.hspy").read_bytes())
    with h5py.File(path, "a") as file:
        next(iter(file["Experiments"].values()))["axis-0"].attrs["size"] = 10**12
    refuses(lambda: data.read_signal(path), "path", path)


def test_stacks_that_claim_more_than_they_hold_are_refused_unread(good, tmp_path):
    content = bytearray((good / "maps.mrc").read_bytes())
    struct.pack_into("<3i", content, 0, 30_000, 30_000, 30_000)
    (tmp_path / "maps.mrc").write_bytes(content)
    tags = {256: 10**6, 257: 10**6, 258: 32, 259: 1, 262: 1, 273: 200, 278: 10**6, 279: 2**31}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    (tmp_path / "maps.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(400))
    for name in ("maps.mrc", "maps.tif"):
        refuses(lambda name=name: data.read_signal(tmp_path / name), "path", name)
        refuses(lambda name=name: data.read_tilt_series(tmp_path / name, tilt_angles_deg=TILTS), "path", name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path", MAPS.astype(float) * 1e300),
        ("channels", ["FeO", "FeO"]),
        ("channels", ["a", "b", "c"]),
        ("unit", ["nm", "nm"]),
        ("unit", 3),
    ],
)
def test_archives_that_hold_something_else_are_refused(name, value, tmp_path):
    arrays = {"projections": MAPS, "tilt_angles_deg": TILTS} | {name.replace("path", "projections"): value}
    np.savez(tmp_path / "maps.npz", **arrays)
    refuses(lambda: data.read_tilt_series(tmp_path / "maps.npz"), name, value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_no_pipe_is_waited_for(good, tmp_path):
    for name in ("settings.yml", "angles.txt", "standards.npz"):
        os.mkfifo(tmp_path / name)
    settings = {"maps": good / "maps.npz", "tilt_angles_deg": str(tmp_path / "angles.txt")}
    refuses(lambda: pipeline.Settings.from_file(tmp_path / "settings.yml"), "path", "a pipe")
    refuses(lambda: pipeline.Settings.build(settings), "tilt_angles_deg", "a pipe")
    with time_limit(SECONDS):
        (problem,) = pipeline.inspect(tmp_path / "standards.npz").problems
    assert problem.startswith("path: got a pipe or device")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", [".zarray", "0.0.0"])
def test_no_pipe_in_a_store_is_waited_for(name, good, tmp_path):
    path = tmp_path / "maps.zspy"
    shutil.copytree(good / "maps.zspy", path)
    place = next(path.rglob("data/.zarray")).with_name(name)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    refuses(lambda: data.read_tilt_series(path), "path", "a pipe")


@pytest.mark.parametrize("value", [3, None, "", "a\0b", [], {}, True])
def test_what_can_be_no_path_is_named(value):
    refuses(lambda: pipeline.inspect(value), "path", value)
    refuses(lambda: pipeline.Settings.from_file(value), "path", value)
    refuses(lambda: pipeline.Folder(value), "output", value)
    refuses(lambda: pipeline.expand([value], name="maps"), "maps", value)


def test_the_home_of_nobody_is_no_place():
    refuses(lambda: pipeline.inspect("~nobody-of-this-name/a.npz"), "path", "~nobody-of-this-name")


def test_a_file_of_a_newer_hyperspy_is_refused_in_plain_words(good, tmp_path):
    path = tmp_path / "future.hspy"
    shutil.copy(good / "maps.hspy", path)
    with h5py.File(path, "a") as file:
        file.attrs["file_format_version"] = "99.0"
    for read in (data.read_signal, data.read_tilt_series):
        with pytest.raises(ValueError, match=r"^path: got future\.hspy, which a newer HyperSpy wrote"):
            read(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("references", REFERENCES * np.nan),
        ("references", REFERENCES[0]),
        ("energy_eV", EV[::-1]),
        ("uncertainty", np.ones(3)),
        ("samples", np.array(["a"])),
        ("phases", np.array('["FeO", "FeO"]')),
    ],
)
def test_standards_that_hold_something_else_cannot_enter(name, value, good, tmp_path):
    with np.load(good / "standards.npz") as archive:
        np.savez(tmp_path / "standards.npz", **dict(archive) | {name: value})
    found = pipeline.inspect(tmp_path / "standards.npz")
    assert found.kind == "unknown", found
    with pytest.raises(ValueError, match=rf"path: got standards.npz, .*{name}"):
        standards.Standards.load(tmp_path / "standards.npz")
