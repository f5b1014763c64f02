"""The chapters: in step with their pairs, without outputs, and each one run at the quick preset through papermill."""

import ast
import builtins
import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from softeels_utils import chapters, source

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [
    "01_dose_analysis",
    "02_standards",
    "03_m23_fitting",
    "04_sparse_view_study",
    "05_dipm_tv_nanocubes",
]
PACKAGES = {path.stem for path in source.PACKAGE.iterdir()}


def _read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _sources(chapter):
    """(code cells, Markdown cells) of a chapter, magics left out."""
    import jupytext

    cells = jupytext.read(ROOT / "notebooks" / f"{chapter}.py").cells
    code = [re.sub(r"(?m)^\s*[%!].*$", "", cell.source) for cell in cells if cell.cell_type == "code"]
    return code, [cell.source for cell in cells if cell.cell_type == "markdown"]


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
    code, markdown = _sources(chapter)
    for own_data in (False, True):
        cells = chapters.as_run(chapter, own_data).cells
        programs = [cell for cell in cells if cell.cell_type == "code"]
        shown = [c.source for c in programs if not {"hide-input", "hide-cell"} & set(c.metadata.get("tags", []))]
        assert len(cells) <= 45 and len(programs) <= 30
        assert sum(1 for line in "\n".join(shown).splitlines() if line.strip()) <= 150
        assert max(len(line) for cell in programs for line in cell.source.splitlines()) <= 80  # the page's code box
    text = "\n".join(markdown).lower()
    for section in ("key question", "what you will learn", "what you need", "your own data", "exercises", "summary"):
        assert section in text, f"no section {section!r}"
    for node in ast.walk(ast.parse("\n".join(code))):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 5, f"def {node.name} belongs in the package"
        assert not (isinstance(node, ast.Attribute) and node.attr.startswith("_")), "private name used"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_captions_hold_no_roles(chapter):
    """A caption is put into HTML, where a role of the book's Markdown would be shown as it is typed."""
    tree = ast.parse("\n".join(_sources(chapter)[0]))
    captions = [
        text.value
        for node in ast.walk(tree)
        if (isinstance(node, ast.keyword) and node.arg in ("caption", "alt", "title"))
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "captions")
        for text in ast.walk(node)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    ]
    assert len(captions) > 5 and not [text for text in captions if re.search(r"\{\w+\}`", text)]


def _defined(tree):
    """Names that code binds: by assignment, import, definition or as an argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]
        elif isinstance(node, ast.arg):
            yield node.arg


def _code_in_solutions(markdown):
    """Blocks of Python, and calls in running text, in the folded solutions of the exercises."""
    for solution in re.findall(r"(?ms)^:::\{admonition\} Solution.*?^:::$", "\n".join(markdown)):
        yield from map(ast.parse, re.findall(r"(?ms)^```python\n(.*?)^```", solution))
        for text in re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"(?ms)^```.*?^```", "", solution)):
            try:
                tree = ast.parse(" ".join(text.split()), mode="eval")
            except SyntaxError:
                continue  # a command line, or part of a call
            if any(isinstance(node, ast.Call) for node in ast.walk(tree)):
                yield tree


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_solutions_use_only_names_that_exist(chapter):
    code, markdown = _sources(chapter)
    defined = {*_defined(ast.parse("\n".join(code))), *vars(builtins)}
    for tree in _code_in_solutions(markdown):
        defined |= set(_defined(tree))  # a solution may use the names of the one before
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert used <= defined, f"undefined in a solution: {sorted(used - defined)}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PACKAGES:
                package = importlib.import_module(f"softeels_utils.{node.value.id}")
                assert hasattr(package, node.attr), f"a solution uses {node.value.id}.{node.attr}, which does not exist"


@pytest.mark.parametrize("preset", chapters.PRESETS)
def test_presets_fit_the_notebooks(preset):
    blocks = yaml.safe_load((ROOT / "params" / f"{preset}.yml").read_text())
    assert set(blocks) <= set(CHAPTERS)
    for chapter in CHAPTERS:
        values = chapters.parameters_of(chapter, preset)
        assert values["data_path"] == "" and isinstance(values["seed"], int)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_parameters_that_a_page_shows_are_those_of_the_quick_preset(chapter):
    shown = {}
    exec(next(source for source in _sources(chapter)[0] if source.startswith("data_path")), shown)
    quick = chapters.parameters_of(chapter, "quick")
    assert {name: shown[name] for name in quick} == quick


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
