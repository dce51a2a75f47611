"""Puts pictures side by side in one SVG file, each under its name, in the colours of light mode."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from replicate.report.figures.canvas import COLOURS, label

HEADING_HEIGHT = 30
GAP = 18
A_ROW = 3

_VARIABLE = re.compile(r"var\(--[a-z0-9-]+, (#[0-9a-f]{6})\)")
_SIZE = re.compile(r'^<svg [^>]*?\bwidth="([\d.]+)" height="([\d.]+)"')
_ID = re.compile(r"((?:\bid=\"|url\(#|href=\"#)[mph][0-9a-f]{10})\b")


def document(pictures: Sequence[tuple[str, str]]) -> str:
    """The SVG file. `pictures`: names and SVG elements from `canvas`; raises ValueError for one without a size."""
    sizes = [_size(picture) for _, picture in pictures]
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes) + HEADING_HEIGHT
    columns = min(A_ROW, len(pictures))
    total = columns * (width + GAP) + GAP, -(-len(pictures) // columns) * (height + GAP) + GAP
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total[0]:g} {total[1]:g}" '
        f'width="{total[0]:g}" height="{total[1]:g}">',
        f'<rect width="100%" height="100%" fill="{COLOURS["paper"]}"/>',
    ]
    for i, (name, picture) in enumerate(pictures):
        x, y = GAP + (i % columns) * (width + GAP), GAP + (i // columns) * (height + GAP)
        out.append(
            f'<text x="{x:g}" y="{y + 16:g}" font-family="system-ui, sans-serif" font-size="14" font-weight="bold" '
            f'fill="{COLOURS["ink"]}">{escape(label(name, 44))}</text>'
        )
        # Pictures with the same text alternative share ids, which must differ in one file.
        own = _ID.sub(rf"\g<1>-{i}", _VARIABLE.sub(r"\1", picture))
        out.append(own.replace("<svg ", f'<svg x="{x:g}" y="{y + HEADING_HEIGHT:g}" ', 1))
    return "\n".join([*out, "</svg>"]) + "\n"


def _size(picture: str) -> tuple[float, float]:
    found = _SIZE.match(picture)
    if found is None:
        raise ValueError(f"expected a picture with width and height, got {picture[:60]!r}")
    return float(found[1]), float(found[2])
