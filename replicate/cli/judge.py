"""`replicate judge`: the paper's claims on anybody's sweep."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from replicate.cli.output import check_folder, columns, note, print_json, write_file
from replicate.judging.sweep_verdicts import JudgedCell, judge_sweep
from replicate.judging.verdict import CONTRADICTED
from replicate.report import answer
from replicate.report.answer import title
from replicate.sweeps.columns import parse_columns
from replicate.sweeps.numbers import number
from replicate.sweeps.settings import Parted, parse_names, parse_where
from replicate.sweeps.source import read_table
from replicate.sweeps.sweep import Sweep, read_sweep, require_grids
from replicate.text import UsageError, printable

WIDTH = 110


def run(options: argparse.Namespace) -> int:
    for option, path in (("--html", options.html), ("--picture", options.picture)):
        if path and options.sweep != "-" and Path(path).resolve() == Path(options.sweep).resolve():
            raise UsageError(f"{option} {path}: expected another file than the sweep itself; name a new one")
        check_folder(option, path)
    sweep = read(options)
    require_grids(_source(options.sweep), sweep.landscapes)
    for text in sweep.notes:
        note(text)
    found = judge_sweep(sweep.landscapes, learning_rates(options.at))
    if options.html:
        write_file("--html", options.html, _page(options.sweep, sweep, found))
        note(f"written: {options.html}")
    if options.picture:
        write_file("--picture", options.picture, _picture(sweep))
        note(f"written: {options.picture}")
    if options.json:
        print_json({"cells": [cell.to_json() for cell in found]})
    else:
        print("\n\n".join(_text(cell, explained=i == 0) for i, cell in enumerate(found)))
    return int(any(CONTRADICTED in cell.outcomes.values() for cell in found))


def learning_rates(arguments: Sequence[str]) -> tuple[float, ...]:
    """The learning rates of arguments such as `3e-4,1e-3`."""
    found = []
    for text in (text.strip() for argument in arguments for text in argument.split(",")):
        value = number(text)
        if value is None or not 0 < value.value < math.inf:
            raise UsageError(f"--at: expected learning rates above 0, e.g. 3e-4,1e-3, got {text!r}")
        found.append(value.value)
    return tuple(found)


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


def _text(cell: JudgedCell, *, explained: bool) -> str:
    """One cell: the answer, then the verdicts; `explained`: with what the columns are."""
    lines = [title(cell), "", columns(answer.heads(cell), answer.table(cell))]
    lines += _wrapped(answer.caption(cell)) if explained else []
    lines += ["", *_wrapped(answer.paragraph(cell)), "", "The paper's claims on this sweep:"]
    rows = [(v.name, v.words, v.outcome, v.here, v.margin) for v in answer.verdicts(cell)]
    lines.append(columns(("claim", "says", "verdict", "here [95 %]", "margin"), rows))
    for text in answer.remarks(cell):
        lines += _wrapped(text)
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(printable(text), WIDTH, subsequent_indent="  ")
