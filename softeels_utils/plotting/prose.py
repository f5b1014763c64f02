"""Prose, notices and tables whose numbers come from the run."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import check_count, check_text, check_texts, describe
from .formulas import in_html

__all__ = ["markdown_table", "notice", "say", "table"]

SHORT = 90  # characters of a caption that is bold as a whole


def say(markdown: str) -> None:
    """Put Markdown text into the page, so that numbers in prose come from variables: ``say(f"... {x:.1f} nm")``.

    Oxides and edges (Fe3O4, M2,3) get their subscripts, here as in captions, tables and notices.
    """
    from IPython.display import Markdown, display

    check_text(markdown, "markdown")
    display(Markdown(in_html(markdown)))


def inline_html(markdown: str) -> str:
    """Return one line of Markdown (HTML and ``$...$`` are understood) as HTML that MathJax and Jupyter typeset."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    def equation(tex, _):
        return rf"\({html.escape(tex)}\)"

    reader = MarkdownIt("commonmark", {"html": True}).use(dollarmath_plugin, renderer=equation)
    return reader.renderInline(in_html(markdown))


def notice(markdown: str | Sequence[str], kind: str = "note", title: str | None = None) -> None:
    """Put a visible box into the page (an HTML admonition, the same in Jupyter and in the book).

    Parameters
    ----------
    markdown : str or sequence of str
        Text; ``**bold**``, ``*emphasis*`` and code in backticks are understood. Several texts become a list in one
        box; empty ones are left out, and there is no box where none is left.
    kind : {"note", "warning", "danger", "tip"}
    title : str, optional
        Headline; by default the kind.

    Raises
    ------
    ValueError
        Another kind.
    """
    from IPython.display import HTML, display
    from markdown_it import MarkdownIt

    texts = [markdown] if isinstance(markdown, str) else list(markdown)
    for text in texts:
        check_text(text, "markdown")
    check_texts(title=title)
    if kind not in ("note", "warning", "danger", "tip"):
        raise ValueError(f"kind: got {kind!r}, wants 'note', 'warning', 'danger' or 'tip'")
    texts = [text for text in texts if text]
    if not texts:
        return
    style = "border-left-width: 0.25rem; border-left-style: solid; padding: 0.4rem 0.8rem"  # where no style sheet is
    body = texts[0] if len(texts) == 1 else "\n".join("- " + text.replace("\n", "\n  ") for text in texts)
    body = in_html(MarkdownIt("commonmark", {"html": False}).render(body))
    display(
        HTML(
            f'<div class="admonition {kind}" style="{style}">'
            f'<p class="admonition-title">{in_html(html.escape(title or kind.capitalize()))}</p>{body}</div>'
        )
    )


def markdown_table(rows: Iterable[Mapping[str, Any]], *, digits: int = 3) -> str:
    r"""Return dictionaries as a Markdown table, one row each; the columns are their keys, in order of appearance.

    Parameters
    ----------
    rows : iterable of dict
        A key that a row does not have leaves its cell empty.
    digits : int
        Significant digits of floats, trailing zeros included; pass strings for another format.

    Raises
    ------
    ValueError
        No rows.

    Examples
    --------
    >>> print(markdown_table([{"method": "SIRT", "NRMSE": 0.43212}, {"method": "TV", "NRMSE": 1.0}]))
    | method | NRMSE |
    |---|---|
    | SIRT | 0.432 |
    | TV | 1.00 |
    """
    check_count(digits, "digits")
    rows = list(rows) if isinstance(rows, Iterable) else [rows]
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(f"rows: got {describe(rows)}, wants at least one dictionary, and nothing else")
    columns = list(dict.fromkeys(column for row in rows for column in row))

    def line(values):
        texts = [_rounded(v, digits) if isinstance(v, (float, np.floating)) else str(v) for v in values]
        return "| " + " | ".join(in_html(text).replace("|", "\\|") for text in texts) + " |"

    rule = "|" + "---|" * len(columns)
    return "\n".join([line(columns), rule, *(line(row.get(column, "") for column in columns) for row in rows)])


def _rounded(value, digits):
    text = f"{value:#.{digits}g}"
    return f"{float(text):,.0f}" if "e+" in text else text.rstrip(".")


def table(rows: Iterable[Mapping[str, Any]], *, caption: str | None = None) -> None:
    """Put a `markdown_table` of dictionaries into the page, under a caption; its first clause is bold."""
    check_texts(caption=caption)
    title, rest = re.match(r"(.*?[.:;](?=\s)|.*)(.*)", caption or "", re.DOTALL).groups()
    if len(caption or "") <= SHORT:
        title, rest = caption, ""
    say((f"**{title}**{rest}\n\n" if title else "") + markdown_table(rows))
