"""Programs that tests start beside themselves, where they find this code, and what is done until they are ready."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


class Killed(BaseException):
    """Stands for the end of the process."""


def killed(*_: object) -> NoReturn:
    raise Killed


def environment(**more: str) -> dict[str, str]:
    """This process's, `more`, and its search path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path), **more}


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
