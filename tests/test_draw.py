"""Drawn specimens: the same from the same seed, different on the other half, and what their label says."""

import json

import numpy as np
import pytest
from skimage.measure import block_reduce

from softeels_utils import metrics, study
from softeels_utils.simulate import SpecimenDraw, draw_specimen, project_fine
from softeels_utils.tomography import ParallelBeam

PLAIN = {"support": False, "third_phase": None, "mixture": None, "graded_nm": 0.0, "shift_px": 0.0}
PLAIN |= {"axis_angle_deg": 0.0, "missing_tilt": False, "noise": "independent", "level": 0.05}


def arrays(draw):
    return {name: value for name, value in vars(draw).items() if isinstance(value, np.ndarray)}


@pytest.fixture(scope="module")
def draws():
    return [draw_specimen(seed, "tune", 24, fit_covariance=study.pixel_covariance) for seed in range(18)]


def test_the_same_seed_draws_the_same(draws):
    for seed in (0, 5):
        again = draw_specimen(seed, "tune", 24, fit_covariance=study.pixel_covariance)
        assert again.label == draws[seed].label
        assert all(np.array_equal(value, getattr(draws[seed], name)) for name, value in arrays(again).items())
        assert all(np.array_equal(mask, draws[seed].regions[name]) for name, mask in again.regions.items())


def test_the_halves_share_no_draw(draws):
    other = [draw_specimen(seed, "report", 24, fit_covariance=study.pixel_covariance) for seed in range(6)]
    angles = {draw.label["max_tilt_deg"] for draw in draws} | {draw.label["max_tilt_deg"] for draw in other}
    assert len(angles) == len(draws) + len(other)
    assert {draw.label["half"] for draw in other} == {"report"}
    same = {"noise": "independent", "views": 9, "max_tilt_deg": 70, "level": 0.05, "missing_tilt": False}
    a, b = (draw_specimen(1, half, 24, **same | {"support": False, "third_phase": None}) for half in ("tune", "report"))
    noise = [((d.projections - d.clean) / d.clean.max(axis=(1, 2, 3), keepdims=True)).ravel() for d in (a, b)]
    assert abs(np.corrcoef(noise)[0, 1]) < 0.02  # 10,368 values: 0.01


def test_draws_are_what_they_say(draws):
    for draw in draws:
        label, channels, views = draw.label, len(draw.phases), draw.tilt_angles_deg.size
        json.dumps(label)
        assert draw.truth.shape == (channels, 24, 24, 24) and draw.fine.shape == (channels, 48, 48, 48)
        assert draw.projections.shape == (channels, views, 24, 24) and label["views"] == views
        np.testing.assert_allclose(draw.truth, block_reduce(draw.fine, (1, 2, 2, 2), np.mean), atol=1e-6)
        assert draw.truth.min() >= 0 and draw.truth.sum(axis=0).max() <= 1 + 1e-5
        particle = draw.truth[: channels - ("support" in draw.phases)].sum(axis=0)
        for side in (0, -1):  # it lies in the box
            assert max(particle[side].max(), particle[:, side].max(), particle[:, :, side].max()) == 0
        assert 5 <= views <= 29 and 50 <= label["max_tilt_deg"] <= 70 and np.abs(draw.shifts_px).max() <= 0.5
        assert (draw.covariance is None) == (label["noise"]["kind"] == "poisson") == bool(draw.counts_per_nm)
        for void in label["voids"]:
            assert 0.5 <= void["radius"] <= 3
            nearest = tuple(np.rint(void["center"]).astype(int))
            if void["radius"] >= 1:  # the voxel of its centre is vacuum
                assert draw.truth[(slice(None), *nearest)].sum() < 0.3 or "support" in draw.phases
        assert (label["skin"] == "none") == (not draw.regions["skin"].any())
    kinds = {draw.label["shape"]["name"] for draw in draws}
    assert len(kinds) >= 5 and len({draw.label["noise"]["kind"] for draw in draws}) == 4


