"""`replicate judge`: the paper's claims on anybody's sweep."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replicate.cli.output import check_folder, columns, note, print_json
from replicate.judging import sweep_verdicts
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN
from replicate.landscape.columns import parse_columns
from replicate.landscape.from_csv import Sweep, read_sweep
from replicate.landscape.table import read_table
from replicate.report.wording import sentence
from replicate.text import UsageError, one_line, printable


def run(options: argparse.Namespace) -> int:
    for option, path in (("--html", options.html), ("--picture", options.picture)):
        if path and options.sweep != "-" and Path(path).resolve() == Path(options.sweep).resolve():
            raise UsageError(f"{option} {path}: expected another file than the sweep itself; name a new one")
        check_folder(option, path)
    sweep = read_sweep(read_table(options.sweep), options.metric, parse_columns(options.columns))
    for text in sweep.notes:
        note(text)
    found = sweep_verdicts.judge_sweep(list(sweep.landscapes))
    if options.html:
        _write_page(options, sweep, found)
    if options.picture:
        _write_picture(options.picture, sweep)
    if options.json:
        print_json(found)
    else:
        print("\n\n".join(_text(cell) for cell in found["cells"]))
    return int(any(CONTRADICTED in cell["verdicts"].values() for cell in found["cells"]))


def _write_page(options: argparse.Namespace, sweep: Sweep, found: Mapping[str, Any]) -> None:
    """The page, with the landscapes' pictures."""
    from replicate.report import sweep_page  # not at the top: templates and pictures take a second to load

    source = "standard input" if options.sweep == "-" else Path(options.sweep).name
    _write("--html", options.html, sweep_page.render(sweep.landscapes, found, source, sweep.notes))


def _write_picture(path: str, sweep: Sweep) -> None:
    from replicate.report.figures.document import document  # as above
    from replicate.report.figures.landscape import landscape

    _write("--picture", path, document([(f"{one.arch} on {one.dataset}", landscape(one)) for one in sweep.landscapes]))


def _write(option: str, path: str, text: str) -> None:
    from replicate.store.atomic import write_text

    try:
        write_text(Path(path), text)
    except OSError as error:
        raise UsageError(f"{option} {path}: expected a file that can be written, got: {error.strerror}") from None
    note(f"written: {path}")


def _text(cell: Mapping[str, Any]) -> str:
    """One cell: a sentence, then a line for each claim."""
    reasons = cell.get("reasons", {})
    rows = []
    for name, outcome in cell["verdicts"].items():
        estimate = cell.get(name) or {}
        rows.append((name, outcome, "-" if outcome == NOT_RUN else _estimate(estimate), reasons.get(name, "")))
    lines = [f"{printable(cell['arch'])} on {printable(cell['dataset'])}: {sentence(cell)}."]
    if cell.get("flags"):
        lines.append(f"flags: {', '.join(cell['flags'])}")
    lines.append(columns(("claim", "verdict", "estimate", "why"), rows))
    unsettled = [name for name, outcome in cell["verdicts"].items() if outcome == INCONCLUSIVE]
    settle: dict[str, list[str]] = {}
    for name in unsettled:
        settle.setdefault((cell.get(name) or {}).get("settle") or "", []).append(name)
    lines += [f"to settle {', '.join(names)}: {one_line(text)}" for text, names in settle.items() if text]
    differ = cell.get("beside", {}).get("where they differ", {})
    lines += [f"beside {name}: {word}" for name, word in differ.items()]
    return "\n".join(lines)


def _estimate(estimate: Mapping[str, Any]) -> str:
    value, low, high = (estimate.get(name) for name in ("value", "low", "high"))
    ends = [f"{x:.3g}" if x is not None else "…" for x in (low, high)]
    return f"{'?' if value is None else f'{value:.3g}'} [{ends[0]}, {ends[1]}]"
