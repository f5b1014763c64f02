"""The Cramér-Rao bound against efficient estimates, dense algebra and closed forms; interfaces against geometry."""

import numpy as np
import pytest
import scipy.linalg
from scipy.stats import norm
from specimens import TILTS

from softeels_utils.simulate import core_shell_nanocube
from softeels_utils.tomography import (
    Measurement,
    ParallelBeam,
    detectability,
    disc,
    displacements,
    extract_surface,
    fluence_factor,
    functional_bound,
    parameter_bound,
    phase_volumes,
    visibility,
)

N = 16
SHAPE = (2, N, N, N)
CUBE = {"core": 0.4, "shell": 0.75, "skin": None, "void_radius": None}


@pytest.fixture(scope="module")
def truth():
    return core_shell_nanocube(N, **CUBE).astype(float)


@pytest.fixture(scope="module")
def directions(truth):
    """Positions of patches of core and surface, and the volumes of the phases."""
    core = extract_surface(truth[0] - truth[1], 0.0)
    core = core.select(np.abs(core.points - (N - 1) / 2).max(axis=1) < 0.3 * N)
    outer = extract_surface(truth.sum(axis=0))
    parts = [
        displacements(core, (1, -1), SHAPE[1:], core.patches(6.0)),
        displacements(outer, (0, 1), SHAPE[1:], outer.patches(8.0)),
        phase_volumes(truth),
    ]
    return np.concatenate([part.toarray() for part in parts]).reshape(-1, *SHAPE)


def measure(covariance, tilts=TILTS, shape=SHAPE, **options):
    stack = np.zeros((shape[0], len(tilts), shape[1], shape[3]))
    return Measurement(stack, tilts, covariance=covariance, model_error=0.0, **options)


def pixel_covariances(seed=0):
    """(T, Y, X, 2, 2): anti-correlated errors that vary from pixel to pixel."""
    sigma = np.random.default_rng(seed).uniform(0.5, 1.5, (len(TILTS), N, N, 1, 1))
    return sigma**2 * np.array([[1.0, -0.9], [-0.9, 1.2]])


def dense_model(covariance=np.eye(2), n=N, rows=1):
    """Whitened forward model of a few slices as a dense matrix (C T Y X, C Y Z X), without the package's operators."""
    matrix = ParallelBeam(n, TILTS).matrix().toarray().reshape(len(TILTS), n, n * n)
    whole = np.einsum("tup,yw->tywup", matrix, np.eye(rows)).swapaxes(2, 2)  # (T, Y, Y', X, Z X)
    whole = whole.transpose(0, 1, 3, 2, 4).reshape(len(TILTS) * rows * n, -1)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    return np.kron(whiten, whole)


# ---------------------------------------------------------------- the bound


def test_efficient_estimates_scatter_as_the_bound_says(truth, directions):
    """Least squares of the parameters on simulated data, written without the package's whitening."""
    covariance = pixel_covariances()
    bound = parameter_bound(measure(covariance), directions)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))  # (T, Y, X, 2, 2)
    projected = ParallelBeam(N, TILTS)(directions)  # (P, C, T, Y, X)
    design = np.einsum("tyxcd,pdtyx->ctyxp", whiten, projected).reshape(-1, len(directions))
    rng, draws = np.random.default_rng(1), 300
    parameters = rng.normal(size=len(directions))
    data = (design @ parameters)[:, None] + rng.standard_normal((len(design), draws))
    errors = np.linalg.lstsq(design, data, rcond=None)[0] - parameters[:, None]
    normal = scipy.linalg.solve_triangular(np.linalg.cholesky(bound.covariance), errors, lower=True)
    count = normal.size
    assert abs((normal**2).mean() - 1) < 4 * np.sqrt(2 / count)
    ratio = errors.var(axis=1) / bound.covariance.diagonal()
    assert (np.abs(ratio - 1) < 4.5 * np.sqrt(2 / draws)).all(), ratio
    together = np.ones(len(directions))
    assert np.isclose((together @ errors).std(), bound.combination(together), rtol=4.5 / np.sqrt(2 * draws))


