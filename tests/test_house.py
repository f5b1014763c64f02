"""The rules of the house, read from the source: who imports whom, how long a function is, what is annotated, how errors
are worded, what the docstrings promise; and a wheel that works outside the checkout."""

import ast
import dataclasses
import inspect
import re
import shutil
import subprocess
import sys
import textwrap
import types
import xml.etree.ElementTree as ElementTree
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from docutils import nodes

from softeels_utils import reference, source

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "softeels_utils"
# From the ground floor up: a module imports only what stands before it.
ORDER = (
    "progress source checks doors archives scattering spectra fitting data standards tomography metrics dip plotting "
    "pipeline simulate dose study records claims planner reference chapters pages slides book"
).split()
# These never import the simulator.
MEASURED = {"spectra", "fitting", "standards", "tomography", "dip", "metrics", "data", "pipeline"}
LONGEST = 80  # lines of a function's body, its docstring aside
SCRIPT = PACKAGE / "scattering" / "tables" / "compute.py"  # runs once, with edrixs; no part of the package's interface
FILES = sorted(PACKAGE.rglob("*.py"))
ONES_OWN = [path for path in FILES if path != SCRIPT]


def where(path, line):
    return f"{path.relative_to(ROOT)}:{line}"


def fail_with(offenders):
    if offenders:
        pytest.fail("\n".join(offenders), pytrace=False)


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- who imports whom


def test_every_module_has_its_floor():
    assert set(source.import_graph()) == set(ORDER)


def test_no_import_runs_upwards():
    upwards = []
    for path in FILES:
        name = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if name.startswith("__"):
            continue
        for line, module in source.imported_modules(path):
            other = module.split(".")[0]
            if other in ORDER and ORDER.index(other) > ORDER.index(name):
                upwards.append(f"{where(path, line)}: {name} imports {other}")
    fail_with(upwards)


def test_nothing_for_measured_data_imports_the_simulator():
    graph = source.import_graph()
    reached = {name: reach(graph, name) for name in MEASURED}
    assert not [name for name, below in reached.items() if "simulate" in below], reached


def test_near_edge_shapes_stay_with_the_simulator():
    """Atomic cross-sections are common ground; an estimator that knew the near-edge tables would find them again."""
    shapes, offenders = {"near_edge_oscillator_strength", "m1_oscillator_strength"}, []
    shapes |= {"near_edge", "edge_change", "tables", "strengths", "valence_loss"}  # what a system holds for the twin
    for path in FILES:
        if path.relative_to(PACKAGE).with_suffix("").parts[0] in MEASURED:
            names = [(line, module.split(".")) for line, module in source.imported_modules(path)]
            uses = [line for line, (package, *rest) in names if package == "scattering" and shapes & set(rest)]
            uses += [node.lineno for node in ast.walk(parse(path)) if getattr(node, "attr", None) in shapes]
            offenders += [f"{where(path, line)}: near-edge shapes" for line in uses]
    fail_with(offenders)


def reach(graph, name):
    """All modules that importing this one imports."""
    found, waiting = set(), [name]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


# Private attributes of other objects that may be used: of libraries that offer nothing public, and of a module's own.
PRIVATE = {
    ("softeels_utils/dip/training.py", "_foreach_lerp_"),  # PyTorch: all parameters in one call
    ("softeels_utils/spectra/arrays.py", "_deepcopy_with_new_data"),  # HyperSpy: a signal like another
    ("softeels_utils/tomography/projector.py", "_apply"),  # of the adjoint, an object of the same class
    ("softeels_utils/tomography/projector.py", "_multiply"),
    ("tests/test_simulate.py", "_lazy"),  # HyperSpy: whether a signal is lazy
}


def private_uses(path):
    """Private names that are not the file's own: ``from ..fitting.fit import _window``, ``model._spectrum``."""
    inside = path.is_relative_to(PACKAGE)
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("softeels_utils")):
            foreign = not inside or node.level == 0 or node.level >= len(path.relative_to(PACKAGE).parts)
            for alias in node.names:
                if foreign and alias.name.startswith("_") and not alias.name.startswith("__"):
                    yield f"{where(path, node.lineno)}: {alias.name} of {node.module}"
        elif isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not own and (path.relative_to(ROOT).as_posix(), node.attr) not in PRIVATE:
                yield f"{where(path, node.lineno)}: {ast.unparse(node)}"


