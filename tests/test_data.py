import functools
import hashlib
import http.server
import json
import re
import struct
import threading
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from softeels_utils import data
from softeels_utils.data import sets
from softeels_utils.spectra.arrays import step_nm

needs = {
    name: pytest.mark.skipif(not data.is_cached(name), reason=f"{name} is not in the cache") for name in data.registry()
}


@pytest.fixture
def series():
    rng = np.random.default_rng(0)
    projections = rng.random((2, 3, 6, 5)).astype(np.float32)
    tilts = np.array([-60.0, 1.5, 70.0])
    covariance = np.moveaxis(projections, 0, -1)[..., None] ** 2 * np.array([[1, -0.9], [-0.9, 1]])
    covariances = {"variance": projections**2, "covariance": covariance}
    return data.TiltSeries(projections, tilts, ("FeO", "Fe3O4"), pixel_size_nm=0.4, unit="nm", **covariances)


def test_registry_is_complete():
    for name, entry in data.registry().items():
        assert entry.reader in sets.READERS and entry.licence and entry.citation and entry.kind == "measured"
        for file in entry.files:
            pinned = re.search(r"/[0-9a-f]{40}/|zenodo\.org/records/\d+/", file["url"])
            assert pinned, f"{name}: address not pinned to a commit or a published record"
            hashed = len(file.get("sha256", "")) == 64 or len(file.get("md5", "")) == 32
            assert name == "paper_nanocube" or (hashed and file["bytes"] > 0)


def test_unknown_name():
    with pytest.raises(ValueError, match="name: got 'nonsense', wants one of nanocube_si"):
        data.load("nonsense")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A data set of one file served over HTTP, and an empty cache."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.bin").write_bytes(b"one thing")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "web")
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    file = {"path": "toy/a.bin", "url": f"http://127.0.0.1:{server.server_port}/a.bin"}
    monkeypatch.setenv("SOFTEELS_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(sets, "registry", lambda: {"toy": data.Dataset("toy", "", "", "", "", "", "", (file,))})
    yield file, tmp_path
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_fetch_downloads_once_and_checks_the_hash(served, kind):
    file, folder = served
    file[kind] = hashlib.new(kind, b"one thing").hexdigest()
    assert not data.is_cached("toy")
    path = data.fetch("toy")["a.bin"]
    assert path.read_bytes() == b"one thing" and data.is_cached("toy")
    (folder / "web" / "a.bin").unlink()
    assert data.fetch("toy")["a.bin"] == path


@pytest.mark.parametrize("kind, length", [("sha256", 64), ("md5", 32)])
def test_fetch_refuses_a_wrong_hash(served, kind, length):
    file, folder = served
    file[kind] = "0" * length
    with pytest.raises(data.DataUnavailable, match=r"a\.bin"):
        data.fetch("toy")
    assert not (folder / "cache" / "toy" / "a.bin").exists()


def test_first_download_records_an_unknown_hash(served):
    _, folder = served
    data.fetch("toy")
    recorded = folder / "cache" / "toy" / "a.bin.sha256"
    assert recorded.read_text().split()[0] == hashlib.sha256(b"one thing").hexdigest()
    (folder / "cache" / "toy" / "a.bin").write_bytes(b"another")  # changed behind our back, and not to be had again
    (folder / "web" / "a.bin").write_bytes(b"another")
    with pytest.raises(data.DataUnavailable):
        data.fetch("toy")


def test_a_cache_that_cannot_be_written_serves_what_it_holds(served, monkeypatch):
    _, folder = served
    (folder / "cache" / "toy").mkdir(parents=True)
    (folder / "cache" / "toy" / "a.bin").write_bytes(b"one thing")

    def refuse(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    assert data.fetch("toy")["a.bin"].read_bytes() == b"one thing"


def test_offline_switch(served, monkeypatch):
    monkeypatch.setenv("SOFTEELS_OFFLINE", "1")
    with pytest.raises(data.DataUnavailable, match="SOFTEELS_OFFLINE"):
        data.fetch("toy")


@pytest.fixture
def paper_cache(tmp_path, monkeypatch):
    import tifffile

    def write(shape=(9, 112, 112), scale=1.0):
        rng = np.random.default_rng(1)
        for name, top in data.PAPER_MAXIMA.items():
            stack = rng.random(shape).astype(np.float32)
            path = tmp_path / "paper_nanocube" / f"{name}_proj.tif"
            path.parent.mkdir(exist_ok=True)
            tifffile.imwrite(path, stack / stack.max() * np.float32(top * scale))

    monkeypatch.setenv("SOFTEELS_DATA", str(tmp_path))
    return write


def test_paper_stacks_of_the_stated_form(paper_cache):
    paper_cache()
    series = data.load("paper_nanocube")
    assert series.projections.shape == (2, 9, 112, 112) and series.channels == ("FeO", "Fe3O4")
    assert series.projections.max((1, 2, 3)) == pytest.approx(list(data.PAPER_MAXIMA.values()))
    assert series.tilt_angles_deg[[0, 4, -1]].tolist() == [-69.5, 0.0, 70.0]


@pytest.mark.parametrize("wrong", [{"shape": (8, 112, 112)}, {"scale": 2.0}])
def test_paper_stacks_of_another_form_are_refused(paper_cache, wrong):
    paper_cache(**wrong)
    with pytest.raises(ValueError, match=r"FeO_proj\.tif: got .* wants"):
        data.load("paper_nanocube")


FUSED_TILTS = np.array([-64, -48, -32, -16, 0, 16, 32, 48, 64], np.float32)


@pytest.fixture
def fused(tmp_path, monkeypatch):
    """Writes an archive like that of the Co3O4-Mn3O4 series: nothing of it is in the real one but names and shapes."""
    import h5py

    (path,) = {
        file["path"] for name in ("co3o4_mn3o4_coarse", "co3o4_mn3o4_raw") for file in data.registry()[name].files
    }
    monkeypatch.setenv("SOFTEELS_DATA", str(tmp_path))
    monkeypatch.setattr(sets, "fetch", lambda name: {"fused.zip": tmp_path / path})

    def write(side, member, *, tilts=FUSED_TILTS, images=None, elements=("Co", "Mn", "O"), copies=1, others=()):
        rng, inside = np.random.default_rng(4), tmp_path / "inside.h5"
        with h5py.File(inside, "w") as file:
            for name in (*elements, *others):
                file[f"eels/{name}"] = rng.random((side, side, len(tilts)), np.float32)
            file["eels/tiltAngles"] = tilts
            images = np.linspace(-70, 70, 31, dtype=np.float32) if images is None else images
            file["haadf/tiltSeries"] = np.broadcast_to(images, (side, side, len(images))).astype(np.float32)
            file["haadf/tiltAngles"] = images
            arrays = {name: file[f"eels/{name}"][:] for name in (*elements, *others)}
        (tmp_path / path).parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / path, "w") as archive:
            for k in range(copies):
                archive.write(inside, f"fusion/Tilt_Series_{k}/{member}")
            archive.writestr(f"__MACOSX/fusion/._{member}", b"of a Mac")
        return arrays

    return write


def test_fused_series_as_recorded(fused):
    arrays = fused(400, "raw_tilt_series.h5", others=("haadf", "maadf", "tiltSeries", "previewStack"))
    series = data.load("co3o4_mn3o4_raw")
    assert series.projections.shape == (3, 9, 400, 400) and series.channels == ("Co", "Mn", "O")
    assert series.tilt_angles_deg.tolist() == FUSED_TILTS.tolist()
    assert series.pixel_size_nm is None and not series.unit
    np.testing.assert_array_equal(series.projections[1, 2], arrays["Mn"][..., 2])
    np.testing.assert_array_equal(series.haadf[5], arrays["haadf"][..., 5])


@pytest.mark.parametrize("seen", [True, False])
def test_fused_series_cropped(fused, seen):
    """The dark-field images at the tilts of the maps, where the longer series has them all."""
    images = np.linspace(-76, 76, 39, dtype=np.float32)
    fused(345, "Exp_1_coarse_tilt_series.h5", images=images if seen else images + 1)
    series = data.load("co3o4_mn3o4_coarse")
    assert series.projections.shape == (3, 9, 345, 345)
    assert (series.haadf is not None) == seen
    if seen:
        assert series.haadf[:, 0, 0].tolist() == FUSED_TILTS.tolist()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"side": 344}, r"got \(9,\): tiltAngles; \(31,\): tiltAngles, wants maps Co, Mn, O of shape \(345, 345, 9\)"),
        ({"elements": ("Co", "Fe", "O")}, "Co, Fe, O.* wants maps Co, Mn, O"),
        ({"tilts": FUSED_TILTS[:8]}, "and 9 angles"),
        ({"tilts": np.deg2rad(FUSED_TILTS)}, "tilt_angles_deg: got"),
        ({"copies": 2}, "got 2 files Exp_1_coarse_tilt_series.h5, wants one"),
        ({"member": "other.h5"}, "got 0 files Exp_1_coarse_tilt_series.h5, wants one"),
    ],
)
def test_archives_without_the_fused_series_are_refused(fused, changes, message):
    fused(**{"side": 345, "member": "Exp_1_coarse_tilt_series.h5"} | changes)
    with pytest.raises(ValueError, match=message):
        data.load("co3o4_mn3o4_coarse")


