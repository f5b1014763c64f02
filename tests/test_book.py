"""The engine that runs chapters and renders the book; and the rendered book in a real browser, network off."""

import json
import os
import re
import shutil
import textwrap
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from softeels_utils import book, chapters, plotting, records, slides, source
from softeels_utils.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = """
    # %% [markdown]
    # # A chapter

    # %% tags=["parameters"]
    data_path = ""
    seed = 0
    fluence = 1.0
    tilts = [1, 2]

    # %%
    from softeels_utils import metrics_of_toy

    {body}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two small chapters, with a package of its own for the stamps."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params").mkdir()
    (tmp_path / "data").mkdir()
    package = tmp_path / "softeels_utils"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "used.py").write_text("x = 1\n")
    (package / "unused.py").write_text("x = 1\n")
    (tmp_path / "params" / "quick.yml").write_text("01_a: {fluence: 1e5}\n")
    (tmp_path / "params" / "full.yml").write_text("{}\n")
    for name, body in {"01_a": "print(seed, fluence)", "02_b": "raise RuntimeError('boom')"}.items():
        chapter = textwrap.dedent(CHAPTER).format(body=body).replace("metrics_of_toy", "data")
        (tmp_path / "notebooks" / f"{name}.py").write_text(chapter)
    for name, value in {
        "ROOT": tmp_path,
        "NOTEBOOKS": tmp_path / "notebooks",
        "BUILD": tmp_path / "_build",
    }.items():
        monkeypatch.setattr(chapters, name, value)
    monkeypatch.setattr(source, "PACKAGE", package)
    return tmp_path


def test_parameters_are_checked(project):
    assert chapters.parameters_of("1")["fluence"] == 1e5  # 1e5 is text to YAML, a number to the notebook
    assert chapters.parameters_of("01_a", "full", {"seed": "3", "tilts": "[5]"})["tilts"] == [5]
    with pytest.raises(chapters.UsageError, match="chapter: got '7', wants one of 01_a, 02_b"):
        chapters.parameters_of("7")
    with pytest.raises(chapters.UsageError, match=r"-p: got parameter 'sed', wants one of data_path, seed"):
        chapters.parameters_of("1", overrides={"sed": "3"})
    for value in ("x", "[1", "{", "1: 2: 3"):
        with pytest.raises(chapters.UsageError, match=r"parameter seed: got .*, wants a int"):
            chapters.parameters_of("1", overrides={"seed": value})
    (project / "params" / "quick.yml").write_text("01_a: {fluense: 1}\n")
    with pytest.raises(chapters.UsageError, match=r"params/quick.yml: got parameter 'fluense'"):
        chapters.parameters_of("1")


def test_command_line_codes(project, capsys):
    assert main(["run", "9"]) == 2
    assert main(["run", "01", "-p", "nothing", "1"]) == 2
    assert main(["run", "01", "--preset", "huge"]) == 2
    assert main(["run", "01", "--data", "missing.hspy"]) == 2
    (project / "x.txt").touch()
    assert main(["run", "01", "--data", str(project / "x.txt")]) == 2
    assert main(["fetch", "nothing"]) == 2
    messages = capsys.readouterr().err.splitlines()
    assert len(messages) == 6 and all(line.startswith("error: ") for line in messages)
    assert not (project / "_build").exists()  # refused before anything ran


def test_a_negative_number_is_a_value(project, capsys):
    assert main(["run", "01", "-p", "nothing", "-1e-9"]) == 2 and main(["run", "01", "-p", "nothing", "-.5"]) == 2
    assert capsys.readouterr().err.count("-p: got parameter 'nothing'") == 2
    with pytest.raises(SystemExit):
        main(["run", "01", "-q", "1"])


def test_a_failing_chapter_does_not_stop_the_others(project, capsys, monkeypatch):
    shutil.copy(project / "notebooks" / "01_a.py", project / "notebooks" / "03_c.py")
    assert main(["book"]) == 1
    error = capsys.readouterr().err
    assert "02_b, cell 3: RuntimeError: boom" in error and "1 of 3 chapters failed" in error
    executed = project / "_build" / "executed"
    assert (executed / "01_a.ipynb").exists() and (executed / "03_c.ipynb").exists()
    assert (executed / "02_b.failed.ipynb").exists() and not (executed / "02_b.ipynb").exists()


def test_stamp_holds_until_something_changes(project):
    first, done = chapters.execute("01_a")
    assert done and first.error is None
    notebook = json.loads((project / "_build" / "executed" / "01_a.ipynb").read_text())
    assert "0 100000.0" in json.dumps(notebook)
    assert chapters.execute("01_a") == (first, False)
    assert chapters.execute("01_a", overrides={"seed": 1})[1]
    assert chapters.execute("01_a", overrides={"seed": 1})[1] is False


OWN_DATA = """
    # %% tags=["twin"]
    print("the twin")

    # %% tags=["own-data", "needs-low_loss_path", "output-txt"]
    from pathlib import Path

    text = Path(data_path).read_text() + Path(low_loss_path).read_text()
    if output_path:
        Path(output_path).write_text(text)
        assert "broken" not in text
