"""Pages of the book that are made from the package itself: the API reference and the graph of imports.

The API pages hold directives of Sphinx's autodoc, one for each name in ``__all__`` of a package; Sphinx and numpydoc
turn them into text when the book is rendered. The graph is read from the source, and drawn as an SVG.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import random
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from graphlib import TopologicalSorter
from importlib import import_module
from itertools import combinations, takewhile
from pathlib import Path
from types import ModuleType

__all__ = ["import_graph", "import_graph_svg", "imported_modules", "pages", "placeholders"]

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
    "study",
    "plotting",
)
SOURCE = Path(__file__).parent
VALUE_WIDTH = 70  # characters of a constant's value that are shown


# ---------------------------------------------------------------- API reference


def pages() -> dict[str, str]:
    """Return ``{file name: MyST text}`` of the API reference, one page per package."""
    return {f"api_{name}.md": _page(import_module(f"softeels_utils.{name}")) for name in PACKAGES}


def placeholders() -> dict[str, str]:
    """Return ``{mark: MyST text}`` for ``book/api.md`` and ``book/architecture.md``."""
    graph = import_graph()
    drawn = {name: graph[name] - {"progress"} for name in graph if name != "progress"}  # whom all may import
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
    source = hashlib.sha256(b"".join(path.read_bytes() for path in _files(SOURCE / name))).hexdigest()
    return "\n".join([f"# {name}", "", f"% changes with the source: {source}", "", "```{eval-rst}", *text, "```", ""])


def _files(path: Path) -> list[Path]:
    """The source files of a package (its folder) or module (its path, with or without suffix)."""
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


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
    """A constant with its value, where that is short, and the comment beside or above it in the source."""
    value = getattr(module, name)
    lines = [f".. py:data:: {name}"]
    if isinstance(value, (int, float, str, tuple)) and len(repr(value)) <= VALUE_WIDTH:
        lines.append(f"   :value: {value!r}")
    return "\n".join([*lines, "", textwrap.indent(_comment(module, name), "   "), ""])


def _comment(module: ModuleType, name: str) -> str:
    for path in _files(SOURCE / module.__name__.split(".")[-1]):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if re.match(rf"({name}|.*, {name}|{name}, .*)\b[^=(]*=[^=]", line) and not line.startswith((" ", "#")):
                above = list(takewhile(re.compile("#:? ").match, reversed(lines[:number])))
                beside = re.search(r"  # (.*)", line)
                return beside.group(1) if beside else "\n".join(text.lstrip("#: ") for text in reversed(above))
    return ""


def _package_table() -> str:
    rows = [(f"[`{name}`](api_{name}.md)", _summary(SOURCE / name)) for name in PACKAGES]
    return "\n".join(["| package | what it is for |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])


def _summary(path: Path) -> str:
    """The first paragraph of a module's docstring; nothing is imported."""
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return _first(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))))


