"""What enters the chain: which file is which tilt, what a settings file may say, what is refused before the work."""

import shutil
import sys

import hyperspy.api as hs
import mrcfile
import numpy as np
import pytest
import tifffile
from matplotlib.figure import Figure

from softeels_utils import __main__ as command_line
from softeels_utils import data, pipeline, spectra
from softeels_utils.pipeline import Settings
from softeels_utils.pipeline.chain import Chain
from softeels_utils.pipeline.page import figure_png
from softeels_utils.pipeline.report import in_sigmas
from softeels_utils.pipeline.series import energy_residuals, level_dual, noise_gain_of, read_maps, read_spectra

TILTS = (-60.0, -30.0, 0.0, 30.0, 60.0)
START_EV = {"low": -10.0, "core": 500.0}


@pytest.fixture
def write(tmp_path):
    """Writes spectra (..., 3, 4, 260) from -10 eV (low) or 500 eV (core), with the tilts of a stack or of the stage."""
    from exspy.signals import EELSSpectrum

    def write(name, *, tilts=None, stage=None, kind="low", start=None, unit="eV", per_ev=1.0, pixel=0.4, bad=None):
        shape = (3, 4, 260) if tilts is None else (len(tilts), 3, 4, 260)
        counts = np.random.default_rng(0).poisson(9, shape).astype(np.float32)
        counts[..., 20] += 1000  # at 0 eV
        if bad is not None:
            counts[..., 1, 2, 200] = bad
        signal = EELSSpectrum(counts)
        signal.set_microscope_parameters(beam_energy=300, convergence_angle=20, collection_angle=40)
        energy = signal.axes_manager.signal_axes[0]
        energy.scale = per_ev * (0.5 if kind == "low" else 1.5)
        energy.offset = per_ev * (START_EV[kind] if start is None else start)
        if unit is not None:
            energy.units = unit
        for axis in signal.axes_manager.navigation_axes[:2]:
            axis.scale, axis.units = pixel, "nm"
        if tilts is not None:
            signal.metadata.set_item("Tomography.tilts", list(tilts))
        if stage is not None:
            signal.metadata.set_item("Acquisition_instrument.TEM.Stage.tilt_alpha", stage)
        signal.save(tmp_path / name, overwrite=True)
        return tmp_path / name

    return write


def settings(folder, **changes):
    return Settings.build({"low_loss": folder / "low*.hspy", "core_loss": folder / "core*.hspy"} | changes)


# ---------------------------------------------------------------- which file is which tilt


def test_given_tilts_follow_the_files_as_their_numbers_count(write, tmp_path):
    for k in (1, 2, 10):
        write(f"low_{k}.hspy", stage=-40 + 4 * k)
    write("core_2.hspy", kind="core", stage=-32)
    given = settings(tmp_path, tilt_angles_deg=(-36, -32, 0))
    assert [path.name for path in given.low_loss] == ["low_1.hspy", "low_2.hspy", "low_10.hspy"]
    lines = []
    Chain(given, lines.append, None).check()
    assert lines == ["  -36.00°  low_1.hspy", "  -32.00°  low_2.hspy", "    0.00°  low_10.hspy"]
    as_the_shell_sorts = [given.low_loss[k] for k in (0, 2, 1)]
    wrong = settings(tmp_path, low_loss=as_the_shell_sorts, tilt_angles_deg=(-36, -32, 0))
    with pytest.raises(ValueError, match=r"^tilt_angles_deg: got -32 for low_10\.hspy, wants 0 as in its metadata"):
        Chain(wrong, print, None).check()


