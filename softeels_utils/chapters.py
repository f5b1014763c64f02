"""Run the chapters: jupytext makes the notebook, papermill runs it with a preset's parameters, a stamp remembers it.

A chapter is ``notebooks/NAME.py`` of a checkout. It runs with the parameters of ``params/PRESET.yml`` into
``book/_build/executed``, and is stamped with a hash of all it depends on; while the stamp holds it is not run again.

Cells tagged ``twin`` are the chapter's own example, simulated or public. Cells tagged ``own-data`` are about a user's
file: they run where ``data_path`` is set, and those of the twin are left out then. An ``own-data`` cell may also be
tagged ``needs-NAME``, for a parameter that must be set with ``data_path``, and ``output-SUFFIX``, for what
``output_path`` may end in.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from . import data
from .source import PACKAGE, files_below, files_used, fingerprint, hardware, installed

__all__ = [
    "PRESETS",
    "BookError",
    "Run",
    "UsageError",
    "as_run",
    "chapter_hash",
    "execute",
    "last_run",
    "name_of",
    "names",
    "parameters_of",
    "versions",
]

ROOT = PACKAGE.parent  # of the checkout; a wheel has the package only
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "book" / "_build"
PRESETS = ("quick", "full")
PLOTLY_ADDRESS = "../assets/plotly.min.js"  # as seen from a page of the book
# A cell that hangs is an error, not a job without end; the full preset has long cells.
CELL_TIMEOUT_S = {"quick": 900, "full": 6 * 3600}
WRITTEN = ("output_path", "results_path", "checkpoint_path")  # other paths are read
VERSIONS = ("numpy", "scipy", "torch", "hyperspy", "exspy", "scikit-image", "plotly", "papermill", "jupyter-book")


class UsageError(ValueError):
    """What the user asked for does not exist or does not fit: exit code 2."""


class BookError(RuntimeError):
    """A chapter or the rendering failed: exit code 1."""


@dataclass(frozen=True)
class Run:
    """One execution of a chapter, recorded in ``NAME.json`` beside the executed notebook.

    ``outputs`` holds the hash of what was written to ``output_path``.
    """

    chapter: str
    preset: str
    parameters: dict[str, Any]
    stamp: str
    seconds: float
    finished: str
    versions: dict[str, str]
    hardware: str
    error: str | None = None
    outputs: dict[str, str] = field(default_factory=dict)


# ---------------------------------------------------------------- chapters and their parameters


def names() -> list[str]:
    """Return the names of all chapters, in order.

    Raises
    ------
    UsageError
        The package is installed without a checkout around it.
    """
    if not NOTEBOOKS.is_dir():
        raise UsageError("chapters: this installation has no notebooks; work in a checkout")
    return [path.stem for path in sorted(NOTEBOOKS.glob("[0-9]*.py"))]


def name_of(chapter: str) -> str:
    """Return the name of a chapter, from its name or its number ("03" or "3")."""
    found = [name for name in names() if chapter == name or str(chapter).zfill(2) == name.split("_")[0]]
    if not found:
        raise UsageError(f"chapter: got {chapter!r}, wants one of {', '.join(names())}")
    return found[0]


def _tags(cell):
    return cell.metadata.get("tags", [])


def as_run(chapter: str, own_data: bool) -> Any:
    """Return the notebook of a chapter with the cells that run: about the twin, or about a user's data."""
    import jupytext

    notebook = jupytext.read(NOTEBOOKS / f"{chapter}.py")
    left_out = "twin" if own_data else "own-data"
    notebook.cells = [cell for cell in notebook.cells if left_out not in _tags(cell)]
    return notebook


