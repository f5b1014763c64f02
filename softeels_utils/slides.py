"""Slides of a chapter that was run: its figures, one per slide, with captions and speaker's notes, in one file.

The notes are the chapter's own text about a figure. The file needs no network and no other file beside it.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from . import chapters

__all__ = ["Slide", "deck_html", "make_slides", "slides_of"]

FIGURE = re.compile(r'(?s)<figure class="softeels"(?: id="(fig-[\w-]+)")?.*?</figure>')
HEADING = re.compile(r"(?m)^#{1,4} +(.*?) *#*$")
PLOTLY = re.compile(r'<script[^>]*plotly(?:\.min)?\.js"[^>]*></script>')
# In a frame the script of the page around it is run again, for the frame's own document; the figure is as high as the
# frame leaves room for.
IN_FRAME = """<script>
const s = document.createElement('script');
s.text = parent.document.getElementById('plotly').textContent;
document.head.appendChild(s);
function fit() {
  const plot = document.querySelector('.js-plotly-plot'), parts = [...plot.parentElement.children];
  const room = innerHeight - Math.max(...parts.map(part => part.getBoundingClientRect().bottom)) - 8;
  if (innerHeight > 0) Plotly.relayout(plot, {height: Math.max(200, plot.offsetHeight + room)});
}
addEventListener('load', () => { fit(); addEventListener('resize', fit); });
</script>"""


@dataclass
class Slide:
    """One slide.

    Attributes
    ----------
    heading : str
        Markdown: of the section that the figure stands in.
    figure : str
        HTML; empty on a slide of text.
    notes : list of str
        Markdown: what the chapter says of the figure; on a slide without a figure its text.
    """

    heading: str
    figure: str = ""
    notes: list[str] = field(default_factory=list)


def make_slides(chapter: str, path: str | os.PathLike | None = None) -> Path:
    """Write the slides of a chapter, as it was last run.

    Parameters
    ----------
    chapter : str
        Name or number.
    path : path, optional
        The file, ``.html``; by default ``book/_build/slides/NAME.html``.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    UsageError
        No such chapter, one that was not run, one without figures that `plotting.show` has put into it, or a file of
        another kind.
    """
    name = chapters.name_of(chapter)
    path = Path(path) if path else chapters.BUILD / "slides" / f"{name}.html"
    if path.suffix.lower() not in (".html", ".htm"):
        raise chapters.UsageError(f"output: got {path}, wants the name of a page to write (.html)")
    places = (chapters.BUILD / "executed" / f"{name}.ipynb", chapters.BUILD / "runs" / name / f"{name}.ipynb")
    runs = [place for place in places if place.is_file()]
    if not runs:
        raise chapters.UsageError(
            f"chapter: got {name}, which was not run, wants it run first (book, or run {name[:2]})"
        )
    notebook = json.loads(max(runs, key=os.path.getmtime).read_text(encoding="utf-8"))
    slides = slides_of(notebook, int(name[:2]))
    if not any(slide.figure for slide in slides):
        raise chapters.UsageError(f"chapter: got {name} without a figure, wants some that plotting.show has shown")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(deck_html(slides), encoding="utf-8")
    return path


# ---------------------------------------------------------------- from a notebook to slides


def slides_of(notebook: Mapping[str, Any], number: int) -> list[Slide]:
    """Return the slides of an executed notebook: its title and key question, a slide per figure, its summary.

    Text before a figure, in its section, is a note on it; what its cell says, and text after the last figure of a
    section, too. Figures with a name are numbered as in the book.

    Parameters
    ----------
    notebook : dict
        As nbformat 4 has it.
    number : int
        Of the chapter.
    """
    slides, heading, waiting, section_has_figure, numbers = [], "", [], False, {}
    for kind, text in _parts(notebook):
        if kind == "figure":
            name = FIGURE.match(text)[1]
            if name:
                numbers[name] = f"Figure {number}.{len(numbers) + 1}"
            slides.append(Slide(heading, text, waiting))
            waiting, section_has_figure = [], True
            continue
        found = HEADING.match(text) if kind == "text" else None
        if found:
            if section_has_figure:
                slides[-1].notes += waiting
            elif waiting and heading.lower().startswith("summary"):
                slides.append(Slide(heading, "", waiting))
            elif not slides and heading:
                slides.append(Slide(heading, "", waiting))
            heading, waiting, section_has_figure = found[1], [], False
            text = text[found.end() :].strip()
        if text and kind == "said" and section_has_figure:
            slides[-1].notes.append(text)
        elif text:
            waiting.append(text)
    if section_has_figure:
        slides[-1].notes += waiting
    for slide in slides:
        slide.figure = _numbered(slide.figure, numbers)
        slide.notes = [_numbered(note, numbers) for note in slide.notes]
    return slides


def _parts(notebook: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """``("text", section)`` of Markdown cells, ``("figure", HTML)`` and ``("said", Markdown)`` of outputs, in order."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"]).strip()
            for part in re.split(r"(?m)^(?=#{1,4} )", text):
                if part.strip():
                    yield "text", part.strip()
            continue
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            figures = [found[0] for found in FIGURE.finditer("".join(data.get("text/html", "")))]
            yield from (("figure", figure) for figure in figures)
            if "text/markdown" in data and not figures:
                yield "said", "".join(data["text/markdown"])


