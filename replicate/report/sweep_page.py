"""Somebody's own sweep as a page, or as a piece of one for a notebook: verdicts and landscape, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from replicate import __version__
from replicate.estimate.result import Estimate
from replicate.judging.verdict import INCONCLUSIVE, NOT_RUN
from replicate.landscape.landscape import Landscape
from replicate.paper.registry import CLAIMS
from replicate.report import page
from replicate.report.figures.intervals import LETTERS
from replicate.report.wording import estimate_text, margin_text, sentence

UNNAMED = "unnamed"
"""What `replicate.landscape.from_csv` calls an architecture or a data set that a file does not name."""
MOST_PICTURES = 60
"""A file with more cells than these is read as a table."""
CLAIM_OF = {"rho": "rho", "slope": "slope", "intercept": "intercept_share", "r2": "r2", "one-dim/gap": "gap_pp"}
"""Name of a verdict → the quantity of the registry whose rule gave it."""
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


def render(landscapes: Sequence[Landscape], found: Mapping[str, Any], source: str, notes: Sequence[str] = ()) -> str:
    """The page. `found`: what `judge_sweep` says of `landscapes`; `source`: where they come from."""
    return page.render(
        "sweep.html",
        cells=cells(landscapes, found),
        source=source,
        notes=notes,
        synthetic=any(landscape.synthetic for landscape in landscapes),
        version=__version__,
    )


def fragment(landscapes: Sequence[Landscape], found: Mapping[str, Any]) -> str:
    """The same for a notebook: with a background of its own, for the notebook's is not known."""
    return page.render("fragment.html", cells=cells(landscapes, found))


def cells(landscapes: Sequence[Landscape], found: Mapping[str, Any]) -> list[SweepCell]:
    """What the templates show."""
    from replicate.report.figures.landscape import landscape

    drawn = len(landscapes) <= MOST_PICTURES
    return [
        _cell(table, cell, page.svg(landscape(table)) if drawn else Markup())
        for table, cell in zip(landscapes, found["cells"], strict=True)
    ]


def _cell(table: Landscape, cell: Mapping[str, Any], picture: Markup) -> SweepCell:
    margins = {claim.quantity: claim.margin for claim in reversed(CLAIMS)}
    rows = tuple(
        ClaimRow(
            name=name,
            words=WORDS.get(name, name),
            outcome=outcome,
            letter=LETTERS[outcome],
            here=estimate_text(None if outcome == NOT_RUN else Estimate.from_json(cell[name])),
            margin=margin_text(margins[CLAIM_OF[name]]),
            reason=cell["reasons"][name],
        )
        for name, outcome in cell["verdicts"].items()
    )
    settle = [cell[name].get("settle") for name, outcome in cell["verdicts"].items() if outcome == INCONCLUSIVE]
    return SweepCell(
        named=tuple(name for name in (cell["arch"], cell["dataset"]) if name != UNNAMED),
        sentence=sentence(cell),
        rows=rows,
        flags=", ".join(cell["flags"]),
        settle=tuple(dict.fromkeys(text for text in settle if text)),
        differ=tuple(cell.get("beside", {}).get("where they differ", {}).items()),
        runs=len(table.frame),
        picture=picture,
    )
