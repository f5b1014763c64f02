"""Chapters on a user's own files: nothing of the twin is run, shown or written, and what does not fit is refused."""

import ast
import builtins
import json
import os
import subprocess
import sys

import hyperspy.api as hs
import numpy as np
import pytest
from skimage.measure import block_reduce

from softeels_utils import chapters, data, fitting, simulate, standards
from softeels_utils.__main__ import main
from softeels_utils.tomography import ParallelBeam

CHAPTERS = chapters.names()
PIXEL_NM, TILTS = 4.0, np.linspace(-60, 60, 5)
SIMULATOR = {"simulate", "make_case", "run_study", "core_shell_nanocube", "dual_eels", "spectrum_model"}


def _trees(chapter, own_data):
    """Syntax trees of the code cells that run, that of the parameters left out."""
    for cell in chapters.as_run(chapter, own_data).cells:
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
            yield ast.parse(cell.source)


def _names(tree, *, bound=False):
    """Names that code mentions, or only those that it binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not (bound and isinstance(node.ctx, ast.Load)):
            yield node.id
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and not bound:
            yield node.attr


@pytest.mark.parametrize("own_data", [False, True])
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_way_stands_alone(chapter, own_data):
    """No cell uses what only cells of the other way define."""
    known = {*vars(builtins), *chapters.parameters_of(chapter)}
    for tree in _trees(chapter, own_data):
        known |= set(_names(tree, bound=True))
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert used <= known, f"undefined: {sorted(used - known)}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_twin_and_own_data_do_not_meet(chapter):
    own, twin = ({name for tree in _trees(chapter, way) for name in _names(tree)} for way in (True, False))
    assert "data_path" in own and not own & SIMULATOR
    assert not twin & {"data_path", "output_path", "references_path", "low_loss_path", "mask_path", "read_signal"}


def test_what_does_not_fit_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(chapters, "BUILD", tmp_path / "build")
    monkeypatch.chdir(tmp_path)
    for name in ("core.hspy", "low.hspy", "maps.npz", "standards.npz"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    refused = {
        "low_loss_path: got none": ["02", "--data", "core.hspy"],
        "references_path: got none": ["03", "--data", "low.hspy"],
        "data_path: got an empty path": ["03", "--data", ""],
        "low_loss_path: got an empty path": ["02", "--data", "core.hspy", "-p", "low_loss_path", ""],
        "which does not exist": ["05", "--data", "missing.npz"],
        "a file of kind '.txt'": ["05", "--data", "notes.txt"],
        "output_path: got a path without data_path": ["02", "-p", "output_path", "mine.npz"],
        "low_loss_path: got a path without data_path": ["02", "-p", "low_loss_path", "low.hspy"],
        "references_path: got a path without data_path": ["03", "-p", "references_path", "standards.npz"],
        "phantom_path: got a path, which": ["04", "--data", "maps.npz", "-p", "phantom_path", "maps.npz"],
        "ends in .npz": ["02", "--data", "core.hspy", "-p", "low_loss_path", "low.hspy", "-p", "output_path", "s.hspy"],
        "which is read": ["05", "--data", "core.hspy", "-p", "output_path", "folder/../core.hspy"],
        "output_path: got": ["05", "--data", "maps.npz", "-p", "output_path", "low.hspy/volume.hspy"],
        "--output: got": ["05", "--data", "maps.npz", "--output", "low.hspy/run"],
        "parameter seed: got '[1'": ["05", "--data", "maps.npz", "-p", "seed", "[1"],
    }
    (tmp_path / "notes.txt").touch()
    for text, arguments in refused.items():
        assert main(["run", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("error: ") and text in error and error.count("\n") == 1, error
    assert not list(tmp_path.rglob("*.ipynb"))


# ---------------------------------------------------------------- from files to a volume, by the command line


@pytest.fixture(scope="session")
def user(tmp_path_factory):
    """A folder with a user's dual EELS and low-loss tilt series of a cube; the true thickness (2, T, Y, X) in nm."""
    folder = tmp_path_factory.mktemp("user")
    fine = simulate.core_shell_nanocube(32, PIXEL_NM / 2, oversample=2)
    thickness_nm = block_reduce(ParallelBeam(32, TILTS, PIXEL_NM / 2)(fine), (1, 1, 2, 2), np.mean)
    options = {"pixel_size_nm": PIXEL_NM, "progress": False}
    low, core = simulate.dual_eels(thickness_nm[:, 2], 1e5, seed=1, **options)
    series, _ = simulate.dual_eels(thickness_nm, 4e3, seed=2, tilt_angles_deg=TILTS, **options)
    for name, signal in {"low": low, "core": core, "series": series}.items():
        signal.save(folder / f"{name}.hspy")
    return folder, thickness_nm