def _numbered(text: str, numbers: Mapping[str, str]) -> str:
    """The text with numbers in front of captions and in links to figures."""
    name = FIGURE.match(text)
    if name and name[1] in numbers:
        text = text.replace("<figcaption>", f"<figcaption><b>{numbers[name[1]]}.</b> ", 1)
    return re.sub(r'<a href="[^"]*#(fig-[\w-]+)">\s*</a>', lambda found: numbers.get(found[1], "the figure"), text)


def _plain_markdown(text: str) -> str:
    """Markdown without what only Sphinx understands: roles become their text, the frames of boxes go."""
    text = re.sub(r"(?ms)^:::+\{admonition\} Solution.*?^:::+$", "", text)  # answers stay in the book
    text = re.sub(r"(?m)^:::+.*$|^:class:.*$", "", text)
    text = re.sub(r"\s*\{cite\}`[^`]*`|,?\s*\(?\{eq\}`[^`]*`\)?", "", text)
    text = re.sub(r"\{py:\w+\}`([^`<]*?)\s*<[^`]*>`", r"`\1`", text)
    text = re.sub(r"\{py:\w+\}`~?([^`]*)`", lambda found: f"`{found[1].split('.')[-1]}`", text)
    text = re.sub(r"\{[\w:]+\}`([^`<]*?)\s*(?:<[^`]*>)?`", r"\1", text)
    return re.sub(r"\[([^\]]*)\]\((?!http)[^)]*\)", r"\1", text)  # links to other pages


# ---------------------------------------------------------------- the file

STYLE = """
* { box-sizing: border-box }
body { margin: 0; font: 1.1rem/1.45 system-ui, sans-serif; color: #111; background: #fff }
section { display: flex; height: 100vh; padding: 1.2rem 4vw 3rem; flex-direction: column; gap: .8rem; overflow-y: auto }
section:not(.on) { position: absolute; left: -300vw; width: 100%; visibility: hidden } /* figures keep their size */
h1, h2 { margin: 0; font-size: 1.7rem; line-height: 1.2 }
section.text { max-width: 60rem; margin: auto; font-size: 1.4rem }
section.text > div { margin: auto 0 }
figure { display: flex; margin: 0; flex: 1; min-height: 50vh; flex-direction: column } /* takes what is left */
figure img { display: block; width: 100%; min-height: 0; flex: 1; object-fit: contain }
figure iframe { width: 100%; min-height: 0; flex: 1 }
figure [role=group] { min-height: 0; flex: 1 }
figure [role=group] > div { height: auto !important }
figcaption { margin-top: .6rem; font-size: 1rem }
@media screen and (min-width: 900px) { /* a tall figure takes the whole height, its caption stands beside it */
  figure.tall { flex-direction: row; gap: 2vw; align-items: center }
  figure.tall img { flex: 0 0 68%; width: 68%; height: 100% }
  figure.tall figcaption { flex: 1; margin: 0 }
}
aside { border-top: 1px solid #888; padding-top: .6rem; font-size: 1rem }
body:not(.notes) aside { display: none }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { padding: .2rem .6rem; border-bottom: 1px solid #bbb; text-align: left }
nav { position: fixed; right: 1rem; bottom: .6rem; font-size: .95rem }
nav button { font: inherit; padding: .2rem .7rem }
@media print {
  nav { display: none }
  section, section:not(.on) { position: static; visibility: visible; height: auto; break-after: page }
  figure { display: block }
  figure img { height: 60vh }
  body:not(.notes) aside { display: none }
}
"""
SCRIPT = """
const slides = [...document.querySelectorAll('section')], count = document.getElementById('count');
let at = 0;
function fit(slide) {  // a figure of plotly to the room that is left, text smaller until it fits
  const group = slide.querySelector('figure [role=group]'), plot = slide.querySelector('.js-plotly-plot');
  if (plot && innerWidth > 700) {
    const around = plot.parentElement.offsetHeight - plot.offsetHeight;
    Plotly.relayout(plot, {height: Math.max(200, group.clientHeight - around)});
  }
  if (!slide.matches('.text')) return;
  for (let size = 1.4; size > 0.9; size -= 0.1) {
    slide.style.fontSize = `${size}rem`;
    if (slide.scrollHeight <= slide.clientHeight) break;
  }
}
function go(to) {
  at = Math.min(Math.max(to, 0), slides.length - 1);
  slides.forEach((slide, index) => slide.classList.toggle('on', index === at));
  fit(slides[at]);
  count.textContent = `${at + 1} / ${slides.length}`;
  history.replaceState(null, '', `#${at + 1}`);
}
document.addEventListener('keydown', event => {
  if (event.target.closest('input, select, button, iframe')) return;
  const moves = {ArrowRight: at + 1, PageDown: at + 1, ' ': at + 1, ArrowLeft: at - 1, PageUp: at - 1, Home: 0,
                 End: slides.length - 1};
  if (event.key in moves) { event.preventDefault(); go(moves[event.key]); }
  if (event.key === 'n') notes();
});
document.getElementById('back').onclick = () => go(at - 1);
document.getElementById('on').onclick = () => go(at + 1);
function notes() { document.body.classList.toggle('notes'); fit(slides[at]); }
document.getElementById('say').onclick = notes;
addEventListener('load', () => {
  for (const image of document.querySelectorAll('figure > img'))
    image.parentElement.classList.toggle('tall', image.naturalHeight > 0.8 * image.naturalWidth);
  go((parseInt(location.hash.slice(1)) || 1) - 1);
});
addEventListener('resize', () => fit(slides[at]));
"""


