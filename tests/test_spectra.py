"""Preparation of spectra: known spectra in, known answers out, for arrays, Dask arrays and HyperSpy signals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softeels_utils import spectra as sp

STEP = 0.25
LOW = STEP * (np.arange(1024) - 80)  # -20 to 235.75 eV
CORE = 600 + STEP * np.arange(800)


def gauss(x, centre, sigma):
    return np.exp(-0.5 * ((x - centre) / sigma) ** 2)


def single_scattering(energy):
    """A plasmon and an edge at 55 eV, of unit area over the axis."""
    e = np.maximum(energy, 0)
    plasmon = 6 * e / ((e**2 - 23.0**2) ** 2 + (6 * e) ** 2)
    edge = 0.05 / (1 + np.exp(-(energy - 55) / 0.8)) * (np.maximum(e, 1) / 55) ** -3.0 * plasmon.max()
    total = plasmon + edge
    return total / total.sum()


def low_loss(t, electrons=1.0, fwhm=0.7):
    """Plural scattering by construction (not by the code under test): a Poisson sum of self-convolutions."""
    s = single_scattering(LOW)[80:]
    peak = gauss(LOW, 0, fwhm / sp.FWHM_PER_SIGMA)
    peak /= peak.sum()
    order, total = np.r_[1.0, np.zeros(s.size - 1)], np.zeros(s.size)
    weight = np.exp(-t)
    for n in range(1, 14):
        total += weight * order
        order = np.convolve(order, s)[: s.size]
        weight *= t / n
    kernel = peak[40:121]
    full = np.concatenate([np.zeros(80), total])
    return electrons * np.convolve(full, kernel, mode="same"), kernel


def as_signal(data, energy, lazy=False):
    exspy = pytest.importorskip("exspy.signals")
    signal = exspy.EELSSpectrum(data)
    axis = signal.axes_manager[-1]
    axis.offset, axis.scale, axis.units, axis.name = energy[0], energy[1] - energy[0], "eV", "Energy loss"
    return signal.as_lazy() if lazy else signal


# --- energy axis


@pytest.mark.parametrize(
    "data, energy, word",
    [
        (np.ones((5, 10)), None, "energy_eV"),
        (np.ones((10, 5)), np.arange(10.0), "last axis"),
        (np.ones((5, 10)), np.arange(10.0)[::-1], "increase"),
        (np.ones((5, 10)), np.arange(10.0) ** 2, "even"),
        (np.ones((5, 10)), np.full(10, np.nan), "finite"),
    ],
)
def test_energy_axis_names_what_is_wrong(data, energy, word):
    with pytest.raises(ValueError, match=word):
        sp.energy_axis(data, energy)


# --- alignment


def test_zero_loss_is_found_to_a_fraction_of_a_channel():
    rng = np.random.default_rng(0)
    true = rng.uniform(-2, 2, 200)
    mean = np.stack([1e5 * gauss(LOW, x, 0.3) for x in true])
    found = sp.zero_loss_position(rng.poisson(mean), LOW)
    assert np.abs(found - true).max() < 0.05 * STEP
    aligned = sp.align_zero_loss(mean, energy_eV=LOW)
    assert np.abs(sp.zero_loss_position(aligned, LOW)).max() < 0.1 * STEP


def test_core_loss_moves_with_the_low_loss():
    low = np.stack([gauss(LOW, x, 0.4) for x in (0.5, -1.0)])
    core = np.stack([gauss(CORE, 710 + x, 1.0) for x in (0.5, -1.0)])
    _, moved = sp.align_zero_loss(low, core, energy_eV=LOW, others_energy_eV=CORE, method="fourier")
    np.testing.assert_allclose(moved, np.stack([gauss(CORE, 710, 1.0)] * 2), atol=5e-3)


@given(st.floats(-3, 3), st.sampled_from(["linear", "fourier", "nearest"]))
@settings(max_examples=25, deadline=None)
def test_shift_keeps_the_counts_and_moves_the_centroid(shift, method):
    y = gauss(LOW, 60, 3.0)[None]
    moved = sp.shift_spectra(y, shift, LOW, method=method)[0]
    assert moved.sum() == pytest.approx(y.sum(), rel=1e-6)
    whole = round(shift / STEP) * STEP if method == "nearest" else shift
    assert (moved * LOW).sum() / moved.sum() == pytest.approx(60 + whole, abs=1e-3)


def test_alignment_agrees_with_hyperspy():
    rng = np.random.default_rng(1)
    shifts = rng.uniform(-1, 1, 6)
    signal = as_signal(np.stack([1e4 * gauss(LOW, x, 0.5) for x in shifts]), LOW)
    ours = sp.align_zero_loss(signal)
    theirs = signal.deepcopy()
    theirs.align_zero_loss_peak(subpixel=True, print_stats=False, show_progressbar=False, crop=False)
    # theirs puts the common peak on a channel; the spread between pixels is what alignment is about
    assert np.std(sp.zero_loss_position(ours)) <= np.std(sp.zero_loss_position(theirs)) + 1e-3
    assert np.ptp(sp.zero_loss_position(theirs)) < 0.1


# --- spikes


def test_spikes_are_found_and_white_lines_are_not():
    rng = np.random.default_rng(2)
    shape = (CORE / 700) ** -3.0 + 4 * gauss(CORE, 709, 0.8) + 2 * gauss(CORE, 722, 1.0)
    clean = rng.poisson(np.outer(rng.uniform(0, 200, 400), shape)).astype(float)
    dirty, truth = clean.copy(), np.zeros(clean.shape, bool)
    pixel, channel = rng.integers(0, 400, 60), rng.integers(3, 790, 60)
    for width in range(2):  # one and two channels wide
        dirty[pixel, channel + width] += 600
        truth[pixel, channel + width] = True
    found = sp.find_spikes(dirty)
    assert found[truth].all()
    assert (found & ~truth).sum() == 0
    mended = sp.remove_spikes(dirty)
    assert np.abs(mended - clean)[truth].mean() < 40
    near = np.zeros_like(truth)
    for offset in (-1, 0, 1):
        near |= np.roll(truth, offset, axis=1)
    np.testing.assert_array_equal(mended[~near], clean[~near])


def test_a_wandering_zero_loss_peak_is_no_spike():
    rng = np.random.default_rng(12)
    t = np.where(rng.random(400) < 0.3, 0.0, 0.5)  # a third of the pixels is vacuum, with a higher peak
    mean = np.stack([low_loss(x, 1e5, fwhm=0.6)[0] for x in (0.0, 0.5)])[(t > 0).astype(int)]
    y = rng.poisson(np.abs(sp.shift_spectra(mean, rng.normal(0, 0.3, 400), LOW)))
    assert sp.find_spikes(y).sum() == 0
    y[7, 700] += 500
    assert np.argwhere(sp.find_spikes(y)).tolist() == [[7, 700]]


def test_spikes_in_a_single_spectrum_and_at_low_counts():
    rng = np.random.default_rng(3)
    y = rng.poisson(0.2, (500, 400))
    assert sp.find_spikes(y).sum() == 0
    one = rng.poisson(50.0, 400).astype(float)
    one[100] += 400
    assert np.flatnonzero(sp.find_spikes(one)).tolist() == [100]


@pytest.mark.parametrize("step", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("pixels", [1, 9, 15])
def test_white_lines_of_few_spectra_are_no_spikes(step, pixels):
    """L3 two channels wide stays; a cosmic ray in one of the spectra does not."""
    axis = np.arange(640, 780, step)
    mean = (axis / 700) ** -3.0 + 4 * gauss(axis, 709, max(0.8, step / 1.2)) + 2 * gauss(axis, 722, 1.0)
    clean = np.random.default_rng(23).poisson(1e5 * np.tile(mean, (pixels, 1))).astype(float)
    for mask in (sp.find_spikes(clean), sp.find_rare_spikes(clean)):
        assert not mask.any()
    np.testing.assert_array_equal(sp.remove_spikes(clean), clean)
    dirty = clean.copy()
    dirty[-1, 20] += 3e5
    assert np.argwhere(sp.find_spikes(dirty)).tolist() == [[pixels - 1, 20]]


def test_a_sharp_line_in_all_of_a_few_spectra_is_no_spike():
    counts = np.random.default_rng(24).poisson(50.0, (5, 400)).astype(float)
    counts[:, 100] += [400, 300, 350, 500, 420]
    counts[2, 300] += 400
    assert np.argwhere(sp.find_spikes(counts)).tolist() == [[2, 300]]


# --- camera


def test_a_saturated_camera_is_noticed_and_a_sharp_peak_is_not():
    rng = np.random.default_rng(20)
    counts = rng.poisson(np.tile(low_loss(0.5, 1e5)[0], (200, 1))).astype(float)
    assert sp.cut_off_fraction(counts) == 0
    assert sp.cut_off_fraction(np.minimum(counts, 0.3 * counts.max())) > 0.9
    assert sp.cut_off_fraction(np.minimum(rng.poisson(2.0, (200, 400)), 3)) == 0  # few counts, alike by chance


@pytest.mark.parametrize("scale", [0.3, 2.0, 500.0])
def test_bad_channels_are_found_and_edges_and_cosmic_rays_are_not(scale):
    rng = np.random.default_rng(21)
    edge = (CORE / 700) ** -3.0 * (1 + 2 * (CORE > 708)) + 3 * gauss(CORE, 715, 0.6)
    counts = rng.poisson(scale * np.tile(edge, (2000, 1))).astype(float)
    inside = CORE > 620
    assert sp.find_bad_channels(counts, inside).size == 0
    counts[7, 300] += 1e6  # in one spectrum
    assert sp.find_bad_channels(counts, inside).size == 0
    counts[:, 200], counts[:, 400], counts[:, 500:502] = 0, 2 * counts[:, 400] + 1, 0.4 * counts[:, 500:502]
    assert sp.find_bad_channels(counts, inside).tolist() == [200, 400, 500, 501]
    mended = sp.mend_channels(counts, np.array([200, 500, 501]))
    np.testing.assert_allclose(mended[:, 200], (counts[:, 199] + counts[:, 201]) / 2)
    np.testing.assert_allclose(mended[:, 501], (counts[:, 499] + 2 * counts[:, 502]) / 3)


# --- background


@pytest.mark.parametrize("counts", [0.3, 3, 100])
def test_background_is_unbiased_at_low_counts(counts):
    rng = np.random.default_rng(4)
    truth = counts * (CORE / 650) ** -3.2
    y = rng.poisson(np.tile(truth, (1500, 1)))
    found = sp.fit_background(y, CORE, window_eV=(600, 700))
    under = (CORE > 706) & (CORE < 746)
    total = found[:, under].sum(-1)
    # the mean of an extrapolated maximum-likelihood fit is high by half its relative variance
    slack = 4 * total.std() / np.sqrt(1500) + 0.5 * total.var() / truth[under].sum()
    assert abs(total.mean() - truth[under].sum()) < slack


@pytest.mark.parametrize("model", ["power_law", "exponential", "log_polynomial"])
def test_background_models_follow_their_own_curves(model):
    curve = {
        "power_law": 50 * (CORE / 650) ** -2.7,
        "exponential": 50 * np.exp(-(CORE - 650) / 150),
        "log_polynomial": 50 * (CORE / 650) ** -2.7 * np.exp(np.log(CORE / 650) ** 2),
    }[model]
    y = np.stack([curve, 3 * curve])
    np.testing.assert_allclose(sp.fit_background(y, CORE, window_eV=(600, 720), model=model), y, rtol=1e-5)
    rest = sp.remove_background(y + gauss(CORE, 750, 2), CORE, window_eV=(600, 720), model=model)
    np.testing.assert_allclose(rest, np.stack([gauss(CORE, 750, 2)] * 2), atol=1e-3)


def test_background_window_is_checked():
    y = np.ones((2, CORE.size))
    for window, word in (((500, 650), "not covered"), ((700, 650), "increase"), (3.0, "pair"), ((700, 700.3), "few")):
        with pytest.raises(ValueError, match=word):
            sp.fit_background(y, CORE, window_eV=window)
    with pytest.raises(ValueError, match="model"):
        sp.fit_background(y, CORE, window_eV=(600, 700), model="spline")


# --- plural scattering


@pytest.mark.parametrize("t", [0.1, 0.5, 1.2])
def test_fourier_log_recovers_single_scattering_and_thickness(t):
    measured, kernel = low_loss(t, 1e6)
    found = sp.fourier_log(measured, LOW)
    truth = 1e6 * np.exp(-t) * t * np.convolve(single_scattering(LOW), kernel, mode="same")
    inside = (LOW > 5) & (LOW < 150)
    assert np.abs(found - truth)[inside].max() < 0.01 * truth.max()
    edge = (LOW > 50) & (LOW < 70)
    np.testing.assert_allclose(found[edge], truth[edge], rtol=0.02)
    assert sp.relative_thickness(measured, LOW) == pytest.approx(t, rel=0.01)


@pytest.mark.parametrize("t", [0.1, 0.5, 1.2])
def test_repeated_losses_are_the_convolutions_of_what_lies_below(t):
    measured, _ = low_loss(t, 1e6)
    once = t * single_scattering(LOW) * (LOW < 40)
    first = int(np.argmin(np.abs(LOW)))
    want, term = np.zeros(LOW.size), once
    for order in range(2, 8):
        term = np.convolve(term, once)[first : first + LOW.size] / order
        want += 1e6 * np.exp(-t) * term
    found = sp.repeated_losses(measured, LOW, below_eV=40.0)
    assert np.abs(found - want).max() < 0.015 * want.max()
    with pytest.raises(ValueError, match="below_eV"):
        sp.repeated_losses(measured, LOW, below_eV=-1.0)


@pytest.mark.parametrize("t", [0.3, 1.0])
def test_fourier_ratio_undoes_convolution_with_the_low_loss(t):
    edge = 1e-3 * (gauss(CORE, 709, 1.0) + 0.5 / (1 + np.exp(-(CORE - 712))))
    measured, _ = low_loss(t, 1e6)
    plural = sp.convolve_low_loss(edge, measured, CORE, LOW)[0]
    assert (plural / 1e6)[CORE > 720].mean() > 1.05 * np.exp(-t) * edge[CORE > 720].mean()
    single = sp.fourier_ratio(plural, measured, CORE, LOW)
    elastic = sp.zero_loss(measured, LOW).sum()
    assert np.abs(single / elastic - edge)[CORE < 780].max() < 0.01 * edge.max()


def test_convolution_matches_a_direct_sum_and_conserves_electrons():
    edge = gauss(CORE, 700, 3.0)
    measured, _ = low_loss(0.7, 100.0)
    out = sp.convolve_low_loss(edge, measured, CORE, LOW, zero_loss_peak="keep")[0]
    direct = np.convolve(edge, measured)[80 : 80 + CORE.size]  # channel 80 is 0 eV
    np.testing.assert_allclose(out, direct, atol=1e-9 * direct.max())
    delta = sp.convolve_low_loss(edge, measured, CORE, LOW)[0]
    assert delta.sum() == pytest.approx(out.sum(), rel=1e-6)


def test_fourier_ratio_of_noisy_data_stays_near_the_truth():
    rng = np.random.default_rng(5)
    edge = 1e-3 * gauss(CORE, 709, 1.0)
    measured, _ = low_loss(0.8, 1e6)
    plural = sp.convolve_low_loss(edge, measured, CORE, LOW)[0]
    single = sp.fourier_ratio(rng.poisson(np.abs(plural)), rng.poisson(measured), CORE, LOW)
    white = (CORE > 705) & (CORE < 713)
    assert single[white].sum() / sp.zero_loss(measured, LOW).sum() == pytest.approx(edge[white].sum(), rel=0.1)


def test_a_zero_loss_peak_off_zero_is_refused():
    measured, _ = low_loss(0.5, 1e5)
    for function in (sp.zero_loss, sp.fourier_log, sp.relative_thickness):
        with pytest.raises(ValueError, match="align_zero_loss"):
            function(sp.shift_spectra(measured, 3.0, LOW), LOW)


def test_energy_steps_must_agree():
    with pytest.raises(ValueError, match="per channel"):
        sp.convolve_low_loss(np.ones(100), np.ones(1024), np.arange(100.0), LOW)
    with pytest.raises(ValueError, match="zero_loss_peak"):
        sp.convolve_low_loss(np.ones(800), np.ones(1024), CORE, LOW, zero_loss_peak="drop")


# --- containers


def test_arrays_dask_and_signals_agree():
    import dask.array as da

    rng = np.random.default_rng(6)
    data = rng.poisson(np.stack([[low_loss(0.5, 1e5)[0]] * 5] * 4)).astype(float)
    data = sp.shift_spectra(data, rng.uniform(-0.5, 0.5, (4, 5)), LOW)
    lazy = da.from_array(data, chunks=(3, 2, 500))

    def chain(low, energy=None):
        low = sp.remove_spikes(sp.align_zero_loss(low, energy_eV=energy))
        return sp.fourier_log(low, energy)

    plain = chain(data, LOW)
    result = chain(lazy, LOW)
    assert isinstance(result, da.Array)
    # spike statistics are taken over a sample of all pixels; everything else is pixel by pixel
    np.testing.assert_allclose(result.compute(), plain, atol=1e-8 * plain.max())
    for is_lazy in (False, True):
        signal = chain(as_signal(data, LOW, lazy=is_lazy))
        assert type(signal).__name__ == ("LazyEELSSpectrum" if is_lazy else "EELSSpectrum")
        assert signal.axes_manager[-1].offset == LOW[0]
        np.testing.assert_allclose(np.asarray(signal.data), plain, atol=1e-6 * plain.max())


@pytest.mark.parametrize("threads", ["0", "1", "2"])
def test_a_function_of_blocks_is_applied_to_every_pixel(monkeypatch, threads):
    import dask.array as da

    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    rng = np.random.default_rng(9)
    y, factor, common = rng.random((3, 4, 5)), rng.random((3, 4, 1)), rng.random(5)

    def weighted(y, factor, common, missing):
        assert missing is None and common.shape == (1, 5) and len(y) == len(factor) <= 5
        return np.stack([(factor * y * common).sum(-1), y.max(-1)], axis=-1)

    want = np.stack([(factor * y * common).sum(-1), y.max(-1)], axis=-1)
    got = sp.map_spectra(weighted, y, factor, common, None, core_shape=(2,), block=5)
    np.testing.assert_array_equal(got, want)
    lazy = da.from_array(y, chunks=(2, 3, 2))
    lazies = (lazy, factor, common), (y, da.from_array(factor), common), (y, factor, da.from_array(common, chunks=2))
    for inputs in lazies:
        result = sp.map_spectra(weighted, *inputs, None, core_shape=(2,), block=5)
        assert isinstance(result, da.Array) and result.shape == want.shape
        np.testing.assert_array_equal(result.compute(), want)
    one = sp.map_spectra(lambda y: y.sum(-1) > 0, lazy[0, 0], core_shape=(), dtype=bool)
    assert one.dtype == bool and one.shape == () and one.compute()
    with pytest.raises(ValueError, match="leading axes"):
        sp.map_spectra(weighted, y, factor[:2], common, None, core_shape=(2,))


def test_threads_do_not_change_the_result(monkeypatch):
    y = np.random.default_rng(10).poisson(100.0, (5000, 64)).astype(float)
    results = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        results.append(sp.fit_background(y, np.arange(600.0, 664), window_eV=(600, 640)))
    np.testing.assert_array_equal(*results)


def test_one_spectrum_and_a_block_give_the_same():
    y, _ = low_loss(0.6, 1e5)
    for function in (sp.fourier_log, sp.zero_loss, sp.relative_thickness, sp.zero_loss_position):
        alone, together = function(y, LOW), function(np.stack([y, 2 * y]), LOW)
        np.testing.assert_allclose(alone, together[0], atol=1e-9 * np.abs(together).max())


# --- noise


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_noise_of_bright_and_dim_pixels_tells_the_same(gain):
    mean = np.concatenate([np.full((600, 1), 1.0), np.full((400, 1), 100.0)]) * np.ones(CORE.size)
    counts = gain * np.random.default_rng(9).poisson(mean)
    assert sp.noise_gain(counts, CORE, window_eV=(610, 780)) == pytest.approx(gain, rel=0.08)


@pytest.mark.parametrize("spread", [0.0, 0.8])
def test_noise_tells_counts_per_electron_through_a_point_spread(spread):
    from scipy.ndimage import gaussian_filter1d

    rng = np.random.default_rng(8)
    electrons = rng.poisson(np.tile(30 * (CORE / 650) ** -3.0, (300, 1))).astype(float)
    counts = 4.0 * (gaussian_filter1d(electrons, spread, axis=-1) if spread else electrons)
    assert sp.noise_gain(counts, CORE, window_eV=(610, 780), block=24) == pytest.approx(4.0, rel=0.12)
    if spread:
        assert sp.noise_gain(counts, CORE, window_eV=(610, 780), block=1) < 2.5
    with pytest.raises(ValueError, match="block"):
        sp.noise_gain(counts, CORE, window_eV=(610, 615), block=10)
