"""Looks: after how many seeds of each cell a claim is judged before all are there, and at which level.

A *provisional* verdict is what the seeds say that are there. A claim that is trained until it is settled has two
looks: a strict one at its first seeds, which ends it where it is decisive, and the last at all of them. The two
together are wrong no more often than the one look of 95 %: 1 % and 4 % (Bonferroni, however the looks depend on each
other).
"""

from __future__ import annotations

from collections.abc import Mapping

from replicate.paper.claim import Claim
from replicate.runs.needed import STAGE_SEEDS, Key, first_seeds, first_seeds_of
from replicate.runs.scales import Scale

FIRST_SEEDS = 2
"""At the first look of `--until settled`: one seed has no noise of its own to know."""
FIRST_LEVEL, LAST_LEVEL = 0.99, 0.96


def first_look(claim: Claim, scale: Scale) -> dict[Key, tuple[int, ...]]:
    """The seeds of each cell and variant at the first look; empty where `claim` is judged once.

    It is where nothing is trained for it, and where a cell has so few seeds that none has a provisional verdict.
    """
    first = first_seeds_of(claim, scale, FIRST_SEEDS)
    return first if all(provisional(scale, where) for where in first) else {}


def why_once(scale: Scale) -> str:
    """Why no claim has two looks at `scale`, in a line; empty where some have."""
    most = max(len(scale.protocol(dataset).seeds) for dataset, _ in scale.data)
    if most > STAGE_SEEDS:
        return ""
    return (
        f"--until settled changes nothing at scale {scale.name}: "
        f"two looks take more than {STAGE_SEEDS} seeds of each cell, it has {most}"
    )


def provisional(scale: Scale, where: Key) -> tuple[int, ...]:
    """The seeds of a cell that suffice for a provisional verdict; empty where it has no more than these anyway."""
    first = first_seeds(scale, where[0])
    return first if len(first) < len(scale.protocol(where[0].dataset).seeds) else ()


def enough(scale: Scale, complete: Mapping[Key, tuple[int, ...]]) -> bool:
    """Whether the seeds that are `complete` in each cell and variant suffice for a provisional verdict."""
    return bool(complete) and all(
        (least := provisional(scale, where)) and len(seeds) >= len(least) for where, seeds in complete.items()
    )
