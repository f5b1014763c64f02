"""Run the chapters: jupytext makes the notebook, papermill runs it with a preset's parameters, a stamp remembers it.

A chapter is ``notebooks/NAME.py``. It runs with the parameters of ``params/PRESET.yml`` into ``book/_build/executed``,
and is stamped with a hash of all it depends on; while the stamp holds it is not run again.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import yaml

from . import data

__all__ = ["BookError", "Run", "UsageError", "chapter_hash", "execute", "last_run", "name_of", "names", "parameters_of"]

ROOT = data.ROOT
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "book" / "_build"
PRESETS = ("quick", "full")
PACKAGE = Path(__file__).parent
# A cell that hangs is an error, not a job without end; the full preset has long cells.
CELL_TIMEOUT_S = {"quick": 900, "full": 6 * 3600}
VERSIONS = ("numpy", "scipy", "torch", "hyperspy", "exspy", "scikit-image", "plotly", "papermill", "jupyter-book")


class UsageError(ValueError):
    """What was asked for does not exist or does not fit: exit code 2."""


class BookError(RuntimeError):
    """A chapter or the rendering failed: exit code 1."""


@dataclass(frozen=True)
class Run:
    """One execution of a chapter, as it is kept in ``NAME.json`` beside the executed notebook."""

    chapter: str
    preset: str
    parameters: dict
    stamp: str
    seconds: float
    finished: str
    versions: dict
    hardware: str
    error: str | None = None


# ---------------------------------------------------------------- chapters and their parameters


def names():
    """Return the names of all chapters, in order."""
    return [path.stem for path in sorted(NOTEBOOKS.glob("[0-9]*.py"))]


def name_of(chapter):
    """Accept a whole name or its number ("03" or "3"); return the name."""
    found = [name for name in names() if chapter == name or chapter.zfill(2) == name.split("_")[0]]
    if not found:
        raise UsageError(f"chapter: got {chapter!r}, wants one of {', '.join(names())}")
    return found[0]


def _defaults(chapter):
    """Names and default values in the cell tagged ``parameters`` of a chapter."""
    import jupytext

    notebook = jupytext.read(NOTEBOOKS / f"{chapter}.py")
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise BookError(f"{chapter}: has {len(cells)} cells tagged 'parameters', wants one")
    values = {}
    for node in ast.parse(cells[0].source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def _value(name, given, default):
    """Turn a value from the command line or a YAML file into the kind of the default."""
    if isinstance(default, str):
        return str(given)
    value = yaml.safe_load(given) if isinstance(given, str) else given
    if isinstance(default, float) and type(value) in (int, float, str):
        try:
            return float(value)  # YAML reads 1e5 as text
        except ValueError:
            pass
    if default is None or type(value) is type(default):
        return value
    if isinstance(default, (list, tuple)) and isinstance(value, (list, tuple)):
        return list(value)
    raise UsageError(f"parameter {name}: got {given!r}, wants a {type(default).__name__} like {default!r}")


def parameters_of(chapter, preset="quick", overrides=None):
    """Return all parameters of a run: the notebook's defaults, the preset's values, then `overrides`.

    Raises
    ------
    UsageError
        Unknown chapter or preset, a parameter that the notebook does not have, or a value of another kind.
    """
    chapter = name_of(chapter)
    if preset not in PRESETS:
        raise UsageError(f"preset: got {preset!r}, wants one of {', '.join(PRESETS)}")
    values = _defaults(chapter)
    blocks = yaml.safe_load((ROOT / "params" / f"{preset}.yml").read_text(encoding="utf-8")) or {}
    for where, given in ((f"params/{preset}.yml", blocks.get(chapter) or {}), ("-p", overrides or {})):
        for name, value in given.items():
            if name not in values:
                raise UsageError(f"parameter {name} ({where}): {chapter} has only {', '.join(values)}")
            values[name] = _value(name, value, values[name])
    return values


# ---------------------------------------------------------------- stamps


def _package_files(source):
    """All files of the package that a source file imports, directly or through others."""
    modules = {path.stem: [path] for path in PACKAGE.glob("*.py")}
    modules |= {path.parent.name: sorted(path.parent.rglob("*.py")) for path in PACKAGE.glob("*/__init__.py")}
    found, waiting = {PACKAGE / "__init__.py"}, [source]
    while waiting:
        path = waiting.pop()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, (ast.Import, ast.ImportFrom)):
                continue
            names = [part for alias in node.names for part in alias.name.split(".")]
            names += (getattr(node, "module", None) or "").split(".")
            if not (getattr(node, "level", 0) or "softeels_utils" in names):
                continue
            for name in names:
                for file in modules.get(name, []):
                    if file not in found:
                        found.add(file)
                        waiting.append(file)
    return sorted(found)


def digest_file(digest, path):
    digest.update(str(path).encode())
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)


def chapter_hash(chapter, parameters, plotly):
    """Hash of a chapter's source, the package files it uses, its parameters, and the data it can see."""
    digest = hashlib.sha256()
    source = NOTEBOOKS / f"{chapter}.py"
    tables = [path for path in (ROOT / "data").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    for path in [source, *_package_files(source), *sorted(tables)]:
        digest_file(digest, path)
    digest.update(json.dumps([parameters, plotly], sort_keys=True, default=str).encode())
    digest.update(json.dumps({name: data.is_cached(name) for name in data.registry()}).encode())
    for value in parameters.values():  # a user's own file counts by its content
        if isinstance(value, str) and value and Path(value).is_file():
            digest_file(digest, Path(value))
    return digest.hexdigest()


# ---------------------------------------------------------------- execution


def hardware():
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = models[0] if models else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def versions():
    found = {}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def last_run(chapter, folder=None):
    """Return the last run of a chapter in a folder (``book/_build/executed``), or None."""
    path = (folder or BUILD / "executed") / f"{chapter}.json"
    try:
        return Run(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, json.JSONDecodeError):
        return None


def _failure(error):
    """One readable line, and the traceback's end, of a cell that failed."""
    where = f"cell {error.exec_count}" if hasattr(error, "exec_count") else "start"
    name, text = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    return f"{where}: {name}: {text}"


def execute(chapter, preset="quick", overrides=None, *, folder=None, plotly="../assets/plotly.min.js", force=False):
    """Run one chapter with papermill, unless its stamp says that nothing has changed.

    Parameters
    ----------
    chapter : str
        Name or number.
    preset : {"quick", "full"}
    overrides : dict, optional
        Parameters to set; see `parameters_of`.
    folder : path, optional
        Where ``NAME.ipynb`` and ``NAME.json`` go; by default ``book/_build/executed``.
    plotly : str
        Address of plotly.js as seen from the rendered page.
    force : bool
        Run even where the stamp holds.

    Returns
    -------
    (Run, bool)
        The run, and whether it was done now. A failed run has ``error`` set, and leaves the notebook up to the
        failing cell as ``NAME.failed.ipynb``.
    """
    chapter = name_of(chapter)
    parameters = parameters_of(chapter, preset, overrides)
    folder = Path(folder) if folder else BUILD / "executed"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = chapter_hash(chapter, parameters, plotly)
    target, failed = folder / f"{chapter}.ipynb", folder / f"{chapter}.failed.ipynb"
    earlier = last_run(chapter, folder)
    if not force and target.exists() and earlier and earlier.stamp == stamp and not earlier.error:
        return earlier, False

    import jupytext
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # the kernel of this environment, not of the user's home
    environment = {"SOFTEELS_HEADLESS": "1", "SOFTEELS_PLOTLYJS": plotly, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    # A backend of the caller's (tests set agg) would leave the kernel's figures out of the page.
    environment["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    source = folder / f"{chapter}.input.ipynb"
    notebook = jupytext.read(NOTEBOOKS / f"{chapter}.py")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    jupytext.write(notebook, source)
    failed.unlink(missing_ok=True)
    start, error = time.perf_counter(), None
    try:
        papermill.execute_notebook(
            source,
            failed,  # becomes the target when all went well, so a target is always a whole run
            parameters=parameters,
            kernel_name="python3",
            cwd=str(ROOT),
            progress_bar=False,
            start_timeout=120,
            execution_timeout=CELL_TIMEOUT_S[preset],
        )
        failed.replace(target)
    except (papermill.PapermillExecutionError, CellTimeoutError, DeadKernelError, RuntimeError) as problem:
        error = _failure(problem)
    finally:
        source.unlink(missing_ok=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    run = Run(
        chapter=chapter,
        preset=preset,
        parameters=parameters,
        stamp=stamp,
        seconds=round(time.perf_counter() - start, 1),
        finished=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions=versions(),
        hardware=hardware(),
        error=error,
    )
    (folder / f"{chapter}.json").write_text(json.dumps(asdict(run), indent=1, default=str), encoding="utf-8")
    return run, True