def deck_html(slides: list[Slide]) -> str:
    """Return the page: arrow keys go from slide to slide, N shows the notes, printing makes a page of each slide.

    The scripts of plotly and MathJax are in it where a slide needs them.
    """
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    parser = MarkdownIt("commonmark", {"html": True, "typographer": True}).enable(["table", "smartquotes"])
    parser.use(dollarmath_plugin, renderer=_equation)
    parts = []
    for index, slide in enumerate(slides):
        level = "h2" if index else "h1"
        heading = f"<{level}>{parser.renderInline(_plain_markdown(slide.heading))}</{level}>"
        notes = "".join(parser.render(_plain_markdown(note)) for note in slide.notes)
        if slide.figure:
            notes = f'<aside aria-label="Speaker\'s notes">{notes}</aside>' if notes else ""
            parts.append(f"<section>{heading}{_without_addresses(slide.figure)}{notes}</section>")
        else:
            parts.append(f'<section class="text">{heading}<div>{notes}</div></section>')
    body = "".join(parts)
    title = html.escape(re.sub(r"<[^>]*>", "", slides[0].heading))
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style>{_scripts(body)}</head>'
        f'<body><main>{body}</main><nav aria-label="Slides"><button id="back" aria-label="previous">←</button> '
        '<span id="count"></span> <button id="on" aria-label="next">→</button> '
        '<button id="say">notes (N)</button></nav>'
        f"<script>{SCRIPT}</script></body></html>"
    )


def _equation(tex: str, options: Mapping[str, Any]) -> str:
    tex = html.escape(tex)
    return rf"\[{tex}\]" if options["display_mode"] else rf"\({tex}\)"


def _without_addresses(figure: str) -> str:
    """A figure without scripts by address: plotly is in the page, and in frames it is taken from there."""
    figure = PLOTLY.sub("", figure)

    def frame(found: re.Match) -> str:
        return found[1] + html.escape(PLOTLY.sub(lambda _: IN_FRAME, html.unescape(found[2])), quote=True) + found[3]

    return re.sub(r'(?s)(<iframe[^>]*srcdoc=")([^"]*)(")', frame, figure)


def _scripts(body: str) -> str:
    """The scripts that some slides need."""
    from .plotting import plotly_file

    scripts = []
    if "plotly" in body.lower():
        scripts.append(f'<script id="plotly">{plotly_file().read_text(encoding="utf-8")}</script>')
    if re.search(r"\\[(\[]", body):
        package = metadata.distribution("sphinx-mathjax-offline")
        path = Path(package.locate_file("sphinx-mathjax-offline/static/mathjax")) / "tex-svg.js"
        scripts.append("<script>MathJax = {options: {enableMenu: false}};</script>")
        scripts.append(f"<script>{path.read_text(encoding='utf-8')}</script>")
    return "".join(scripts)