def test_a_fused_archive_that_is_cut_is_refused(fused, tmp_path):
    fused(345, "Exp_1_coarse_tilt_series.h5")
    (path,) = (tmp_path / "fused_tomography").iterdir()
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"\.zip: got .*, wants a zip archive"):
        data.load("co3o4_mn3o4_coarse")


def test_a_fused_member_that_is_no_hdf5_is_refused(fused, tmp_path):
    fused(345, "other.h5")
    (path,) = (tmp_path / "fused_tomography").iterdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Exp_1_coarse_tilt_series.h5", b"not one")
    with pytest.raises(ValueError, match="wants an HDF5 file"):
        data.load("co3o4_mn3o4_coarse")


@pytest.mark.parametrize("suffix", [".hspy", ".zspy", ".npz"])
def test_tilt_series_round_trip(series, tmp_path, suffix):
    path = tmp_path / f"series{suffix}"
    series.save(path)
    back = data.read_tilt_series(path)
    np.testing.assert_array_equal(back.projections, series.projections)
    np.testing.assert_array_equal(back.tilt_angles_deg, series.tilt_angles_deg)
    np.testing.assert_array_equal(back.variance, series.variance)
    np.testing.assert_array_equal(back.covariance, series.covariance)
    assert back.unit == "nm" and type(back.unit) is str
    assert back.channels == series.channels and back.pixel_size_nm == pytest.approx(0.4)


@pytest.mark.parametrize("suffix", [".hspy", ".npz"])
@pytest.mark.parametrize("scalar", [True, False])
def test_variance_of_a_single_channel(series, tmp_path, suffix, scalar):
    """A stack (T, Y, X) and its variance, stored beside it or as one number, become (1, T, Y, X)."""
    import hyperspy.api as hs

    path, stack = tmp_path / f"stack{suffix}", series.projections[0]
    signal = hs.signals.Signal2D(stack)
    if scalar:
        signal.metadata.set_item("Signal.Noise_properties.variance", 4.0)
    else:
        signal.estimate_poissonian_noise_variance()
    expected = np.full(stack.shape, 4.0) if scalar else stack
    if suffix == ".npz":
        np.savez(path, projections=stack, variance=4.0 if scalar else stack)
    else:
        signal.save(path)
    back = data.read_tilt_series(path, tilt_angles_deg=series.tilt_angles_deg)
    assert isinstance(back.variance, np.ndarray) and back.projections.shape == (1, *stack.shape)
    np.testing.assert_allclose(back.variance, expected[None])


def test_shapes_that_do_not_match_are_named(series):
    projections, tilts, channels = series.projections, series.tilt_angles_deg, series.channels
    with pytest.raises(ValueError, match=r"variance: got shape .*, wants that of the projections"):
        data.TiltSeries(projections, tilts, channels, variance=projections[0])
    for haadf in (projections, projections[0, :2]):
        with pytest.raises(ValueError, match=r"haadf: got shape .*, wants \(3, Y, X\)"):
            data.TiltSeries(projections, tilts, channels, haadf=haadf)
    finer = np.repeat(projections[0], 2, axis=-1)  # an image of smaller pixels than the maps
    assert data.TiltSeries(projections, tilts, channels, haadf=finer).haadf is finer


def test_archives_with_the_former_name_of_the_pixel_size(series, tmp_path):
    np.savez(tmp_path / "old.npz", projections=series.projections, tilt_angles_deg=[-60, 1.5, 70], pixel_nm=0.4)
    assert data.read_tilt_series(tmp_path / "old.npz").pixel_size_nm == 0.4


def test_a_series_is_not_saved_as_another_kind_of_file(series, tmp_path):
    with pytest.raises(ValueError, match=r"path: got series\.txt, wants a name that ends in \.hspy or \.zspy or \.npz"):
        series.save(tmp_path / "series.txt")
    with pytest.raises(ValueError, match=r"path: got .* in a folder that cannot be written"):
        series.save(tmp_path / "nowhere" / "series.npz")


def _write_mrc(path, stack):
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, stack.shape[2], stack.shape[1], stack.shape[0], 2)
    struct.pack_into("<3i", header, 28, *stack.shape[::-1])
    struct.pack_into("<3f", header, 40, *(4.0 * size for size in stack.shape[::-1]))  # 4 angstrom a pixel
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    header[208:216] = b"MAP DA\x00\x00"
    path.write_bytes(bytes(header) + stack.astype("<f4").tobytes())


@pytest.mark.parametrize("suffix", [".mrc", ".tif"])
def test_stack_with_angles_beside_it(series, tmp_path, suffix):
    import tifffile

    path, stack = tmp_path / f"stack{suffix}", series.projections[0]
    _write_mrc(path, stack) if suffix == ".mrc" else tifffile.imwrite(path, stack, photometric="minisblack")
    with pytest.raises(ValueError, match=r"tilt_angles_deg: .*rawtlt"):
        data.read_tilt_series(path)
    path.with_suffix(".rawtlt").write_text("-60\n1.5\n70\n")
    back = data.read_tilt_series(path)
    assert back.tilt_angles_deg.tolist() == [-60, 1.5, 70]
    np.testing.assert_array_equal(back.projections[0], stack)
    with pytest.raises(ValueError, match=r"tilt_angles_deg: got shape \(2,\), wants \(3,\)"):
        data.read_tilt_series(path, tilt_angles_deg=[0, 1])


def test_emd_stack(series, tmp_path):
    import hyperspy.api as hs

    path = tmp_path / "stack.emd"
    signal = hs.signals.Signal2D(series.projections[0])
    signal.axes_manager[0].name = "tilt"
    signal.axes_manager[0].offset, signal.axes_manager[0].scale = -60, 5
    signal.save(path)
    np.testing.assert_array_equal(data.read_tilt_series(path, tilt_angles_deg=[-60, 0, 60]).projections[0], signal.data)


def test_files_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        data.read_tilt_series(tmp_path / "none.hspy")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(ValueError, match=r"kind '\.txt' .* wants one of"):
        data.read_signal(text)
    broken = tmp_path / "broken.hspy"
    broken.write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match=r"path: got broken\.hspy, wants a file that can be read"):
        data.read_signal(broken)


@pytest.mark.parametrize("unit", [None, "eV"])
def test_spectra_are_not_a_tilt_series_of_maps(tmp_path, unit):
    import hyperspy.api as hs

    path, spectra = tmp_path / "spectra.hspy", np.ones((3, 4, 5, 8))
    signal = hs.signals.Signal1D(spectra) if unit is None else hs.signals.Signal2D(spectra)
    if unit:
        signal.axes_manager[-1].units = unit  # an energy axis, whatever the kind of signal
    signal.save(path)
    with pytest.raises(ValueError, match="energy axis"):
        data.read_tilt_series(path)


# ---------------------------------------------------------------- where tilts are found

ANGLES = [-60.0, 1.5, 70.0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("stack.rawtlt", "# tilts of stack\n-60\n1.5   // the middle\n\n70"),
        ("stack.mrc.rawtlt", "\ufeff-60,0\r\n1,5\r\n70,0\r\n"),
        ("stack.tlt", "  -60.00\n   1.50\n  70.00\n"),
        (
            "stack.mrc.mdoc",
            "PixelSpacing = 4\n" + "".join(f"[ZValue = {k}]\nTiltAngle = {a}\n" for k, a in enumerate(ANGLES)),
        ),
        (
            "stack.mrc.mdoc",
            "".join(f"[ZValue = {k}]\nTiltAngle = {ANGLES[k]}\n" for k in (2, 0, 1)),
        ),
    ],
)
def test_angles_in_files_beside_a_stack(series, tmp_path, name, text):
    _write_mrc(tmp_path / "stack.mrc", series.projections[0])
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert data.read_tilt_series(tmp_path / "stack.mrc").tilt_angles_deg.tolist() == ANGLES


