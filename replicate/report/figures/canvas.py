"""Turns a matplotlib figure into inline SVG: colours as CSS variables, text as text, the same bytes every time.

A page sets the variables for light or dark mode; without them, as in a notebook, their fallback colours are used.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PX = 1 / 72
"""Inches per pixel: matplotlib's SVG has 72 units per inch."""

COLOURS = {
    "ink": "#1c1c21",
    "muted": "#5b5b64",
    "faint": "#d9d9df",
    "paper": "#fffffe",
    "band": "#fbe3d2",
    "claimed": "#c24e00",
    "ours": "#00619b",
    "constant": "#00785a",
    "inverse": "#a64d85",
    "replicated": "#009e73",
    "contradicted": "#d55e00",
    "inconclusive": "#e69f00",
    "heat-0": "#08306b",
    "heat-1": "#2a6cb0",
    "heat-2": "#6aa5d8",
    "heat-3": "#a9cbe9",
    "heat-4": "#d3e3f3",
    "heat-5": "#edf3fa",
}
"""CSS variable → fallback colour, each different: Okabe and Ito's hues, darkened for thin lines."""

_RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ in a name is no formula
    "axes.unicode_minus": True,
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "hatch.linewidth": 0.7,
    "hatch.color": COLOURS["muted"],
    "path.simplify": False,
}

_VARIABLES = {colour: f"var(--{name}, {colour})" for name, colour in COLOURS.items()}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+")
LONGEST_LABEL = 28


@dataclass
class Canvas:
    """A figure being drawn; `svg` is set when the `with` block of `canvas` ends."""

    figure: Figure
    width: float
    height: float
    svg: str = ""

    def axes(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Add axes with these margins, in pixels."""
        box = (
            left / self.width,
            bottom / self.height,
            (self.width - left - right) / self.width,
            (self.height - top - bottom) / self.height,
        )
        return self.figure.add_axes(box)


def note(ax: Axes, words: str, at: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Write `words` into the picture, `offset` points away from the position `at`."""
    ax.annotate(words, at, offset, textcoords="offset points", **{"va": "center", **style})


@contextmanager
def canvas(width: float, height: float, alt: str) -> Iterator[Canvas]:
    """A `Canvas` of `width` x `height` pixels with the text alternative `alt`."""
    import matplotlib
    from matplotlib.figure import Figure

    # The salt gives two pictures on one page different ids, and one picture always the same.
    settings: Any = {**_RC, "svg.hashsalt": alt}
    with matplotlib.rc_context(settings):
        drawn = Canvas(Figure(figsize=(width * PX, height * PX)), width, height)
        yield drawn
        out = io.StringIO()
        with warnings.catch_warnings():
            # Browsers have fonts for the characters that matplotlib's font lacks.
            warnings.filterwarnings("ignore", message=".*missing from font")
            drawn.figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        drawn.svg = _inline(out.getvalue(), width, height, alt)


def _inline(document: str, width: float, height: float, alt: str) -> str:
    """matplotlib's SVG document as an element that can be put into a page."""
    text = document[document.index("<svg") :]
    body = text[text.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' id="[a-zA-Z0-9.]+_[0-9]+"', "", body)  # ids of parts, the same in every picture
    body = body.replace("xlink:href", "href")
    body = re.sub(r"font: (?:(?:bold|italic|\d+) )*([\d.]+)px [^;\"]*", _font, body)
    body = re.sub(r"#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), body)
    body = re.sub(r"\n\s*", "\n", body)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(alt)}">'
    )
    return head + body.strip()


def _font(found: re.Match[str]) -> str:
    weight = "bold " if " bold " in found[0] or " 700 " in found[0] else ""
    return f"font: {weight}{found[1]}px system-ui, sans-serif"


def label(text: str, longest: int = LONGEST_LABEL) -> str:
    """`text` for a picture: on one line, cut to `longest` characters, its writing direction isolated."""
    plain = " ".join(_CONTROL.sub(" ", text).split())
    short = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return short if short.isascii() else f"\u2068{short}\u2069"


def number(x: float) -> str:
    """The label of a tick, without long rows of zeros: `3e-5`, `0.02`, `1`, `500`."""
    if x == 0:
        return "0"
    if not 1e-3 <= abs(x) < 1e4:
        mantissa, exponent = f"{x:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{x:g}".replace("-", "−")


def log_ticks(ax: Any, axis: str, low: float, high: float, most: int = 7) -> None:
    """Put at most about `most` ticks on an axis whose data are base-10 logarithms, from `low` to `high`."""
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    if last - first < 2:  # fewer than three powers of ten: add 2 and 5 times each
        values = [m * 10.0**k for k in range(first - 1, last + 1) for m in (1, 2, 5)]
        inside = [x for x in values if low <= math.log10(x) <= high]
        getattr(ax, f"set_{axis}ticks")([math.log10(x) for x in inside], [number(x) for x in inside])
        return
    step = max(1, -(-(last - first + 1) // most))
    at = [k for k in range(first, last + 1) if k % step == 0]
    getattr(ax, f"set_{axis}ticks")(at, [number(10.0**k) for k in at])