def test_bound_is_that_of_dense_algebra_with_uncertain_voxels(truth, directions):
    covariance, deviation = np.array([[1.0, -0.8], [-0.8, 1.0]]), 0.2
    shape = (2, 2, N, N)
    some = directions[:, :, N // 2 - 1 : N // 2 + 1]
    some = some[np.argsort(-np.abs(some).sum(axis=(1, 2, 3, 4)))[:5]]  # that have most in these rows
    model = dense_model(covariance, rows=2)
    columns = model @ some.reshape(5, -1).T
    noise = np.eye(len(model)) + deviation**2 * model @ model.T
    expected = np.linalg.inv(columns.T @ np.linalg.solve(noise, columns))
    found = parameter_bound(measure(covariance, shape=shape), some, voxel_deviation=deviation)
    assert np.allclose(found.covariance, expected, rtol=2e-3, atol=1e-4 * expected.max())
    known = parameter_bound(measure(covariance, shape=shape), some)
    assert (known.standard_error < found.standard_error).all()


def test_bound_follows_noise_views_and_what_is_unknown(directions):
    covariance = pixel_covariances()
    bound = parameter_bound(measure(covariance), directions)
    assert np.allclose(parameter_bound(measure(4 * covariance), directions).standard_error, 2 * bound.standard_error)
    fewer = parameter_bound(measure(covariance[::2], TILTS[::2]), directions)
    assert (fewer.standard_error > bound.standard_error).all()
    assert (bound.standard_error > bound.standard_error_alone).all()
    alone = parameter_bound(measure(covariance), directions[:3])
    assert (alone.standard_error < bound.standard_error[:3]).all()
    nuisance = parameter_bound(measure(covariance), directions[:3], nuisance=directions[3:])
    assert np.allclose(nuisance.covariance, bound.covariance[:3, :3], rtol=1e-3)
    mask = np.ones((len(TILTS), N, N), bool)
    mask[4] = False
    assert (parameter_bound(measure(covariance, mask=mask), directions).standard_error > bound.standard_error).all()


def test_what_the_data_cannot_tell_is_infinite_until_a_prior_says_it(directions):
    twice = np.concatenate([directions[:3], directions[:1]])
    bound = parameter_bound(measure([1.0, 1.0]), twice)
    single = parameter_bound(measure([1.0, 1.0]), directions[:3])
    assert list(np.isinf(bound.standard_error)) == [True, False, False, True]
    assert np.allclose(bound.standard_error[1:3], single.standard_error[1:], rtol=1e-3)
    prior = parameter_bound(measure([1.0, 1.0]), twice, prior_covariance=np.full(4, 0.25))
    assert (prior.standard_error < 0.5).all()
    hidden = parameter_bound(measure([1.0, 1.0]), directions[:1], nuisance=directions[:2])
    assert np.isinf(hidden.standard_error).all()


# ---------------------------------------------------------------- counts


def counts(truth, level):
    A = ParallelBeam(N, TILTS)
    expected = A(level * truth) + 0.0
    return Measurement(np.rint(expected), TILTS, counts=True), expected


def test_scale_of_counts_has_the_closed_form(truth):
    measurement, expected = counts(truth, 3.0)
    bound = parameter_bound(measurement, 3.0 * truth[None], at=3.0 * truth, least_counts=0.0)
    assert np.isclose(bound.standard_error[0], 1 / np.sqrt(expected.sum()), rtol=1e-4)


def test_many_counts_are_gaussian(truth, directions):
    volume = truth + 0.1  # no pixel without counts
    measurement, expected = counts(volume, 1000.0)
    poisson = parameter_bound(measurement, 1000 * directions, at=1000 * volume)
    gaussian = parameter_bound(Measurement(expected, TILTS, weights=1 / expected, model_error=0), 1000 * directions)
    assert np.allclose(poisson.standard_error, gaussian.standard_error, rtol=1e-3)
    assert np.isclose(
        detectability(measurement, 1000 * volume, 1000 * (volume + 0.01 * directions[0])),
        0.01 / gaussian.standard_error_alone[0],
        rtol=0.01,
    )


def test_counts_tell_two_volumes_apart_as_well_as_the_likelihood_ratio(truth):
    """Few counts and a strong feature, where the square roots matter."""
    filled, void = 0.5 * (truth + 0.2), 0.5 * (truth + 0.2)
    void = void * (np.linalg.norm(np.indices(SHAPE[1:]) - 7.5, axis=0) > 2.5)
    measurement, _ = counts(filled, 1.0)
    A, rng = ParallelBeam(N, TILTS), np.random.default_rng(2)
    means = [A(v).ravel() for v in (filled, void)]
    weights = np.log(means[1] / means[0])
    scores = [rng.poisson(mean, (2000, mean.size)) @ weights for mean in means]
    d_prime = (scores[1].mean() - scores[0].mean()) / np.sqrt((scores[0].var() + scores[1].var()) / 2)
    assert np.isclose(detectability(measurement, filled, void), d_prime, rtol=0.05)


# ---------------------------------------------------------------- features


def test_power_of_the_best_test_is_as_detectability_says(truth):
    covariance = np.array([[9.0, -8.0], [-8.0, 9.0]])
    void = truth * (np.linalg.norm(np.indices(SHAPE[1:]) - 7.5, axis=0) > 1.5)
    measurement = measure(covariance)
    d_prime = detectability(measurement, truth, void)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    signal = np.einsum("cd,dtyx->ctyx", whiten, ParallelBeam(N, TILTS)(void - truth)).ravel()
    noise = np.random.default_rng(3).standard_normal((3000, signal.size), dtype=np.float32)
    factor = fluence_factor(d_prime, level=0.05, power=0.8)
    matched = noise @ signal / np.linalg.norm(signal)
    null, found = matched, matched + np.sqrt(factor) * np.linalg.norm(signal)
    assert abs(np.mean(found > np.quantile(null, 0.95)) - 0.8) < 0.04
    assert np.isclose(norm.sf(norm.isf(0.05) - np.sqrt(factor) * d_prime), 0.8)


def test_nuisance_hides_a_feature(truth, directions):
    void = truth.copy()
    void[:, 7:9, 7:9, 7:9] = 0
    measurement = measure([1.0, 2.0])
    alone = detectability(measurement, truth, void)
    assert alone > detectability(measurement, truth, void, nuisance=directions) > 0
    assert alone > detectability(measurement, truth, void, voxel_deviation=0.3) > 0
    assert detectability(measurement, truth, void, nuisance=(void - truth)[None]) == 0
    assert fluence_factor(0.0) == np.inf


# ---------------------------------------------------------------- voxels and directions


def cosine(frequency, angle_deg, n=N):
    """One slice (1, 1, 1, Z, X) of waves along a direction from X towards Z."""
    z, x = np.indices((n, n)) - (n - 1) / 2
    angle = np.deg2rad(angle_deg)
    return np.cos(2 * np.pi * frequency * (x * np.cos(angle) + z * np.sin(angle)))[None, None, None]


@pytest.mark.parametrize("variance", [0.25, 1e-4])
def test_functionals_are_bounded_as_dense_algebra_says(variance):
    measurement = measure([variance], shape=(1, 1, N, N))
    functionals = np.concatenate([cosine(0.1, 0), cosine(0.2, 90), cosine(0.0, 0)])
    deviation = np.random.default_rng(0).uniform(0.1, 0.5, (N, N)) * (np.indices((N, N))[0] > 2)
    model = dense_model(np.array([[variance]]))
    w, inside = functionals.reshape(3, -1).T, deviation.ravel() > 0
    precision = model[:, inside].T @ model[:, inside] + np.diag(deviation.ravel()[inside] ** -2.0)
    expected = w[inside].T @ np.linalg.solve(precision, w[inside])
    found = functional_bound(measurement, functionals, voxel_deviation=deviation)
    assert np.allclose(found.diagonal(), expected.diagonal(), rtol=2e-3)
    assert np.allclose(found, expected, atol=1e-4 * expected.max())


def test_waves_in_the_wedge_are_not_resolved():
    waves = np.concatenate([cosine(0.25, 0), cosine(0.25, 90)])  # along X: seen at 0°; along Z: in the wedge
    left = functional_bound(measure([1e-4], shape=(1, 1, N, N)), waves, voxel_deviation=0.5).diagonal()
    resolved = 1 - left / (0.25 * (waves.reshape(2, -1) ** 2).sum(axis=1))
    assert resolved[0] > 0.95 and resolved[1] < 0.6


def test_interfaces_in_the_wedge_are_known_less_well():
    normals = np.eye(3)[[1, 2, 0]]  # along Z, X, Y
    along_z, along_x, along_y = visibility(measure([1.0, 1.0]), normals, 7.0)
    assert along_z > 2 * along_x and along_z > 2 * along_y
    known = visibility(measure([1.0, 1.0]), normals, 7.0, profile_reach=0)
    assert (known[:2] < [along_z, along_x]).all() and known[0] < 1.5 * known[1]
    assert np.isclose(known[2], along_y)  # slices do not mix
    around = np.linspace(-90, 90, 9, endpoint=False)
    full = visibility(measure([1.0, 1.0], around), normals, 7.0)
    assert full[0] < 1.3 * full[1]


# ---------------------------------------------------------------- interfaces


def sphere(n, radius_vox, centre=(0.0, 0.0, 0.0), oversample=8):
    sizes = {"core": None, "skin": None, "void_radius": None, "rotation_deg": None, "unit": "voxel"}
    options = sizes | {"shape": "sphere", "shell": 2 * radius_vox, "center": centre}
    return core_shell_nanocube(n, oversample=oversample, **options).astype(float)


def test_a_sphere_moves_and_grows_as_its_surface_says():
    ball = sphere(20, 6.0)
    surface = extract_surface(ball.sum(axis=0))
    assert np.isclose(surface.areas.sum(), 4 * np.pi * 36, rtol=0.02)
    radial = surface.points - 9.5
    assert ((radial * surface.normals).sum(axis=1) / np.linalg.norm(radial, axis=1) > 0.98).all()
    A = ParallelBeam(20, TILTS)
    grown = A(sphere(20, 6.2) - sphere(20, 5.8)) / 0.4
    (growth,) = displacements(surface, (0, 1), (20, 20, 20)).toarray().reshape(-1, 2, 20, 20, 20)
    assert np.linalg.norm(A(growth) - grown) < 0.1 * np.linalg.norm(grown)
    shifts = displacements(surface, (0, 1), (20, 20, 20), surface.normals.T).toarray().reshape(3, 2, 20, 20, 20)
    for axis in range(3):
        step = 0.2 * np.eye(3)[axis]
        moved = A(sphere(20, 6.0, tuple(step)) - sphere(20, 6.0, tuple(-step))) / 0.4
        assert np.linalg.norm(A(shifts[axis]) - moved) < 0.1 * np.linalg.norm(moved)


def test_patches_cover_a_surface_and_end_at_its_edges():
    cube = core_shell_nanocube(24, core=None, shell=0.5, skin=None, void_radius=None, rotation_deg=None)
    surface = extract_surface(cube.sum(axis=0))
    patches = surface.patches(6.0)
    areas = np.bincount(patches, surface.areas)
    assert 22 <= len(areas) <= 24 and 18 < areas.min() and areas.max() < 54  # 6 faces of four patches of 36
    faces = np.abs(surface.normals).argmax(axis=1) * 2 + (surface.normals.sum(axis=1) > 0)
    flat = np.abs(surface.normals).max(axis=1) > 0.99
    assert all(len(np.unique(faces[flat & (patches == p)])) <= 1 for p in range(len(areas)))
    parts = displacements(surface, (0, 1), (24, 24, 24), patches)
    assert np.allclose(parts.sum(axis=0), displacements(surface, (0, 1), (24, 24, 24)).toarray()[0])
    assert np.isclose(parts.sum(), surface.areas.sum())


def test_a_disc_is_flat_and_moves_along_its_normal():
    piece = disc((5, 6, 7), (0, 3, 4), 4.0)
    assert np.isclose(piece.areas.sum(), 4 * np.pi) and np.allclose(piece.points.mean(axis=0), (5, 6, 7))
    assert np.allclose((piece.points - (5, 6, 7)) @ (0, 0.6, 0.8), 0)
    assert np.allclose((piece.moved(2).points - piece.points) @ (0, 0.6, 0.8), 2)
    assert len(disc((5, 6, 7), (1, 0, 0), 0.1).areas) >= 1


def test_phase_volumes_add_one_voxel(truth):
    region = np.zeros(SHAPE[1:], bool)
    region[4:12] = True
    rows = phase_volumes(truth, region).toarray().reshape(2, *SHAPE)
    assert np.allclose(rows.sum(axis=(2, 3, 4)), np.eye(2)) and not rows[:, :, ~region].any()


# ---------------------------------------------------------------- bad input

ONE = np.ones((1, *SHAPE))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda m, s: parameter_bound(m, ONE[0]), "directions"),
        (lambda m, s: parameter_bound(m, np.nan * ONE), "directions"),
        (lambda m, s: parameter_bound(m, phase_volumes(np.ones((2, 3, 3, 3)))), "directions"),
        (lambda m, s: parameter_bound(m, ONE, nuisance=ONE[:, :1]), "nuisance"),
        (lambda m, s: parameter_bound(m, ONE, prior_covariance=[-1.0]), "prior_covariance"),
        (lambda m, s: parameter_bound(m, ONE, prior_covariance=[1.0, 1.0]), "prior_covariance"),
        (lambda m, s: parameter_bound(m, ONE, voxel_deviation=-1), "voxel_deviation"),
        (lambda m, s: parameter_bound(m, ONE, voxel_deviation=np.ones(3)), "voxel_deviation"),
        (lambda m, s: parameter_bound(m, ONE).combination([1.0, 2.0]), "weights"),
        (lambda m, s: parameter_bound(counts(ONE[0], 1.0)[0], ONE), "at"),
        (lambda m, s: parameter_bound(counts(ONE[0], 1.0)[0], ONE, at=ONE[0], least_counts=-1), "least_counts"),
        (lambda m, s: functional_bound(m, ONE, voxel_deviation=0), "voxel_deviation"),
        (lambda m, s: detectability(m, ONE[0], ONE[0, :1]), "alternative"),
        (lambda m, s: fluence_factor(-1.0), "d_prime"),
        (lambda m, s: fluence_factor(1.0, power=1.0), "power"),
        (lambda m, s: visibility(m, [1.0, 0.0], 5), "normals"),
        (lambda m, s: visibility(m, [1, 0, 0], 5, difference=[1]), "difference"),
        (lambda m, s: visibility(m, [1, 0, 0], -5), "size"),
        (lambda m, s: visibility(m, [1, 0, 0], 5, profile_reach=-1), "profile_reach"),
        (lambda m, s: visibility(m, [0, 0, 0], 5), "normals"),
        (lambda m, s: extract_surface(np.zeros((4, 4, 4))), "level"),
        (lambda m, s: extract_surface(np.zeros((4, 4))), "field"),
        (lambda m, s: s.patches(0), "size"),
        (lambda m, s: displacements(s, np.ones((3, 2)), SHAPE[1:]), "difference"),
        (lambda m, s: displacements(s, (1, 0), SHAPE), "shape"),
        (lambda m, s: displacements(s, (1, 0), SHAPE[1:], [0, 1]), "modes"),
        (lambda m, s: phase_volumes(np.zeros(SHAPE)), "region"),
        (lambda m, s: phase_volumes(np.ones(SHAPE), np.ones(3, bool)), "region"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=rf"^{name}: got .* wants "):
        call(measure([1.0, 1.0]), disc((7, 7, 7), (1, 0, 0), 4.0))
