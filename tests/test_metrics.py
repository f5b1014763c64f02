"""Metrics against cases whose value is known."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter, shift

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


# ---------------------------------------------------------------- corners


def _box(half, n=40):
    """A cube (1, n, n, n) of this half edge about the middle, antialiased along each axis."""
    line = np.clip(half + 0.5 - np.abs(np.arange(n) - (n - 1) / 2), 0, 1)
    return (line[:, None, None] * line[:, None] * line)[None]


def test_corners_find_a_known_displacement():
    """A larger cube: its faces move by d, its edges by √2 d along the diagonal, its vertices by √3 d."""
    truth, region = _box(10), np.ones((40, 40, 40), bool)
    assert metrics.corner_error(truth, truth).rms_nm == pytest.approx(0, abs=1e-12)
    for d in (-1.0, 2.0):
        everywhere = metrics.corner_error(_box(10 + d), truth, 2.0, region=region)
        corners = metrics.corner_error(_box(10 + d), truth, 2.0)
        assert abs(2 * d) < np.sign(d) * everywhere.bias_nm < 1.15 * abs(2 * d)
        assert 1.25 * abs(2 * d) < np.sign(d) * corners.bias_nm < 1.6 * abs(2 * d)
        assert corners.rms_nm >= abs(corners.bias_nm) and corners.points < 0.4 * everywhere.points


def test_rounded_corners_are_seen_where_they_are():
    """Edges along one axis rounded with radius r: on their diagonal the surface retreats by (√2 - 1) r."""
    n, half, r = 48, 14, 6
    fine = np.abs((np.arange(4 * n) + 0.5) / 4 - n / 2)
    y, z = np.meshgrid(fine, fine, indexing="ij")
    beyond = np.hypot(np.maximum(y - half + r, 0), np.maximum(z - half + r, 0))
    square = (beyond <= r) & (np.maximum(y, z) <= half)
    bodies = [f.reshape(n, 4, n, 4).mean(axis=(1, 3)) for f in (np.maximum(y, z) <= half, square)]
    sharp, rounded = (np.repeat(body[..., None], 16, axis=2)[None] for body in bodies)
    region = np.zeros(sharp.shape[1:], bool)
    region[9:11, 9:11, 4:12] = region[-11:-9, 9:11, 4:12] = True  # two edges
    error = metrics.corner_error(rounded, sharp, region=region)
    assert error.points >= 16 and error.bias_nm == pytest.approx(-(np.sqrt(2) - 1) * r, rel=0.12)
    faces = np.zeros_like(region)
    faces[22:26, :, 4:12] = True
    assert metrics.corner_error(rounded, sharp, region=faces).rms_nm < 1e-3
    gone = metrics.corner_error(np.zeros_like(sharp), sharp, region=region)
    assert gone.bias_nm == -4 and np.isnan(metrics.corner_error(sharp, np.zeros_like(sharp)).rms_nm)


def test_a_sphere_has_no_corners_and_other_bodies_have():
    def points(shape, **kwargs):
        body = core_shell_nanocube(48, shape=shape, core=None, skin=0, void_radius=0, **kwargs)
        return metrics.corner_error(body, body).points

    assert points("sphere", shell=0.4) == 0 < points("octahedron", shell=0.8)


# ---------------------------------------------------------------- skin


def _skinned(thickness, n=48, radius=14.0, core=6.0):
    """A sphere of phase 1 with a core of phase 0, and a skin of phase 0 whose thickness depends on the direction."""
    fine = (np.arange(3 * n) + 0.5) / 3 - n / 2
    grid = np.stack(np.meshgrid(fine, fine, fine, indexing="ij"))
    r = np.sqrt((grid**2).sum(axis=0))
    outer = radius + thickness(grid / np.maximum(r, 1e-9))
    parts = np.stack([(r < core) | ((r >= radius) & (r < outer)), (r >= core) & (r < radius)]).astype(np.float32)
    return parts.reshape(2, n, 3, n, 3, n, 3).mean(axis=(2, 4, 6), dtype=float)


@pytest.fixture(scope="module")
def skins():
    kinds = {
        "even": lambda u: 2.0 + 0 * u[0],
        "star": lambda u: 2.0 * (1 + np.sign(u[0] * u[1] * u[2])),  # 4 voxels in four octants, none in the others
        "none": lambda u: 0 * u[0],
        "half": lambda u: 2.0 * (u[0] > 0),
    }
    return {name: _skinned(kind) for name, kind in kinds.items()}


def test_a_star_shaped_skin_has_the_right_mean_only(skins):
    right, star = (metrics.skin_error(skins[name], skins["even"], SIZE_NM) for name in ("even", "star"))
    assert right.rms_nm == 0 and right.true_mean_nm == pytest.approx(2 * SIZE_NM, rel=0.05)
    assert star.mean_nm == pytest.approx(star.true_mean_nm, rel=0.25)  # cut at three voxels outside the surface
    assert star.rms_nm == pytest.approx(2 * SIZE_NM, rel=0.2) and star.missed == pytest.approx(0.5, abs=0.1)
    assert star.spread_nm > 5 * star.true_spread_nm


def test_false_and_missed_skins(skins):
    lost = metrics.skin_error(skins["none"], skins["half"], SIZE_NM)
    assert lost.missed > 0.95 and lost.mean_nm < 0.1 and lost.false_nm == pytest.approx(0, abs=1e-3)
    assert lost.directions == pytest.approx(1100, abs=60)  # the centre of mass lies on the side of the skin
    assert lost.bare == pytest.approx(900, abs=60)
    false = metrics.skin_error(skins["even"], skins["half"], SIZE_NM)
    assert false.false_nm == pytest.approx(2 * SIZE_NM, rel=0.05) and false.false_fraction > 0.98
    assert false.rms_nm < 0.25 * SIZE_NM  # rays along the edge of the half
    bare = metrics.skin_error(skins["even"], skins["none"])
    assert np.isnan(bare.rms_nm) and bare.directions == 0 and bare.false_nm == pytest.approx(2, rel=0.05)
    region = skins["half"][0] * (np.indices((48, 48, 48))[0] > 23) > 0.1
    region &= np.linalg.norm(np.indices((48, 48, 48)) - 23.5, axis=0) > 12
    stated = metrics.skin_error(skins["none"], skins["half"], SIZE_NM, region=region)
    assert stated.missed > 0.9 and stated.directions == pytest.approx(lost.directions, abs=100)


def test_a_skin_of_a_third_phase(skins):
    third = np.stack([np.zeros_like(skins["even"][0]), skins["even"][1], skins["even"][0]])
    error = metrics.skin_error(0.5 * third, third, channel=2)
    assert error.mean_nm == pytest.approx(error.true_mean_nm / 2) and error.true_mean_nm == pytest.approx(2, rel=0.05)
    with pytest.raises(ValueError, match="channel: got 3"):
        metrics.skin_error(third, third, channel=3)


def test_false_skin_is_measured_as_painted(skins):
    bare = skins["none"]
    total = bare.sum(axis=0)
    distance = np.linalg.norm(np.indices(total.shape) - 23.5, axis=0)
    film = distance > 11  # more than two voxels deep
    painted = np.stack([bare[0] + 0.6 * film * bare[1], bare[1] * (1 - 0.6 * film)])
    found = metrics.false_skin(painted, bare)
    assert found.mean == pytest.approx(0.6, rel=0.1) and found.fraction > 0.9
    assert metrics.false_skin(bare, bare) == metrics.InventedPhase(0, 0, found.voxels)
    within = metrics.false_skin(skins["even"], skins["half"])  # between the patches only; outside there is no voxel
    assert 0 < within.voxels < 0.6 * found.voxels
    assert metrics.false_skin(skins["even"], skins["even"]).voxels == 0
    assert np.isnan(metrics.false_skin(skins["even"], skins["even"]).mean)


# ---------------------------------------------------------------- voids


@pytest.fixture(scope="module")
def holed():
    """A sphere of phase 1 with two voids, and where they are."""
    voids = [{"center": (23.5, 20.0, 17.0), "radius": 3.0}, {"center": (20.0, 27.0, 32.0), "radius": 1.5}]
    truth = _skinned(lambda u: 0 * u[0], core=0.0)
    fine = (np.arange(4 * 48) + 0.5) / 4 - 0.5
    grid = np.stack(np.meshgrid(fine, fine, fine, indexing="ij"), axis=-1).astype(np.float32)
    for void in voids:
        ball = np.linalg.norm(grid - np.asarray(void["center"], np.float32), axis=-1) < void["radius"]
        truth[1] *= 1 - ball.reshape(48, 4, 48, 4, 48, 4).mean(axis=(1, 3, 5))
    return truth, voids


def test_each_void_is_measured(holed):
    truth, voids = holed
    for known in (voids, None):
        errors = metrics.void_errors(truth, truth, SIZE_NM, voids=known)
        for error, void in zip(errors, voids, strict=True):
            assert error.true_nm3 == pytest.approx(4 / 3 * np.pi * (void["radius"] * SIZE_NM) ** 3, rel=0.04)
            np.testing.assert_allclose(error.center, void["center"], atol=0.3)
            assert error.volume_nm3 == error.true_nm3 and error.offset_nm == 0 and error.contrast == pytest.approx(1)
    full, filled = _skinned(lambda u: 0 * u[0], core=0.0), truth.copy()
    filled[1, :, :, 26:] = full[1, :, :, 26:]  # the second void is gone
    first, second = metrics.void_errors(filled, truth, voids=voids)
    assert first.contrast == pytest.approx(1) and second.contrast == pytest.approx(0, abs=0.02)
    assert second.volume_nm3 < 0.1 and np.isnan(second.offset_nm)
    moved, _ = metrics.void_errors(shift(truth, (0, 0, 0, 1), order=1), truth, 2.0, voids=voids)
    assert moved.offset_nm == pytest.approx(2.0, rel=0.15)
    for error in metrics.void_errors(0.5 * truth + 0.5 * full, truth, voids=voids):
        assert error.contrast == pytest.approx(0.5, abs=0.01)
        assert error.volume_nm3 == pytest.approx(error.true_nm3 / 2, rel=0.05)
    assert metrics.void_errors(_box(10), _box(10)) == []


def test_a_void_that_was_found_has_one_volume(holed):
    truth, _ = holed
    noisy = truth + 0.1 * np.random.default_rng(2).standard_normal(truth.shape)
    edges = metrics.interface_error(noisy, truth, SIZE_NM)
    largest = metrics.void_errors(noisy, truth, SIZE_NM)[0]
    assert largest.volume_nm3 == pytest.approx(edges.void_nm3, rel=0.02)
    assert largest.true_nm3 == pytest.approx(edges.true_void_nm3, rel=0.02)


def test_vacuum_in_the_solid_is_counted(holed):
    truth, _ = holed
    assert metrics.false_void(truth, truth).mean == 0 and metrics.false_void(truth, truth).voxels > 1000
    depth = distance_transform_edt(truth.sum(0) > 0.95)
    hollow, at = truth.copy(), np.unravel_index(depth.argmax(), depth.shape)
    hollow[(slice(None), *(slice(k - 1, k + 2) for k in at))] *= 0.5
    found = metrics.false_void(hollow, truth)
    assert round(found.fraction * found.voxels) == 27 and found.mean * found.voxels == pytest.approx(13.5, rel=0.02)


def test_a_film_about_voids_is_measured_as_painted(holed):
    truth, voids = holed
    total, films = truth.sum(axis=0), np.zeros(truth.shape[1:])
    for void in voids:
        distance = np.linalg.norm(np.moveaxis(np.indices(films.shape), 0, -1) - void["center"], axis=-1)
        films[(distance < void["radius"] + 2.6)] = 1
    painted = np.stack([0.4 * films * total, (1 - 0.4 * films) * total])
    for known in (voids, None):
        found = metrics.film_about_voids(painted, truth, voids=known)
        assert found.mean == pytest.approx(0.4, rel=0.15) and found.fraction > 0.8 and found.voxels > 200
        assert metrics.film_about_voids(truth, truth, voids=known).mean == 0
    outside = np.stack([0.4 * (1 - films) * total, (1 - 0.4 * (1 - films)) * total])
    assert metrics.film_about_voids(outside, truth, voids=voids).mean == 0
    assert np.isnan(metrics.film_about_voids(_box(10), _box(10)).mean)


def test_the_blur_of_a_core_that_a_void_cuts_is_no_film():
    truth = core_shell_nanocube(48, void_center=(0, 0, 20 / 160), void_radius=9 / 160, rotation_deg=None)
    blurred = np.stack([gaussian_filter(channel, 0.7) for channel in truth])
    assert abs(metrics.film_about_voids(blurred, truth).mean) < 0.02


# ---------------------------------------------------------------- directions, intervals


def test_the_worst_direction_is_the_one_that_is_blurred(cube):
    along_z = gaussian_filter(cube, (0, 0.3, 2.5, 0.3))
    found = metrics.directional_resolution(along_z, cube, SIZE_NM)
    assert abs(found.worst_direction[1]) > 0.85 and found.worst_nm == found.resolution_nm.max()
    across = found.resolution_nm[np.abs(found.directions[:, 1]) < 0.3]
    assert found.worst_nm > 1.5 * np.median(across)
    assert np.allclose(metrics.directional_resolution(cube, cube, SIZE_NM).resolution_nm, 2 * SIZE_NM)
    noise = metrics.directional_resolution(_noisy(np.zeros_like(cube), 1, 0), cube, SIZE_NM)
    assert noise.worst_nm == pytest.approx(64)  # nothing agrees: the side of the field of view
    along_y = metrics.fourier_shell_correlation(along_z, cube, SIZE_NM, axis="Y", half_angle_deg=20, threshold=0.5)
    nearest = found.resolution_nm[np.argmax(np.abs(found.directions[:, 0]))]
    assert along_y.resolution_nm == pytest.approx(nearest, rel=0.15)


def test_coverage_is_that_of_the_intervals():
    rng = np.random.default_rng(0)
    truth, estimate = np.zeros((2, 20, 20, 20)), rng.standard_normal((2, 20, 20, 20))
    left = np.zeros((20, 20, 20), bool)
    left[..., :8] = True
    half = np.where(left, 1.645, 0.0)
    regions = {"left": left, "right": ~left, "none": left & ~left, "first": np.stack([left, left & ~left])}
    found = metrics.coverage(estimate - half, estimate + half, truth, regions)
    assert found["left"] == pytest.approx(0.9, abs=0.015) and found["right"] == 0 and np.isnan(found["none"])
    assert found["first"] == pytest.approx(0.9, abs=0.02)
    assert metrics.coverage(truth, truth, truth, {"left": left}) == {"left": 1.0}
    with pytest.raises(ValueError, match=r"regions\['left'\]: got bool of shape"):
        metrics.coverage(truth, truth, truth, {"left": left[:-1]})
    with pytest.raises(ValueError, match="lower, upper, truth: got shapes"):
        metrics.coverage(truth[:1], truth, truth, {})


@pytest.mark.parametrize("function", [metrics.corner_error, metrics.skin_error, metrics.void_errors])
def test_features_refuse(function, cube):
    with pytest.raises(ValueError, match="got shapes"):
        function(cube, cube[:, :-1])
    with pytest.raises(ValueError, match=r"wants .K, Y, Z, X"):
        function(cube[0], cube[0])