def test_reconstruct_tells_the_tilt_of_each_file(tmp_path, capsys, monkeypatch):
    for tilt in (0, 30, -30):
        tifffile.imwrite(tmp_path / f"map_{tilt:+d}deg.tif", np.ones((8, 8), np.float32))
    monkeypatch.setattr(Chain, "run", lambda _: "the report")
    assert command_line.main(["reconstruct", str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:] == [
        "  -30.00°  map_-30deg.tif",
        "    0.00°  map_+0deg.tif",
        "   30.00°  map_+30deg.tif",
        "the report",
    ]


# ---------------------------------------------------------------- energies of each file


def test_energies_of_each_file_are_told(write, tmp_path):
    for tilt, start in ((-30, -10.0), (0, -9.75), (30, -10.5)):
        write(f"low_{tilt:+d}.hspy", start=start)
        write(f"core_{tilt:+d}.hspy", kind="core", start=510.0 + start)
    lines = []
    Chain(settings(tmp_path), lines.append, None).check()
    assert lines == [
        "  -30.00°  low_-30.hspy  from -10 eV",
        "    0.00°  low_+0.hspy  from -9.75 eV",
        "   30.00°  low_+30.hspy  from -10.5 eV",
        "low_loss: all have -9.75 to 119.25 eV, which is what is used",
        "  -30.00°  core_-30.hspy  from 500 eV",
        "    0.00°  core_+0.hspy  from 500.25 eV",
        "   30.00°  core_+30.hspy  from 499.5 eV",
        "core_loss: all have 500.25 to 888.75 eV, which is what is used",
    ]


@pytest.mark.parametrize(
    ("kind", "start", "told"),
    [
        ("low", -30.0, r"^low_loss: got energies -10 to 99\.5 eV in all files, wants the zero loss and Fe-M2,3"),
        ("core", 700.0, r"^core_loss: got energies 700 to 889 eV in all files, wants Fe-L2,3: 69"),
    ],
)
def test_energies_in_common_that_lack_an_edge_are_refused(write, tmp_path, kind, start, told):
    for tilt in (-30, 30):
        write(f"low_{tilt:+d}.hspy", start=start if kind == "low" and tilt < 0 else None)
        write(f"core_{tilt:+d}.hspy", kind="core", start=start if kind == "core" and tilt > 0 else None)
    with pytest.raises(ValueError, match=told):
        Chain(settings(tmp_path), lambda _: None, None).check()


def peaks(folder, kind, tilt, *, start, at, step, n=400, width_eV=1.0):
    """A spectrum image (2, 2, n) of one Gaussian peak at an energy; the axis starts where it is told."""
    from exspy.signals import EELSSpectrum

    energy = start + step * np.arange(n)
    peak = 1e4 * np.exp(-(((energy - at) / width_eV) ** 2) / 2)
    signal = EELSSpectrum(np.broadcast_to(peak, (2, 2, n)).astype(np.float32))
    axis = signal.axes_manager.signal_axes[0]
    axis.scale, axis.offset, axis.units = step, start, "eV"
    signal.save(folder / f"{kind}_{tilt:+d}.hspy")


@pytest.mark.parametrize("core_step", [0.25, 1.0])
def test_core_loss_moves_with_the_zero_loss_of_its_tilt(tmp_path, core_step):
    """A line at 700 eV is there in each tilt, whatever the offsets of both axes and the drift are."""
    drifts = {-30: 0.0, 0: 3.1, 30: -2.3}
    low_starts, core_starts = {-30: -20.0, 0: -17.1, 30: -21.6}, {-30: 600.3, 0: 611.0, 30: 594.4}
    for tilt, drift in drifts.items():
        peaks(tmp_path, "low", tilt, start=low_starts[tilt], at=drift, step=0.25)
        peaks(tmp_path, "core", tilt, start=core_starts[tilt], at=700 + drift, step=core_step, width_eV=3, n=1000)
    given = settings(tmp_path)
    low, core = (read_spectra(getattr(given, name), given, name) for name in ("low_loss", "core_loss"))
    assert np.abs(energy_residuals(low)).max() > 0.09 and np.abs(energy_residuals(core)).max() > 0.09
    low, core = level_dual(low, core)
    low, core = spectra.align_zero_loss(low, core)  # as standards do
    for signal, line in ((low, 0.0), (core, 700.0)):
        energy, counts = signal.axes_manager.signal_axes[0].axis, signal.data[:, 0, 0]
        np.testing.assert_allclose(counts @ energy / counts.sum(-1), line, atol=0.02)
    assert core.axes_manager.signal_axes[0].axis[0] > 608  # where the last of them starts


def test_a_line_of_dual_eels_is_levelled_too(tmp_path):
    """Standards may come from a line of pixels: its zero losses drift by five channels."""
    energy, drift = -20 + 0.5 * np.arange(300), np.linspace(0, 2.5, 40)[:, None]
    low = hs.signals.Signal1D(1e4 * np.exp(-((energy - drift) ** 2)))
    core = hs.signals.Signal1D(1e4 * np.exp(-((energy - 60 - drift) ** 2) / 9))
    for signal in (low, core):
        axis = signal.axes_manager.signal_axes[0]
        axis.scale, axis.offset, axis.units = 0.5, -20, "eV"
    low, core = level_dual(low, core)
    for signal, line in ((low, 0), (core, 60)):
        energy = signal.axes_manager.signal_axes[0].axis
        assert energy.size == 295 and np.abs(signal.data @ energy / signal.data.sum(-1) - line).max() < 0.26


def test_energies_that_are_not_those_of_the_tilts_are_refused():
    series = hs.signals.Signal1D(np.ones((3, 2, 2, 20)))
    series.metadata.set_item("Tomography.energy_residuals", [0.0, 0.1])
    with pytest.raises(ValueError, match=r"energy_residuals: got 2, wants one for each tilt \(3\)"):
        energy_residuals(series)


@pytest.fixture
def series(write, tmp_path):
    """Writes a pair of files for each of two tilts, some of them changed."""

    def make(low=None, core=None, **changes):
        for tilt in (-30, 30):
            write(f"low_{tilt:+d}.hspy", **(low or {}) | changes)
            write(f"core_{tilt:+d}.hspy", kind="core", **(core or {}) | changes)
        return tmp_path

    return make


def check(given):
    """The lines of the first check."""
    lines = []
    Chain(given, lines.append, None).check()
    return lines


@pytest.mark.parametrize("unit", [None, "", "unknown"])
def test_energies_without_a_unit_that_plainly_are_ev_are_taken_and_told(series, unit):
    folder = series(unit=unit)
    told = [line for line in check(settings(folder)) if "unit" in line]
    assert told == [
        f"{name}: the energies have no unit, and are taken to be in eV" for name in ("low_loss", "core_loss")
    ]
    found = pipeline.inspect(folder / "low_-30.hspy")
    assert found.kind == "low loss" and "the energies have no unit, and are taken to be in eV" in found.problems
    energies = spectra.energy_axis(read_spectra(settings(folder).low_loss, settings(folder), "low_loss"))
    assert energies[0] == -10 and energies[-1] == 119.5


@pytest.mark.parametrize(
    ("low", "core", "name"),
    [
        ({"per_ev": 1e-3}, {}, "low_loss"),  # in keV, M2,3 ends at 0.1
        ({"per_ev": 1e3}, {}, "low_loss"),  # in meV, no channel is at M2,3
        ({"start": -15.0}, {}, "low_loss"),  # the zero loss is not at 0
        ({}, {"per_ev": 1e-3}, "core_loss"),
        ({}, {"start": 0.0, "per_ev": 2 / 3}, "core_loss"),  # channels are counted
    ],
)
def test_energies_without_a_unit_that_may_be_anything_are_refused(series, low, core, name):
    folder = series({"unit": None} | low, {"unit": None} | core)
    with pytest.raises(ValueError, match=rf"^{name}: got an energy axis without a unit, wants eV, keV or meV"):
        check(settings(folder))


def test_a_unit_of_energy_that_is_given_is_used_where_none_is_stated(series, capsys, monkeypatch):
    folder = series({"unit": None, "per_ev": 1e-3}, {"unit": "channels"})
    with pytest.raises(ValueError, match=r"^core_loss: got an energy axis in channels, wants eV, keV or meV"):
        check(settings(series({}, {"unit": "channels"})))
    series({"unit": None, "per_ev": 1e-3}, {"unit": "channels", "per_ev": 1e-3})
    told = check(settings(folder, energy_unit="keV"))
    assert told[-1] == "core_loss: energies in keV, as given in place of channels"
    monkeypatch.setattr(pipeline, "reconstruct", lambda settings, **_: settings.energy_unit)
    arguments = [str(folder / "low_*.hspy"), "--core", str(folder / "core_*.hspy"), "-p", "energy_unit", "keV"]
    assert command_line.main(["reconstruct", *arguments]) == 0
    assert "-10 to 119.5 eV, 0.5 eV per channel" in capsys.readouterr().out


# ---------------------------------------------------------------- what is given, and what the files say


def test_a_pixel_size_that_is_given_wins_and_is_told(series, write, tmp_path):
    folder = series()
    write("low_+30.hspy", pixel=0.5)
    with pytest.raises(ValueError, match=r"^low_loss: got pixels along .* in low_\+30\.hspy"):
        check(settings(folder))
    given = settings(folder, pixel_size_nm=0.45)
    told = [line for line in check(given) if "pixels" in line]
    assert told == [
        "low_loss: pixels of 0.45 nm, as given in place of 0.4 to 0.5 nm",
        "core_loss: pixels of 0.45 nm, as given in place of 0.4 nm",
    ]
    low = read_spectra(given.low_loss, given, "low_loss")
    assert [axis.scale for axis in low.axes_manager.navigation_axes[:2]] == [0.45, 0.45]


@pytest.mark.parametrize("uneven", [False, True])
def test_a_pixel_size_that_is_given_wins_over_that_of_maps(tmp_path, uneven):
    data.TiltSeries(np.ones((1, 5, 6, 8), np.float32), np.array(TILTS), ("a",), 1.0).save(tmp_path / "maps.hspy")
    signal = hs.load(tmp_path / "maps.hspy")
    signal.axes_manager.signal_axes[1].scale = 2.0 if uneven else 1.0
    signal.save(tmp_path / "maps.hspy", overwrite=True)
    given = Settings.build({"maps": tmp_path / "maps.hspy", "pixel_size_nm": 0.4, "output": tmp_path / "out"})
    assert check(given) == [f"maps: pixels of 0.4 nm, as given in place of 1{' to 2' * uneven} nm"]
    assert read_maps(given)[0].pixel_size_nm == 0.4


def test_pixels_of_the_core_loss_are_those_of_the_low_loss(series):
    with pytest.raises(ValueError, match=r"^core_loss: got pixels of 0\.8 nm, wants those of low_loss, 0\.4 nm"):
        check(settings(series(core={"pixel": 0.8})))


@pytest.mark.parametrize(
    ("name", "value"),
    [("beam_energy_keV", 3e5), ("collection_mrad", 0.04), ("pixel_size_nm", 4e-10), ("pixel_size_nm", 352_778.0)],
)
def test_values_in_another_unit_are_refused(series, name, value):
    with pytest.raises(ValueError, match=rf"^{name}: got .*, wants a number from "):
        settings(series(), **{name: value})


@pytest.mark.parametrize("value", [3e5, "300 kV"])
def test_what_files_say_in_another_unit_is_refused(series, tmp_path, value):
    folder = series()
    for tilt in (-30, 30):
        core = hs.load(tmp_path / f"core_{tilt:+d}.hspy")
        core.metadata.Acquisition_instrument.TEM.beam_energy = value
        core.save(tmp_path / f"core_{tilt:+d}.hspy", overwrite=True)
    with pytest.raises(ValueError, match=r"^beam_energy_keV.*: got .*, wants "):
        check(settings(folder))


# ---------------------------------------------------------------- which input it was


@pytest.mark.parametrize("name", ["low_loss", "core_loss", "standards_low_loss", "standards_core_loss"])
@pytest.mark.parametrize("suffix", [".hspy", ".txt"])
def test_errors_about_files_name_the_setting_that_they_came_from(series, tmp_path, name, suffix):
    folder = series()
    pair = {"standards_low_loss": folder / "low_-30.hspy", "standards_core_loss": folder / "core_-30.hspy"}
    bad = folder / f"bad{suffix}"
    bad.write_bytes(b"nothing of the kind")
    many = [folder / f"{name.partition('_')[0]}_+30.hspy", bad]
    for files in ([bad], many) if name in ("low_loss", "core_loss") else (bad,):
        with pytest.raises(ValueError, match=rf"^{name}: got .*bad"):
            check(settings(folder, **(pair | {"core_loss": None} if name in pair else {}) | {name: files}))
    (tmp_path / "maps.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"^maps: got maps\.npz"):
        check(Settings.build({"maps": tmp_path / "maps.npz", "output": tmp_path / "out"}))


@pytest.mark.parametrize("name", ["low_loss", "core_loss", "standards_core_loss"])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_values_that_are_no_numbers_are_found_before_the_work(series, write, name, bad):
    folder, changes = series(), {}
    if name == "standards_core_loss":
        changes = {name: folder / "bad.hspy", "standards_low_loss": folder / "low_-30.hspy", "core_loss": None}
    kind = "low" if name == "low_loss" else "core"
    write("bad.hspy" if changes else f"{kind}_+30.hspy", kind=kind, bad=bad)
    with pytest.raises(ValueError, match=rf"^{name}: got NaN or infinity in 1 spectra.*, wants finite counts"):
        check(settings(folder, **changes))


@pytest.mark.parametrize(("bad", "told"), [(0.0, "got no counts of low_.30.hspy"), (1e30, "got 1e.30 counts")])
def test_images_without_counts_or_with_too_many_are_refused_before_the_work(series, bad, told):
    folder = series()
    image = hs.load(folder / "low_+30.hspy")
    image.data = np.full_like(image.data, bad)
    image.save(folder / "low_+30.hspy", overwrite=True)
    with pytest.raises(ValueError, match=f"^low_loss: {told}"):
        check(settings(folder))


def test_channels_too_wide_for_an_edge_are_refused(write, tmp_path):
    """As those of X-ray spectra, whose axis holds the edges, too."""
    for tilt in (-30, 30):
        write(f"low_{tilt:+d}.hspy", per_ev=20, start=-10)
        write(f"core_{tilt:+d}.hspy", kind="core")
    with pytest.raises(ValueError, match=r"^low_loss: got channels of 10 eV, wants at least 16 over Fe-M2,3"):
        check(settings(tmp_path))
    assert pipeline.inspect(tmp_path / "low_+30.hspy").kind == "spectra"


def test_large_spectra_are_looked_at_in_part_before_the_work(series, monkeypatch):
    """A row of each image: what is in another is found when the spectra are read."""
    folder = series({"bad": np.nan})
    monkeypatch.setattr(sys.modules["softeels_utils.pipeline.series"], "LOOKED_AT_BYTES", 2 * 4 * 260 * 4)
    check(settings(folder))
    with pytest.raises(ValueError, match=r"^low_loss: got NaN or infinity in 1 spectra of low_-30\.hspy"):
        read_spectra(settings(folder).low_loss, settings(folder), "low_loss")


def test_numbers_of_low_loss_and_core_loss_are_in_one_order(write, tmp_path):
    """Where angles are given, nothing else says that the files belong together."""
    for k in (7, 8, 10):
        write(f"low_{k}.hspy")
        write(f"core_{k}.hspy", kind="core")
    given = {"tilt_angles_deg": (-30, 0, 30)}
    check(settings(tmp_path, **given))
    as_the_shell_sorts = [tmp_path / f"core_{k}.hspy" for k in (10, 7, 8)]
    with pytest.raises(ValueError, match=r"^core_loss: got core_10\.hspy where low_loss has low_7\.hspy"):
        check(settings(tmp_path, core_loss=as_the_shell_sorts, **given))


def test_a_link_that_leads_nowhere_is_named(series):
    folder = series()
    (folder / "low_+0.hspy").symlink_to(folder / "gone.hspy")
    with pytest.raises(ValueError, match=r"^low_loss: got low_\+0\.hspy, a link that leads nowhere, wants files"):
        settings(folder)


@pytest.mark.parametrize(
    ("kind", "unit", "told"),
    [("EDS_TEM", "keV", r"spectra of X-rays \(EDS_TEM\)"), ("", "nm", r"spectra over wavelength \(in nm\)")],
)
def test_spectra_of_something_else_are_refused(tmp_path, kind, unit, told):
    """X-rays from -1 to 7 keV would pass for a low loss."""
    for tilt in TILTS:
        signal = hs.signals.Signal1D(np.ones((3, 4, 4096), np.float32))
        energy = signal.axes_manager.signal_axes[0]
        energy.scale, energy.offset, energy.units = 0.002, -1.0, unit
        signal.metadata.Signal.signal_type = kind
        signal.save(tmp_path / f"low_{tilt:+g}deg.hspy")
    (problem,) = pipeline.inspect(next(tmp_path.glob("low*"))).problems
    wanted = Settings.build({"low_loss": tmp_path / "low*.hspy", "core_loss": tmp_path / "low*.hspy"})
    with pytest.raises(ValueError, match=rf"^low_loss: got {told}") as error:
        read_spectra(wanted.low_loss, wanted, "low_loss")
    assert problem == str(error.value).replace("low_loss:", "path:")


def test_inspect_tells_how_long_a_spectrum_was_exposed_for(write):
    path = write("low.hspy")
    assert "dwell time" not in pipeline.inspect(path).facts
    signal = hs.load(path)
    signal.metadata.set_item("Acquisition_instrument.TEM.Detector.EELS.dwell_time", 0.02)
    signal.save(path, overwrite=True)
    assert pipeline.inspect(path).facts["dwell time"] == "0.02 s"


def test_a_spectrum_of_one_channel_is_told(tmp_path):
    lines = "FORMAT: EMSA/MAS", "VERSION: 1.0", "NPOINTS: 1", "DATATYPE: Y", "OFFSET: 0", "XPERCHAN: 1", "SPECTRUM: "
    text = "".join(f"#{line}\n" for line in lines)
    (tmp_path / "one.msa").write_text(f"{text}1.0,\n#ENDOFDATA: \n")
    (problem,) = pipeline.inspect(tmp_path / "one.msa").problems
    assert problem.startswith("path: got ") and problem.endswith("wants spectra")


def test_spectra_without_a_zero_loss_can_be_inspected(tmp_path):
    signal = hs.signals.Signal1D(np.ones((4, 4, 400)))
    energy = signal.axes_manager.signal_axes[0]
    energy.scale, energy.offset, energy.units = 0.5, -20, "eV"
    signal.save(tmp_path / "flat.hspy")
    found = pipeline.inspect(tmp_path / "flat.hspy")
    assert found.kind == "low loss" and any("no thickness" in told for told in found.problems)


def test_one_tilt_does_not_stand_for_two(series, tmp_path):
    folder = series()
    (folder / "low_+0.hspy").symlink_to(folder / "low_+30.hspy")
    with pytest.raises(ValueError, match=r"^low_loss: got low_\+0\.hspy twice"):
        settings(folder)
    (folder / "low_+0.hspy").unlink()
    shutil.copy(folder / "low_+30.hspy", folder / "low_+0.hspy")
    with pytest.raises(ValueError, match=r"^low_loss: got the same content in low_\+0\.hspy and low_\+30\.hspy"):
        pipeline.reconstruct(settings(folder, output=tmp_path / "out"), report=lambda _: None)


# ---------------------------------------------------------------- tilts of a stack


def test_angles_that_are_given_stand_above_bad_ones_of_a_stack(write, tmp_path, capsys, monkeypatch):
    write("low.hspy", tilts=np.deg2rad(TILTS))
    write("core.hspy", kind="core", tilts=TILTS)
    np.savetxt(tmp_path / "low.rawtlt", np.add(TILTS, 5))
    monkeypatch.setattr(pipeline, "reconstruct", lambda settings, **_: settings.tilt_angles_deg)
    arguments = ["reconstruct", str(tmp_path / "low.hspy"), "--core", str(tmp_path / "core.hspy")]
    for angles in (["−60", "-30", "0", "30", "60"], ["=-60,-30,0,30,60"]):
        given = [f"--tilts{angles[0]}"] if len(angles) == 1 else ["--tilts", *angles]
        assert command_line.main([*arguments, *given]) == 0
        assert capsys.readouterr().out.endswith(f"\n{TILTS}\n")


@pytest.mark.parametrize(
    ("tilts", "message"),
    [
        (np.deg2rad(TILTS), "wants degrees that span at least 10"),
        ((-60.0, -30.0, -30.0, 30.0, 60.0), "got -30 twice"),
    ],
    ids=["radians", "twice"],
)
def test_bad_tilts_of_a_stack_are_refused_by_the_first_check(write, tmp_path, tilts, message):
    write("low.hspy", tilts=tilts)
    write("core.hspy", kind="core", tilts=tilts)
    with pytest.raises(ValueError, match=rf"^tilt_angles_deg: .*{message}"):
        Chain(settings(tmp_path), print, None).check()
    assert any(message in problem for problem in pipeline.inspect(tmp_path / "low.hspy").problems)


def test_angles_that_are_given_for_a_stack_are_told_and_never_its_own_in_another_order(write, tmp_path):
    write("low.hspy", tilts=TILTS)
    write("core.hspy", kind="core", tilts=TILTS[::-1])
    given = (-70, -35, 0, 35, 70)
    told = [f"{name}: tilts as given, in place of those in the file" for name in ("low_loss", "core_loss")]
    assert check(settings(tmp_path, tilt_angles_deg=given)) == told
    with pytest.raises(ValueError, match=r"^tilt_angles_deg: got the angles of core\.hspy in another order"):
        check(settings(tmp_path, tilt_angles_deg=TILTS))
    np.savez(tmp_path / "maps.npz", projections=np.ones((1, 5, 8, 8), np.float32), tilt_angles_deg=TILTS)
    values = {"maps": tmp_path / "maps.npz", "output": tmp_path / "out"}
    assert check(Settings.build(values | {"tilt_angles_deg": given})) == [told[0].replace("low_loss", "maps")]
    with pytest.raises(ValueError, match=r"^tilt_angles_deg: got the angles of maps\.npz in another order"):
        check(Settings.build(values | {"tilt_angles_deg": TILTS[::-1]}))


# ---------------------------------------------------------------- core loss of some tilts


def test_core_loss_of_some_tilts_states_its_own(write, tmp_path):
    """Given tilts are those of the low loss; two tilts of the core loss need not span ten degrees."""
    write("low.hspy", tilts=(-60, 0, 5, 60))
    write("core.hspy", kind="core", tilts=(0, 5))
    given = settings(tmp_path, tilt_angles_deg=(-60, 0, 5, 60))
    assert data.get_tilts(read_spectra(given.core_loss, given, "core_loss", lazy=True)).tolist() == [0, 5]
    assert not pipeline.inspect(tmp_path / "core.hspy").problems
    Chain(given, print, None).check()
    (tmp_path / "core.hspy").unlink()
    for tilt in (0, 5):
        write(f"core_{tilt}.hspy", kind="core", stage=tilt)
    Chain(settings(tmp_path), print, None).check()


@pytest.mark.parametrize(
    ("core", "low", "tilt"),
    [
        ("core_+30.hspy", ("low_a.hspy", "low_b.hspy"), 30),
        ("core_cube-30deg.hspy", ("low_cube-30deg.hspy", "low_cube+30deg.hspy"), -30),
        ("core_tilt_30.hspy", ("low_tilt_-30.hspy", "low_tilt_30.hspy"), 30),
        ("core_tilt_02.hspy", ("low_tilt_01.hspy", "low_tilt_02.hspy"), None),  # a number that counts
        ("core_30.hspy", ("low_a.hspy", "low_b.hspy"), None),
    ],
)
def test_the_tilt_of_one_core_image_is_that_of_its_name(write, tmp_path, core, low, tilt):
    for name in low:
        write(name)
    write(core, kind="core")
    given = settings(tmp_path, low_loss=[tmp_path / name for name in low], tilt_angles_deg=(-30, 30))
    if tilt is not None:
        assert data.get_tilts(read_spectra(given.core_loss, given, "core_loss", lazy=True)).tolist() == [tilt]
        return
    with pytest.raises(ValueError, match=rf"^core_loss: got no angle in {core}, wants .* or the name"):
        Chain(given, print, None).check()


# ---------------------------------------------------------------- maps


def test_maps_without_a_pixel_size_enter_with_one_that_is_given(tmp_path, capsys, monkeypatch):
    with mrcfile.new(tmp_path / "nosize.mrc") as file:
        file.set_data(np.ones((5, 8, 8), np.float32))
    (tmp_path / "nosize.rawtlt").write_text("\n".join(map(str, TILTS)))
    assert data.read_tilt_series(tmp_path / "nosize.mrc").pixel_size_nm is None
    assert pipeline.inspect(tmp_path / "nosize.mrc").missing[0] == "pixel size"
    monkeypatch.setattr(pipeline, "reconstruct", lambda settings, **_: settings.pixel_size_nm)
    assert command_line.main(["reconstruct", str(tmp_path / "nosize.mrc"), "-p", "pixel_size_nm", "0.4"]) == 0
    assert capsys.readouterr().out.endswith("\n0.4\n")


def test_each_input_is_opened_once(maps, tmp_path, monkeypatch):
    opened = []
    read = data.files.read_archive
    monkeypatch.setattr(data.files, "read_archive", lambda path, names: opened.append(path) or read(path, names))
    monkeypatch.setattr(pipeline, "reconstruct", lambda settings, **_: "the report")
    assert command_line.main(["reconstruct", str(maps[0])]) == 0
    assert opened == [maps[0]]
    Chain(Settings.build({"maps": maps[0], "output": tmp_path / "out"}), print, None).check()
    assert opened == [maps[0]] * 2


def test_a_folder_of_maps_may_have_a_dot_in_its_name(tmp_path):
    folder = tmp_path / "cube_0.4nm"
    folder.mkdir()
    for tilt in TILTS:
        tifffile.imwrite(folder / f"map_{tilt:+.0f}deg.tif", np.ones((8, 8), np.float32))
    assert pipeline.inspect(folder).kind == "maps"


def test_maps_in_another_unit_of_length_are_brought_to_nm(tmp_path):
    values = {"projections": np.full((1, 5, 8, 8), 3e-9), "variance": np.full((1, 5, 8, 8), 1e-18), "unit": "m"}
    np.savez(tmp_path / "maps.npz", tilt_angles_deg=TILTS, **values)
    found, _ = read_maps(Settings.build({"maps": tmp_path / "maps.npz"}))
    assert found.unit == "nm"
    np.testing.assert_allclose(found.values, 3, rtol=1e-6)
    np.testing.assert_allclose(found.covariance, 1, rtol=1e-6)


def test_calibrated_maps_are_in_nm(tmp_path):
    np.savez(tmp_path / "maps.npz", projections=np.ones((1, 5, 8, 8)), tilt_angles_deg=TILTS, unit="counts")
    values = {"maps": tmp_path / "maps.npz", "calibrated": True, "output": tmp_path / "out"}
    with pytest.raises(ValueError, match=r"^calibrated: got true with maps in counts, wants false, or maps in nm"):
        check(Settings.build(values))


def test_pixels_that_are_left_out_are_told(tmp_path):
    maps = np.ones((1, 5, 8, 8), np.float32)
    maps[0, 1], maps[0, 2, 3, 4] = np.nan, np.nan
    np.savez(tmp_path / "maps.npz", projections=maps, tilt_angles_deg=TILTS)
    told = "maps: 65 of 320 pixels are NaN or have no error, and are left out, all of them at -30°"
    assert check(Settings.build({"maps": tmp_path / "maps.npz", "output": tmp_path / "out"})) == [told]


@pytest.mark.parametrize("error", [0.0, -1.0, np.nan])
def test_maps_whose_errors_are_none_are_refused(tmp_path, error):
    shape = (1, 5, 8, 8)
    np.savez(tmp_path / "maps.npz", projections=np.ones(shape), variance=np.full(shape, error), tilt_angles_deg=TILTS)
    with pytest.raises(ValueError, match=r"^maps: got no positive sum in maps\.npz where values and errors are finite"):
        Chain(Settings.build({"maps": tmp_path / "maps.npz", "output": tmp_path / "out"}), print, None).check()


# ---------------------------------------------------------------- counts


@pytest.mark.parametrize(("stated", "warned"), [(4.0, False), (1.0, True)])
def test_gain_of_the_metadata_is_taken_and_compared_with_the_noise(stated, warned):
    counts = 4.0 * np.random.default_rng(0).poisson(40, (1, 16, 16, 300))
    low = hs.signals.Signal1D(counts)
    energy = low.axes_manager.signal_axes[0]
    energy.scale, energy.offset, energy.units = 0.5, -10, "eV"
    low.metadata.set_item("Signal.Noise_properties.Variance_linear_model.gain_factor", stated)
    gain, told = noise_gain_of(low, None, (42, 88))
    assert gain == stated and bool(told) is warned
    assert noise_gain_of(low, 3, (42, 88)) == (3.0, [])


def test_a_dark_level_is_told(tmp_path):
    energy = -20 + 0.5 * np.arange(400)
    counts = np.where(energy > -3, 60, 0) + 1e4 * np.exp(-(energy**2)) + np.zeros((4, 4, 1))
    for name, dark in (("clean", 0), ("dark", 20)):
        signal = hs.signals.Signal1D(counts + dark)
        axis = signal.axes_manager.signal_axes[0]
        axis.scale, axis.offset, axis.units = 0.5, -20, "eV"
        signal.save(tmp_path / f"{name}.hspy")
        told = [p for p in pipeline.inspect(tmp_path / f"{name}.hspy").problems if "before the zero loss" in p]
        assert len(told) == (dark > 0) and all("25%" in text for text in told)


# ---------------------------------------------------------------- settings files


@pytest.fixture
def maps(tmp_path):
    """Two files of maps."""
    paths = [tmp_path / name for name in ("a.npz", "b.npz")]
    for path in paths:
        np.savez(path, projections=np.ones((1, 5, 8, 8), np.float32), tilt_angles_deg=TILTS)
    return paths


def test_written_settings_are_those_that_reconstruct_takes(maps, tmp_path):
    reference = pipeline.Inspection(maps[0].with_name("std.npz"), "standards", {})
    pipeline.write_settings([*map(pipeline.inspect, maps), reference], tmp_path / "written.yml")
    given = Settings.from_file(tmp_path / "written.yml")
    assert given.maps == maps[0] and given.standards is None
    text = (tmp_path / "written.yml").read_text()
    assert '# maps: "b.npz"' in text and '# standards: "std.npz"' in text


def test_angles_of_a_file_may_have_comments(maps, tmp_path):
    (tmp_path / "angles.txt").write_text("# degrees\n-50 ; first\n-30\n0, 30 // two\n50\n")
    given = Settings.build({"maps": maps[0], "tilt_angles_deg": str(tmp_path / "angles.txt")})
    assert given.tilt_angles_deg == (-50, -30, 0, 30, 50)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tilt_angles_deg", [-60, -30, 0, 30, True]),
        ("seed", 2**64),
        ("seed", True),
        ("members", 10**12),
        ("iterations", 10**12),
        ("workers", 10**9),
    ],
)
def test_values_that_would_fail_late_are_refused(maps, name, value):
    with pytest.raises(ValueError, match=rf"^{name}: got "):
        Settings.build({"maps": maps[0], name: value})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: 1\nseed: 2", "seed stands twice"),
        ("maps: &a a.npz\nstandards: *a", "is an alias"),
        ("maps:\n\t- a.npz", "wants a YAML file of settings"),
        ("members: 0x10", "wants a YAML file of settings"),
        ("pixel_size_nm: 1:30.5", "wants a YAML file of settings"),
        ("maps: !!python/name:os.system", "wants a YAML file of settings"),
        ("maps: " + 5000 * "[", "wants a YAML file of settings"),
    ],
)
def test_settings_files_that_say_something_twice_or_oddly_are_refused(tmp_path, text, told):
    (tmp_path / "settings.yml").write_text(text)
    with pytest.raises(ValueError, match=rf"^path: got settings\.yml, wants .*{told}|^path: .*{told}"):
        Settings.from_file(tmp_path / "settings.yml")


