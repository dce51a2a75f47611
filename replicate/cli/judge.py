"""`replicate judge`: the paper's claims on anybody's sweep."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from replicate.cli.output import check_folder, columns, note, print_json, write_file
from replicate.estimate.estimate import Estimate
from replicate.judging.sweep_verdicts import JudgedCell, judge_sweep
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN
from replicate.report.wording import sentence
from replicate.sweeps.columns import parse_columns
from replicate.sweeps.settings import Parted, parse_names, parse_where
from replicate.sweeps.source import read_table
from replicate.sweeps.sweep import Sweep, read_sweep, require_grids
from replicate.text import UsageError, interval, one_line, printable


def run(options: argparse.Namespace) -> int:
    for option, path in (("--html", options.html), ("--picture", options.picture)):
        if path and options.sweep != "-" and Path(path).resolve() == Path(options.sweep).resolve():
            raise UsageError(f"{option} {path}: expected another file than the sweep itself; name a new one")
        check_folder(option, path)
    sweep = read(options)
    require_grids(_source(options.sweep), sweep.landscapes)
    for text in sweep.notes:
        note(text)
    found = judge_sweep(sweep.landscapes)
    if options.html:
        write_file("--html", options.html, _page(options.sweep, sweep, found))
        note(f"written: {options.html}")
    if options.picture:
        write_file("--picture", options.picture, _picture(sweep))
        note(f"written: {options.picture}")
    if options.json:
        print_json({"cells": [cell.to_json() for cell in found]})
    else:
        print("\n\n".join(_text(cell) for cell in found))
    return int(any(CONTRADICTED in cell.outcomes.values() for cell in found))


def read(options: argparse.Namespace) -> Sweep:
    """The sweep that the options name, read as they say."""
    return read_sweep(
        read_table(options.sweep),
        options.metric,
        parse_columns(options.columns),
        parted=Parted(parse_where(options.where), parse_names(options.by), parse_names(options.ignore)),
        take=options.take,
        noise_sd=options.noise,
    )


def _page(path: str, sweep: Sweep, found: Sequence[JudgedCell]) -> str:
    """The page on the sweep read from `path`, with the landscapes' pictures."""
    from replicate.report import sweep_page  # not at the top: templates and pictures take a second to load

    source = _source(path if path == "-" else Path(path).name)
    return sweep_page.render(sweep.landscapes, found, source, sweep.notes)


def _source(path: str) -> str:
    return "standard input" if path == "-" else path


def _picture(sweep: Sweep) -> str:
    from replicate.report.figures.document import document  # as above
    from replicate.report.figures.landscape import landscape

    return document([(f"{one.arch} on {one.dataset}", landscape(one)) for one in sweep.landscapes])


def _text(cell: JudgedCell) -> str:
    """One cell: a sentence, then a line for each claim."""
    rows = [
        (name, outcome, "-" if outcome == NOT_RUN else _estimate(cell.measured[name]), cell.verdicts[name].reason)
        for name, outcome in cell.outcomes.items()
    ]
    lines = [f"{printable(cell.arch)} on {printable(cell.dataset)}: {sentence(cell)}."]
    if cell.flags:
        lines.append(f"flags: {', '.join(cell.flags)}")
    lines.append(columns(("claim", "verdict", "estimate", "why"), rows))
    settle: dict[str, list[str]] = {}
    for name, outcome in cell.outcomes.items():
        if outcome == INCONCLUSIVE:
            settle.setdefault(cell.settle(name), []).append(name)
    lines += [f"to settle {', '.join(names)}: {one_line(text)}" for text, names in settle.items() if text]
    lines += [f"beside {name}: {word}" for name, word in cell.disagreements.items()]
    return "\n".join(lines)


def _estimate(found: Estimate) -> str:
    return f"{'?' if found.value is None else f'{found.value:.3g}'} {interval(found.low, found.high)}"
