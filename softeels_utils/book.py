"""Render pages and executed chapters into the book (Jupyter Book, execution off), and report its status."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import yaml

from . import chapters, data, pages, reference
from .chapters import BookError
from .source import PACKAGE, fingerprint

__all__ = [
    "build",
    "landing_figure",
    "landing_view",
    "link_to_what_is_written",
    "number_figures",
    "render",
    "render_one",
    "search_without_accents",
    "staged",
    "status",
    "status_page",
]

# The one file that pages load has all of it but fonts and rare extensions of TeX.
MATHJAX_LEFT_OUT = shutil.ignore_patterns(
    "*svg*", "*full*", "mml*", "asciimath*", "sre", "a11y", "ui", "adaptors", "latest.js", "loader.js", "startup.js",
    "core.js", "tex-mml-*", "node-main.js",
)  # fmt: skip


def _put(path, content):
    """Write a file only if its content differs, so that Sphinx reads again only what changed."""
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


def staged(path: Path, below_title: str = "") -> str:
    """Return an executed notebook as it goes into the book: papermill's cell folded, each image once, slow cells timed.

    Folded solutions say which they are.
    ``below_title`` is HTML for a line of its own there.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    first = notebook["cells"][0]
    if below_title:
        title, _, rest = "".join(first["source"]).partition("\n")
        first["source"] = f"{title}\n\n{below_title}\n{rest}"
    solutions = 0
    for cell in notebook["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["metadata"]["tags"].append("hide-input")
        if "solution" in cell["metadata"].get("tags", []):
            solutions += 1
            prompts = {f"code_prompt_{verb.lower()}": f"{verb} solution {solutions}" for verb in ("Show", "Hide")}
            cell["metadata"]["mystnb"] = prompts
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):  # of `plotting.show`, with the image in it
                output["data"].pop("image/png", None)
        seconds = cell["metadata"].get("papermill", {}).get("duration") or 0
        if seconds >= 1 and "outputs" in cell:
            words = {"text/html": f'<p class="cell-time">This cell ran for {seconds:.0f} s.</p>'}
            cell["outputs"].append({"output_type": "display_data", "data": words, "metadata": {}})
    return json.dumps(notebook)


