"""`replicate judge`: judges the paper's claims on a sweep of your own."""

from __future__ import annotations

import argparse
import csv
import io
import math
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from replicate.cli.output import check_folder, columns, note, print_json, progress, write_file
from replicate.judging.answer import MOST_NEXT, Asked
from replicate.judging.processes import in_processes
from replicate.judging.sweep_verdicts import JudgedCell, judge_sweep
from replicate.judging.verdict import CONTRADICTED
from replicate.landscape.landscape import Landscape
from replicate.report import answer
from replicate.sweeps.columns import parse_columns
from replicate.sweeps.numbers import number
from replicate.sweeps.settings import Parted, parse_names, parse_where
from replicate.sweeps.source import read_table
from replicate.sweeps.sweep import Sweep, read_sweep
from replicate.text import UsageError, printable
from replicate.train.cores import slots

WIDTH = 110
SEVERAL = 16
"""From this many cells on, judging in several processes saves more time than starting them takes."""


def run(options: argparse.Namespace) -> int:
    if (options.next or 0) > MOST_NEXT:
        raise UsageError(f"--next: expected at most {MOST_NEXT} runs, got {options.next}; ask for fewer")
    if options.next_csv and not options.next:
        raise UsageError("--next-csv: expected also --next N, the number of runs to suggest, got no --next; add it")
    for option, path in (("--html", options.html), ("--picture", options.picture), ("--next-csv", options.next_csv)):
        if path and options.sweep != "-" and Path(path).resolve() == Path(options.sweep).resolve():
            raise UsageError(f"{option} {path}: expected a file to write, got the sweep itself; name another file")
        check_folder(option, path)
    asked = Asked(learning_rates(options.at), options.next or 0)
    sweep = read(options)
    for text in sweep.notes:
        note(text)
    found = _judged(sweep.landscapes, asked)
    if options.next_csv:
        write_file("--next-csv", options.next_csv, _next_csv(found))
        note(f"written: {options.next_csv}")
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


def _judged(landscapes: Sequence[Landscape], asked: Asked) -> list[JudgedCell]:
    """Judge every landscape, on all cores if there are at least `SEVERAL`; shows progress after two seconds."""
    count = len(slots()) if len(landscapes) >= SEVERAL else 1
    report = progress("judge", "cells", quiet=2.0)
    found: list[JudgedCell] = []
    for cell in in_processes(partial(judge_one, asked=asked), landscapes, min(count, len(landscapes))):
        found.append(cell)
        report(len(found), len(landscapes))
    return found


def judge_one(landscape: Landscape, asked: Asked) -> JudgedCell:
    """Judge one landscape."""
    return judge_sweep([landscape], asked)[0]


def learning_rates(arguments: Sequence[str]) -> tuple[float, ...]:
    """The learning rates in `arguments`, e.g. `3e-4,1e-3`; raises `UsageError`."""
    found = []
    for text in (text.strip() for argument in arguments for text in argument.split(",")):
        value = number(text)
        if value is None or not 0 < value.value < math.inf:
            raise UsageError(f"--at: expected learning rates above 0, e.g. 3e-4,1e-3, got {text!r}")
        found.append(value.value)
    return tuple(found)


def read(options: argparse.Namespace) -> Sweep:
    """Read the sweep as the options say; raises `UsageError`."""
    return read_sweep(
        read_table(options.sweep),
        options.metric,
        parse_columns(options.columns),
        parted=Parted(parse_where(options.where), parse_names(options.by), parse_names(options.ignore)),
        take=options.take,
        noise_sd=options.noise,
    )


def _page(path: str, sweep: Sweep, found: Sequence[JudgedCell]) -> str:
    from replicate.report import sweep_page  # not at the top: they take a second to load

    source = _source(path if path == "-" else Path(path).name)
    return sweep_page.render(sweep.landscapes, found, source, sweep.notes)


def _source(path: str) -> str:
    return "standard input" if path == "-" else path


def _next_csv(found: Sequence[JudgedCell]) -> str:
    """The suggested runs as CSV; with a column of scores added, `replicate judge` can read it."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("arch", "dataset", "lr", "wd", "seed"))
    for cell in found:
        ranked = cell.answer.plan.ranked if cell.answer.plan else ()
        rows.writerows((cell.arch, cell.dataset, run.lr, run.wd, run.seed) for _, run in ranked)
    return out.getvalue()


def _picture(sweep: Sweep) -> str:
    from replicate.report.figures.document import document
    from replicate.report.figures.landscape import landscape

    return document([(f"{one.arch} on {one.dataset}", landscape(one)) for one in sweep.landscapes])


def _text(cell: JudgedCell, *, explained: bool) -> str:
    """The text on one cell: best weight decay per learning rate, verdicts. `explained`: with a caption of columns."""
    lines = [
        answer.title(cell),
        "",
        *_wrapped(answer.headline(cell)),
        "",
        columns(answer.heads(cell), answer.table(cell)),
    ]
    lines += _wrapped(answer.caption(cell)) if explained else []
    lines += ["", *_wrapped(answer.paragraph(cell)), ""]
    if cell.answer.plan is not None:
        lines += [*_wrapped(answer.worth(cell)), columns(answer.NEXT, answer.next_runs(cell)), ""]
    lines.append("The paper's claims on this sweep:")
    rows = [(v.name, v.words, v.outcome, v.here, v.margin) for v in answer.verdicts(cell)]
    lines.append(columns(("claim", "says", "verdict", "here [95 %]", "margin"), rows))
    for text in answer.remarks(cell):
        lines += _wrapped(text)
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(printable(text), WIDTH, subsequent_indent="  ")