"""


@pytest.fixture
def own_data(project, monkeypatch):
    """A chapter that joins two files of the user's into a third, and the arguments to run it."""
    text = (
        (project / "notebooks" / "01_a.py")
        .read_text()
        .replace('data_path = ""', 'data_path = ""\nlow_loss_path = ""\noutput_path = ""')
    )
    (project / "notebooks" / "01_a.py").write_text(text + textwrap.dedent(OWN_DATA))
    (project / "user").mkdir()
    for name in ("core.hspy", "low.hspy"):
        (project / "user" / name).write_text(name)
    monkeypatch.chdir(project / "user")
    return {"data_path": "core.hspy", "low_loss_path": "low.hspy", "output_path": "out.txt"}


def test_own_data_replace_the_twin(own_data, project):
    run, _ = chapters.execute("01")
    executed = project / "_build" / "executed" / "01_a.ipynb"
    assert run.error is None and "the twin" in executed.read_text() and "low_loss_path)" not in executed.read_text()
    run, _ = chapters.execute("01", overrides=own_data)
    assert run.error is None and "the twin" not in executed.read_text()
    assert (project / "user" / "out.txt").read_text() == "core.hspylow.hspy"
    assert run.parameters["data_path"] == str(project / "user" / "core.hspy")


def test_an_output_that_is_gone_is_written_again(own_data):
    output = Path("out.txt")
    assert chapters.execute("01", overrides=own_data)[1]
    assert not chapters.execute("01", overrides=own_data)[1]
    output.unlink()
    assert chapters.execute("01", overrides=own_data)[1] and output.read_text() == "core.hspylow.hspy"


def test_a_failed_run_leaves_the_output_as_it_was(own_data):
    Path("out.txt").write_text("mine")
    Path("low.hspy").write_text("broken")
    run, _ = chapters.execute("01", overrides=own_data)
    assert "AssertionError" in run.error and Path("out.txt").read_text() == "mine"
    assert sorted(path.name for path in Path().iterdir()) == ["core.hspy", "low.hspy", "out.txt"]


def test_stamp_sees_source_package_data_and_parameters(project):
    chapter = project / "notebooks" / "01_a.py"
    chapter.write_text(chapter.read_text().replace("import data", "import used"))

    def stamp(**parameters):
        return chapters.chapter_hash("01_a", {"seed": 0, **parameters}, "")

    seen = [stamp(), stamp(seed=1)]
    (project / "softeels_utils" / "unused.py").write_text("x = 2\n")
    assert stamp() == seen[0]  # not used by this chapter
    (project / "softeels_utils" / "used.py").write_text("from . import unused\n")
    seen.append(stamp())
    (project / "softeels_utils" / "unused.py").write_text("x = 3\n")  # used now, through another
    seen.append(stamp())
    (project / "softeels_utils" / "tables").mkdir()  # a package with a table, used through another module too
    (project / "softeels_utils" / "tables" / "__init__.py").touch()
    (project / "softeels_utils" / "used.py").write_text("from . import unused, tables\n")
    seen.append(stamp())
    (project / "softeels_utils" / "tables" / "edge.csv").write_text("1,2\n")
    seen.append(stamp())
    (project / "data" / "table.csv").write_text("1,2\n")
    seen.append(stamp())
    (project / "mine.npz").write_bytes(b"1")
    seen.append(stamp(data_path=str(project / "mine.npz")))
    (project / "mine.npz").write_bytes(b"2")
    seen.append(stamp(data_path=str(project / "mine.npz")))
    chapter.write_text(chapter.read_text() + "\n# more\n")
    seen.append(stamp())
    assert len(set(seen)) == len(seen)