@pytest.mark.parametrize(
    "text", ["-60\nseventy\n70", "-60 1.5 70x", "-1.05\n0\n1.2", "0\n0\n70", "-60\n500\n70", "-60\n70"]
)
def test_angles_that_are_none_are_refused(series, tmp_path, text):
    _write_mrc(tmp_path / "stack.mrc", series.projections[0])
    (tmp_path / "stack.rawtlt").write_text(text)
    with pytest.raises(ValueError, match=r"^tilt_angles_deg: got .*wants"):
        data.read_tilt_series(tmp_path / "stack.mrc")


@pytest.mark.parametrize("suffix", [".st", ".ali", ".rec", ".mrcs"])
def test_mrc_files_by_their_other_names(series, tmp_path, suffix):
    path = tmp_path / f"stack{suffix}"
    _write_mrc(path, series.projections[0])
    back = data.read_tilt_series(path, tilt_angles_deg=ANGLES)
    np.testing.assert_array_equal(back.projections[0], series.projections[0])
    assert back.pixel_size_nm == pytest.approx(0.4)


@pytest.mark.parametrize(("unit", "factor"), [("degrees", 1.0), ("rad", np.pi / 180), ("mrad", np.pi / 0.18)])
@pytest.mark.parametrize("suffix", [".hspy", ".emd"])
def test_angles_of_an_axis_are_converted_by_their_unit(series, tmp_path, unit, factor, suffix):
    import hyperspy.api as hs

    signal = hs.signals.Signal2D(series.projections[0])
    signal.axes_manager[0].name, signal.axes_manager[0].units = "angle", unit
    signal.axes_manager[0].offset, signal.axes_manager[0].scale = -60 * factor, 60 * factor
    signal.save(tmp_path / f"stack{suffix}")
    tilts = data.read_tilt_series(tmp_path / f"stack{suffix}").tilt_angles_deg
    np.testing.assert_allclose(tilts, [-60, 0, 60], atol=1e-4)


