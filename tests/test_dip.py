"""Properties of DIPm-TV: what must hold for any data, on problems small enough for seconds."""

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from clusters import CLUSTER
from specimens import TILTS, tilt_series

from softeels_utils import dip
from softeels_utils.dip import initial, soap
from softeels_utils.dip.coordinates import Coordinates
from softeels_utils.dip.dipm_tv import PRESETS
from softeels_utils.dip.formulation import WhitenedTV
from softeels_utils.dip.head import entropy
from softeels_utils.dip.initial import find_support, initial_reconstruction, mix
from softeels_utils.metrics import nrmse
from softeels_utils.tomography import SIMPLEX, Measurement, ParallelBeam, joint_tv, reconstruct
from softeels_utils.tomography.covariance import independent_combinations

N = 20
# A prior so weak that it soon fits noise.
WEAK = {
    "tv_weight": 0.0,
    "ema": 0.0,
    "frequency_deviation": 1.2,
    "correction_tv_weight": 0.0,
    "mix": False,
}


@pytest.fixture(scope="module")
def truth():
    return tilt_series(N)[0]


@pytest.fixture(scope="module")
def projections():
    """From a grid twice as fine, with 3 % noise."""
    return tilt_series(N, 0.03)[1]


def short(projections, **options):
    own = {} if options.get("variant") == "paper" else {"mix": False}  # the network's own volume, however bad
    return dip.dipm_tv(projections, TILTS, **{"iterations": 12, **own, **options})


def test_better_than_sirt(projections, truth):
    """Against converged joint TV, at sizes where that is a contest: benchmarks/draws.py."""
    result = dip.dipm_tv(projections, TILTS, iterations=200)
    assert nrmse(result.volume, truth) < 0.8 * nrmse(reconstruct(projections, TILTS, "sirt"), truth)
    assert result.volume.shape == truth.shape and result.volume.dtype == np.float32
    assert result.volume.min() >= 0 and result.volume.sum(0).max() <= 1 + 1e-5


