"""`replicate audit`: checks a paper's own figures, design and theory by recomputing them; trains nothing."""

from __future__ import annotations

import argparse
import shutil

from replicate.audit import printing
from replicate.audit.audits import run as run_audits
from replicate.audit.finding import CONSISTENT
from replicate.audit.folder import read
from replicate.audit.picture import picture
from replicate.audit.subject import published
from replicate.cli.output import check_folder, note, say, write_file


def run(options: argparse.Namespace) -> int:
    check_folder("--picture", options.picture)
    paper = published() if options.folder is None else read(options.folder)
    report = run_audits(paper)
    if options.picture:
        write_file("--picture", options.picture, picture(paper))
        note(f"written: {options.picture}")
    if options.json:
        print(printing.json_text(report), end="")
    elif options.markdown:
        print(printing.markdown(report), end="")
    else:
        width = shutil.get_terminal_size((100, 24)).columns
        say(printing.lines(report, width, options.verbose))
    return int(any(n for outcome, n in report.counts.items() if outcome != CONSISTENT))
