"""Formulas, ions, edges and signs as pages and figures set them: "Fe3O4", "Fe2+", "M2,3", "5 %", "−70°"."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Code, tags, equations and addresses stay as they are.
KEPT = (
    r"(?P<kept>(?P<ticks>`+).+?(?P=ticks)|<(?P<tag>code|pre)\b.*?</(?P=tag)>|<[^>]*>|\$[^$]+\$|\\\(.*?\\\)|\]\([^)]*\))"
)
OXIDE = r"(?<!\w)(?P<form>(?:alpha|gamma)-)?(?P<oxide>(?:Fe|Mn|Co)(?:\dO\d?|O\d)|La0\.7Sr0\.3MnO3)(?!\w)"
ION = r"(?<!\w)(?P<ion>(?:Fe|Mn|Co))(?P<charge>[2-4]\+)(?!\w)"
EDGE = r"(?<!\w)(?P<shell>[LM])(?P<number>[1-5](?:,[1-5])?)(?!\w)"
PER_CENT = r"(?<=\d) ?(?P<percent>%)(?![\w{])"
MINUS = r"(?P<minus>(?<![\w.,)\]}^-])-(?=\d)|(?<=\w )-(?= \w))"
TOGETHER = r"(?<=\d) (?P<together>±) (?=\d)|(?<!\w )(?P<times>×) (?=\d)"  # on one line
NAME = re.compile("|".join((KEPT, OXIDE, ION, EDGE, PER_CENT, MINUS, TOGETHER)), re.DOTALL)
GREEK = {"alpha-": "α-", "gamma-": "γ-", None: ""}
BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
ABOVE = str.maketrans("234+", "²³⁴⁺")
SET = {"text", "name", "title", "hovertemplate", "hovertext", "ticktext"}  # of a plotly figure: what is read


def _set(text, below, edge, above=lambda charge: charge.translate(ABOVE)):
    def name(found):
        if found["kept"]:
            return found["kept"]
        if found["percent"]:
            return "\N{NO-BREAK SPACE}%"
        if found["minus"]:
            return "\N{MINUS SIGN}"
        if found["together"]:
            return "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
        if found["times"]:
            return "×\N{NO-BREAK SPACE}"
        if found["oxide"]:
            return GREEK[found["form"]] + re.sub(r"\d(\.\d)?", lambda digit: below(digit[0]), found["oxide"])
        if found["ion"]:
            return found["ion"] + above(found["charge"])
        return found["shell"] + edge(found["number"])

    return NAME.sub(name, text)


def in_html(text: str) -> str:
    """Return HTML or Markdown with formulas and edges set, a space before "%", and a minus before numbers.

    Code, equations and addresses are left alone.

    Examples
    --------
    >>> in_html("Fe3O4 at M2,3, `Fe3O4`")
    'Fe<sub>3</sub>O<sub>4</sub> at M<sub>2,3</sub>, `Fe3O4`'
    >>> in_html("Fe2+")
    'Fe<sup>2+</sup>'
    """
    return _set(text, "<sub>{}</sub>".format, "<sub>{}</sub>".format, "<sup>{}</sup>".format)


def in_text(text: str) -> str:
    """Return plain text with the oxides in Unicode, which has no comma below the line: "Fe₃O₄, M2,3"."""
    return _set(text, lambda digit: digit.translate(BELOW), str)


def in_plotly(part: Any) -> Any:
    """Return (part of) a plotly figure, as dictionaries and lists, with oxides and edges set in what a reader reads."""
    if isinstance(part, dict):
        return {key: _read(value) if key in SET else in_plotly(value) for key, value in part.items()}
    return [in_plotly(value) for value in part] if _is_list_of(part, (dict, list, tuple)) else part


def _read(value):
    if isinstance(value, str):
        return in_html(value)
    return [in_html(text) for text in value] if _is_list_of(value, str) else in_plotly(value)


def _is_list_of(value, kind):
    return isinstance(value, (list, tuple)) and len(value) > 0 and isinstance(value[0], kind)


def set_figure(figure: Figure) -> None:
    """Set the oxides and edges in all texts of a Matplotlib figure, those at the ticks included."""
    from matplotlib.text import Text

    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if any(_in_mathtext(label) != label for label in labels):
                axis.set_ticks(axis.get_majorticklocs(), [_in_mathtext(label) for label in labels])
    for text in figure.findobj(Text):
        text.set_text(_in_mathtext(text.get_text()))


def _in_mathtext(text):
    return _set(text, "$_{}$".format, lambda number: f"$_{{{number.replace(',', '{,}')}}}$")
