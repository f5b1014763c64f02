"""The pages that are no chapters: links, quoted messages and names are real; the primer's figures; settings; slides."""

import ast
import importlib
import json
import re
from dataclasses import fields
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml

from softeels_utils import chapters, pages, pipeline, planner, records, reference, slides, source
from softeels_utils.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
PAGES = sorted(BOOK.glob("*.md"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in PAGES}
PROSE = TEXTS | {"README.md": (ROOT / "README.md").read_text(encoding="utf-8")}


def listed(toc):
    """All files of a table of contents, in order."""
    for key, value in toc.items() if isinstance(toc, dict) else ():
        if key in ("root", "file"):
            yield value
        elif isinstance(value, list):
            for entry in value:
                yield from listed(entry)


TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
DOCUMENTS = list(listed(TOC))


# ---------------------------------------------------------------- links and names in the sources


def test_every_page_is_in_the_table_of_contents_and_there():
    generated = {f"book/{name.removesuffix('.md')}" for name in reference.pages()}
    written = {f"book/{path.stem}" for path in PAGES} | {f"notebooks/{name}" for name in chapters.names()}
    assert len(DOCUMENTS) == len(set(DOCUMENTS)) and set(DOCUMENTS) == written | generated
    (numbered,) = [part for part in TOC["parts"] if part.get("numbered")]
    assert [entry["file"] for entry in numbered["chapters"]] == [f"notebooks/{name}" for name in chapters.names()]


def targets(text, role):
    """What a role of MyST refers to: ``{doc}`text <target>` `` or ``{doc}`target` ``."""
    for found in re.findall(rf"(?s)\{{{role}\}}`([^`]*)`", text):
        inner = re.search(r"<([^>]*)>\s*$", found)
        yield " ".join((inner[1] if inner else found).split())


@pytest.mark.parametrize("name", TEXTS)
def test_links_of_a_page_lead_somewhere(name):
    text = TEXTS[name]
    for target in targets(text, "doc"):
        assert str((BOOK / target).resolve().relative_to(ROOT)) in DOCUMENTS, f"{{doc}}`{target}`"
    prose = re.sub(r"(?ms)^```.*?^```", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not urlsplit(target).scheme:
            document = str((BOOK / target.split("#")[0]).resolve().relative_to(ROOT)).removesuffix(".md")
            assert document in DOCUMENTS or (BOOK / target).is_file(), target
    terms = {line.lower() for line in re.findall(r"(?m)^(\w[^\n]*)\n  \S", TEXTS["glossary.md"])}
    assert {target.lower() for target in targets(text, "term")} <= terms
    labels = re.findall(r"(?m)^\$\$ \(([\w-]+)\)|^ +\$\$ \(([\w-]+)\)", "\n".join(TEXTS.values()))
    assert set(targets(text, "eq")) <= {label for pair in labels for label in pair}
    known = set(re.findall(r"@\w+\{(\w+),", (BOOK / "references.bib").read_text(encoding="utf-8")))
    assert {key.strip() for found in targets(text, "cite") for key in found.split(",")} <= known


@cache
def parameters():
    """Whatever ``-p`` may set, of a reconstruction or of a chapter."""
    of_chapters = {name for chapter in chapters.names() for name in chapters.parameters_of(chapter)}
    return of_chapters | {field.name for field in fields(pipeline.Settings)}


@pytest.mark.parametrize("name", PROSE)
def test_names_of_the_package_exist(name):
    """``fitting.fit_phases`` in running text, in code too; commands and parameters on the command line."""
    pattern = rf"(?<![\w./-])({'|'.join(reference.PACKAGES)})\.(?!md\b|npz\b|yml\b|py\b)([a-zA-Z_]\w*)"
    for package, member in set(re.findall(pattern, PROSE[name])):
        module = importlib.import_module(f"softeels_utils.{package}")
        assert hasattr(module, member), f"{package}.{member}"
    assert set(re.findall(r"-p ([a-z]\w+)", PROSE[name])) <= parameters()


def test_commands_exist(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    known = set(re.search(r"\{([\w,]+)\}", capsys.readouterr().out)[1].split(","))
    for name, text in PROSE.items():
        assert set(re.findall(r"python3? -m softeels_utils (\w+)", text)) <= known, name


def test_the_landing_page_has_no_number_of_its_own():
    """What the methods reach stands where it is computed: in the chapters, and in what is generated here."""
    text = re.sub(r"\{\w+\}`[^`]*`|\[[^\]]*\]\([^)]*\)|:width: 100%", "", TEXTS["intro.md"])
    assert not re.findall(r"\d+(?:\.\d+)?\s*(?:times|%|per cent|nm\b)", text)
    assert "<!-- generated: three claims -->" in TEXTS["intro.md"]


def test_the_book_uses_plain_words():
    """Words that were mended once."""
    odd = r"cone of angles|\bdo alike\b|better of it|settles? on\b"
    assert not {name: found for name, text in PROSE.items() if (found := re.findall(odd, text))}


# ---------------------------------------------------------------- messages that troubleshooting quotes


def messages():
    """All texts in the code that have a blank; what is computed in them is an ellipsis."""
    notebooks = [ROOT / "notebooks" / f"{chapter}.py" for chapter in chapters.names()]
    for path in [*source.PACKAGE.rglob("*.py"), *notebooks]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield node.value


def test_quoted_messages_exist():
    known = [" ".join(message.split()) for message in messages()]
    quoted = re.findall(r"(?m)^`([^`]+)`\n: ", TEXTS["troubleshooting.md"])
    assert len(quoted) > 20
    for text in quoted:
        pattern = re.compile(".*".join(re.escape(part) for part in text.split("…")))
        assert any(pattern.search(message) for message in known), text


def test_flags_of_troubleshooting_are_those_of_the_fit():
    from softeels_utils.fitting import FitFlag

    rows = re.findall(r"(?m)^\| `([A-Z_]+)` \|", TEXTS["troubleshooting.md"])
    assert rows == [flag.name for flag in FitFlag if flag]


# ---------------------------------------------------------------- what is generated


@pytest.fixture(scope="module")
def generated():
    return pages.placeholders()


def test_marks_stand_on_a_page_and_are_filled(generated):
    for mark, text in generated.items():
        assert sum(mark in page for page in TEXTS.values()) == 1 and text, mark
    names = [found for text in generated.values() for found in re.findall(r'id="fig-([\w-]+)"', text)]
    assert len(names) == len(set(names)) == 9
    for text in generated.values():
        for figure in re.findall(r"(?s)<figure.*?</figure>", text):
            assert re.search(r'alt="[^"]{20,}"', figure) and re.search(r"<figcaption>.{40,}</figcaption>", figure)


def test_damage_has_a_source_for_each_number(generated):
    bibliography = (BOOK / "references.bib").read_text(encoding="utf-8")
    for name, low, high, beyond, key in pages.DAMAGE:
        assert 0 < low <= high and beyond and f"{{{key}," in bibliography, name
        assert f"{{cite}}`{key}`" in generated["<!-- generated: primer damage table -->"]


def test_lowest_limit_is_told_as_the_text_tells_it(generated):
    """Of the layered oxides one changed below the lowest fluence; how far below is not known."""
    name, low, high, *_ = pages.DAMAGE[0]
    assert f"| {name} | < {low:,.0f} to {high:,.0f} |" in generated["<!-- generated: primer damage table -->"]
    assert generated["<!-- generated: primer damage table -->"].count("| < ") == 1
    assert f"below {low:.0f} e/Å²" in " ".join(TEXTS["primer_dose.md"].split())


def standards_case(angle=1.0, volume=(1.0, 1.0), error=(0.2, 0.1), left_out=(), warnings=()):
    about = {"left_out": dict.fromkeys(left_out), "warnings": list(warnings)}
    return about | {"angle_deg": [angle, angle / 2], "volume": volume, "volume_error": error}


def standards_benchmark(skin, bare, iron):
    manganese = {"default": [standards_case(**case) for case in skin], "no skin": [standards_case(**c) for c in bare]}
    about = {"fluence_e_per_A2": 1e5, "pixels": 48, "target_manganese_volume": 0.1}
    return about | {"manganese": manganese, "cubes": {"default": [standards_case()], "no skin": iron}}


def test_standards_of_manganese_are_told_as_they_were_measured(generated):
    """Whatever the values are."""
    text = generated["<!-- generated: standards manganese -->"]
    assert text == pages.standards_in_words(records.benchmark("standards"))
    rows = [row for cases in records.benchmark("standards")["manganese"].values() for row in cases]
    assert (
        f"within {max(max(row['angle_deg']) for row in rows):.1f}° of the true" in text
        and f" {len(rows)} cases" in text
    )

    good = standards_benchmark(
        [{}] * 2, [{"volume": (1.31, 0.9), "error": (0.5, 0.1)}] * 2, [{"angle_deg": [1.0, 1.0]}]
    )
    text = pages.standards_in_words(good)
    assert "all constraints could be used and nothing was flagged in all 4 cases" in text and "1.0° of the" in text
    assert "right within 10 % in all 2 cases; the stated error of MnO is 20 %." in text
    assert "comes out at 1.31 times the true one, with a stated error of 50 % (2 cases)." in text
    assert "own share" not in text
    for row in good["manganese"]["no skin"]:
        row["volume_by_true_references"] = [1.17, 0.97]
    assert "without noise it finds 1.17 times the true volume." in pages.standards_in_words(good)
    assert "FeO" not in text  # no volumes of iron were measured

    bad = [{"volume": (0.7, 1.0), "error": (0.1, 0.1), "left_out": ("shift",)}, {"warnings": ("w",)}, {}]
    iron = [standards_case(volume=(0.9, 1.0), error=(0.33, 0.1)), standards_case(volume=(1.2, 1.0), error=(0.61, 0.1))]
    text = pages.standards_in_words(standards_benchmark(bad, [{"volume": (0.8, 1.0)}], iron))
    assert "all constraints could be used in 3 of 4 cases, and nothing was flagged in 3 of 4 cases" in text
    assert "right within 10 % in 2 of 3 cases (at worst, 30 % off); the stated error of MnO is 10 to 20 %." in text
    assert "at 0.80 times the true one, with a stated error of 20 % (1 case)." in text
    assert "the volume of FeO comes out at 0.90 to 1.20 times the true one, with a stated error of 33 to 61 %" in text


def test_table_of_edges_shows_what_the_text_says(generated):
    """The soft edge has the larger cross-section, the smaller angle, and the wider blur."""
    rows = generated["<!-- generated: primer edges -->"].replace(",", "").splitlines()
    wanted = ("cross-section", "angle", "diameter")
    barn, theta, blur = (
        [float(x) for x in row.split("|")[2:4]]
        for word in wanted
        for row in rows
        if row.startswith("|") and word in row
    )
    assert barn[0] > 20 * barn[1] and theta[0] < theta[1] and 0.5 < blur[0] < 1.5 and blur[1] < blur[0] / 3


def test_fourier_transform_is_about_the_centre():
    image = np.random.default_rng(0).random((7, 9))
    k = np.fft.fftfreq(7)[:, None] + 0 * np.fft.fftfreq(9), 0 * np.fft.fftfreq(7)[:, None] + np.fft.fftfreq(9)
    expected = np.fft.fft2(image) * np.exp(2j * np.pi * (3 * k[0] + 4 * k[1]))
    np.testing.assert_allclose(pages.transform_at(image, *k), expected, atol=1e-9)


def test_projection_slice_theorem():
    from softeels_utils.tomography import ParallelBeam

    z, x = np.mgrid[:64, :64] - 31.5
    image = np.exp(-((z - 5) ** 2 / 50 + (x + 3) ** 2 / 120)) + 0.5 * np.exp(-((z + 9) ** 2 + (x - 8) ** 2) / 30)
    frequency, angle = np.linspace(0, 0.06, 7), np.deg2rad(-40)
    projection = ParallelBeam(64, [-40.0])(image[None, None].astype(np.float32))[0, 0]
    line = pages.transform_at(image, frequency * np.sin(angle), frequency * np.cos(angle))
    np.testing.assert_allclose(pages.transform_at(projection, 0 * frequency, frequency), line, atol=0.02 * abs(line[0]))


def test_times_are_of_the_runs(generated):
    table = generated["<!-- generated: times -->"]
    assert table.count("](../notebooks/") == len(chapters.names()) and table.count("](primer") == 4


def test_costs_are_worked_out_from_what_was_measured(generated):
    cost, seconds = records.benchmark("cost"), planner.network_seconds()
    assert [planner.scaled_seconds(seconds, n) for n in seconds] == list(seconds.values())
    assert planner.scaled_seconds(seconds, 512) == pytest.approx(seconds[160] * 3.2**3)
    measured, worked_out = (generated[f"<!-- generated: cost {part} -->"] for part in ("measured", "worked out"))
    per_spectrum = cost["fit"]["seconds"] / cost["fit"]["spectra"]
    assert f"{1e3 * per_spectrum:.2f} ms" in measured
    assert all(f"{n}³ voxels" in measured for n in seconds)
    rows = {row.split("|")[1].strip(): row.split("|")[2:] for row in worked_out.splitlines() if "tilts |" in row}
    large = rows["one large series, 512² pixels × 29 tilts"]
    assert large[0].strip() == f"{512**2 * 29:,}"
    assert float(large[1].split()[0]) == pytest.approx(512**2 * 29 * per_spectrum / 60, rel=0.06)
    assert float(large[2].split()[0]) == pytest.approx(planner.scaled_seconds(seconds, 512) / 3600, rel=0.06)
    many = rows["1,000 such specimens, 112² pixels × 9 tilts"]
    networks = 15  # eight members, four of other references, one without some tilts, two of half the counts
    days = 1000 * (3 * 112**2 * 9 * per_spectrum + networks * seconds[112]) / 86400
    assert many[3].split()[1] == "days" and float(many[3].split()[0]) == pytest.approx(days, rel=0.06)


def test_words_are_those_that_are_read():
    text = (
        "# Two words\n\n```python\nnot = read\n```\n\nA {term}`missing wedge` of $k$, [link](https://a.b/c) <b>bold</b>"
    )
    assert pages.words_of(text) == 9
    assert pages.reading_minutes(2000, 6) == 12 and pages.reading_minutes(3, 0) == 1


def test_teachers_read_of_the_minutes_that_each_chapter_states(generated):
    for chapter in chapters.names():
        stated = re.search(r"(\d+) minutes to read", (ROOT / "notebooks" / f"{chapter}.py").read_text(encoding="utf-8"))
        assert re.search(rf"notebooks/{chapter}\) \| {stated[1]} \|", generated["<!-- generated: times -->"]), chapter


@pytest.fixture
def public(tmp_path, monkeypatch):
    """A checkout with a public address in its settings."""
    text = (ROOT / "_config.yml").read_text(encoding="utf-8")
    (tmp_path / "_config.yml").write_text(text.replace('url: ""', "url: https://github.com/a/softeels"))
    monkeypatch.setattr(chapters, "ROOT", tmp_path)


def test_no_address_no_buttons():
    settings = yaml.safe_load(pages.configuration())
    assert "launch_buttons" not in settings and "repository" not in settings
    assert not settings["html"]["use_edit_page_button"] and not settings["html"]["use_repository_button"]
    assert settings["sphinx"]["config"]["html_extra_path"]


def test_one_address_switches_on_all_buttons(public):
    settings = yaml.safe_load(pages.configuration())
    assert settings["launch_buttons"]["binderhub_url"] and settings["launch_buttons"]["colab_url"]
    assert settings["html"]["use_edit_page_button"] and settings["html"]["use_repository_button"]
    alone = yaml.safe_load(pages.configuration(whole=False))  # one chapter that a user has run
    assert "launch_buttons" not in alone and "html_extra_path" not in alone["sphinx"]["config"]


# ---------------------------------------------------------------- the rendered book


class Anchors(HTMLParser):
    """Links and their targets in a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.names = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.names |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag in ("a", "link") and values.get("href"):
            self.links.append(values["href"])


def broken_links(folder):
    """``page: link`` for each link within a folder of pages to a file or an anchor that is not there."""
    paths = [path.resolve() for path in folder.rglob("*.html") if "_static" not in path.parts]
    found = {path: Anchors(path.read_text(encoding="utf-8")) for path in paths}
    for path, page in found.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in found and anchor not in found[target].names):
                yield f"{path.name}: {link}"


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html#y">1</a> <a href="#x">2</a> <a href="c.html">3</a>')
    (tmp_path / "b.html").write_text('<p id="y"><a href="a.html#z">4</a> <a href="https://a.b/c">5</a>')
    assert sorted(broken_links(tmp_path)) == ["a.html: c.html", "b.html: a.html#z"]


def test_no_link_of_the_rendered_book_is_broken():
    html = chapters.BUILD / "html"
    if not (html / "index.html").exists():
        pytest.skip("the book is not rendered")
    assert not list(broken_links(html))


# ---------------------------------------------------------------- slides

PLOTLY = '<script type="text/javascript" src="../assets/plotly.min.js"></script><div class="plotly-graph-div"></div>'


def figure(name, body, caption):
    return f'<figure class="softeels" id="fig-{name}">{body}<figcaption>{caption}</figcaption></figure>'


def cell(markdown="", *outputs):
    if markdown:
        return {"cell_type": "markdown", "source": markdown}
    data = [{"text/html": o} if o.startswith("<") else {"text/markdown": o} for o in outputs]
    return {"cell_type": "code", "source": "", "outputs": [{"data": one} for one in data]}


NOTEBOOK = {
    "cells": [
        cell("# A title\n\n**Key question.** Why?\n\n## Part one\n\nBefore, with $a_1$ {cite}`x2020`."),
        cell("", figure("one", "<img alt='1'>", "The first."), 'It shows <a href="#fig-two"></a>.'),
        cell("Between."),
        cell("", figure("two", PLOTLY, "The second.")),
        cell("After.\n\n## Part two\n\nNo figure here."),
        cell("## Summary"),
        cell("", "- All is well."),
        cell("## Exercises\n\n1. Do it."),
    ]
}


def test_slides_of_a_notebook():
    found = slides.slides_of(NOTEBOOK, 4)
    assert [slide.heading for slide in found] == ["A title", "Part one", "Part one", "Summary"]
    title, one, two, summary = found
    assert title.notes == ["**Key question.** Why?"] and summary.notes == ["- All is well."]
    assert "Figure 4.1." in one.figure and "Figure 4.2." in two.figure
    assert one.notes == ["Before, with $a_1$ {cite}`x2020`.", "It shows Figure 4.2."]
    assert two.notes == ["Between.", "After."]


def test_links_to_the_reference_become_names_on_slides():
    page = slides.deck_html([slides.Slide("x", "", ["{py:func}`dip.audit <a.dip.audit>`, {py:func}`~a.dip.fit`"])])
    assert "<p><code>dip.audit</code>, <code>fit</code></p>" in page


def test_slides_need_nothing_from_elsewhere():
    frame = '<iframe srcdoc="&lt;script src=&quot;../assets/plotly.min.js&quot;&gt;&lt;/script&gt;"></iframe>'
    notebook = {"cells": [*NOTEBOOK["cells"], cell("## Three\n"), cell("", figure("three", frame, "In a frame."))]}
    page = slides.deck_html(slides.slides_of(notebook, 4))
    assert "assets/plotly" not in page and page.count('<script id="plotly">') == 1 and "MathJax = {" in page
    assert page.count("<section") == 5 and "x2020" not in page and r"\(a_1\)" in page
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", re.sub(r"(?s)<script.*?</script>", "", page))


def test_slides_of_a_chapter(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(chapters, "BUILD", tmp_path)
    assert main(["slides", "05"]) == 2 and "which was not run" in capsys.readouterr().err
    executed = tmp_path / "executed" / "05_dipm_tv_nanocubes.ipynb"
    executed.parent.mkdir()
    executed.write_text(json.dumps({"cells": NOTEBOOK["cells"][:1]}))
    assert main(["slides", "05"]) == 2 and "without a figure" in capsys.readouterr().err
    executed.write_text(json.dumps(NOTEBOOK))
    assert main(["slides", "05", "-o", str(tmp_path / "a.pdf")]) == 2
    assert main(["slides", "5"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.parent == tmp_path / "slides" and "Figure 5.1" in path.read_text(encoding="utf-8")


def test_session_plans_name_sections_that_exist():
    """Each name in quotes beside a page or a chapter is a heading there."""
    text = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
    named, page = 0, ""
    for place, number, quoted in re.findall(r'\{doc\}`[^`]*?([\w/]+)>?`|chapter (\d)|(?<=[ ,(])"([A-Z][^"\n]+)"', text):
        if quoted:
            assert re.search(rf"(?m)^(# )?#+ {re.escape(quoted.strip())}$", page), quoted
            named += 1
        elif number:
            (path,) = (ROOT / "notebooks").glob(f"0{number}_*.py")
            page = path.read_text(encoding="utf-8")
        else:
            path = ROOT / "book" / f"{place}.md"
            if place.startswith("/notebooks/"):  # ../notebooks/NAME
                path = ROOT / "notebooks" / f"{Path(place).name}.py"
            page = path.read_text(encoding="utf-8")
    assert named >= 10
