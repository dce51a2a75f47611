"""What a reader must know about an estimate, in one word each, and which of it keeps a claim from being replicated."""

from __future__ import annotations

from collections.abc import Iterable

from replicate.text import Word


class Flag(Word):
    """A word that stands beside an estimate. In files it is its text, such as `edge-low`."""

    meaning: str
    """What it says, for people."""
    forbids: str
    """Why nothing that carries it is replicated, although its interval may lie inside the margin; empty: it may be."""

    PLATEAU = "plateau", "at some learning rate no weight decay can be told from the best"
    EDGE_LOW = "edge-low", "the optimum of some learning rate may lie below all that was run"
    EDGE_HIGH = "edge-high", "the optimum of some learning rate may lie above all that was run"
    DIVERGED = "diverged", "some runs ended without a finite loss"
    CEILING = "ceiling", "the best accuracy of some learning rate is above 99.5 %"
    CHANCE = "chance", "the best accuracy of some learning rate is below twice that of guessing"
    TWO_PEAKS = "two-peaks", "at some learning rate a mean lies surely below one on its left and one on its right"
    ONE_SEED = "one-seed", "there is one seed only, so nothing tells how much seeds differ"
    ONE_ARCHITECTURE = "one-architecture", "there is one architecture only, so nothing tells how much they differ"
    MISFIT = "misfit", "no line fits the optima (p < 0.01); intervals are widened by as much"
    FEW_OPTIMA = (
        "few-optima",
        "fewer than three learning rates have an optimum closed on both sides",
        "too few learning rates have an optimum that is closed on both sides",
    )
    RATIO_VARIES = (
        "ratio-varies",
        "the slope's interval lies outside [0.8, 1.2], so no one ratio is it",
        "the ratio changes with the learning rate, so no one number is it",
    )
    RATIO_MAY_VARY = (
        "ratio-may-vary",
        "the likeliest slope takes the ratio more than a factor 1.5 from its mean",
        "the likeliest slope takes the ratio more than a factor 1.5 from its mean at some learning rate",
    )
    RATIO_OFF = (
        "ratio-off",
        "the ratio at some learning rate may well lie outside the margin",
        "the ratio at some learning rate may well lie outside the margin",
    )
    LAW_BREAKS = (
        "law-breaks",
        "a misfit, and some optimum lies surely more than a factor 1.5 off the law",
        "the best weight decay at some learning rate is off the law that fits the others",
    )
    SIDES_DIFFER = (
        "sides-differ",
        "the exponents of two sides of κ = 1, or of two data sets, are surely more than 0.5 apart",
        "the exponents of two sides or data sets differ, so no one number is it",
    )
    ZONE_OFF = (
        "zone-off",
        "a factor 2 surely costs more than a factor 5, or less than nothing",
        "a factor 2 costs more than a factor 5, or less than nothing, as no such law has it",
    )
    NO_STRAIGHT_LINE = (
        "no-straight-line",
        "no straight line fits: the intercept is that of the nearest one",
        "no straight line fits, so the intercept is that of the nearest one only",
    )
    INERT = (
        "inert",
        "where accuracy is best, none of the weight decays compared takes 2 % of the weights away over a training",
    )
    OPEN_CELLS = "open-cells", "some cell's ratio has no bound on one side"
    NO_PAIRS = "no-pairs", "runs that the comparison takes in pairs are missing"
    NO_DROP = "no-drop", "the drops cannot be told from 0"
    EQUAL = "equal", "all runs that could be compared have the same score, so nothing can be told"
    TOO_FEW_POINTS = "too-few-points", "no learning rate has three weight decays"

    def __new__(cls, word: str, meaning: str, forbids: str = "") -> Flag:
        made = str.__new__(cls, word)
        made._value_ = word
        made.meaning, made.forbids = meaning, forbids
        return made


def forbidding(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Those of `flags` that keep a claim from being replicated, each once, in the order of `Flag`."""
    found = {flag for flag in flags if flag.forbids}
    return tuple(flag for flag in Flag if flag in found)
