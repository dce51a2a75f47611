"""The pytest option `--device`: the device on which the tests of ci/ that need one train."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ci", "tests of ci/")
    group.addoption("--device", default="cuda:0", help="where ci/test_gpu.py trains: cuda:0 (default), cpu, …")
