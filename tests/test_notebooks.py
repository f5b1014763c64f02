"""The chapters: in step with their pairs, without outputs, and each one run at the quick preset through papermill."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from softeels_utils import chapters

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [
    "01_dose_analysis",
    "02_standards",
    "03_m23_fitting",
    "04_sparse_view_study",
    "05_dipm_tv_nanocubes",
]


def _read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_all_chapters_are_there():
    assert chapters.names() == CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_outputs(chapter):
    for cell in _read(ROOT / "notebooks" / f"{chapter}.ipynb")["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_pairs_are_in_step(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # jupytext's settings
    sources = sorted(str(path) for path in (tmp_path / "notebooks").glob("*.py"))
    subprocess.run([sys.executable, "-m", "jupytext", "--sync", *sources], check=True, capture_output=True)
    for path in sorted((ROOT / "notebooks").glob("[0-9]*")):
        assert (tmp_path / "notebooks" / path.name).read_text() == path.read_text(), f"{path.name}: run make sync"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_style(chapter):
    """One page skeleton; maths in the package, not in the notebook."""
    import ast

    import jupytext

    notebook = jupytext.read(ROOT / "notebooks" / f"{chapter}.py")
    assert len(notebook.cells) <= 45
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").lower()
    for section in ("key question", "what you will learn", "what you need", "your own data", "exercises", "summary"):
        assert section in text, f"no section {section!r}"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(re.sub(r"(?m)^\s*[%!].*$", "", cell.source))):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 5, f"def {node.name} belongs into the package"
                assert not (isinstance(node, ast.Attribute) and node.attr.startswith("_")), "private name used"


@pytest.mark.parametrize("preset", chapters.PRESETS)
def test_presets_fit_the_notebooks(preset):
    blocks = yaml.safe_load((ROOT / "params" / f"{preset}.yml").read_text())
    assert set(blocks) <= set(CHAPTERS)
    for chapter in CHAPTERS:
        values = chapters.parameters_of(chapter, preset)
        assert values["data_path"] == "" and isinstance(values["seed"], int)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs_through_papermill(chapter):
    run, _ = chapters.execute(chapter)
    assert run.error is None
    cells = _read(chapters.BUILD / "executed" / f"{chapter}.ipynb")["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") >= 2
    assert "application/vnd.jupyter.widget-view+json" not in kinds  # widgets need a kernel to be seen


def _names(requirements):
    """``{name: version part}``, without extras and markers."""
    found = {}
    for requirement in requirements:
        name, _, version = re.match(r"([\w.-]+)(\[.*?\])?([^;]*)", requirement.replace(" ", "")).groups()
        found[name.lower()] = version
    return found


def test_environment_is_in_step_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = _names(sum(project["optional-dependencies"].values(), project["dependencies"]))
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    listed = _names(
        [line for line in conda if isinstance(line, str)]
        + [line for line in conda[-1]["pip"] if not line.startswith("--editable")]
    )
    listed["torch"] = listed.pop("pytorch")  # conda's name
    assert listed.pop("tomopy") is not None  # conda-forge only
    assert listed.pop("python") == project["requires-python"]
    listed.pop("pip")
    assert listed == wanted


def test_constraints_name_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = _names(project["dependencies"] + project["optional-dependencies"]["book"])
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    assert {name.replace("_", "-") for name in wanted} <= pinned
