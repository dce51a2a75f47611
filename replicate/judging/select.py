"""Selects the landscapes (scores by learning rate and weight decay) that a claim is about; no other module does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replicate.landscape.landscape import Landscape
from replicate.paper.cells import Cell
from replicate.paper.claim import Claim

Landscapes = Mapping[tuple[Cell, str], Landscape]
"""(paper's cell, variant) → scores of its runs; variant `main` is the paper's protocol, `sgd` the other optimiser."""


@dataclass(frozen=True)
class Chosen:
    """A landscape, with the paper's cell (model on a data set) and the variant that it stands for."""

    cell: Cell
    variant: str
    landscape: Landscape


Selected = Sequence[Chosen]
"""The landscapes on which a claim is judged: those of its cells that were run, in the claim's order."""


def select(claim: Claim, landscapes: Landscapes) -> Selected:
    """The landscapes of `claim` among `landscapes`."""
    places = dict.fromkeys((part.cell, part.variant) for part in claim.parts)
    ordered = sorted(places, key=lambda place: claim.cells.index(place[0]))
    return [Chosen(*place, landscapes[place]) for place in ordered if place in landscapes]


def only(selected: Selected) -> Landscape:
    """The landscape of a claim about one cell and variant; raises ValueError unless there is exactly one."""
    if len(selected) != 1:
        raise ValueError(
            f"expected the runs of one cell and variant, got {[(one.cell.id, one.variant) for one in selected]}"
        )
    return selected[0].landscape