def test_numbers_of_settings_are_decimal(maps, tmp_path):
    """YAML 1.1 takes 060 for 48, and 4e-1 for a text."""
    text = "maps: a.npz\ntilt_angles_deg: [-060, -030, 000, 030, 060]\npixel_size_nm: 4e-1\n"
    (tmp_path / "settings.yml").write_text(text, encoding="utf-8-sig")
    given = Settings.from_file(tmp_path / "settings.yml")
    assert given.tilt_angles_deg == TILTS and given.pixel_size_nm == 0.4


@pytest.mark.parametrize("option", ["--html", "--write"])
def test_a_page_in_no_folder_is_refused(maps, tmp_path, capsys, option):
    name = {"--html": "page.html", "--write": "settings.yml"}[option]
    assert command_line.main(["inspect", str(maps[0]), option, str(tmp_path / "none" / name)]) == 2
    assert f"error: {option}: got" in capsys.readouterr().err


def test_a_pattern_for_one_file_must_match_one(maps, tmp_path):
    assert Settings.build({"maps": tmp_path / "a*.npz"}).maps == maps[0]
    with pytest.raises(ValueError, match=r"^maps: got 2 files \(a\.npz, b\.npz, \.\.\.\), wants one"):
        Settings.build({"maps": tmp_path / "*.npz"})


