"""Run the chapters (jupytext, papermill) and render the book (Jupyter Book, execution off).

A chapter is ``notebooks/NAME.py``. It runs with the parameters of a preset (``params/PRESET.yml``), into
``book/_build/executed``, and is stamped with a hash of all it depends on; while the stamp holds it is not run again.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import yaml

from . import data

__all__ = [
    "BookError",
    "Run",
    "UsageError",
    "build",
    "chapters",
    "execute",
    "name_of",
    "parameters_of",
    "render",
    "render_one",
    "status",
]

ROOT = data.ROOT
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "book" / "_build"
PRESETS = ("quick", "full")
PACKAGE = Path(__file__).parent
# A cell that hangs is an error, not a job without end; the full preset has long cells.
CELL_TIMEOUT_S = {"quick": 900, "full": 6 * 3600}
VERSIONS = ("numpy", "scipy", "torch", "hyperspy", "exspy", "scikit-image", "plotly", "papermill", "jupyter-book")
MATHJAX_LEFT_OUT = shutil.ignore_patterns("*svg*", "*full*", "mml-*", "sre", "a11y", "node-main.js")


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


def chapters():
    """Return the names of all chapters, in order."""
    return [path.stem for path in sorted(NOTEBOOKS.glob("[0-9]*.py"))]


def name_of(chapter):
    """Accept a whole name or its number ("03" or "3"); return the name."""
    found = [name for name in chapters() if chapter == name or chapter.zfill(2) == name.split("_")[0]]
    if not found:
        raise UsageError(f"chapter: got {chapter!r}, wants one of {', '.join(chapters())}")
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


def _digest_file(digest, path):
    digest.update(str(path).encode())
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)


def _stamp(chapter, parameters, plotly):
    """Hash of a chapter's source, the package files it uses, its parameters, and the data it can see."""
    digest = hashlib.sha256()
    source = NOTEBOOKS / f"{chapter}.py"
    tables = [path for path in (ROOT / "data").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    for path in [source, *_package_files(source), *sorted(tables)]:
        _digest_file(digest, path)
    digest.update(json.dumps([parameters, plotly], sort_keys=True, default=str).encode())
    digest.update(json.dumps({name: data.at_hand(name) for name in data.registry()}).encode())
    for value in parameters.values():  # a user's own file counts by its content
        if isinstance(value, str) and value and Path(value).is_file():
            _digest_file(digest, Path(value))
    return digest.hexdigest()


# ---------------------------------------------------------------- execution


def _hardware():
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = models[0] if models else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def _versions():
    found = {}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _read_run(folder, chapter):
    path = folder / f"{chapter}.json"
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
    stamp = _stamp(chapter, parameters, plotly)
    target, failed = folder / f"{chapter}.ipynb", folder / f"{chapter}.failed.ipynb"
    earlier = _read_run(folder, chapter)
    if not force and target.exists() and earlier and earlier.stamp == stamp and not earlier.error:
        return earlier, False

    import jupytext
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # the kernel of this environment, not of the user's home
    environment = {"SOFTEELS_HEADLESS": "1", "SOFTEELS_PLOTLYJS": plotly, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
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
        versions=_versions(),
        hardware=_hardware(),
        error=error,
    )
    (folder / f"{chapter}.json").write_text(json.dumps(asdict(run), indent=1, default=str), encoding="utf-8")
    return run, True


# ---------------------------------------------------------------- rendering


def _put(path, content):
    """Write only what differs, so that Sphinx reads again only what changed."""
    content = content.encode() if isinstance(content, str) else content
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _assets(folder):
    """Put plotly.js and MathJax, from their Python packages, beside the pages."""
    from .plotting import plotly_file

    (folder / "assets").mkdir(parents=True, exist_ok=True)
    if not (folder / "assets" / "plotly.min.js").exists():
        shutil.copy(plotly_file(), folder / "assets" / "plotly.min.js")
    mathjax = Path(metadata.distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline/static/mathjax"))
    if not (folder / "assets" / "mathjax").exists():
        shutil.copytree(mathjax, folder / "assets" / "mathjax", ignore=MATHJAX_LEFT_OUT)


def _jupyter_book(stage, output, *options):
    program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*program, "build", str(stage), "--path-output", str(output), *options]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = [
            line
            for line in (done.stdout + done.stderr).splitlines()
            if any(word in line for word in ("WARNING:", "ERROR:", "Error:"))
        ]
        raise BookError("Jupyter Book failed:\n" + "\n".join(lines[-30:] or done.stderr.splitlines()[-30:]))


def _page(path):
    """An executed notebook as it goes into the book: the cell that papermill put in is folded."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["metadata"]["tags"].append("hide-input")
    return json.dumps(notebook)


def _landing_figure():
    """The picture from the cell tagged ``landing`` of an executed chapter, for the first page."""
    for chapter in chapters():
        notebook = json.loads((BUILD / "executed" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if "landing" in cell["metadata"].get("tags", []):
                for output in cell["outputs"]:
                    if "image/png" in output.get("data", {}):
                        return base64.b64decode("".join(output["data"]["image/png"]))
    raise BookError("no chapter has a figure in a cell tagged 'landing'")


def render():
    """Render pages and executed chapters into ``book/_build/html``; a warning is an error. Returns the index page."""
    stage, folder = BUILD / "stage", BUILD / "executed"
    for name in ("_config.yml", "_toc.yml"):
        _put(stage / name, (ROOT / name).read_bytes())
    generated = {"<!-- generated: registry -->": _registry_markdown(), "<!-- generated: status -->": _status_markdown()}
    for path in sorted((ROOT / "book").iterdir()):
        if path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            for mark, content in generated.items():
                text = text.replace(mark, content)
            _put(stage / "book" / path.name, text)
        elif path.is_file():
            _put(stage / "book" / path.name, path.read_bytes())
    _put(stage / "book" / "landing.png", _landing_figure())
    for chapter in chapters():
        _put(stage / "notebooks" / f"{chapter}.ipynb", _page(folder / f"{chapter}.ipynb"))
    digest = hashlib.sha256()
    for path in sorted(stage.rglob("*")):
        if path.is_file():
            _digest_file(digest, path)
    stamp, index = BUILD / "render.stamp", BUILD / "html" / "index.html"
    if index.exists() and stamp.exists() and stamp.read_text() == digest.hexdigest():
        return index
    # After a failure Sphinx would not warn again of pages it has read: start afresh then.
    fresh = [] if stamp.exists() else ["--all"]
    stamp.unlink(missing_ok=True)
    _jupyter_book(stage, ROOT / "book", "-W", "-n", "--keep-going", *fresh)
    _assets(BUILD / "html")
    stamp.write_text(digest.hexdigest())
    return index


def render_one(notebook):
    """Render one executed notebook to an HTML page beside it (with its ``_static`` and ``assets``)."""
    notebook = Path(notebook)
    stage = notebook.parent / ".stage"
    shutil.rmtree(stage, ignore_errors=True)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["bibtex_bibfiles"] = ["references.bib"]
    _put(stage / "_config.yml", yaml.safe_dump(config))
    _put(stage / "_toc.yml", yaml.safe_dump({"format": "jb-book", "root": notebook.stem}))
    _put(stage / "references.bib", (ROOT / "book" / "references.bib").read_bytes())
    _put(stage / notebook.name, _page(notebook))
    _jupyter_book(stage, stage)
    shutil.copytree(stage / "_build" / "html", notebook.parent, dirs_exist_ok=True)
    shutil.rmtree(stage)
    _assets(notebook.parent)
    return notebook.with_suffix(".html")


def build(preset="quick", *, report=print):
    """Run all chapters whose stamp does not hold, then render the book.

    Returns
    -------
    pathlib.Path
        The first page.

    Raises
    ------
    BookError
        After all chapters were tried: one or more failed, or the rendering did.
    """
    failures = []
    for chapter in chapters():
        report(f"{chapter} ({preset}) ...")
        run, done = execute(chapter, preset)
        if run.error:
            failures.append(f"{chapter}, {run.error}")
            report(f"  FAILED: {run.error}")
        else:
            report(f"  {run.seconds:.0f} s" if done else f"  unchanged since {run.finished}")
    if failures:
        raise BookError("\n".join([f"{len(failures)} of {len(chapters())} chapters failed:", *failures]))
    report("rendering ...")
    index = render()
    report(f"open {index.relative_to(ROOT)}")
    return index


# ---------------------------------------------------------------- status


def _runs():
    return [run for run in (_read_run(BUILD / "executed", chapter) for chapter in chapters()) if run]


def _benchmarks():
    """``{file stem: content}`` of all recorded benchmarks."""
    folder = ROOT / "benchmarks" / "results"
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def _markdown_table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _flat(value, prefix=""):
    """Rows (name, value) of nested dictionaries; long lists are left to the file."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}{key}: " if isinstance(inner, dict) else f"{prefix}{key}")
    elif isinstance(value, float):
        yield prefix, f"{value:.4g}"
    elif not isinstance(value, list) or len(value) <= 8:
        yield prefix, value