# ---------------------------------------------------------------- imports


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Yield ``(line, module)`` for each import of this package in a source file, inside functions too.

    The module is named from the package's root: ``"fitting.solver"`` for ``from ..fitting.solver import solve``
    (which, without importing anything, cannot be told from a name: ``"fitting.solver.solve"``).

    Parameters
    ----------
    path : pathlib.Path
        A file below ``softeels_utils``.
    """
    here = ("softeels_utils", *path.relative_to(SOURCE).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(here[: -node.level]) if node.level else []
            base += node.module.split(".") if node.module else []
            targets = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for first, *rest in targets:
            if first == "softeels_utils" and rest:
                yield node.lineno, ".".join(rest)


def import_graph() -> dict[str, set[str]]:
    """Return ``{package: packages it imports}`` over all packages and modules at the top of ``softeels_utils``.

    ``__init__`` and ``__main__`` are left out.
    """
    names = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    names |= {path.stem for path in SOURCE.glob("[!_]*.py")}
    graph = {}
    for name in sorted(names):
        found = {module.split(".")[0] for file in _files(SOURCE / name) for _, module in imported_modules(file)}
        graph[name] = (found & names) - {name}
    return graph


def _import_table(graph: dict[str, set[str]]) -> str:
    floors, rows = _floors(graph), []
    for name in sorted(graph, key=lambda name: (floors[name], name)):
        imported = ", ".join(f"`{other}`" for other in sorted(graph[name])) or "nothing"
        rows.append(f"| `{name}` | {_summary(SOURCE / name)} | {imported} |")
    return "\n".join(["| module | what it is for | imports |", "|---|---|---|", *rows])


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

WIDTH, BOX, ROW, SLOTS = 360, (80, 24), 58, 4  # a phone's width, a box, from row to row, boxes per row


def import_graph_svg(graph: dict[str, set[str]]) -> str:
    """Draw a graph of imports, ground floor at the bottom, as an SVG that follows the page's colours.

    Imports that follow from others are left out.

    Parameters
    ----------
    graph : dict of str to set of str
        As `import_graph` returns it; without circles.

    Raises
    ------
    graphlib.CycleError
        Packages import each other in a circle (a ``ValueError``).
    """
    edges, rows = _direct(graph), _rows(graph)
    height = ROW * (len(rows) - 1) + BOX[1] + 16
    centre = _centres(rows, height)
    label = "Which package imports which: " + "; ".join(f"{upper} imports {lower}" for upper, lower in edges)
    style = "width:100%;max-width:540px;display:block;margin:1rem auto;color:var(--pst-color-text-base,currentColor)"
    head = '<marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}"',
            f' style="{style}">',
            f'<defs>{head}<path d="M0 0 6 3 0 6" fill="currentColor"/></marker></defs>',
            *(_arrow(*centre[upper], *centre[lower]) for upper, lower in edges),
            *(_box(name, *centre[name]) for name in centre),
            "</svg>",
        ]
    )


def _centres(rows: list[list[str]], height: float) -> dict[str, tuple[float, float]]:
    return {
        name: (WIDTH * (slot + 0.5) / SLOTS, height - 8 - BOX[1] / 2 - ROW * level)
        for level, row in enumerate(rows)
        for slot, name in enumerate(row)
        if name
    }


def _rows(graph: dict[str, set[str]]) -> list[list[str]]:
    """Names by floor in rows of ``SLOTS`` (``""`` where empty): the clearest of some drawings found by swapping."""
    floors, edges, rows = _floors(graph), _direct(graph), []
    for level in range(max(floors.values()) + 1):
        names = sorted(name for name in graph if floors[name] == level)
        count = -(-len(names) // SLOTS)
        rows += [[*names[i::count], *[""] * SLOTS][:SLOTS] for i in range(count)]
    draws, generator = [], random.Random(0)
    for _ in range(300):
        draws.append([generator.sample(row, SLOTS) for row in rows])
        while _swap(draws[-1], edges):
            pass
    return min(draws, key=lambda rows: _tangle(rows, edges))


def _swap(rows: list[list[str]], edges: list[tuple[str, str]]) -> bool:
    """Swap two neighbours of a row, in place, wherever that makes the drawing clearer; tell whether any was."""
    best = before = _tangle(rows, edges)
    for row in rows:
        for i, j in combinations(range(SLOTS), 2):
            row[i], row[j] = row[j], row[i]
            tangle = _tangle(rows, edges)
            if tangle < best - 1e-9:
                best = tangle
            else:
                row[i], row[j] = row[j], row[i]
    return best < before


def _tangle(rows: list[list[str]], edges: list[tuple[str, str]]) -> float:
    """How hard a drawing is to read: the arrows' sideways lengths, and what is hidden behind boxes."""
    centre, total = _centres(rows, 0), 0.0
    for (x0, y0), (x1, y1) in ((centre[upper], centre[lower]) for upper, lower in edges):
        total += abs(x1 - x0) / WIDTH
        for x, y in centre.values():
            if y0 < y < y1:
                total += 4 * (abs(x0 + (x1 - x0) * (y - y0) / (y1 - y0) - x) < BOX[0] / 2)
    return total


def _arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    """A straight line from the edge of one box to the edge of another."""
    dx, dy = x1 - x0, y1 - y0
    inside = min(BOX[1] / 2 / dy, BOX[0] / 2 / max(abs(dx), 1))  # part of the line that lies in a box
    path = f"M{x0 + inside * dx:.1f} {y0 + inside * dy:.1f}L{x1 - inside * dx:.1f} {y1 - inside * dy:.1f}"
    return f'<path d="{path}" stroke="currentColor" stroke-opacity=".6" marker-end="url(#tip)"/>'


def _box(name: str, x: float, y: float) -> str:
    fill = "var(--pst-color-surface,#f3f4f5)"
    return (
        f'<rect x="{x - BOX[0] / 2:.0f}" y="{y - BOX[1] / 2:.0f}" width="{BOX[0]}" height="{BOX[1]}" rx="5"'
        f' style="fill:{fill}" stroke="currentColor"/>'
        f'<text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle" font-size="12.5" fill="currentColor">{name}</text>'
    )