def test_same_seed_same_result_other_seed_other_result(projections):
    state = torch.get_rng_state()
    first, again, other = (short(projections, seed=s).volume for s in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert torch.equal(state, torch.get_rng_state())  # the caller's own draws are not disturbed


MODES = {
    "told how long": {"iterations": 9},
    "paper": {"variant": "paper", "iterations": 4},
    "voxels": {"variant": "voxels", "iterations": 6},
    "stops by itself": {},
    "stops by other frames": {"validation": True},
    "stops by thinned counts": {"noise": "poisson", "calibrated": False, "split": "counts"},
}


@pytest.mark.parametrize("mode", MODES)
def test_resumed_after_an_interruption_is_the_same_to_the_last_bit(projections, tmp_path, monkeypatch, mode):
    monkeypatch.setitem(PRESETS, ("coordinates", "quick"), {"iterations": 9})
    projections, options = projections[:, :, 2:18, 2:18], {"every": 2, **MODES[mode]}
    if "validation" in options:
        options["validation"] = projections[..., ::-1]
    if "noise" in options:
        projections = projections.clip(0).round()
    whole = dip.dipm_tv(projections, TILTS, **options)

    def interrupt(look):
        if look.iteration == 2:
            raise KeyboardInterrupt

    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        dip.dipm_tv(projections, TILTS, checkpoint=path, checkpoint_seconds=0, callbacks=[interrupt], **options)
    resumed = dip.dipm_tv(projections, TILTS, checkpoint=path, **options)
    assert np.array_equal(whole.volume, resumed.volume) and np.array_equal(whole.scale, resumed.scale)
    for name in ("chi2", "heldout", "variance"):
        assert np.array_equal(whole.history[name], resumed.history[name], equal_nan=True)
    # Once finished, the file gives the result at once.
    never = [lambda look: pytest.fail("it iterates again")]
    again = dip.dipm_tv(projections, TILTS, checkpoint=path, callbacks=never, **options)
    assert np.array_equal(again.volume, whole.volume) and again.reason == whole.reason


def test_a_run_that_stops_leaves_its_end_and_one_that_was_asked_to_goes_on(projections, tmp_path):
    ended, asked = tmp_path / "own.pt", tmp_path / "asked.pt"
    noisy = projections + np.random.default_rng(1).normal(scale=2, size=projections.shape)
    options = {"every": 5, "holdout": 0.2, "checkpoint": ended, **WEAK, "frequency_deviation": 6.0}
    stopped = dip.dipm_tv(noisy, TILTS, checkpoint_seconds=1e9, **options)
    assert "rises" in stopped.reason
    again = dip.dipm_tv(noisy, TILTS, callbacks=[pytest.fail], **options)
    assert np.array_equal(again.volume, stopped.volume)
    part = short(projections, checkpoint=asked, every=3, callbacks=[lambda look: look.iteration == 6])
    assert part.stopped_at == 6 and "callback" in part.reason
    assert np.array_equal(short(projections, checkpoint=asked, every=3).volume, short(projections, every=3).volume)


def test_killed_at_any_moment_and_resumed(projections, tmp_path):
    np.save(tmp_path / "p.npy", projections)
    script = textwrap.dedent(f"""
        import sys; import numpy as np; from softeels_utils import dip
        dip.dipm_tv(np.load({str(tmp_path / "p.npy")!r}), np.linspace(-70, 70, 9), iterations=1000, every=5, mix=False,
                    checkpoint={str(tmp_path / "s.pt")!r}, checkpoint_seconds=0, progress=False,
                    callbacks=[lambda look: look.iteration >= 60])
    """)
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not (tmp_path / "s.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(np.random.default_rng().uniform(0, 0.3))
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and (tmp_path / "s.pt").exists()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stop = {"iterations": 1000, "every": 5, "callbacks": [lambda look: look.iteration >= 60]}
        resumed = short(projections, checkpoint=tmp_path / "s.pt", **stop)
        whole = short(projections, **stop)
    finally:
        torch.set_num_threads(threads)
    assert resumed.stopped_at == whole.stopped_at == 60
    assert np.array_equal(resumed.volume, whole.volume)


def test_checkpoint_of_another_run_or_no_checkpoint_is_refused(projections, tmp_path):
    path = tmp_path / "state.pt"
    short(projections, iterations=2, checkpoint=path)
    with pytest.raises(ValueError, match="other projections or settings"):
        short(projections * 1.01, iterations=2, checkpoint=path)
    with pytest.raises(ValueError, match="other projections or settings"):
        short(projections, iterations=2, seed=1, checkpoint=path)
    for other in ({"shifts_px": np.ones((9, 2))}, {"slice_shape": (N + 4, N)}, {"calibrated": False}):
        with pytest.raises(ValueError, match="other projections or settings"):
            short(projections, iterations=2, checkpoint=path, **other)
    # as many iterations as the preset's, but not free to stop: another run than the preset's
    fixed = tmp_path / "fixed.pt"
    short(projections, iterations=300, every=1, checkpoint=fixed, checkpoint_seconds=0, callbacks=[lambda look: True])
    with pytest.raises(ValueError, match="other projections or settings"):
        dip.dipm_tv(projections, TILTS, every=1, checkpoint=fixed)
    torch.save(torch.ones(3), path)
    with pytest.raises(ValueError, match="other projections or settings"):
        short(projections, iterations=2, checkpoint=path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="cannot read"):
        short(projections, iterations=2, checkpoint=path)


@pytest.mark.parametrize("covariance", [None, np.array([[1.0, -0.9], [-0.9, 1.0]])])
def test_masked_values_may_be_anything(projections, covariance):
    mask = np.ones(projections.shape, bool)
    mask[1, 4] = False  # a tilt missing in one channel
    mask[:, :, 3, 5:9] = False
    garbage = np.where(mask, projections, np.nan)
    first = short(np.where(mask, projections, 1e6), mask=mask, covariance=covariance)
    assert np.array_equal(first.volume, short(garbage, mask=mask, covariance=covariance).volume)
    assert np.isfinite(first.volume).all()


@pytest.mark.parametrize("split", ["pixels", "counts"])
def test_masked_counts_may_be_anything(projections, split):
    mask = np.ones(projections.shape, bool)
    mask[0, 4] = mask[:, :, 3, 5:9] = False
    counts, options = projections.clip(0).round(), {"noise": "poisson", "calibrated": False, "split": split}
    first = short(np.where(mask, counts, 1e6), mask=mask, **options)
    assert np.array_equal(first.volume, short(np.where(mask, counts, np.nan), mask=mask, **options).volume)
    assert np.isfinite(first.volume).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_is_as_good_and_resumes(projections, truth, tmp_path):
    options = {"iterations": 150, "seed": 1}
    here, there = (nrmse(short(projections, device=d, **options).volume, truth) for d in ("cpu", "cuda"))
    assert there == pytest.approx(here, rel=0.15)
    part = {"checkpoint": tmp_path / "state.pt", "every": 5, "device": "cuda"}
    short(projections, callbacks=[lambda look: look.iteration == 10], **options, **part)
    assert nrmse(short(projections, **options, **part).volume, truth) == pytest.approx(here, rel=0.15)


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_any_number_of_channels_and_slices_that_are_not_square(projections, channels):
    stack = np.concatenate([projections] * 4)[:channels, :, :7] / 4
    result = short(stack, slice_shape=(13, N), iterations=3)
    assert result.volume.shape == (channels, 7, 13, N) and np.isfinite(result.volume).all()


@pytest.mark.parametrize("variant", ["coordinates", "voxels", "paper"])
def test_voxel_size_is_a_unit(projections, variant):
    options = {"variant": variant, "iterations": 12 if variant == "coordinates" else 4}
    half = short(0.5 * projections, voxel_size_nm=0.5, **options)  # exact: a power of two
    assert np.allclose(half.volume, short(projections, **options).volume, atol=1e-5)


def test_uncalibrated_learns_a_scale_and_scales_with_the_data(projections, truth):
    options = {"calibrated": False, "iterations": 80}
    small = 2.0**-20  # a power of two: training amplifies rounding, so nothing must be rounded
    one, other = (short(factor * projections, **options) for factor in (1.0, small))
    assert np.allclose(other.volume / small, one.volume, atol=1e-4)
    assert one.scale == pytest.approx(1, rel=0.25)
    assert other.scale == pytest.approx(small * one.scale, rel=1e-3)


def test_counts(projections, truth):
    counts = np.random.default_rng(0).poisson(projections.clip(0))
    result = short(counts, noise="poisson", calibrated=False, head="nonnegative", iterations=400)
    again = ParallelBeam(N, TILTS)(result.volume)
    bright = projections > 5
    assert result.volume.min() >= 0
    correlation = np.corrcoef(again[bright], projections[bright])[0, 1]
    assert correlation > 0.85
    assert again.sum() == pytest.approx(counts.sum(), rel=0.1)


def test_thinned_counts_are_two_independent_measurements():
    rate = np.full((1, 9, 40, 40), 5.0)
    counts = np.random.default_rng(0).poisson(rate)
    fitted, held_out = Measurement(counts, TILTS, counts=True).split(0.2, seed=1, by="counts")
    first, second = fitted.projections.numpy(), held_out.projections.numpy()
    assert np.array_equal(first + second, counts) and fitted.used.all() and held_out.used.all()
    assert second.mean() == pytest.approx(1, abs=0.03) and second.var() == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03  # 0.008 is a standard error
    assert float(fitted.loss.gain) == pytest.approx(0.8) and float(held_out.loss.gain) == pytest.approx(0.2)
    # the model of all counts explains both parts: the deviance of a Poisson count of 1 is about one
    model = torch.full(counts.shape, 5.0)
    assert 0.45 < float(held_out.loss(model).mean()) < 0.65
    assert float(held_out.loss(1.3 * model).mean()) > float(held_out.loss(model).mean())


def test_volume_from_thinned_counts_explains_them_all(projections):
    counts = np.random.default_rng(0).poisson(projections.clip(0))
    options = {"noise": "poisson", "calibrated": False, "head": "nonnegative", "iterations": 400}
    result = short(counts, split="counts", holdout=0.3, **options)
    assert ParallelBeam(N, TILTS)(result.volume).sum() == pytest.approx(counts.sum(), rel=0.1)


@pytest.mark.parametrize("dose", [1.0, 0.25])
def test_second_measurement_of_another_dose(dose):
    rng = np.random.default_rng(0)
    rate = rng.uniform(20, 60, size=(2, 9, 8, 8))
    fitted = Measurement(rng.poisson(rate), TILTS, counts=True)
    held_out = fitted.repeated(rng.poisson(dose * rate))
    assert float(held_out.loss.gain[0]) == pytest.approx(dose, rel=0.05)
    assert held_out.used.all() and fitted.used.all()
    misfit = held_out.loss(torch.tensor(rate, dtype=torch.float32))
    assert float(misfit.mean()) == pytest.approx(0.5, abs=0.07)


def test_half_of_the_frames_stops_it_before_it_fits_noise(projections, truth, monkeypatch):
    monkeypatch.setitem(PRESETS, ("coordinates", "quick"), {"iterations": 300, "every": 10})
    first, second = (
        (projections + np.random.default_rng(seed).normal(scale=2, size=projections.shape)).astype(np.float32)
        for seed in (1, 2)
    )
    run_on = dip.dipm_tv(first, TILTS, iterations=300, return_to_best=False, validation=second, **WEAK)
    stopped = dip.dipm_tv(first, TILTS, validation=second, **WEAK)
    assert stopped.stopped_at < 300
    assert nrmse(stopped.volume, truth) < 0.95 * nrmse(run_on.volume, truth)


def test_stops_by_itself_before_it_fits_noise(projections, truth, monkeypatch):
    """Without TV and averaging and with high frequencies it overfits; the held-out pixels say when.

    Such a run amplifies rounding, so that a single one may go astray: what is asserted of errors holds of the median.
    """
    monkeypatch.setitem(PRESETS, ("coordinates", "quick"), {"iterations": 300})
    rng = np.random.default_rng(1)
    noisy = (projections + rng.normal(scale=1, size=projections.shape)).astype(np.float32)
    gains, losses, returns = [], [], []
    for seed in (0, 2, 3):
        errors, options = {}, {"holdout": 0.3, "every": 10, "seed": seed, **WEAK}
        record = [lambda info, errors=errors: errors.update({info.iteration: nrmse(info.volume, truth)})]
        run_on = dip.dipm_tv(noisy, TILTS, callbacks=record, iterations=300, return_to_best=False, **options)
        returned = dip.dipm_tv(noisy, TILTS, iterations=300, **options)
        stopped = dip.dipm_tv(noisy, TILTS, **options)
        assert stopped.stopped_at < run_on.stopped_at
        assert returned.stopped_at == run_on.stopped_at == 300
        assert "returned" in returned.reason and "returned" not in run_on.reason
        end = nrmse(run_on.volume, truth)
        gains.append(nrmse(stopped.volume, truth) / end)
        returns.append(nrmse(returned.volume, truth) / end)
        losses.append(nrmse(stopped.volume, truth) / min(errors.values()))
    assert np.median(gains) < 0.95 and np.median(returns) < 0.95 and np.median(losses) < 1.15


def test_what_the_network_cannot_make_is_added_if_held_out_pixels_ask_for_it():
    """A hole of 3 voxels in a block that a network too small and too smooth has filled."""
    truth = np.zeros((2, N, N, N), np.float32)
    truth[0, 4:16, 4:16, 4:16] = 1
    truth[:, 9:12, 8:11, 9:12] = 0
    clean = ParallelBeam(N, TILTS)(truth)
    noisy = clean + np.random.default_rng(0).normal(scale=0.01 * clean.max(), size=clean.shape)
    options = {"iterations": 200, "frequency_deviation": 0.1, "width": 16, "seed": 1, "mix": False}
    with_it, without = (dip.dipm_tv(noisy, TILTS, correction_tv_weight=w, **options) for w in (1.0, 0.0))
    assert with_it.corrected and not without.corrected
    hole = (0, slice(9, 12), slice(8, 11), slice(9, 12))
    assert with_it.volume[hole].mean() < 0.5 * without.volume[hole].mean()
    assert nrmse(with_it.volume, truth) < nrmse(without.volume, truth)


def test_where_the_network_is_wrong_the_result_is_not_its(projections, truth):
    """A network of three steps is no match for joint TV: held-out pixels say so, and how much of it to take."""
    untrained = {"iterations": 3, "correction_tv_weight": 0.0}
    alone, result = (dip.dipm_tv(projections, TILTS, mix=m, **untrained) for m in (False, True))
    assert result.mixed >= 0.9 and "joint TV" in result.reason and alone.mixed == 0
    assert nrmse(result.volume, truth) < 0.6 * nrmse(alone.volume, truth)
    assert result.volume.min() >= 0 and result.volume.sum(0).max() <= 1 + 1e-5
    trained = dip.dipm_tv(projections, TILTS, iterations=400)
    assert trained.mixed < 0.5


def test_what_held_out_tilts_decide_is_done_with_all_tilts(projections):
    """A network that has learned nothing gives way to joint TV, of all tilts and not of those that were fitted."""
    measurement = Measurement(projections, TILTS)
    options = {"iterations": 1, "pretraining": 0.0, "correction_tv_weight": 0.0}
    result = dip.fit(measurement, split="tilts", **options)
    expected = joint_tv(measurement, constraint=SIMPLEX, progress=False).volume
    assert result.mixed == 1 and "joint TV" in result.reason
    assert nrmse(result.volume, expected) < 1e-5
    fitted, _ = measurement.split(0.1, seed=0, by="tilts")
    assert nrmse(joint_tv(fitted, constraint=SIMPLEX, progress=False).volume, expected) > 1e-3


@pytest.mark.parametrize(("tilts", "head", "split"), [(9, "nonnegative", "pixels"), (13, "nonnegative", "tilts"),
                                                      (13, "fractions", "pixels")])  # fmt: skip
def test_tilts_are_held_out_where_there_are_many_and_the_head_knows_little(tilts, head, split):
    projections, angles = np.random.default_rng(0).random((1, tilts, 2, 12)), np.linspace(-60, 60, tilts)
    options = {"head": head, "calibrated": False, "iterations": 2}
    default, stated = (dip.dipm_tv(projections, angles, **options, **more) for more in ({}, {"split": split}))
    assert np.array_equal(default.volume, stated.volume)


def test_a_mean_of_two_volumes_is_taken_only_beyond_chance(truth):
    """Data made of the mean of two volumes want the mean; data made of the first want the first."""
    first, second = (torch.as_tensor(np.roll(truth, k, axis=3)) for k in (0, 1))
    for part in (0.0, 0.5, 1.0):
        clean = ParallelBeam(N, TILTS)(first.lerp(second, part).numpy())
        noisy = clean + np.random.default_rng(3).normal(scale=0.1, size=clean.shape)
        measurement = Measurement(noisy, TILTS, covariance=np.full(2, 0.01))
        volume, found = mix(first, second, measurement)
        assert found == pytest.approx(part, abs=0.11)
        assert torch.equal(volume, first if found == 0 else first.lerp(second, found))


def test_nothing_of_the_specimen_lies_outside_the_support(projections, truth):
    parts = Measurement(projections, TILTS).split(0.1, 0)
    initial = initial_reconstruction(parts[0], 1.0)
    support = find_support(*parts, initial).numpy()
    assert not truth[:, ~support].any() and support.mean() < 0.7
    assert find_support(*parts, None).all()
    # Noise in the vacuum, however faithfully it was fitted, is not needed to predict what was held out.
    noise = torch.as_tensor(np.random.default_rng(1).uniform(0, 0.06, initial.shape), dtype=initial.dtype)
    fitted = parts[0].projector(initial + noise)
    certain = Measurement(fitted, TILTS, covariance=np.full(2, 1e-4))
    assert find_support(certain, parts[1], initial + noise).float().mean() < 0.7
    assert find_support(certain, parts[1].split(0.0, 0)[1], initial + noise).all()
    # A film that the first reconstruction has, however thin, is not cut away if the projections need it.
    film = torch.zeros(initial.shape)
    film[:, :, N // 2] = 0.04
    weak = Measurement(ParallelBeam(N, TILTS)(film.numpy()), TILTS, covariance=np.full(2, 1e-4))
    assert find_support(*weak.split(0.1, 0), film)[:, N // 2].all()


def test_iterations_switch_the_stop_off_and_callbacks_can_stop(projections):
    seen = []
    result = short(projections, iterations=10, every=3, callbacks=[seen.append], correction_tv_weight=0)
    assert [look.iteration for look in seen] == [3, 6, 9, 10] and result.stopped_at == 10
    assert np.array_equal(seen[-1].volume, result.volume)
    assert list(result.history["iteration"]) == [3, 6, 9, 10]
    early = short(projections, iterations=10, every=3, callbacks=[lambda look: look.iteration == 6])
    assert early.stopped_at == 6 and "callback" in early.reason


def test_independent_combinations_have_unit_variance_and_leave_missing_channels_out():
    root = np.random.default_rng(0).normal(size=(3, 3))
    covariance = root @ root.T
    modes, precision = independent_combinations(covariance, np.ones(3, bool))
    white = precision[:, None] * modes
    assert white @ covariance @ white.T == pytest.approx(np.eye(3))
    modes, precision = independent_combinations(covariance, np.array([True, False, True]))
    white = precision[:, None] * modes
    assert white @ covariance @ white.T == pytest.approx(np.diag([1.0, 0.0, 1.0]))
    assert not modes[:, 1].any()


@pytest.mark.parametrize("missing", [0, 1])
def test_no_held_out_misfit_is_lost_where_a_channel_is_missing(projections, missing):
    mask = np.ones(projections.shape, bool)
    mask[missing, :5] = False
    measurement = Measurement(projections, TILTS, mask=mask, covariance=np.array([[1.0, -0.9], [-0.9, 1.0]]))
    _, held_out = measurement.split(0.1, seed=0)
    misfit = held_out.loss(torch.zeros(projections.shape))
    assert float(misfit[held_out.used].sum()) == pytest.approx(float(misfit.sum())) and misfit[:, :5].sum() > 0


def test_minibatches_are_cut_where_rows_are_not_neighbours():
    measurement = Measurement(np.ones((1, 9, 50, 8)), TILTS)
    formulation = WhitenedTV(torch.nn.Identity(), measurement, dip.TrainingSettings(), False)
    generator, wrapped = torch.Generator().manual_seed(0), 0
    for _ in range(100):
        rows, cuts = formulation.minibatch(generator)
        parts = rows.tensor_split(cuts)
        assert all((part.diff() == 1).all() for part in parts) and sum(map(len, parts)) == len(rows) == 8
        wrapped += len(parts) > 1
    assert 0 < wrapped < 100


@pytest.mark.parametrize("geometry", [{"shifts_px": np.linspace(-1.5, 0.8, 18).reshape(9, 2)}, {"axis_angle_deg": 4.0}])
def test_where_rows_are_mixed_a_minibatch_is_compared_where_it_is_all_that_is_seen(geometry):
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(1)
    volume = torch.as_tensor(rng.random((2, 30, 8, 8)), dtype=torch.float32)
    measurement = Measurement(rng.random((2, 9, 30, 8)), TILTS, covariance=[0.01, 0.02], **geometry)
    formulation = WhitenedTV(torch.nn.Identity(), measurement, dip.TrainingSettings(), False)
    whole = formulation.evened.misfit(volume)
    seen, per_value = torch.zeros(whole.shape[1:]), []
    for _ in range(200):
        rows, cuts = formulation.minibatch(generator)
        assert len(rows) == 8
        batch = torch.zeros_like(volume)
        batch[:, rows] = volume[:, rows]
        same = (formulation.evened.misfit(batch) - whole).abs().amax(0) < 1e-4 * whole.amax(0)
        here = formulation.misfit(volume[:, rows], rows, cuts) / whole[:, :, rows].numel()
        assert whole[:, same].amin() <= here <= whole[:, same].amax()
        seen += same
        per_value.append(float(here))
    assert (seen > 0).float().mean() > 0.9  # all pixels but some of those that see the first and last slices
    assert np.mean(per_value) == pytest.approx(float(whole.mean()), rel=0.05)


def test_mean_of_the_iterates_has_the_weights_it_says():
    stopping, rng = dip.EarlyStopping(), np.random.default_rng(0)
    misfits, volumes = rng.uniform(size=(7, 40)), torch.tensor(rng.normal(size=(7, 2, 3, 3, 3)))
    for k, (misfit, volume) in enumerate(zip(misfits, volumes, strict=True)):
        stopping.update(torch.tensor(misfit), volume, volume[:, 0, 0, 0], k, [])
    best = misfits.mean(1).argmin()
    weights = np.exp(-misfits.sum(1) / 4)[: best + 1]  # those after the best do not count
    expected = np.tensordot(weights / weights.sum(), volumes[: best + 1].numpy(), 1)
    assert stopping.mean.numpy() == pytest.approx(expected) and stopping.scale.numpy() == pytest.approx(
        expected[:, 0, 0, 0]
    )
    assert stopping.iteration == best and stopping.n_stale == 6 - best


def test_a_channel_in_another_unit_is_as_good(projections):
    options = {"calibrated": False, "iterations": 40}
    factor = np.array([1.0, 2.0**-10])[:, None, None, None]  # a power of two: nothing is rounded
    one, other = short(projections, **options), short(factor * projections, **options)
    assert np.allclose(other.volume / factor, one.volume, atol=1e-4)
    assert other.scale / factor.ravel() == pytest.approx(one.scale, rel=1e-3)


def test_small_particle_in_an_empty_field():
    stack = np.zeros((2, 9, 64, 64))
    stack[:, :, 30:34, 30:34] = 3
    for covariance in (None, np.full(2, 0.01)):
        assert np.isfinite(short(stack, iterations=2, covariance=covariance).volume).all()


@pytest.mark.parametrize("options", [{}, {"head": "nonnegative"}, {"noise": "poisson"}])
def test_a_channel_without_signal(projections, options):
    stack = projections.clip(0).round()
    stack[1] = 0
    result = short(stack, calibrated=False, iterations=5, **options)
    assert np.isfinite(result.volume).all() and result.volume[0].max() > 0


def test_a_channel_without_pixels_is_refused(projections):
    mask = np.ones(projections.shape, bool)
    mask[1] = False
    for method in (dip.dipm_tv, reconstruct):
        with pytest.raises(ValueError, match=r"mask.*channel 1"):
            method(projections, TILTS, mask=mask)


def test_covariance_may_be_anything_where_masked(projections):
    mask = np.ones(projections.shape, bool)
    mask[1, 4] = False
    variances = np.full(projections.shape, 0.01)
    short(projections, iterations=2, mask=mask, covariance=np.where(mask, variances, np.nan))
    with pytest.raises(ValueError, match=r"covariance.*NaN"):
        variances[0, 4, 3, 3] = np.nan
        short(projections, iterations=2, mask=mask, covariance=variances)


def test_covariance_in_every_form_that_means_the_same(projections):
    variances = np.array([0.5, 2.0])
    forms = [
        variances,
        np.diag(variances),
        np.broadcast_to(variances[:, None, None, None], projections.shape),
        np.broadcast_to(np.diag(variances), (*projections.shape[1:], 2, 2)),
    ]
    model = torch.zeros(projections.shape)
    first, *others = (Measurement(projections, TILTS, covariance=c).loss(model).numpy() for c in forms)
    assert first.std() > 0
    for other in others:
        assert other.sum(0) == pytest.approx(first.sum(0), rel=1e-4)


def test_resampled_projections_have_the_stated_covariance(projections):
    covariance = np.array([[1.0, -0.8], [-0.8, 1.0]])
    draws = np.stack([dip.resample(projections, TILTS, seed=s, covariance=covariance) for s in range(20)]) - projections
    found = np.cov(draws.swapaxes(0, 1).reshape(2, -1))
    assert found == pytest.approx(covariance, abs=0.1)


def test_ensemble_is_its_members(projections):
    result = dip.ensemble(projections, TILTS, members=3, iterations=5, seed=7, mix=False)
    assert result.members.shape == (3, 2, N, N, N)
    assert np.array_equal(result.members[0], short(projections, iterations=5, seed=7).volume)
    assert result.mean == pytest.approx(result.members.mean(0), abs=1e-6)
    assert np.array_equal(result.best, result.members[0])  # the data as they are, without more noise
    low, high = result.interval(0.9)
    wide_low, wide_high = result.interval(0.99)
    assert (wide_low <= low).all() and (low <= high).all() and (high <= wide_high).all()
    assert high - low == pytest.approx(2 * 2.92 * result.std, rel=1e-3)  # Student's t of two degrees of freedom


@pytest.mark.parametrize("options", [{}, {"noise": "poisson", "calibrated": False, "split": "counts"}])
def test_ensemble_goes_on_from_its_checkpoints(projections, tmp_path, options):
    stack = projections.clip(0).round()
    options = {"members": 2, "iterations": 3, "checkpoint": tmp_path, **options}
    whole = dip.ensemble(stack, TILTS, **options)
    again = dip.ensemble(stack, TILTS, callbacks=[lambda look: pytest.fail("it iterates again")], **options)
    assert np.array_equal(whole.members, again.members) and np.isfinite(whole.std).all()


def test_finished_members_are_kept_and_others_refused(projections, tmp_path):
    options = {"members": 2, "iterations": 3, "checkpoint": tmp_path}
    dip.ensemble(projections, TILTS, **options)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["member0.npz", "member1.npz"]
    with pytest.raises(ValueError, match=r"checkpoint: got .*other projections or settings"):
        dip.ensemble(projections, TILTS, seed=1, **options)
    (tmp_path / "member0.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="checkpoint"):
        dip.ensemble(projections, TILTS, **options)


def test_other_references_give_the_systematic_uncertainty(projections):
    options = {"members": 2, "iterations": 3, "covariance": np.array([[0.2, -0.1], [-0.1, 0.3]])}
    exchange = np.array([[0.9, 0.1], [-0.2, 1.2]])
    plain = dip.ensemble(projections, TILTS, **options)
    result = dip.ensemble(projections, TILTS, transforms=[np.eye(2), exchange], **options)
    assert np.array_equal(result.members, plain.members) and not plain.systematic.any()
    assert result.transformed[0] == pytest.approx(result.members[0], abs=1e-6)
    measurement = Measurement(projections, TILTS, covariance=options["covariance"]).transformed(exchange)
    assert measurement.projections.numpy() == pytest.approx(np.einsum("ctyx,cd->dtyx", projections, exchange), abs=1e-5)
    direct = dip.fit(measurement, iterations=3)
    assert np.array_equal(result.transformed[1], direct.volume)
    assert result.systematic == pytest.approx(np.abs(result.transformed[1] - result.members[0]) / 2**0.5, abs=1e-4)
    widths = [np.subtract(*one.interval(0.9)[::-1]) for one in (plain, result)]
    assert (widths[1] >= widths[0]).all() and (widths[1] > widths[0]).any()
    stated = exchange.T @ Measurement(projections, TILTS, covariance=options["covariance"]).covariance @ exchange
    assert measurement.covariance == pytest.approx(stated)
    for bad in (np.eye(3)[None], np.eye(2), np.full((1, 2, 2), np.nan)):
        with pytest.raises(ValueError, match="transforms"):
            dip.ensemble(projections, TILTS, transforms=bad, **options)


def test_fractions_are_divided_by_the_scale_that_was_learned(projections):
    options = {"members": 2, "iterations": 3, "calibrated": False}
    units, parts = (dip.ensemble(projections, TILTS, fractions=f, **options) for f in (False, True))
    assert units.members / units.scale[..., None, None, None] == pytest.approx(parts.members, abs=1e-6)
    with pytest.raises(ValueError, match="fractions"):
        dip.ensemble(projections, TILTS, fractions=True, head="nonnegative", **options)


def test_series_are_fitted_each_on_its_own(projections, tmp_path):
    stated = {"covariance": np.array([0.1, 0.2])}
    series = [(projections, TILTS, stated), (projections[:, ::2], TILTS[::2], {})]
    volumes = dip.fit_each(series, seed=2, iterations=3, checkpoint=tmp_path)
    assert np.array_equal(volumes[0], dip.dipm_tv(projections, TILTS, iterations=3, seed=2, **stated).volume)
    assert np.array_equal(volumes[1], dip.dipm_tv(projections[:, ::2], TILTS[::2], iterations=3, seed=2).volume)
    failing, told = [lambda look: pytest.fail("it iterates again")], []
    options = {"callbacks": failing, "finished": lambda *counts: told.append(counts)}
    again = dip.fit_each(series, seed=2, iterations=3, checkpoint=tmp_path, **options)
    assert told == [(1, 2), (2, 2)]
    assert all(map(np.array_equal, volumes, again))
    with pytest.raises(ValueError, match="tilt_angles_deg"):
        dip.fit_each([(projections, TILTS[1:], {})])


def test_settings_reach_the_training(projections):
    covariance = np.array([[1.0, -0.9], [-0.9, 1.0]])
    base = short(projections, covariance=covariance, iterations=6, correction_tv_weight=0)
    for other in ({"variance_floor": 1.0}, {"initial_tv_weight": 0.0}, {"sharpness": 2.0}, {"tv_weight": 5.0}):
        changed = short(projections, covariance=covariance, iterations=6, correction_tv_weight=0, **other)
        assert not np.allclose(changed.volume, base.volume, atol=1e-4), other


def test_the_initial_reconstruction_sees_the_variance_floor(projections, monkeypatch):
    seen, make = [], initial_reconstruction
    module = importlib.import_module("softeels_utils.dip.dipm_tv")  # not the function of that name
    monkeypatch.setattr(module, "initial_reconstruction", lambda m, w: seen.append(m) or make(m, w))
    short(projections, covariance=np.array([[1.0, -0.96], [-0.96, 1.0]]), iterations=1, variance_floor=0.5)
    variances = seen[0].loss.precision.flatten() ** -2
    assert float(variances.min() / variances.max()) == pytest.approx(0.5, rel=1e-4)


def test_members_but_the_first_are_resampled(projections):
    options = {"iterations": 3, "correction_tv_weight": 0.0, "mix": False, "covariance": np.array([0.1, 0.2])}
    again = dip.ensemble(projections, TILTS, members=2, seed=5, **options)
    as_it_is = dip.ensemble(projections, TILTS, members=2, seed=5, resample=False, **options)
    assert np.array_equal(again.members[0], as_it_is.members[0])
    assert not np.array_equal(again.members[1], as_it_is.members[1])
    measurement = Measurement(projections, TILTS, covariance=options.pop("covariance"), device="cpu")
    expected = dip.fit(measurement.resample(6), seed=6, **options)
    assert np.array_equal(again.members[1], expected.volume)


def test_resampled_members_know_that_they_have_two_draws(projections):
    measurement = Measurement(projections, TILTS, covariance=np.array([0.1, 0.2]))
    again = measurement.resample(seed=1)
    assert again.covariance == pytest.approx(2 * measurement.covariance)
    assert again.loss.precision == pytest.approx(measurement.loss.precision / 2**0.5)
    assert measurement.resample(seed=2).projections.ne(again.projections).all()


def test_ensemble_through_dask_is_the_same(projections):
    from dask.distributed import Client, LocalCluster

    options = {"members": 2, "iterations": 4, "progress": False}
    with (
        LocalCluster(n_workers=1, processes=False, **CLUSTER) as cluster,
        Client(cluster) as client,
    ):
        spread = dip.ensemble(projections, TILTS, client=client, **options)
    assert spread.members == pytest.approx(dip.ensemble(projections, TILTS, **options).members, abs=1e-5)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(projections, tmp_path):
    from dask.distributed import Client, LocalCluster

    options = {"members": 3, "iterations": 150, "progress": False}
    alone = dip.ensemble(projections, TILTS, **options)
    with (
        LocalCluster(n_workers=2, **CLUSTER) as cluster,
        Client(cluster) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        job = pool.submit(dip.ensemble, projections, TILTS, client=client, checkpoint=tmp_path, **options)
        until = time.monotonic() + 60
        while not any(tmp_path.glob("member*")) and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(next(iter(cluster.workers.values())).process.process.pid, signal.SIGKILL)
        spread = job.result(timeout=120)
    assert spread.members == pytest.approx(alone.members, abs=1e-5)
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"member{k}.npz" for k in range(3)]


def test_paper_variant_learns(projections, truth):
    result = short(projections[:, :, 2:18, 2:18], variant="paper", iterations=8, every=1)
    assert result.volume.shape == (2, 16, 16, 16) and (result.volume >= 0).all()
    assert result.history["chi2"][-1] < 0.9 * result.history["chi2"][0]


def test_free_voxels_behind_the_same_head(projections, truth):
    result = dip.dipm_tv(projections, TILTS, variant="voxels")
    assert nrmse(result.volume, truth) < 0.8 * nrmse(reconstruct(projections, TILTS, "sirt"), truth)
    assert result.volume.min() >= 0 and result.volume.sum(0).max() <= 1 + 1e-5
    with pytest.raises(ValueError, match="settings: got unknown width"):
        short(projections, variant="voxels", width=8)


def test_entropy_draws_voxels_to_pure_phases(projections):
    mixed = torch.tensor([[0.5, 0.5, 1.0, 0.0, 0.25], [0.5, 0.0, 0.0, 0.0, 0.25]], dtype=torch.float64)
    expected = [np.log(2), np.log(2), 0, 0, 0.5 * np.log(4) + 0.5 * np.log(2)]
    assert float(entropy(mixed)) == pytest.approx(sum(expected), abs=1e-4)
    options = {"variant": "voxels", "iterations": 100, "return_to_best": False, "mix": False, "correction_tv_weight": 0}
    plain, drawn = (dip.dipm_tv(projections, TILTS, entropy_weight=w, **options).volume for w in (0.0, 1.0))
    left = [float(entropy(torch.as_tensor(volume))) for volume in (plain, drawn)]
    assert left[1] < 0.8 * left[0]
    with pytest.raises(ValueError, match=r"entropy_weight: got 0.3 with head='nonnegative'"):
        short(projections, head="nonnegative", entropy_weight=0.3)


BAD = {
    "projections": {"projections": np.ones((2, 9, 5))},
    "tilt_angles_deg": {"tilt_angles_deg": np.zeros(8)},
    "variant": {"variant": "quick"},
    "preset": {"preset": "slow"},
    "head": {"head": "softmax"},
    "noise": {"noise": "shot"},
    "calibrated": {"noise": "poisson"},
    "holdout": {"holdout": 0.9},
    "split": {"split": "frames"},
    "split.*not counts": {"split": "counts"},
    "validation": {"validation": np.ones((2, 9, 8, 7))},
    "validation.*finite": {"validation": np.full((2, 9, 8, 8), np.nan)},
    "fractions of counts": {
        "projections": np.full((2, 9, 8, 8), 0.5),
        "noise": "poisson",
        "calibrated": False,
        "split": "counts",
    },
    "iterations": {"iterations": 0},
    "covariance": {"covariance": np.ones(3)},
    "mask": {"mask": np.ones(4)},
    "slice_shape": {"slice_shape": (5, 5)},
    "voxel_size_nm": {"voxel_size_nm": 0},
    "settings": {"epochs": 3},
    "device": {"device": "abacus"},
    "seed": {"seed": -1},
    "seed.*None": {"seed": None},
    "block_rows": {"block_rows": 0},
    "return_to_best": {"return_to_best": "no"},
    "mix": {"mix": 1},
    "holdout.*'a'": {"holdout": "a"},
    "blocks": {"blocks": 2.5},
    "warmup": {"warmup": 0.0},
    "iterations.*2.5": {"iterations": 2.5},
    "mask.*shape": {"mask": np.ones(8, bool)},
    "frequencies": {"frequencies": 0},
    "frequency_deviation": {"frequency_deviation": 0.0},
    "width": {"width": 16.5},
    "slice_shape.*whole": {"slice_shape": (5.7, 8)},
    "covariance.*counts": {"noise": "poisson", "calibrated": False, "covariance": np.ones(2)},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    arguments = {"projections": np.ones((2, 9, 8, 8)), "tilt_angles_deg": TILTS, **BAD[name]}
    with pytest.raises(ValueError, match=name):
        dip.dipm_tv(**arguments)


def test_nan_and_negative_variance_are_refused(projections):
    broken = projections.copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"projections.*NaN"):
        dip.dipm_tv(broken, TILTS)
    with pytest.raises(ValueError, match=r"covariance.*eigenvalue"):
        dip.dipm_tv(projections, TILTS, covariance=np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="members"):
        dip.ensemble(projections, TILTS, members=1)


def test_size_of_a_cube_is_its_edge_and_specks_are_no_specimen():
    volume = torch.zeros(2, N, N, N)
    volume[0, 4:16, 4:16, 4:16] = 1
    support = volume.sum(0) > 0
    assert initial.specimen_size(volume, support) == pytest.approx(12, abs=0.1)
    speck = support.clone()
    speck[0, 0, 0] = True
    assert torch.equal(initial.without_specks(speck, volume.sum(0)), support)


def test_soap_solves_what_is_badly_conditioned_in_fewer_steps_than_adam():
    torch.manual_seed(0)
    inputs = torch.randn(200, 8) @ torch.diag(torch.logspace(0, -2, 8)) @ torch.randn(8, 8)
    wanted = inputs @ torch.randn(8, 3)
    losses = []
    for optimizer in (lambda p: soap.SOAP(p, 0.05), lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.9, 0.95))):
        weight = torch.nn.Parameter(torch.zeros(8, 3))
        chosen = optimizer([weight])
        for _ in range(300):
            loss = (inputs @ weight - wanted).square().mean()
            chosen.zero_grad()
            loss.backward()
            chosen.step()
        losses.append(float(loss.detach()))
    assert losses[0] < 0.3 * losses[1]


def test_networks_one_after_the_other_are_averaged_and_resumed(projections, tmp_path):
    options = {"networks": 2, "iterations": 12, "every": 4, "mix": False, "correction_tv_weight": 0.0}
    seen = []
    both = short(projections, **options, callbacks=[lambda look: seen.append((look.iteration, look.iterations))])
    assert [at for at, _ in seen] == [4, 8, 12, 16, 20, 24] and {planned for _, planned in seen} == {24}
    assert list(both.history["iteration"]) == [4, 8, 12, 16, 20, 24]
    alone = short(projections, **options | {"networks": 1})
    assert not np.allclose(both.volume, alone.volume, atol=1e-3)

    class Killed(Exception):
        pass

    def kill(look):
        if look.iteration == 20:
            raise Killed

    path = tmp_path / "state.pt"
    with pytest.raises(Killed):
        short(projections, **options, checkpoint=path, checkpoint_seconds=0, callbacks=[kill])
    assert np.array_equal(short(projections, **options, checkpoint=path).volume, both.volume)


def test_a_turn_of_the_basis_makes_no_leap():
    """With eigenvectors out of order and mean squares left behind it was thirty times as long as the step before."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = (torch.linalg.qr(torch.randn(n, n, generator=generator))[0][:, :16] for n in (16, 32))
    size, steps = torch.logspace(0, -1, 16), []
    weights = torch.nn.Parameter(torch.zeros(16, 32))
    optimizer = soap.SOAP([weights], 1.0)
    for _ in range(2 * soap.EVERY):
        weights.grad = rows @ (size[:, None] * torch.randn(16, 16, generator=generator) * size) @ columns.T
        before = weights.detach().clone()
        optimizer.step()
        steps.append(float((weights.detach() - before).square().mean().sqrt()))
    assert steps[0] < 1  # half of the columns have no gradient at all, only what rounding leaves
    assert max(steps[1:]) < 1


def test_a_network_that_has_lost_its_gradient_begins_again(projections, truth, monkeypatch):
    module, biases = importlib.import_module("softeels_utils.dip.dipm_tv"), []

    class Fragile(Coordinates):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            biases.append(self.first.bias.detach().clone())
            if len(biases) in broken:
                with torch.no_grad():
                    self.last.bias[-1] = 1e4  # vacuum everywhere, for good

    monkeypatch.setattr(module, "Coordinates", Fragile)
    broken = {1}
    found = short(projections, iterations=120, seed=3)
    assert len(biases) == 2 and not torch.equal(*biases) and "stands still" not in found.reason
    assert nrmse(found.volume, truth) < 0.5 and found.history["iteration"][-1] == 120
    broken, biases[:] = {1, 2, 3}, []
    assert "stands still" in short(projections, iterations=120, seed=3).reason and len(biases) == 3


def test_an_amount_is_never_surer_than_what_members_share():
    """Members that agree share their blurred surfaces; the references' part is how far the first one moves."""
    one = np.random.default_rng(5).random((2, 4, 4, 4)).astype(np.float32)
    members = np.stack([one] * 3)
    about = {"best": one, "mean": one, "std": 0 * one, "members": members, "stopped_at": (), "reasons": ()}
    about |= {"scale": np.ones((3, 2)), "systematic": 0 * one, "unit": np.ones(2)}
    found = dip.EnsembleResult(**about, transformed=members[:0]).amounts()
    np.testing.assert_allclose(found.value, one.sum((1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.statistical, 0.004 * one.sum(), rtol=1e-6)
    np.testing.assert_array_equal(found.systematic, 0)
    moved = dip.EnsembleResult(**about, transformed=np.stack([1.1 * one, 0.9 * one])).amounts()
    np.testing.assert_allclose(moved.systematic, 0.1 * found.value, rtol=1e-5)
    spread = dip.EnsembleResult(
        **about | {"members": members * [[[[[0.9]]]], [[[[1]]]], [[[[1.1]]]]]}, transformed=members[:0]
    )
    np.testing.assert_allclose(
        spread.amounts().statistical, np.hypot(0.115 * found.value, found.statistical), rtol=1e-5
    )
    counts = np.array([1.0, 1000.0])  # other units change nothing
    scaled = {name: about[name] * counts[:, None, None, None] for name in ("best", "mean", "std", "members")}
    other = dip.EnsembleResult(**about | scaled | {"unit": counts}, transformed=members[:0]).amounts()
    np.testing.assert_allclose(other.statistical, counts * found.statistical, rtol=1e-6)
