"""From files to a volume: formats, resuming, what is refused. The spectra are the twin's, of which the chain knows
nothing."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import hyperspy.api as hs
import mrcfile
import numpy as np
import pytest
import tifffile
import yaml
import zarr
from clusters import CLUSTER

from softeels_utils import __main__ as command_line
from softeels_utils import data, dip, pipeline, scattering, simulate, standards
from softeels_utils.fitting import Estimate, PhaseFit
from softeels_utils.fitting.references import ReferenceDraws
from softeels_utils.pipeline import Settings, reconstruct
from softeels_utils.pipeline.chain import (
    Chain,
    badly_predicted,
    find_geometry,
    large_systematic,
    missing_voids,
)
from softeels_utils.pipeline.metal import known_phases
from softeels_utils.pipeline.series import Maps, clean_low_loss, noise_gain_of, read_spectra
from softeels_utils.pipeline.volume_files import file_names, write_maps, write_volume
from softeels_utils.tomography import ParallelBeam, alignment_error

N, PIXEL_NM, TILTS = 16, 4.0, (-60.0, -30.0, 0.0, 30.0, 60.0)
FAST = {"iterations": 12, "members": 2, "reference_members": 2, "workers": 1, "audit": False}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Dual EELS, one pair of files for each tilt, and the thickness of each phase that made it."""
    folder = tmp_path_factory.mktemp("series")
    volume = simulate.core_shell_nanocube(N, PIXEL_NM, oversample=2)
    maps = ParallelBeam(N, TILTS, PIXEL_NM)(volume)
    signals = simulate.dual_eels(maps, 2e4, tilt_angles_deg=TILTS, pixel_size_nm=PIXEL_NM, seed=3)
    for k, tilt in enumerate(TILTS):
        for name, whole in zip(("low", "core"), signals, strict=True):
            one = whole.inav[:, :, k]
            del one.metadata.Tomography, one.metadata.Simulation
            one.metadata.set_item("Acquisition_instrument.TEM.Detector.EELS.exposure", 0.05)
            one.save(folder / f"{name}_{tilt:+.0f}.hspy")
    np.save(folder / "truth.npy", maps)
    return folder


def settings(files, output, **changes):
    values = {"low_loss": files / "low_*.hspy", "core_loss": files / "core_*.hspy", "output": output}
    return Settings.build(values | FAST | changes)


@pytest.fixture(scope="module")
def done(files, tmp_path_factory):
    """A whole run, and its lines."""
    output, lines = tmp_path_factory.mktemp("run") / "out", []
    reconstruct(settings(files, output, audit=True), report=lines.append)
    return output, lines


# ---------------------------------------------------------------- what comes out


def test_maps_and_volume_are_those_of_the_specimen(files, done):
    output, _ = done
    truth = np.load(files / "truth.npy")
    series = data.read_tilt_series(output / "fit.hspy")
    assert series.channels == ("FeO", "Fe3O4") and series.pixel_size_nm == PIXEL_NM
    np.testing.assert_allclose(series.tilt_angles_deg, TILTS)
    off = np.abs(series.projections.sum(0) - truth.sum(0)).mean() / truth.sum(0).mean()
    assert off < 0.2  # of the total thickness
    volume = hs.load(output / "volume.hspy")
    assert volume.data.shape == (2, N, N, N) and 0 <= volume.data.min() and volume.data.sum(0).max() < 1.01
    total = PIXEL_NM * volume.data.sum(0)
    assert np.corrcoef(total.sum(1).ravel(), truth[:, 2].sum(0).ravel())[0, 1] > 0.9  # the projection at 0°


def test_metal_and_valence_of_maps_and_volume_are_those_of_the_specimen(files, done):
    """Within three of their stated errors; little metal has no valence."""
    output, _ = done
    truth, iron = np.load(files / "truth.npy"), scattering.load_system("iron_oxides")
    atoms, valence = iron.metal_and_valence(truth, ("FeO", "Fe3O4"))  # per nm², (T, Y, X)
    total, mean = iron.metal_and_valence(PIXEL_NM**2 * truth.sum(axis=(1, 2, 3)) / len(TILTS), ("FeO", "Fe3O4"))
    for step in ("fit", "volume"):
        facts = json.loads((output / "steps" / f"{step}.json").read_text())["facts"]
        for found, true in ((facts["metal_atoms"], total), (facts["mean_valence"], mean)):
            assert abs(found["value"] - true) < 3 * np.hypot(found["statistical"], found["systematic"])
            assert 0 < found["systematic"] < 0.15 * true and found["statistical"] > 0
    names = {"metal": atoms, "mean_valence": valence}
    for name, true in names.items():
        series = data.read_tilt_series(output / "maps" / f"{name}.hspy")
        value, systematic = series.projections[0], tifffile.imread(output / "maps" / f"{name}_systematic_error.tif")
        off = np.abs(value - true) / np.sqrt(series.variance[0] + systematic.reshape(value.shape) ** 2)
        thick = atoms > 0.2 * atoms.max()
        assert np.mean(off[thick] < 3) > 0.9 and np.isfinite(value[thick]).all()
        assert name == "metal" or np.isnan(value[atoms < 0.01 * atoms.max()]).all()
    volume = hs.load(output / "metal.hspy")
    assert volume.metadata.Tomography.channels == ["Fe per nm³", "mean valence"] and volume.data.shape == (2, N, N, N)
    density, mean = volume.data
    assert density.max() == pytest.approx(iron.metal_per_nm3(("FeO",))[0], rel=0.1)
    assert np.isnan(mean[density < 0.05 * density.max()]).all() and 1.9 < np.nanmin(mean) < np.nanmax(mean) < 2.8
    with tifffile.TiffFile(output / "metal.tif") as file:
        assert file.imagej_metadata["Labels"][2] == "Fe per nm³ statistical error"
        np.testing.assert_array_equal(file.asarray()[:, 0], density)
    assert "mean valence of Fe" in (output / "report.html").read_text()
    assert "over that of the low loss, from the metadata of both: 1." in (output / "report.html").read_text()


def ensemble_of(volume, transforms, spread=0.03, seed=0):
    """Members about a volume, and the first one seen through other references."""
    members = np.clip(volume + spread * np.random.default_rng(seed).normal(size=(5, *volume.shape)), 0, 1)
    std = members.std(axis=0, ddof=1)
    transformed = np.einsum("c...,scd->sd...", members[0], transforms)
    systematic = np.sqrt(((transformed - members[0]) ** 2).sum(axis=0) / max(len(transforms), 1))
    return dip.EnsembleResult(
        members[0], members.mean(axis=0), std, members, (), (), np.ones((5, 2)), systematic, transformed, np.ones(2)
    )


