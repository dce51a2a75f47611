"""What is typed and what is set as hostile input: command lines, pytest's options, environment variables."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from fixtures import options as plugin_options
from replicate.cli.options import use_images
from replicate.data import fashion
from replicate.data.source import DATA_VARIABLE, DataError
from replicate.store.store import open_store
from replicate.text import UsageError
from replicate.train.engine import devices
from replicate.train.engine.scratch import SCRATCH_VARIABLE
from replicate.train.plan import budget
from tests.support.faketrainer import fake_run
from tests.support.guard import command, one_line_of
from tests.support.readers_store import record_seed

SWEEP = b"lr,wd,seed,accuracy\n0.001,0,0,60\n0.001,0.0001,0,71\n0.01,0.001,0,72.5\n0.01,0,0,61\n"


def text_of(blob: bytes) -> str:
    """As an option or variable arrives: without NUL, which neither can hold."""
    return blob.decode("utf-8", "surrogateescape").replace("\0", "")


def joined(*lines: str) -> bytes:
    return "\n".join(lines).encode()


VARIABLES = ("REPLICATE_STORE", DATA_VARIABLE, SCRATCH_VARIABLE, devices.VARIABLE, "COLUMNS", "TERM")


def environment(blob: bytes, folder: Path) -> None:
    """Lines VARIABLE=value, to commands that read them. Paths stay relative to the folder."""
    given = dict(line.split("=", 1) for line in text_of(blob).split("\n") if "=" in line and "\0" not in line)
    here = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ):
            for name in VARIABLES:
                if name in given and _settable(given[name]):
                    os.environ[name] = given[name]
            devices.named(os.environ.get(devices.VARIABLE))
            command(["runs", "list"])
            if len(blob) % 8 == 0:  # the slow one
                command(["plan", "--scale", "smoke", "--json"])
            try:
                fashion.prepare()
            except DataError as error:
                one_line_of(error)
            plugin_options.settings(_Config({}, folder))
    except UsageError as error:
        one_line_of(error)
    finally:
        os.chdir(here)


def _settable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return not os.path.isabs(text)  # noqa: PTH117


class _Config:
    """Stands in for pytest's."""

    def __init__(self, given: dict[str, Any], folder: Path) -> None:
        self.given = {"--scale": "smoke", "--engine": "local", "--trainer": "solo", **given}
        self.rootpath = folder
        self.invocation_params = SimpleNamespace(dir=folder)

    def getoption(self, name: str, default: Any = None) -> Any:
        return self.given.get(name, default)


PYTEST_OPTIONS = ("--scale", "--store", "--report", "--expect", "--data", "--budget", "--address", "--engine")


def pytest_options(blob: bytes, folder: Path) -> None:
    """Lines --option=value, to what checks pytest's options."""
    given = dict(
        line.split("=", 1) for line in text_of(blob).split("\n") if line.startswith(PYTEST_OPTIONS) and "=" in line
    )
    with mock.patch.dict(os.environ):
        try:
            plugin_options.settings(_Config(given, folder))  # type: ignore[arg-type]
            use_images(given.get("--data"), folder)
        except UsageError as error:
            one_line_of(error)


COMMANDS = (
    "plan --scale smoke --json", "judge sweep.csv --metric accuracy --json", "judge sweep.csv --by seed --noise 1",
    "runs list --json", "runs show abc",
    "runs compare abc abd", "runs export --format csv --scale smoke", "runs export --out runs.csv",
    "watch --once --scale smoke", "watch --json --scale smoke", "fsck --json", "report compare A B --json",
    "landscapes --scale smoke --variant main", "judge sweep.csv --picture x.svg", "runs gc --dry-run", "--version",
    "judge sweep.csv --html new/x.html", "report --out folder --scale smoke",
)  # fmt: skip
NEVER = {"train", "calibrate", "synthesize", "audit", "verify", "record", "gc", "--measure", "-"}
"""What trains, computes for long, writes beside the source, or waits for standard input."""


def options(blob: bytes, folder: Path) -> None:
    """A command line, one word a line."""
    arguments = text_of(blob).split("\n")
    budgets = [word for word in arguments if word and not word.startswith("--")]
    for word in budgets:
        try:
            budget.seconds(word)
        except UsageError as error:
            one_line_of(error)
    outside = any(os.path.isabs(word) or ".." in word or "~" in word for word in arguments)  # noqa: PTH117
    if NEVER & set(arguments) or ("--out" in " ".join(arguments) and outside):
        return
    here = Path.cwd()
    os.chdir(folder)
    try:
        (folder / "sweep.csv").write_bytes(SWEEP)
        open_store(folder / ".replicate" / "store").put_sealed(fake_run(1), record_seed(1))
        command(arguments)
    finally:
        os.chdir(here)