def test_what_is_fixed_changes_nothing_else():
    free, fixed = (draw_specimen(2, "tune", 16, **options) for options in ({}, {"views": 7, "noise": "poisson"}))
    assert np.array_equal(free.truth, fixed.truth) and fixed.label["views"] == 7 and fixed.counts_per_nm > 0
    assert free.label["max_tilt_deg"] == fixed.label["max_tilt_deg"]
    with pytest.raises(ValueError, match="half: got 'test'"):
        draw_specimen(0, "test")
    with pytest.raises(ValueError, match=r"fixed: got .'vews'"):
        draw_specimen(0, vews=9)
    with pytest.raises(ValueError, match="noise: got 'white'"):
        draw_specimen(0, noise="white")
    with pytest.raises(ValueError, match="views: got 2"):
        draw_specimen(0, views=2.5)
    with pytest.raises(ValueError, match="level: got -1"):
        draw_specimen(0, level=-1)
    with pytest.raises(ValueError, match="fit_covariance: got None"):
        draw_specimen(0, noise="fit")


def test_the_grid_is_the_same_specimen():
    voids = {"voids": 0}  # they are drawn in voxels
    coarse, fine = (draw_specimen(4, "tune", n, oversample=4, **PLAIN, **voids) for n in (16, 32))
    assert np.abs(coarse.truth - block_reduce(fine.truth, (1, 2, 2, 2), np.mean)).mean() < 3e-3


@pytest.mark.parametrize("shape", ["cube", "truncated cube", "octahedron", "sphere", "rod"])
def test_volumes_of_the_shapes(shape):
    whole = {"skin": "none", "core": False, "voids": 0, "views": 5}
    draw = draw_specimen(7, "tune", 24, shape=shape, **PLAIN, **whole)
    half, other = draw.label["shape"]["voxels"] / 2, draw.label["shape"]["other_voxels"] / 2
    volume = {
        "cube": 8 * half**3,
        "octahedron": 4 / 3 * half**3,
        "sphere": 4 / 3 * np.pi * half**3,
        "truncated cube": 8 * (half**3 - max(3 * half - other, 0) ** 3 / 6 + 3 * max(2 * half - other, 0) ** 3 / 6),
        "cylinder": np.pi * half**2 * 2 * other,
        "square rod": 8 * half**2 * other,
    }[draw.label["shape"]["name"]]
    assert draw.truth[1].sum() == pytest.approx(volume, rel=0.01) and draw.truth[0].sum() == 0


def test_skin_and_patches():
    def skin(**options):
        return draw_specimen(3, "tune", 32, shape="sphere", core=False, voids=0, views=5, **PLAIN, **options)

    whole, patches, none = (skin(skin=kind, skin_nm=2.0) for kind in ("whole", "patches", "none"))
    radius, voxel = whole.label["shape"]["voxels"] / 2, whole.voxel_size_nm
    shell_of = 4 / 3 * np.pi * ((radius + 2 / voxel) ** 3 - radius**3)
    assert whole.truth[0].sum() == pytest.approx(shell_of, rel=0.02)
    assert 0.02 * shell_of < patches.truth[0].sum() < 0.98 * shell_of
    assert none.truth[0].sum() == 0 and not none.regions["skin"].any()
    assert np.array_equal(none.truth[1], whole.truth[1])
    assert (whole.truth[0][whole.regions["skin"]] >= 0.1 - 1e-6).all()
    assert not whole.truth[0][~whole.regions["skin"]].max() > 0.1