def test_a_full_disk_is_told_before_hdf5_meets_its_end(series, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    with pytest.raises(OSError, match=r"path: got a disk with 1\.05 MB left .*, wants 1\.05 MB: free some"):
        series.save(tmp_path / "maps.hspy")
    assert not list(tmp_path.iterdir())


def test_scattering_angles_are_no_tilts(series, tmp_path):
    import hyperspy.api as hs

    signal = hs.signals.Signal2D(np.repeat(series.projections[0], 70, axis=0))
    axis = signal.axes_manager[0]
    axis.name, axis.units, axis.scale = "bin_outer_angle", "mrad", 1.0  # 210 mrad are 12°
    for suffix in (".hspy", ".emd"):
        signal.save(tmp_path / f"stack{suffix}")
        with pytest.raises(ValueError, match="tilt_angles_deg: got none"):
            data.read_tilt_series(tmp_path / f"stack{suffix}")


def test_fourier_transforms_beside_images_are_left_out(series, tmp_path):
    import h5py
    import hyperspy.api as hs

    image = series.projections[0]
    for name, values in (("image", image), ("transform", np.fft.fft2(np.repeat(image, 2, axis=0)))):
        hs.signals.Signal2D(values).save(tmp_path / f"{name}.hspy")
    with pytest.raises(ValueError, match=r"path: got complex64 values in transform\.hspy, wants real numbers"):
        data.read_signal(tmp_path / "transform.hspy")
    with h5py.File(tmp_path / "image.hspy", "a") as file, h5py.File(tmp_path / "transform.hspy") as other:
        (group,) = other["Experiments"].values()
        other.copy(group, file["Experiments"], "transform")
    np.testing.assert_array_equal(data.read_signal(tmp_path / "image.hspy").data, image)


@pytest.mark.parametrize(("stated", "told"), [(19, "wants 19.* NPOINTS says"), (21, "it is cut")])
def test_numbers_of_channels_that_contradict_each_other_are_told(tmp_path, stated, told):
    import hyperspy.api as hs

    path = tmp_path / "spectrum.msa"
    hs.signals.Signal1D(np.arange(20.0)).save(path)
    assert data.read_signal(path).data.shape == (20,)
    path.write_text(re.sub(r"(#NPOINTS *: *)20", rf"\g<1>{stated}", path.read_text()))
    with pytest.raises(ValueError, match=f"path: got 20 channels.*{told}"):
        data.read_signal(path)


def test_stacks_of_pictures_in_colour_are_refused_before_their_tilts(tmp_path):
    import hyperspy.api as hs

    signal = hs.signals.Signal1D(np.zeros((3, 6, 5, 3), np.uint8))
    signal.change_dtype("rgb8")
    signal.save(tmp_path / "stack.hspy")
    with pytest.raises(ValueError, match=r"^path \(stack\.hspy\): got .*wants real numbers"):
        data.read_tilt_series(tmp_path / "stack.hspy")


def test_an_axis_that_only_counts_tilts_gives_no_angles(series, tmp_path):
    import hyperspy.api as hs

    signal = hs.signals.Signal2D(np.repeat(series.projections[0], 8, axis=0))
    signal.axes_manager[0].name = "tilt"
    signal.save(tmp_path / "stack.hspy")
    with pytest.raises(ValueError, match="tilt_angles_deg: got none"):
        data.read_tilt_series(tmp_path / "stack.hspy")


def test_uneven_angles_of_an_emd_file(series, tmp_path):
    import h5py

    path = tmp_path / "stack.emd"
    with h5py.File(path, "w") as file:
        file.attrs.update({"version_major": 0, "version_minor": 2})
        group = file.create_group("data/tomography")
        group.attrs["emd_group_type"] = 1
        group["data"] = series.projections[0].T  # X, Y, T, as tomviz has it
        for k, (values, name, unit) in enumerate(
            [(np.arange(5) * 0.4, "x", "[n_m]"), (np.arange(6) * 0.4, "y", "[n_m]"), (ANGLES, "angles", "[deg]")], 1
        ):
            group[f"dim{k}"] = np.array(values, np.float32)
            group[f"dim{k}"].attrs.update({"name": np.bytes_(name), "units": np.bytes_(unit)})
    back = data.read_tilt_series(path)
    assert back.tilt_angles_deg.tolist() == ANGLES
    np.testing.assert_array_equal(back.projections[0], series.projections[0])


def test_axes_and_pixel_size_of_imagej(series, tmp_path):
    import tifffile

    path, stack = tmp_path / "hyperstack.tif", series.projections
    options = {"imagej": True, "resolution": (2500, 2500), "metadata": {"axes": "TCYX", "unit": "micron"}}
    tifffile.imwrite(path, stack.swapaxes(0, 1), **options)
    back = data.read_tilt_series(path, tilt_angles_deg=ANGLES)
    np.testing.assert_array_equal(back.projections, stack)
    assert back.pixel_size_nm == pytest.approx(0.4)
    tifffile.imwrite(tmp_path / "colour.tif", np.zeros((3, 8, 8, 3), np.uint8), photometric="rgb")
    with pytest.raises(ValueError, match=r"path: got axes .*YXS"):
        data.read_tilt_series(tmp_path / "colour.tif", tilt_angles_deg=ANGLES)


@pytest.mark.parametrize(
    ("unit", "scale"), [("nm", 0.4), ("Å", 4.0), ("µm", 4e-4), (None, 4e-4)], ids=["nm", "angstrom", "um", "as a rule"]
)
def test_axes_and_pixel_size_of_ome(series, tmp_path, unit, scale):
    import tifffile

    path, size = tmp_path / "stack.ome.tif", {}
    for axis in "XY":
        size |= {f"PhysicalSize{axis}": scale} | ({f"PhysicalSize{axis}Unit": unit} if unit else {})
    tifffile.imwrite(path, series.projections.swapaxes(0, 1).copy(), metadata={"axes": "TCYX"} | size)
    back = data.read_tilt_series(path, tilt_angles_deg=ANGLES)
    np.testing.assert_array_equal(back.projections, series.projections)
    assert back.pixel_size_nm == pytest.approx(0.4)


def test_pixels_of_imagej_that_are_not_square_are_refused(series, tmp_path):
    import tifffile

    options = {"imagej": True, "resolution": (2.5, 1.25), "metadata": {"axes": "TYX", "unit": "nm"}}
    tifffile.imwrite(tmp_path / "uneven.tif", series.projections[0], **options)
    with pytest.raises(ValueError, match=r"^pixel_size_nm: got 0\.4 nm along X and 0\.8 nm along Y"):
        data.read_tilt_series(tmp_path / "uneven.tif", tilt_angles_deg=ANGLES)


def test_a_link_has_the_angles_of_its_stack(series, tmp_path):
    import mrcfile

    with mrcfile.new(tmp_path / "stack.mrc") as file:
        file.set_data(series.projections[0])
    (tmp_path / "stack.rawtlt").write_text("\n".join(map(str, ANGLES)))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.mrc").symlink_to(tmp_path / "stack.mrc")
    assert data.read_tilt_series(tmp_path / "elsewhere" / "link.mrc").tilt_angles_deg.tolist() == ANGLES


# ---------------------------------------------------------------- axes in another order


def axis_of(name, size, values=(0.4, 0.0, "nm")):
    return {"name": name, "size": size, "scale": values[0], "offset": values[1], "units": values[2]}


@pytest.mark.parametrize("order", ["tcyx", "ytx", "yxt", "txy", "xyt"])
def test_named_axes_of_maps_are_put_in_order(tmp_path, order):
    import hyperspy.api as hs

    whole = np.random.default_rng(0).random((2, 4, 5, 4), np.float32)  # as many rows as tilts: sizes tell nothing
    axes = {"c": {"name": "channel", "size": 2}, "t": axis_of("tilt", 4, (30, -45, "deg"))}
    axes |= {"y": axis_of("y", 5), "x": axis_of("x", 4)}
    part = whole if "c" in order else whole[0]
    names = "ctyx" if "c" in order else "tyx"
    image = np.transpose(part, [names.index(name) for name in order]).copy()
    hs.signals.Signal2D(image, axes=[axes[name] for name in order]).save(tmp_path / "maps.hspy")
    back = data.read_tilt_series(tmp_path / "maps.hspy")
    assert back.tilt_angles_deg.tolist() == [-45, -15, 15, 45]
    np.testing.assert_array_equal(back.projections, part if "c" in order else part[None])


def test_emd_stacks_in_the_order_of_c(tmp_path):
    import h5py

    whole = np.random.default_rng(0).random((3, 5, 4), np.float32)
    dims = [("tilt", ANGLES, "[deg]"), ("y", np.arange(5) * 0.4, "[n_m]"), ("x", np.arange(4) * 0.4, "[n_m]")]
    with h5py.File(tmp_path / "maps.emd", "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/series")
        group.attrs["emd_group_type"] = 1
        group["data"] = whole
        for k, (name, values, unit) in enumerate(dims, 1):
            group[f"dim{k}"] = values
            group[f"dim{k}"].attrs.update({"name": name, "units": unit})
    back = data.read_tilt_series(tmp_path / "maps.emd")
    np.testing.assert_array_equal(back.projections[0], whole)
    np.testing.assert_allclose(back.tilt_angles_deg, ANGLES)


def test_named_axes_of_single_images_are_put_in_order(tmp_path):
    import hyperspy.api as hs

    axes = {"y": axis_of("y", 5), "x": axis_of("x", 4), "e": axis_of("Energy loss", 20, (0.5, -4.0, "eV"))}
    image, counts = np.random.default_rng(0).random((5, 4)), np.random.default_rng(0).random((5, 4, 20))
    (tmp_path / "maps").mkdir()
    for tilt in (-30, 30):
        hs.signals.Signal2D(image.T.copy(), axes=[axes["x"], axes["y"]]).save(tmp_path / "maps" / f"map_{tilt:+d}.hspy")
        spectra = hs.signals.Signal1D(counts.swapaxes(0, 1).copy(), axes=[axes["x"], axes["y"], axes["e"]])
        spectra.save(tmp_path / f"low_{tilt:+d}.hspy")
    maps = data.read_tilt_series(tmp_path / "maps")
    np.testing.assert_array_equal(maps.projections[0, 0], image.astype(np.float32))
    np.testing.assert_array_equal(data.read_spectrum_series(tmp_path / "low_*.hspy").data[1], counts)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(("order", "kind"), [("eyx", "signal"), ("yex", "image"), ("yxe", "falling")])
def test_energies_are_the_last_axis_and_rise(tmp_path, order, kind, lazy):
    import hyperspy.api as hs

    counts = np.random.default_rng(0).poisson(9, (3, 4, 20)).astype(np.int32)
    falling = kind == "falling"
    axes = {"y": axis_of("y", 3), "x": axis_of("x", 4)}
    axes["e"] = axis_of("Energy loss", 20, (-0.5, 5.5, "eV") if falling else (0.5, -4.0, "eV"))
    stored = np.transpose(counts[..., ::-1] if falling else counts, ["yxe".index(name) for name in order]).copy()
    if kind == "image":
        signal = hs.signals.Signal2D(stored, axes=[axes[name] for name in order])
    else:
        signal = hs.signals.Signal1D(stored, axes=[axes[name] | {"navigate": name != "e"} for name in order])
    signal.save(tmp_path / "image.hspy")
    back = data.read_signal(tmp_path / "image.hspy", lazy=lazy)
    np.testing.assert_array_equal(np.asarray(back.data), counts)
    np.testing.assert_allclose(back.axes_manager.signal_axes[0].axis, -4 + 0.5 * np.arange(20))
    assert [axis.name for axis in back.axes_manager.navigation_axes] == ["x", "y"]


@pytest.mark.parametrize("unit", ["nanometer", "Nanometers", "angstrom", "Micrometer", "micron"])
def test_units_by_their_names(series, tmp_path, unit):
    import hyperspy.api as hs

    series.save(tmp_path / "maps.hspy")
    signal, per_nm = hs.load(tmp_path / "maps.hspy"), {"n": 1, "a": 10, "m": 1e-3}[unit[0].lower()]
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = 0.4 * per_nm, unit
    signal.save(tmp_path / "maps.hspy", overwrite=True)
    assert data.read_tilt_series(tmp_path / "maps.hspy").pixel_size_nm == pytest.approx(0.4)


# ---------------------------------------------------------------- one file a tilt


@pytest.fixture
def spectrum_images(tmp_path):
    """Writes spectrum images (3, 4, 20) with the tilt in their name, the same stage tilt in each, of any change."""
    from exspy.signals import EELSSpectrum

    def write(name, level=1.0, *, stage=0.0, shape=(3, 4, 20), scale=0.5, pixel=0.4, start=0.0):
        signal = EELSSpectrum(np.broadcast_to(level, shape).astype(np.float32))
        signal.axes_manager.signal_axes[0].offset = start
        signal.set_microscope_parameters(beam_energy=300, convergence_angle=20, collection_angle=40)
        signal.metadata.set_item("Acquisition_instrument.TEM.Stage.tilt_alpha", stage)
        axes = (*signal.axes_manager.navigation_axes, *signal.axes_manager.signal_axes)
        for axis, step, unit in zip(axes, (pixel, pixel, scale), ("nm", "nm", "eV"), strict=True):
            axis.scale, axis.units = step, unit
        signal.save(tmp_path / name)
        return tmp_path / name

    write.folder = tmp_path
    return write


def test_an_image_that_was_cut_from_a_series_is_at_its_stage_tilt(spectrum_images):
    from hyperspy.api import load

    for tilt in (-60.0, 0.0, 60.0):
        path = spectrum_images(f"{tilt + 90:.0f}.hspy", stage=tilt)
        image = load(path)
        image.metadata.set_item("Tomography.tilts", [-60.0, 0.0, 60.0])
        image.save(path, overwrite=True)
    series = data.read_spectrum_series(spectrum_images.folder)
    assert series.metadata.Tomography.tilts.tolist() == [-60.0, 0.0, 60.0]


def write_velox(path, cube, tilt_deg, pixel_nm=0.4):
    """An EELS spectrum image (Y, X, E) and the image beside it, as Velox writes them and RosettaSciIO reads them."""
    import h5py

    def text(entries):
        encoded = np.frombuffer(json.dumps(entries).encode(), np.uint8)
        return np.pad(encoded, (0, 60_000 - encoded.size))[:, None]

    size = str(pixel_nm * 1e-9)
    about = {
        "Core": {"MetadataDefinitionVersion": "7.9"},
        "Instrument": {"InstrumentClass": "Titan"},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1488794000"}},
        "Optics": {"AccelerationVoltage": "300000", "CameraLength": "0.1"},
        "Stage": {"AlphaTilt": str(np.deg2rad(tilt_deg)), "BetaTilt": "0", "Position": {"x": "0", "y": "0", "z": "0"}},
        "Scan": {"DwellTime": "1e-3"},
        "Detectors": {},
        "BinaryResult": {
            "PixelSize": {"width": size, "height": size},
            "PixelUnitX": "m",
            "PixelUnitY": "m",
            "Offset": {"x": "0", "y": "0"},
            "Detector": "HAADF",
        },
    }
    string = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([json.dumps({"format": "Velox", "version": "10"})], string)
        for group in ("Presentation/Displays/ImageDisplay", "Operations", "Features"):
            file.create_group(group)
        file.create_dataset("Data/Image/a/Data", data=cube.sum(-1, keepdims=True).astype(np.uint16), chunks=True)
        file["Data/SpectrumImage/b/SpectrumImageSettings"] = np.array([json.dumps({"endFramePosition": "1"})], string)
        file["Data/EelsSpectrumImage/c/Data"] = cube.transpose(1, 2, 0)
        file["Data/EelsSpectrumImage/c/AcquisitionMetadata"] = text({"Data": {"offset": -10.0, "dispersion": 0.5}})
        for group in ("Image/a", "SpectrumImage/b", "EelsSpectrumImage/c"):
            file[f"Data/{group}/Metadata"] = text(about)
    return path


@pytest.mark.parametrize("lazy", [False, True])
def test_velox_files_with_eels(tmp_path, lazy):
    """Spectra are taken before the image, which alone says the tilt of the stage and the beam energy."""
    pytest.importorskip("sparse")
    cubes = np.random.default_rng(5).poisson(9, (3, 3, 4, 30)).astype(np.float32)
    for cube, tilt in zip(cubes, (30.0, -30.0, 0.0), strict=True):
        path = write_velox(tmp_path / f"cube_{tilt:+.0f}.emd", cube, tilt)
    signal = data.read_signal(path, lazy=lazy)
    assert type(signal).__name__ == ("LazyEELSSpectrum" if lazy else "EELSSpectrum")
    np.testing.assert_array_equal(np.asarray(signal.data), cubes[2])
    energy = signal.axes_manager.signal_axes[0]
    assert (energy.offset, energy.scale, energy.units) == (-10.0, 0.5, "eV")
    assert signal.metadata.Acquisition_instrument.TEM.beam_energy == 300
    series = data.read_spectrum_series(tmp_path / "cube_*.emd", lazy=lazy)
    np.testing.assert_allclose(data.get_tilts(series), [-30, 0, 30], atol=1e-3)
    np.testing.assert_array_equal(np.asarray(series.data), cubes[[1, 2, 0]])
    assert step_nm(series.axes_manager.navigation_axes[0]) == pytest.approx(0.4)


@pytest.mark.parametrize("lazy", [False, True])
def test_spectra_of_one_file_a_tilt_are_sorted_and_stacked(spectrum_images, tmp_path, lazy):
    for name, level in (("tilt_35.hspy", 3), ("tilt_-35.hspy", 1), ("tilt_0.hspy", 2)):
        spectrum_images(name, level)
    (tmp_path / "notes.txt").touch()
    for paths in (tmp_path, str(tmp_path / "tilt_*.hspy"), sorted(tmp_path.glob("*.hspy"), reverse=True)):
        signal = data.read_spectrum_series(paths, lazy=lazy)
        assert signal.data.shape == (3, 3, 4, 20) and np.asarray(signal.data[:, 0, 0, 0]).tolist() == [1, 2, 3]
        assert data.get_tilts(signal).tolist() == [-35, 0, 35] and isinstance(signal.data, np.ndarray) is not lazy
        assert type(signal).__name__.endswith("EELSSpectrum")
        energy, *pixels = (signal.axes_manager[k] for k in (-1, 0, 1))
        assert (energy.units, energy.scale) == ("eV", 0.5) and [axis.scale for axis in pixels] == [0.4, 0.4]
        assert signal.metadata.Acquisition_instrument.TEM.beam_energy == 300
    signal.save(tmp_path / "series.zspy")
    for back in (data.read_signal(tmp_path / "series.zspy", lazy=True), data.read_signal(tmp_path / "series.zspy")):
        assert data.get_tilts(back).tolist() == [-35, 0, 35]


def test_tilts_of_the_stage_and_as_given(spectrum_images):
    files = [spectrum_images(f"a_{k}.hspy", k, stage=tilt) for k, tilt in enumerate((20, -20))]
    assert data.get_tilts(data.read_spectrum_series(files)).tolist() == [-20, 20]
    assert data.get_tilts(data.read_spectrum_series(files, [20.4, -20])).tolist() == [-20, 20.4]
    with pytest.raises(ValueError, match=r"got -20 for a_0\.hspy, wants 20 as in its metadata: leave the angles out"):
        data.read_spectrum_series(files, [-20, 20])
    with pytest.raises(ValueError, match=r"tilt_angles_deg: got shape \(3,\), wants \(2,\)"):
        data.read_spectrum_series(files, [-5, 60, 70])
    files = [spectrum_images(f"tilt_{tilt}.hspy", stage=-tilt) for tilt in (20, -20)]
    with pytest.raises(ValueError, match=r"tilt_angles_deg: got -20 in the metadata of tilt_20\.hspy"):
        data.read_spectrum_series(files)
    assert data.get_tilts(data.read_spectrum_series(files, [20, -20])).tolist() == [-20, 20]  # what is given decides
    files = [spectrum_images(f"scan_{k:02d}.hspy") for k in (1, 30)]  # numbers that may count the files
    with pytest.raises(ValueError, match="tilt_angles_deg: got none"):
        data.read_spectrum_series(files)


def test_numbers_that_count_the_files_never_contradict_the_stage(spectrum_images):
    names = [f"tilt_{k:02d}.hspy" for k in (1, 2, 10)]
    files = [spectrum_images(name, stage=tilt) for name, tilt in zip(names, (-66, 0, 66), strict=True)]
    for given in (None, [-66, 0.5, 66]):
        assert data.read_spectrum_series(files, given).metadata.Tomography.files == names
    files = [spectrum_images(f"angle_{k}.hspy") for k in (1, 2)]
    with pytest.raises(ValueError, match=r"tilt_angles_deg: got none.*\(angle_1\.hspy, angle_2\.hspy, .*may count"):
        data.read_spectrum_series(files)


def test_given_angles_follow_the_names_as_they_count(spectrum_images, tmp_path):
    for k in (1, 2, 10):
        spectrum_images(f"low_{k}.hspy", k)
    for paths in (tmp_path, tmp_path / "low_*.hspy"):
        series = data.read_spectrum_series(paths, [-40, 0, 40])
        assert series.metadata.Tomography.files == ["low_1.hspy", "low_2.hspy", "low_10.hspy"]
    files = [spectrum_images(f"cube_{tilt:+d}.hspy") for tilt in (0, 30, -30)]
    with pytest.raises(ValueError, match=r"tilt_angles_deg: got -30 for cube_\+0\.hspy, wants 0 as in its name"):
        data.read_spectrum_series(files, [-30, 0, 30])


@pytest.mark.parametrize("other", [{"shape": (3, 5, 20)}, {"shape": (4, 3, 20)}, {"scale": 0.51}, {"pixel": 0.5}])
def test_a_file_that_differs_is_named(spectrum_images, other):
    files = [spectrum_images("tilt_-35.hspy"), spectrum_images("tilt_35.hspy", **other)]
    with pytest.raises(ValueError, match=r"paths: got .* in tilt_35\.hspy, wants .* as in tilt_-35\.hspy"):
        data.read_spectrum_series(files)


@pytest.mark.parametrize("lazy", [False, True])
def test_energies_that_start_elsewhere_are_brought_together_by_whole_channels(spectrum_images, lazy):
    """The value of each channel is its energy; nothing is interpolated, nothing invented."""
    starts, sizes = {-40: -2.2, 0: 1.0, 40: -0.4}, {-40: 40, 0: 40, 40: 33}
    for tilt, start in starts.items():
        spectrum_images(
            f"tilt_{tilt}.hspy", start + 0.5 * np.arange(sizes[tilt]), start=start, shape=(3, 4, sizes[tilt])
        )
    files = [spectrum_images.folder / f"tilt_{tilt}.hspy" for tilt in (0, 40, -40)]
    series = data.read_spectrum_series(files, lazy=lazy)
    energy, found = series.axes_manager.signal_axes[0].axis, np.asarray(series.data)
    np.testing.assert_allclose(energy, np.arange(1.0, 16.0, 0.5))
    assert series.metadata.Tomography.energy_offsets == [-2.2, 1.0, -0.4]
    np.testing.assert_allclose(series.metadata.Tomography.energy_residuals, [-0.2, 0, 0.1], atol=1e-6)
    for values, residual in zip(found, series.metadata.Tomography.energy_residuals, strict=True):
        np.testing.assert_allclose(values, np.broadcast_to(energy + residual, values.shape), atol=1e-5)


def test_half_a_channel_is_left_on_one_side(spectrum_images):
    files = [spectrum_images(f"tilt_{10 * k}.hspy", start=start) for k, start in enumerate((0.25, 1.0, 1.5, 0.75))]
    residuals = data.read_spectrum_series(files).metadata.Tomography.energy_residuals
    np.testing.assert_allclose(residuals, [-0.25, 0, 0, -0.25])


def test_energies_that_do_not_meet_are_refused(spectrum_images):
    files = [spectrum_images("tilt_-35.hspy"), spectrum_images("tilt_35.hspy", start=5.0)]
    with pytest.raises(
        ValueError, match=r"paths: got energies that end at 10 eV in tilt_-35\.hspy and start at 5 eV in tilt_35\.hspy"
    ):
        data.read_spectrum_series(files)


@pytest.mark.parametrize(
    ("names", "tilts"),
    [
        (["tilt_-35.a", "tilt_5.a"], [-35, 5]),
        (["cube_+17.5deg.a", "cube_-35deg.a"], [17.5, -35]),
        (["x1_angle=12,5_b.a", "x1_angle=-3_b.a"], [12.5, -3]),
        (["cube_-35.a", "cube_0.a", "cube_35.a"], [-35, 0, 35]),
        (["cube_01.a", "cube_02.a"], None),
        (["a.a", "b.a"], None),
        ([f"tilt_{k:02d}.a" for k in range(1, 30)], None),
        (["tilt_20.a", "tilt_30.a"], [20, 30]),
        (["tilt_03_+10deg.a", "tilt_04_-20deg.a"], [10, -20]),
        ([f"cube-{k}deg.a" for k in range(0, 80, 10)], None),
        (["cube-10.a", "cube-20.a"], None),
        (["tilt-10.a", "tilt-20.a"], None),
        (["cube-60deg.a", "cube-0deg.a", "cube+60deg.a"], [-60, 0, 60]),
        (["cube-60deg.a", "cube0deg.a", "cube60deg.a"], [-60, 0, 60]),
        (["cube--60deg.a", "cube-0deg.a", "cube-60deg.a"], [-60, 0, 60]),
        (["cube_-60deg.a", "cube_-30deg.a"], [-60, -30]),
        (["cube_−60.a", "cube_−30.a"], [-60, -30]),
    ],
)
def test_tilts_in_names(names, tilts):
    from pathlib import Path

    from softeels_utils.data.tilts import tilts_in_names

    found = tilts_in_names([Path(name) for name in names])
    assert (None if found is None else found.tolist()) == tilts


def test_maps_of_one_file_a_tilt(series, tmp_path):
    import tifffile

    for tilt, image in zip((70, -60, 1.5), series.projections[0][[2, 0, 1]], strict=True):
        tifffile.imwrite(tmp_path / f"FeO_tilt_{tilt}.tif", image)
    for path in (tmp_path, tmp_path / "FeO_*.tif", sorted(tmp_path.iterdir())):
        back = data.read_tilt_series(path)
        assert back.tilt_angles_deg.tolist() == ANGLES
        assert back.metadata["files"] == ["FeO_tilt_-60.tif", "FeO_tilt_1.5.tif", "FeO_tilt_70.tif"]
        np.testing.assert_array_equal(back.projections[0], series.projections[0])
    with pytest.raises(ValueError, match=r"tilt_angles_deg: got -60 for FeO_tilt_70\.tif, wants 70 as in its name"):
        data.read_tilt_series(tmp_path, tilt_angles_deg=[1.5, -60, 70])


@pytest.fixture
def single_maps(tmp_path):
    """Writes a map (Y, X), or (C, Y, X), of one tilt with what HyperSpy keeps beside it."""
    import hyperspy.api as hs

    def write(tilt, *, channels=None, variance=0.5, unit="nm", size_nm=0.4, covariance=None):
        shape = (4, 5) if channels is None else (len(channels), 4, 5)
        signal = hs.signals.Signal2D(np.full(shape, 1.0 * tilt))
        for axis in signal.axes_manager.signal_axes:
            axis.scale, axis.units = size_nm, "nm"
        stated = {"Tomography.unit": unit, "Tomography.channels": channels, "Tomography.covariance": covariance}
        if variance is not None:
            stated["Signal.Noise_properties.variance"] = hs.signals.Signal2D(np.full(shape, variance + abs(tilt)))
        for place, value in stated.items():
            if value is not None:
                signal.metadata.set_item(place, value)
        signal.save(tmp_path / f"map_{tilt:+d}deg.hspy")

    write.folder = tmp_path
    return write


@pytest.mark.parametrize("channels", [None, ["FeO", "Fe3O4"]])
def test_single_maps_keep_variance_unit_and_channels(single_maps, channels):
    for tilt in (30, -30, 0):
        single_maps(tilt, channels=channels)
    series = data.read_tilt_series(single_maps.folder)
    assert series.unit == "nm" and series.pixel_size_nm == 0.4
    assert series.channels == tuple(channels or ["channel 0"])
    assert series.variance.shape == series.projections.shape
    np.testing.assert_array_equal(series.variance, 0.5 + np.abs(series.projections))
    assert series.projections[0, :, 0, 0].tolist() == [-30, 0, 30]


def test_single_maps_keep_their_covariance(single_maps):
    for tilt in (30, -30):
        covariance = np.broadcast_to(np.eye(2) * (50 + tilt), (4, 5, 2, 2)).copy()
        single_maps(tilt, channels=["FeO", "Fe3O4"], covariance=covariance)
    series = data.read_tilt_series(single_maps.folder)
    assert series.covariance.shape == (2, 4, 5, 2, 2) and series.covariance[:, 0, 0, 0, 0].tolist() == [20, 80]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"unit": "counts"}, r"unit: got 'counts' in map_\+30deg\.hspy, wants 'nm' as in map_\+0deg\.hspy"),
        ({"variance": None}, r"variance: got none in map_\+30deg\.hspy, wants one in each file"),
        ({"size_nm": 0.5}, r"pixel_size_nm: got 0\.5 in map_\+30deg\.hspy, wants 0\.4 as in map_\+0deg\.hspy"),
        ({"channels": ["Fe3O4"]}, r"path: got shape \(1, 4, 5\) in map_\+30deg\.hspy"),
    ],
)
def test_single_maps_that_disagree_are_refused(single_maps, other, told):
    single_maps(0)
    single_maps(30, **other)
    with pytest.raises(ValueError, match=told):
        data.read_tilt_series(single_maps.folder)