def test_brackets_of_a_folder_are_no_pattern(maps, tmp_path):
    folder = tmp_path / "run [1]"
    folder.mkdir()
    maps[0].rename(folder / "a.npz")
    (folder / "settings.yml").write_text("maps: '*.npz'")
    assert Settings.from_file(folder / "settings.yml").maps == folder / "a.npz"


def test_pixels_that_are_not_square_are_refused(tmp_path):
    series = data.TiltSeries(np.ones((1, 5, 6, 8), np.float32), np.linspace(-60, 60, 5), ("a",), 1.0)
    series.save(tmp_path / "maps.hspy")
    signal = hs.load(tmp_path / "maps.hspy")
    signal.axes_manager.signal_axes[1].scale = 2.0  # Y
    signal.save(tmp_path / "maps.hspy", overwrite=True)
    with pytest.raises(ValueError, match=r"^pixel_size_nm: got 1 nm along X and 2 nm along Y"):
        data.read_tilt_series(tmp_path / "maps.hspy")
    energy = {"size": 400, "scale": 0.5, "offset": -20, "units": "eV", "name": "Energy loss"}
    pixel = [{"size": 6, "scale": scale, "units": "nm", "name": name} for name, scale in (("y", 2), ("x", 1))]
    peak = 1 + 1e4 * np.exp(-((np.arange(400) / 2 - 20) ** 2))
    image = hs.signals.Signal1D(np.tile(peak, (6, 6, 1)), axes=[*pixel, energy])
    image.set_signal_type("EELS")
    image.save(tmp_path / "image.hspy")
    assert any("square" in told for told in pipeline.inspect(tmp_path / "image.hspy").problems)