def test_mixture_third_phase_and_graded_edge():
    options = {"shape": "cube", "core": True, "voids": 0, "skin": "none", "views": 5}
    mixed = draw_specimen(1, "tune", 24, **PLAIN | options | {"mixture": "shell"})
    assert mixed.truth[0].max() == pytest.approx(1) and mixed.truth[1].max() == pytest.approx(0.8)
    third = draw_specimen(1, "tune", 24, **PLAIN | options | {"third_phase": "inclusion"})
    assert third.phases == ("FeO", "Fe3O4", "third phase") and third.truth[2].sum() > 5
    sharp, graded = (draw_specimen(1, "tune", 24, **PLAIN | options | {"graded_nm": w}) for w in (0.0, 6.0))
    between = [((d.truth[0] > 0.1) & (d.truth[0] < 0.9)).sum() for d in (sharp, graded)]
    assert between[1] > 1.5 * between[0]
    np.testing.assert_allclose(graded.truth.sum(axis=0), sharp.truth.sum(axis=0), atol=1e-5)


def test_a_support_fills_the_field_at_every_tilt():
    options = PLAIN | {"support": True, "views": 7, "max_tilt_deg": 60.0, "level": 0.0001}
    draw = draw_specimen(6, "tune", 24, **options)
    assert draw.phases[-1] == "support"
    film = draw.label["support"]
    tilted = np.deg2rad(
        draw.tilt_angles_deg + film["slope_deg"]
    )  # normal (z, x) = (cos s, sin s), beam (cos t, -sin t)
    thickness = film["thickness_nm"] / np.cos(tilted)
    for side in (0, -1):  # beside the particle, to the very edge, where the box of the reconstruction holds none of it
        np.testing.assert_allclose(draw.clean[-1][:, side, [0, -1]], np.stack([thickness] * 2, axis=1), rtol=0.002)
    known = ParallelBeam(24, draw.tilt_angles_deg, draw.voxel_size_nm)(draw.truth)
    assert known[-1, 0, 0, [0, -1]].min() < 0.2 * draw.clean[-1, 0, 0, 0]


# ---------------------------------------------------------------- regions


def test_regions_lie_where_they_should():
    shape = {"shape": "cube", "rotation": (0.0, 0.0, 0.0, 1.0), "voids": 1, "void_voxels": (6.0, 1.0, 1.0)}
    draws = [draw_specimen(seed, "tune", 32, **PLAIN, **shape, skin="whole", skin_nm=3.0, core=True) for seed in (2, 3)]
    for draw in draws:
        masks, total = draw.regions, draw.truth.sum(axis=0)
        assert all(mask.any() for mask in masks.values())
        grid = np.moveaxis(np.indices(total.shape), 0, -1)
        (void,) = draw.label["voids"]
        far = np.linalg.norm(grid - void["center"], axis=-1) - void["radius"]
        assert far[masks["void_rim"]].min() > -0.5 - 1e-6 and far[masks["void_rim"]].max() <= 2 + 1e-6
        assert (
            total[masks["bulk"]].min() > 0.999 and not (masks["bulk"] & (masks["surface"] | masks["core_edge"])).any()
        )
        assert np.ptp(draw.truth[0][masks["bulk"]].round(3) % 1) == 0  # no voxel of it is cut
        half = draw.label["shape"]["voxels"] / 2 + 3.0 / draw.voxel_size_nm
        offset = np.sort(np.abs(grid - draw.label["center"]), axis=-1)
        assert np.all(np.abs(offset[masks["surface"]][:, 2] - half) <= 1.0 + 1e-6)
        assert np.all(offset[masks["corners"]][:, 1] > half - 1.5 - 1e-6)
        assert masks["corners"].sum() < 0.8 * np.sum(np.abs(offset[..., 2] - half) <= 1.5)