def test_private_names_stay_in_their_package():
    paths = [*ONES_OWN, *(ROOT / "tests").glob("*.py"), *(ROOT / "notebooks").glob("*.py")]
    uses = [use for path in [*paths, *(ROOT / "benchmarks").glob("*.py")] for use in private_uses(path)]
    fail_with(uses)


# ---------------------------------------------------------------- how it is written


def body_lines(function):
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_no_function_is_longer_than_a_screen():
    long = [
        f"{where(path, node.lineno)}: {node.name} has {body_lines(node)} lines"
        for path in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and body_lines(node) > LONGEST
    ]
    fail_with(long)


# Messages that say what is wrong without a value that was got: the beginning of each.
OTHER_MESSAGES = (
    "chapters: this installation has no notebooks",  # nothing was passed in
    "it holds ",  # wrapped into a message of the dialect by the same function
)


def test_errors_speak_one_dialect():
    """Each ``ValueError`` (``UsageError`` is one) or ``TypeError`` with a text: ``name: got X, wants Y``."""
    strange = []
    for path in ONES_OWN:
        for node in ast.walk(parse(path)):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                continue
            kind = ast.unparse(node.exc.func).split(".")[-1]
            texts = [part.value for part in ast.walk(node.exc) if isinstance(part, ast.Constant)]
            message = " ".join(text for text in texts if isinstance(text, str))
            if kind in ("ValueError", "TypeError", "UsageError") and message:
                if not re.search(r"\bgot\b.*\bwants\b", message, re.DOTALL) and not message.startswith(OTHER_MESSAGES):
                    strange.append(f"{where(path, node.lineno)}: {message}")
    fail_with(strange)


# ---------------------------------------------------------------- what is public


@pytest.mark.parametrize("name", ORDER)
def test_public_names_exist(name):
    module = import_module(f"softeels_utils.{name}")
    assert len(module.__all__) == len(set(module.__all__)) > 0
    assert [public for public in module.__all__ if not hasattr(module, public)] == []


def public_functions(module):
    """``(name, function)`` of every public function, method and property that this project defines."""
    for name in module.__all__:
        member = getattr(module, name)
        if inspect.isroutine(member):
            yield name, inspect.unwrap(member)
        elif inspect.isclass(member):
            for inner, method in vars(member).items():
                method = method.fget if isinstance(method, property) else getattr(method, "__func__", method)
                method = inspect.unwrap(getattr(method, "func", method))  # functools.cached_property, functools.cache
                written = isinstance(method, types.FunctionType) and method.__code__.co_filename.endswith(".py")
                if written and (not inner.startswith("_") or inner in ("__init__", "__call__")):
                    yield f"{name}.{inner}", method


@pytest.mark.parametrize("name", ORDER)
def test_public_functions_are_annotated(name):
    bare = []
    for label, function in public_functions(import_module(f"softeels_utils.{name}")):
        signature = inspect.signature(function)
        missing = [
            parameter.name
            for i, parameter in enumerate(signature.parameters.values())
            if parameter.annotation is parameter.empty and not (i == 0 and parameter.name in ("self", "cls"))
        ]
        if signature.return_annotation is signature.empty and not label.endswith("__init__"):
            missing.append("return")
        if missing:
            bare.append(f"{label}: {', '.join(missing)}")
    fail_with(bare)


# ---------------------------------------------------------------- docstrings


def documented(module):
    """``(name, docstring, names of parameters or fields)`` of a module's public functions, methods and classes."""
    yield module.__name__, module.__doc__, None
    for label, function in public_functions(module):
        yield label, function.__doc__, set(inspect.signature(function).parameters)
    for name in module.__all__:
        member = getattr(module, name)
        if inspect.isclass(member):
            fields = {field.name for field in dataclasses.fields(member)} if dataclasses.is_dataclass(member) else None
            yield name, member.__doc__, fields


