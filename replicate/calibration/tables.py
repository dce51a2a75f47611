"""Tables of the calibration: rates to Markdown and to JSON rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from replicate.calibration.rates import Rate

HEADER = (
    "| study | seeds | quantity | truth | replicated | contradicted | inconclusive | wrong | interval holds truth |"
)


def error(rate: Rate) -> float:
    """Share of wrong decisive verdicts: every decisive one where the truth has no value."""
    return rate.decisive if math.isnan(rate.wrong) else rate.wrong


def worst(found: Iterable[Rate]) -> float:
    """The largest share of wrong decisive verdicts."""
    return max((error(rate) for rate in found), default=0.0)


def rows(found: Iterable[Rate]) -> list[dict[str, Any]]:
    """One JSON object a rate; NaN and infinity become null."""
    return [
        {
            "group": r.study.group, "study": r.study.label, "seeds": r.study.seeds, "quantity": r.quantity,
            "truth": _plain(r.truth), "landscapes": r.n, "replicated": r.replicated, "contradicted": r.contradicted,
            "inconclusive": r.inconclusive, "wrong": error(r), "coverage": _plain(r.coverage),
            "median_width": _plain(r.width),
        }
        for r in found
    ]  # fmt: skip


def _plain(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def markdown(found: Sequence[Rate], landscapes: int, thinned: bool) -> str:
    """All tables, one a group, behind a summary of errors and coverage."""
    out = ["# Calibration", ""]
    out += [
        f"{landscapes} landscapes a study, drawn by `replicate.synthetic` and judged as `replicate judge` judges "
        "a sweep. Made by:",
        "",
        f"    replicate calibrate --landscapes {landscapes} --out docs/calibration.md"
        + (" --studies N (a part of the studies)" if thinned else ""),
        "",
        "*Wrong*: replicated although the truth lies outside the margin by more than a tenth of it, or contradicted "
        "although it lies inside; on a flat landscape, which has no best weight decay, every decisive verdict on it.",
        "",
        "## Summary",
        "",
        "| quantity | studies | largest wrong | smallest coverage | median coverage |",
        "|---|---|---|---|---|",
    ]
    for quantity in dict.fromkeys(r.quantity for r in found):
        of_one = [r for r in found if r.quantity == quantity]
        held = sorted(r.coverage for r in of_one if not math.isnan(r.coverage))
        coverage = f"{_percent(held[0])} | {_percent(held[len(held) // 2])}" if held else "— | —"
        out.append(f"| {quantity} | {len(of_one)} | {_percent(worst(of_one))} | {coverage} |")
    for group in dict.fromkeys(r.study.group for r in found):
        out += ["", f"## {group[0].upper()}{group[1:]}", "", HEADER, "|" + "---|" * 9]
        out += [_row(r) for r in found if r.study.group == group]
    return "\n".join(out) + "\n"


def _row(r: Rate) -> str:
    truth = "none" if math.isnan(r.truth) else f"{r.truth:.3g}"
    held = "—" if math.isnan(r.coverage) else _percent(r.coverage)
    shares = " | ".join(_percent(x) for x in (r.replicated, r.contradicted, r.inconclusive, error(r)))
    return f"| {r.study.label} | {r.study.seeds} | {r.quantity} | {truth} | {shares} | {held} |"


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %"
