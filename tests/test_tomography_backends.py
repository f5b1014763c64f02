"""Other projects' codes: same place, scale and orientation as ours, one meaning of an iteration, one constraint."""

import sys
import types

import numpy as np
import pytest
from scipy.ndimage import shift

from softeels_utils.tomography import ParallelBeam, reconstruct
from softeels_utils.tomography.backends import BACKENDS, FREE_ALGORITHMS

ALL = [f"{backend}:{algorithm}" for backend, (_, algorithms) in BACKENDS.items() for algorithm in algorithms]
TILTS = np.linspace(-88, 88, 45)


def blobs(n):
    """An asymmetric slice of smooth blobs: half a voxel shows, and no turn or mirror maps it onto itself."""
    z, x = (np.mgrid[:n, :n] - (n - 1) / 2) / n
    parts = ((0.2, 0.1, 0.05, 1.0), (-0.2, 0.15, 0.08, 0.7), (-0.05, -0.25, 0.06, 0.9), (0.1, -0.05, 0.12, 0.4))
    return sum(h * np.exp(-((z - z0) ** 2 + (x - x0) ** 2) / (2 * s**2)) for z0, x0, s, h in parts).astype(np.float32)


def nrmse(volume, truth):
    return np.linalg.norm(volume - truth) / np.linalg.norm(truth)


def solve(name, projections, tilts=TILTS, **options):
    if ":" in name and name.partition(":")[0] not in sys.modules:
        pytest.importorskip(name.partition(":")[0])
    return reconstruct(projections, tilts, name, **options)


@pytest.mark.parametrize("n", [32, 33])
@pytest.mark.parametrize("algorithm", ["fbp", "sirt", *ALL])
def test_a_slice_comes_back_where_it_was(algorithm, n):
    """Not a quarter of a voxel off along either axis, at even and odd sizes."""
    image = blobs(n)
    projections = ParallelBeam(n, TILTS, voxel_size_nm=2.0)(image[None])[None]
    options = {} if algorithm == "fbp" else {"iterations": 30}
    found = solve(algorithm, projections, voxel_size_nm=2.0, **options)[0, 0]
    quarters = [(dz, dx) for dz in (-0.25, 0, 0.25) for dx in (-0.25, 0, 0.25)]
    errors = {moved: nrmse(shift(found, moved, order=3), image) for moved in quarters}
    assert min(errors, key=errors.get) == (0, 0)
    assert errors[0, 0] < (0.25 if algorithm in ("tomopy:tv", "tomopy:grad") else 0.15)
    assert min(nrmse(np.rot90(m, k), image) for m in (found, found.T) for k in range(4) if k or m is not found) > 0.3


@pytest.mark.parametrize("algorithm", [name for name in ALL if not name.endswith((":mlem", ":osem"))])
def test_noise_below_zero_gives_finite_volumes_not_below_zero(algorithm):
    """In any unit, and the same in every unit; a slice without any signal is no harm."""
    projections = ParallelBeam(24, TILTS)(np.stack([blobs(24), 0 * blobs(24)]))[None]
    projections[:, :, 0] += np.random.default_rng(0).normal(scale=0.5, size=projections[:, :, 0].shape)
    one = solve(algorithm, projections, iterations=5)
    assert np.isfinite(one).all() and not one[0, 1].any()
    assert (one.min() < 0) == (algorithm in FREE_ALGORITHMS)
    np.testing.assert_allclose(solve(algorithm, 1e-6 * projections, iterations=5), 1e-6 * one, atol=1e-11)


@pytest.mark.parametrize("algorithm", ["astra:sart", "astra:art", "astra:sirt", "skimage:sart"])
def test_an_iteration_is_a_pass_over_all_projections(algorithm):
    """One pass brings every voxel near, whatever the number of tilts."""
    image = blobs(32)
    for tilts in (TILTS, TILTS[::3]):
        projections = ParallelBeam(32, tilts)(image[None])[None]
        once = nrmse(solve(algorithm, projections, tilts, iterations=1)[0, 0], image)
        thrice = nrmse(solve(algorithm, projections, tilts, iterations=3)[0, 0], image)
        assert thrice < once < (0.85 if algorithm == "astra:sirt" else 0.65)


@pytest.mark.parametrize("algorithm", ["tomopy:mlem", "tomopy:osem"])
def test_expectation_maximisation_refuses_what_are_no_counts(algorithm, standin):
    projections = ParallelBeam(16, TILTS)(np.stack([blobs(16), 0 * blobs(16)]))[None]
    volume = reconstruct(projections, TILTS, algorithm, iterations=20)
    assert np.isfinite(volume).all() and nrmse(volume[0, 0], blobs(16)) < 0.1 and not volume[0, 1].any()
    projections[0, 0, 0, 0] = -1
    with pytest.raises(ValueError, match=f"projections: got -1 with '{algorithm}', wants none below 0"):
        reconstruct(projections, TILTS, algorithm)


