"""Forest plots from verdicts: the ratio, the slope beside the rival laws' exponents, the cost of tuning lr alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from replicate.judging.verdict_file import Entry
from replicate.paper.claim import Figure
from replicate.report.figures.intervals import Row, Scale, intervals
from replicate.report.wording import outcome_text


def forest(entries: Sequence[Entry], scale: Scale, title: str, name: Callable[[Entry], str]) -> str:
    """The picture of the judged `entries` as SVG; empty if there are none. `name`: entry → name of its row."""
    rows = [row(e, name(e)) for e in entries if e.verdict.estimate is not None]
    return intervals(rows, scale, title) if rows else ""


def row(e: Entry, name: str) -> Row:
    """One claim as a line of the plot."""
    estimate = e.verdict.estimate
    assert estimate is not None
    return Row(name, estimate.value, estimate.low, estimate.high, outcome_text(e), _paper(e.figure))


def _paper(figure: Figure | None) -> tuple[float, float, float] | None:
    """The paper's value and interval, if it gives both in the unit of the quantity."""
    if figure is None or figure.low is None or figure.high is None or figure.unit not in ("", "pp"):
        return None
    return figure.value, figure.low, figure.high


def ratio(entries: Sequence[Entry], name: Callable[[Entry], str]) -> str:
    """The ratio of the best weight decay to the learning rate, by cell."""
    scale = _ratio_scale("ρ: best weight decay over learning rate", entries, "0.10")
    return forest(entries, scale, "Ratio of the best weight decay to the learning rate, by cell.", name)


def slope(entries: Sequence[Entry], name: Callable[[Entry], str]) -> str:
    """The slope of the best weight decay on the learning rate, with the exponents of the rival hypotheses."""
    marks = ((1.0, "+1 claimed", "claimed"), (0.0, "0 constant", "constant"), (-1.0, "−1 timescale", "inverse"))
    title = "b: log-log slope of the best weight decay"
    scale = Scale(title, _band(entries), marks=marks, furthest=(-2.5, 2.5))
    return forest(entries, scale, "Log-log slope of the best weight decay on the learning rate, by cell.", name)


def gap(entries: Sequence[Entry], name: Callable[[Entry], str]) -> str:
    """What tuning the learning rate alone costs, by cell."""
    title = "accuracy lost by tuning along λ = 0.1η alone, pp"
    scale = Scale(title, _band(entries), marks=((0.0, "no loss", "muted"),))
    return forest(entries, scale, "Accuracy lost by tuning the learning rate alone, by cell.", name)


def sgd(entries: Sequence[Entry], name: Callable[[Entry], str]) -> str:
    """The ratio under SGD, by cell."""
    scale = _ratio_scale("ρ under SGD", entries, "0.005")
    return forest(entries, scale, "Ratio of the best weight decay to the learning rate under SGD, by cell.", name)


def _ratio_scale(title: str, entries: Sequence[Entry], claimed: str) -> Scale:
    marks = ((float(claimed), f"{claimed} claimed", "claimed"),)
    return Scale(title, _band(entries), log=True, marks=marks, furthest=(1e-6, 1e6))


def _band(entries: Sequence[Entry]) -> tuple[float, float]:
    margin = entries[0].verdict.margin
    return margin.low, margin.high
