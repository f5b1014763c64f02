"""Metrics against cases whose value is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from softeels_utils import metrics
from softeels_utils.simulate import core_shell_nanocube

SIZE_NM = 64 / 48


@pytest.fixture(scope="module")
def cube():
    return core_shell_nanocube(48)


def _noisy(truth, sigma, seed):
    return truth + sigma * np.random.default_rng(seed).standard_normal(truth.shape)


def test_errors_of_known_size(cube):
    assert metrics.nrmse(cube, cube) == 0
    assert metrics.nrmse(1.1 * cube, cube) == pytest.approx(0.1, rel=1e-5)
    np.testing.assert_allclose(metrics.nrmse(np.stack([cube[0], 2 * cube[1]]), cube, per_channel=True), [0, 1])
    noisy = _noisy(cube, 0.1, 0)
    assert metrics.psnr(noisy, cube) == pytest.approx(20, abs=0.1)
    assert metrics.psnr(noisy, cube, data_range=10) == pytest.approx(40, abs=0.1)
    assert metrics.ssim(cube, cube) == pytest.approx(1)
    assert metrics.ssim(_noisy(cube, 0.3, 0), cube) < metrics.ssim(noisy, cube) < 1


def test_ssim_is_three_dimensional(cube):
    """A volume whose slices are each right but in the wrong order is wrong."""
    order = np.random.default_rng(0).permutation(cube.shape[1])
    assert metrics.ssim(cube[:, order], cube) < 0.9


def test_phase_fraction(cube):
    assert metrics.phase_fraction_error(cube, cube) == (0, 0)
    assert metrics.phase_fraction_error(0.5 * cube, cube) == pytest.approx((0, 0), abs=1e-6)
    total = cube.sum(axis=0)
    half = np.stack([total / 2, total / 2])
    whole, _ = metrics.phase_fraction_error(half, cube)
    assert whole == pytest.approx(0.5 - cube[0].sum() / cube.sum(), abs=1e-5)


# ---------------------------------------------------------------- Fourier shells


def test_fsc_of_equal_volumes_and_of_noise(cube):
    same = metrics.fourier_shell_correlation(cube, cube, SIZE_NM)
    assert np.nanmin(same.correlation) == pytest.approx(1) and same.resolution_nm == pytest.approx(2 * SIZE_NM)
    noise = [_noisy(np.zeros_like(cube), 1, s) for s in (0, 1)]
    none = metrics.fourier_shell_correlation(*noise, SIZE_NM, taper=False)
    expected = 1 / np.sqrt(2 * none.count[3:])  # standard deviation: pairs of voxels, two channels
    assert np.abs(none.correlation[3:] / expected).mean() < 2
    assert same.frequency[-1] == pytest.approx(0.5 / SIZE_NM)


def test_fsc_finds_a_known_cutoff():
    """Signal below a frequency, noise above: the correlation falls there."""
    n, cutoff = 64, 0.2
    rng = np.random.default_rng(0)
    q = np.sqrt(sum(c**2 for c in np.meshgrid(*[np.fft.fftfreq(n)] * 3, indexing="ij")))
    signal = np.fft.ifftn(np.fft.fftn(rng.standard_normal((n, n, n))) * (q < cutoff)).real
    halves = [signal + 0.05 * rng.standard_normal(signal.shape) for _ in range(2)]
    found = metrics.fourier_shell_correlation(*halves, taper=False)
    assert 1 / found.resolution_nm == pytest.approx(cutoff, abs=0.02)


def test_fsc_cones_see_the_missing_wedge():
    n = 48
    rng = np.random.default_rng(0)
    q = np.meshgrid(*[np.fft.fftfreq(n)] * 3, indexing="ij")
    wedge = np.abs(q[1]) > np.tan(np.deg2rad(60)) * np.abs(q[2]) + 1e-9  # along Z, nothing measured
    halves = []
    signal = np.fft.fftn(rng.standard_normal((n, n, n)))
    for _ in range(2):
        noise = np.fft.fftn(rng.standard_normal((n, n, n)))
        halves.append(np.fft.ifftn(np.where(wedge, noise, signal + 0.3 * noise)).real)
    fsc = {a: metrics.fourier_shell_correlation(*halves, axis=a, half_angle_deg=20, taper=False) for a in "YZX"}
    middle = slice(5, 20)
    assert np.nanmean(fsc["X"].correlation[middle]) > 0.8 > 0.3 > np.nanmean(fsc["Z"].correlation[middle])
    with pytest.raises(ValueError, match="axis: got 'W'"):
        metrics.fourier_shell_correlation(*halves, axis="W")


# ---------------------------------------------------------------- power spectrum


def test_power_spectrum_resolution_follows_blur():
    rng = np.random.default_rng(0)
    truth = core_shell_nanocube(64).sum(axis=0)
    found = []
    for blur in (1.0, 2.5):
        volume = gaussian_filter(truth, blur) + 1e-3 * rng.standard_normal(truth.shape)
        found.append(metrics.psd_resolution(volume, 1.0))
    assert all(found[0].resolution_nm[a] < found[1].resolution_nm[a] for a in "YZX")
    along_z = gaussian_filter(truth, (0.5, 3.0, 0.5)) + 1e-3 * rng.standard_normal(truth.shape)
    resolution = metrics.psd_resolution(along_z, 1.0).resolution_nm
    assert resolution["Z"] > resolution["X"]
    double = metrics.psd_resolution(along_z, 2.0, band_per_nm=0.125).resolution_nm
    assert double["X"] == pytest.approx(2 * resolution["X"], rel=1e-3)


def test_a_sharp_hallucination_passes_the_power_spectrum():
    """Why it is never reported alone: a cube in the wrong place is as 'resolved' as the right one."""
    truth = core_shell_nanocube(48)
    wrong = np.roll(truth, 6, axis=2)
    a, b = (metrics.psd_resolution(v).resolution_nm["Z"] for v in (truth, wrong))
    assert a == pytest.approx(b, rel=1e-3) and metrics.nrmse(wrong, truth) > 0.5


# ---------------------------------------------------------------- interfaces


def test_interfaces_of_the_truth_are_right(cube):
    exact = metrics.interface_error(cube, cube, SIZE_NM)
    assert exact.core_rms_nm == exact.outer_rms_nm == exact.void_offset_nm == exact.missed == 0
    assert exact.true_void_nm3 == pytest.approx(4 / 3 * np.pi * 2.4**3, rel=0.05)
    assert exact.true_skin_nm == pytest.approx(1.2, rel=0.15)  # 3 of 160 voxels of 0.4 nm


@pytest.mark.parametrize("core, outer", [(44, 80), (40, 86), (36, 76)])
def test_interfaces_find_known_displacements(core, outer):
    """Cubes of other sizes: the faces move by half the difference."""
    box = {"shell": outer / 160, "core": core / 160, "skin": 0, "void_radius": 0}
    truth = core_shell_nanocube(64, **box | {"core": 40 / 160, "shell": 80 / 160})
    found = metrics.interface_error(core_shell_nanocube(64, **box), truth, voxel_size_nm=1.0)
    assert found.core_bias_nm == pytest.approx((core - 40) / 2 * 64 / 160, abs=0.15)
    assert found.outer_bias_nm == pytest.approx((outer - 80) / 2 * 64 / 160, abs=0.15)


def test_void_is_measured(cube):
    filled = cube.copy()
    filled[1] += np.clip(1 - cube.sum(axis=0), 0, 1) * (gaussian_filter(cube.sum(axis=0), 2) > 0.6)
    gone = metrics.interface_error(filled, cube, SIZE_NM)
    assert gone.void_nm3 < 0.2 * gone.true_void_nm3
    moved = metrics.interface_error(shift(cube, (0, 0, 0, 1), order=1), cube, SIZE_NM)
    assert moved.void_offset_nm == pytest.approx(SIZE_NM, rel=0.15)


def test_a_lost_core_counts_as_missed(cube):
    total = cube.sum(axis=0)
    lost = metrics.interface_error(np.stack([0 * total, total]), cube, SIZE_NM)
    assert lost.missed > 0.4 and lost.outer_rms_nm < 0.2


@pytest.mark.parametrize("function", [metrics.nrmse, metrics.psnr, metrics.ssim, metrics.interface_error])
def test_metrics_refuse(function, cube):
    with pytest.raises(ValueError, match="got shapes"):
        function(cube, cube[:, :-1])
    with pytest.raises(ValueError, match="NaN"):
        function(np.full_like(cube, np.nan), cube)