def _registry_markdown():
    rows = [
        (f"`{name}`", entry.title, entry.kind, entry.licence, entry.citation, f"[address]({entry.source})", entry.notes)
        for name, entry in data.registry().items()
    ]
    return "\n\n".join(
        f"## {name}\n\n{title} ({kind}).\n\n- Origin: {citation}; {link}\n- Licence: {licence}"
        + (f"\n- {notes}" if notes else "")
        for name, title, kind, licence, citation, link, notes in rows
    )


def _status_markdown():
    runs = _runs()
    head, rows = ("chapter", "preset", "run time (s)", "finished"), []
    for run in runs:
        rows.append((run.chapter, run.preset, f"{run.seconds:.0f}", run.finished))
    parts = ["## Chapters", _markdown_table(head, rows)]
    if runs:
        last = max(runs, key=lambda run: run.finished)
        parts += [f"Hardware: {last.hardware}.", "## Versions"]
        parts.append(_markdown_table(("package", "version"), last.versions.items()))
    rows = [(f"`{name}`", "yes" if data.at_hand(name) else "no") for name in data.registry()]
    parts += ["## Data", _markdown_table(("data set", "at hand when rendered"), rows)]
    benchmarks = _benchmarks()
    if benchmarks:
        parts += ["## Benchmarks", "Recorded by the scripts in `benchmarks/`, each with its date and hardware."]
    for name, content in benchmarks.items():
        parts += [f"### {name}", _markdown_table(("quantity", "value"), _flat(content))]
    return "\n\n".join(parts)


