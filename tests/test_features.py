"""Feature tests and audits: what must hold on problems small enough for seconds. Rates: benchmarks/features.py."""

import numpy as np
import pytest
from scipy import stats

from softeels_utils import dip
from softeels_utils.dip.audit import KINDS
from softeels_utils.simulate import core_shell_nanocube
from softeels_utils.study import project_fine
from softeels_utils.tomography import SIMPLEX, Measurement, ParallelBeam, joint_tv

N, TILTS = 20, np.linspace(-70, 70, 9)


def ball(n, centre, diameter):
    return ((np.indices((n,) * 3) - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0) <= (diameter / 2) ** 2


HOLE = ball(N, (10, 13, 8), 4)


def measured(fine, kind="gaussian", seed=0):
    """(truth, measurement, reconstruction) of 5 % noise, or counts, from a grid twice as fine."""
    truth, clean = project_fine(fine, TILTS)
    rng = np.random.default_rng(seed)
    if kind == "counts":
        counts = rng.poisson(20 * clean.clip(0)).astype(np.float32)
        measurement = Measurement(counts, TILTS, counts=True).rescaled(np.full(len(clean), 20.0))
    else:
        sigma, correlation = 0.05 * clean.max(), -0.6 if len(clean) == 2 else 0.0
        covariance = sigma**2 * (correlation + (1 - correlation) * np.eye(len(clean)))
        noise = np.einsum("cd,dtyx->ctyx", np.linalg.cholesky(covariance), rng.standard_normal(clean.shape))
        mask = np.ones(clean.shape[1:], bool)
        mask[3, 4:8] = False
        noisy = np.where(mask, clean + noise, np.nan)
        measurement = Measurement(noisy, TILTS, covariance=covariance, mask=mask)
    options = {"constraint": SIMPLEX, "weight": "noise", "max_iterations": 100, "progress": False}
    return truth, measurement, joint_tv(measurement, **options)


@pytest.fixture(scope="module")
def solid():
    return core_shell_nanocube(2 * N, core=0.3, shell=0.75, skin=0, void_radius=0)


@pytest.fixture(scope="module")
def hollow(solid):
    return solid * ~ball(2 * N, (20.5, 26.5, 16.5), 8)


@pytest.mark.parametrize("kind", ["gaussian", "one channel", "counts"])
def test_real_void_is_supported_and_painted_one_contradicted(kind, solid, hollow):
    channels = slice(1, 2) if kind == "one channel" else slice(None)
    for fine, verdict in ((hollow, "supported"), (solid, "contradicted")):
        _, measurement, result = measured(fine[channels], kind)
        volume = result if fine is hollow else np.where(HOLE, 0, result.volume)
        test = dip.feature_test(measurement, volume, HOLE, feature="vacuum", simulations=199)
        assert test.decided == verdict and test.feature == "vacuum"
        p = (test.p_value, test.p_contradiction)
        assert min(p) == p[verdict == "contradicted"] < 1e-3 and max(p) > 0.05


def test_what_the_data_cannot_tell_is_undecided(solid):
    """One voxel, a little emptier: neither volume is rejected, and more fluence is asked for."""
    _, measurement, result = measured(solid)
    region = ball(N, (10, 13, 8), 1)
    test = dip.feature_test(measurement, np.where(region, 0.6 * result.volume, result.volume), region)
    assert test.decided == "undecided" and test.fluence_factor > 1


def test_effect_is_the_amplitude_in_the_truth(hollow):
    truth, measurement, result = measured(hollow)
    without = dip.fill_in(result.volume, HOLE)
    for shown in (1.0, 0.5):  # a volume that shows half the void: twice the effect
        volume = np.where(HOLE, (1 - shown) * without, without)
        test = dip.feature_test(measurement, volume, HOLE, without)
        true = ((without - truth) * without)[:, HOLE].sum() / (without[:, HOLE] ** 2).sum() / shown
        assert test.contrast == pytest.approx(shown) and abs(test.effect - true) < 3 * test.standard_error
        assert 0.05 < test.standard_error * shown < 0.4


def linear_case(seed):
    """A known volume, its own noise, no error of the volume beyond what is stated."""
    rng = np.random.default_rng(seed)
    volume = np.zeros((1, 7, 12, 12))
    volume[:, 1:6, 3:9, 3:9] = 1
    clean = ParallelBeam(12, TILTS)(volume)
    measurement = Measurement(clean + rng.normal(0, 0.5, clean.shape), TILTS, covariance=[0.25], model_error=0)
    region = np.zeros(volume.shape[1:], bool)
    region[3, 5:7, 5:7] = True
    return measurement, volume, region


def test_p_values_are_uniform_where_nothing_is():
    exact = dip.VolumeErrors(0, 0, 0)
    p = []
    for seed in range(80):
        measurement, volume, region = linear_case(seed)
        half = np.where(region, 0.5, volume)
        test = dip.feature_test(measurement, half, region, volume, feature="vacuum", errors=exact)
        p.append((test.p_value, test.statistic))
    p, t = np.array(p).T
    assert stats.kstest(p, "uniform").pvalue > 0.01 and abs(t.std() - 1) < 0.25


def test_power_at_the_fluence_that_is_asked_for():
    """With that many times less noise the true feature is found nine times in ten."""
    measurement, volume, region = linear_case(0)
    empty, exact, found = np.where(region, 0, volume), dip.VolumeErrors(0, 0, 0), []
    options = {"alternative": volume, "feature": "vacuum", "errors": exact}
    factor = dip.feature_test(measurement, empty, region, **options).fluence_factor
    clean, rng = ParallelBeam(12, TILTS)(empty), np.random.default_rng(1)
    variance = 0.25 / factor
    for _ in range(60):
        noisy = clean + rng.normal(0, variance**0.5, clean.shape)
        repeat = Measurement(noisy, TILTS, covariance=[variance], model_error=0)
        found.append(dip.feature_test(repeat, empty, region, **options).p_value < 0.05)
    assert 0.78 < np.mean(found) < 0.99


def test_another_phase_is_not_taken_for_a_void():
    """A grain of FeO in magnetite that the volume does not show: no vacuum, although the data reject pure magnetite."""
    grain = ball(2 * N, (20.5, 26.5, 16.5), 8)
    fine = core_shell_nanocube(2 * N, core=0, shell=0.75, skin=0, void_radius=0)
    fine = np.where(grain, np.eye(2)[0][:, None, None, None], fine)
    _, measurement, result = measured(fine)
    without = np.where(HOLE, np.eye(2)[1][:, None, None, None], result.volume)
    options = {"alternative": without, "feature": "vacuum"}
    test = dip.feature_test(measurement, np.where(HOLE, 0, result.volume), HOLE, **options)
    assert test.decided == "contradicted" and abs(test.effect) < 3 * test.standard_error
    closed = dip.VolumeErrors(composition=0)
    fooled = dip.feature_test(measurement, np.where(HOLE, 0, result.volume), HOLE, **options, errors=closed)
    assert fooled.p_value < 1e-3  # what the open composition is there for
    found = dip.feature_test(measurement, result.volume, HOLE, without, feature=0)
    assert found.decided == "supported"


def test_a_void_is_not_taken_for_another_phase(hollow):
    _, measurement, result = measured(hollow)
    full = dip.fill_in(result.volume, HOLE)
    claimed = np.where(HOLE, np.eye(2)[0][:, None, None, None], full)
    assert dip.feature_test(measurement, claimed, HOLE, full, feature=0).decided != "supported"


def test_trials_and_uncertain_volumes_cost_significance(hollow):
    _, measurement, result = measured(hollow)
    plain = dip.feature_test(measurement, result, HOLE, feature="vacuum")
    inferred = dip.feature_test(measurement, result, HOLE)
    counted = dip.feature_test(measurement, result, HOLE, feature="vacuum", places=50)
    assert inferred.p_value == pytest.approx(2 * plain.p_value, rel=0.01)  # vacuum or the other phase
    assert counted.p_value == pytest.approx(50 * plain.p_value, rel=0.01)
    assert counted.fluence_factor > plain.fluence_factor
    vague = dip.feature_test(measurement, result, HOLE, feature="vacuum", errors=dip.VolumeErrors(1, 0.3, 0.3))
    assert vague.standard_error > plain.standard_error and vague.p_value > plain.p_value


def test_noise_larger_than_stated_is_noticed(solid):
    _, clean = project_fine(solid, TILTS)
    noisy = clean + np.random.default_rng(0).normal(0, 1.0, clean.shape)
    measurement = Measurement(noisy, TILTS, covariance=[0.1, 0.1])
    volume = dip.fill_in(joint_tv(measurement.repeated(clean), weight=1.0, max_iterations=30).volume, HOLE)
    test = dip.feature_test(measurement, np.where(HOLE, 0.5 * volume, volume), HOLE, volume)
    assert test.dispersion > 2


@pytest.mark.parametrize("kind", ["gaussian", "counts"])
def test_same_seed_same_p_value(kind, hollow):
    _, measurement, result = measured(hollow, kind)
    weak = np.where(HOLE, 0.9 * dip.fill_in(result.volume, HOLE), result.volume)

    def p(seed):
        return dip.feature_test(measurement, weak, HOLE, feature="vacuum", seed=seed, simulations=99)

    first, again, other = p(1), p(1), p(2)
    assert first.p_value == again.p_value and np.array_equal(first.null, again.null)
    assert (len(first.null) == 99) == (kind == "counts")
    if kind == "counts":
        assert not np.array_equal(first.null, other.null) and 0.7 < first.null.std() < 1.3


def test_null_from_repeated_reconstructions(hollow):
    def method(measurement):
        return joint_tv(measurement, weight=3.0, constraint=SIMPLEX, max_iterations=20, progress=False)

    _, measurement, _ = measured(hollow)
    options = {"feature": "vacuum", "reconstruct": method, "simulations": 19}
    volume = method(measurement)
    first, again = (dip.feature_test(measurement, volume, HOLE, **options) for _ in range(2))
    assert first.decided == "supported" and first.null.shape == (19,) and np.array_equal(first.null, again.null)


def test_audit_finds_and_judges(hollow, solid):
    _, measurement, result = measured(hollow)
    painted = ball(N, (10, 8, 12), 3)  # deep inside, away from the void
    volume = np.where(painted, 0, result.volume)
    report = dip.audit(measurement, volume, kinds=("void",))
    at = {f.region[10, 13, 8]: f for f in report.features if f.region[10, 13, 8] or f.region[10, 8, 12]}
    assert at[True].p_value < report.level < at[False].p_value and at[False].test.decided == "contradicted"
    assert report.unsupported[painted].all() and not report.unsupported[HOLE].any()
    assert "contradicted" in str(report) and "supported" in str(report)
    alone = at[True].test.p_value
    assert alone <= at[True].p_value <= alone * len(report.features)


def test_audit_tells_of_a_void_that_the_volume_has_filled(hollow, solid):
    """The other volume shows it; the data decide, and a void that it invents is not believed."""
    for fine, missing in ((hollow, 1), (solid, 0)):
        _, measurement, result = measured(fine)
        filled, other = np.where(HOLE, dip.fill_in(result.volume, HOLE), result.volume), result.volume
        other = np.where(HOLE, 0, other) if fine is solid else other
        report = dip.audit(measurement, filled, other=other, kinds=("void",))
        (feature,) = (f for f in report.features if f.region[10, 13, 8])
        assert not feature.shown and len(report.missing) == missing and "in the other volume only" in str(report)
        assert not report.unsupported[HOLE].any()  # it is not shown: there is nothing to paint
        assert all(f.shown for f in dip.audit(measurement, filled, kinds=("void",)).features)


def test_audit_finds_every_kind():
    """In a noise-free volume: a void with a film, a skin, a second core."""
    volume = core_shell_nanocube(32, core=0.25, shell=0.7, skin=0.8, void_radius=0, rotation_deg=None)
    hole, island = ball(32, (16, 16, 23), 4), ball(32, (22, 22, 12), 4)
    film = ball(32, (16, 16, 23), 7) & ~hole
    volume[:, hole | film | island] = 0
    volume[0, film | island] = 1
    found = dip.find_features(volume)
    assert {f.kind for f in found} == set(KINDS)
    covered = {kind: np.any([f.region for f in found if f.kind == kind], axis=0) for kind in KINDS}
    assert (covered["void"] == hole).mean() > 0.99 and covered["island"][island].mean() > 0.8
    assert covered["film"][film].mean() > 0.6 and sum(f.kind == "skin" for f in found) == 14
    for f in found:
        assert np.allclose(np.where(f.region, 0, f.alternative), np.where(f.region, 0, volume)) and f.places >= 1
    assert not dip.find_features(np.zeros((2, 8, 8, 8)))


REGION = np.zeros((7, 12, 12), bool)
REGION[3, 5:7, 5:7] = True


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"measurement": 3}, "measurement: got 3"),
        ({"volume": np.zeros((2, 7, 12, 12))}, "volume: got"),
        ({"volume": np.full((1, 7, 12, 12), np.nan)}, "volume: got NaN"),
        ({"region": REGION.astype(int)}, "region: got int"),
        ({"region": ~REGION & False}, "region: got 0 voxels"),
        ({"region": REGION | True}, "region: got 1008 voxels"),
        ({"alternative": "hole"}, "alternative: got 'hole'"),
        ({"alternative": 1}, "alternative: got phase 1"),
        ({"alternative": np.zeros(3)}, "alternative: got"),
        ({"alternative": [np.nan]}, "alternative: got NaN"),
        ({"alternative": "vacuum", "feature": "vacuum"}, "region: got a contrast"),
        ({"alternative": 0, "feature": 0}, "region: got a contrast"),
        ({"feature": 2}, "feature: got 2"),
        ({"errors": 0.1}, "errors: got 0.1"),
        ({"places": 0}, "places: got 0"),
        ({"level": 1}, "level: got 1"),
        ({"reconstruct": 1}, "reconstruct: got 1"),
        ({"simulations": 3}, "simulations: got 3"),
    ],
)
def test_bad_input(change, match):
    measurement, volume, region = linear_case(0)
    good = {"measurement": measurement, "volume": np.where(region, 0.5, volume), "region": region, "alternative": 0}
    with pytest.raises(ValueError, match=match):
        dip.feature_test(**(good | change))


def test_bad_input_of_the_others():
    measurement, volume, _ = linear_case(0)
    with pytest.raises(ValueError, match="kinds: got"):
        dip.audit(measurement, volume, kinds=("crack",))
    with pytest.raises(ValueError, match="contrast: got 2"):
        dip.find_features(volume, contrast=2)
    with pytest.raises(ValueError, match="length_px: got 0"):
        dip.VolumeErrors(length_px=0)
    with pytest.raises(ValueError, match="region: got 1008 voxels of 1008"):
        dip.fill_in(volume, np.ones(volume.shape[1:], bool))


def test_what_a_feature_is_made_of_is_told():
    test = dip.FeatureTest(0.01, 0.5, "supported", 1.0, 0.1, 2.3, 1.0, "vacuum", 1.0, 1.0, np.zeros(0))
    kinds = (("skin", 0), ("void", "vacuum"))
    features = [dip.Feature(kind, of, HOLE, HOLE[None], 1.0, test, 0.01) for kind, of in kinds]
    report = dip.Audit(tuple(features), 0.05, HOLE)
    skin, void = report.lines(("FeO", "Fe3O4"))
    assert skin.startswith("skin of FeO at (") and void.startswith("void at (")
    assert str(report).startswith("skin of phase 0 at (")