def _output(tag, kind):
    """The first output of a kind from cells with a tag, of all executed chapters; None where there is none."""
    for chapter in chapters.names():
        notebook = json.loads((chapters.BUILD / "executed" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if tag in cell["metadata"].get("tags", []):
                for output in cell["outputs"]:
                    if kind in output.get("data", {}):
                        return "".join(output["data"][kind])
    return None


def landing_figure() -> bytes:
    """Return the picture from the cell tagged ``landing`` of an executed chapter, for the first page."""
    image = _output("landing", "image/png")
    if image is None:
        raise BookError("no chapter has a figure in a cell tagged 'landing'")
    return base64.b64decode(image)


def landing_view() -> str:
    """Return the 3-D view from the cell tagged ``landing-view``, if a chapter has one, for the first page."""
    view = _output("landing-view", "text/html") or ""
    frame = re.search(r"<iframe .*?</iframe>", view, re.DOTALL)
    return f"```{{raw}} html\n{frame[0]}\n```" if frame else ""


def _stage_static(stage):
    """The book's style sheet and script, which Jupyter Book puts on every page."""
    for path in sorted((chapters.ROOT / "book" / "_static").iterdir()):
        _put(stage / "_static" / path.name, path.read_bytes())


def _stage_pages(stage):
    """Put all that Jupyter Book reads into one folder: settings, pages, the landing figure and executed chapters."""
    from . import claims, planner, records  # they load the engine, which the other commands can do without

    _put(stage / "_config.yml", pages.configuration())
    _put(stage / "_toc.yml", (chapters.ROOT / "_toc.yml").read_bytes())
    generated = {"<!-- generated: registry -->": _registry_markdown(), "<!-- generated: status -->": status_page()}
    generated |= reference.placeholders() | pages.placeholders() | claims.placeholders() | planner.placeholders()
    generated["<!-- generated: landing view -->"] = landing_view()
    for name, text in reference.pages().items():
        _put(stage / "book" / name, text)
    for path in sorted([*records.BENCHMARKS.glob("*.json"), *records.FOLDER.glob("*.csv")]):
        _put(stage / "book" / "records" / path.name, path.read_bytes())
    for path in sorted((chapters.ROOT / "book").iterdir()):
        if path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            for mark, content in generated.items():
                text = text.replace(mark, content)
            _put(stage / "book" / path.name, text)
        elif path.is_file():
            _put(stage / "book" / path.name, path.read_bytes())
    _stage_static(stage)
    _put(stage / "book" / "landing.png", landing_figure())
    for chapter in chapters.names():
        executed = chapters.BUILD / "executed" / f"{chapter}.ipynb"
        _put(stage / "notebooks" / f"{chapter}.ipynb", staged(executed, pages.downloads(chapter)))
        for name in (f"{chapter}.py", f"{chapter}.ipynb"):
            _put(stage / "extra" / "notebooks" / name, (chapters.NOTEBOOKS / name).read_bytes())


# ---------------------------------------------------------------- numbers of figures


FIGURE = re.compile(r'<figure class="softeels" id="(fig-[\w-]+)">')
CAPTION = re.compile(r"(<figcaption[^>]*>)(?:<span class=\"caption-number\">[^<]*</span> ?)?")
LINK = re.compile(r'<a\s+(?:class="figure-number" )?href="([^"#]*)#(fig-[\w-]+)">(?:(?:Figure|chapter) [\d.]+)?</a>')


def number_figures(folder: Path, *, whole: bool = True) -> None:
    """Number the figures that `plotting.show` put into pages, and write the numbers into empty links to them.

    The third figure with a name in ``04_*.html`` becomes "Figure 4.3", in front of its caption and in
    ``<a href="#fig-NAME"></a>`` on its page or ``<a href="PAGE.html#fig-NAME"></a>`` on another. Pages that were
    numbered before are numbered anew.

    Parameters
    ----------
    folder : pathlib.Path
        All its pages, at any depth.
    whole : bool
        The whole book is there. Otherwise a link to a figure that is not there becomes "chapter 4", as it does where a
        chapter has the figure but not, on this machine, the data that it shows. In that chapter itself it leads
        nowhere, and becomes the words "figure left out".

    Raises
    ------
    BookError
        A page has two figures of one name, or a link leads to a figure that is not there.
    """
    pages = [path for path in sorted(folder.rglob("*.html")) if not {"_static", "assets"} & set(path.parts)]
    texts = {path.resolve(): path.read_text(encoding="utf-8") for path in pages}
    numbers = {path: _figure_numbers(path, text) for path, text in texts.items()}
    faults = []

    def link(path, match):
        place, name = match.groups()
        target = (path.parent / place).resolve() if place else path
        number = numbers.get(target, {}).get(name)
        if number is None:
            chapter = re.match(r"\d+", target.stem)
            if not chapter or (whole and not _may_show(target.stem, name)):
                faults.append(f"{path.name}: a link to {place}#{name}, which is not there")
            if not place:
                return "figure left out"
            number = f"chapter {int(chapter[0])}" if chapter else ""
        return f'<a class="figure-number" href="{place}#{name}">{number}</a>'

    for path, text in texts.items():
        if not FIGURE.search(text) and not LINK.search(text):
            continue
        for name, number in numbers[path].items():
            start = text.index(f'<figure class="softeels" id="{name}">')
            found = CAPTION.search(text, start)
            label = f'{found[1]}<span class="caption-number">{number}.</span> '
            text = text[: found.start()] + label + text[found.end() :]
        _put(path, LINK.sub(lambda match, path=path: link(path, match), text))
    if faults:
        raise BookError("\n".join(["figures:", *faults]))


def _may_show(chapter, name):
    """Whether a chapter has a figure of this name, which it shows only where the data are at hand."""
    source, own = chapters.NOTEBOOKS / f"{chapter}.py", name.removeprefix("fig-")
    if not source.is_file():
        return False
    text = source.read_text(encoding="utf-8")
    return f'name="{own}"' in text or (own.startswith("recorded-") and 'name=f"recorded-{name}"' in text)


def _figure_numbers(path, text):
    """``{name: "Figure 4.3"}`` of a page; of one that is no chapter, "Figure 3"."""
    names = FIGURE.findall(text)
    if len(set(names)) < len(names):
        raise BookError(f"{path.name}: figures with one name, {max(names, key=names.count)}")
    chapter = re.match(r"\d+", path.stem)
    prefix = f"{int(chapter[0])}." if chapter else ""
    return {name: f"Figure {prefix}{count}" for count, name in enumerate(names, start=1)}


# ---------------------------------------------------------------- rendering

EDIT = re.compile(r'(href="https?://[^"]*/edit/[^"]*?/)(notebooks|book)/([\w-]+)\.(?:ipynb|md)"')


def link_to_what_is_written(folder: Path) -> None:
    """Let links to edit a page lead to the file that people write, where Sphinx reads one that is made from it.

    That of a chapter is its ``.py``, that of a page of the API reference the package with the docstrings.

    Parameters
    ----------
    folder : pathlib.Path
        All its pages, at any depth.
    """
    for path in sorted(folder.rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        changed = EDIT.sub(lambda found: f'{found[1]}{_written(found[2], found[3])}"', text)
        if changed != text:
            _put(path, changed)


def _written(place, name):
    package = name.removeprefix("api_")
    if place == "notebooks":
        return f"notebooks/{name}.py"
    if name == "contributing":
        return "CONTRIBUTING.md"
    if package == name:
        return f"book/{name}.md"
    return f"softeels_utils/{package}/__init__.py" if (PACKAGE / package).is_dir() else f"softeels_utils/{package}.py"


def search_without_accents(path: Path) -> None:
    """Let a search for "Cramer" find "Cramér": words of Sphinx's index are found without their accents, too."""
    start, end = "Search.setIndex(", ")"
    text = path.read_text(encoding="utf-8")
    index = json.loads(text.removeprefix(start).removesuffix(end))
    for table in (index["terms"], index["titleterms"]):
        for word, places in list(table.items()):
            plain = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
            if plain != word:
                found = {page for p in (places, table.get(plain, [])) for page in (p if isinstance(p, list) else [p])}
                table[plain] = sorted(found)
    _put(path, f"{start}{json.dumps(index, separators=(',', ':'))}{end}")


def render() -> Path:
    """Render pages and executed chapters into ``book/_build/html``; a warning is an error. Returns the index page."""
    stage = chapters.BUILD / "stage"
    _stage_pages(stage)
    digest = fingerprint(path for path in sorted(stage.rglob("*")) if path.is_file())
    stamp, index = chapters.BUILD / "render.stamp", chapters.BUILD / "html" / "index.html"
    if index.exists() and stamp.exists() and stamp.read_text() == digest:
        return index
    # After a failure Sphinx would not warn again of pages it has read: start afresh then.
    fresh = [] if stamp.exists() else ["--all"]
    stamp.unlink(missing_ok=True)
    _jupyter_book(stage, chapters.ROOT / "book", "-W", "-n", "--keep-going", *fresh)
    _assets(chapters.BUILD / "html")
    for chapter in chapters.names():  # what the download button gives: a notebook without its outputs
        _put(
            chapters.BUILD / "html" / "_sources" / "notebooks" / f"{chapter}.ipynb",
            (chapters.NOTEBOOKS / f"{chapter}.ipynb").read_bytes(),
        )
    # The source of the first page as it is written, without the view that was put into it; nothing reads the maps.
    _put(chapters.BUILD / "html" / "_sources" / "book" / "intro.md", (chapters.ROOT / "book" / "intro.md").read_bytes())
    for path in (chapters.BUILD / "html" / "_static").rglob("*.map"):
        path.unlink()
    number_figures(chapters.BUILD / "html")
    link_to_what_is_written(chapters.BUILD / "html")
    search_without_accents(chapters.BUILD / "html" / "searchindex.js")
    stamp.write_text(digest)
    return index


def render_one(notebook: str | os.PathLike) -> Path:
    """Render one executed notebook to an HTML page beside it (with its ``_static`` and ``assets``)."""
    notebook = Path(notebook)
    stage = notebook.parent / ".stage"
    shutil.rmtree(stage, ignore_errors=True)
    config = yaml.safe_load(pages.configuration(whole=False))
    config["bibtex_bibfiles"] = ["references.bib"]
    _put(stage / "_config.yml", yaml.safe_dump(config))
    _put(stage / "_toc.yml", yaml.safe_dump({"format": "jb-book", "root": notebook.stem}))
    _put(stage / "references.bib", (chapters.ROOT / "book" / "references.bib").read_bytes())
    _stage_static(stage)
    page = json.loads(staged(notebook))
    cited = "## References\n\n```{bibliography}\n:style: plain\n:filter: docname in docnames\n```"
    page["cells"].append({"cell_type": "markdown", "id": "cited", "metadata": {}, "source": cited})
    _put(stage / notebook.name, json.dumps(page))
    _jupyter_book(stage, stage)
    number_figures(stage / "_build" / "html", whole=False)
    shutil.copytree(stage / "_build" / "html", notebook.parent, dirs_exist_ok=True)
    shutil.rmtree(stage)
    _assets(notebook.parent)
    return notebook.with_suffix(".html")


def build(preset: str = "quick", *, report: Callable[[str], None] = print) -> Path:
    """Run all chapters whose stamp does not hold, then render the book.

    Returns
    -------
    pathlib.Path
        The first page.

    Raises
    ------
    BookError
        One or more chapters failed (after all were tried), or the rendering did.
    """
    failures = []
    for chapter in chapters.names():
        report(f"{chapter} ({preset}) ...")
        run, done = chapters.execute(chapter, preset)
        if run.error:
            failures.append(f"{chapter}, {run.error}")
            report(f"  FAILED: {run.error}")
        else:
            report(f"  {run.seconds:.0f} s" if done else f"  unchanged since {run.finished}")
    if failures:
        raise BookError("\n".join([f"{len(failures)} of {len(chapters.names())} chapters failed:", *failures]))
    report("rendering ...")
    index = render()
    report(f"open {index.relative_to(chapters.ROOT)}")
    return index


# ---------------------------------------------------------------- status


ABOUT_A_RUN = (
    "date",
    "code",
    "hardware",
    "machine",
    "threads",
    "cores",
    "torch",
    "python",
    "versions",
    "seed",
    "note",
    "what",
)


def _study_row(name):
    """A line about a recorded study; nothing where it has no cells."""
    from . import records

    study, kept = records.STUDIES[name], records.load(name)
    if not kept.rows:
        return None
    dates = sorted(_on_one_line(row["date"]) for row in kept.rows)
    return {
        "study": f"{{download}}`{name} <records/{name}.csv>`",
        "about": study.title,
        "cells": f"{len(kept.rows):,} of {len(study.cells()):,}",
        "from older code": len(kept.stale(study.stamp)),
        "recorded": dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}",
    }


def _benchmark_row(name, content):
    """One record in a table: what its script measures, when and where it was made, and its first entries."""
    from .records import benchmark_stamps

    older = benchmark_stamps(name)
    results = [
        f"{key.replace('_e_per_A2', ' (e/Å²)').replace('_', ' ')} {_short(value)}"
        for key, value in content.items()
        if key not in ABOUT_A_RUN and isinstance(value, (int, float, str))
    ]
    remarks = [content[key].rstrip(". ") for key in ("what", "note") if key in content]
    return {
        "record": f"{{download}}`{name} <records/{name}.json>`",
        "about": _about_benchmark(name),
        "date": _on_one_line(content.get("date", "")[:10]),
        "from older code": f"{older[0]} of {older[1]}" if older else "not known",
        "hardware": content.get("hardware") or content.get("machine", ""),
        "first entries": ". ".join([*remarks, "; ".join(results[:4])]).strip(". "),
    }


def _about_benchmark(name):
    """What the script that wrote a record says of itself."""
    from .records import BENCHMARKS

    scripts = {path.stem: path for path in BENCHMARKS.parent.glob("*.py") if f"{name}_".startswith(f"{path.stem}_")}
    if not scripts:
        return ""
    text = ast.get_docstring(ast.parse(scripts[max(scripts, key=len)].read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).rstrip(".")


def _on_one_line(date):
    return date.replace("-", "\N{NON-BREAKING HYPHEN}")


def _short(value):
    """A number or a text of a record as it stands in a table."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{value:,}" if type(value) is int and value >= 10_000 else str(value)


def _registry_markdown():
    from .plotting.formulas import in_html

    text = "\n\n".join(
        f"## {name}\n\n{entry.title}; {entry.kind}.\n\n"
        f"- Origin: {entry.citation}; [address]({entry.source})\n- Licence: {entry.licence}"
        + (f"\n- Size: {_size(entry.bytes)}" if entry.bytes else "")
        + (f"\n- {entry.notes}" if entry.notes else "")
        for name, entry in data.registry().items()
    )
    return in_html(re.sub(r"(?<=\d) x (?=\d)", " × ", text))


def _size(count):
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.0f} kB"


def status_page() -> str:
    """Return the page of run times, versions, data and records, as MyST text."""
    from .plotting import markdown_table
    from .records import BENCHMARKS, STUDIES, benchmark

    parts = ["## Chapters"]
    runs = [run for run in map(chapters.last_run, chapters.names()) if run]
    if runs:
        rows = [
            {"chapter": r.chapter, "preset": r.preset, "run time (s)": f"{r.seconds:.0f}", "finished": r.finished}
            for r in runs
        ]
        last = max(runs, key=lambda run: run.finished)
        versions = [{"package": name, "version": version} for name, version in last.versions.items()]
        parts += [markdown_table(rows), f"Hardware: {last.hardware}.", "## Versions", markdown_table(versions)]
    rows = [
        {"data set": f"`{name}`", "in the cache when rendered": "yes" if data.is_cached(name) else "no"}
        for name in data.registry()
    ]
    parts += ["## Data", markdown_table(rows)]
    kept = [row for name in STUDIES if (row := _study_row(name))]
    if kept:
        text = "Made by `python -m softeels_utils record NAME`. Each name is a link to the whole table."
        parts += ["## Recorded studies", text, markdown_table(kept)]
    scripts = sorted(path.stem for path in BENCHMARKS.glob("*.json"))
    if scripts:
        text = "Recorded by the scripts in `benchmarks/`. Each name is a link to the whole record, a JSON file."
        rows = [_benchmark_row(name, benchmark(name)) for name in scripts]
        parts += ["## Benchmarks", text, markdown_table(rows)]
    return "\n\n".join(parts)


def _chapter_status(chapter):
    run = chapters.last_run(chapter)
    if run is None:
        return f"{chapter:24} not run"
    if run.error:
        return f"{chapter:24} failed at {run.finished}, {run.error.splitlines()[0]}"
    stale = run.stamp != chapters.chapter_hash(chapter, run.parameters)
    line = f"{chapter:24} {run.preset:6} {run.seconds:7.1f} s  {run.finished}"
    return line + "  (out of date)" if stale else line


def status() -> str:
    """Return versions, devices, cached data and the last run of each chapter, as text."""
    import torch

    devices = ["cpu"] + [f"cuda ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    lines = [chapters.hardware(), f"devices: {', '.join(devices)}, {torch.get_num_threads()} threads", "", "versions"]
    lines += [f"  {name:14} {version}" for name, version in chapters.versions().items()]
    lines += ["", f"data in {data.cache_folder()}"]
    for name, entry in data.registry().items():
        size = f"{entry.bytes / 1e6:.1f} MB" if entry.bytes else "size unknown"
        lines.append(f"  {name:20} {'cached' if data.is_cached(name) else 'not cached':12} {size:12} {entry.title}")
    try:
        lines += ["", "chapters", *(f"  {_chapter_status(chapter)}" for chapter in chapters.names())]
    except chapters.UsageError as error:
        lines.append(str(error))
    return "\n".join(lines)
