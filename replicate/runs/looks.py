"""Interim looks: after how many seeds a claim is judged before all its runs are stored, and at which confidence level.

A *provisional* verdict uses the seeds whose runs are all stored. With `--until settled` a claim is judged after its
first seeds at the level 99 %; a decisive verdict is final, otherwise the claim is judged again after all seeds at 96 %.
The error rates, 1 % and 4 %, add up to the 5 % of a single look (Bonferroni, valid however the looks are correlated).
"""

from __future__ import annotations

from collections.abc import Mapping

from replicate.paper.claim import Claim
from replicate.runs.needed import STAGE_SEEDS, Key, first_seeds, first_seeds_of
from replicate.runs.scales import Scale

FIRST_SEEDS = 2
"""Number of seeds after which `--until settled` judges a claim first: a single seed would not show the noise."""
FIRST_LEVEL, LAST_LEVEL = 0.99, 0.96


def first_look(claim: Claim, scale: Scale) -> dict[Key, tuple[int, ...]]:
    """(Cell, variant) → the seeds after which `claim` is judged first; empty if it is judged only once.

    A claim is judged once if it needs no training, or if one of its cells has too few seeds for a provisional verdict.
    """
    first = first_seeds_of(claim, scale, FIRST_SEEDS)
    return first if all(provisional(scale, where) for where in first) else {}


def why_once(scale: Scale) -> str:
    """Why `--until settled` judges no claim twice at `scale`, in one line; empty if it judges some claim twice."""
    most = max(len(scale.protocol(dataset).seeds) for dataset, _ in scale.data)
    if most > STAGE_SEEDS:
        return ""
    return (
        f"--until settled changes nothing at scale {scale.name}: "
        f"it needs more than {STAGE_SEEDS} seeds per cell, and this scale has {most}"
    )


def provisional(scale: Scale, where: Key) -> tuple[int, ...]:
    """The seeds of a cell that suffice for a provisional verdict; empty if the cell has no seeds beyond these."""
    first = first_seeds(scale, where[0])
    return first if len(first) < len(scale.protocol(where[0].dataset).seeds) else ()


def enough(scale: Scale, complete: Mapping[Key, tuple[int, ...]]) -> bool:
    """Whether the seeds whose runs are all stored, `complete`, suffice in every cell for a provisional verdict."""
    return bool(complete) and all(
        (least := provisional(scale, where)) and len(seeds) >= len(least) for where, seeds in complete.items()
    )
