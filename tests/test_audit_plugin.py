"""Findings as tests: their outcomes, the audit file, the exit status alone and beside trained claims, `--expect`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fixtures import session
from replicate.audit.registry import audits
from replicate.audit.subject import published
from replicate.paper.claims import Claim
from replicate.verdict import REPLICATED, Verdict
from tests.verdicts import made_verdict

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
ONE_OF_EACH = "within-0.3 or audit/saving or anova-p"
WITH_A_CLAIM = f"{ONE_OF_EACH} or cost"


@pytest.fixture
def tree(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with this one's plugin and claims, in which every trained claim is replicated."""
    monkeypatch.delenv("REPLICATE_STORE", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest('pytest_plugins = ["fixtures.plugin"]')
    pytester.makeini("[pytest]\naddopts = --strict-markers --import-mode=importlib\nmarkers = claim(id): judges\n")
    shutil.copytree(ROOT / "claims", pytester.path / "claims", ignore=shutil.ignore_patterns("__pycache__"))

    def judge(self: session.Judging, claim: Claim) -> Verdict:
        return made_verdict(claim.id, REPLICATED)

    monkeypatch.setattr(session.Judging, "judge", judge)
    return pytester


def run(tree: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return tree.runpytest_inprocess("claims", "-p", "no:cacheprovider", "--scale", "smoke", *arguments)


def report_file(tree: pytest.Pytester, name: str) -> Path:
    return tree.path / ".replicate" / "report" / name


def audit_json(tree: pytest.Pytester) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(report_file(tree, "audit.json").read_text(encoding="utf-8"))
    return data


def test_each_outcome_has_its_letter_and_alone_they_fail(tree: pytest.Pytester) -> None:
    result = run(tree, "-k", ONE_OF_EACH)
    result.stdout.fnmatch_lines(
        [
            "*test_audit.py +-! *",
            "audit/saving is inconsistent",
            "    30 runs against 240 are a share of 1/8: *",
            "audit/within-0.3 is decision-inconsistent",
            "3 findings: 1 consistent, 1 inconsistent, 1 decision-inconsistent",
            "written: *audit.json; `replicate audit --verbose` says all of it",
            "exit status 1: 2 of them are not consistent",
        ]
    )
    assert result.ret == 1
    assert "failed" not in result.stdout.lines[-1]
    assert "Traceback" not in result.stdout.str()
    assert not report_file(tree, "verdicts.json").exists()  # no trained claim was judged
    data = audit_json(tree)
    assert [f["id"] for f in data["findings"]] == ["audit/anova-p", "audit/saving", "audit/within-0.3"]
    assert len(data["not_run"]) == len(audits(published())) - 3


@pytest.mark.slow
def test_beside_trained_claims_the_exit_status_is_theirs(tree: pytest.Pytester) -> None:
    result = run(tree, "-v", "-k", WITH_A_CLAIM)
    result.stdout.fnmatch_lines(
        [
            "claims/test_audit.py::test_finding[[]audit/anova-p[]] CONSISTENT*",
            "claims/test_audit.py::test_finding[[]audit/saving[]] INCONSISTENT*",
            "claims/test_audit.py::test_finding[[]audit/within-0.3[]] DECISION-INCONSISTENT*",
            "exit status 0: no claim is contradicted",
        ]
    )
    assert result.ret == 0
    judged = json.loads(report_file(tree, "verdicts.json").read_text(encoding="utf-8"))
    assert not any(c["id"].startswith(("audit/", "theory/")) for c in judged["claims"])
    assert audit_json(tree)["counts"] == {"consistent": 1, "inconsistent": 1, "decision-inconsistent": 1}


@pytest.mark.slow
def test_a_changed_finding_fails(tree: pytest.Pytester) -> None:
    run(tree, "-k", WITH_A_CLAIM)
    expected = tree.path / "expected"
    shutil.copytree(tree.path / ".replicate" / "report", expected)
    arguments = ("-k", WITH_A_CLAIM, "--expect", str(expected / "verdicts.json"))
    assert run(tree, *arguments).ret == 0
    text = (expected / "audit.json").read_text(encoding="utf-8")
    (expected / "audit.json").write_text(
        text.replace('"decision-inconsistent",\n', '"consistent",\n', 1), encoding="utf-8"
    )
    result = run(tree, *arguments)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*test_audit.py +-X *", "changed: audit/within-0.3 was consistent, is decision-*"])


def test_a_crashed_audit_is_an_error(tree: pytest.Pytester) -> None:
    (tree.path / "claims" / "test_audit.py").write_text(
        "from fixtures.audit import findings_of\n\n"
        "@findings_of('theory')\ndef test_finding(audit, confront):\n"
        "    import dataclasses\n    confront(dataclasses.replace(audit, find=lambda: 1 / 0))\n"
    )
    result = run(tree, "-k", "test_audit.py and l2-closed")
    result.stdout.fnmatch_lines(["*test_audit.py E *", "*ZeroDivisionError*"])
    assert result.ret == 1
    assert not report_file(tree, "audit.json").exists()
