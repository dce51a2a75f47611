"""Hooks for the audit's tests in this folder; the work is done by fixtures/audit.py."""

from __future__ import annotations

import pytest

from fixtures import audit, outcomes
from fixtures.audit import confront

__all__ = ["confront"]


def pytest_configure(config: pytest.Config) -> None:
    audit.configure(config)


def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> outcomes.Status | None:
    return audit.status(report) if isinstance(report, pytest.TestReport) else None
