"""The projector against analysis and other codes; algorithms by their invariants; alignment against known shifts."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import block_reduce
from specimens import TILTS, tilt_series

from softeels_utils.simulate import core_shell_nanocube, project_fine
from softeels_utils.tomography import (
    FREE,
    NONNEGATIVE,
    SIMPLEX,
    Constraint,
    Discrepancy,
    Gap,
    HeldOut,
    IterationInfo,
    Measurement,
    ParallelBeam,
    StopRule,
    align,
    alignment_error,
    bin_images,
    cgls,
    eigen,
    estimate_covariance,
    joint_tv,
    learn_scale,
    noise_weight,
    reconstruct,
    refine_alignment,
    refine_geometry,
    shift_projections,
    short_sirt,
    sirt,
    tgv,
    variation,
)
from softeels_utils.tomography.generalized_variation import symmetrized_gradient, symmetrized_gradient_transpose
from softeels_utils.tomography.iterate import HeldOutPixels
from softeels_utils.tomography.sirt import SIRT
from softeels_utils.tomography.stopping import Change
from softeels_utils.tomography.total_variation import (
    TotalVariation,
    field_norm,
    gradient,
    gradient_transpose,
    project_dual,
)


def nrmse(volume, truth):
    return np.linalg.norm(volume - truth) / np.linalg.norm(truth)


@pytest.fixture(scope="module")
def cube():
    """(projections with 5 % noise, covariance, truth) of a 24³ nanocube, projected on a grid twice as fine."""
    truth, projections, covariance = tilt_series(24)
    return projections, covariance, truth


def f_shape(n=48):
    """An asymmetric slice: no turn or mirror maps it onto itself."""
    image = np.zeros((n, n), np.float32)
    image[n // 6 : 5 * n // 6, n // 4 : n // 3] = 1
    image[n // 6 : n // 4, n // 4 : 2 * n // 3] = 1
    image[n // 2 : 7 * n // 12, n // 4 : n // 2] = 1
    return image


# ---------------------------------------------------------------- projector


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    tilts=st.lists(st.floats(-180, 180), min_size=1, max_size=7),
    rows=st.integers(1, 6),
    seed=st.integers(0, 2**31),
    double=st.booleans(),
    shifted=st.booleans(),
    axis=st.sampled_from([0.0, 2.0, -40.0, 90.0]),
)
def test_adjoint_is_the_exact_transpose(size, tilts, rows, seed, double, shifted, axis):
    rng = np.random.default_rng(seed)
    dtype = np.float64 if double else np.float32
    shifts = rng.uniform(-4, 4, (len(tilts), 2)) if shifted else None
    A = ParallelBeam(size, tilts, voxel_size_nm=0.7, shifts_px=shifts, axis_angle_deg=axis)
    x = rng.standard_normal((2, rows, *size)).astype(dtype)
    y = rng.standard_normal((2, len(tilts), rows, size[1])).astype(dtype)
    forward, back = A(x), A.T(y)
    assert forward.dtype == back.dtype == dtype
    left, right = np.vdot(forward.astype(float), y), np.vdot(x.astype(float), back.astype(float))
    scale = np.linalg.norm(forward.astype(float)) * np.linalg.norm(y.astype(float)) + 1e-30
    assert abs(left - right) <= (1e-12 if double else 1e-6) * scale


def test_autograd_both_ways_and_twice():
    A = ParallelBeam((4, 5), [-20.0, 0.0, 33.0], shifts_px=[[0.3, 0.2], [0, 0], [-1.2, 0.7]])
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    y = torch.rand(2, 3, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(A, (x,)) and torch.autograd.gradcheck(A.T, (y,))
    assert torch.autograd.gradgradcheck(lambda v: A(v) ** 2, (x,))


def _disk(n, centre, radius, oversample=8):
    fine = (np.arange(n * oversample) + 0.5) / oversample - n / 2
    inside = (fine[:, None] - centre[0]) ** 2 + (fine - centre[1]) ** 2 < radius**2
    return block_reduce(inside, oversample, np.mean)


def test_disk_agrees_with_analysis():
    n, (z, x), radius = 128, (10.0, -7.0), 40.0
    A = ParallelBeam(n, np.linspace(-90, 90, 13), voxel_size_nm=0.5)
    theta = np.deg2rad(A.tilt_angles_deg)[:, None]
    u = np.arange(n) - (n - 1) / 2 - (x * np.cos(theta) + z * np.sin(theta))

    def primitive(v):
        v = np.clip(v, -radius, radius)
        return v * np.sqrt(radius**2 - v**2) + radius**2 * np.arcsin(v / radius)

    exact = 0.5 * (primitive(u + 0.5) - primitive(u - 0.5))
    found = A(_disk(n, (z, x), radius)[None])[:, 0]
    assert np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)) < 0.01


@pytest.mark.parametrize("turn", [0.0, 17.0, 40.0])
def test_rotated_square_agrees_with_analysis(turn):
    """A square of side a seen at an angle is a trapezoid, whatever its turn."""
    n, side, oversample = 128, 60.0, 8
    fine = (np.arange(n * oversample) + 0.5) / oversample - n / 2
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    u, w = c * fine + s * fine[:, None], -s * fine + c * fine[:, None]  # u along the square's own x
    image = block_reduce((np.abs(u) < side / 2) & (np.abs(w) < side / 2), oversample, np.mean)
    tilts = np.array([-80.0, -45.0, 0.0, 10.0, 30.0, 70.0])
    found = ParallelBeam(n, tilts)(image[None])[:, 0]
    angle = np.deg2rad(tilts - turn)[:, None]
    wide = np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle)))
    narrow = np.minimum(np.abs(np.cos(angle)), np.abs(np.sin(angle)))
    sub = (np.arange(n * 20) + 0.5) / 20 - n / 2
    top, base = side * (wide - narrow) / 2, side * (wide + narrow) / 2
    height = side / wide
    exact = height * np.clip((base - np.abs(sub)) / np.maximum(base - top, 1e-9), 0, 1)
    exact = block_reduce(exact, (1, 20), np.mean)
    assert np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)) < 0.01


def test_sign_of_the_tilt():
    """Positive tilt takes a voxel at (z, x) to x cos + z sin."""
    n = 33
    image = np.zeros((n, n))
    image[16 + 8, 16 + 3] = 1
    for tilt in (-60.0, 0.0, 25.0, 90.0):
        profile = ParallelBeam(n, [tilt])(image[None])[0, 0]
        centre = (profile * (np.arange(n) - 16)).sum() / profile.sum()
        assert centre == pytest.approx(3 * np.cos(np.deg2rad(tilt)) + 8 * np.sin(np.deg2rad(tilt)), abs=0.05)
        assert profile.sum() == pytest.approx(1.0, abs=1e-5)


def test_agrees_with_scikit_image():
    from skimage.transform import radon

    image = f_shape(64)
    tilts = np.array([-50.0, -10.0, 0.0, 35.0])
    ours = ParallelBeam(64, tilts)(image[None])[:, 0]
    theirs = radon(image, theta=-tilts, circle=False)
    edge = (len(theirs) - 64) // 2
    assert np.linalg.norm(ours - theirs[edge : edge + 64].T) < 0.07 * np.linalg.norm(ours)


def test_voxel_size_matrix_subset_and_norm():
    A = ParallelBeam((10, 12), TILTS, 2.0)
    x = np.random.default_rng(0).random((3, 10, 12))
    one = ParallelBeam((10, 12), TILTS)(x)
    np.testing.assert_allclose(A(x), 2 * one, rtol=1e-12)
    dense = A.matrix() @ x.reshape(3, -1).T
    np.testing.assert_allclose(dense.T.reshape(3, 9, 12).swapaxes(0, 1), A(x), rtol=1e-10)
    np.testing.assert_allclose(A.subset([7, 2])(x), A(x)[[7, 2]], rtol=1e-12)
    largest = np.linalg.svd(A.matrix().toarray(), compute_uv=False)[0]
    assert 0.98 * largest < A.norm() <= largest * (1 + 1e-9)
    assert A.nbytes > 0 and A.T.T is A


def test_many_rows_are_done_in_pieces_with_the_same_result():
    A = ParallelBeam(256, [-30.0, 20.0])
    x = torch.rand(40, 256, 256, generator=torch.Generator().manual_seed(0))
    together = A(x)
    torch.testing.assert_close(together[:, 5], A(x[5:6])[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(A.T(together)[7], A.T(together[:, 7:8])[0], rtol=1e-5, atol=1e-5)


def test_shifts_move_projections_by_area():
    rng = np.random.default_rng(0)
    x = np.zeros((8, 16, 16))
    x[2:6, 4:12, 4:12] = rng.random((4, 8, 8))
    still, moved = ParallelBeam(16, [0.0, 30.0]), ParallelBeam(16, [0.0, 30.0], shifts_px=[[1.0, 2.0], [-0.5, 0.0]])
    a, b = still(x), moved(x)
    np.testing.assert_allclose(b[0, 1:, 2:], a[0, :-1, :-2], atol=1e-12)
    np.testing.assert_allclose(b[1, :-1], (a[1, :-1] + a[1, 1:]) / 2, atol=1e-12)


def test_a_turned_tilt_axis_is_that_of_the_twin():
    """Projections of a fine grid, turned by splines, shifted, and binned."""
    fine = core_shell_nanocube(48, 1.0, oversample=2)
    shifts = np.random.default_rng(0).uniform(-1, 1, (len(TILTS), 2))
    for angle in (0.0, 3.0, -25.0):
        truth, seen = project_fine(fine, TILTS, 2.0, shifts_px=shifts, axis_angle_deg=angle)
        A = ParallelBeam(24, TILTS, 2.0, shifts_px=shifts, axis_angle_deg=angle)
        error = np.linalg.norm(A(truth) - seen)
        assert error < 0.08 * np.linalg.norm(seen)
        assert not angle or error < 0.7 * np.linalg.norm(A.like(axis_angle_deg=0.0)(truth) - seen)


@pytest.mark.parametrize("axis", [0.0, 5.0])
def test_a_pixel_sees_the_slices_that_it_is_said_to_see(axis):
    rng = np.random.default_rng(0)
    A = ParallelBeam(12, TILTS, shifts_px=rng.uniform(-2, 2, (len(TILTS), 2)), axis_angle_deg=axis)
    whole = rng.random((1, 16, 12, 12))
    part = np.zeros_like(whole)
    part[:, 4:11] = whole[:, 4:11]
    first, last = A.source_rows(16)
    enough = (first >= 4) & (last <= 10)
    slab = torch.as_tensor(part[:, 4:11])
    flat = torch.zeros(1, len(TILTS), 16, 12, dtype=slab.dtype).index_copy(2, torch.arange(4, 11), A.still(slab))
    np.testing.assert_allclose(A.move(flat).numpy(), A(part), atol=1e-12)
    same = np.abs(A(whole) - A(part))[0] < 1e-12
    assert enough.any() and same[enough].all()
    assert A.mixes_rows and A.reach(16) == (16 if axis else 2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, [0.0]), "n: got"),
        ((2.5, [0.0]), "n: got"),
        ((8, [0.0, np.nan]), "tilt_angles_deg: got .* finite"),
        ((8, []), "tilt_angles_deg: got shape"),
        ((8, [0.0], -1.0), "voxel_size_nm: got"),
    ],
)
def test_projector_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ParallelBeam(*arguments)


def test_wrong_shapes_say_what_they_got():
    A = ParallelBeam(8, [0.0, 10.0])
    with pytest.raises(ValueError, match=r"volume: got shape \(3, 8, 9\)"):
        A(np.zeros((3, 8, 9)))
    with pytest.raises(ValueError, match=r"projections: got shape \(3, 4, 8\)"):
        A.T(np.zeros((3, 4, 8)))
    with pytest.raises(ValueError, match="got shape"):
        A(np.zeros((8, 8)))
    with pytest.raises(ValueError, match="shifts_px"):
        ParallelBeam(8, [0.0, 10.0], shifts_px=[1.0])


# ---------------------------------------------------------------- other codes, same orientation


BACKENDS = ["skimage:fbp", "skimage:sart", "astra:fbp", "astra:sirt", "astra:cgls", "tomopy:sirt"]


@pytest.mark.parametrize("algorithm", ["fbp", "sirt", "cgls", *BACKENDS])
def test_an_asymmetric_slice_comes_back_the_right_way_round(algorithm):
    if ":" in algorithm:
        pytest.importorskip(algorithm.partition(":")[0])
    image = f_shape()
    tilts = np.linspace(-88, 88, 45)
    projections = ParallelBeam(48, tilts, voxel_size_nm=2.0)(image[None])[None]
    options = {} if algorithm == "fbp" else {"iterations": 30}
    found = reconstruct(projections, tilts, algorithm, voxel_size_nm=2.0, **options)[0, 0]
    right = np.corrcoef(found.ravel(), image.ravel())[0, 1]
    turned = [np.rot90(m, k) for m in (image, image.T) for k in range(4)][1:]
    assert right > 0.85 and right > 0.2 + max(np.corrcoef(found.ravel(), t.ravel())[0, 1] for t in turned)
    assert found[image == 1].mean() == pytest.approx(1, abs=0.15)  # same scale


def test_unknown_or_missing_backends_say_so():
    projections = np.ones((1, 2, 4, 8))
    with pytest.raises(ValueError, match="algorithm: got 'astra:magic'"):
        reconstruct(projections, [0, 10], "astra:magic")
    with pytest.raises(ValueError, match=r"shifts_px: got an array .* with 'skimage:fbp', wants only"):
        reconstruct(projections, [0, 10], "skimage:fbp", shifts_px=[1, 0])
    with pytest.raises(ValueError, match="mask: got an array"):
        reconstruct(projections, [0, 10], "skimage:fbp", mask=np.zeros((2, 4, 8), bool))
    with pytest.raises(ValueError, match="iterations: got 0"):
        reconstruct(projections, [0, 10], "skimage:sart", iterations=0)
    harmless = {"mask": np.ones((2, 4, 8), bool), "shifts_px": np.zeros(2)}
    assert reconstruct(projections, [0, 10], "skimage:fbp", **harmless).shape == (1, 4, 8, 8)


# ---------------------------------------------------------------- the measurement


@pytest.mark.parametrize("kind", ["variances", "correlated", "channels missing", "counts"])
def test_forward_and_adjoint_of_a_measurement_are_transposes(kind):
    rng = np.random.default_rng(0)
    projections = rng.poisson(30, (2, 9, 4, 12)).astype(np.float32)
    options = {
        "variances": {"covariance": [1.0, 4.0]},
        "correlated": {"covariance": np.array([[1.0, -0.9], [-0.9, 1.5]])},
        "channels missing": {
            "covariance": np.array([[1.0, -0.9], [-0.9, 1.5]]),
            "mask": rng.random((2, 9, 4, 12)) > 0.2,
        },
        "counts": {"counts": True, "mask": rng.random((9, 4, 12)) > 0.2},
    }[kind]
    measurement = Measurement(projections, TILTS, **options)
    volume, dual = torch.randn(measurement.volume_shape), torch.randn(projections.shape)
    left, right = (measurement.forward(volume) * dual).sum(), (volume * measurement.adjoint(dual)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-4)
    if kind != "counts":
        half_squares = 0.5 * measurement.residual(volume) ** 2
        torch.testing.assert_close(measurement.misfit(volume), half_squares)
        whitened = measurement.forward(volume) - measurement.loss.target
        torch.testing.assert_close(measurement.residual(volume), whitened, atol=1e-3, rtol=1e-4)
    with pytest.raises(ValueError, match=r"stack: got shape .*, wants"):
        measurement.loss(dual[..., 1:])


def test_whitened_noise_of_the_stated_covariance_has_unit_variance():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(9, 24, 24, 3, 3)) + 2 * np.eye(3)
    covariance = root @ root.swapaxes(-1, -2)
    noise = np.moveaxis((root @ rng.standard_normal((9, 24, 24, 3, 1)))[..., 0], -1, 0)
    mask = rng.random(noise.shape) > 0.2
    measurement = Measurement(noise, TILTS, covariance=covariance, mask=mask, model_error=0)
    white = measurement.loss.target.numpy()
    assert white[:, mask.all(0)].var() == pytest.approx(1, abs=0.05)
    assert measurement.chi2(torch.zeros(measurement.volume_shape)) == pytest.approx(1, abs=0.05)
    assert not white[~mask].any()


def test_parts_of_a_measurement_add_up(cube):
    projections, covariance, truth = cube
    measurement, volume = Measurement(projections, TILTS, covariance=covariance), torch.as_tensor(truth)
    fitted, held_out = measurement.split(0.2, seed=3)
    assert fitted.size + held_out.size == measurement.size and 0.15 < held_out.size / measurement.size < 0.25
    torch.testing.assert_close(fitted.misfit(volume) + held_out.misfit(volume), measurement.misfit(volume))
    rows = torch.tensor([3, 4, 9])
    torch.testing.assert_close(measurement.rows(rows).misfit(volume[:, rows]), measurement.misfit(volume)[:, :, rows])
    scale = np.array([2.0, 0.5])
    rescaled = measurement.rescaled(scale)
    torch.testing.assert_close(
        rescaled.chi2(volume / torch.as_tensor(scale, dtype=torch.float32)[:, None, None, None]),
        measurement.chi2(volume), rtol=1e-4, atol=0,
    )  # fmt: skip
    assert measurement.less(volume).chi2(0 * volume) == pytest.approx(measurement.chi2(volume), rel=1e-5)


@pytest.mark.parametrize(("count", "fraction", "expected"), [(9, 0.1, 1), (16, 0.1, 2), (29, 0.2, 6), (9, 0.0, 0)])
def test_whole_tilts_are_held_out_but_not_the_outermost(count, fraction, expected):
    tilts = np.random.default_rng(0).permutation(np.linspace(-70, 70, count))
    places = set()
    for seed in range(20):
        measurement = Measurement(np.ones((2, count, 3, 8)), tilts)
        fitted, held_out = measurement.split(fraction, seed=seed, by="tilts")
        whole = held_out.used.flatten(2).all(2).all(0)
        assert torch.equal(held_out.used.flatten(2).any(2).any(0), whole)
        assert torch.equal(fitted.used, ~held_out.used)
        out = np.sort(tilts[whole.numpy()])
        assert len(out) == expected and (np.abs(out) < 69.9).all()
        steps = np.diff(out)  # evenly spread, and no two neighbours
        assert (steps < 2.1 * 140 / max(expected, 1)).all() and (steps > 1.5 * 140 / (count - 1)).all()
        places |= set(out)
    assert not expected or len(places) > expected


def test_tilts_are_not_held_out_where_few_are_left():
    with pytest.raises(ValueError, match=r"fraction.*3 tilts"):
        Measurement(np.ones((1, 3, 2, 8)), [-40, 0, 40]).split(0.1, by="tilts")


def test_variance_floor_touches_only_what_is_known_better():
    covariance = np.array([[1.0, -0.96], [-0.96, 1.0]])
    measurement = Measurement(np.ones((2, 9, 4, 8)), TILTS, covariance=covariance, model_error=0)
    variances = (measurement.with_variance_floor(0.2).loss.precision ** -2).flatten().tolist()
    assert sorted(variances) == pytest.approx([0.2 * 1.96, 1.96], rel=1e-4)


def test_estimators_take_counts(cube):
    _, _, truth = cube
    counts = np.random.default_rng(0).poisson(20 * ParallelBeam(24, TILTS)(truth))
    volume = reconstruct(counts, TILTS, "joint_tv", counts=True, calibrated=False, weight="noise")
    assert nrmse(volume / 20, truth) < 0.5
    with pytest.raises(ValueError, match="covariance: got one with counts"):
        Measurement(counts, TILTS, counts=True, covariance=np.eye(2))


# ---------------------------------------------------------------- total variation: the parts


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_gradient_transpose_and_dual_norms(channels):
    generator = torch.Generator().manual_seed(channels)
    v = torch.randn(channels, 4, 5, 6, generator=generator, dtype=torch.float64)
    z = torch.randn(3, channels, 4, 5, 6, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((gradient(v) * z).sum(), (v * gradient_transpose(z)).sum())
    jacobian = gradient(v).flatten(2).permute(2, 1, 0)
    singular = torch.linalg.svdvals(jacobian)
    assert variation(v, "nuclear") == pytest.approx(float(singular.sum()), rel=1e-9)
    assert variation(v, "frobenius") == pytest.approx(float(singular.norm(dim=1).sum()), rel=1e-9)
    # The dual of the nuclear norm is the spectral norm: projected fields obey it, and the nearest point is the SVD's.
    u, s, vh = torch.linalg.svd(z.flatten(2).permute(2, 1, 0), full_matrices=False)
    exact = (u * s.clamp_max(0.8)[:, None]) @ vh
    found = project_dual(z.clone(), 0.8, "nuclear").flatten(2).permute(2, 1, 0)
    torch.testing.assert_close(found, exact, atol=1e-9, rtol=0)


@pytest.mark.parametrize("rows, channels", [(3, 3), (3, 4), (6, 2), (6, 3), (6, 4)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 3e-6)])
def test_singular_values_are_clipped_where_some_are_equal_or_none(rows, channels, dtype, tolerance):
    """In closed form: what equal, nearly equal or vanishing eigenvalues could spoil."""
    generator = torch.Generator().manual_seed(rows * channels)
    z = torch.randn(rows, channels, 6, 5, 4, generator=generator, dtype=torch.float64)
    equal = torch.linalg.qr(torch.randn(rows, 2, generator=generator, dtype=torch.float64))[0][..., None, None]
    z[:, :2, 0], z[:, 2:, 0] = 1.3 * equal, 0
    z[:, :2, 1] = 1.3 * equal + 1e-6 * z[:, :2, 1]
    z[:, :, 2], z[:, :, 3] = 0, z[:, :1, 3]
    z[..., 4, :, :] *= 1e-3
    u, s, vh = torch.linalg.svd(z.flatten(2).permute(2, 0, 1), full_matrices=False)
    exact = (u * s.clamp_max(0.8)[:, None]) @ vh
    found = project_dual(z.clone().to(dtype), 0.8, "nuclear").flatten(2).permute(2, 0, 1).double()
    torch.testing.assert_close(found, exact, atol=tolerance, rtol=0)
    assert field_norm(z.to(dtype), "nuclear") == pytest.approx(float(s.sum()), rel=2e-6)


# ---------------------------------------------------------------- total generalised variation


def generalized_variation(volume, slope, ratio, coupling="frobenius"):
    """Of a volume with a slope handed in."""
    far = torch.stack([gradient(torch.ones_like(volume).cumsum(axis)) for axis in (-3, -2, -1)]).sum(0)  # 0 there
    return field_norm(gradient(volume) - far * slope, coupling) + ratio * field_norm(
        symmetrized_gradient(slope), coupling
    )


def test_symmetrized_gradient_and_its_transpose():
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(3, 2, 4, 5, 6, generator=generator, dtype=torch.float64)
    q = torch.randn(6, 2, 4, 5, 6, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((symmetrized_gradient(w) * q).sum(), (w * symmetrized_gradient_transpose(q)).sum())
    assert float(symmetrized_gradient(torch.ones_like(w)).abs().max()) == 0
    y, z, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in w.shape[2:]), indexing="ij")
    inside = (slice(None), slice(None), slice(1, None), slice(1, None), slice(1, None))
    turn = torch.stack([z, -y, 0 * x])[:, None]  # antisymmetric
    assert float(symmetrized_gradient(turn)[inside].abs().max()) == 0
    stretch = symmetrized_gradient(torch.stack([y + 3 * z, z + 3 * y, 2 * x])[:, None])[inside]
    # The norm of the six is that of the symmetric matrix: 1, 1, 2 on its diagonal, 3 twice off it.
    torch.testing.assert_close((stretch**2).sum(0), torch.full(stretch.shape[1:], 1 + 1 + 4 + 2 * 9.0).double())


def test_volumes_that_are_linear_have_no_generalised_variation():
    y, z, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (4, 5, 6)), indexing="ij")
    slopes = torch.tensor([[0.3, -0.2, 0.1], [0.0, 0.5, 0.4]], dtype=torch.float64)
    volume = torch.einsum("cd,dyzx->cyzx", slopes, torch.stack([y, z, x])) + 0.7
    slope = slopes.T[:, :, None, None, None].expand(3, *volume.shape)
    for coupling in ("frobenius", "nuclear"):
        assert variation(volume, coupling) > 10
        assert generalized_variation(volume, slope, 2.0, coupling) == pytest.approx(0, abs=1e-6)


def test_a_ramp_is_kept_where_total_variation_makes_stairs():
    """Little data, much weight: what is linear costs nothing, and the slope is taken up by w."""
    volume = torch.zeros(2, 3, 24, 24)
    volume[0, :, 6:18, 6:18] = torch.linspace(0.2, 1.0, 12)
    tilts = np.linspace(-70, 70, 9)
    noise = 0.2 * np.random.default_rng(0).standard_normal((2, 9, 3, 24))
    measurement = Measurement(ParallelBeam(24, tilts)(volume.numpy()) + noise, tilts, covariance=0.04 * np.eye(2))
    fits = {"tv": joint_tv(measurement, weight=4.0), "tgv": tgv(measurement, weight=4.0, ratio=1.0)}
    inside = (0, slice(None), slice(8, 16), slice(8, 16))
    error = {name: nrmse(fit.volume[inside], volume.numpy()[inside]) for name, fit in fits.items()}
    assert fits["tgv"].converged and error["tgv"] < 0.8 * error["tv"]


@pytest.mark.parametrize("coupling", ["nuclear", "frobenius"])
def test_generalised_variation_converges_and_ends_at_joint_tv(cube, coupling):
    projections, covariance, truth = cube
    truth = truth[:, 8:14]
    measurement = Measurement(projections[:, :, 8:14], TILTS, covariance=covariance)
    options = {"weight": 1.0, "coupling": coupling, "constraint": SIMPLEX}
    fit = tgv(measurement, **options)
    long = tgv(measurement, iterations=1500, **options)
    objective, gap = (fit.history[name] for name in ("objective", "gap"))
    assert fit.converged and gap[-1] <= 1e-3 and objective[-1] < 0.98 * objective[0]
    assert 0 <= objective[-1] / long.history["objective"][-1] - 1 <= gap[-1] + 1e-6
    assert long.history["gap"][-1] < 2e-4
    # A steep price of bending leaves no slope but a constant one, and in a field that is mostly empty that is none.
    stiff, joint = tgv(measurement, ratio=20.0, **options), joint_tv(measurement, **options)
    assert stiff.history["objective"][-1] == pytest.approx(joint.history["objective"][-1], rel=2e-3)
    assert nrmse(stiff.volume, joint.volume) < 0.02
    # The more it costs, the higher the least objective: at ratio 0.5 it is below that of joint TV.
    soft = tgv(measurement, ratio=0.5, **options)
    assert soft.history["objective"][-1] < 0.995 * joint.history["objective"][-1]
    assert nrmse(fit.volume, truth) < 1.1 * nrmse(joint.volume, truth)


def test_generalised_variation_finds_its_weight(cube):
    projections, covariance, _ = cube
    measurement = Measurement(projections[:, :, 10:14], TILTS, covariance=covariance)
    fit = tgv(measurement, constraint=SIMPLEX, max_iterations=600)
    best = min(fit.scores, key=fit.scores.get)
    assert fit.weight == pytest.approx(best, rel=1e-5) and not fit.weight_at_bound
    assert fit.scores[best] < 1.3
    assert fit.volume.sum(axis=0).max() <= 1 + 1e-5


def test_constraint_projects_onto_the_nearest_point():
    rng = np.random.default_rng(0)
    points = torch.as_tensor(rng.normal(size=(3, 50)))
    onto = Constraint(simplex=True)(points)
    assert (onto >= 0).all() and (onto.sum(0) <= 1 + 1e-12).all()
    for _ in range(200):  # no other feasible point is nearer: the angle to every one is obtuse
        other = torch.as_tensor(rng.dirichlet(np.ones(4), 50).T[:3])
        assert (((points - onto) * (other - onto)).sum(0) <= 1e-9).all()
    bounded = Constraint(-1.0, 0.5)(points)
    assert bounded.min() >= -1 and bounded.max() <= 0.5


@pytest.mark.parametrize("constraint", [SIMPLEX, NONNEGATIVE, Constraint(0.0, 0.9)])
def test_a_correction_is_solved_for_inside_the_set(cube, constraint):
    projections, covariance, _ = cube
    measurement = Measurement(projections[:, :, 8:16], TILTS, covariance=covariance)
    volume = constraint(short_sirt(measurement, constraint, 8))
    rest, about = measurement.less(volume), constraint.about(volume)
    fit = joint_tv(rest, weight=0.5, constraint=about)
    correction = torch.as_tensor(fit.volume)
    assert fit.converged and fit.history["gap"][-1] <= 1e-3
    whole = volume + correction  # inside, without being put back
    assert whole.min() >= 0 and (constraint(whole) - whole).abs().max() < 1e-6

    def objective(r):
        return float(rest.misfit(r).sum(dtype=torch.float64)) + 0.5 * variation(r)

    best, generator = objective(correction), torch.Generator().manual_seed(0)
    free = torch.as_tensor(joint_tv(rest, weight=0.5, constraint=FREE).volume)
    others = {"none": 0 * correction, "clamped afterwards": about(free), "half": correction / 2}
    for scale in (1e-3, 1e-2, 0.1):
        noise = torch.randn(correction.shape, generator=generator)
        others |= {
            f"noise {scale}": about(correction + scale * noise),
            f"away {scale}": about((1 + scale) * correction),
        }
        others |= {f"free {scale}": about(correction.lerp(free, scale))}
    excess = {name: objective(other) / best - 1 for name, other in others.items()}
    assert min(excess.values()) > -1e-3, excess  # as near to the minimum as the gap says
    assert excess["none"] > 0.1 and excess["clamped afterwards"] > 0.003, excess


def test_a_correction_goes_on_from_its_own_checkpoint_only(cube, tmp_path):
    measurement = Measurement(cube[0], TILTS, covariance=cube[1])
    volume = short_sirt(measurement)
    options = {"weight": 0.5, "checkpoint": tmp_path / "run.pt"}
    for total in (10, 30):
        part = joint_tv(measurement.less(volume), constraint=NONNEGATIVE.about(volume), iterations=total, **options)
    whole = joint_tv(measurement.less(volume), constraint=NONNEGATIVE.about(volume), weight=0.5, iterations=30)
    np.testing.assert_allclose(part.volume, whole.volume, atol=2e-5)
    with pytest.raises(ValueError, match=r"checkpoint: got .* other projections or settings"):
        other = NONNEGATIVE.about(volume.flip(-1))
        joint_tv(measurement.less(volume), constraint=other, iterations=30, **options)
    with pytest.raises(ValueError, match=r"constraint: got one about \(1, 24, 24, 24\), wants \(2, 24, 24, 24\)"):
        joint_tv(measurement, weight=0.5, constraint=NONNEGATIVE.about(volume[:1]))
    assert NONNEGATIVE.about(volume).about(0.5 * volume)(-2 * volume) == pytest.approx(-1.5 * volume)


def test_the_gap_bounds_the_distance_to_the_minimum(cube):
    projections, covariance, _ = cube
    correlated = covariance + np.array([[0, -0.9], [-0.9, 0]]) * np.sqrt(np.prod(covariance.diagonal()))
    for sigma, constraint in ((covariance, NONNEGATIVE), (correlated, SIMPLEX)):
        measurement = Measurement(projections, TILTS, covariance=sigma)
        fit = joint_tv(measurement, weight=1.0, constraint=constraint)
        long = joint_tv(measurement, weight=1.0, constraint=constraint, iterations=1500)
        excess = fit.history["objective"][-1] / long.history["objective"][-1] - 1
        assert fit.converged and fit.history["gap"][-1] <= 1e-3
        assert excess <= fit.history["gap"][-1] + 1e-6 and excess < 1e-3
        assert long.history["gap"][-1] < 1e-4


# ---------------------------------------------------------------- algorithms: invariants


def test_sirt_30_is_3_times_10(cube, tmp_path):
    projections, covariance, _ = cube
    whole = reconstruct(projections, TILTS, "sirt", iterations=30, covariance=covariance)
    part = None
    for _ in range(3):
        part = reconstruct(projections, TILTS, "sirt", iterations=10, initial=part, covariance=covariance)
    np.testing.assert_allclose(part, whole, atol=1e-6)


@pytest.mark.parametrize(
    "algorithm, options", [("sirt", {}), ("cgls", {}), ("joint_tv", {"weight": 1.0}), ("tgv", {"weight": 1.0})]
)
def test_checkpoints_go_on_where_they_were(cube, tmp_path, algorithm, options):
    projections, covariance, _ = cube
    options = options | {"covariance": covariance}
    whole = reconstruct(projections, TILTS, algorithm, iterations=30, **options)
    path = tmp_path / "run.pt"
    for total in (10, 20, 30):
        part = reconstruct(projections, TILTS, algorithm, iterations=total, checkpoint=path, **options)
    np.testing.assert_allclose(part, whole, atol=2e-5)
    with pytest.raises(ValueError, match=r"checkpoint: got .* other projections or settings"):
        reconstruct(2 * projections, TILTS, algorithm, iterations=30, checkpoint=path, **options)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint: got .* cannot read"):
        reconstruct(projections, TILTS, algorithm, iterations=30, checkpoint=path, **options)


def test_a_killed_run_resumes(cube, tmp_path):
    projections, _, _ = cube
    np.save(tmp_path / "p.npy", projections)
    code = (
        "import numpy as np, sys; from softeels_utils.tomography import reconstruct\n"
        f"p = np.load({str(tmp_path / 'p.npy')!r})\n"
        "reconstruct(p, np.linspace(-70, 70, 9), 'sirt', iterations=1000000, progress=False,\n"
        f"    checkpoint={str(tmp_path / 'run.pt')!r}, checkpoint_seconds=0.05)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not (tmp_path / "run.pt").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = torch.load(tmp_path / "run.pt", weights_only=True)["run"]["done"]
    assert done > 0
    fit = sirt(Measurement(projections, TILTS), iterations=done + 5, checkpoint=tmp_path / "run.pt")
    assert fit.iteration == done + 5 and fit.history["iteration"][0] == 10
    np.testing.assert_allclose(fit.volume, reconstruct(projections, TILTS, "sirt", iterations=done + 5), atol=1e-5)


def test_a_choice_by_held_out_pixels_resumes(cube, tmp_path):
    """Interrupted while they are held out; and again from its end, where nothing is left to do."""
    projections, covariance, _ = cube
    measurement, path = Measurement(projections, TILTS, covariance=covariance), tmp_path / "run.pt"

    def interrupt(info):
        if info.iteration == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sirt(measurement, stop=HeldOut(), checkpoint=path, checkpoint_seconds=0, callbacks=[interrupt])
    whole = sirt(measurement, stop=HeldOut())
    for _ in range(2):
        fit = sirt(measurement, stop=HeldOut(), checkpoint=path)
        assert (fit.iteration, fit.reason) == (whole.iteration, whole.reason)
        np.testing.assert_array_equal(fit.volume, whole.volume)
        np.testing.assert_array_equal(fit.history["heldout"], whole.history["heldout"])


def test_a_choice_that_was_cut_short_goes_on(cube, tmp_path):
    projections, covariance, _ = cube
    measurement, path = Measurement(projections, TILTS, covariance=covariance), tmp_path / "run.pt"
    short = sirt(measurement, stop=HeldOut(), max_iterations=6, checkpoint=path)
    assert not short.converged and short.reason == "max_iterations" and short.iteration <= 6
    whole = sirt(measurement, stop=HeldOut())
    fit = sirt(measurement, stop=HeldOut(), checkpoint=path)
    assert fit.converged and fit.iteration == whole.iteration
    np.testing.assert_array_equal(fit.volume, whole.volume)
    # The choice stands beside a run of so many iterations on the same file.
    assert sirt(measurement, stop=HeldOut(), iterations=fit.iteration + 5, checkpoint=path).iteration > fit.iteration
    np.testing.assert_array_equal(sirt(measurement, stop=HeldOut(), checkpoint=path).volume, whole.volume)
    with pytest.raises(ValueError, match=r"stop: got HeldOut.* holds out no measured pixel"):
        sirt(measurement, stop=HeldOut(fraction=1e-7))


def test_one_standard_error_is_that_of_paired_differences(cube):
    """All pixels get worse alike: no chance in that, the best look is chosen. Two decide: a third of the best."""
    projections, covariance, _ = cube
    pixels = HeldOutPixels(Measurement(projections, TILTS, covariance=covariance))
    noise = torch.as_tensor(np.random.default_rng(0).random(400))
    curve = {k: abs(k - 30) / 100 for k in range(2, 60, 2)}
    pixels.looks = {k: noise + value for k, value in curve.items()}
    assert pixels.choose() == 30
    two = torch.zeros(400, dtype=torch.float64)
    two[7], two[8] = 600.0, -200.0
    pixels.looks = {k: noise + value * two for k, value in curve.items()}
    assert pixels.choose() == 10
    scatter = torch.as_tensor(np.random.default_rng(1).standard_normal(400))
    scatter = (scatter - scatter.mean()) / scatter.std(correction=0)
    pixels.looks = {k: noise + value + 0.7 * abs(k - 30) ** 0.5 * scatter for k, value in curve.items()}
    assert pixels.choose() == 18  # n away: n / 100 worse, of a standard error of 0.7 sqrt(n) / 20


@pytest.mark.parametrize("algorithm, options", [("fbp", {}), ("sirt", {}), ("cgls", {}), ("joint_tv", {"weight": 1.0})])
@pytest.mark.parametrize("per_channel", [False, True])
def test_masked_pixels_may_hold_anything(cube, algorithm, options, per_channel):
    projections, covariance, _ = cube
    rng = np.random.default_rng(1)
    mask = rng.random(projections.shape if per_channel else projections.shape[1:]) > 0.1
    options = options | {"mask": mask, "covariance": covariance} | ({} if algorithm == "fbp" else {"iterations": 20})
    if per_channel:  # a full covariance, so that channels talk
        options["covariance"] = covariance - 0.8 * np.sqrt(np.prod(covariance.diagonal())) * (1 - np.eye(2))
    hole = ~np.broadcast_to(mask, projections.shape)
    spoilt = [np.where(hole, bad, projections) for bad in (np.nan, 1e6)]
    first, second = (reconstruct(p, TILTS, algorithm, **options) for p in spoilt)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, reconstruct(projections, TILTS, algorithm, **options | {"mask": None}), atol=1e-4)


@pytest.mark.parametrize("algorithm", ["fbp", "sirt", "cgls", "tv", "joint_tv", "tgv"])
def test_scaling_the_data_scales_the_result(cube, algorithm):
    projections, covariance, _ = cube
    options = {"iterations": 25} if algorithm != "fbp" else {}
    weight, tenth = ({"weight": w} if algorithm[-1] == "v" else {} for w in (1.0, 0.1))
    one = reconstruct(projections, TILTS, algorithm, covariance=covariance, **weight, **options)
    ten = reconstruct(10 * projections, TILTS, algorithm, covariance=100 * covariance, **tenth, **options)
    np.testing.assert_allclose(ten, 10 * one, atol=2e-3 * np.abs(one).max() * 10)
    options |= {"covariance": 0.16 * covariance, "voxel_size_nm": 0.4, **weight}
    nm = reconstruct(0.4 * projections, TILTS, algorithm, **options)
    np.testing.assert_allclose(nm, one, atol=2e-3 * np.abs(one).max())


def test_weights_are_inverse_variances(cube):
    projections, covariance, _ = cube
    weights = np.ones(projections.shape) / covariance.diagonal()[:, None, None, None]
    weights[:, 3] = 0
    mask = np.ones(projections.shape[1:], bool)
    mask[3] = False
    a = reconstruct(projections, TILTS, "joint_tv", weights=weights, weight=1.0, iterations=30)
    b = reconstruct(projections, TILTS, "joint_tv", covariance=covariance, mask=mask, weight=1.0, iterations=30)
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_constant_covariance_drops_out_of_least_squares(cube):
    projections, covariance, _ = cube
    correlated = covariance - 0.9 * np.sqrt(np.prod(covariance.diagonal())) * (1 - np.eye(2))
    per_pixel = np.broadcast_to(correlated, (*projections.shape[1:], 2, 2))
    plain = reconstruct(projections, TILTS, "sirt", iterations=15, model_error=0)
    for form in (correlated, per_pixel, covariance.diagonal()):
        found = reconstruct(projections, TILTS, "sirt", iterations=15, covariance=form, model_error=0)
        np.testing.assert_allclose(found, plain, atol=1e-4)


def test_sirt_and_cgls_reach_least_squares():
    rng = np.random.default_rng(0)
    tilts = np.linspace(-80, 80, 12)
    A = ParallelBeam(6, tilts)
    projections = rng.random((1, 12, 2, 6)).astype(np.float32) + 1
    dense = A.matrix().toarray()
    exact = np.linalg.lstsq(dense, projections[0].swapaxes(0, 1).reshape(2, -1).T, rcond=None)[0].T.reshape(2, 6, 6)
    found = reconstruct(projections, tilts, "cgls", iterations=300)[0]
    # Along what the data do not determine, solvers may differ: compare projections.
    assert np.linalg.norm(A(found) - A(exact.astype(np.float32))) < 1e-3 * np.linalg.norm(A(found))
    # SIRT's minimum is weighted by the inverse row sums: there its own slope is zero.
    data = Measurement(projections, tilts, covariance=np.eye(1), model_error=0)
    solver = SIRT(data, FREE)
    slopes = []
    with torch.no_grad():
        for _ in range(3000):
            residual = data.projections - A(solver.volume)
            slopes.append(float(A.T(residual * solver.by_row).norm()))
            solver.step()
    assert slopes[-1] < 1e-3 * slopes[0]


def test_bounds_and_simplex_hold(cube):
    projections, covariance, _ = cube
    for algorithm, extra in (("sirt", {"iterations": 20}), ("joint_tv", {"weight": 0.5})):
        simplex = reconstruct(projections, TILTS, algorithm, simplex=True, covariance=covariance, **extra)
        assert simplex.min() >= 0 and simplex.sum(axis=0).max() <= 1 + 1e-5
        bounded = reconstruct(projections, TILTS, algorithm, bounds=(0.1, 0.6), covariance=covariance, **extra)
        assert bounded.min() >= 0.1 - 1e-6 and bounded.max() <= 0.6 + 1e-6


def test_joint_tv_beats_sirt_and_chooses_its_weight(cube):
    projections, covariance, truth = cube
    errors = []
    reconstruct(projections, TILTS, "sirt", iterations=100, callbacks=[lambda k: errors.append(nrmse(k.volume, truth))])
    measurement = Measurement(projections, TILTS, covariance=covariance)
    fits = {rule: joint_tv(measurement, weight=rule) for rule in ("heldout", "discrepancy", "noise")}
    assert nrmse(fits["heldout"].volume, truth) < 0.8 * min(errors)
    assert fits["discrepancy"].chi2 == pytest.approx(1, abs=0.05)
    scan = {
        f: nrmse(
            reconstruct(projections, TILTS, "joint_tv", weight=f * fits["heldout"].weight, covariance=covariance), truth
        )
        for f in (0.25, 0.5, 1.0, 2.0, 4.0)
    }
    assert scan[1.0] < 1.1 * min(scan.values())
    assert nrmse(fits["noise"].volume, truth) < 1.1 * min(scan.values())
    assert scan[0.25] > scan[1.0] < scan[4.0]


def test_stopping_rules(cube):
    projections, covariance, truth = cube
    run_on = nrmse(reconstruct(projections, TILTS, "sirt", iterations=1000), truth)
    measurement = Measurement(projections, TILTS, covariance=covariance)
    for rule in (Discrepancy(), HeldOut(), Change()):
        fit = sirt(measurement, stop=rule)
        assert fit.converged and fit.reason
        if not isinstance(rule, Change):
            assert nrmse(fit.volume, truth) < run_on
    seen = []
    stop_at_the_second = [lambda info: seen.append(info.iteration) or len(seen) == 2]
    fit = sirt(Measurement(projections, TILTS), iterations=500, callbacks=stop_at_the_second)
    assert seen == [10, 20] and fit.iteration == 20 and not fit.converged
    assert not joint_tv(measurement, weight=1.0, max_iterations=20).converged


def test_held_out_pixels_have_more_patience_the_longer_a_run(cube):
    """What the last half of the iterations gained decides, so that a plateau is no end, and an early minimum is."""

    def end(curve, rule):
        best = {0: np.inf}  # by iteration, so far
        for k in range(2, 2000, 2):
            best[k] = min(best[k - 2], curve(k))
            scores = {"heldout": curve(k), "heldout_best": best[k], "heldout_before": best[k // 4 * 2]}
            if rule(IterationInfo(k, None, change=1.0, **scores)):
                return k
        return None

    rule = HeldOut()
    assert 60 <= end(lambda k: 1 + (k / 30 - 1) ** 2, rule) <= 64  # overfits from 30 on
    assert end(lambda k: 1 + 0.3 * k**-0.5, rule) is None  # gains ever more slowly
    wavering = end(lambda k: 2 / k**0.1 if k < 400 or k > 440 else 1.2, rule)  # twenty looks without a gain
    assert wavering is None
    measurement = Measurement(cube[0], TILTS, covariance=cube[1])
    fit = sirt(measurement, stop=rule)
    best = fit.history["heldout"].argmin()
    assert fit.reason == "held-out pixels" and fit.converged
    assert rule.least / 2 <= fit.iteration <= fit.history["iteration"][best]
    # As good as the best, and of all pixels.
    chosen = fit.history["heldout"][fit.history["iteration"] == fit.iteration]
    assert chosen <= 1.02 * fit.history["heldout"][best]
    np.testing.assert_array_equal(fit.volume, sirt(measurement, iterations=fit.iteration).volume)
    with pytest.raises(ValueError, match=r"gain: got -0\.1, wants"):
        HeldOut(gain=-0.1)


def test_the_search_for_a_weight_ends(cube):
    """Noise alone, its errors stated twice too large: every weight explains it, the largest best."""
    covariance = cube[1]
    noise = np.random.default_rng(0).standard_normal((2, 9, 4, 24)) * covariance.diagonal()[:, None, None, None] ** 0.5
    fit = joint_tv(Measurement(noise, TILTS, covariance=4 * covariance), weight="discrepancy")
    assert fit.weight_at_bound and len(fit.scores) <= 5 and fit.chi2 < 0.5
    usual = joint_tv(Measurement(cube[0][:, :, 8:16], TILTS, covariance=covariance), weight="discrepancy")
    assert not usual.weight_at_bound and usual.chi2 == pytest.approx(1, abs=0.05)


def test_the_rule_by_default_is_the_discrepancy_where_the_noise_is_known(cube):
    projections, covariance, _ = cube
    informed = Measurement(projections, TILTS, covariance=covariance)
    for solve in (sirt, cgls):
        assert solve(informed).reason == "discrepancy principle"
    assert sirt(Measurement(projections, TILTS)).reason == "relative change"
    by_default = reconstruct(projections, TILTS, "sirt", covariance=covariance)
    stated = reconstruct(projections, TILTS, "sirt", covariance=covariance, tolerance=1e-3)
    np.testing.assert_array_equal(by_default, stated)


def test_a_rule_of_ones_own_stops_and_resumes(cube, tmp_path):
    class After(StopRule):
        def __call__(self, info):
            return "enough" if info.iteration >= 20 else ""

    measurement = Measurement(cube[0], TILTS)
    first, again = (sirt(measurement, stop=After(), checkpoint=tmp_path / "run.pt") for _ in range(2))
    assert first.reason == again.reason == "enough" and first.iteration == again.iteration == 20
    with pytest.raises(ValueError, match=r"iteration: got 3, wants only iterations, "):
        sirt(measurement, iteration=3)


def test_callers_see_and_give_volumes_in_their_own_unit(cube):
    projections, _, _ = cube
    seen, options = [], {"calibrated": False, "iterations": 10}
    volume = reconstruct(50 * projections, TILTS, "sirt", callbacks=[seen.append], **options)
    np.testing.assert_allclose(seen[-1].volume, volume, rtol=1e-5)
    # ten iterations from the last volume go on: the residual falls; from a start in another unit it would not
    A = ParallelBeam(24, TILTS)
    further = reconstruct(50 * projections, TILTS, "sirt", initial=volume[..., ::-1][..., ::-1], **options)
    residual, next_residual = (np.linalg.norm(A(v) - 50 * projections) for v in (volume, further))
    assert 0.5 * residual < next_residual < residual


def test_counts_have_step_sizes_too(cube):
    counts = np.random.default_rng(0).poisson(20 * ParallelBeam(24, TILTS)(cube[2]))
    measurement = Measurement(counts, TILTS, counts=True)
    assert short_sirt(measurement).max() > 5 and noise_weight(measurement, short_sirt(measurement)) > 0
    rows, columns = measurement.sums()
    assert rows.shape == counts.shape and columns.shape == measurement.volume_shape
    part = measurement.as_gaussian().rows(torch.arange(3, 7))
    assert part.misfit(torch.zeros(2, 4, 24, 24)).shape == (2, 9, 4, 24)


def test_uncalibrated_projections_learn_one_scale_per_channel(cube):
    projections, covariance, truth = cube
    scale = np.array([3e-6, 2e-7])
    counts = projections * scale[:, None, None, None]
    measurement = Measurement(counts, TILTS, covariance=covariance * np.outer(scale, scale))
    learnt = learn_scale(measurement)
    assert learnt == pytest.approx(scale, rel=0.15)
    fractions = joint_tv(measurement.rescaled(learnt), weight=1.0, constraint=SIMPLEX).volume
    options = {"weight": 1.0, "simplex": True}
    calibrated = reconstruct(projections, TILTS, "joint_tv", covariance=covariance, **options)
    assert nrmse(fractions, truth) < nrmse(calibrated, truth) + 0.1
    options |= {"covariance": covariance * np.outer(scale, scale), "calibrated": False}
    through_the_door = reconstruct(counts, TILTS, "joint_tv", **options)
    np.testing.assert_allclose(through_the_door / learnt[:, None, None, None], fractions, atol=1e-5)


@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_scale_is_learned_from_maps_that_are_mostly_noise(noise):
    series = tilt_series(32, noise=noise)
    learnt = learn_scale(Measurement(series.projections, TILTS, covariance=series.covariance))
    assert learnt == pytest.approx([1, 1], rel=0.04 if noise < 0.1 else 0.15)  # the noise alone is worth a factor of 2


def test_scale_closes_where_channels_are_alike_or_empty_or_partly_unseen(cube):
    projections, covariance, _ = cube
    alike = np.stack([0.3 * projections.sum(0), 0.7 * projections.sum(0)])
    first, second = learn_scale(Measurement(alike, TILTS))
    assert 0.3 / first + 0.7 / second == pytest.approx(1, abs=0.05)
    used = np.ones(projections.shape[1:], bool)
    used[2], used[:, :, :5] = False, False
    whole, masked = (learn_scale(Measurement(projections, TILTS, covariance=covariance, mask=m)) for m in (None, used))
    assert masked == pytest.approx(whole, rel=0.05)
    empty = projections * np.array([1, 0])[:, None, None, None]
    for few in (empty, 0 * empty, projections[:, :, 12:13], -projections):
        scale = learn_scale(Measurement(few, TILTS, covariance=covariance))
        assert np.isfinite(scale).all() and (scale > 0).all()
    assert learn_scale(Measurement(empty, TILTS, covariance=covariance))[1] < 5


def test_same_seed_same_result_and_slices_are_independent_in_sirt(cube):
    projections, covariance, _ = cube
    measurement = Measurement(projections, TILTS, covariance=covariance)
    one, two = (joint_tv(measurement, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.volume, two.volume)
    assert one.scores == two.scores
    other = joint_tv(measurement, seed=4)
    assert one.scores != other.scores
    whole = reconstruct(projections, TILTS, "sirt", iterations=10)
    part = reconstruct(projections[:, :, 5:7], TILTS, "sirt", iterations=10)
    np.testing.assert_allclose(whole[:, 5:7], part, atol=1e-6)


def test_three_channels_and_rectangular_slices():
    rng = np.random.default_rng(0)
    truth = np.zeros((3, 3, 10, 16), np.float32)
    for c in range(3):
        truth[c, :, 3 + c : 7 + c, 3 + 3 * c : 7 + 3 * c] = 1
    A = ParallelBeam((10, 16), TILTS)
    projections = A(truth) + 0.02 * rng.standard_normal((3, 9, 3, 16)).astype(np.float32)
    for algorithm in ("fbp", "sirt", "cgls", "tv", "joint_tv", "tgv"):
        weight = {"weight": 0.5} if algorithm[-1] == "v" else {}
        volume = reconstruct(projections, TILTS, algorithm, slice_shape=(10, 16), **weight)
        assert volume.shape == truth.shape and volume.dtype == np.float32
        assert algorithm in ("fbp", "cgls") or nrmse(volume, truth) < 0.6


def test_the_geometry_is_refined_inside_the_fit():
    """Shifts to a few hundredths of a pixel, which no cross-correlation reaches, and the axis within its error."""
    rng = np.random.default_rng(3)
    shifts = rng.uniform(-0.7, 0.7, (len(TILTS), 2))
    _, seen = project_fine(core_shell_nanocube(64, 1.0, oversample=2), TILTS, 2.0, shifts_px=shifts, axis_angle_deg=3.0)
    noise = 0.03 * seen.max(axis=(1, 2, 3))
    seen = seen + noise[:, None, None, None] * rng.standard_normal(seen.shape)
    measurement = Measurement(seen, TILTS, covariance=noise**2)
    found = refine_geometry(measurement)
    assert alignment_error(found.shifts_px, shifts, TILTS) < 0.06
    assert abs(found.axis_angle_deg - 3.0) < 3 * found.axis_angle_error_deg < 3
    turned = found.applied_to(measurement).projector
    assert turned.axis_angle_deg == found.axis_angle_deg and np.array_equal(turned.shifts_px, found.shifts_px)
    fixed = refine_geometry(measurement, axis_angle=False, rounds=2)
    assert fixed.axis_angle_deg == fixed.axis_angle_error_deg == 0.0


def test_what_a_turned_axis_does_not_allow_is_refused():
    turned = {"axis_angle_deg": 3.0}
    with pytest.raises(ValueError, match="axis_angle_deg: got 3 with counts"):
        Measurement(np.ones((1, 9, 8, 8)), TILTS, counts=True, **turned)
    series = Measurement(np.ones((1, 9, 8, 8)), TILTS, covariance=[0.1], **turned)
    assert series.rows(slice(0, 8)).size == series.size
    with pytest.raises(ValueError, match="rows: got some with a turned tilt axis"):
        series.rows(slice(1, 5))
    for empty, message in ((np.zeros((1, 9, 8, 8)), "nothing can be seen"), (np.ones((1, 9, 1, 8)), "at least 3 rows")):
        with pytest.raises(ValueError, match=message):
            refine_geometry(Measurement(empty, TILTS, covariance=[0.1]))


def test_a_turned_series_has_step_sizes_and_a_filter_that_fit(cube):
    _, covariance, truth = cube
    A = ParallelBeam(24, TILTS, axis_angle_deg=40.0)
    turned = Measurement(A(truth), TILTS, covariance=covariance, axis_angle_deg=40.0)
    rows, columns = turned.sums()
    assert rows.min() >= 0 and columns.min() >= 0
    straight = reconstruct(ParallelBeam(24, TILTS)(truth), TILTS, "fbp")
    back = reconstruct(A(truth), TILTS, "fbp", axis_angle_deg=40.0)
    assert nrmse(back, truth) < 1.15 * nrmse(straight, truth)


@pytest.mark.parametrize("n", [97, 99])
def test_binned_images_have_their_middle_where_it_is(n):
    """An odd crop moves it by half a pixel, which would move the tilt axis."""
    images = np.tile(np.exp(-(((np.arange(n) - 40) / 9) ** 2)), (1, 5, 1))
    binned, factors, middle = bin_images(images, 48)
    centre = [(a.sum(1)[0] * (np.arange(a.shape[2]) - (a.shape[2] - 1) / 2)).sum() / a.sum() for a in (images, binned)]
    assert centre[1] * factors[1] + middle[1] == pytest.approx(centre[0], abs=0.01)
    assert bin_images(np.ones((1, 1, n)), 48)[0].shape[1] == 1


def test_an_empty_channel_is_no_harm(cube):
    projections, _, truth = cube
    alone = np.stack([projections[1], 0 * projections[1]])
    fit = joint_tv(Measurement(alone, TILTS), weight=1.0)
    assert fit.converged and nrmse(fit.volume[0], truth[1]) < 0.4 and np.abs(fit.volume[1]).max() < 0.1
    assert np.array_equal(reconstruct(0 * alone, TILTS, "sirt"), np.zeros_like(truth))


def test_noise_is_estimated_from_the_data(cube):
    projections, covariance, _ = cube
    assert estimate_covariance(projections).diagonal() == pytest.approx(covariance.diagonal(), rel=0.25)


def test_estimated_noise_ignores_edges_and_masked_pixels():
    image = np.random.default_rng(0).normal(scale=[[[[2.0]]], [[[0.5]]]], size=(2, 9, 64, 64))
    image[:, :, 20:40, 20:40] += 50
    usable = np.ones(image.shape, bool)
    usable[:, :, :8] = False
    image[:, :, :8] = 1e9
    assert estimate_covariance(image, usable).diagonal() ** 0.5 == pytest.approx([2.0, 0.5], rel=0.05)


@pytest.mark.parametrize("axis", [-1, -2])
def test_noise_of_a_single_row_is_estimated_along_it(axis):
    _, projections, covariance = tilt_series(24, 0.1)
    for row in (9, 12, 15):
        one = np.take(projections, [row], axis=-2)
        found = estimate_covariance(one if axis == -1 else one.swapaxes(-1, -2)).diagonal()
        assert found**0.5 == pytest.approx(covariance.diagonal() ** 0.5, rel=0.35)
    assert joint_tv(Measurement(one, TILTS), weight="noise", max_iterations=200).volume.shape == (2, 1, 24, 24)


def test_noise_that_cannot_be_known_is_not_made_up():
    with pytest.raises(ValueError, match="projections: got 1 × 2 pixels in channel 0 without neighbours"):
        Measurement(np.ones((1, 3, 1, 2)), [0, 10, 20])
    alternate = np.zeros((3, 4, 8), bool)
    alternate[:, ::2, ::2] = True
    with pytest.raises(ValueError, match=r"wants 2 × 2 or 3 neighbours .* or a stated covariance"):
        Measurement(np.ones((1, 3, 4, 8)), [0, 10, 20], mask=alternate)
    assert Measurement(np.ones((1, 3, 1, 2)), [0, 10, 20], covariance=[1.0]).size == 6


@pytest.mark.parametrize("shape", [(1, 9, 1, 96), (1, 2, 3, 12), (2, 2, 1, 12), (1, 5, 2, 3)])
def test_small_and_narrow_series_are_reconstructed(shape):
    tilts = np.linspace(-60, 60, shape[1])
    projections = 3 + np.random.default_rng(0).random(shape)
    for algorithm in ("fbp", "sirt", "cgls", "joint_tv"):
        options = {} if algorithm == "fbp" else {"max_iterations": 40}
        volume = reconstruct(projections, tilts, algorithm, **options)
        assert volume.shape == (shape[0], shape[2], shape[3], shape[3]) and np.isfinite(volume).all() and volume.any()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"projections": np.zeros((9, 4, 8))}, "projections: got"),
        ({"projections": np.full((2, 9, 4, 8), np.nan)}, "projections: got NaN"),
        ({"tilt_angles_deg": TILTS[:-1]}, "tilt_angles_deg: got shape"),
        ({"algorithm": "magic"}, "algorithm: got 'magic'"),
        ({"mask": np.ones((9, 4, 8))}, "mask: got float64"),
        ({"mask": np.zeros((9, 4, 8), bool)}, "mask: got nothing"),
        ({"covariance": np.eye(3)}, "covariance: got shape"),
        ({"covariance": -np.eye(2)}, "covariance: got an eigenvalue"),
        ({"covariance": np.array([[1, 0.5], [0, 1]])}, "not symmetric"),
        ({"covariance": np.ones((2, 2)), "model_error": 0}, "covariance: got an eigenvalue of .* or a model_error"),
        ({"covariance": np.zeros(2)}, "covariance: got an eigenvalue of 0"),
        ({"covariance": np.eye(2), "weights": 1.0}, "weights: got both"),
        ({"weights": -1.0}, "weights: got negative"),
        ({"weight": "best", "algorithm": "tv"}, "weight: got 'best'"),
        ({"weight": -1.0, "algorithm": "tv"}, "weight: got -1.0"),
        ({"coupling": "l1", "algorithm": "joint_tv"}, "coupling: got 'l1'"),
        ({"ratio": 0, "algorithm": "tgv"}, "ratio: got 0"),
        ({"ratio": 2.0, "algorithm": "joint_tv"}, "ratio: got 2.0 with 'joint_tv'"),
        ({"coupling": "nuclear"}, "coupling: got 'nuclear' with 'sirt', wants only"),
        ({"window": "hann"}, "window: got 'hann' with 'sirt', wants only"),
        ({"details": True}, "details: got True"),
        ({"bounds": (np.nan, None)}, "bounds: got"),
        (
            {"algorithm": "tomopy:sirt", "covariance": np.eye(2)},
            "covariance: got an array .* with 'tomopy:sirt', wants",
        ),
        ({"algorithm": "joint_tv", "stop": "heldout"}, "stop: got 'heldout'"),
        ({"algorithm": "joint_tv", "stop": HeldOut()}, "stop: got HeldOut"),
        ({"stop": Gap()}, "stop: got Gap"),
        ({"stop": 5}, "stop: got 5"),
        ({"stop": Change(), "tolerance": 0.1}, "tolerance: got 0.1 beside"),
        ({"bounds": (0, 1), "simplex": True}, "bounds: got .* beside simplex"),
        ({"bounds": (0, 1), "constraint": NONNEGATIVE}, "bounds: got .* beside constraint"),
        ({"bounds": (0, 1, 2)}, "bounds: got"),
        ({"bounds": ("a", 2)}, "bounds: got"),
        ({"constraint": "simplex"}, "constraint: got 'simplex'"),
        ({"algorithm": "tv", "weight": None}, "weight: got None"),
        ({"callbacks": print}, "callbacks: got"),
        ({"counts": np.ones(3)}, "counts: got float64 of shape"),
        ({"device": "abacus"}, "device: got 'abacus'"),
        ({"covariance": "x"}, "covariance: got 'x'"),
        ({"slice_shape": 16}, "slice_shape: got 16"),
        ({"initial": np.full((2, 4, 8, 8), np.nan)}, "initial: got NaN"),
        ({"initial": np.zeros((4, 8, 8)), "calibrated": False}, "initial: got shape"),
        ({"stop": "never"}, "stop: got 'never'"),
        ({"iterations": 0}, "iterations: got 0"),
        ({"tolerance": 0}, "tolerance: got 0"),
        ({"bounds": (1, 0)}, "bounds: got"),
        ({"initial": np.zeros((2, 4, 8, 7))}, "initial: got shape"),
        ({"slice_shape": (8, 7)}, "slice_shape: got"),
    ],
)
def test_reconstruct_refuses(change, message):
    arguments = {"projections": np.ones((2, 9, 4, 8)), "tilt_angles_deg": TILTS} | change
    with pytest.raises(ValueError, match=message):
        reconstruct(**arguments)


def test_total_variation_without_weight_is_least_squares(cube):
    projections, covariance, _ = cube
    data = Measurement(projections, TILTS, covariance=covariance, model_error=0)
    with torch.no_grad():
        solver = TotalVariation(data, Constraint(), 0.0, torch.zeros(data.volume_shape))
        for _ in range(100):
            solver.step()
    assert data.chi2(solver.volume) < 0.6


# ---------------------------------------------------------------- alignment


def _misaligned(seed, n=48, noise=0.05, amplitude=4.0):
    shifts = np.random.default_rng(seed).uniform(-amplitude, amplitude, (TILTS.size, 2))
    return tilt_series(n, noise, seed, shifts_px=shifts)[1], shifts


@pytest.mark.parametrize("seed", [0, 1])
def test_alignment_finds_known_shifts(seed):
    projections, shifts = _misaligned(seed)
    assert alignment_error(np.zeros_like(shifts), shifts, TILTS) > 1
    found = align(projections, TILTS)
    assert alignment_error(found.shifts_px, shifts, TILTS) <= 0.3
    # The shifts go into the projector, or the data are put right: the same volume up to interpolation.
    a = reconstruct(projections, TILTS, "sirt", iterations=20, shifts_px=found.shifts_px)
    b = reconstruct(shift_projections(projections, -found.shifts_px), TILTS, "sirt", iterations=20)
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9


def test_tilt_axis_position():
    projections, _ = _misaligned(0, noise=0.0, amplitude=0.0)
    moved = shift_projections(projections, np.tile([0.0, 2.3], (9, 1)))
    assert align(moved, TILTS).tilt_axis_px == pytest.approx(2.3, abs=0.5)


def test_refined_shifts_are_nearer():
    projections, shifts = _misaligned(2, n=32, amplitude=1.0)
    start = align(projections, TILTS, refine=False).shifts_px
    assert alignment_error(refine_alignment(projections, TILTS, shifts_px=start), shifts, TILTS) <= 0.3


def test_alignment_of_the_measured_series():
    from softeels_utils import data

    if not data.is_cached("idp_eds_tilt_series"):
        pytest.skip("the measured series idp_eds_tilt_series is not on this machine")
    series = data.load("idp_eds_tilt_series")
    images = block_reduce(series.haadf, (1, 4, 4), np.mean)
    found = align(images, series.tilt_angles_deg, rounds=2)

    def disagreement(shifts):
        """Residual of a reconstruction without each tilt, at that tilt, away from the borders (material beyond)."""
        tilts, total = series.tilt_angles_deg, []
        stack = (images - images.min())[None]
        A = ParallelBeam(64, tilts, shifts_px=shifts)
        for k in range(0, len(tilts), 2):
            rest = np.arange(len(tilts)) != k
            volume = reconstruct(stack[:, rest], tilts[rest], "sirt", iterations=15, shifts_px=shifts[rest])
            total.append(nrmse(A.subset([k])(volume)[0, 0, 8:-8, 8:-8], stack[0, k, 8:-8, 8:-8]))
        return np.mean(total)

    assert disagreement(found.shifts_px) < 0.95 * disagreement(np.zeros_like(found.shifts_px))


@pytest.mark.slow
def test_memory_of_a_large_sirt_run():
    """4 channels × 256 slices × 256² at 29 views stay below 6 GiB."""
    code = (
        "import resource, numpy as np; from softeels_utils.tomography import reconstruct\n"
        "p = np.random.default_rng(0).random((4, 29, 256, 256), np.float32)\n"
        "v = reconstruct(p, np.linspace(-70, 70, 29), 'sirt', iterations=1, progress=False)\n"
        "assert v.shape == (4, 256, 256, 256)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kilobytes = int(result.stdout)
    assert kilobytes < 6 * 1024**2


@pytest.mark.parametrize("shape", [(7, 2, 2), (3, 5, 3, 3), (0, 2, 2), (2, 2)])
def test_eigenvalues_of_many_matrices_are_those_of_each(shape, monkeypatch):
    half = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrices = half @ half.mT
    monkeypatch.setattr(eigen, "AT_ONCE", 3)
    values, vectors = eigen.eigh(matrices)
    assert torch.allclose(values, torch.linalg.eigvalsh(matrices)) and torch.allclose(values, eigen.eigvalsh(matrices))
    assert torch.allclose(vectors @ torch.diag_embed(values) @ vectors.mT, matrices)
