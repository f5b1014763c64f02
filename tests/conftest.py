"""Settings of all tests, and the fixtures that many of them share (`specimens` and `strategies` make the rest)."""

import os

# No progress bars; and one set of threads, so that seeds mean the same in every test.
os.environ.setdefault("SOFTEELS_HEADLESS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait stall a busy machine

import pytest
from specimens import tilt_series


@pytest.fixture(scope="session")
def cube():
    """(truth, projections, covariance) of a 24³ core-shell nanocube, nine tilts, 5 % noise; not to be written to."""
    made = tilt_series(24)
    for array in made:
        array.setflags(write=False)
    return made
