"""Flags that qualify an estimate, and which of them rule out the verdict `replicated`."""

from __future__ import annotations

from collections.abc import Iterable

from replicate.text import Word


class Flag(Word):
    """A qualification of an estimate; files contain the value, e.g. `edge-low`."""

    meaning: str
    """What the flag means, for people."""
    forbids: str
    """Why this flag rules out `replicated` even if the interval lies inside the margin; empty if it does not."""

    PLATEAU = "plateau", "at some learning rate no weight decay can be told from the best"
    EDGE_LOW = "edge-low", "the optimum of some learning rate may lie below all weight decays that were run"
    EDGE_HIGH = "edge-high", "the optimum of some learning rate may lie above all weight decays that were run"
    DIVERGED = "diverged", "some runs ended without a finite loss"
    CEILING = "ceiling", "the best accuracy of some learning rate is above 99.5 %"
    CHANCE = "chance", "the best accuracy of some learning rate is below twice that of guessing"
    TWO_PEAKS = (
        "two-peaks",
        "at some learning rate a mean score is significantly below one at a smaller and one at a larger weight decay",
    )
    ONE_SEED = "one-seed", "there is only one seed, so the noise between seeds is unknown"
    ONE_ARCHITECTURE = "one-architecture", "there is only one architecture, so the spread between them is unknown"
    MISFIT = "misfit", "no line fits the optima (p < 0.01); intervals are widened accordingly"
    FEW_OPTIMA = (
        "few-optima",
        "fewer than three learning rates have an optimum bounded on both sides",
        "too few learning rates have an optimum that is bounded on both sides",
    )
    RATIO_VARIES = (
        "ratio-varies",
        "the slope's interval lies outside [0.8, 1.2], so no single ratio describes all learning rates",
        "the ratio changes with the learning rate, so no single number describes it",
    )
    RATIO_MAY_VARY = (
        "ratio-may-vary",
        "with the likeliest slope, the ratio at some learning rate is more than a factor 1.5 from its mean",
        "with the likeliest slope, the ratio at some learning rate is more than a factor 1.5 from its mean",
    )
    RATIO_OFF = (
        "ratio-off",
        "the ratio at some learning rate seems to lie outside the margin",
        "the ratio at some learning rate seems to lie outside the margin",
    )
    LAW_BREAKS = (
        "law-breaks",
        "no line fits, and some optimum is significantly more than a factor 1.5 away from the best line",
        "the best weight decay at some learning rate is off the law that fits the other learning rates",
    )
    SIDES_DIFFER = (
        "sides-differ",
        "the exponents of two sides of κ = 1, or of two data sets, differ significantly by more than 0.5",
        "the exponents of two sides or data sets differ, so no single number describes them",
    )
    ZONE_OFF = (
        "zone-off",
        "at a factor 2 the loss is significantly larger than at a factor 5, or significantly negative",
        "at a factor 2 the loss is larger than at a factor 5, or negative, which no such law allows",
    )
    NO_STRAIGHT_LINE = (
        "no-straight-line",
        "no straight line fits: the intercept is that of the nearest straight line",
        "no straight line fits, so the intercept is only that of the nearest one",
    )
    INERT = (
        "inert",
        "where accuracy is best, none of the compared weight decays shrinks the weights by 2 % over training",
    )
    OPEN_CELLS = "open-cells", "some cell's ratio is not bounded on one side"
    NO_PAIRS = "no-pairs", "runs that the comparison needs in pairs are missing"
    NO_DROP = "no-drop", "the drops cannot be told from 0"
    EQUAL = "equal", "all runs that could be compared have the same score"
    TOO_FEW_POINTS = "too-few-points", "no learning rate has three weight decays"

    def __new__(cls, word: str, meaning: str, forbids: str = "") -> Flag:
        made = str.__new__(cls, word)
        made._value_ = word
        made.meaning, made.forbids = meaning, forbids
        return made


def forbidding(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """The `flags` that rule out the verdict `replicated`, each once, in the order of `Flag`."""
    found = {flag for flag in flags if flag.forbids}
    return tuple(flag for flag in Flag if flag in found)
