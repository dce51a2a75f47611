"""Projects with this one's pytest plugin and claims, for sessions of pytest inside of tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *claims: str) -> pytest.Pytester:
    """With these files of claims, by default all."""
    monkeypatch.delenv("REPLICATE_STORE", raising=False)
    pytester.makeconftest('pytest_plugins = ["fixtures.plugin"]')
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers --import-mode=importlib\nmarkers = claim(id): judges\n fast: f\n"
    )
    if not claims:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        shutil.copytree(ROOT / "claims", pytester.path / "claims", ignore=shutil.ignore_patterns("__pycache__"))
    for name in claims:
        (pytester.path / "claims").mkdir(exist_ok=True)
        shutil.copy(ROOT / "claims" / name, pytester.path / "claims")
    return pytester


def run(tree: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return tree.runpytest_inprocess("claims", "-p", "no:cacheprovider", "--scale", "smoke", *arguments)
