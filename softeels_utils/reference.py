"""Pages of the book that are made from the package itself: the API reference and the graph of imports.

The API pages hold directives of Sphinx's autodoc, one for each name in ``__all__`` of a package; Sphinx and numpydoc
turn them into text when the book is rendered. The graph is read from the source, and drawn as an SVG.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import is_dataclass
from enum import Enum
from graphlib import TopologicalSorter
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

from .source import PACKAGE, fingerprint, import_graph, parts

__all__ = ["import_graph_svg", "link_elsewhere", "pages", "placeholders", "setup", "shorten_citations"]

# In the order of the reference: the way the data goes, then what stands beside it.
PACKAGES = (
    "scattering",
    "spectra",
    "fitting",
    "standards",
    "tomography",
    "dip",
    "metrics",
    "simulate",
    "dose",
    "data",
    "pipeline",
    "study",
    "records",
    "claims",
    "planner",
    "plotting",
)
COMMON = {"progress", "checks"}  # which all may import: the graph leaves them out
VALUE_WIDTH = 70  # characters of a constant's value that are shown


# ---------------------------------------------------------------- API reference


def pages() -> dict[str, str]:
    """Return ``{file name: MyST text}`` of the API reference, one page per package."""
    return {f"api_{name}.md": _page(import_module(f"softeels_utils.{name}")) for name in PACKAGES}


def placeholders() -> dict[str, str]:
    """Return ``{mark: MyST text}`` for ``book/api.md`` and ``book/architecture.md``."""
    graph = import_graph()
    order = [*PACKAGES, *(name for name in graph if name not in PACKAGES and name not in COMMON)]
    drawn = {name: graph[name] - COMMON for name in order}
    return {
        "<!-- generated: packages -->": _package_table(),
        "<!-- generated: import graph -->": f"```{{raw}} html\n{import_graph_svg(drawn)}\n```",
        "<!-- generated: imports -->": _import_table(graph),
    }


def _page(module: ModuleType) -> str:
    members = {name: getattr(module, name) for name in module.__all__}
    classes = [name for name, member in members.items() if inspect.isclass(member)]
    functions = [name for name, member in members.items() if inspect.isroutine(member)]
    constants = [name for name in members if name not in classes and name not in functions]
    text = [f".. automodule:: {module.__name__}\n", f".. currentmodule:: {module.__name__}\n"]
    text += [".. list-table::\n   :widths: auto\n"]
    text += [f"   * - :py:obj:`{name}`\n     - {_first(members[name].__doc__)}" for name in [*functions, *classes]]
    text += ["", *(_directive(name, members[name]) for name in [*functions, *classes])]
    text += [_constant(module, name) for name in constants]
    name = module.__name__.split(".")[-1]
    stamp = fingerprint(parts()[name])
    return "\n".join([f"# {name}", "", f"% changes with the source: {stamp}", "", "```{eval-rst}", *text, "```", ""])


def _first(docstring: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(inspect.cleandoc(docstring or "").split("\n\n")[0].split())


def _directive(name: str, member: object) -> str:
    if inspect.isroutine(member):
        return f".. autofunction:: {name}\n"
    if issubclass(member, BaseException):
        return f".. autoexception:: {name}\n"
    return f".. autoclass:: {name}\n   :members:\n" + "   :undoc-members:\n" * issubclass(member, Enum)


def _constant(module: ModuleType, name: str) -> str:
    """A constant with its value, where that is short, and the comment beside or above it in the source.

    Of longer collections of names these are listed, and of a folder of the checkout its place.
    """
    value, text = getattr(module, name), _comment(module, name)
    lines = [f".. py:data:: {name}"]
    plain = isinstance(value, (int, float, str, tuple, dict)) or is_dataclass(value)
    if plain and len(repr(value)) <= VALUE_WIDTH:
        lines.append(f"   :value: {float(value) if isinstance(value, float) else value!r}")
    elif not text and isinstance(value, (tuple, dict)) and all(isinstance(one, str) for one in value):
        text = ", ".join(f"``{one}``" for one in value)
    if isinstance(value, Path):
        text = f"``{value.relative_to(PACKAGE.parent).as_posix()}``, {text}"
    if text[:1].islower():
        text = text[0].upper() + text[1:]
    if text and not text.endswith((".", "``")):
        text += "."
    return "\n".join([*lines, "", textwrap.indent(text, "   "), ""])


def _comment(module: ModuleType, name: str) -> str:
    for path in parts()[module.__name__.split(".")[-1]]:
        lines = path.read_text(encoding="utf-8").splitlines() if path.suffix == ".py" else []
        for number, line in enumerate(lines):
            if re.match(rf"({name}|.*, {name}|{name}, .*)\b[^=(]*=[^=]", line) and not line.startswith((" ", "#")):
                above = list(takewhile(re.compile("#:? ").match, reversed(lines[:number])))
                beside = re.search(r"  # (.*)", line)
                if beside and beside[1] == "likewise":
                    beside = re.search(r"  # (.*)", lines[number - 1])
                return beside.group(1) if beside else "\n".join(text.lstrip("#: ") for text in reversed(above))
    return ""


NAMED = re.compile(rf"(?<!`)`((?:{'|'.join(PACKAGES)})\.\w[\w.]*)`(?!`)")


def setup(app: Any) -> dict[str, bool]:
    """Make Sphinx link a name such as `fitting.fit_phases` in a docstring to its entry; an extension of Sphinx.

    A citation of an author "and others" reads as one of several authors: *et al.*

    Parameters
    ----------
    app : sphinx.application.Sphinx
    """
    app.connect("autodoc-process-docstring", _link_names, priority=400)  # before numpydoc
    app.connect("missing-reference", link_elsewhere)
    app.connect("doctree-resolved", shorten_citations)
    return {"parallel_read_safe": True}


def _link_names(app, what, name, member, options, lines):
    """Names with their package get the whole path; a literal right after a sign is one all the same."""
    lines[:] = [NAMED.sub(r":py:obj:`\1 <softeels_utils.\1>`", line).replace("±``", "±\\ ``") for line in lines]


def link_elsewhere(app: Any, environment: Any, node: Any, text: Any) -> Any:
    """Return a link for the name of a class of another package, such as `Measurement`, that one alone has.

    A hook of Sphinx, for names in docstrings that the module in which they stand does not document.
    """
    from sphinx.util.nodes import make_refnode

    name = node["reftarget"]
    if node["reftype"] != "obj" or not name[:1].isupper():
        return None
    entries = environment.get_domain("py").objects
    own = {full: entry for full, entry in entries.items() if full.startswith("softeels_utils.") and not entry.aliased}
    found = [full for full in own if full.endswith(f".{name}")]
    if len(found) != 1:
        return None
    place = own[found[0]]
    return make_refnode(app.builder, node["refdoc"], place.docname, place.node_id, text, found[0])


def shorten_citations(app: Any, document: Any, page: str) -> None:
    """Write *et al.* where a citation reads "and others", which the bibliography has; a hook of Sphinx."""
    from docutils import nodes

    for text in list(document.findall(nodes.Text)):
        author, others, year = text.partition(" and others, ")
        if others and isinstance(text.parent, nodes.reference):
            parts = [nodes.Text(f"{author} "), nodes.emphasis("", "et al."), nodes.Text(f", {year}")]
            text.parent.replace(text, parts)


def _package_table() -> str:
    from .plotting import markdown_table

    return markdown_table(
        {"package": f"[`{name}`](api_{name}.md)", "what it is for": _summary(name)} for name in PACKAGES
    )


def _summary(name: str) -> str:
    """The first paragraph of a module's docstring; nothing is imported."""
    file = PACKAGE / name / "__init__.py" if (PACKAGE / name).is_dir() else PACKAGE / f"{name}.py"
    return _first(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))))