def test_fingerprint_sees_contents_names_and_values(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    for path in files:
        path.write_text("same")
    seen = [source.fingerprint(f, *v) for f in (files[:1], files[1:], files) for v in ((), (1,), ({"x": 1},))]
    assert len(set(seen)) == 9
    files[0].write_text("other")
    assert source.fingerprint(files[:1]) not in seen


def test_an_installation_without_notebooks_says_so(project, monkeypatch, capsys):
    monkeypatch.setattr(chapters, "NOTEBOOKS", project / "none")
    assert main(["run", "01"]) == main(["book"]) == 2
    message = "chapters: this installation has no notebooks; work in a checkout"
    assert capsys.readouterr().err.splitlines() == [f"error: {message}"] * 2
    assert main(["status"]) == 0 and message in capsys.readouterr().out


def test_status_tells_of_devices_data_and_chapters(project, capsys):
    assert main(["status"]) == 0
    text = capsys.readouterr().out
    assert "torch" in text and "devices: cpu" in text and "nanocube_si" in text and "01_a" in text


def _pages_of_figures(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text)


def _figure(name, caption="x"):
    return f'<figure class="softeels" id="fig-{name}"><img><figcaption>{caption}</figcaption></figure>'


def test_figures_are_numbered_by_chapter_and_linked(tmp_path):
    first = {
        "a04_x": 'see <a\nhref="04_y.html#fig-b"></a>' + _figure("alone"),  # a line may end there
        "b04_z": _figure("none"),
    }
    links = '<a href="#fig-b"></a><a href="04_y.html#fig-a"></a><a href="#section"></a>'
    _pages_of_figures(tmp_path, **first)
    (tmp_path / "04_y.html").write_text(_figure("a") + '<figure class="softeels"></figure>' + _figure("b") + links)
    for _ in range(2):  # a page that Sphinx did not write again is numbered already
        book.number_figures(tmp_path)
        text = (tmp_path / "04_y.html").read_text()
        assert re.findall("<figcaption>(.*?)</figcaption>", text) == [
            f'<span class="caption-number">Figure 4.{number}.</span> x' for number in (1, 2)
        ]
        assert re.findall(r'href="(.*?)">(.*?)</a>', text) == [
            ("#fig-b", "Figure 4.2"), ("04_y.html#fig-a", "Figure 4.1"), ("#section", "")
        ]  # fmt: skip
        text = (tmp_path / "a04_x.html").read_text()
        assert ">Figure 4.2</a>" in text and ">Figure 1.</span>" in text
    (tmp_path / "04_y.html").write_text(_figure("b") + links.replace("fig-a", "fig-b"))
    book.number_figures(tmp_path)
    assert ">Figure 4.1</a>" in (tmp_path / "a04_x.html").read_text()


def test_links_to_edit_a_page_lead_to_files_that_people_write(tmp_path):
    address = "https://github.com/someone/softeels/edit/main"
    leads = {
        "notebooks/01_dose_analysis.ipynb": "notebooks/01_dose_analysis.py",
        "book/contributing.md": "CONTRIBUTING.md",
        "book/api_fitting.md": "softeels_utils/fitting/__init__.py",
        "book/api_claims.md": "softeels_utils/claims.py",
        "book/systems.md": "book/systems.md",
    }
    (tmp_path / "deep").mkdir()
    page = tmp_path / "deep" / "x.html"
    page.write_text("".join(f'<a href="{address}/{path}">' for path in leads))
    for _ in range(2):
        book.link_to_what_is_written(tmp_path)
        assert re.findall('edit/main/(.*?)"', page.read_text()) == list(leads.values())
    assert all((ROOT / path).is_file() for path in leads.values())


def test_a_link_to_a_figure_that_is_not_there_is_an_error(tmp_path):
    (tmp_path / "01_x.html").write_text('<a href="02_y.html#fig-a"></a>' + _figure("a"))
    with pytest.raises(chapters.BookError, match=r"01_x.html: a link to 02_y.html#fig-a, which is not there"):
        book.number_figures(tmp_path)
    book.number_figures(tmp_path, whole=False)  # one chapter alone
    assert ">chapter 2</a>" in (tmp_path / "01_x.html").read_text()
    (tmp_path / "01_x.html").write_text('<a href="03_m23_fitting.html#fig-windows"></a>' + _figure("a"))
    book.number_figures(tmp_path)  # without the measured data, chapter 3 does not show this figure
    assert ">chapter 3</a>" in (tmp_path / "01_x.html").read_text()
    (tmp_path / "03_m23_fitting.html").write_text('(<a href="#fig-windows"></a>)' + _figure("a"))
    book.number_figures(tmp_path)  # nor does a link on its own page lead anywhere
    assert (tmp_path / "03_m23_fitting.html").read_text().startswith("(figure left out)")
    (tmp_path / "01_x.html").write_text(2 * _figure("a"))
    with pytest.raises(chapters.BookError, match=r"01_x.html: figures with one name, fig-a"):
        book.number_figures(tmp_path)


def _executed(folder, *cells):
    """An executed chapter with code cells of (tags, data of their output)."""
    folder.mkdir(parents=True)
    cells = [
        {"cell_type": "code", "metadata": {"tags": tags}, "outputs": [{"output_type": "display_data", "data": shown}]}
        for tags, shown in cells
    ]
    (folder / "01_a.ipynb").write_text(json.dumps({"cells": cells}))
    return folder / "01_a.ipynb"


def test_first_page_takes_its_picture_and_its_view_from_chapters(project):
    frame = "<iframe srcdoc='x\n\ny'></iframe>"
    figure = f"<figure>{frame}<figcaption>not here</figcaption></figure>"
    cells = [(["landing"], {"image/png": "AAAA"}), (["landing-view"], {"text/html": figure})]
    notebook = _executed(project / "_build" / "executed", *cells)
    (project / "notebooks" / "02_b.py").unlink()
    assert book.landing_figure() == b"\x00\x00\x00"
    assert book.landing_view() == f"```{{raw}} html\n{frame}\n```"
    notebook.write_text('{"cells": []}')
    assert book.landing_view() == ""
    with pytest.raises(chapters.BookError, match="tagged 'landing'"):
        book.landing_figure()


def test_an_image_that_is_in_the_html_goes_into_the_page_once(tmp_path):
    both = {"image/png": "AAAA", "text/html": "<img src='data:AAAA'>"}
    cells = [(["injected-parameters"], {"image/png": "AAAA"}), ([], both)]
    first, second = json.loads(book.staged(_executed(tmp_path / "executed", *cells)))["cells"]
    assert first["outputs"][0]["data"] == {"image/png": "AAAA"} and "hide-input" in first["metadata"]["tags"]
    assert list(second["outputs"][0]["data"]) == ["text/html"]


def test_folded_solutions_say_which_they_are(tmp_path):
    cells = [([], {"text/plain": "1"}), *(2 * [(["hide-cell", "solution"], {"text/plain": "2"})])]
    first, *solutions = json.loads(book.staged(_executed(tmp_path / "executed", *cells)))["cells"]
    shown = [cell["metadata"]["mystnb"]["code_prompt_show"] for cell in solutions]
    assert "mystnb" not in first["metadata"] and shown == ["Show solution 1", "Show solution 2"]


def test_slow_cells_say_how_long_they_ran(tmp_path):
    path = _executed(tmp_path / "executed", ([], {"text/plain": "1"}), ([], {"text/plain": "2"}))
    notebook = json.loads(path.read_text())
    for cell, seconds in zip(notebook["cells"], (0.4, 123.4), strict=True):
        cell["metadata"]["papermill"] = {"duration": seconds}
    path.write_text(json.dumps(notebook))
    quick, slow = json.loads(book.staged(path))["cells"]
    assert len(quick["outputs"]) == 1
    assert slow["outputs"][1]["data"]["text/html"] == '<p class="cell-time">This cell ran for 123 s.</p>'


def test_words_are_found_without_their_accents(tmp_path):
    path = tmp_path / "searchindex.js"
    index = {"terms": {"cram\u00e9r": [0, 3], "cramer": 2, "rao": 0}, "titleterms": {"\u00e5ngstr\u00f6m": 1}}
    path.write_text(f"Search.setIndex({json.dumps(index)})")
    for _ in range(2):
        book.search_without_accents(path)
        found = json.loads(path.read_text().removeprefix("Search.setIndex(").removesuffix(")"))
        assert found["terms"] == index["terms"] | {"cramer": [0, 2, 3]}
        assert found["titleterms"] == {"\u00e5ngstr\u00f6m": 1, "angstrom": [1]}


def test_status_has_a_row_and_a_link_for_each_record():
    text = book.status_page()
    links = re.findall(r"\| \{download\}`(\w+) <records/(\w+)\.json>`", text)
    assert {name for name, _ in links} == {path.stem for path in records.BENCHMARKS.glob("*.json")}
    assert all(name == file for name, file in links) and len(text.splitlines()) < 120
    assert f"first seed {records.benchmark('features_skins')['first seed']}" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| {download}") and ".json>" in line]
    assert all(about for _, about, *_ in rows)


# ---------------------------------------------------------------- the rendered book


@pytest.fixture(scope="session")
def html():
    """The book itself, at the quick preset; chapters whose stamp holds are not run again."""
    return book.build("quick", report=lambda line: None).parent


def _pages(folder):
    return sorted(path for path in folder.rglob("*.html") if "_static" not in path.parts)


def test_no_page_refers_to_a_cdn(html):
    loads = re.compile(
        r"""(?:<(?:script|img|iframe|source)[^>]+src=|<link[^>]+href=|@import\s+|url\()["']?(?:https?:)?//"""
    )
    cdn = re.compile(r"cdnjs|jsdelivr|unpkg|googleapis|cloudflare|cdn\.plot\.ly")
    for page in _pages(html):
        text = page.read_text(encoding="utf-8")
        assert not loads.search(text), f"{page.name} loads something from the network"
        assert not cdn.search(text), f"{page.name} names a CDN"


def test_chapters_have_figures_and_no_errors(html):
    for chapter in chapters.names():
        text = (html / "notebooks" / f"{chapter}.html").read_text(encoding="utf-8")
        assert text.count("<img") >= 2 and "Traceback (most recent call last)" not in text


# In MB; scripts, styles and fonts that pages share count for the book only.
LANDING, PAGE, BOOK = 1.5, 6.0, 30.0


def test_pages_and_book_are_light(html):
    def weight(page):
        images = re.findall(r'<img[^>]*src="(?!data:)([^"]+)"', page.read_text(encoding="utf-8"))
        files = {page, *((page.parent / image).resolve() for image in images)}
        return sum(path.stat().st_size for path in files) / 1e6

    weights = {page.relative_to(html).as_posix(): weight(page) for page in _pages(html)}
    assert weights["book/intro.html"] <= LANDING
    assert {name: size for name, size in weights.items() if size > PAGE} == {}
    assert sum(path.stat().st_size for path in html.rglob("*") if path.is_file()) / 1e6 <= BOOK


@pytest.fixture(scope="session")
def browser():
    from selenium import webdriver

    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (binary and driver):
        if os.environ.get("CI"):
            pytest.fail("continuous integration needs chromium and chromedriver")
        pytest.skip("no chromium and chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1280,1600",
        "--enable-unsafe-swiftshader",  # WebGL without a GPU
        "--host-resolver-rules=MAP * ~NOTFOUND",  # the network is off
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    opened.set_page_load_timeout(120)
    opened.set_script_timeout(120)
    yield opened
    opened.quit()


def _open(browser, page):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(page.as_uri())
    wait = WebDriverWait(browser, 60)
    wait.until(lambda page: page.execute_script("return document.readyState") == "complete")
    return wait


def _errors(browser):
    """Errors on the console, less one of the theme's: Chromium loads no font by preload from disk (icons are drawn)."""
    messages = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    return [message for message in messages if "_static/vendor/fontawesome/" not in message]


@pytest.fixture(scope="session")
def axe():
    """The script of axe-core, from the package that carries it."""
    place = metadata.distribution("axe-playwright-python").locate_file("axe_playwright_python/axe.min.js")
    return Path(place).read_text(encoding="utf-8")


def _axe(browser, rules=None, without=()):
    """Serious and critical faults that axe-core finds, of some rules or of all but some.

    It does not look at the colours of each word of code, symbol of an equation and label of a plotly figure: they are
    thousands, and of a few styles.
    """
    options = {
        "resultTypes": ["violations"],
        "iframes": False,
        "preload": False,
        "rules": {rule: {"enabled": False} for rule in without},
    }
    if rules:
        options["runOnly"] = rules
    script = """
        const [options, done] = arguments;
        const context = {exclude: [['.highlight pre'], ['mjx-container'], ['.js-plotly-plot svg']]};
        axe.run(context, options).then(found => done(found.violations
            .filter(fault => ['serious', 'critical'].includes(fault.impact))
            .map(fault => `${fault.id}: ${fault.nodes.map(node => node.target.join(' ')).slice(0, 3).join(' | ')}`)));
    """
    return browser.execute_async_script(script, options)


# Run in a page; each returns a list of faults.
LOOKS = {
    "loaded from the network": """
        return performance.getEntriesByType('resource').map(e => e.name).filter(name => name.startsWith('http'));
    """,
    "equations not typeset": """
        const math = [...document.querySelectorAll('.bd-article .math')];
        return [...math.filter(e => !e.querySelector('mjx-container')), ...document.querySelectorAll('mjx-merror')]
            .map(e => e.textContent.slice(0, 40));
    """,
    "images missing or without a text": """
        return [...document.querySelectorAll('.bd-article img:not([src*="_static/"])')]
            .filter(i => !i.complete || i.naturalWidth < 50 || i.clientWidth < 50 || !i.alt.trim())
            .map(i => i.alt + ' ' + i.src.slice(-40));
    """,
    "code wider than its box": """
        return [...document.querySelectorAll('.bd-article div.cell_input pre')]
            .filter(box => box.scrollWidth > box.clientWidth).map(box => box.textContent.slice(0, 60));
    """,
    "headings out of order": """
        const levels = [...document.querySelectorAll('.bd-article :is(h1, h2, h3, h4, h5, h6)')]
            .map(e => [+e.tagName[1], e.textContent]);
        return levels.filter(([level], i) => i ? level > levels[i - 1][0] + 1 || level == 1 : level != 1)
            .map(([level, text]) => text);
    """,
    "does not fit sideways": """
        const root = document.documentElement;
        return root.scrollWidth > root.clientWidth + 1 ? [`${root.scrollWidth} > ${root.clientWidth}`] : [];
    """,
}
WIDE_TABLES = """
    return [...document.querySelectorAll('.bd-article .pst-scrollable-table-container, .softeels-planner > div')]
        .filter(box => box.querySelector('table') && box.scrollWidth > box.clientWidth + 1)
        .map(box => box.textContent.trim().slice(0, 60));
"""
READY = """
    const math = document.querySelectorAll('.bd-article .math').length;
    return (!math || document.querySelectorAll('mjx-container').length > 0) &&
        [...document.querySelectorAll('.bd-article img')].every(image => image.complete);
"""


def _faults(browser, axe, page):
    """Everything that is wrong with a page at 1300 pixels, in the dark, and at 420 pixels."""
    _at_width(browser, 1300)
    wait = _open(browser, page)
    wait.until(lambda page: page.execute_script(READY))
    browser.execute_script("""
        document.head.append(Object.assign(document.createElement('style'),
            {textContent: '* {transition: none !important; animation: none !important}'}));
        document.querySelectorAll('details').forEach(part => { part.open = true; });
    """)
    browser.execute_script(axe)
    found = {what: browser.execute_script(script) for what, script in LOOKS.items()}
    found["tables wider than the page"] = browser.execute_script(WIDE_TABLES)
    found["axe"] = _axe(browser)
    browser.execute_script("document.documentElement.dataset.theme = document.documentElement.dataset.mode = 'dark'")
    found["axe, dark"] = _axe(browser, rules=["color-contrast"])
    _at_width(browser, 420)
    browser.execute_script("return new Promise(done => setTimeout(done, 200))")
    what = "does not fit sideways"
    found[f"{what}, phone"] = browser.execute_script(LOOKS[what])
    found["tables wider than the page, phone"] = browser.execute_script(WIDE_TABLES)
    found["axe, phone"] = _axe(browser, without=["color-contrast"])
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    found["console"] = _errors(browser)
    return {what: faults for what, faults in found.items() if faults}


@pytest.mark.parametrize("chapter", chapters.names())
def test_chapters_have_no_fault_in_the_browser(html, browser, axe, chapter):
    assert _faults(browser, axe, html / "notebooks" / f"{chapter}.html") == {}


def test_pages_have_no_fault_in_the_browser(html, browser, axe):
    """All but the chapters; one page of the reference stands for the others, which the same code makes."""
    pages = [page for page in _pages(html) if page.parent.name != "notebooks" and page.name != "index.html"]
    reference = [page for page in pages if page.name.startswith("api_") and page.name != "api_fitting.html"]
    pages = [page for page in pages if page not in reference and page.name != "search.html"]
    assert {page.name: faults for page in pages if (faults := _faults(browser, axe, page))} == {}
    for page in reference:
        _open(browser, page)
        assert not _errors(browser), page.name


def test_search_finds_words_without_their_accents(html, browser):
    browser.get((html / "search.html").as_uri() + "?q=Cramer-Rao")
    found = "return [...document.querySelectorAll('#search-results li a')].map(link => link.textContent)"
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30).until(lambda page: "Glossary" in page.execute_script(found))
    assert not _errors(browser)


def test_dose_calculator_reacts(html, browser):
    """Chapter 1: choosing another condition changes the curves and the sentence of the calculator."""
    from selenium.webdriver.support.ui import Select

    wait = _open(browser, html / "notebooks" / "01_dose_analysis.html")
    state = """
        const cell = document.querySelector('.cell_output select').closest('.cell_output');
        const figure = cell.querySelector('.js-plotly-plot');
        return figure && JSON.stringify([cell.innerText, figure.data]);
    """
    wait.until(lambda page: page.find_elements("css selector", ".cell_output select"))
    before = wait.until(lambda page: page.execute_script(state))
    chosen = Select(browser.find_element("css selector", ".cell_output select"))
    others = [i for i, option in enumerate(chosen.options) if not option.is_selected()]
    chosen.select_by_index(others[0])
    wait.until(lambda page: page.execute_script(state) != before)
    assert not _errors(browser)


def test_planner_reacts(html, browser):
    """Every control of the planner, by the keyboard, changes its table, its sentence and its figure."""
    from selenium.webdriver.common.keys import Keys

    wait = _open(browser, html / "book" / "planning.html")
    state = """
        const box = document.querySelector('.softeels-planner'), plot = box.querySelector('.js-plotly-plot');
        const cells = [...box.querySelectorAll('td > [data-planner]')].map(cell => cell.textContent);
        const sentence = box.querySelector('[role=status]').textContent;
        const drawn = JSON.stringify([plot.data.map(trace => [...trace.y]), plot.layout.shapes]);
        return sentence && [cells.join(), sentence, drawn];
    """
    wait.until(lambda page: page.execute_script("return document.querySelector('.softeels-planner .main-svg') != null"))
    before = wait.until(lambda page: page.execute_script(state))
    assert all(before[0].split(","))  # no cell is empty
    for control in browser.find_elements("css selector", ".softeels-planner input, .softeels-planner select"):
        slider = control.tag_name == "input"
        control.send_keys(Keys.ARROW_RIGHT if slider else Keys.ARROW_DOWN)
        after = browser.execute_script(state)
        changed = [new != old for new, old in zip(after, before, strict=True)]
        name = control.get_attribute("name")
        assert changed[0] and (changed[2] or name == "voxel_size_nm"), name  # at the start no voxel limits a feature
        if slider:
            assert control.get_attribute("aria-valuetext")
        before = after
    assert not _errors(browser)


def _press(browser, element, *keys):
    """Press keys on an element, reached as a keyboard reaches it."""
    from selenium.webdriver.common.action_chains import ActionChains

    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    browser.execute_script("arguments[0].focus()", element)
    ActionChains(browser).send_keys(*keys).perform()


def test_every_control_of_every_chapter_changes_its_figure(html, browser):
    """Sliders by the keyboard, and buttons; each has a name."""
    from selenium.webdriver.common.keys import Keys

    state = """
        const box = arguments[0].closest('.cell_output'), figure = box.querySelector('.js-plotly-plot');
        return figure.calcdata ? JSON.stringify([figure.data.map(c => c.visible), figure.layout,
            figure.calcdata.map(c => c[0].z || c.map(p => p.y))]) : '';
    """
    seen = 0
    for chapter in chapters.names():
        wait = _open(browser, html / "notebooks" / f"{chapter}.html")
        controls = ".cell_output input[type=range], .cell_output button[aria-pressed=false]"
        for control in browser.find_elements("css selector", controls):
            named = "return arguments[0].labels[0]?.textContent || arguments[0].textContent"
            assert browser.execute_script(named, control).strip(), chapter
            before = wait.until(lambda page, control=control: page.execute_script(state, control))
            slider = control.get_attribute("type") == "range"
            _press(browser, control, Keys.ARROW_LEFT if slider else Keys.ENTER)
            wait.until(lambda page, b=before, control=control: page.execute_script(state, control) != b)
            seen += 1
        assert not _errors(browser), chapter
    assert seen >= 3


def test_slices_are_browsed_without_a_kernel(browser, tmp_path):
    """The figure opens at the middle slice of the first volume; slider and buttons show the others."""
    from selenium.webdriver.common.keys import Keys

    volume = np.zeros((2, 10, 6, 6))
    volume[:] = np.linspace(0, 0.9, 10)[:, None, None]
    figure = plotting.slices_figure({"rising": volume, "full": np.ones_like(volume)})
    (tmp_path / "page.html").write_text(plotting.figure_html(figure))
    wait = _open(browser, tmp_path / "page.html")
    shown = """
        const drawn = document.querySelector('.js-plotly-plot').calcdata.filter(trace => trace[0].trace.visible);
        return drawn.map(trace => trace[0].z[3][3]);
    """
    (slider,) = wait.until(lambda page: page.find_elements("css selector", "input[type=range]"))
    assert browser.execute_script(shown) == [50, 50]
    assert "slice along Y" in browser.execute_script("return arguments[0].labels[0].textContent", slider)
    _press(browser, slider, Keys.END)
    wait.until(lambda page: page.execute_script(shown) == [90, 90])
    full = browser.find_elements("css selector", "button[aria-pressed=false]")
    full[0].click()
    wait.until(lambda page: page.execute_script(shown) == [100, 100])
    assert full[0].get_attribute("aria-pressed") == "true"
    assert not _errors(browser)


def _at_width(browser, width):
    size = {"width": width, "height": 1600, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.fixture
def phone(browser):
    """The browser, 420 pixels wide while a test runs."""
    _at_width(browser, 420)
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_panels_of_slices_stand_one_below_the_other_on_a_phone(phone, tmp_path):
    figure = plotting.slices_figure({"a": np.zeros((2, 4, 6, 6))})
    (tmp_path / "page.html").write_text(plotting.figure_html(figure))
    wait = _open(phone, tmp_path / "page.html")
    left = "return [...document.querySelectorAll('.heatmaplayer image')]"
    left += ".map(panel => [panel.getBoundingClientRect().x, panel.getBoundingClientRect().width])"
    wait.until(lambda page: len({round(x) for x, _ in page.execute_script(left)}) == 1)
    assert all(width > 150 for _, width in phone.execute_script(left))
    _at_width(phone, 900)
    wait.until(lambda page: len({round(x) for x, _ in page.execute_script(left)}) == 2)


def test_a_pixel_shows_its_spectrum_without_a_kernel(browser, tmp_path):
    """A click and the arrow keys; what the page shows is what the arrays hold."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    energy, rng = np.linspace(40.0, 80.0, 30), np.random.default_rng(0)
    fits = np.linspace(90, 40, 30) * (1 + np.arange(12).reshape(3, 4, 1))
    spectra = rng.poisson(fits).astype(float)
    spectra[1, 1] = np.nan
    image = fits[..., 0]
    figure = plotting.pixel_explorer(image, energy, spectra, fits, bands=fits**0.5, values={"FeO": (image, image / 7)})
    (tmp_path / "page.html").write_text(plotting.figure_html(figure))
    wait = _open(browser, tmp_path / "page.html")
    said = "return document.querySelector('p[aria-live]').textContent"
    (plot,) = wait.until(lambda page: page.find_elements("css selector", ".js-plotly-plot[tabindex='0']"))
    assert browser.execute_script(said) == "Row 2, column 3: FeO 1080 ± 150 nm"
    _press(browser, plot, Keys.ARROW_UP, Keys.ARROW_LEFT)
    wait.until(lambda page: page.execute_script(said).startswith("Row 1, column 2"))
    curves = browser.execute_script("return arguments[0].data.map(trace => [...(trace.y || [])])", plot)
    np.testing.assert_allclose(curves[4], fits[1, 2], atol=0.001 * fits[1, 2].max())
    np.testing.assert_allclose(curves[3], spectra[1, 2], atol=0.01 * np.abs(spectra - fits)[1, 2].max() + 0.7)
    np.testing.assert_allclose(curves[5][:30], fits[1, 2] ** 0.5, atol=0.02 * fits[1, 2].max() ** 0.5 + 0.3)
    _press(browser, plot, Keys.ARROW_LEFT)
    wait.until(lambda page: page.execute_script(said) == "Row 1, column 1: not measured")
    x, y = browser.execute_script("""
        const box = document.querySelector('.hm image, .heatmaplayer image').getBoundingClientRect();
        return [box.x + box.width / 8, box.y + box.height / 6];
    """)
    pointer = ActionChains(browser)
    pointer.w3c_actions.pointer_action.move_to_location(int(x), int(y))
    pointer.w3c_actions.pointer_action.click()
    pointer.perform()
    wait.until(lambda page: page.execute_script(said).startswith("Row 0, column 0: FeO 90 ± 13 nm"))
    assert not _errors(browser)


def test_views_in_three_dimensions_are_drawn(html, browser):
    """Each can be turned, and fills its frame; where it has several volumes, a button shows another."""
    wait = _open(browser, html / "notebooks" / "05_dipm_tv_nanocubes.html")
    frames = browser.find_elements("css selector", "iframe[srcdoc]")
    assert frames
    for frame in frames:
        browser.execute_script("arguments[0].scrollIntoView()", frame)
        browser.switch_to.frame(frame)
        wait.until(lambda page: page.execute_script("return document.querySelectorAll('canvas').length > 0"))
        parts = "[body.visible, body.showscale, body.color, !!body.intensity, body.facecolor?.length]"
        state = f"return JSON.stringify(document.querySelector('.js-plotly-plot').data.map(body => {parts}))"
        before = browser.execute_script(state)
        buttons = browser.find_elements("css selector", "button[aria-pressed=false]")
        if buttons:
            browser.execute_script("arguments[0].click()", buttons[0])
            wait.until(lambda page, b=before, state=state: page.execute_script(state) != b)
        room = """
            const bottom = document.querySelector('.js-plotly-plot').parentElement.getBoundingClientRect().bottom;
            return innerHeight - bottom;
        """
        wait.until(lambda page, room=room: 0 <= page.execute_script(room) <= 20)
        browser.switch_to.default_content()


def test_a_turning_view_stops_when_asked(browser, cube_view):
    """It turns while it is on the screen, and not for readers who want less motion."""
    eye = "return document.querySelector('.js-plotly-plot')._fullLayout.scene._scene?.getCamera().eye.x"
    wait = _open(browser, cube_view)
    before = wait.until(lambda page: page.execute_script(eye))
    wait.until(lambda page: abs(page.execute_script(eye) - before) > 0.01)
    own = "[...document.querySelectorAll('button')].find(b => b.textContent == 'stop turning')"
    browser.execute_script(f"{own}?.click()")  # a slow machine has stopped by itself, and has no such button any more
    pause = "return new Promise(done => setTimeout(done, 500))"

    def stands(page):  # once what was being drawn when it was asked has been drawn
        seen = page.execute_script(eye)
        page.execute_script(pause)
        return page.execute_script(eye) == pytest.approx(seen, abs=1e-9)

    wait.until(stands)
    reduced = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", reduced)
    _open(browser, cube_view)
    before = wait.until(lambda page: page.execute_script(eye))
    browser.execute_script("return new Promise(done => setTimeout(done, 500))")
    assert browser.execute_script(eye) == pytest.approx(before, abs=1e-9)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_view_turns_by_the_arrow_keys_and_hides_a_phase(browser, cube_view):
    from selenium.webdriver.common.keys import Keys

    plot = "document.querySelector('.js-plotly-plot')"
    eye = f"return (({{x, y, z}}) => [x, y, z])({plot}._fullLayout.scene._scene.getCamera().eye)"
    shown = f"return [...new Set({plot}.data.filter(body => body.visible === true).map(body => body.name))]"
    wait = _open(browser, cube_view)
    wait.until(lambda page: page.execute_script(f"return {plot}?._fullLayout?.scene?._scene != null"))
    view = browser.find_element("css selector", ".js-plotly-plot")
    assert "arrow keys" in view.get_attribute("aria-label")
    _press(browser, view, Keys.ARROW_UP)  # a key stops a view that turns by itself
    for key in (Keys.ARROW_LEFT, Keys.ARROW_UP, "+"):
        before = browser.execute_script(eye)
        _press(browser, view, key)
        wait.until(lambda page, b=before: np.abs(np.subtract(page.execute_script(eye), b)).max() > 0.01)
    assert np.linalg.norm(browser.execute_script(eye)) == pytest.approx(0.9 * np.linalg.norm(before), rel=0.02)
    assert len(browser.execute_script(shown)) == 2
    button = browser.find_element("xpath", "//button[text()='Fe₃O₄']")
    _press(browser, button, Keys.ENTER)
    wait.until(lambda page: page.execute_script(shown) == ["FeO"])
    assert button.get_attribute("aria-pressed") == "false"
    _press(browser, button, Keys.ENTER)
    wait.until(lambda page: len(page.execute_script(shown)) == 2)
    assert not _errors(browser)


@pytest.fixture
def cube_view(tmp_path):
    volume = np.zeros((2, 12, 12, 12))
    volume[1, 3:9, 3:9, 3:9] = 1
    volume[:, 5:7, 5:7, 5:7] = np.reshape([1, 0], (2, 1, 1, 1))
    scripts = (Path(plotting.__file__).with_name(f"{name}.js") for name in ("turning", "keys"))
    script = "\n".join(path.read_text(encoding="utf-8") for path in scripts)
    page = tmp_path / "page.html"
    figure = plotting.surfaces_figure(volume, height=150).update_layout(width=150)
    page.write_text(plotting.figure_html(figure, post_script=script))
    return page


@pytest.mark.parametrize("chapter", chapters.names())
def test_slides_fit_on_a_screen_without_scrolling(html, browser, tmp_path, chapter):
    """At 1280 × 720, 3-D views and their controls included."""
    size = {"width": 1280, "height": 720, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wait = _open(browser, slides.make_slides(chapter, tmp_path / "slides.html"))
    room = "const box = document.querySelector('section.on'); return [box.scrollHeight, box.clientHeight]"
    inside = """
        const parts = [...document.querySelector('.js-plotly-plot').parentElement.children];
        return [Math.max(...parts.map(part => part.getBoundingClientRect().bottom)), innerHeight];
    """
    faults = {}
    for number in range(1, browser.execute_script("return document.querySelectorAll('section').length") + 1):
        browser.execute_script(f"go({number} - 1)")
        needed, there = browser.execute_script(room)
        if needed > there + 1:
            faults[number] = f"{needed} > {there}"
        for frame in browser.find_elements("css selector", "section.on iframe"):
            browser.switch_to.frame(frame)
            drawn = "return document.querySelectorAll('canvas').length > 0"
            wait.until(lambda page, drawn=drawn: page.execute_script(drawn))
            try:
                wait.until(lambda page: page.execute_script(inside)[0] <= page.execute_script(inside)[1] + 1)
            except Exception:
                faults[number] = f"frame: {browser.execute_script(inside)}"
            browser.switch_to.default_content()
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert faults == {} and not _errors(browser)


def test_a_chapter_prints_without_the_site_around_it(html, browser):
    """Solutions are opened, and not blank for an animation; menus, side bars and the code of figures are left out."""
    _open(browser, html / "notebooks" / f"{chapters.names()[1]}.html")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    seen = browser.execute_script("""
        const shown = selector => [...document.querySelectorAll(selector)].filter(e => e.clientWidth > 0).length;
        const moves = [...document.querySelectorAll('.tag_solution details > *')]
            .filter(part => getComputedStyle(part).animationName != 'none' || getComputedStyle(part).opacity != '1');
        return {around: shown('.bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .prev-next-footer'),
            text: shown('.bd-article h1'), folded: shown('.bd-article details:not([open])'),
            figures: shown('.tag_hide-input details pre'), solutions: shown('.tag_solution details pre') > 0,
            moves: moves.length};
    """)
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert seen == {"around": 0, "text": 1, "folded": 0, "figures": 0, "solutions": True, "moves": 0}
    assert browser.execute_script("return document.querySelectorAll('.bd-article details[open]').length") == 0
