"""Every test in tests/ that is not marked `slow` is marked `fast`, and a warning in one is an error."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import hypothesis
import pytest

# One thread for each process of the tests: the arrays are small, and threads of several processes fight over the cores
# (1.7 times the processor time with two workers on two cores). NumPy and PyTorch read it once, when they are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from replicate.runs import scales
from replicate.store.store import Store, open_store
from replicate.train.engine.scratch import SCRATCH_VARIABLE

HERE = Path(__file__).parent

# What is imported and collected stays until the end. To look through it for garbage again and again takes a fifth of
# the time of collection; pytest_collection_finish below begins with it, for what the tests make.
gc.disable()

# Started in the background, as by some CI, this process ignores Ctrl-C; so would those that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline and no random seed: a busy machine must not turn a test red, nor one run of it differ from the next.
hypothesis.settings.register_profile("fast", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("fast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            if item.get_closest_marker("slow") is None:
                item.add_marker(pytest.mark.fast)
            # In front of the test's own marks, which may then allow a warning.
            item.add_marker(pytest.mark.filterwarnings("error"), append=False)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for this machine's leases that other sessions on it do not see."""
    with mock.patch.dict(os.environ, {SCRATCH_VARIABLE: str(tmp_path_factory.mktemp("scratch"))}):
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that write thousands of files and cut no power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def smoke_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were no other scale: the runs of all of them take seconds to name."""
    monkeypatch.setattr(scales, "SCALES", {"smoke": scales.get("smoke")})
