"""Pages that need nothing from elsewhere: style, tables and figures in one HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.text import Text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_png", "html_table", "page", "warnings_box"]

STYLE = """
:root { color-scheme: light dark; --line: #c8ccd0; --box: #fdecea; --edge: #b3261e; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 0 1rem 4rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
figcaption { font-size: 0.9rem; opacity: 0.85; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.92rem; }
td, th { border-bottom: 1px solid var(--line); padding: 0.25rem 0.7rem; text-align: left; vertical-align: top; }
.warning { background: var(--box); border-left: 4px solid var(--edge); padding: 0.6rem 1rem; color: #3c0b08; }
.plot { background: white; border-radius: 4px; }
code { overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { :root { --line: #4a4f55; --box: #f6d5d2; } body { background: #14181c; } }
"""


def page(title: str, body: str) -> str:
    """A whole page around a body of HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )


def html_table(rows: Iterable[Mapping[str, Any]], digits: int = 3) -> str:
    """Dictionaries as a table; the columns are the keys, in order of appearance."""
    rows = [dict(row) for row in rows]
    columns = list(dict.fromkeys(column for row in rows for column in row))

    def text(value):
        if isinstance(value, (float, np.floating)):
            return f"{value:.{digits}g}"
        return html.escape(str(value))

    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    head = f"<thead><tr>{head}</tr></thead>" if any(column.strip() for column in columns) else ""
    body = "".join(
        "<tr>" + "".join(f"<td>{text(row.get(column, ''))}</td>" for column in columns) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def figure_png(figure: Figure, caption: str) -> str:
    """A Matplotlib figure inside the page, with its caption, which is the alternative text, too."""
    for text in figure.findobj(Text):  # names that users give are no formulas
        text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, facecolor="white", bbox_inches="tight")
    plt.close(figure)
    image = base64.b64encode(buffer.getvalue()).decode()
    told = html.escape(caption, quote=True)
    return f'<figure><img alt="{told}" src="data:image/png;base64,{image}"><figcaption>{told}</figcaption></figure>'


def warnings_box(warnings: Iterable[str]) -> str:
    """A red box with one line for each warning; empty where there is none."""
    items = "".join(f"<li>{html.escape(warning)}</li>" for warning in warnings)
    return f'<div class="warning"><b>Look at this before you use the result</b><ul>{items}</ul></div>' if items else ""