def status():
    """Return versions, devices, data at hand and the last run times, as text."""
    import torch

    devices = ["cpu"] + [f"cuda ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    lines = [_hardware(), f"devices: {', '.join(devices)}, {torch.get_num_threads()} threads", "", "versions"]
    lines += [f"  {name:14} {version}" for name, version in _versions().items()]
    lines += ["", f"data in {data.cache_folder()}"]
    for name, entry in data.registry().items():
        size = f"{entry.bytes / 1e6:.1f} MB" if entry.bytes else "size unknown"
        lines.append(f"  {name:20} {'at hand' if data.at_hand(name) else 'not at hand':12} {size:12} {entry.title}")
    lines += ["", "chapters"]
    for chapter in chapters():
        run = _read_run(BUILD / "executed", chapter)
        if run is None:
            lines.append(f"  {chapter:24} not run")
        elif run.error:
            lines.append(f"  {chapter:24} failed at {run.finished}, {run.error.splitlines()[0]}")
        else:
            stale = run.stamp != _stamp(chapter, run.parameters, "../assets/plotly.min.js")
            lines.append(
                f"  {chapter:24} {run.preset:6} {run.seconds:7.1f} s  {run.finished}"
                + ("  (out of date)" if stale else "")
            )
    return "\n".join(lines)