@pytest.mark.parametrize("learned", [True, False])
def test_errors_of_references_and_contents_are_taken_together(learned):
    """Against each set of references with the contents that go with it."""
    rng = np.random.default_rng(1)
    volume = np.zeros((2, 6, 6, 6))
    volume[0, 1:3, 1:5, 1:5] = volume[1, 3:5, 1:5, 1:5] = 1
    mixed = 0.1 * rng.normal(size=400)
    transforms = np.eye(2) + mixed[:, None, None] * np.array([[0, 1], [0, 0]])  # FeO is partly Fe3O4
    density = np.array([50.0, 40.0]) * np.stack([1 - 0.5 * mixed, np.ones(400)], axis=1)  # as it has vacancies
    own = rng.normal(size=(400, 1)) * [0.5, 0.5]  # and what does not go with it
    known = ReferenceDraws(transforms, np.r_[[[50, 40]], density + own], np.full((401, 2), [2.0, 2.5]))
    sigma = np.eye(2) + np.std(mixed) * np.array([[[0, 1], [0, 0]], [[0, -1], [0, 0]]])
    result = ensemble_of(volume, sigma)
    metal, valence = pipeline.metal_and_valence(result, known, sigma, scale_is_learned=learned, summed=True)
    first = result.members[0].sum(axis=(1, 2, 3))
    each = np.einsum("c,scd->sd", first, transforms)
    atoms = np.einsum("sd,sd->s", each, density + own)
    assert metal.value == pytest.approx(first @ [50, 40])
    assert metal.systematic == pytest.approx(np.sqrt(np.mean((atoms - metal.value) ** 2)), rel=0.1)
    means = np.einsum("sd,sd->s", each, (density + own) * [2.0, 2.5]) / atoms
    assert valence.systematic == pytest.approx(np.sqrt(np.mean((means - valence.value) ** 2)), rel=0.1)
    voxels, mean = pipeline.metal_and_valence(result, known, sigma, scale_is_learned=learned)
    assert voxels.value[2, 2, 2] == pytest.approx(50, rel=0.1) and mean.value[2, 2, 2] == pytest.approx(2, abs=0.1)
    assert np.isnan(mean.value[0, 0, 0]) and np.isnan(mean.systematic[0, 0, 0])
    with pytest.raises(ValueError, match="known, transforms"):
        pipeline.metal_and_valence(result, known, sigma[:1])


@pytest.mark.parametrize("name", ["iron_oxides", "manganese_oxides"])
def test_phases_of_any_system_have_metal(name):
    system = scattering.load_system(name)
    known = known_phases(system.channels, system)
    result = ensemble_of(np.full((2, 3, 3, 3), 0.5), np.zeros((0, 2, 2)), spread=0.0)
    metal, valence = pipeline.metal_and_valence(result, known, summed=True)
    true, mean = system.metal_and_valence(np.full(2, 13.5), system.channels)
    assert metal.value == pytest.approx(true) and valence.value == pytest.approx(mean)
    assert metal.systematic == valence.systematic == 0


def test_a_weighted_sum_of_channels_has_the_errors_of_one():
    result = ensemble_of(np.random.default_rng(0).random((2, 4, 4, 4)), np.eye(2)[None] * 1.1)
    amounts = result.amounts()
    for k, weights in enumerate(np.eye(2)):
        one, whole = result.weighted_sum(weights), result.weighted_sum(weights, summed=True)
        np.testing.assert_allclose(one.systematic, result.systematic[k])
        for name in ("value", "statistical", "systematic"):
            assert getattr(whole, name) == pytest.approx(getattr(amounts, name)[k])
    members = result.members.sum(axis=1)
    np.testing.assert_array_less(members.std(axis=0, ddof=1), result.weighted_sum([1.0, 1.0]).statistical)
    with pytest.raises(ValueError, match="weights"):
        result.weighted_sum([1.0, 2.0, 3.0])