def test_single_images_of_imagej_have_their_pixel_size(tmp_path):
    for tilt in TILTS:
        about = {"resolution": (2.0, 2.0), "metadata": {"unit": "nm"}}
        tifffile.imwrite(tmp_path / f"map_{tilt:+.0f}deg.tif", np.ones((6, 8), np.float32), imagej=True, **about)
    assert data.read_tilt_series(tmp_path).pixel_size_nm == 0.5


def test_names_of_users_are_no_formulas():
    figure = Figure()
    figure.subplots().set_title("$x_$")
    assert "<img" in figure_png(figure, "a figure")


@pytest.mark.parametrize("gain", [1.3e-4, 1.0, 7.0])
def test_residuals_of_the_report_do_not_depend_on_the_unit_of_the_counts(gain):
    counts, curve = np.array([0.0, 3.0, 120.0]), np.array([0.2, 4.0, 100.0])
    np.testing.assert_allclose(in_sigmas(gain * counts, gain * curve, gain), [-0.2, -0.5, 2.0])


def test_one_map_of_a_series_leads_to_its_folder(tmp_path):
    """A stack without angles does not."""
    for name in ("map_-30deg.tif", "maps.tif"):
        tifffile.imwrite(tmp_path / name, np.ones((2, 8, 9), np.float32), photometric="minisblack")
    one, stack = (" ".join(pipeline.inspect(tmp_path / name).problems) for name in ("map_-30deg.tif", "maps.tif"))
    assert "give the folder" in one and "give the folder" not in stack