def test_a_pixel_size_that_is_given_stands_above_those_of_single_maps(single_maps):
    single_maps(0)
    single_maps(30, size_nm=0.5)
    assert data.read_tilt_series(single_maps.folder, pixel_size_nm=0.45).pixel_size_nm == 0.45


# ---------------------------------------------------------------- what would be read wrongly without a word


def test_brackets_in_the_name_of_a_file_are_no_pattern(series, tmp_path):
    """HyperSpy would take the name for a pattern, and read the other file."""
    series.save(tmp_path / "cube_[1].hspy")
    data.TiltSeries(2 * series.projections, series.tilt_angles_deg, series.channels).save(tmp_path / "cube_1.hspy")
    back = data.read_tilt_series(tmp_path / "cube_[1].hspy")
    np.testing.assert_array_equal(back.projections, series.projections)


def test_brackets_in_the_name_of_a_folder_are_no_pattern(spectrum_images, tmp_path):
    folder = tmp_path / "run [1]"
    folder.mkdir()
    for tilt in (-30, 30):
        spectrum_images(f"run [1]/low_{tilt:+d}.hspy")
    assert data.get_tilts(data.read_spectrum_series(folder / "low_*.hspy")).tolist() == [-30, 30]


@pytest.mark.parametrize("dtype", [np.float16, ">f4", ">i4", np.uint16])
@pytest.mark.parametrize("lazy", [False, True])
def test_values_of_any_precision_and_byte_order(tmp_path, dtype, lazy):
    import hyperspy.api as hs

    counts = np.random.default_rng(0).integers(0, 2000, (4, 5, 300)).astype(dtype)
    hs.signals.Signal1D(counts).save(tmp_path / "image.hspy")
    back = data.read_signal(tmp_path / "image.hspy", lazy=lazy)
    assert back.data.dtype.isnative and back.data.dtype.itemsize >= (4 if dtype == np.float16 else 2)
    np.testing.assert_array_equal(np.asarray(back.data).sum(axis=-1), counts.astype(float).sum(axis=-1))


