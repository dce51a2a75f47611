"""The landscapes that a claim speaks of, from those that were collected for it."""

from __future__ import annotations

from collections.abc import Mapping

from replicate.landscape.landscape import Landscape
from replicate.paper.cells import Cell
from replicate.paper.claim import Claim

Landscapes = Mapping[tuple[Cell, str], Landscape]
"""(cell of the paper, variant) → landscape; `main` is the paper's own protocol, `sgd` the other optimiser, …"""


def of_cells(claim: Claim, landscapes: Landscapes) -> list[tuple[Cell, Landscape]]:
    """(cell, landscape) of a claim over one variant, cell by cell, those that were run."""
    variants = {p.variant for p in claim.parts}
    return [(c, landscapes[c, v]) for c in claim.cells for v in variants if (c, v) in landscapes]


def only(claim: Claim, landscapes: Landscapes) -> Landscape:
    """The landscape of a claim about one cell and variant."""
    variants = {p.variant for p in claim.parts}
    if len(claim.cells) != 1 or len(variants) != 1:
        raise ValueError(f"{claim.id}: expected parts of one cell and variant, got {claim.parts}")
    return landscapes[claim.cells[0], variants.pop()]
