"""The page on your own sweep, whole or as a fragment for a notebook: answer, verdicts and picture, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from replicate import __version__
from replicate.judging.sweep_verdicts import JudgedCell
from replicate.landscape.landscape import Landscape
from replicate.report import answer, page
from replicate.report.answer import ClaimRow
from replicate.report.wording import sentence

MOST_PICTURES = 60
"""With more cells than this there are no pictures."""


@dataclass(frozen=True)
class SweepCell:
    """One architecture on one data set."""

    named: tuple[str, ...]
    shared: str
    sentence: str
    heads: tuple[str, ...]
    by_lr: list[tuple[str, ...]]
    """The table by learning rate, with the columns `heads`."""
    caption: str
    headline: str
    """Which weight decay to set."""
    paragraph: str
    worth: str
    """The line above `next_runs`: how much these are expected to narrow the answer."""
    next_heads: tuple[str, ...]
    next_runs: list[tuple[str, ...]]
    rows: tuple[ClaimRow, ...]
    remarks: tuple[str, ...]
    runs: int
    picture: Markup


def render(landscapes: Sequence[Landscape], found: Sequence[JudgedCell], source: str, notes: Sequence[str] = ()) -> str:
    """The page. `found`: the verdicts of `judge_sweep` on `landscapes`; `source`: the name of their file."""
    return page.render(
        "sweep.html",
        cells=cells(landscapes, found),
        source=source,
        exact=all(cell.metric == "accuracy" and not cell.answer.searched for cell in found),
        searched=all(cell.answer.searched for cell in found),
        notes=notes,
        synthetic=any(landscape.synthetic for landscape in landscapes),
        version=__version__,
    )


def fragment(landscapes: Sequence[Landscape], found: Sequence[JudgedCell], words: Callable[[str], str]) -> str:
    """The page as a fragment for a notebook, with a background of its own because the notebook's is unknown.

    `words`: turns texts that name command-line options into texts for a notebook.
    """
    shown = [replace(cell, paragraph=words(cell.paragraph)) for cell in cells(landscapes, found)]
    return page.render("fragment.html", cells=shown)


def cells(landscapes: Sequence[Landscape], found: Sequence[JudgedCell]) -> list[SweepCell]:
    """The cells as the templates show them."""
    from replicate.report.figures.landscape import landscape

    drawn = len(landscapes) <= MOST_PICTURES
    return [
        _cell(table, cell, page.svg(landscape(table)) if drawn else Markup())
        for table, cell in zip(landscapes, found, strict=True)
    ]


def _cell(table: Landscape, cell: JudgedCell, picture: Markup) -> SweepCell:
    return SweepCell(
        named=answer.names(cell),
        shared=answer.shared(cell),
        sentence=sentence(cell),
        heads=answer.heads(cell),
        by_lr=answer.table(cell),
        caption=answer.caption(cell),
        headline=answer.headline(cell),
        paragraph=answer.paragraph(cell),
        worth=answer.worth(cell),
        next_heads=answer.NEXT,
        next_runs=answer.next_runs(cell),
        rows=answer.verdicts(cell),
        remarks=tuple(answer.remarks(cell)),
        runs=len(table.frame),
        picture=picture,
    )