@pytest.mark.parametrize(
    ("values", "stated", "told"),
    [
        ([-100, 0, 100], (-100, 100), None),
        ([0, 100, 200], (0, 200), None),
        ([0, 100, 120], (0, 0), None),
        ([0, 100, 200], (0, 0), r"^path: got bytes in stack\.mrc that may be signed"),
    ],
)
def test_bytes_of_an_mrc_file_have_the_sign_that_its_header_tells(tmp_path, values, stated, told):
    import mrcfile

    stack = np.resize(np.array(values, np.int16), (3, 4, 5))
    with mrcfile.new(tmp_path / "stack.mrc") as file:
        file.set_data(stack.astype(np.uint8).view(np.int8))
        file.header.dmin, file.header.dmax = stated
    if told:
        with pytest.raises(ValueError, match=told):
            data.read_tilt_series(tmp_path / "stack.mrc", tilt_angles_deg=ANGLES)
        return
    np.testing.assert_array_equal(
        data.read_tilt_series(tmp_path / "stack.mrc", tilt_angles_deg=ANGLES).projections[0], stack
    )


def test_an_mrc_file_of_the_other_byte_order_is_told(series, tmp_path):
    import mrcfile

    with mrcfile.new(tmp_path / "stack.mrc") as file:
        file.set_data(series.projections[0].astype(">f4"))
    with pytest.raises(ValueError, match=r"^path: got numbers of the big-endian kind in stack\.mrc"):
        data.read_tilt_series(tmp_path / "stack.mrc", tilt_angles_deg=ANGLES)


