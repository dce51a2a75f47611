"""What no input may bring about: code run, files touched outside a folder, tracebacks, answers that are none."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from replicate.cli import main
from replicate.text import one_line

RUNS_CODE = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pickle.find_class"}
PROC = Path("/proc/self/fd")
NETWORK = {"socket.connect", "socket.bind", "socket.getaddrinfo"}
CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}


class Breach(AssertionError):
    """The law is broken; the message says how."""


class _State:
    folder: str | None = None
    """Where files may be written at the moment; None: nothing is watched."""
    installed = False
    breach: str = ""


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """While inside, code that is executed, a connection, or a change of a file outside `folder` is a breach."""
    if not _State.installed:
        sys.addaudithook(_watch)
        _State.installed = True
    _State.breach, _State.folder = "", str(folder.resolve())
    try:
        yield
    finally:
        _State.folder = None
    if _State.breach:  # somebody may have caught it
        raise Breach(_State.breach)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _State.folder is None:
        return
    if event in CHANGES and isinstance(arguments[-1], int) and arguments[-1] >= 0 and PROC.is_dir():
        # relative to an open folder
        place = (PROC / str(arguments[-1])).readlink()
        arguments = tuple(f"{place}/{a}" if isinstance(a, str | bytes) else a for a in arguments)
    if event in RUNS_CODE:
        _break(f"{event}: {str(arguments)[:200]}")
    elif event in NETWORK:
        _break(f"{event}: a connection")
    elif event in CHANGES:
        for path in arguments[:2]:
            if isinstance(path, str | bytes | os.PathLike) and not _inside(path):
                _break(f"{event}: {str(path)[:200]} outside the folder")
    elif event == "open":
        path, mode, flags = arguments
        writing = isinstance(mode, str) and set(mode) & set("wax+")
        if mode is None and isinstance(flags, int):
            writing = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writing and isinstance(path, str | bytes | os.PathLike) and not _inside(path):
            _break(f"open for writing: {str(path)[:200]} outside the folder")


def _inside(path: Any) -> bool:
    assert _State.folder is not None
    full = os.path.realpath(os.fsdecode(path))
    return (
        full == _State.folder
        or full.startswith((_State.folder + os.sep, "/dev/null"))
        or any(cache in full for cache in ("__pycache__", "matplotlib", "fontconfig"))
    )


def _break(what: str) -> None:
    _State.breach = what
    raise Breach(what)


def command(arguments: Sequence[str], statuses: Sequence[int] = (0, 1, 2)) -> tuple[int, str]:
    """Exit status and standard output of a command; Breach where what it says is not one clear line or an answer."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 3
    texts = []
    for stream in (out, err):
        stream.flush()
        raw = stream.buffer.getvalue()  # type: ignore[attr-defined]
        texts.append(raw.decode("utf-8", "replace"))
    said, errors = texts
    if status not in statuses:
        raise Breach(f"exit status {status}: {errors[-300:]!r}")
    lines = errors.splitlines()
    complaints = [line for line in lines if not line.startswith("replicate: ")]
    if status == 2:  # the last line is it, even where it begins as notes do
        complaints = [line for line in lines[:-1] if not line.startswith("replicate: ")]
        if complaints or not lines or not lines[-1].startswith("replicate"):
            raise Breach(f"expected one line about the input, got {errors[-600:]!r}")
    if status != 2 and complaints:
        raise Breach(f"expected notes alone on standard error, got {complaints[0]!r}")
    if any(not line.isprintable() for line in lines):
        raise Breach(f"characters that steer a terminal: {errors[-300:]!r}")
    if max(map(len, lines), default=0) > 2000:
        raise Breach(f"a line of {max(map(len, lines))} characters: {errors[:300]!r}")
    if "--json" in arguments and status in (0, 1) and not {"--help", "-h", "--version"} & set(arguments):
        json.loads(said, parse_constant=_no_number)
    elif "export" not in arguments and any(not line.isprintable() for line in said.split("\n")):  # a table is data
        raise Breach(f"characters that steer a terminal: {said[:300]!r}")
    return status, said


def _no_number(text: str) -> None:
    raise Breach(f"expected JSON, got {text}")


def sandbox() -> Path:
    """A folder of its own, in memory where the system has such."""
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="hostile-", dir=shm if shm.is_dir() and os.access(shm, os.W_OK) else None))


def one_line_of(error: BaseException) -> None:
    """Checks an error that is shown by way of `one_line`: it must say something."""
    if not one_line(error).isprintable() or not str(error).strip():
        raise Breach(f"expected one line, got {str(error)[:400]!r}")
