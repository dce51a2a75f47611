"""Reading back the pages that the reports write: ids, links, pictures, and whatever a browser would load."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

LOADS = {"src", "srcset", "href", "xlink:href", "data", "action", "formaction", "poster", "background", "manifest"}
"""Attributes that name something to load or to go to."""


@dataclass
class Page(HTMLParser):
    """What stands in a page."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    unnamed_pictures: list[str] = field(default_factory=list)
    policy: str = ""
    handlers: list[str] = field(default_factory=list)
    """Attributes that would run a script."""
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = {name: value or "" for name, value in attrs}
        self.handlers += [name for name in given if name.startswith("on")]
        self.links += [value for name, value in given.items() if name in LOADS]
        self.styles += [given["style"]] if "style" in given else []
        self.styles += [value for value in given.values() if "url(" in value]
        self.ids += [given["id"]] if "id" in given else []
        if tag in ("svg", "img") and not (
            given.get("role", "img") == "img" and (given.get("aria-label") or given.get("alt"))
        ):
            self.unnamed_pictures.append(str(self.get_starttag_text()))
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            self.styles.append(data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def read(html: str) -> Page:
    """The page, checked for what holds of every page that is written."""
    page = Page()
    page.feed(html)
    page.close()
    loaded = [link for link in page.links if not link.startswith("#")]
    assert not loaded, loaded
    assert {link[1:] for link in page.links} <= set(page.ids)
    outside = [url for style in page.styles for url in re.findall(r"url\(([^)]*)\)", style) if not url.startswith("#")]
    assert not outside, outside
    assert not any("@import" in style for style in page.styles)
    assert not {"script", "iframe", "object", "embed", "link", "base", "form", "img", "b"} & set(page.tags)
    assert not page.handlers
    assert not page.unnamed_pictures
    twice = {name for name in page.ids if page.ids.count(name) > 1}
    assert not twice, sorted(twice)[:5]
    return page


HOSTILE = (
    "<script>alert(1)</script>",
    "../../x",
    '"><img src=x onerror=alert(1)>',
    "a$b$c_{x}^\\frac",
    "x" * 10_000,
    "שלום עולם \u202e<b>",
    "{{ 7 * 7 }}{% raw %}",
    "nul\x00 and\x1b[31m &amp; <!-- --> ]]>",
)
"""Names that somebody might give an architecture."""