def test_the_header_of_an_mrc_file_is_believed_only_where_it_speaks(series, tmp_path):
    import mrcfile

    with mrcfile.new(tmp_path / "stack.mrc") as file:
        file.set_data(series.projections[0])
        file.header.mx, file.header.my = 0, 0
    assert data.read_tilt_series(tmp_path / "stack.mrc", tilt_angles_deg=ANGLES).pixel_size_nm is None
    with mrcfile.open(tmp_path / "stack.mrc", "r+") as file:
        file.header.mapc, file.header.mapr = 2, 1
    with pytest.raises(ValueError, match=r"^path: got axes \(2, 1, 3\) in stack\.mrc, wants \(1, 2, 3\)"):
        data.read_tilt_series(tmp_path / "stack.mrc", tilt_angles_deg=ANGLES)


@pytest.mark.parametrize("suffix", [".hspy", ".npz"])
@pytest.mark.parametrize("beside", [[-60, 1.5], [-65, 1.5, 70]])
def test_angles_beside_a_stack_that_contradict_it_are_refused(series, tmp_path, suffix, beside):
    path = tmp_path / f"stack{suffix}"
    series.save(path)
    np.savetxt(path.with_suffix(".rawtlt"), beside)
    with pytest.raises(ValueError, match=rf"^tilt_angles_deg: got {len(beside)} \(.* in stack\.rawtlt, wants those"):
        data.read_tilt_series(path)
    assert data.read_tilt_series(path, tilt_angles_deg=ANGLES).tilt_angles_deg.tolist() == ANGLES
    np.savetxt(path.with_suffix(".rawtlt"), [-60.4, 1.5, 70])  # as a stage reads it
    assert data.read_tilt_series(path).tilt_angles_deg.tolist() == ANGLES


def test_lists_of_angles_that_contradict_each_other_are_refused(series, tmp_path):
    _write_mrc(tmp_path / "stack.mrc", series.projections[0])
    np.savetxt(tmp_path / "stack.rawtlt", ANGLES)
    np.savetxt(tmp_path / "stack.tlt", np.add(ANGLES, 0.4))  # refined
    assert data.read_tilt_series(tmp_path / "stack.mrc").tilt_angles_deg.tolist() == ANGLES
    np.savetxt(tmp_path / "stack.tlt", np.add(ANGLES, 4))
    with pytest.raises(ValueError, match=r"^tilt_angles_deg: got .* in stack\.tlt, wants those that stack\.rawtlt"):
        data.read_tilt_series(tmp_path / "stack.mrc")


def test_sections_of_an_mdoc_that_are_not_those_of_the_images_are_refused(series, tmp_path):
    _write_mrc(tmp_path / "stack.mrc", series.projections[0])
    text = "".join(f"[ZValue = {k}]\nTiltAngle = {a}\n" for k, a in zip((0, 1, 1), ANGLES, strict=True))
    (tmp_path / "stack.mdoc").write_text(text)
    with pytest.raises(ValueError, match=r"^tilt_angles_deg: got sections \[0, 1, 1\] in stack\.mdoc, wants one"):
        data.read_tilt_series(tmp_path / "stack.mrc")


@pytest.mark.parametrize(("order", "accepted"), [("TZYX", False), ("CZYX", True), ("ZCYX", True)])
def test_two_axes_of_a_tiff_that_may_both_be_tilts_are_refused(series, tmp_path, order, accepted):
    import tifffile

    stack = series.projections if order[1] != "C" else series.projections.swapaxes(0, 1).copy()
    tifffile.imwrite(tmp_path / "stack.ome.tif", stack, metadata={"axes": order})
    if accepted:
        back = data.read_tilt_series(tmp_path / "stack.ome.tif", tilt_angles_deg=ANGLES)
        np.testing.assert_array_equal(back.projections, series.projections)
        return
    with pytest.raises(ValueError, match=r"^path: got axes TZYX"):
        data.read_tilt_series(tmp_path / "stack.ome.tif", tilt_angles_deg=ANGLES)


def test_pages_of_a_tiff_are_not_left_out(series, tmp_path):
    import tifffile

    for k, image in enumerate(series.projections[0]):
        kind = np.float64 if k == 0 else np.float32
        tifffile.imwrite(tmp_path / "pages.tif", image.astype(kind), append=k > 0, metadata=None)
    with pytest.raises(ValueError, match=r"^path: got images of several kinds in pages\.tif, wants one stack"):
        data.read_tilt_series(tmp_path / "pages.tif", tilt_angles_deg=ANGLES[:2])


def test_a_file_with_two_spectra_of_one_size_is_refused(tmp_path):
    """Dual EELS in one file: which of them is meant is not known."""
    cube = np.ones((3, 4, 30), np.float32)
    path = write_velox(tmp_path / "dual.emd", cube, 0)
    import h5py

    with h5py.File(path, "a") as file:
        file.copy("Data/EelsSpectrumImage/c", "Data/EelsSpectrumImage/d")
    with pytest.raises(ValueError, match=r"^path: got 2 signals of one size in dual\.emd \(.*\), wants one"):
        data.read_signal(path)


def two_detectors(path, titles):
    """One file with an image of each of two detectors, in the order of the titles; their values tell which is which."""
    import h5py
    import hyperspy.api as hs

    for title in titles:
        image = hs.signals.Signal2D(np.full((4, 5), {"BF": 1.0, "HAADF": 2.0}[title]))
        image.metadata.General.title = title
        image.save(path.with_name(f"{title}.hspy"), overwrite=True)
    with h5py.File(path, "w") as file:
        for k, title in enumerate(titles):
            with h5py.File(path.with_name(f"{title}.hspy")) as one:
                for name, value in one.attrs.items():
                    file.attrs[name] = value
                one.copy(f"Experiments/{title}", file.require_group("Experiments"), name=f"{k}")
    for title in titles:
        path.with_name(f"{title}.hspy").unlink()


def test_images_of_several_detectors_are_never_mixed(tmp_path):
    two_detectors(tmp_path / "map_-30deg.hspy", ["BF", "HAADF"])
    two_detectors(tmp_path / "map_+30deg.hspy", ["HAADF", "BF"])
    with pytest.raises(ValueError, match=r"^path: got 2 signals of one size in map_-30deg\.hspy \(BF, HAADF\)"):
        data.read_signal(tmp_path / "map_-30deg.hspy")
    series = data.read_tilt_series(tmp_path)
    assert series.projections.max() == series.projections.min() and len(series.channels) == 1


def test_two_arrays_of_one_name_are_refused(series, tmp_path):
    path = tmp_path / "twice.npz"
    series.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("old/projections.npy", archive.read("projections.npy"))
    with pytest.raises(ValueError, match=r"^path: got arrays of the same name in twice\.npz"):
        data.read_tilt_series(path)


@pytest.mark.parametrize("kind", ["link", "raw", "virtual"])
def test_hdf5_files_that_read_from_others_are_refused(series, tmp_path, kind):
    import h5py

    series.save(tmp_path / "maps.hspy")
    (tmp_path / "secret").write_bytes(bytes(10_000))
    with h5py.File(tmp_path / "maps.hspy", "a") as file, h5py.File(tmp_path / "other.h5", "w") as other:
        group = next(iter(file["Experiments"].values()))
        other["data"] = group["data"][:]
        shape, dtype = group["data"].shape, group["data"].dtype
        del group["data"]
        if kind == "link":
            group["data"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "data")
        elif kind == "raw":
            group.create_dataset("data", shape, "u1", external=[(str(tmp_path / "secret"), 0, int(np.prod(shape)))])
        else:
            layout = h5py.VirtualLayout(shape, dtype)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", shape)
            group.create_virtual_dataset("data", layout)
    with pytest.raises(ValueError, match=r"^path: got data in other files .* wants all in this one"):
        data.read_signal(tmp_path / "maps.hspy")


