"""The source of the package, read without importing it: files, imports, fingerprints; and what it runs on."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = [
    "PACKAGE",
    "below",
    "code_stamp",
    "files_below",
    "files_used",
    "fingerprint",
    "hardware",
    "import_graph",
    "imported_modules",
    "installed",
    "parts",
]

PACKAGE = Path(__file__).resolve().parent


def fingerprint(files: Iterable[Path], *values: Any) -> str:
    """Return a SHA-256 of files (paths and contents) and of values that JSON can hold (others by their text)."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path).encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    digest.update(json.dumps(values, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Return all files below a folder, in order, compiled ones left out."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def parts() -> dict[str, list[Path]]:
    """Return ``{name: files}`` of each package (its tables included) and each module at the top of ``softeels_utils``.

    ``__init__`` and ``__main__`` are left out.
    """
    modules = {path.stem: [path] for path in PACKAGE.glob("[!_]*.py")}
    return modules | {path.parent.name: files_below(path.parent) for path in PACKAGE.glob("*/__init__.py")}


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Yield ``(line, module)`` for each import of this package in a source file, inside functions too.

    The module is named from the package's root: ``"fitting.solver"`` for ``from ..fitting.solver import solve``
    (which, without importing anything, cannot be told from a name: ``"fitting.solver.solve"``).

    Parameters
    ----------
    path : pathlib.Path
        A file of this package, or another one.
    """
    inside = path.relative_to(PACKAGE).with_suffix("").parts if path.is_relative_to(PACKAGE) else ()
    here = ("softeels_utils", *inside)
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


def _imported(files: Iterable[Path]) -> set[str]:
    """The packages, and modules at the top, that files import."""
    return {module.split(".")[0] for path in files if path.suffix == ".py" for _, module in imported_modules(path)}


def import_graph() -> dict[str, set[str]]:
    """Return ``{name: names that it imports}`` over all `parts`."""
    files = parts()
    return {name: (_imported(files[name]) & set(files)) - {name} for name in sorted(files)}


def files_used(path: Path) -> list[Path]:
    """Return the files of all packages that a source file imports, directly or through others, tables included."""
    files = parts()
    found = below(*(_imported([path]) & set(files)))
    return sorted([PACKAGE / "__init__.py", *(file for name in found for file in files[name])])


def below(*names: str) -> tuple[str, ...]:
    """Return some of the `parts` and all that they import, directly or through others, in order of their names."""
    graph, found, waiting = import_graph(), set(), set(names)
    while waiting:
        found |= waiting
        waiting = set().union(*(graph[one] for one in waiting)) - found
    return tuple(sorted(found))


@lru_cache
def code_stamp(names: tuple[str, ...]) -> str:
    """Return eight digits that change with the code of some modules, not with its comments, docstrings or layout.

    Parameters
    ----------
    names : tuple of str
        Of `parts`, such as ``"dip"``, or of one module in them, such as ``"metrics.errors"``.
    """
    digest, files = hashlib.sha256(), parts()
    for name in names:
        part, _, module = name.partition(".")
        for path in files[part]:
            if not module or path.stem == module:
                content = path.read_bytes()
                digest.update(_bare(content) if path.suffix == ".py" else content)
    return digest.hexdigest()[:8]


def _bare(source: bytes) -> bytes:
    """The syntax of a source without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:]
    return ast.dump(tree).encode()


def installed(names: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> str:
    """Return processor, cores, system and Python version of this machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = models[0] if models else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
