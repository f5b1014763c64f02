import functools
import hashlib
import http.server
import re
import struct
import threading

import numpy as np
import pytest

from softeels_utils import data
from softeels_utils.data import sets

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
            assert re.search(r"/[0-9a-f]{40}/", file["url"]), f"{name}: address not pinned to a commit"
            assert name == "paper_nanocube" or (len(file["sha256"]) == 64 and file["bytes"] > 0)


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


def test_fetch_downloads_once_and_checks_the_hash(served):
    file, folder = served
    file["sha256"] = hashlib.sha256(b"one thing").hexdigest()
    assert not data.is_cached("toy")
    path = data.fetch("toy")["a.bin"]
    assert path.read_bytes() == b"one thing" and data.is_cached("toy")
    (folder / "web" / "a.bin").unlink()
    assert data.fetch("toy")["a.bin"] == path


def test_fetch_refuses_a_wrong_hash(served):
    file, folder = served
    file["sha256"] = "0" * 64
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
    with pytest.raises(ValueError, match=r"path: got a file of kind '\.txt' .* wants \.hspy, \.zspy or \.npz"):
        series.save(tmp_path / "series.txt")


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


def test_spectra_are_not_a_tilt_series_of_maps(tmp_path):
    import hyperspy.api as hs

    path = tmp_path / "spectra.hspy"
    hs.signals.Signal1D(np.ones((3, 4, 5, 8))).save(path)
    with pytest.raises(ValueError, match="energy axis"):
        data.read_tilt_series(path)


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
