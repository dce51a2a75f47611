"""Printing: JSON for programs, aligned columns for people, notes on standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from replicate.store import atomic, strict
from replicate.text import UsageError, duration, one_line, printable


def check_folder(option: str, path: str | None) -> None:
    """Raise `UsageError` if the folder of the file `path` does not exist, or if a `--picture` is not named .svg."""
    if path and option == "--picture" and Path(path).suffix.lower() != ".svg":
        raise UsageError(f"{option} {path}: expected a name that ends in .svg, as pictures are SVG; rename it")
    if path and not (folder := Path(path).absolute().parent).is_dir():
        raise UsageError(
            f"{option} {path}: expected a file in an existing folder, but there is no {folder}; make that folder first"
        )


def write_file(option: str, path: str | Path, content: str | bytes) -> None:
    """Write `content` to `path`, the value of `option`, whole or not at all; raises `UsageError`."""
    try:
        atomic.write(Path(path), content)
    except OSError as error:
        raise UsageError(f"{option} {path}: expected a file that can be written, got: {error.strerror}") from None


def print_json(data: Any) -> None:
    """Print `data` as JSON; NaN and infinities become null."""
    print(json.dumps(strict.json_types(data), indent=1, allow_nan=False))


def say(lines: Iterable[str]) -> None:
    """Print lines that may quote a file, without characters that control the terminal."""
    for line in lines:
        print(printable(line))


def note(text: str) -> None:
    """Print one line on standard error."""
    print(f"replicate: {one_line(text)}", file=sys.stderr)


def progress(command: str, what: str, quiet: float = 0.0) -> Callable[[int, int], None]:
    """A function to call with (done, total), which reports progress on standard error: on a terminal in one rewritten
    line, else in about twenty lines, at least `quiet` seconds apart. It prints nothing in the first `quiet`
    seconds."""
    started, told, last = time.monotonic(), 0, time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal told, last
        passed = time.monotonic() - started
        moving, share = sys.stderr.isatty(), 20 * done // total
        if (
            passed >= quiet
            and (done < total or not quiet)
            and (moving or (share > told and started + passed >= last + quiet))
        ):
            told, last = share, started + passed
            left = duration(passed / done * (total - done))
            end = "\r" if moving and done < total else "\n"
            print(f"{command}: {done} of {total} {what}, {left} to go ", end=end, file=sys.stderr, flush=True)

    return report


class Notes(logging.Handler):
    """Prints each logged warning of this package with `note`."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


def log_to_notes() -> None:
    """Print the warnings of this package with `note` from now on."""
    logger = logging.getLogger("replicate")
    if not any(isinstance(handler, Notes) for handler in logger.handlers):
        logger.addHandler(Notes())


def columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as text: columns of numbers are right-aligned, all others left-aligned."""
    texts = [[printable(str(value)) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *texts]) for i in range(len(header))]
    right = [bool(texts) and all(_is_number(row[i]) for row in texts) for i in range(len(header))]
    lines = [
        "  ".join(text.rjust(w) if r else text.ljust(w) for text, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in [list(header), *texts]
    ]
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    return text in {"", "-"} or text.replace(".", "").replace("-", "").replace("e", "").replace("+", "").isdigit()


def shown(value: Any) -> str:
    """`value` as text for people: floats to six digits, `yes` or `no` for booleans, `-` for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
