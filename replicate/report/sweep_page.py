"""Somebody's own sweep as a page, or as a piece of one for a notebook: verdicts and landscape, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from replicate import __version__
from replicate.judging.sweep_verdicts import JudgedCell
from replicate.judging.verdict import INCONCLUSIVE, NOT_RUN
from replicate.landscape.landscape import Landscape
from replicate.report import page
from replicate.report.figures.intervals import LETTERS
from replicate.report.wording import estimate_text, margin_text, sentence

UNNAMED = "unnamed"
"""What `replicate.sweeps` calls an architecture or a data set that a file does not name."""
MOST_PICTURES = 60
"""A file with more cells than these is read as a table."""
WORDS = {
    "rho": "the best weight decay is a tenth of the learning rate",
    "slope": "it grows in proportion to the learning rate",
    "intercept": "the line passes through the origin",
    "r2": "the proportional line explains nearly all of it",
    "one-dim/gap": "tuning the learning rate alone loses less than 0.3 pp",
}


@dataclass(frozen=True)
class ClaimRow:
    """One of the paper's claims on the cell."""

    name: str
    words: str
    outcome: str
    letter: str
    here: str
    margin: str
    reason: str


@dataclass(frozen=True)
class SweepCell:
    """One architecture on one data set."""

    named: tuple[str, ...]
    """Architecture and data set, those that the sweep names."""
    sentence: str
    rows: tuple[ClaimRow, ...]
    flags: str
    settle: tuple[str, ...]
    differ: tuple[tuple[str, str], ...]
    """Verdicts that the paper's method would give otherwise, and how."""
    runs: int
    picture: Markup


def render(landscapes: Sequence[Landscape], found: Sequence[JudgedCell], source: str, notes: Sequence[str] = ()) -> str:
    """The page. `found`: what `judge_sweep` says of `landscapes`; `source`: where they come from."""
    return page.render(
        "sweep.html",
        cells=cells(landscapes, found),
        source=source,
        notes=notes,
        synthetic=any(landscape.synthetic for landscape in landscapes),
        version=__version__,
    )


def fragment(landscapes: Sequence[Landscape], found: Sequence[JudgedCell]) -> str:
    """The same for a notebook: with a background of its own, for the notebook's is not known."""
    return page.render("fragment.html", cells=cells(landscapes, found))


def cells(landscapes: Sequence[Landscape], found: Sequence[JudgedCell]) -> list[SweepCell]:
    """What the templates show."""
    from replicate.report.figures.landscape import landscape

    drawn = len(landscapes) <= MOST_PICTURES
    return [
        _cell(table, cell, page.svg(landscape(table)) if drawn else Markup())
        for table, cell in zip(landscapes, found, strict=True)
    ]


def _cell(table: Landscape, cell: JudgedCell, picture: Markup) -> SweepCell:
    rows = tuple(
        ClaimRow(
            name=name,
            words=WORDS.get(name, name),
            outcome=verdict.outcome,
            letter=LETTERS[verdict.outcome],
            here=estimate_text(None if verdict.outcome == NOT_RUN else cell.measured[name]),
            margin=margin_text(verdict.margin),
            reason=verdict.reason,
        )
        for name, verdict in cell.verdicts.items()
    )
    settle = [cell.settle(name) for name, outcome in cell.outcomes.items() if outcome == INCONCLUSIVE]
    return SweepCell(
        named=tuple(name for name in (cell.arch, cell.dataset) if name != UNNAMED),
        sentence=sentence(cell),
        rows=rows,
        flags=", ".join(cell.flags),
        settle=tuple(dict.fromkeys(text for text in settle if text)),
        differ=tuple(cell.disagreements.items()),
        runs=len(table.frame),
        picture=picture,
    )
