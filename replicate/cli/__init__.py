"""The command line `replicate`: plan, train, watch, judge, audit, runs, fsck, report.

Standard output carries the answer (with `--json`, JSON alone), standard error all else. Exit 0: done; 1: a claim is
contradicted; 2: unusable input, with one line that says what was expected, what was given, and what to do.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

from replicate.cli.arguments import parser
from replicate.cli.output import log_to_notes
from replicate.text import UsageError, one_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an old terminal gets a ? and no traceback
    options = parser().parse_args(arguments)
    log_to_notes()
    # Before numpy is loaded: on matrices as small as ours its threads only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    command = importlib.import_module(f"replicate.cli.{options.command}")  # each imports no more than it needs
    try:
        status: int = command.run(options)
        sys.stdout.flush()
    except UsageError as error:
        print(f"replicate {options.command}: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"replicate {options.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`head`, say) has seen enough; keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status