def test_the_wedge_region_reaches_as_far_as_the_tilts_do_not():
    options = PLAIN | {"shape": "sphere", "skin": "none", "core": False, "voids": 0}
    narrow, wide = (draw_specimen(1, "tune", 32, **options, max_tilt_deg=tilt) for tilt in (50.0, 80.0))
    assert wide.regions["wedge"].sum() < 0.6 * narrow.regions["wedge"].sum()
    # of a sphere: the caps of normals beyond 50° from X in the plane (Z, X)
    grid = np.moveaxis(np.indices(narrow.truth.shape[1:]), 0, -1) - narrow.label["center"]
    angle = np.rad2deg(np.arctan2(np.abs(grid[..., 1]), np.abs(grid[..., 2])))
    assert angle[narrow.regions["wedge"]].min() > 47 and 55 > angle[narrow.regions["wedge"]].min()
    upright = {"shape": "cube", "rotation": (0.0, 0.0, 0.0, 1.0)}
    cube = draw_specimen(1, "tune", 32, **options | upright, max_tilt_deg=70.0)  # only its faces across Z are not seen
    dy, dz, dx = np.abs(np.indices(cube.truth.shape[1:]) - np.reshape(cube.label["center"], (3, 1, 1, 1)))
    flat = dz > np.maximum(dx, dy) + 1
    assert np.array_equal(cube.regions["wedge"] & flat, cube.regions["surface"] & flat)
    assert not cube.regions["wedge"][np.maximum(dx, dy) > dz + 1].any()


# ---------------------------------------------------------------- measurements


def test_noise_has_the_covariance_that_is_stated():
    for noise in ("independent", "anticorrelated", "fit"):
        options = PLAIN | {"views": 9, "noise": noise}
        draw = draw_specimen(2, "tune", 24, fit_covariance=study.pixel_covariance, **options)
        white = np.moveaxis(draw.projections - draw.clean, 0, -1)
        inverse = np.linalg.inv(draw.covariance)
        chi2 = np.einsum("...i,...ij,...j->...", white, np.broadcast_to(inverse, (*white.shape, 2)), white).mean() / 2
        assert chi2 == pytest.approx(1, abs=0.05)
        correlation = np.corrcoef(white.reshape(-1, 2).T)[0, 1]
        assert {"independent": abs(correlation) < 0.05, "anticorrelated": correlation < -0.94}.get(noise, True)
    counts = draw_specimen(2, "tune", 24, **PLAIN | {"noise": "poisson", "counts": 400.0, "views": 9})
    assert counts.clean.max() * counts.counts_per_nm == pytest.approx(400)
    assert np.array_equal(counts.projections, counts.projections.round())


@pytest.mark.parametrize("noise", ["independent", "poisson"])
def test_a_measurement_is_one_of_volume_fractions(noise):
    options = {"noise": noise, "level": 0.01, "counts": 1e4, "views": 15, "shift_px": 0.5, "max_tilt_deg": 70.0}
    draw = draw_specimen(2, "tune", 24, **PLAIN | options)
    assert isinstance(draw, SpecimenDraw) and np.abs(draw.shifts_px).max() > 0.3
    measurements = (draw.measurement(known_shifts=known, device="cpu") for known in (True, False))
    known, unknown = (metrics.nrmse(m.projector(draw.truth), draw.projections) for m in measurements)
    assert known < 0.1 and known < 0.6 * unknown  # the truth explains the values: also counts, in their own unit


def test_the_tilt_axis_turns_as_stated():
    """A small sphere on the tilt axis, at y above the centre: it stands at x = y tan(angle), whatever the tilt."""
    grid = np.indices((48, 48, 48)) - 23.5
    ball = (np.linalg.norm(np.moveaxis(grid, 0, -1) - [14, 0, 0], axis=-1) < 4).astype(np.float32)[None]
    _, projections = project_fine(ball, [-40.0, 0.0, 60.0], axis_angle_deg=10.0, shifts_px=[[0, 0], [0, 0], [1.5, -2]])
    y, x = np.indices((24, 24)) - 11.5
    for t, (dy, dx) in enumerate([(0, 0), (0, 0), (1.5, -2)]):
        mass = projections[0, t].sum()
        at = [(projections[0, t] * c).sum() / mass for c in (y, x)]
        np.testing.assert_allclose(at, [7 * np.cos(np.deg2rad(10)) + dy, 7 * np.sin(np.deg2rad(10)) + dx], atol=0.05)