def test_each_file_opens_with_its_own_reader(done):
    output, _ = done
    volume = hs.load(output / "volume.hspy")
    assert [axis.name for axis in volume.axes_manager.signal_axes] == ["x", "z"]
    assert volume.axes_manager.signal_axes[0].scale == PIXEL_NM and volume.axes_manager.signal_axes[0].units == "nm"
    errors = [volume.metadata.SoftEELS[f"{kind}_error"] for kind in ("statistical", "systematic")]
    variance = volume.metadata.Signal.Noise_properties.variance.data
    np.testing.assert_allclose(variance, errors[0] ** 2 + errors[1] ** 2, rtol=1e-5)
    assert volume.metadata.SoftEELS.members.shape == (2, *volume.data.shape) and errors[1].max() > 0
    with tifffile.TiffFile(output / "volume.tif") as file:
        assert file.is_imagej and file.series[0].axes == "ZCYX"
        stack = file.asarray()
        assert file.imagej_metadata["unit"] == "nm" and file.imagej_metadata["spacing"] == PIXEL_NM
        assert file.imagej_metadata["Labels"][:3] == ["FeO", "Fe3O4", "FeO statistical error"]
        across, per = file.pages[0].tags["XResolution"].value
        assert per / across == pytest.approx(PIXEL_NM)
    np.testing.assert_array_equal(stack[:, :2], volume.data.swapaxes(0, 1))
    with mrcfile.open(output / "mrc" / "FeO.mrc") as file:
        assert file.voxel_size.x == pytest.approx(10 * PIXEL_NM) and mrcfile.validate(output / "mrc" / "FeO.mrc")
        np.testing.assert_array_equal(file.data, volume.data[0])
    with h5py.File(output / "emd" / "Fe3O4.emd") as file:
        (group,) = [g for g in _groups(file) if g.attrs.get("emd_group_type") == 1 and "data" in g]
        assert sorted(group["data"].shape) == [N, N, N]
    assert hs.load(output / "emd" / "Fe3O4.emd").data.sum() == pytest.approx(volume.data[1].sum(), rel=1e-5)
    store = zarr.open_group(str(output / "volume.ome.zarr"), mode="r")
    (image,) = store.attrs["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["c", "z", "y", "x"]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [1.0, *[PIXEL_NM] * 3]
    np.testing.assert_array_equal(store["0"][:2], volume.data)
    single = hs.load(output / "maps" / "FeO.hspy")
    assert single.data.shape == (len(TILTS), N, N)
    np.testing.assert_allclose(single.metadata.Tomography.tilts, TILTS)


def _groups(node):
    for child in node.values():
        if isinstance(child, h5py.Group):
            yield child
            yield from _groups(child)


def test_ome_zarr_opens_the_volume(done):
    reader = pytest.importorskip("ome_zarr.reader", reason="ome-zarr is not installed")
    from ome_zarr.io import parse_url

    (node,) = list(reader.Reader(parse_url(done[0] / "volume.ome.zarr"))())
    volume = hs.load(done[0] / "volume.hspy").data
    np.testing.assert_array_equal(np.asarray(node.data[0])[:2], volume)
    assert node.metadata["axes"][1]["unit"] == "nanometer" and node.metadata["channel_names"][:2] == ["FeO", "Fe3O4"]


def test_etspy_opens_the_maps(done):
    etspy = pytest.importorskip("etspy.api", reason="ETSpy is not installed")
    stack = etspy.load(done[0] / "maps" / "FeO.hspy")
    np.testing.assert_allclose(stack.tilts.data.ravel(), TILTS)
    assert stack.data.shape == (len(TILTS), N, N)


def test_the_report_stands_alone_and_tells_of_this_specimen(done):
    text = (done[0] / "report.html").read_text(encoding="utf-8")
    outside = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert not re.findall(r'(?:src|href)="https?:', outside)
    for words in (
        "low_-60.hspy",
        "References, extracted from these spectra",
        "withheld tilts",
        "SHA-256",
        "arXiv:2606",
    ):
        assert words in outside
    for image in re.findall(r"<img [^>]*>", outside):
        assert re.search(r'alt="[^"]{10,}"', image)
    outside = re.sub(r"data:image/[^\"]*", "", outside)  # letters of an image may make any word
    assert "twin" not in outside.lower() and "simulat" not in outside.lower().replace("found on simulat", "")


def test_nothing_in_the_chain_loads_the_simulator(files):
    code = "import sys; from softeels_utils import pipeline; assert 'softeels_utils.simulate' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# ---------------------------------------------------------------- steps


def test_a_second_run_repeats_nothing_and_a_lost_file_its_step(files, done, tmp_path):
    output = tmp_path / "copy"
    shutil.copytree(done[0], output)
    before = np.load(output / "volume.npz")["best"]
    lines = []
    reconstruct(settings(files, output, audit=True), report=lines.append)
    assert not [line for line in lines if line.endswith("...") or "took" in line], lines
    assert any("network 1 of 4, about" in line for line in done[1])
    (output / "comparison.npz").unlink()
    (output / "volume.tif").write_bytes(b"changed")
    lines.clear()
    reconstruct(settings(files, output, audit=True), report=lines.append)
    assert {re.search(r"\] (\w+) \.\.\.", line)[1] for line in lines if line.endswith("...")} >= {"comparison", "files"}
    assert len(lines) < 30 and sum(line.endswith("...") for line in lines) <= 3  # and the report of them
    np.testing.assert_array_equal(np.load(output / "volume.npz")["best"], before)
    assert tifffile.imread(output / "volume.tif").shape == (N, 6, N, N)


def test_another_setting_repeats_what_depends_on_it(files, done, tmp_path):
    output = tmp_path / "copy"
    shutil.copytree(done[0], output)
    lines = []
    reconstruct(settings(files, output, members=3), report=lines.append)
    again = {re.search(r"\] (\w+) \.\.\.", line)[1] for line in lines if line.endswith("...")}
    assert "volume" in again and not again & {"spectra", "standards", "fit", "alignment", "comparison", "half_dose"}
    assert np.load(output / "volume.npz")["members"].shape[0] == 3
    assert "audit.npz" in {path.name for path in output.iterdir()}  # of the run before, of another volume
    assert "Not tested against the data" in (output / "report.html").read_text(encoding="utf-8")


def test_a_step_goes_on_where_it_was_interrupted(tmp_path):
    given, left = tmp_path / "input.txt", []
    given.write_text("1")

    def work(place):
        left.append((place / "half").exists())
        (place / "half").write_text("x")
        if len(left) == 1:
            raise KeyboardInterrupt
        (place / "out.txt").write_text("done")

    def run():
        with pipeline.Folder(tmp_path / "out", report=lambda line: None) as folder:
            return folder.step("work", work, inputs=[given], outputs=["out.txt"])

    with pytest.raises(KeyboardInterrupt):
        run()
    assert not (tmp_path / "out" / "out.txt").exists() and not (tmp_path / "out" / "steps" / "work.json").exists()
    run()
    run()
    assert left == [False, True]
    given.write_text("2")  # another input: what was left is not of it
    run()
    assert left == [False, True, False]


def test_a_step_is_done_again_when_names_or_order_of_its_inputs_change(tmp_path):
    paths, did = [tmp_path / "a.txt", tmp_path / "b.txt"], []
    for path in paths:
        path.write_text(path.name)

    def run(inputs):
        with pipeline.Folder(tmp_path / "out", report=lambda line: None) as folder:
            folder.step("work", lambda place: did.append(inputs), inputs=inputs, outputs=[])

    run(paths)
    run(paths)
    run(paths[::-1])  # given tilts belong to files in their order
    run([paths[1], paths[0].rename(tmp_path / "tilt_-30.txt")])  # names tell tilts
    assert len(did) == 3


def test_a_file_made_again_repeats_nothing_that_reads_it(tmp_path):
    """HyperSpy writes the time into its files: no two are alike."""
    made = []

    def run():
        with pipeline.Folder(tmp_path / "out", report=lambda line: None) as folder:
            folder.step("first", lambda place: write(place, "a"), outputs=["a"])
            folder.step("second", lambda place: write(place, "b"), inputs=[folder["a"]], outputs=["b"])

    def write(place, name):
        made.append(name)
        (place / name).write_text(str(time.time_ns()))

    run()
    (tmp_path / "out" / "a").unlink()
    run()
    assert made == ["a", "b", "a"]
    (tmp_path / "out" / "b").write_text("by another hand")
    run()
    assert made == ["a", "b", "a", "b"]


def test_what_is_not_of_an_earlier_run_is_left_alone(tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "mine.txt").write_text("x")
    maps, other = (tmp_path / f"{name}.npz" for name in ("maps", "other"))
    for k, path in enumerate((maps, other)):
        np.savez(path, projections=np.ones((5, 8, 8)) + k, tilt_angles_deg=TILTS)
    before = maps.read_bytes()
    with pytest.raises(ValueError, match=r"^output: got .* holds maps"):
        reconstruct(Settings.build({"maps": maps, "output": tmp_path}), report=lambda line: None)
    assert maps.read_bytes() == before and not (tmp_path / "steps").exists()
    with pipeline.Folder(tmp_path / "out", report=lambda line: None) as folder:
        folder.step("maps", lambda place: None, inputs=[maps], outputs=[])
    with pytest.raises(ValueError, match=r"^output: got .* results of maps\.npz"):
        reconstruct(Settings.build({"maps": other, "output": tmp_path / "out"}), report=lambda line: None)


def test_tilts_beside_a_stack_gain_and_system_count_as_inputs(files, tmp_path):
    """What a step depends on and its files' hashes do not tell."""
    system = tmp_path / "mine.yml"
    shutil.copy(Path(scattering.__file__).parent / "systems" / "iron_oxides.yml", system)
    stack, sidecar = tmp_path / "maps.tif", tmp_path / "maps.rawtlt"
    tifffile.imwrite(stack, np.ones((5, 8, 8), np.float32))

    def known():
        chain = Chain(Settings.build({"maps": stack, "system": system, "output": tmp_path / "out"}), print, None)
        chain.check()
        return json.dumps(chain.known)

    told = set()
    for angles in ("-60 -30 0 30 60", "-40 -20 0 20 40"):
        sidecar.write_text(angles)
        told.add(known())
    system.write_text(system.read_text().replace("title:", "title: my"))
    told.add(known())
    assert len(told) == 3


def test_one_run_at_a_time(tmp_path):
    with (
        pipeline.Folder(tmp_path, report=lambda line: None),
        pytest.raises(ValueError, match=r"output: got .*another run"),
        pipeline.Folder(tmp_path, report=lambda line: None),
    ):
        pass


def test_a_step_that_finds_the_disk_full_says_so_and_is_done_again(tmp_path):
    def full(place):
        (place / "a.npz").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pipeline.Folder(tmp_path / "out", report=lambda line: None) as folder:
        with pytest.raises(OSError, match=r"^output: got no space left on the disk of .* in the step maps"):
            folder.step("maps", full, outputs=["a.npz"])
        assert folder.record("maps") is None and not folder["a.npz"].exists()
        folder.step("maps", lambda place: (place / "a.npz").write_bytes(b"whole") and None, outputs=["a.npz"])
        assert folder["a.npz"].read_bytes() == b"whole"


@pytest.mark.slow
def test_killed_and_run_again_it_gives_the_same_volume(files, done, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "softeels_utils", "reconstruct", str(files / "low_*.hspy"), "-o", str(output)]
    command += ["--core", str(files / "core_*.hspy")]
    command += [word for name, value in FAST.items() for word in ("-p", name, str(value))]
    environment = os.environ | {"SOFTEELS_HEADLESS": "1"}
    waits = ("steps/spectra.json", ".work/volume/members/member0.npz")  # killed just after each of these appears
    for name in waits:
        run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while not (output / name).exists() and run.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
        run.wait()
    lines = []
    reconstruct(settings(files, output), report=lines.append)
    assert any("spectra: unchanged" in line for line in lines)
    for name in ("best", "std", "systematic"):
        np.testing.assert_array_equal(np.load(output / "volume.npz")[name], np.load(done[0] / "volume.npz")[name])


# ---------------------------------------------------------------- what real series have


def test_values_without_an_error_are_not_measured(tmp_path):
    values = np.ones((2, 5, 3, 4))
    covariance = np.broadcast_to(np.eye(2), (5, 3, 4, 2, 2)).copy()
    values[0, 0, 0, 0] = covariance[1, 0, 0, 0, 0] = np.nan
    covariance[2, 0, 0, 1, 1], covariance[3, 0, 0, 1, 1] = np.inf, 0
    maps = Maps(values, np.array(TILTS), ("a", "b"), covariance)
    assert (~maps.mask).sum() == 4 and not maps.mask[:4, 0, 0].any()
    assert np.isfinite(maps.measurement().covariance).all()
    flat = dict.fromkeys(("reduced_chi2", "residual_rms", "flags"), np.ones((5, 3, 4)))
    flat["background"] = np.ones((5, 3, 4, 1))
    flat["energy_eV"] = np.arange(2.0)
    names = ("γ-Fe2O3", "γ+Fe2O3")
    fit = PhaseFit(np.moveaxis(values, 0, -1), covariance, **flat, phases=names, tilt_angles_deg=np.array(TILTS))
    write_maps(tmp_path / "maps", fit)
    again = data.read_tilt_series(tmp_path / "maps" / "γ-Fe2O3.hspy")
    assert np.isnan(again.projections[0, 0, 0, 0]) and np.isfinite(again.projections[0, 4]).all()
    assert (tmp_path / "maps" / "γ_Fe2O3.hspy").exists()


def test_names_of_files_do_not_meet():
    assert file_names(["Fe(2+)", "Fe(2)", "fe_2", "Fe_2_error", "°"]) == [
        "Fe_2", "Fe_2_2", "fe_2_3", "Fe_2_error_2", "channel"
    ]  # fmt: skip


def test_any_name_and_unit_can_be_written(tmp_path):
    arrays = {name: np.ones((1, 4, 4, 4)) for name in ("best", "std", "systematic")} | {
        "members": np.ones((2, 1, 4, 4, 4))
    }
    write_volume(tmp_path, arrays, ["γ-Fe2O3 " + "long " * 20], None, np.array(TILTS), "µm per voxel")
    (path,) = [path for path in (tmp_path / "mrc").iterdir() if "error" not in path.name]
    with mrcfile.open(path) as file:
        assert file.data.sum() == 64 and file.get_labels()[-1].startswith("?-Fe2O3 long")


def test_modes_that_are_left_out_enlarge_the_others():
    rng = np.random.default_rng(0)
    draws = ReferenceDraws(np.eye(2) + 0.1 * rng.normal(size=(200, 2, 2)))
    maps = Maps(np.ones((2, 5, 3, 3)), np.array(TILTS), ("a", "b"), draws=draws)
    away = {n: maps.reference_draws(n, scale_is_learned=False) - np.eye(2) for n in (2, 4, 8)}
    whole = [(steps**2).sum(axis=(1, 2)).mean() for steps in away.values()]
    np.testing.assert_allclose(whole, (draws.modes**2).sum(), rtol=1e-6)
    assert maps.reference_draws(1, scale_is_learned=False) is None


def test_amounts_are_those_of_the_volume_that_is_kept(tmp_path):
    """A film that leaves the field of view: the columns added for it are in neither."""
    volume = np.zeros((1, 3, 12, 40), np.float32)
    volume[:, :, 4:8] = 1
    projections = ParallelBeam((12, 40), TILTS)(volume)[..., 14:26]
    projections += 0.02 * np.random.default_rng(0).normal(size=projections.shape)
    variance = np.full_like(projections, 4e-4)
    series = data.TiltSeries(projections.astype(np.float32), np.array(TILTS), ("film",), 2.0, variance=variance)
    series.save(tmp_path / "maps.npz")
    wanted = Settings.build({"maps": tmp_path / "maps.npz", "output": tmp_path / "out", "align": False} | FAST)
    chain = Chain(wanted, lambda line: None, None)
    chain.check()
    with chain.folder:
        for step in (chain.maps, chain.alignment, chain.volume):
            step()
        facts = {name: chain.folder.record(name).facts for name in ("alignment", "volume")}
    assert facts["alignment"]["padding"] > 0
    kept = np.load(tmp_path / "out" / "volume.npz")["best"]
    assert kept.shape[-1] == 12
    assert facts["volume"]["amounts"]["value"] == pytest.approx(8 * kept.sum((1, 2, 3)), rel=1e-5)
    assert facts["volume"]["systematic_known"] is False


def test_calibrated_maps_in_nm_want_a_pixel_size(tmp_path):
    series = data.TiltSeries(np.ones((2, 5, 8, 8), np.float32), np.array(TILTS), ("FeO", "Fe3O4"), unit="nm")
    series.save(tmp_path / "maps.npz")
    given = {"maps": tmp_path / "maps.npz", "output": tmp_path / "out", "calibrated": True}
    with pytest.raises(ValueError, match=r"^pixel_size_nm: got None"):
        reconstruct(Settings.build(given), report=lambda line: None)
    assert not (tmp_path / "out" / "steps").exists() or not list((tmp_path / "out" / "steps").iterdir())


def test_a_gain_that_is_not_told_is_estimated_and_said(files):
    low = hs.load([str(file) for file in sorted(files.glob("low_*.hspy"))], stack=True)
    window = (42.0, 88.0)
    assert noise_gain_of(low, None, window) == (1.0, [])
    assert noise_gain_of(low, 3.5, window) == (3.5, [])
    low.data = 6 * low.data
    gain, (warning,) = noise_gain_of(low, None, window)
    assert gain == pytest.approx(6, rel=0.3) and "counts per electron" in warning
    low.data = low.data.astype(np.float32)
    low.data[2, 8, 8] = np.nan
    assert noise_gain_of(low, None, window)[0] == pytest.approx(gain, rel=0.1)
    low.data[:] = 0
    with pytest.raises(ValueError, match=r"^gain"):
        noise_gain_of(low, None, window)


def test_pixels_without_counts_are_refused_by_the_first_step(files, tmp_path):
    for path in files.glob("low_*.hspy"):
        shutil.copy(path, tmp_path)
    spoilt = hs.load(tmp_path / "low_+30.hspy")
    spoilt.change_dtype("float32")
    spoilt.data[2, 3, 5:9] = np.nan
    spoilt.save(tmp_path / "low_+30.hspy", overwrite=True)
    wanted = Settings.build({"low_loss": tmp_path / "low_*.hspy", "core_loss": files / "core_*.hspy"} | FAST)
    with pytest.raises(ValueError, match=r"low_loss: got NaN or infinity in 1 spectra of low_\+30\.hspy"):
        read_spectra(wanted.low_loss, wanted, "low_loss")


def test_spectra_that_no_references_come_from_are_refused(files, tmp_path, monkeypatch):
    """As those of a camera that was saturated far below the zero loss."""

    def fail(*_, **__):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(standards, "extract_standards", fail)
    chain = Chain(settings(files, tmp_path / "out"), lambda _: None, None)
    chain.check()
    with chain.folder:
        chain.spectra()
        with pytest.raises(ValueError, match=r"^standards: got none from these spectra \(SVD .* wants a low loss that"):
            chain.standards()


def test_a_run_that_is_stopped_by_hand_says_how_to_go_on(monkeypatch, capsys):
    def stop(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "_reconstruct", stop)
    assert command_line.main(["reconstruct", "x.hspy"]) == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"


def test_zero_losses_are_aligned_to_whole_channels_and_spikes_removed(files):
    low = data.read_signal(files / "low_+0.hspy")
    stack = hs.stack([low, low])
    step, moved = low.axes_manager.signal_axes[0].scale, stack.deepcopy()
    moved.data = np.roll(moved.data, 3, axis=-1)
    moved.data[1, 4, 5, 400] += 900
    cleaned, images, facts = clean_low_loss(moved, 1.0)
    np.testing.assert_allclose(images["zero_loss_eV"], 3 * step, atol=0.1)
    assert facts["spikes"] == 1
    around = stack.data[1, 4, 5, [393, 394, 400, 401]]  # of the channel that was hit
    assert abs(cleaned.data[1, 4, 5, 397] - around.mean()) < 5 * around.mean() ** 0.5
    rest = [np.delete(signal.data[..., 40:-40], [356, 357, 358], axis=-1) for signal in (cleaned, stack.isig[:-3])]
    np.testing.assert_array_equal(*rest)  # of the end, three channels were not measured
    np.testing.assert_array_equal(images["spikes"], [[1, 4, 5, 397]])
    part = moved.deepcopy()
    part.data[1, 4, 5] = part.data[1, 4, 5] // 100
    plain, again = (clean_low_loss(part, 1.0, known)[0].data[1, 4, 5, 397] for known in (None, images))
    assert again < plain == part.data[1, 4, 5, 400]  # the spike of all counts does not stand out of a part of them


def test_energies_that_start_elsewhere_in_each_file_give_the_same_maps(files, done, tmp_path):
    """Each tilt has other channels, and its zero loss elsewhere; its core loss moved by as much."""
    for k, tilt in enumerate(TILTS):
        for name, cut in (("low", 3 * k), ("core", 5 - k)):
            one = hs.load(files / f"{name}_{tilt:+.0f}.hspy").isig[cut:]
            one.axes_manager.signal_axes[0].offset += 0.3 * k
            one.save(tmp_path / f"{name}_{tilt:+.0f}.hspy")
    chain = Chain(settings(tmp_path, tmp_path / "out"), lambda line: None, None)
    chain.check()
    with chain.folder:
        chain.spectra()
        chain.standards()
        chain.fit()
    facts = {name: step.facts for name, step in chain.folder.steps.items()}
    assert "from -11.8 to 239.7 eV" in facts["spectra"]["energies"]
    assert "from 501.45 to" in facts["standards"]["energies"]
    np.testing.assert_allclose(facts["spectra"]["zero_loss_range_eV"], [0, 1.2], atol=0.13)  # half a channel
    found, wanted = (data.read_tilt_series(folder / "fit.hspy").projections for folder in (chain.folder.path, done[0]))
    assert np.abs(found.sum(0) - wanted.sum(0)).mean() < 0.05 * wanted.sum(0).mean()
    assert np.abs(found.sum((2, 3)) / wanted.sum((2, 3)) - 1).max() < 0.1


def test_shifts_between_tilts_are_found_and_useless_ones_left():
    volume = simulate.core_shell_nanocube(24, 2.0, oversample=2).sum(0, keepdims=True)
    shifts = np.random.default_rng(1).uniform(-2, 2, (7, 2))
    tilts = np.linspace(-60, 60, 7)
    noise = np.random.default_rng(2).normal(scale=0.3, size=(7, 24, 24))
    for true in (shifts, np.zeros((7, 2))):
        images = ParallelBeam(24, tilts, 2.0, shifts_px=true)(volume)[0] + noise
        found, facts = find_geometry(images, tilts)
        assert facts["kept"] == bool(true.any()) and facts["taken"] != "turned"
        assert alignment_error(found["shifts_px"], true, tilts) < 0.3


def test_the_angle_of_the_tilt_axis_is_found_and_used():
    volume = simulate.core_shell_nanocube(32, 2.0, oversample=2).sum(0, keepdims=True)
    tilts = np.linspace(-60, 60, 7)
    noise = np.random.default_rng(2).normal(scale=0.3, size=(7, 32, 32))
    images = ParallelBeam(32, tilts, 2.0, axis_angle_deg=4.0)(volume)[0] + noise
    found, facts = find_geometry(images, tilts)
    assert facts["kept"] and facts["taken"] == "turned"
    assert found["axis_angle_deg"] == pytest.approx(4.0, abs=1.0)


@pytest.mark.parametrize("missing", [np.s_[:, 12:16, 12:16], np.s_[2, :16], np.s_[:, :, :8]])
def test_what_is_not_measured_moves_nothing(missing):
    volume = simulate.core_shell_nanocube(32, 2.0, oversample=2).sum(0, keepdims=True)
    tilts = np.linspace(-60, 60, 7)
    images = ParallelBeam(32, tilts, 2.0)(volume)[0]
    images = images + np.random.default_rng(2).normal(scale=0.3, size=images.shape)
    images[missing] = np.nan
    found, facts = find_geometry(images, tilts)
    assert facts["taken"] == "before" or np.abs(found["shifts_px"]).max() < 0.3
    assert found["axis_angle_deg"] == 0.0


def test_a_tilt_axis_along_x_is_said():
    volume = simulate.core_shell_nanocube(32, 2.0, oversample=2).sum(0, keepdims=True)
    tilts = np.linspace(-70, 70, 9)
    images = ParallelBeam(32, tilts, 2.0)(volume)[0]
    images = images + np.random.default_rng(2).normal(scale=0.3, size=images.shape)
    said = [find_geometry(series, tilts)[1]["warnings"] for series in (images, np.swapaxes(images, 1, 2))]
    assert not said[0] and len(said[1]) == 1 and "turn them by 90°" in said[1][0]


def test_series_of_one_row_have_a_geometry_too():
    tilts = np.linspace(-60, 60, 9)
    slice_ = np.zeros((1, 1, 40, 40), np.float32)
    slice_[0, 0, 10:25, 15:28] = 1
    images = ParallelBeam(40, tilts, shifts_px=np.linspace(-2, 2, 9))(slice_)[0]
    found, facts = find_geometry(images + np.random.default_rng(0).normal(scale=0.1, size=images.shape), tilts)
    assert found["shifts_px"].shape == (9, 2) and facts["axis_angle_error_deg"] is None


def test_withheld_tilts_that_nothing_predicts_are_said():
    assert badly_predicted({"SIRT": 0.9, "joint TV": 0.95, "DIPm-TV": 0.85}, 9) == []
    (better,) = badly_predicted({"SIRT": 1.2, "joint TV": 0.9, "DIPm-TV": 1.1}, 9)
    assert better.startswith("joint TV predicts withheld tilts better")
    (bad,) = badly_predicted({"SIRT": 3.0, "joint TV": 2.5, "DIPm-TV": 2.5}, 9)
    assert "2.5 times" in bad and "out of order" in bad
    assert badly_predicted({"SIRT": 3.0, "joint TV": 2.5, "DIPm-TV": 2.5}, 7) == []


def test_references_that_leave_an_amount_open_are_said():
    amounts = Estimate(np.array([100.0, 200.0]), np.ones(2), np.array([50.0, 10.0]))
    (warning,) = large_systematic(("FeO", "Fe3O4"), amounts)
    assert "FeO uncertain by 50%" in warning


def test_a_void_that_the_network_has_filled_is_said():
    region = np.zeros((8, 8, 8), bool)
    region[2:4, 3:5, 4:6] = True
    feature = dip.Feature("void", "vacuum", region, np.zeros((2, 8, 8, 8)), 9.0, None, 1e-4, shown=False)
    told = dip.Audit((feature, replace(feature, p_value=0.3), replace(feature, shown=True)), 0.05, region)
    (warning,) = missing_voids(told, 2.0)
    assert "a void of about 64 nm³ at voxel (y, z, x) = (2, 4, 4), which the volume does not" in warning
    assert "about 8 voxels" in missing_voids(told, None)[0]


# ---------------------------------------------------------------- maps in other formats


def test_maps_enter_as_tiff_mrc_and_fit(done, tmp_path):
    series = data.read_tilt_series(done[0] / "fit.hspy")
    tifffile.imwrite(tmp_path / "maps.tif", series.projections[0])
    with mrcfile.new(tmp_path / "maps.mrc") as file:
        file.set_data(series.projections[0])
        file.voxel_size = 10 * PIXEL_NM
    (tmp_path / "maps.rawtlt").write_text("\n".join(map(str, TILTS)))
    shutil.copy(done[0] / "fit.hspy", tmp_path / "fit.hspy")
    fast = FAST | {"iterations": 3}
    for name, more in (
        ("maps.tif", {"tilt_angles_deg": TILTS}),
        ("maps.mrc", {"pixel_size_nm": 4.0}),
        ("fit.hspy", {}),
    ):
        given = Settings.build({"maps": tmp_path / name, "output": tmp_path / f"out_{name}"} | fast | more)
        assert reconstruct(given, report=lambda line: None).exists()
        arrays = np.load(tmp_path / f"out_{name}" / "volume.npz")
        assert arrays["best"].shape == ((2 if name == "fit.hspy" else 1), N, N, N) and np.isfinite(arrays["std"]).all()
        assert bool(arrays["systematic"].any()) == (name == "fit.hspy")  # only a fit knows its references' errors
        report = (tmp_path / f"out_{name}" / "report.html").read_text(encoding="utf-8")
        assert ("references cause are not known" in report) == (name != "fit.hspy")


def test_fits_of_single_tilts_enter_as_a_folder(done, tmp_path):
    fit = PhaseFit.load(done[0] / "fit.hspy")
    per_pixel = ("coefficients", "covariance", "background", "reduced_chi2", "residual_rms", "flags")
    for k, tilt in enumerate(TILTS):
        one = {name: getattr(fit, name)[k] for name in per_pixel}
        later = dict.fromkeys(("edge_counts", "binned_residual", "energy_errors", "tilt_angles_deg"))
        replace(fit, **one, **later).save(tmp_path / f"fit_{tilt:+.0f}deg.hspy")
    series = data.read_tilt_series(tmp_path)
    assert series.channels == fit.phases and series.unit == "nm" and series.pixel_size_nm == PIXEL_NM
    np.testing.assert_array_equal(series.projections, np.moveaxis(fit.coefficients, -1, 0).astype(np.float32))
    np.testing.assert_array_equal(series.covariance, fit.covariance)


def test_what_was_not_measured_stays_so(tmp_path):
    values = np.random.default_rng(0).random((2, 5, 8, 8)).astype(np.float32)
    values[0, 2, 5, 5] = np.nan
    Maps(values, np.array(TILTS), ("a", "b"), pixel_size_nm=1.0).save(tmp_path / "maps.npz")
    kept = Maps.load(tmp_path / "maps.npz")
    assert not kept.mask[2, 5, 5] and kept.mask.sum() == kept.mask.size - 1 and "mask" in kept.stated()


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_maps_of_nothing_are_refused(tmp_path, value):
    np.savez(tmp_path / "maps.npz", projections=np.full((2, 5, 8, 8), value), tilt_angles_deg=TILTS)
    assert pipeline.inspect(tmp_path / "maps.npz").kind == "maps"
    with pytest.raises(ValueError, match=r"^maps: got no positive sum in maps\.npz"):
        reconstruct(Settings.build({"maps": tmp_path / "maps.npz", "output": tmp_path / "out"}), report=print)


def test_the_command_line_says_how_maps_enter(tmp_path, capsys):
    for tilt in TILTS:
        tifffile.imwrite(tmp_path / f"map_{tilt:+.0f}deg.tif", np.ones((8, 8), np.float32))
    assert pipeline.inspect(tmp_path).facts["tilts"] == "5, -60° to 60°"
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 and no more")
    for given, wanted in (([str(tmp_path / "map_*.tif")], "the folder"), ([str(broken)], "LOW: got broken.npz")):
        assert command_line.main(["reconstruct", *given]) == 2
        assert wanted in capsys.readouterr().err


@pytest.mark.slow
def test_spectra_are_fitted_on_a_cluster_with_the_same_result(files, done, tmp_path):
    from dask.distributed import Client, LocalCluster

    output = shutil.copytree(done[0], tmp_path / "out")
    (output / "fit.hspy").unlink()
    lines = []
    with (
        LocalCluster(n_workers=2, **CLUSTER) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        chain = Chain(settings(files, output), lines.append, client)
        chain.check()
        with chain.folder:
            chain.spectra()
            chain.standards()
            chain.fit()
        assert any(client.run(lambda: "softeels_utils.fitting.fit" in sys.modules).values())
    plain, spread = (PhaseFit.load(folder / "fit.hspy") for folder in (done[0], output))
    for name in ("coefficients", "covariance", "background", "reduced_chi2", "residual_rms"):
        np.testing.assert_allclose(getattr(spread, name), getattr(plain, name), rtol=1e-7, atol=1e-9, err_msg=name)
    np.testing.assert_array_equal(spread.flags, plain.flags)
    facts = [json.loads((folder / "steps" / "fit.json").read_text())["facts"] for folder in (done[0], output)]
    volumes = [one.pop("volumes_nm3") for one in facts]
    assert volumes[0] == {name: pytest.approx(value) for name, value in volumes[1].items()}
    assert facts[0].pop("reduced_chi2") == pytest.approx(facts[1].pop("reduced_chi2")) and facts[0] == facts[1]


@pytest.mark.parametrize("place", ["option", "variable", "configuration"])
def test_the_scheduler_is_named_in_one_of_three_places(files, tmp_path, capsys, monkeypatch, place):
    import dask

    def refuse(address, **_):
        raise OSError(f"nobody at {address}")

    given = [
        "reconstruct",
        str(files / "low_*.hspy"),
        "--core",
        str(files / "core_*.hspy"),
        "-o",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr("dask.distributed.Client", refuse)
    monkeypatch.delenv("SOFTEELS_SCHEDULER", raising=False)
    if place == "option":
        given += ["--scheduler", "tcp://10.0.0.5:1"]
    elif place == "variable":
        monkeypatch.setenv("SOFTEELS_SCHEDULER", "tcp://10.0.0.5:1")
    with dask.config.set({"scheduler-address": "tcp://10.0.0.5:1"} if place == "configuration" else {}):
        assert command_line.main(given) == 2
    assert "--scheduler: got tcp://10.0.0.5:1, wants a Dask scheduler that answers" in capsys.readouterr().err


def test_core_loss_of_one_tilt_is_enough(files, tmp_path):
    given = settings(files, tmp_path / "out", core_loss=files / "core_+30.hspy")
    core = read_spectra(given.core_loss, given, "core_loss", lazy=True)
    assert core.data.shape == (1, N, N, 1024) and data.get_tilts(core) == [30]
    Chain(given, print, None).check()


def test_standards_enter_on_another_axis_and_those_of_another_system_do_not(files, done, tmp_path):
    found = standards.Standards.load(done[0] / "standards.npz")
    found.on(np.arange(-10.0, 120.0, 0.5)).save(tmp_path / "coarse.npz")
    replace(found, system="manganese_oxides").save(tmp_path / "other.npz")
    few = {"core_loss": None, "half_dose": False, "reference_members": 0, "iterations": 2}
    given = settings(files, tmp_path / "out", standards=tmp_path / "coarse.npz", **few)
    reconstruct(given, report=lambda line: None)
    maps = [data.read_tilt_series(folder / "fit.hspy").projections.sum(0) for folder in (tmp_path / "out", done[0])]
    np.testing.assert_allclose(*maps, atol=0.05 * maps[1].max())
    with pytest.raises(ValueError, match=r"^standards: got those of manganese_oxides"):
        reconstruct(replace(given, standards=tmp_path / "other.npz"), report=lambda line: None)


# ---------------------------------------------------------------- what files hold


def test_inspection_tells_kinds_and_what_is_missing(files, done, tmp_path, capsys):
    kinds = {"low_+0.hspy": "low loss", "core_+0.hspy": "core loss"}
    for name, kind in kinds.items():
        found = pipeline.inspect(files / name)
        assert found.kind == kind and found.facts["pixel size"] == "4 nm" and found.facts["tilts"] == "0°"
    assert pipeline.inspect(done[0] / "fit.hspy").kind == "maps"
    assert pipeline.inspect(done[0] / "standards.npz").kind == "standards"
    low = hs.load(files / "low_+0.hspy")
    counts = low.data
    low.data = np.minimum(counts - 5, 40)
    low.save(tmp_path / "bad.hspy")
    problems = " ".join(pipeline.inspect(tmp_path / "bad.hspy").problems)
    assert "negative" in problems
    low.data = np.minimum(counts, 0.3 * counts.max())  # the zero loss
    low.save(tmp_path / "bad.hspy", overwrite=True)
    (problem,) = [told for told in pipeline.inspect(tmp_path / "bad.hspy").problems if "saturated" in told]
    assert "% of the spectra" in problem
    assert not [told for told in pipeline.inspect(files / "low_+0.hspy").problems if "saturated" in told]
    (tmp_path / "other.hspy").write_bytes(b"nothing")
    assert pipeline.inspect(tmp_path / "other.hspy").kind == "unknown"
    page, written = tmp_path / "page.html", tmp_path / "settings.yml"
    arguments = ["inspect", str(files / "*_+*.hspy"), "--html", str(page), "--write", str(written)]
    assert command_line.main(arguments) == 0
    assert "low_+30.hspy: low loss, as low_+0.hspy but for" in capsys.readouterr().out
    assert page.read_text().count("<img") == 6
    assert "# tilt_angles_deg:   # the files say 0°, 30°, 60°\n" in written.read_text()
    assert "-0.00" not in pipeline.inspect(files / "low_+0.hspy").facts["zero loss at"]
    again = Settings.from_file(written)
    assert len(again.low_loss) == len(again.core_loss) == 3 and again.output == tmp_path / "softeels_output"
    assert command_line.main(arguments) == 2  # the settings are there already
    assert command_line.main(["inspect", str(page), "--html", str(written)]) == 2  # no page: a file of the user's
    odd = tmp_path / "no. #3: x"
    odd.mkdir()
    shutil.copy(files / "low_+0.hspy", odd)
    pipeline.write_settings([pipeline.inspect(odd / "low_+0.hspy")], tmp_path / "odd.yml", "manganese_oxides")
    assert "manganese_oxides" in (tmp_path / "odd.yml").read_text()
    assert yaml.safe_load((tmp_path / "odd.yml").read_text())["low_loss"] == ["no. #3: x/low_+0.hspy"]


BAD = {
    "nothing": ({"low_loss": None}, "low_loss"),
    "no such file": ({"low_loss": "nowhere_*.hspy"}, "low_loss"),
    "a number for a path": ({"standards": 3}, "standards"),
    "no standards": ({"core_loss": None}, "standards"),
    "half a pair": ({"core_loss": None, "standards_low_loss": "low_+0.hspy"}, "standards_core_loss"),
    "tilts in radians": ({"tilt_angles_deg": [-1.0, -0.5, 0, 0.5, 1.0]}, "tilt_angles_deg"),
    "tilts of another number": ({"tilt_angles_deg": [0, 20]}, "tilt_angles_deg"),
    "tilts twice": ({"tilt_angles_deg": [0, 0, 20, 30, 40]}, "tilt_angles_deg"),
    "negative pixel": ({"pixel_size_nm": -1}, "pixel_size_nm"),
    "NaN gain": ({"gain": float("nan")}, "gain"),
    "one member": ({"members": 1}, "members"),
    "half a member": ({"members": 2.5}, "members"),
    "unknown head": ({"head": "both"}, "head"),
    "unknown system": ({"system": "unobtainium"}, "system"),
    "unknown setting": ({"colour": "red"}, "settings"),
    "calibrated values": ({"calibrated": True, "head": "nonnegative"}, "calibrated"),
    "core loss as low loss": ({"low_loss": "core_*.hspy"}, "low_loss"),
    "low loss as core loss": ({"core_loss": "low_*.hspy"}, "core_loss"),
    "standards that are none": ({"standards": "truth.npy"}, "standards"),
    "standards from a core loss": (
        {"standards_low_loss": "core_+0.hspy", "standards_core_loss": "low_+0.hspy"},
        "standards_low_loss",
    ),
    "tilts in a file that is no text": ({"tilt_angles_deg": "low_+0.hspy"}, "tilt_angles_deg"),
    "tilts as long text": ({"tilt_angles_deg": "-60.000 " * 61}, "tilt_angles_deg"),
    "tiny gain": ({"gain": 1e-300}, "gain"),
}


@pytest.mark.parametrize(("changes", "name"), BAD.values(), ids=BAD)
def test_bad_settings_are_refused_before_the_work(files, tmp_path, monkeypatch, changes, name):
    monkeypatch.chdir(files)
    values = {"low_loss": "low_*.hspy", "core_loss": "core_*.hspy", "output": tmp_path / "out"} | FAST | changes
    began = time.monotonic()
    with pytest.raises(ValueError, match=rf"^{name}"):
        reconstruct(Settings.build(values), report=lambda line: None)
    assert time.monotonic() - began < 20 and not list((tmp_path / "out").glob("*.npz"))


def test_output_that_cannot_be_written_is_refused(files, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="output"):
        reconstruct(settings(files, tmp_path / "file" / "out"), report=lambda line: None)


def test_a_home_that_cannot_be_written_is_said_before_the_work(tmp_path):
    np.savez(tmp_path / "maps.npz", projections=np.ones((1, 5, 8, 8)), tilt_angles_deg=TILTS)
    (tmp_path / "home").write_text("no folder")
    command = [sys.executable, "-m", "softeels_utils", "reconstruct", "maps.npz", "-o", "out"]
    home = {"HOME": str(tmp_path / "home"), "USERPROFILE": str(tmp_path / "home"), "MPLCONFIGDIR": str(tmp_path)}
    root = {"PYTHONPATH": str(Path(pipeline.__file__).parents[2])}
    run = subprocess.run(
        command, cwd=tmp_path, env=os.environ | home | root, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 1 and "set HOME" in run.stderr and "Traceback" not in run.stderr, run.stderr


def test_paths_in_a_settings_file_start_from_its_folder(files, tmp_path, monkeypatch):
    shutil.copytree(files, tmp_path / "series")
    text = "low_loss: series/low_*.hspy\ncore_loss: [series/core_+0.hspy]\nmembers: 2\noutput: here\n"
    (tmp_path / "settings.yml").write_text(text)
    monkeypatch.chdir(files)
    given = Settings.from_file(tmp_path / "settings.yml", {"members": 3, "output": None})
    assert given.output == tmp_path / "here" and given.members == 3 and Path(given.core_loss[0]).parent.name == "series"
    for text in ("[1, 2]", "low_loss: [", "x"):
        (tmp_path / "bad.yml").write_text(text)
        with pytest.raises(ValueError, match="path"):
            Settings.from_file(tmp_path / "bad.yml")