def test_an_emd_file_that_claims_more_than_it_holds_is_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "huge.emd", "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/series")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", (100, 20_000, 20_000), "f4", chunks=(1, 100, 100))
    with pytest.raises(ValueError, match=r"^path: got 1\.6e\+11 bytes in huge\.emd"):
        data.read_signal(tmp_path / "huge.emd")


# ---------------------------------------------------------------- what is given stands above the files


def test_a_pixel_size_that_is_given_stands_above_those_of_spectra(spectrum_images):
    files = [spectrum_images(f"tilt_{10 * k}.hspy", pixel=pixel) for k, pixel in ((-3, 0.4), (3, 0.5))]
    with pytest.raises(ValueError, match=r"^paths: got pixels along"):
        data.read_spectrum_series(files)
    series = data.read_spectrum_series(files, pixel_size_nm=0.45)
    assert [axis.scale for axis in series.axes_manager.navigation_axes[:2]] == [0.45, 0.45]
    assert series.metadata.Tomography.stated_pixels_nm == [0.4, 0.5]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"pixel_size_nm": 0}, "pixel_size_nm"),
        ({"pixel_size_nm": "1"}, "pixel_size_nm"),
        ({"microscope": {"kV": 3}}, "microscope"),
    ],
)
def test_what_is_given_must_make_sense(spectrum_images, given, name):
    files = [spectrum_images(f"tilt_{tilt}.hspy") for tilt in (-30, 30)]
    with pytest.raises(ValueError, match=rf"^{name}: got "):
        data.read_spectrum_series(files, **given)


def test_microscopes_that_differ_are_refused_unless_one_is_given(spectrum_images):
    import hyperspy.api as hs

    files = [spectrum_images(f"tilt_{tilt}.hspy") for tilt in (-30, 30)]
    other = hs.load(files[1])
    other.metadata.Acquisition_instrument.TEM.beam_energy = 200.0
    other.save(files[1], overwrite=True)
    with pytest.raises(ValueError, match=r"^beam_energy_keV: got 200 in tilt_30\.hspy, wants 300 as in tilt_-30\.hspy"):
        data.read_spectrum_series(files)
    series = data.read_spectrum_series(files, microscope={"beam_energy_keV": 250.0})
    assert series.metadata.Acquisition_instrument.TEM.beam_energy == 250.0


def test_energies_of_a_series_in_uneven_steps_are_refused(spectrum_images):
    import hyperspy.api as hs

    files = [spectrum_images(f"tilt_{tilt}.hspy") for tilt in (-30, 30)]
    uneven = {"axis": np.arange(20.0) ** 1.1, "name": "Energy loss", "units": "eV", "navigate": False}
    pixels = [{"size": 3, "name": "y", "navigate": True}, {"size": 4, "name": "x", "navigate": True}]
    hs.signals.Signal1D(np.ones((3, 4, 20)), axes=[*pixels, uneven]).save(files[1], overwrite=True)
    with pytest.raises(ValueError, match=r"^paths: got uneven steps of an axis in tilt_30\.hspy"):
        data.read_spectrum_series(files)


class _Trap:
    """Unpickling this would leave a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_are_refused(tmp_path):
    trace = tmp_path / "trace"
    archive = tmp_path / "evil.npz"
    np.savez(archive, projections=np.array([_Trap(trace)], dtype=object), tilt_angles_deg=[0.0])
    trace.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"evil\.npz"):
        data.read_tilt_series(archive)

    import zarr
    from numcodecs import Pickle

    store = tmp_path / "evil.zspy"
    group = zarr.open_group(str(store), mode="w")
    group.create_dataset("a", data=np.array([_Trap(trace)], dtype=object), dtype=object, object_codec=Pickle())
    trace.unlink(missing_ok=True)
    with pytest.raises(ValueError, match="pickles are never read"):
        data.read_signal(store)
    assert not trace.exists()


def test_expressions_are_refused(tmp_path):
    import hyperspy.api as hs

    axis = {"expression": "x ** 2", "x": {"size": 10, "offset": 0, "scale": 1}}
    path = tmp_path / "expression.hspy"
    hs.signals.Signal1D(np.arange(10.0), axes=[axis]).save(path)
    with pytest.raises(ValueError, match="expression"):
        data.read_signal(path)


@needs["eelsdb_fe2o3"]
def test_fe2o3_spectrum():
    signal = data.load("eelsdb_fe2o3")
    energy = signal.axes_manager[-1].axis
    assert 708 < energy[np.argmax(signal.data)] < 711  # L3 of Fe(III)
    assert np.isfinite(signal.data).all()


@needs["lsmo_dual_eels"]
def test_dual_eels():
    low, core = data.load("lsmo_dual_eels")
    assert low.axes_manager[-1].offset < 0 < 400 < core.axes_manager[-1].offset
    assert low.data.shape[:-1] == core.data.shape[:-1] == (40,)


@needs["nanocube_si"]
def test_nanocube_si():
    signal = data.load("nanocube_si")
    assert signal.data.shape == (17, 19, 2048) and signal.metadata.Acquisition_instrument.TEM.beam_energy == 200


@needs["idp_eds_tilt_series"]
def test_eds_tilt_series():
    series = data.load("idp_eds_tilt_series")
    assert series.projections.shape == (4, 16, 64, 64) and series.channels == ("O", "Mg", "Si", "Fe")
    assert series.tilt_angles_deg.tolist() == list(range(-40, 36, 5))
    assert (series.variance >= 0).all() and (series.projections.sum((1, 2, 3)) > 1e5).all()
    # Counts are Poisson: where there is no signal, the scatter of net counts is what the variance says.
    edge = (slice(None), slice(None), slice(0, 3), slice(0, 3))
    assert series.haadf.shape[0] == 16 and np.isfinite(series.projections[edge]).all()


@needs["idp_eds_tilt_series"]
def test_bruker_files_of_one_tilt_each():
    """The stage says 0° in all of them: the tilt is in the name."""
    folder = sorted(data.fetch("idp_eds_tilt_series").values())[0].parent
    series = data.read_tilt_series(folder / "tilt_-?5.bcf")
    assert series.tilt_angles_deg.tolist() == [-35, -25, -15] and series.channels == ("HAADF",)
    assert series.projections.shape == (1, 3, 256, 256) and series.pixel_size_nm == pytest.approx(13.08, abs=0.01)
    spectra = data.read_spectrum_series(folder / "tilt_-?5.bcf", lazy=True)
    assert spectra.data.shape == (3, 256, 256, 2048) and data.get_tilts(spectra).tolist() == [-35, -25, -15]
    assert spectra.metadata.Signal.signal_type == "EDS_TEM"


# ---------------------------------------------------------------- units of energy


@pytest.mark.parametrize("unit, factor", [("eV", 1.0), ("keV", 1e3), ("meV", 1e-3)])
def test_energies_are_read_in_ev(tmp_path, unit, factor):
    from exspy.signals import EELSSpectrum

    from softeels_utils.spectra import energy_axis

    signal, expected = EELSSpectrum(np.ones((2, 3, 50))), 40 + 0.5 * np.arange(50)
    axis = signal.axes_manager[-1]
    axis.offset, axis.scale, axis.units = 40 / factor, 0.5 / factor, unit
    np.testing.assert_allclose(energy_axis(signal), expected)
    signal.save(tmp_path / "spectra.hspy")
    back = data.read_signal(tmp_path / "spectra.hspy")
    assert back.axes_manager[-1].units == "eV"
    np.testing.assert_allclose(back.axes_manager[-1].axis, expected)


@pytest.mark.parametrize("unit", [None, "nm", "channels"])
def test_energies_without_their_unit_are_refused(unit):
    from exspy.signals import EELSSpectrum

    from softeels_utils.spectra import energy_axis

    signal = EELSSpectrum(np.ones((2, 3, 50)))
    if unit:
        signal.axes_manager[-1].units = unit
    with pytest.raises(ValueError, match=r"spectra: got an energy axis in .*, wants eV, keV or meV"):
        energy_axis(signal)
    assert energy_axis(signal, 0.1 * np.arange(50))[-1] == pytest.approx(4.9)