@pytest.mark.parametrize("name", ORDER)
def test_docstrings_name_real_parameters(name):
    """Each name under "Parameters" is one of the function's, or of the dataclass's fields."""
    docscrape = pytest.importorskip("numpydoc.docscrape")
    wrong = []
    for label, docstring, parameters in documented(import_module(f"softeels_utils.{name}")):
        listed = docscrape.NumpyDocString(inspect.cleandoc(docstring or ""))["Parameters"]
        names = [part.strip(" *") for entry in listed for part in entry.name.split(",")]
        if parameters is not None and not set(names) <= parameters:
            wrong.append(f"{label}: {', '.join(sorted(set(names) - parameters))}")
    fail_with(wrong)


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.filterwarnings("error:Unknown section")
def test_docstrings_can_be_rendered(name):
    """What Sphinx would warn of: markup that is no reStructuredText, a section that numpydoc does not know."""
    docscrape = pytest.importorskip("numpydoc.docscrape_sphinx")
    from docutils import core, nodes

    wrong = []
    for label, docstring, _ in documented(import_module(f"softeels_utils.{name}")):
        text = str(docscrape.SphinxDocString(inspect.cleandoc(docstring or "")))
        text = re.sub(r":(?:py:)?(?:obj|func|class|meth|mod|data|attr|exc):`", "`", text)
        text = re.sub(r"(?m)^( *)\.\. (only|index|rubric|seealso|currentmodule)::.*$", "", text)
        document = core.publish_doctree(text, settings_overrides={"report_level": 5, "halt_level": 6})
        messages = [*document.findall(nodes.system_message), *document.transform_messages]
        wrong += [f"{label}: {message.astext()}" for message in messages if message["level"] >= 2]
    fail_with(wrong)


# ---------------------------------------------------------------- pages made from the source


def test_reference_has_a_page_for_each_package_and_an_entry_for_each_name():
    pages, placeholders = reference.pages(), reference.placeholders()
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    (listed,) = [
        chapter["sections"] for part in toc["parts"] for chapter in part["chapters"] if chapter["file"] == "book/api"
    ]
    assert [entry["file"] for entry in listed] == [f"book/{name.removesuffix('.md')}" for name in pages]
    for name, text in pages.items():
        package = import_module(f"softeels_utils.{name.removeprefix('api_').removesuffix('.md')}")
        entries = re.findall(r"(?m)^\.\. (?:auto\w+|py:data):: (\w+)$", text)
        assert sorted(entries) == sorted(package.__all__)
    for mark in placeholders:
        assert any(mark in page.read_text(encoding="utf-8") for page in (ROOT / "book").glob("*.md")), mark


def test_constants_in_the_reference_say_what_they_hold():
    """By their value, the comment in the source, or the names that they hold."""
    entries = [e for text in reference.pages().values() for e in text.split(".. py:data:: ")[1:]]
    assert len(entries) > 15
    for entry in entries:
        assert ":value:" in entry or re.search(r"(?m)^   (``|[A-Z]).*", entry), entry


def test_names_with_their_package_become_links_in_docstrings():
    hooks = {}
    reference.setup(types.SimpleNamespace(connect=lambda event, hook, priority=500: hooks.update({event: hook})))
    lines = ["See `tomography.Measurement`, ``dip.fit`` and `fit`; ±``width``."]
    hooks["autodoc-process-docstring"](None, "function", "x", None, None, lines)
    link = ":py:obj:`tomography.Measurement <softeels_utils.tomography.Measurement>`"
    assert lines == [f"See {link}, ``dip.fit`` and `fit`; ±\\ ``width``."]


def test_citations_of_an_author_and_others_read_as_those_of_several():
    link = nodes.reference("", "", nodes.Text("Pelaez-Fernandez and others, 2026"))
    document = nodes.paragraph("", "", nodes.Text("these and others, "), link)
    reference.shorten_citations(None, document, "page")
    assert str(link) == "<reference>Pelaez-Fernandez <emphasis>et al.</emphasis>, 2026</reference>"
    assert document.astext() == "these and others, Pelaez-Fernandez et al., 2026"


