"""`replicate judge`: the paper's claims on anybody's sweep."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from replicate import evaluate
from replicate.cli.output import columns, note, print_json
from replicate.sweep import SweepError, parse_columns, read_sweep
from replicate.table import TableError, read_table
from replicate.verdict import CONTRADICTED, INCONCLUSIVE

UNUSABLE = (SweepError, TableError)

SENTENCES = {
    1: "the best weight decay grows in proportion to the learning rate, as the paper says",
    0: "the best weight decay does not depend on the learning rate",
    -1: "the best weight decay falls as the learning rate grows: their product stays the same",
    None: "how the best weight decay depends on the learning rate cannot be told from these runs",
}


def run(options: argparse.Namespace) -> int:
    sweep = read_sweep(read_table(options.sweep), options.metric, parse_columns(options.columns))
    for text in sweep.notes:
        note(text)
    found = evaluate.judge_sweep(list(sweep.landscapes))
    if options.json:
        print_json(found)
    else:
        print("\n\n".join(_text(cell) for cell in found["cells"]))
    return int(any(CONTRADICTED in cell["verdicts"].values() for cell in found["cells"]))


def _text(cell: Mapping[str, Any]) -> str:
    """One cell: a sentence, then a line for each claim."""
    reasons = cell.get("reasons", {})
    rows = []
    for name, outcome in cell["verdicts"].items():
        estimate = cell.get(name) or {}
        rows.append((name, outcome, _estimate(estimate), reasons.get(name, "")))
    lines = [f"{cell['arch']} on {cell['dataset']}: {SENTENCES[cell['exponent']]}."]
    if cell.get("flags"):
        lines.append(f"flags: {', '.join(cell['flags'])}")
    lines.append(columns(("claim", "verdict", "estimate", "why"), rows))
    unsettled = [name for name, outcome in cell["verdicts"].items() if outcome == INCONCLUSIVE]
    settle = dict.fromkeys((cell.get(name) or {}).get("settle") for name in unsettled)
    lines += [f"to settle: {text}" for text in settle if text]
    return "\n".join(lines)


def _estimate(estimate: Mapping[str, Any]) -> str:
    value, low, high = (estimate.get(name) for name in ("value", "low", "high"))
    ends = [f"{x:.3g}" if x is not None else "…" for x in (low, high)]
    return f"{'?' if value is None else f'{value:.3g}'} [{ends[0]}, {ends[1]}]"