def test_one_stack_for_each_phase_is_told_what_is_wanted(tmp_path, capsys):
    for phase in ("FeO", "Fe3O4"):
        tifffile.imwrite(tmp_path / f"{phase}.tif", np.ones((5, 8, 9), np.float32), photometric="minisblack")
    assert command_line.main(["reconstruct", str(tmp_path / "FeO.tif"), str(tmp_path / "Fe3O4.tif")]) == 2
    assert "(C, T, Y, X) of all phases" in capsys.readouterr().err


@pytest.fixture
def film(tmp_path):
    """Writes noisy maps (1, 5, 12, 16) of a bar at `TILTS`, which a function may change."""

    def film(change):
        values = np.random.default_rng(1).normal(scale=0.1, size=(1, len(TILTS), 12, 16)).astype(np.float32)
        values[:, :, 3:9, 6:11] += 5
        change(values)
        np.savez(tmp_path / "maps.npz", projections=values, tilt_angles_deg=TILTS)
        return Chain(Settings.build({"maps": tmp_path / "maps.npz", "output": tmp_path / "out"}), lambda _: None, None)

    return film


def test_a_tilt_that_was_not_measured_is_left_out(film, tmp_path):
    chain = film(lambda values: values[:, 1].fill(np.nan))
    chain.check()
    with chain.folder:
        chain.maps()
        chain.alignment()
        chain.comparison()
    (told,) = chain.folder.record("comparison").facts["warnings"]
    assert told.startswith("4 tilts are too few to withhold one")
    left = read_maps(chain.settings)[0].measured_tilts()
    assert left.tilt_angles_deg.tolist() == [-60, 0, 30, 60] and left.values.shape[1] == 4 and left.mask.all()
    assert np.load(tmp_path / "out" / "alignment.npz")["shifts_px"].shape == (4, 2)


@pytest.mark.parametrize(
    ("chosen", "value", "told"),
    [
        (1, 0.0, r"^maps: got 0 in all pixels at -30° of maps\.npz"),
        (slice(1, None), np.nan, r"^maps: got .*one angle"),
    ],
)
def test_tilts_of_nothing_are_refused_before_the_work(film, chosen, value, told):
    with pytest.raises(ValueError, match=told):
        film(lambda values: values[:, chosen].fill(value)).check()
