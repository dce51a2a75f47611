"""The command line: `replicate plan`, `train`, `watch`, `judge`, `audit`, `runs`, `fsck`, `report` and others.

Answers go to standard output (with `--json` only JSON), all other text to standard error. Exit status 0: done; 1: a
claim is contradicted; 2: unusable input, with one line that says what was expected, what was given, and what to do.
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
    """Run one command and return its exit status. `arguments`: those after the program's name; default `sys.argv`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows ? instead of failing
    options = parser().parse_args(arguments)
    log_to_notes()
    # Before numpy is loaded: the matrices are so small that OpenBLAS's threads would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    command = importlib.import_module(f"replicate.cli.{options.command}")  # each command imports only what it needs
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
        # A reader such as `head` has closed the pipe; keep Python from reporting the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status
