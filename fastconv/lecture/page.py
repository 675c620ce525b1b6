"""One HTML page that needs no other file: the pictures are data in it."""

from __future__ import annotations

import base64
import html
import inspect
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from importlib import resources
from string import Template
from typing import Any, NamedTuple

# Figures are shown at their size, so that 9 points are 9 points; a phone shows 3.7 inches.
PIXELS_PER_INCH = 96
SMALL = 215  # of pictures up to this width a phone shows two beside each other
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": "#6b7280",
    "axes.labelcolor": "#374151",
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "svg.hashsalt": "fastconv",
}


# 1, -2.5, 9e-06, 1,234, 98.6%, 97% ± 1%, 12.3 ms, 7 ✓
NUMBER = re.compile(r"[-−]?\d[\d.,e+%± -]*( ms| [✓✗])?")


class Chapter(NamedTuple):
    """One chapter of the page.

    Attributes
    ----------
    title : str
    body : str
        HTML, made by the functions below.
    """

    title: str
    body: str


def text(*paragraphs: str) -> str:
    """Paragraphs of HTML."""
    return "".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs)


def heading(words: str) -> str:
    return f"<h3>{words}</h3>\n"


def picture(figure: Any, caption: str) -> str:
    """A matplotlib figure: vectors where it only has lines, else pixels; the caption is HTML."""
    buffer = io.BytesIO()
    if any(axes.images for axes in figure.axes):
        kind = "image/webp"
        figure.savefig(buffer, format="webp", dpi=2 * PIXELS_PER_INCH, pil_kwargs={"quality": 92})
    else:
        kind = "image/svg+xml"
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    width, height = (round(inches * PIXELS_PER_INCH) for inches in figure.get_size_inches())
    words = html.escape(html.unescape(re.sub("<[^>]*>", "", caption)), quote=True)
    small = " class=small" * (width <= SMALL)
    return (
        f'<figure{small} style="width:{width}px"><img width="{width}" height="{height}" alt="{words}" '
        f'src="data:{kind};base64,{data}"><figcaption>{caption}</figcaption></figure>\n'
    )


def row(*pictures: str) -> str:
    """Pictures or listings side by side where they fit."""
    return f'<div class="row">\n{"".join(pictures)}</div>\n'


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; columns of numbers are set to the right."""
    cells = [[str(cell) for cell in line] for line in rows]
    right = [all(NUMBER.fullmatch(cell) for cell in column) for column in zip(*cells, strict=True)]

    def line(tag: str, texts: Sequence[str]) -> str:
        kinds = [" class=n" * number for number in right]
        return "".join(f"<{tag}{kind}>{cell}</{tag}>" for cell, kind in zip(texts, kinds, strict=True))

    body = "".join(f"<tr>{line('td', texts)}</tr>\n" for texts in cells)
    top = f"<tr>{line('th', head)}</tr>"
    return f'<div class="scroll"><table><thead>{top}</thead>\n<tbody>{body}</tbody></table></div>\n'


def listing(words: object, *, wrap: bool = False) -> str:
    """Text as it is printed; long lines can be moved sideways, or with `wrap` go on in the next."""
    return f"<pre{' class=wrap' * wrap}>{html.escape(str(words))}</pre>\n"


def source(*functions: Callable[..., Any]) -> str:
    """The code of functions, folded away."""
    code = "\n\n".join(textwrap.dedent(inspect.getsource(function)).rstrip() for function in functions)
    return f"<details><summary>The code</summary><pre>{html.escape(code)}</pre></details>\n"


def formula(words: str) -> str:
    """A formula on a line of its own."""
    return f'<p class="formula">{words}</p>\n'


def page(chapters: Sequence[Chapter], about: str, lead: str) -> str:
    """The whole document.

    Parameters
    ----------
    chapters : sequence of Chapter
    about : str
        HTML at the foot: on what, with what and how long it ran.
    lead : str
        HTML under the title.
    """
    contents = "".join(
        f'<li><a href="#chapter-{i}">{chapter.title}</a></li>' for i, chapter in enumerate(chapters, 1)
    )
    body = "".join(
        f'<section id="chapter-{i}"><h2><span>{i}</span>{chapter.title}</h2>\n{chapter.body}</section>\n'
        for i, chapter in enumerate(chapters, 1)
    )
    template = resources.files("fastconv.lecture").joinpath("page.html").read_text("utf-8")
    return Template(template).substitute(contents=contents, body=body, about=about, lead=lead)