def _defaults(chapter):
    """Names and default values in the cell tagged ``parameters`` of a chapter."""
    cells = [cell for cell in as_run(chapter, own_data=False).cells if "parameters" in _tags(cell)]
    if len(cells) != 1:
        raise BookError(f"{chapter}: got {len(cells)} cells tagged 'parameters', wants one")
    values = {}
    for node in ast.parse(cells[0].source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def _converted(name, value, default):
    """Convert a value from the command line or a YAML file to the type of the default."""
    if isinstance(default, str):
        return str(value)
    wanted = UsageError(f"parameter {name}: got {value!r}, wants a {type(default).__name__} like {default!r}")
    try:
        parsed = yaml.safe_load(value) if isinstance(value, str) else value
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date that does not exist
        raise wanted from None
    if isinstance(default, float) and type(parsed) in (int, float, str):
        try:
            return float(parsed)  # YAML reads 1e5 as text
        except ValueError:
            pass
    if default is None or type(parsed) is type(default):
        return parsed
    if isinstance(default, (list, tuple)) and isinstance(parsed, (list, tuple)):
        return list(parsed)
    raise wanted


def parameters_of(chapter: str, preset: str = "quick", overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return all parameters of a run: the notebook's defaults, the preset's values, then ``overrides``.

    Paths (``*_path``) among the overrides become absolute; relative ones start at the current folder.

    Raises
    ------
    UsageError
        Unknown chapter or preset, a parameter that the notebook does not have, a value of another type, a path that
        does not exist or that no cell of this run uses, or a file that ``data_path`` wants beside it.
    """
    chapter = name_of(chapter)
    if preset not in PRESETS:
        raise UsageError(f"preset: got {preset!r}, wants one of {', '.join(PRESETS)}")
    values = _defaults(chapter)
    blocks = yaml.safe_load((ROOT / "params" / f"{preset}.yml").read_text(encoding="utf-8")) or {}
    for origin, changes in ((f"params/{preset}.yml", blocks.get(chapter) or {}), ("-p", overrides or {})):
        for name, value in changes.items():
            if name not in values:
                raise UsageError(f"{origin}: got parameter {name!r}, wants one of {', '.join(values)} ({chapter})")
            is_path = name.endswith("_path") and origin == "-p"
            values[name] = _checked_path(name, value) if is_path else _converted(name, value, values[name])
    _check_paths_fit(chapter, {name: value for name, value in values.items() if name.endswith("_path")})
    return values


def _checked_path(name, value):
    """A path from the user, absolute; one that is read exists."""
    if not str(value):
        raise UsageError(f"{name}: got an empty path, wants a file")
    path = Path(value).expanduser().absolute()
    if name in WRITTEN:
        return str(path)
    if not path.is_file() and not path.is_dir():
        raise UsageError(f"{name}: got {path}, which does not exist or is no file, wants a file")
    suffixes = sorted({*data.SIGNAL_SUFFIXES, *data.TILT_SERIES_SUFFIXES})
    if name == "data_path" and path.suffix.lower() not in suffixes:
        raise UsageError(f"{name}: got a file of kind {path.suffix!r}, wants one of {', '.join(suffixes)}")
    if name == "data_path" and path.is_dir() and path.suffix.lower() != ".zspy":
        raise UsageError(f"{name}: got {path}, a folder, wants a file")
    return str(path)


def _check_paths_fit(chapter, paths):
    """Refuse paths that the cells of this run do not use, and miss those that a user's data want beside them."""
    own_data = bool(paths.get("data_path"))
    cells = [cell for cell in as_run(chapter, own_data).cells if cell.cell_type == "code"]
    used = {
        node.id
        for cell in cells
        if "parameters" not in _tags(cell)
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Name)
    }
    for name in (name for name, value in paths.items() if value and name not in used):
        if name == "data_path":
            raise UsageError(f"data_path: got a file, but {chapter} is about the twin alone, wants none")
        if own_data:
            raise UsageError(f"{name}: got a path, which {chapter} does not use with data_path, wants none")
        raise UsageError(
            f"{name}: got a path without data_path, wants both: without your data {chapter} shows the twin, and writes "
            "nothing"
        )
    tags = [tag for cell in cells if "own-data" in _tags(cell) for tag in _tags(cell)]
    for name in (tag.removeprefix("needs-") for tag in tags if tag.startswith("needs-")):
        if not paths[name]:
            raise UsageError(f"{name}: got none, {chapter} wants it with data_path: -p {name} FILE")
    output = paths.get("output_path")
    if output and Path(output).resolve() in (Path(v).resolve() for n, v in paths.items() if v and n not in WRITTEN):
        raise UsageError(f"output_path: got {output}, which is read, wants another file")
    suffixes = [f".{tag.removeprefix('output-')}" for tag in tags if tag.startswith("output-")]
    if output and suffixes and Path(output).suffix not in suffixes:
        raise UsageError(
            f"output_path: got {Path(output).name}, wants a name that ends in {' or '.join(suffixes)} ({chapter})"
        )


# ---------------------------------------------------------------- stamps


def chapter_hash(chapter: str, parameters: Mapping[str, Any], plotly: str = PLOTLY_ADDRESS) -> str:
    """Hash of a chapter's source, the package files it uses, its parameters, and the data it can see."""
    source = NOTEBOOKS / f"{chapter}.py"
    # Files named by parameters count by their contents, unless the run writes them.
    read = [v for name, v in parameters.items() if name.endswith("_path") and name not in WRITTEN]
    user_files = [file for value in read for file in _files_of(value)]
    files = [source, *files_used(source), *files_below(ROOT / "data"), *user_files]
    return fingerprint(files, parameters, plotly, {name: data.is_cached(name) for name in data.registry()})


def _files_of(path):
    """The file at a path, or all files of a store that is a folder (``.zspy``); none where there is nothing."""
    path = Path(path)
    if not path.name:
        return []
    return files_below(path) if path.is_dir() else [path] if path.is_file() else []


def _outputs(parameters):
    """Hash of what lies at ``output_path``."""
    path = parameters.get("output_path")
    return {"output_path": fingerprint(_files_of(path))} if path else {}


# ---------------------------------------------------------------- execution


def versions() -> dict[str, str]:
    """Return the installed version of each package in `VERSIONS`."""
    return installed(VERSIONS)


def last_run(chapter: str, folder: Path | None = None) -> Run | None:
    """Return the last run of a chapter in a folder (``book/_build/executed``), or None."""
    path = (folder or BUILD / "executed") / f"{chapter}.json"
    try:
        return Run(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, json.JSONDecodeError):
        return None


def _failure(error):
    """Where a run failed and why, in one line."""
    place = f"cell {error.exec_count}" if hasattr(error, "exec_count") else "start"
    name, text = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    return f"{place}: {name}: {text}"


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables, and put them back afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _check_writable(name, folder):
    """Make a folder, and try to write into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(f"{name}: got {folder}, wants a folder that can be written to ({error.strerror})") from None


def _partial(path):
    """Where a run writes what is moved to ``path`` when it has gone well."""
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")


def _remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _run_notebook(chapter, parameters, target, timeout_s):
    """Run a chapter through papermill into ``target``, which then holds all cells up to a failure; return the error."""
    import jupytext
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    notebook = as_run(chapter, own_data=bool(parameters.get("data_path")))
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    source = target.with_name(f"{chapter}.input.ipynb")
    jupytext.write(notebook, source)
    try:
        papermill.execute_notebook(
            source,
            target,
            parameters=parameters,
            kernel_name="python3",
            cwd=str(ROOT),
            progress_bar=False,
            start_timeout=120,
            execution_timeout=timeout_s,
        )
    except (papermill.PapermillExecutionError, CellTimeoutError, DeadKernelError, RuntimeError) as error:
        return _failure(error)
    finally:
        source.unlink(missing_ok=True)
    return None


def execute(
    chapter: str,
    preset: str = "quick",
    overrides: Mapping[str, Any] | None = None,
    *,
    folder: str | os.PathLike | None = None,
    plotly: str = PLOTLY_ADDRESS,
    force: bool = False,
) -> tuple[Run, bool]:
    """Run one chapter with papermill, unless its stamp says that nothing has changed.

    Parameters
    ----------
    chapter : str
        Name or number.
    preset : {"quick", "full"}
    overrides : dict, optional
        Parameters to set; see `parameters_of`.
    folder : path, optional
        Where ``NAME.ipynb`` and ``NAME.json`` go; by default ``book/_build/executed``. What a chapter writes to
        ``output_path`` gets there only if the whole of it has run.
    plotly : str
        Address of plotly.js as seen from the rendered page.
    force : bool
        Run even if the stamp holds.

    Returns
    -------
    (Run, bool)
        The run, and whether it was done now. A failed run has ``error`` set, and leaves the notebook up to the
        failing cell as ``NAME.failed.ipynb``.

    Raises
    ------
    UsageError
        As `parameters_of`; a place that cannot be written to.
    """
    chapter = name_of(chapter)
    parameters = parameters_of(chapter, preset, overrides)
    folder = Path(folder) if folder else BUILD / "executed"
    _check_writable("--output", folder)
    output = Path(parameters["output_path"]) if parameters.get("output_path") else None
    if output:
        if output.is_dir() and output.suffix != ".zspy":
            raise UsageError(f"output_path: got {output}, a folder, wants a file")
        _check_writable("output_path", output.parent)
    stamp = chapter_hash(chapter, parameters, plotly)
    target, failed = folder / f"{chapter}.ipynb", folder / f"{chapter}.failed.ipynb"
    earlier = last_run(chapter, folder)
    holds = earlier and earlier.stamp == stamp and not earlier.error and earlier.outputs == _outputs(parameters)
    if not force and target.exists() and holds:
        return earlier, False

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # the kernel of this environment, not of the user's home
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait stall a busy machine
    failed.unlink(missing_ok=True)
    start = time.perf_counter()
    actual = parameters | ({"output_path": str(_partial(output))} if output else {})
    # A back-end set by the caller (tests set agg) would keep the kernel's figures out of the page.
    try:
        with _environment(
            SOFTEELS_HEADLESS="1",
            SOFTEELS_PLOTLYJS=plotly,
            PYDEVD_DISABLE_FILE_VALIDATION="1",
            PYTHONWARNINGS="ignore:Importing `",  # HyperSpy's own, of its extensions, at each file that is read
            MPLBACKEND="module://matplotlib_inline.backend_inline",
        ):
            error = _run_notebook(chapter, actual, failed, CELL_TIMEOUT_S[preset])
        if error is None and output:
            if output.is_dir():
                _remove(output)
            _partial(output).replace(output)
    finally:
        if output:
            _remove(_partial(output))
    if error is None:
        failed.replace(target)  # so a target is always a whole run
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
        outputs={} if error else _outputs(parameters),
    )
    (folder / f"{chapter}.json").write_text(json.dumps(asdict(run), indent=1, default=str), encoding="utf-8")
    return run, True
