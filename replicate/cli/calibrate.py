"""`replicate calibrate`: how often the rules say what, on landscapes whose truth is known."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from replicate.calibration import rates, studies, tables
from replicate.cli.output import note, print_json
from replicate.engine.cores import slots
from replicate.progress import duration


class CannotWrite(Exception):
    """An output file that cannot be written; the message is one line."""


UNUSABLE: tuple[type[Exception], ...] = (CannotWrite,)


def run(options: argparse.Namespace) -> int:
    if options.out and not Path(options.out).resolve().parent.is_dir():
        raise CannotWrite(f"--out: expected a file in a folder that exists, got {options.out}")
    chosen = [*studies.studies(), *studies.power_studies()]
    if options.studies:
        chosen = studies.thin(chosen, options.studies)
    started = time.monotonic()

    def report(done: int, total: int) -> None:
        left = (time.monotonic() - started) / done * (total - done)
        end = "\r" if sys.stderr.isatty() else "\n"
        if sys.stderr.isatty() or done % max(1, total // 20) == 0 or done == total:
            print(
                f"calibrate: {done} of {total} studies, {duration(left)} to go ", end=end, file=sys.stderr, flush=True
            )

    found = rates.rates(chosen, options.landscapes, options.processes or len(slots()), report)
    worst = tables.worst(found)
    note(f"calibrated in {duration(time.monotonic() - started)}")
    text = tables.markdown(found, options.landscapes, bool(options.studies))
    if options.out:
        Path(options.out).write_text(text, encoding="utf-8")
    if options.json:
        print_json({"landscapes": options.landscapes, "worst_wrong": worst, "rates": tables.rows(found)})
    elif not options.out:
        print(text)
    else:
        print(f"written to {options.out}; largest rate of wrong decisive verdicts: {100 * worst:.1f} %")
    return 0