def test_a_class_of_another_package_is_linked_where_one_alone_has_its_name():
    places = {  # a class is entered where its package offers it and, as another name of that, where it is written
        f"softeels_utils.{name}": types.SimpleNamespace(docname="api", node_id=name, aliased=name == "a.part.One")
        for name in ("a.One", "a.part.One", "a.f", "b.Two", "c.Two")
    }
    environment = types.SimpleNamespace(get_domain=lambda name: types.SimpleNamespace(objects=places))
    app = types.SimpleNamespace(builder=types.SimpleNamespace(get_relative_uri=lambda page, other: f"{other}.html"))

    def link(name, kind="obj"):
        node = {"reftarget": name, "reftype": kind, "refdoc": "page"}
        return reference.link_elsewhere(app, environment, node, nodes.Text(name))

    assert link("One")["refuri"] == "api.html#a.One"
    assert link("Two") is link("f") is link("Three") is link("One", "func") is None


def test_graph_of_imports_is_drawn_with_the_ground_at_the_bottom():
    graph = {"top": {"middle", "ground"}, "middle": {"ground"}, "ground": set(), "alone": set()}
    drawing = ElementTree.fromstring(reference.import_graph_svg(graph))
    texts = {text.text: float(text.get("y")) for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert texts["alone"] < texts["top"] < texts["middle"] < texts["ground"]
    arrows = [path for path in drawing.iter("{http://www.w3.org/2000/svg}path") if path.get("marker-end")]
    assert len(arrows) == 2  # from the top to the ground floor follows
    with pytest.raises(ValueError, match="cycle"):
        reference.import_graph_svg({"a": {"b"}, "b": {"a"}})


def test_imports_inside_functions_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "PACKAGE", tmp_path)
    (tmp_path / "upper").mkdir()
    for name in ("lower", "other", "third"):
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "upper" / "__init__.py").write_text("from .part import f\nimport numpy\n")
    (tmp_path / "upper" / "part.py").write_text(
        "from .. import lower\n\ndef f():\n    from ..other import x\n    import softeels_utils.third\n"
    )
    assert source.import_graph()["upper"] == {"lower", "other", "third"}


# ---------------------------------------------------------------- a wheel, outside the checkout

OUTSIDE = """
import sys
from pathlib import Path

site, checkout = Path(sys.argv[1]), Path(sys.argv[2])
sys.path[:] = [str(site)] + [entry for entry in sys.path if entry and not Path(entry).resolve() == checkout]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]

import numpy as np
import softeels_utils
assert Path(softeels_utils.__file__).is_relative_to(site), softeels_utils.__file__
assert (site / "softeels_utils" / "py.typed").exists()

from softeels_utils import data, dip, fitting, scattering, simulate, standards
from softeels_utils.tomography import ParallelBeam

assert data.registry()

# fit_phases
energy = 42 + 0.25 * np.arange(160)
references = np.exp(-0.5 * ((energy - np.array([[56.0], [59.0]])) / 2.0) ** 2)
counts = 1000 * np.array([1.0, 2.0]) @ references + 50 * fitting.background_shapes(energy).sum(axis=0)
fitted = fitting.fit_phases(counts, energy, references)
assert np.allclose(fitted.coefficients, [1000, 2000], rtol=0.05), fitted.coefficients

# systems, their files and tables
assert scattering.system_names() == ["iron_oxides", "manganese_oxides"]
assert simulate.spectrum_model(system="manganese_oxides").references("M2,3").max() > 0
assert simulate.draw_chemistry(0, n=8).phases[:2] == ("FeO", "Fe3O4")

# extract_standards, on the twin
volume = simulate.core_shell_nanocube(16, 4.0, oversample=3)
low, core = simulate.dual_eels(volume.sum(axis=2) * 4.0, 1e5, pixel_size_nm=4.0, seed=0, progress=False)
found = standards.extract_standards(low, core, bootstrap=20, seed=0)
assert found.references.shape[0] == 2 and np.isfinite(found.references).all()

# dipm_tv
tilts = np.linspace(-70, 70, 9)
projections = ParallelBeam(12, tilts)(simulate.core_shell_nanocube(12))
result = dip.dipm_tv(projections, tilts, iterations=3)
assert result.volume.shape == (2, 12, 12, 12) and np.isfinite(result.volume).all()
print("all of it runs")
"""


@pytest.mark.slow
def test_a_wheel_runs_outside_the_checkout(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / "softeels_utils", ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(source / done.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(site)
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(OUTSIDE))
    command = [sys.executable, "-I", str(program), str(site), str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "all of it runs" in done.stdout, done.stderr
