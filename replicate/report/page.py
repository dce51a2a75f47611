"""Makes HTML from templates: all texts are escaped, and pages cannot load anything."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
LONGEST_NAME = 80
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_ID = re.compile(r"(?:id=\"|url\(#|href=\"#)[mph][0-9a-f]{10}\b")
"""An id in matplotlib's SVG, or a reference to one."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Content security policy: the page's own styles, no scripts, no network."""


@lru_cache(maxsize=1)
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # for every template, whatever its name
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(short=short, plain=plain, slug=slug)
    return found


def render(template: str, **values: Any) -> str:
    """The page made from `template`; all `values` are escaped except pictures marked by `svg`."""
    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    text = _environment().get_template(template).render(policy=POLICY, style=style, **values)
    return _distinct(plain(re.sub(r"\n\s*\n+", "\n", text)))


def _distinct(text: str) -> str:
    """The page with the ids of each picture made unique, since two pictures may be the same."""
    first, *pictures = text.split("<svg ")
    renamed = (_ID.sub(rf"\g<0>-{i}", picture) for i, picture in enumerate(pictures, 1))
    return "<svg ".join([first, *renamed])


def svg(picture: str) -> Markup:
    """Mark a picture by `replicate.report.figures`, whose texts are escaped already, as safe to insert."""
    return Markup(picture)


def plain(text: object) -> str:
    """`text` without characters that are not allowed in a page."""
    return _CONTROL.sub("�", str(text))


def short(text: object, longest: int = LONGEST_NAME) -> str:
    """`text` on one line; if it is too long for a name, cut, with its length."""
    line = " ".join(plain(text).split())
    return line if len(line) <= longest else f"{line[:longest]}… ({len(line):,} characters)"


def slug(text: object) -> str:
    """`text` as an id in the page."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", short(text)).strip("-")
