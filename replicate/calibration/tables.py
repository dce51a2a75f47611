"""Tables of the calibration's results as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace
from statistics import median

from replicate.calibration.experiments import FamilyRate
from replicate.calibration.measured import CellRow, Measured
from replicate.calibration.trained_rates import TrainedRow
from replicate.calibration.trained_studies import KNOWN

POWER = "power"
POWER_OF_GAP = "power of the gap"

INTRODUCTION = """\
Landscapes with known truth, judged as `replicate judge` judges a sweep: cells of trained landscapes, and simulated ones
drawn by `replicate.landscape.synthetic`; and simulated experiments of ten cells, judged as `pytest claims/` judges the
paper's. Made by

    {command}

which also writes the numbers to `calibration.json` beside it.

*Wrong*: replicated although the truth lies outside the margin by more than a tenth of its width, or contradicted
although the truth lies inside. If there is no true value, such as the best weight decay of a flat landscape, every
decisive verdict is wrong. If a wide range of weight decays is best (`plateau`, `mesa`, `tolerance`), `replicated` is
wrong if any law that passes through the range lies outside, `contradicted` if any lies inside. A ratio also counts as
outside if the ratio at any of the learning rates over which it is averaged does. [evidence.md](evidence.md) explains
these figures, and where coverage differs from the nominal level.
"""

CELL_HEADER = ("study", "seeds", "quantity", "truth", "replicated", "contradicted", "inconclusive", "wrong", "covers")
TRAINED = """\
Small models on a few hundred images, many with wrong labels (`replicate.calibration.trained`), {cells} cells per row. A
cell has some of the seeds and every k-th weight decay; each learning rate's weight decays are multiplied such that the
optimum of all seeds together lies on the law. *Oracle*: the width of an interval if the shape of the curve, a quartic
around the peak, were known, at the learning rates at which decay helps. Widths of a ratio are in ln. A learning rate at
which decay helps is left out of all cells if the standard error of its optimum, from all seeds together, is above
{known:g} in ln. The constants of `rise_and_fall.py` were set from the perceptrons; no rule was set from another family.
"""
TRAINED_HEADER = (
    *("law", "seeds", "factor", "quantity", "replicated", "contradicted", "inconclusive", "wrong"),
    *("covers", "width", "oracle"),
)
EXPERIMENT_HEADER = (
    *("quantity", "claims", "seeds", "replicated", "contradicted", "inconclusive", "wrong", "any wrong"),
    *("covers", "all cover"),
)


def markdown(measured: Measured) -> str:
    """All tables: summary, power, whole experiments, studies by group."""
    out = ["# Calibration", "", INTRODUCTION.format(command=_commands(measured)).rstrip()]
    if measured.trained:
        out += ["", "## Trained landscapes", "", TRAINED.format(cells=measured.trained[0].cells, known=KNOWN).rstrip()]
        for name in dict.fromkeys(row.landscape for row in measured.trained):
            of_landscape = [row for row in measured.trained if row.landscape == name]
            out += ["", f"### {name}", "", *_table(TRAINED_HEADER, map(_trained_row, of_landscape))]
    if measured.cells:
        out += ["", "## Summary", "", _counted({row.landscapes for row in measured.cells}, "landscapes per study"), ""]
        out += _summary(measured.cells)
        out += _power(measured.cells)
    if measured.experiments:
        counted = _counted({row.outcomes for row in measured.experiments}, "outcomes each")
        out += ["", "## Whole experiments", "", counted + " *Any"]
        out[-1] += " wrong* and *all cover*: shares of outcomes, over all claims of the quantity together."
        for name in dict.fromkeys(row.experiment for row in measured.experiments):
            of_name = [row for row in measured.experiments if row.experiment == name]
            out += [
                "",
                f"### {name[:1].upper()}{name[1:]}",
                "",
                *_table(EXPERIMENT_HEADER, map(_experiment_row, of_name)),
            ]
    for group in dict.fromkeys(row.group for row in measured.cells):
        rows = [row for row in measured.cells if row.group == group]
        out += ["", f"## {group[:1].upper()}{group[1:]}", "", *_table(CELL_HEADER, map(_cell_row, rows))]
    return "\n".join(out) + "\n"


def _commands(measured: Measured) -> str:
    """The command that makes `measured`; two commands if trained and simulated landscapes differ in number."""
    if measured.cells and measured.trained and measured.cells[0].landscapes != measured.trained[0].cells:
        return f"{_command(replace(measured, trained=()))}\n    {_command(Measured(trained=measured.trained))}"
    return _command(measured)


def _command(measured: Measured) -> str:
    words = ["replicate calibrate"]
    parts = {"trained": measured.trained, "cells": measured.cells, "experiments": measured.experiments}
    if not all(parts.values()):
        words += [f"--part {name}" for name, rows in parts.items() if rows]
    if measured.cells or measured.trained:
        words.append(f"--landscapes {measured.cells[0].landscapes if measured.cells else measured.trained[0].cells}")
    if measured.experiments:
        words.append(f"--outcomes {measured.experiments[0].outcomes}")
    return " ".join([*words, "--out docs/calibration.md"])


def _counted(counts: Set[int], words: str) -> str:
    return f"{' to '.join(dict.fromkeys((str(min(counts)), str(max(counts)))))} {words}."


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(header), "|" + "---|" * len(header), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _summary(rows: Sequence[CellRow]) -> list[str]:
    """One line per quantity: largest share of wrong verdicts over all studies, coverage by number of seeds."""
    counts = sorted({row.seeds for row in rows} & {1, 3, 5, 10})
    header = ["quantity", "rows", "largest wrong", *(f"covers at {n} seeds: least, median" for n in counts)]
    lines = []
    for quantity in dict.fromkeys(row.quantity for row in rows):
        of_one = [row for row in rows if row.quantity == quantity]
        line = [quantity, str(len(of_one)), _percent(max(row.wrong for row in of_one))]
        for n in counts:
            held = [row.coverage for row in of_one if row.seeds == n and row.coverage is not None]
            line.append(f"{_percent(min(held))}, {_percent(median(held))}" if held else "—")
        lines.append(line)
    return _table(header, lines)


def _power(rows: Sequence[CellRow]) -> list[str]:
    """Share of correct decisive verdicts by number of seeds, one line per truth, spacing and quantity."""
    out: list[str] = []
    of_power = [row for row in rows if row.group == POWER]
    if of_power:
        out += ["", "## Power: correct decisive verdicts at Table 2's drops, SD 0.3 pp", ""]
        out += ["Grid: seven weight decays around the optimum, spaced by the given factor.", ""]

        def name(row: CellRow) -> tuple[str, ...]:
            return f"{row.slope:g}", f"{row.factor:g}", row.quantity

        out += _by_seeds(("b", "factor", "quantity"), of_power, name, _right)
    of_gap = [row for row in rows if row.group == POWER_OF_GAP and row.quantity == "gap_pp"]
    if of_gap:
        out += ["", "## Power: a gap of 0 replicated", ""]
        out += _by_seeds(("quantity",), of_gap, lambda row: (row.quantity,), lambda row: row.replicated)
    return out


def _right(row: CellRow) -> float:
    """Share of correct verdicts: `replicated` if the true slope is 1, as claimed, otherwise `contradicted`."""
    return row.replicated if row.slope == 1 else row.contradicted


def _by_seeds(
    header: Sequence[str],
    rows: Sequence[CellRow],
    name: Callable[[CellRow], tuple[str, ...]],
    value: Callable[[CellRow], float],
) -> list[str]:
    counts = sorted({row.seeds for row in rows})
    found = {(name(row), row.seeds): value(row) for row in rows}
    lines = [
        [*one, *(_percent(found[one, n]) if (one, n) in found else "—" for n in counts)]
        for one in dict.fromkeys(name(row) for row in rows)
    ]
    return _table([*header, *(f"{n} seed{'s' if n > 1 else ''}" for n in counts)], lines)


def _verdicts(row: CellRow | FamilyRate | TrainedRow) -> list[str]:
    return [_percent(share) for share in (row.replicated, row.contradicted, row.inconclusive, row.wrong)]


def _trained_row(row: TrainedRow) -> list[str]:
    width = "open" if row.width is None else f"{row.width:.2f}"
    where = [row.law, str(row.seeds), f"{row.factor:.1f}", row.quantity]
    return [*where, *_verdicts(row), _percent(row.coverage), width, f"{row.oracle_width:.2f}"]


def _cell_row(row: CellRow) -> list[str]:
    truth = "none" if row.truth is None else f"{row.truth:.3g}"
    return [row.study, str(row.seeds), row.quantity, truth, *_verdicts(row), _percent(row.coverage)]


def _experiment_row(row: FamilyRate) -> list[str]:
    shares = (_percent(share) for share in (row.any_wrong, row.coverage, row.all_covered))
    return [row.quantity, str(row.claims), str(row.seeds), *_verdicts(row), *shares]


def _percent(x: float | None) -> str:
    return "—" if x is None else f"{100 * x:.1f} %"
