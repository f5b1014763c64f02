"""Hypothesis strategies for inputs that the package must accept, one for each kind of argument.

Sizes stay small, values stay within what a microscope can give; orders and shapes are what a user may do: tilts in any
order, slices that are not square, covariances with strong correlation between the phases.
"""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays


def reals(low, high, **options):
    return st.floats(low, high, allow_nan=False, allow_infinity=False, **options)


def seeds():
    return st.integers(0, 2**32 - 1)


# ---------------------------------------------------------------- tomography


@st.composite
def tilt_angles(draw, min_tilts=1, max_tilts=9, max_tilt_deg=75.0):
    """(T,) degrees: distinct by at least 1°, in any order; two or more span at least 10°."""
    count = draw(st.integers(min_tilts, max_tilts))
    degrees = st.integers(int(-max_tilt_deg), int(max_tilt_deg))
    distinct = st.lists(degrees, min_size=count, max_size=count, unique=True)
    whole = draw(distinct.filter(lambda tilts: len(tilts) < 2 or max(tilts) - min(tilts) >= 10))
    return np.array(whole) + draw(reals(0, 0.5))


def slice_shapes(min_side=2, max_side=12):
    """(Z, X) of a slice, square or not."""
    side = st.integers(min_side, max_side)
    return st.tuples(side, side)


@st.composite
def volumes(draw, channels=None, slice_shape=None, max_rows=3):
    """(C, Y, Z, X), volume fractions of 0 to 1, float32."""
    channels = draw(st.integers(1, 3)) if channels is None else channels
    slice_shape = draw(slice_shapes()) if slice_shape is None else slice_shape
    shape = (channels, draw(st.integers(1, max_rows)), *slice_shape)
    return draw(arrays.arrays(np.float32, shape, elements=st.floats(0, 1, width=32)))


@st.composite
def projections(draw, channels=None, tilts=None, rows=None, columns=None):
    """(C, T, Y, X) in units of voxels: smooth, positive and noisy, from a seed (which hypothesis shrinks)."""
    sizes = [
        draw(st.integers(low, high)) if size is None else size
        for size, low, high in ((channels, 1, 3), (tilts, 1, 9), (rows, 1, 4), (columns, 2, 12))
    ]
    rng = np.random.default_rng(draw(seeds()))
    profile = np.hanning(sizes[-1] + 2)[1:-1] * sizes[-1]
    noise = draw(reals(0, 0.2)) * sizes[-1]
    return (profile * rng.uniform(0.5, 1, (*sizes[:3], 1)) + noise * rng.standard_normal(sizes)).astype(np.float32)


@st.composite
def covariances(draw, channels=2, min_sigma=1e-3, max_sigma=10.0, max_correlation=0.98):
    """(C, C), symmetric and positive definite: any standard deviations, any correlation up to a limit."""
    sigma = np.array(draw(st.lists(reals(min_sigma, max_sigma), min_size=channels, max_size=channels)))
    if channels == 1:
        return np.diag(sigma**2)
    spread = np.random.default_rng(draw(seeds())).standard_normal((channels, channels))
    matrix = spread @ spread.T
    correlation = matrix / np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
    part = draw(reals(0, max_correlation))
    return (part * correlation + (1 - part) * np.eye(channels)) * np.outer(sigma, sigma)


# ---------------------------------------------------------------- spectra


@st.composite
def energy_axes(draw, start_eV=(-20.0, 600.0), step_eV=(0.05, 1.0), size=(64, 512)):
    """(E,) in eV: even steps, increasing."""
    return draw(reals(*start_eV)) + draw(reals(*step_eV)) * np.arange(draw(st.integers(*size)))


@st.composite
def spectrum_images(draw, energy_eV, max_side=3, counts=(1.0, 1e4)):
    """(Y, X, E) Poisson counts of a falling background and one edge, on a given axis."""
    energy = energy_eV - energy_eV[0] + 50.0
    onset = draw(reals(0.3, 0.7)) * (energy[-1] - energy[0]) + energy[0]
    background = (energy / energy[0]) ** -draw(reals(1.0, 4.0))
    edge = draw(reals(0, 2)) * (energy > onset) * (energy / onset) ** -3.0
    shape = draw(st.tuples(st.integers(1, max_side), st.integers(1, max_side)))
    thickness = np.random.default_rng(draw(seeds())).uniform(0.2, 1, (*shape, 1))
    mean = draw(reals(*counts)) * thickness * (background + edge)
    return np.random.default_rng(draw(seeds())).poisson(mean).astype(float)