def _run(folder, chapter, *arguments):
    """A chapter by the command line, typed in the user's folder; its executed notebook."""
    environment = {**os.environ, "PYTHONPATH": str(chapters.ROOT)}
    command = [sys.executable, "-m", "softeels_utils", "run", chapter, "--output", f"out{chapter}", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(next((folder / f"out{chapter}").glob("*.ipynb")).read_text(encoding="utf-8"))


def _check_own(notebook):
    """Figures are those of cells about a user's data, and no cell of the twin is there."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not [cell for cell in notebook["cells"] if "twin" in cell["metadata"].get("tags", [])]
    with_output = [cell for cell in code if cell["outputs"]]
    assert len(with_output) >= 2 and all("own-data" in cell["metadata"]["tags"] for cell in with_output)
    assert not [cell for cell in code if "simulate." in "".join(cell["source"])]
    return "".join(json.dumps(cell["outputs"]) for cell in with_output)


@pytest.fixture(scope="session")
def own_standards(user):
    folder, _ = user
    files = ("-p", "low_loss_path", "low.hspy", "-p", "output_path", "standards.npz")
    return _run(folder, "02", "--data", "core.hspy", *files, "-p", "bootstrap", "20")


@pytest.fixture(scope="session")
def own_fit(user, own_standards):
    folder, _ = user
    files = ("-p", "references_path", "standards.npz", "-p", "output_path", "fit.hspy")
    return _run(folder, "03", "--data", "series.hspy", *files)


def test_chapter_2_writes_the_standards_of_the_file(user, own_standards):
    folder, thickness_nm = user
    stdout, notebook = own_standards
    assert str(folder / "standards.npz") in stdout
    _check_own(notebook)
    found = standards.Standards.load(folder / "standards.npz")
    assert found.abundances.shape == (2, 16, 16)
    inside = thickness_nm[:, 2].sum(axis=0) > 10
    ratio = found.abundances[:, inside].sum() / thickness_nm[:, 2][:, inside].sum()
    assert 0.8 < ratio < 1.25
    assert not list(folder.glob(".*"))  # nothing is left of the way there


def test_chapter_3_writes_the_unbounded_fit_of_the_file(user, own_fit):
    folder, thickness_nm = user
    _check_own(own_fit[1])
    fit = fitting.PhaseFit.load(folder / "fit.hspy")
    assert fit.coefficients.shape == (5, 16, 16, 2) and fit.phases == ("FeO", "Fe3O4")
    np.testing.assert_allclose(fit.tilt_angles_deg, TILTS)
    assert fit.coefficients.min() < 0 and len(fit.systematic) > 0
    total = fit.coefficients.sum(axis=-1)
    assert np.corrcoef(total.ravel(), thickness_nm.sum(axis=0).ravel())[0, 1] > 0.98


def test_chapter_5_writes_the_volume_of_the_fit(user, own_fit):
    folder, thickness_nm = user
    few = ("-p", "iterations", "30", "-p", "member_count", "2", "-p", "reference_draws", "2")
    _, notebook = _run(folder, "05", "--data", "fit.hspy", "-p", "output_path", "volume.hspy", *few)
    text = _check_own(notebook)
    assert "The value of a pure voxel is learned" in text and "of the standards" in text and "joint TV" in text
    volume = hs.load(folder / "volume.hspy")
    assert volume.data.shape == (2, 16, 16, 16) and volume.metadata.Tomography.channels == ["FeO", "Fe3O4"]
    assert [axis.scale for axis in volume.axes_manager[("z", "x", "y")]] == [PIXEL_NM] * 3
    assert volume.metadata.Signal.Noise_properties.variance.data.shape == volume.data.shape
    true_nm3 = thickness_nm[:, 2].sum() * PIXEL_NM**2
    assert 0.75 < volume.data.sum() * PIXEL_NM**3 / true_nm3 < 1.3


def test_chapters_1_and_4_are_about_the_file(user, own_standards, tmp_path):
    folder, thickness_nm = user
    noise = np.random.default_rng(0).normal(0, 1.0, thickness_nm[:, :, 6:9].shape)
    np.savez(tmp_path / "maps.npz", projections=thickness_nm[:, :, 6:9] + noise, tilt_angles_deg=TILTS)
    paths = {"data_path": folder / "low.hspy", "references_path": folder / "standards.npz"}
    maps = {"data_path": tmp_path / "maps.npz", "network": {"preset": "quick", "iterations": 20}}
    for chapter, overrides in {"01": paths, "04": maps}.items():
        run, _ = chapters.execute(chapter, overrides=overrides, folder=tmp_path)
        assert run.error is None
        text = _check_own(json.loads((tmp_path / f"{run.chapter}.ipynb").read_text(encoding="utf-8")))
        assert text.count('"image/png": ') == {"01": 2, "04": 3}[chapter]
        assert chapter == "04" or ("all Fe, as FeO" in text and "Is this Fe?" not in text)


def test_core_loss_without_the_edge_is_refused(user, tmp_path):
    thickness_nm = np.full((2, 8, 8), 10.0)
    _, core = simulate.dual_eels(thickness_nm, 1e4, system="manganese_oxides", pixel_size_nm=PIXEL_NM, progress=False)
    core.save(tmp_path / "manganese.hspy")
    low = hs.load(user[0] / "low.hspy").inav[:8, :8]
    low.save(tmp_path / "low.hspy")
    paths = {"data_path": tmp_path / "manganese.hspy", "low_loss_path": tmp_path / "low.hspy"}
    run, _ = chapters.execute("02", overrides=paths | {"output_path": tmp_path / "s.npz"}, folder=tmp_path)
    assert "wants the edge Fe-L2,3" in run.error and not (tmp_path / "s.npz").exists()


def test_manganese_is_never_taken_for_iron_in_silence(user, own_standards, tmp_path, monkeypatch, capsys):
    if not data.is_cached("lsmo_dual_eels"):
        pytest.skip("lsmo_dual_eels is not in the cache")
    monkeypatch.setattr(chapters, "BUILD", tmp_path)
    core, low = (str(path) for path in sorted(data.fetch("lsmo_dual_eels").values()))
    assert (
        main(["run", "02", "--data", core, "-p", "low_loss_path", low, "-p", "output_path", f"{tmp_path}/s.npz"]) == 1
    )
    assert "wants Fe-L2,3" in capsys.readouterr().err and not (tmp_path / "s.npz").exists()
    references = ["-p", "references_path", str(user[0] / "standards.npz")]
    run, _ = chapters.execute("03", overrides={"data_path": low, "references_path": references[2]}, folder=tmp_path)
    assert run.error is None
    assert "admonition danger" in (tmp_path / "03_m23_fitting.ipynb").read_text(encoding="utf-8")
