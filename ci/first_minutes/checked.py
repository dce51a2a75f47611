"""A pytest plugin for `ci/test_gpu.py`: a test locks the device while it runs, and is not run again once it passed."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from first_minutes.findings import Findings, Found
from replicate.text import one_line

FOLDER_VARIABLE = "FIRST_MINUTES_OUT"
NAME = "correctness"
PAUSE_SECONDS = 0.2
"""Pause between two tests, for processes that wait for the device and poll its lock every 0.05 s."""


class Checked:
    """Writes the outcome of each test to the findings as soon as the test has ended."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._outcomes: dict[str, Found] = (findings.get(NAME) or {}).get("tests", {})

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        done = [item for item in items if self._outcomes.get(item.name, {}).get("outcome") == "passed"]
        if done:
            config.hook.pytest_deselected(items=done)
            items[:] = [item for item in items if item not in done]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        with self._findings.timing():
            result = yield
        time.sleep(PAUSE_SECONDS)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.location[2]
        if report.when != "call" and report.passed:
            return
        found: Found = {"outcome": report.outcome, "seconds": round(report.duration, 2)}
        if report.failed:
            found["error"] = one_line(getattr(report.longrepr, "reprcrash", None) or report.longrepr)
        elif report.skipped and isinstance(report.longrepr, tuple):
            found["why"] = one_line(report.longrepr[2])
        self._outcomes[name] = found
        self._findings.put(NAME, tests=self._outcomes)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Checked(Findings(Path(os.environ[FOLDER_VARIABLE]))), "first-minutes-checked")
