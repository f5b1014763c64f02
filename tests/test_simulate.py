"""Digital twin: the specimen, the physics of its spectra, and the noise of its counts."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from skimage.measure import block_reduce

from softeels_utils import scattering, simulate

# ------------------------------------------------------------------------------------------------ specimen


def test_phantom_has_the_volumes_of_its_parts():
    n = 64
    s = n / 160
    volume = simulate.core_shell_nanocube(n)
    assert volume.shape == (2, n, n, n) and volume.dtype == np.float32
    sphere = 4 / 3 * np.pi * 6**3
    expected = np.array([40**3 + 86**3 - 80**3, 80**3 - 40**3 - sphere]) * s**3
    np.testing.assert_allclose(volume.sum(axis=(1, 2, 3)), expected, rtol=2e-3)


@settings(max_examples=15, deadline=None)
@given(
    core=st.floats(0, 0.3),
    skin=st.floats(0, 0.55),
    radius=st.floats(0, 0.1),
    angle=st.tuples(*[st.floats(-90, 90)] * 3),
    shape=st.sampled_from(["cube", "sphere", "octahedron"]),
)
def test_fractions_stay_fractions(core, skin, radius, angle, shape):
    volume = simulate.core_shell_nanocube(
        16, core=core, shell=0.5, skin=skin, void_radius=radius, rotation_deg=angle, shape=shape, oversample=3
    )
    assert volume.min() >= 0 and volume.sum(axis=0).max() <= 1 + 1e-6


def test_grid_refines_the_same_specimen():
    coarse = simulate.core_shell_nanocube(24, oversample=8)
    fine = block_reduce(simulate.core_shell_nanocube(48, oversample=8), (1, 2, 2, 2), np.mean)
    assert np.abs(coarse - fine).mean() < 2e-3
    assert np.abs(coarse - fine).max() < 0.1


@pytest.mark.parametrize(("shape", "volume"), [("cube", 1), ("sphere", np.pi / 6), ("octahedron", 1 / 6)])
def test_single_shapes(shape, volume):
    body = simulate.core_shell_nanocube(40, shape=shape, core=None, shell=0.6, skin=0, void_radius=None)
    assert body[0].sum() == 0
    np.testing.assert_allclose(body[1].sum(), volume * 24**3, rtol=3e-3)


def _centroid(body):
    axis = np.arange(body.shape[0]) - (body.shape[0] - 1) / 2
    return np.array([(body.sum(axis=tuple(np.delete(range(3), i))) * axis).sum() for i in range(3)]) / body.sum()


@pytest.mark.parametrize(
    ("rotation", "where"),  # (y, z, x) of a blob that starts at (0, 0, 8)
    [
        (None, (0, 0, 8)),
        ((0, 90, 0), (0, -8, 0)),  # right-handed about +Y takes X to -Z, and Z to X (the project's tilt)
        ((0, 0, 90), (8, 0, 0)),
        ((90, 0, 0), (0, 0, 8)),
    ],
)
def test_rotation_is_right_handed(rotation, where):
    blob = simulate.core_shell_nanocube(
        32,
        shape="sphere",
        core=6,
        shell=0,
        skin=0,
        void_radius=0,
        core_center=(0, 0, 8),
        rotation_deg=rotation,
        unit="voxel",
    )
    np.testing.assert_allclose(_centroid(blob[0]), where, atol=0.05)


def test_units_of_length_agree_and_third_phase():
    nm = simulate.core_shell_nanocube(20, 0.5, core=2.5, shell=5, skin=6, void_radius=0, unit="nm", skin_phase=2)
    box = simulate.core_shell_nanocube(20, core=0.25, shell=0.5, skin=0.6, void_radius=0, skin_phase=2)
    assert nm.shape[0] == 3 and nm[2].sum() > 0
    np.testing.assert_array_equal(nm, box)


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"n": 1}, "n: got 1"),
        ({"shape": "pyramid"}, "shape"),
        ({"core": -0.1}, "core"),
        ({"shell": np.nan}, "shell"),
        ({"skin": 1.2}, "fits"),
        ({"void_center": (0, 0)}, "void_center"),
        ({"voxel_size_nm": 0}, "voxel_size_nm"),
        ({"unit": "mm"}, "unit"),
        ({"skin_phase": -1}, "skin_phase"),
        ({"oversample": 0}, "oversample"),
    ],
)
def test_bad_specimens_are_named(bad, name):
    with pytest.raises(ValueError, match=name):
        simulate.core_shell_nanocube(**{"n": 16, **bad})


# -------------------------------------------------------------------------------------------- spectrum model


@pytest.fixture(scope="module")
def model():
    return simulate.spectrum_model()


def test_edge_strength_is_the_partial_cross_section(model):
    settings = {"beam_energy_keV": 300.0, "collection_mrad": 40.0, "convergence_mrad": 20.0}
    for edge, element in (("M2,3", "Fe"), ("L2,3", "Fe")):
        lo, hi = scattering.load_system("iron_oxides").edge(edge).window_eV
        fine = np.linspace(lo, hi, 4001)
        sigma = np.trapezoid(
            scattering.differential_cross_section(
                scattering.edge_oscillator_strength(element, edge, fine), fine, **settings
            ),
            fine,
        )
        energy = model.energy_eV(edge)
        inside = (energy >= lo) & (energy < hi)
        for phase in model.phases:
            n = model.system.phase(phase).atoms_per_nm3["Fe"]
            assert model.reference(phase, edge)[inside].sum() == pytest.approx(n * sigma, rel=0.04)


def test_electrons_are_conserved_and_the_zero_loss_counts_the_thickness(model):
    t = np.array([20.0, 15.0])
    full = model.spectra(t[None], None, ("low",))[0][0]
    energy = model.low_energy_eV
    assert full[(energy > -3) & (energy < 2)].sum() == pytest.approx(
        np.exp(-(t / model.mean_free_path_nm).sum()), rel=2e-3
    )
    assert np.all(full >= 0)
    assert model.expected([0.0, 0.0]).sum() == pytest.approx(1, abs=1e-9)


def test_plural_scattering_is_the_poisson_series_of_convolutions(model):
    """The Fourier-log relation against repeated convolution in real space."""
    t = np.array([40.0, 25.0])
    size = model.grid_eV.size
    single = sum(t[p] * sum(model.single_scattering[phase].values()) for p, phase in enumerate(model.phases))
    total, term = np.zeros(size), np.zeros(size)
    term[0] = np.exp(-single.sum())
    for order in range(1, 12):
        total += term
        term = np.convolve(term, single)[:size] / order
    sigma = model.microscope.energy_resolution_eV / np.sqrt(8 * np.log(2))
    offset = model.microscope.dispersion_eV * np.arange(-16, 17)
    half = model.microscope.dispersion_eV / 2
    blurred = np.convolve(total, ndtr((offset + half) / sigma) - ndtr((offset - half) / sigma))[16 : size + 16]
    for which in ("low", "core"):
        energy = model.energy_eV(which)
        channels = np.round(energy / model.microscope.dispersion_eV).astype(int)
        inside = channels >= 0
        np.testing.assert_allclose(model.expected(t, which)[inside], blurred[channels[inside]], rtol=5e-4, atol=1e-12)


def test_derivative_of_all_components_is_that_of_the_spectrum(model):
    t, step = np.array([12.0, 8.0]), np.array([1e-3, 0.0])
    for which in ("low", "core"):
        slope = (model.expected(t + step, which) - model.expected(t - step, which)) / 2e-3
        components = sum(model.derivative(t, component, which)[0] for component in simulate.COMPONENTS)
        np.testing.assert_allclose(slope, components - model.expected(t, which) / model.mean_free_path_nm[0], atol=1e-9)


def test_single_scattering_is_linear():
    single = simulate.spectrum_model(plural=False)
    t = np.array([[10.0, 5.0]])
    sum_of_parts = single.expected([[0.0, 0.0]]) + 2 * (single.expected(t) - single.expected([[0.0, 0.0]]))
    inside = single.low_energy_eV > 5
    np.testing.assert_allclose(single.expected(2 * t)[0, inside], sum_of_parts[0, inside], rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: simulate.spectrum_model(collection_mrad=-1), "collection_mrad"),
        (lambda: simulate.spectrum_model(energy_resolution_eV=0), "energy_resolution_eV"),
        (lambda: simulate.spectrum_model(simulate.Microscope(), channels=512), "settings"),
        (lambda: simulate.spectrum_model(phases=("Fe2O3",)), "phases"),
        (lambda: simulate.spectrum_model().reference("hematite", "M2,3"), "phase"),
        (lambda: simulate.spectrum_model().reference("FeO", "N7"), "edge"),
        (lambda: simulate.spectrum_model().expected([1.0]), "thickness_nm"),
        (lambda: simulate.spectrum_model().expected([1.0, np.nan]), "thickness_nm"),
        (lambda: simulate.Detector(gain=0), "gain"),
    ],
)
def test_bad_models_are_named(make, name):
    with pytest.raises(ValueError, match=name):
        make()


# ------------------------------------------------------------------------------------------------- dual EELS

SMALL = simulate.Microscope(channels=512, dispersion_eV=0.5, energy_resolution_eV=1.0)


def slab(feo=10.0, fe3o4=10.0, shape=(1, 6, 8)):
    return np.stack([np.full(shape, feo), np.full(shape, fe3o4)])


def test_signals_carry_axes_and_metadata():
    low, core = simulate.dual_eels(slab(shape=(3, 4, 5)), 1e4, tilt_angles_deg=[-30, 0, 30], microscope=SMALL)
    assert low.data.shape == core.data.shape == (3, 4, 5, 512)
    assert low.metadata.Signal.signal_type == "EELS"
    assert low.metadata.Tomography.tilts == [-30.0, 0.0, 30.0]
    assert low.metadata.Acquisition_instrument.TEM.beam_energy == 300
    assert core.metadata.Acquisition_instrument.TEM.Detector.EELS.collection_angle == 40
    axis = core.axes_manager.signal_axes[0]
    assert (axis.units, axis.offset, axis.scale) == ("eV", 500.0, 0.5)
    assert [a.name for a in low.axes_manager.navigation_axes] == ["x", "y", "tilt"]
    flat, _ = simulate.dual_eels(slab()[:, 0], 1e4, microscope=SMALL)
    assert flat.data.shape == (6, 8, 512)


def test_same_seed_same_counts_whatever_the_chunks():
    conditions = {"microscope": SMALL, "drift_eV": 0.2, "detector": simulate.Detector.scintillator()}
    maps = slab(shape=(2, 5, 7))
    a = simulate.dual_eels(maps, 1e3, seed=3, chunk_pixels=7, **conditions)
    b = simulate.dual_eels(maps, 1e3, seed=3, chunk_pixels=1000, **conditions)
    c = simulate.dual_eels(maps, 1e3, seed=3, lazy=True, chunk_pixels=14, **conditions)
    other = simulate.dual_eels(maps, 1e3, seed=4, **conditions)
    for k in range(2):
        np.testing.assert_array_equal(a[k].data, b[k].data)
        assert c[k]._lazy
        np.testing.assert_array_equal(a[k].data, c[k].data.compute())
        assert (a[k].data != other[k].data).mean() > 0.05


def test_lazy_twin_of_a_full_series_costs_nothing_until_computed():
    low, core = simulate.dual_eels(np.zeros((2, 9, 112, 112)), 1e4, lazy=True)
    assert low.data.shape == core.data.shape == (9, 112, 112, 1024)
    assert max(np.prod(c) * 4 for c in [low.data.chunksize]) < 64e6


def test_counts_are_poisson_with_the_expected_mean():
    maps = slab(shape=(1, 40, 40))
    low, core = simulate.dual_eels(maps, (1e3, 4e4), microscope=SMALL, seed=1)
    model = simulate.spectrum_model(SMALL)
    for signal, which, fluence in ((low, "low", 1e3), (core, "core", 4e4)):
        counts = signal.data.reshape(-1, 512)
        mean = fluence * 16 * model.expected([10.0, 10.0], which)
        pull = (counts.mean(axis=0) - mean) / np.sqrt(mean / len(counts) + 1e-12)
        assert np.abs(pull[mean > 0.05]).max() < 5 and abs(pull[mean > 0.05].std() - 1) < 0.15
        dispersion = counts.var(axis=0)[mean > 0.5] / mean[mean > 0.5]
        assert dispersion.mean() == pytest.approx(1, abs=0.01)


def test_camera():
    maps = slab(shape=(1, 30, 30))
    clean, _ = simulate.dual_eels(maps, 1e3, microscope=SMALL, noise=False)
    camera = simulate.Detector(gain=4.0, readout_counts=8.0)
    noisy, _ = simulate.dual_eels(maps, 1e3, microscope=SMALL, detector=camera, seed=2)
    expected = clean.data.reshape(-1, 512)[0].astype(float)
    variance = noisy.data.reshape(-1, 512).var(axis=0)
    bright = expected > 2
    assert np.mean(variance[bright] / (16 * expected[bright] + 64)) == pytest.approx(1, abs=0.02)
    spread = simulate.Detector(point_spread_channels=1.5)
    blurred, _ = simulate.dual_eels(maps, 1e3, microscope=SMALL, detector=spread, seed=2)
    plain, _ = simulate.dual_eels(maps, 1e3, microscope=SMALL, seed=2)
    assert blurred.data.sum() == pytest.approx(plain.data.sum(), rel=1e-4)
    noise = (blurred.data - plain.data.mean(axis=(0, 1, 2))).reshape(-1, 512)[:, 200:400]
    assert np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1] > 0.5  # a point spread correlates the noise
    spiky = simulate.Detector(spike_rate=1e-3, spike_counts=1e5)
    hit, _ = simulate.dual_eels(maps, 1e3, microscope=SMALL, detector=spiky, seed=2)
    extra = hit.data.astype(float) - plain.data
    assert (extra > 1e3).mean() == pytest.approx(1e-3, rel=0.25)
    assert extra[extra > 0].mean() == pytest.approx(1e5, rel=0.2)


def test_drift_moves_both_axes_equally():
    maps = slab(shape=(1, 8, 8))
    low, core = simulate.dual_eels(maps, 1e4, microscope=SMALL, drift_eV=0.8, noise=False, seed=5)
    energy = low.axes_manager.signal_axes[0].axis
    near = np.abs(energy) < 5
    zero = (low.data[..., near] * energy[near]).sum(axis=-1) / low.data[..., near].sum(axis=-1)
    assert zero.std() == pytest.approx(0.8, rel=0.1)
    axis = core.axes_manager.signal_axes[0].axis
    peak = (axis > 702) & (axis < 716)
    line = np.maximum(
        core.data[..., peak] - core.data[..., (axis > 730) & (axis < 740)].mean(axis=-1, keepdims=True), 0
    )
    centre = (line * axis[peak]).sum(axis=-1) / line.sum(axis=-1)
    slope, _ = np.polyfit(zero.ravel(), centre.ravel(), 1)
    assert slope == pytest.approx(1, abs=0.1)


def test_delocalisation_blurs_low_losses_more_and_keeps_their_sum():
    maps = np.zeros((2, 1, 41, 41))
    maps[1, 0, 20, 20] = 1.0  # thin: linear
    conditions = {"microscope": SMALL, "noise": False, "pixel_size_nm": 0.2}
    low, core = simulate.dual_eels(maps, 1e8, dtype="float64", **conditions)
    point = simulate.dual_eels(maps, 1e8, dtype="float64", delocalisation=False, **conditions)
    maps_of = []
    for signal, window in ((low, (15, 30)), (low, (55, 60)), (core, (708, 715))):
        axis = signal.axes_manager.signal_axes[0].axis
        inside = (axis > window[0]) & (axis < window[1])
        sharp = (point[0] if signal is low else point[1]).data[0][..., inside].sum(axis=-1)
        image = signal.data[0][..., inside].sum(axis=-1)
        assert (sharp > 1e-6 * sharp.max()).sum() == 1
        assert image.sum() == pytest.approx(sharp.sum(), rel=0.02)
        maps_of.append(image / image.sum())
    assert maps_of[0].max() < maps_of[1].max() < maps_of[2].max()


def test_carbon_support_adds_losses_and_grows_with_tilt():
    maps = np.zeros((2, 2, 2, 2))
    with_film, _ = simulate.dual_eels(maps, 1e4, carbon_nm=20, tilt_angles_deg=[0, 60], microscope=SMALL, noise=False)
    bare, _ = simulate.dual_eels(maps, 1e4, tilt_angles_deg=[0, 60], microscope=SMALL, noise=False)
    energy = bare.axes_manager.signal_axes[0].axis
    elastic = with_film.data[:, 0, 0, np.abs(energy) < 3].sum(axis=-1) / bare.data[:, 0, 0, np.abs(energy) < 3].sum(
        axis=-1
    )
    assert elastic[1] == pytest.approx(elastic[0] ** 2, rel=1e-3) and elastic[0] < 0.95


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"projections_nm": np.zeros((3, 4, 4))}, "projections_nm"),
        ({"projections_nm": -slab()}, "projections_nm"),
        ({"projections_nm": slab(np.nan)}, "projections_nm"),
        ({"fluence_e_per_A2": 0}, "fluence_e_per_A2"),
        ({"fluence_e_per_A2": np.inf}, "fluence_e_per_A2"),
        ({"tilt_angles_deg": [0, 10]}, "tilt_angles_deg"),
        ({"pixel_size_nm": -1}, "pixel_size_nm"),
        ({"drift_eV": -1}, "drift_eV"),
        ({"carbon_nm": np.nan}, "carbon_nm"),
        ({"chunk_pixels": 0}, "chunk_pixels"),
    ],
)
def test_bad_input_is_named(bad, name):
    good = {"projections_nm": slab(), "fluence_e_per_A2": 1e3}
    with pytest.raises(ValueError, match=name):
        simulate.dual_eels(**{**good, **bad})


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        simulate.Microscope().collection_mrad = 10


def test_exspy_reads_the_thickness_back():
    low, _ = simulate.dual_eels(slab(20.0, 10.0, (1, 2, 2)), 1e8, noise=False)
    model = simulate.spectrum_model()
    expected = (np.array([20.0, 10.0]) / model.mean_free_path_nm).sum()
    estimated = low.estimate_thickness(threshold=2.0).data
    assert estimated == pytest.approx(expected, rel=0.04)  # 0.7 % of the electrons lose more than the axis holds


def test_a_probe_wider_than_the_aperture_loses_electrons_not_atoms():
    angles = ({"convergence_mrad": a, "collection_mrad": 60.0 - a} for a in (40.0, 20.0))
    wide, narrow = (simulate.SpectrumModel(simulate.Microscope(**pair)) for pair in angles)
    np.testing.assert_allclose(wide.references("M2,3").sum(), narrow.references("M2,3").sum(), rtol=2e-3)
    counts = [model.expected([5.0, 10.0]).sum() for model in (wide, narrow)]
    assert counts[0] == pytest.approx(counts[1] / 4, rel=1e-3)
    amounts = [model.derivative([5.0, 10.0], "L2,3").sum() for model in (wide, narrow)]
    assert amounts[0] == pytest.approx(amounts[1] / 4, rel=5e-3)