# ---------------------------------------------------------------- imports


def _import_table(graph: dict[str, set[str]]) -> str:
    from .plotting import markdown_table

    floors = _floors(graph)
    return markdown_table(
        {
            "module": f"`{name}`",
            "what it is for": _summary(name),
            "imports": ", ".join(f"`{other}`" for other in sorted(graph[name])) or "nothing",
        }
        for name in sorted(graph, key=lambda name: (floors[name], name))
    )


def _floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each package: 0 where it imports nothing, else one above the highest that it imports."""
    floors: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        floors[name] = max((floors[other] + 1 for other in graph[name]), default=0)
    return floors


def _direct(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that do not follow from others (transitive reduction)."""
    floors, below = _floors(graph), {}
    for name in sorted(graph, key=floors.get):
        below[name] = graph[name].union(*(below[other] for other in graph[name]))
    return [
        (name, other)
        for name in sorted(graph)
        for other in sorted(graph[name])
        if not any(other in below[between] for between in graph[name])
    ]


# ---------------------------------------------------------------- the drawing

WIDTH, BOX, ROW = 300, (90, 22), 30  # of the drawing, of a box, from row to row


def import_graph_svg(graph: dict[str, set[str]]) -> str:
    """Draw a graph of imports as an SVG that follows the page's colours: boxes one above the other, arrows beside them.

    A box stands above all that it imports; otherwise the order is that of the graph, from the bottom. Imports that
    follow from others are left out.

    Parameters
    ----------
    graph : dict of str to set of str
        As `softeels_utils.source.import_graph` returns it; without circles.

    Raises
    ------
    graphlib.CycleError
        Packages import each other in a circle (a ``ValueError``).
    """
    edges, rows = _direct(graph), _rows(graph)
    height = ROW * len(rows)
    middle = {name: height - ROW * (row + 0.5) for row, name in enumerate(rows)}
    longest = max((middle[lower] - middle[upper] for upper, lower in edges), default=1)
    label = "Which package imports which: " + "; ".join(f"{upper} imports {lower}" for upper, lower in edges)
    style = "width:100%;max-width:420px;display:block;margin:1rem auto;color:var(--pst-color-text-base,currentColor)"
    head = '<marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"',
            f' aria-label="{label}" style="{style}">',
            f'<defs>{head}<path d="M0 0 6 3 0 6" fill="currentColor"/></marker></defs>',
            *(_arrow(middle[upper], middle[lower], longest) for upper, lower in edges),
            *(_box(name, y) for name, y in middle.items()),
            "</svg>",
        ]
    )


def _rows(graph: dict[str, set[str]]) -> list[str]:
    """Names from the ground up: as the graph lists them, each above all that it imports."""
    rows: list[str] = []
    while len(rows) < len(graph):
        rows.append(next(name for name in graph if name not in rows and graph[name] <= set(rows)))
    return rows


def _arrow(upper: float, lower: float, longest: float) -> str:
    """Half an ellipse on the right of the boxes, as wide in proportion as the way is long."""
    x, width, half = BOX[0] + 3, WIDTH - BOX[0] - 6, (lower - upper) / 2 - 3
    path = f"M{x} {upper + 3:.0f}A{width * (lower - upper) / longest:.0f} {half:.0f} 0 0 1 {x} {lower - 3:.0f}"
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-opacity=".6" marker-end="url(#tip)"/>'


def _box(name: str, y: float) -> str:
    width, height = BOX
    return (
        f'<rect x="1" y="{y - height / 2:.0f}" width="{width}" height="{height}" rx="5"'
        ' style="fill:var(--pst-color-surface,#f3f4f5)" stroke="currentColor"/>'
        f'<text x="{1 + width / 2:.0f}" y="{y + 4:.0f}" text-anchor="middle" font-size="12.5" fill="currentColor">'
        f"{name}</text>"
    )