# ---------------------------------------------------------------- the adapter of TomoPy, with or without TomoPy


@pytest.fixture
def standin(monkeypatch):
    """TomoPy's interface and its update rules, with our matrix; the list of all calls' keywords."""
    calls = []

    def recon(tomo, theta, *, sinogram_order, algorithm, init_recon, num_iter, reg_par=(1.0,) * 10):
        assert not sinogram_order and tomo.dtype == init_recon.dtype == np.float32
        calls.append({"algorithm": algorithm, "num_iter": num_iter, "reg_par": reg_par})
        n = tomo.shape[-1]
        A = ParallelBeam(n, -np.rad2deg(theta)).matrix()
        data, v = tomo.swapaxes(0, 1).reshape(len(init_recon), -1).T, init_recon.reshape(len(init_recon), -1).T.copy()
        rows, columns = A @ np.ones((n * n, 1)), A.T @ np.ones((len(data), 1))
        r, before, steps = (2 / (n * len(theta))) ** 0.5, None, None
        with np.errstate(all="ignore"):
            for _ in range(num_iter):
                if algorithm in ("mlem", "osem"):
                    v = v * (A.T @ (data / (A @ v))) / columns
                elif algorithm == "grad":
                    slope = 2 * A.T @ (A @ v - data) * r**2
                    if reg_par[0] >= 0:
                        steps = reg_par[0]
                    elif before is None:
                        steps = 1e-3
                    else:
                        change, bend = v - before[0], slope - before[1]
                        steps = (change * bend).sum(0) / (bend**2).sum(0)
                    before = v, slope
                    v = v - steps * slope
                else:
                    v = v + A.T @ ((data - A @ v) / rows) / columns
        return v.T.reshape(-1, n, n).astype(np.float32)

    monkeypatch.setitem(sys.modules, "tomopy", types.SimpleNamespace(recon=recon))
    return calls


@pytest.mark.parametrize("algorithm", ["sirt", "art", "bart", "mlem", "osem", "grad"])
def test_tomopy_starts_bounds_and_counts_as_ours(standin, algorithm):
    image = blobs(24)
    projections = ParallelBeam(24, TILTS)(np.stack([image, 0 * image]))[None]
    if algorithm not in ("mlem", "osem"):
        projections[:, :, 0] += np.random.default_rng(0).normal(scale=0.1, size=projections[:, :, 0].shape)
    found = reconstruct(projections, TILTS, f"tomopy:{algorithm}", iterations=25)
    assert sum(call["num_iter"] for call in standin) == 25
    assert np.isfinite(found).all() and nrmse(found[0, 0], image) < 0.2 and not found[0, 1].any()
    assert (found.min() < 0) == (algorithm == "grad")
    small = reconstruct(1e-6 * projections, TILTS, f"tomopy:{algorithm}", iterations=25)
    np.testing.assert_allclose(small, 1e-6 * found, atol=1e-9)
    if algorithm == "sirt":  # bounded after every iteration: what ours does with the same matrix
        ours = reconstruct(projections, TILTS, "sirt", iterations=25)
        np.testing.assert_allclose(found[0, 0], ours[0, 0], atol=1e-3)


def test_the_weight_of_tomopys_total_variation_follows_the_noise(standin):
    projections = ParallelBeam(24, TILTS)(np.stack([blobs(24)] * 4))[None]
    noise = np.random.default_rng(0).normal(size=projections.shape)
    for sigma in (0.1, 0.4):
        reconstruct(projections + sigma * noise, TILTS, "tomopy:tv", iterations=3)
        reconstruct(1e-4 * (projections + sigma * noise), TILTS, "tomopy:tv", iterations=3)
    largest = [(projections + sigma * noise).max() for sigma in (0.1, 0.4)]
    weights = [call["reg_par"][0] for call in standin]
    assert weights[::2] == pytest.approx(
        [s * (2 / 24) ** 0.5 / most for s, most in zip((0.1, 0.4), largest, strict=True)], rel=0.15
    )
    assert weights[1::2] == pytest.approx(weights[::2], rel=1e-4)  # in units of the largest projection


def test_a_backend_that_diverges_says_so(standin, monkeypatch):
    def recon(tomo, theta, *, init_recon, **options):
        return np.full_like(init_recon, np.nan)

    monkeypatch.setattr(sys.modules["tomopy"], "recon", recon)
    with pytest.raises(ValueError, match="iterations: got NaN or inf from 'tomopy:grad' at 7, wants finite"):
        reconstruct(np.ones((1, 2, 1, 8)), [0, 10], "tomopy:grad", iterations=7)
