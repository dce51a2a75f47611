"""Hooks for the audit's tests in this folder; fixtures/audit.py does the work."""

from __future__ import annotations

import pytest

from fixtures import audit, outcomes
from fixtures.audit import confront

__all__ = ["confront"]


def pytest_configure(config: pytest.Config) -> None:
    audit.configure(config)


def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> outcomes.Status | None:
    return audit.status(report) if isinstance(report, pytest.TestReport) else None
