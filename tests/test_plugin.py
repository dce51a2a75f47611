"""The pytest plugin from outside: outcomes, exit statuses, files and summary of sessions whose verdicts are made up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fixtures import session
from replicate import reporting
from replicate.audit import registry as _loaded_once  # noqa: F401 - else each session below imports it anew
from replicate.paper.claims import Claim
from replicate.paper.registry import CLAIMS, FAMILIES, REGISTRY_HASH
from replicate.report import verdict_file
from replicate.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, REPLICATED, Verdict
from tests.verdicts import made_file, made_verdict, quick_page

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
CRASH = "crash"
DRAWN = reporting.write_page
OVERALL, CELL, SLOPE, LONG = "rho/overall", "rho/convnext_t-imagenet", "slope/vit_s16-cifar100", "robust/long"
ONE_OF_EACH = {OVERALL: REPLICATED, CELL: CONTRADICTED, SLOPE: INCONCLUSIVE, LONG: NOT_RUN}
SELECT = "overall or test_claim[rho/convnext_t-imagenet or test_claim[slope/vit_s16-cifar100 or long"


@pytest.fixture
def tree(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with this one's plugin and claims."""
    monkeypatch.delenv("REPLICATE_STORE", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(reporting, "write_page", quick_page)
    pytester.makeconftest('pytest_plugins = ["fixtures.plugin"]')
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers --import-mode=importlib\nmarkers = claim(id): judges\n fast: f\n"
    )
    shutil.copytree(ROOT / "claims", pytester.path / "claims", ignore=shutil.ignore_patterns("__pycache__"))
    return pytester


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Claim → outcome, to be filled by the test; what is not in it is inconclusive."""
    wanted: dict[str, str] = {}

    def judge(self: session.Judging, claim: Claim) -> Verdict:
        outcome = wanted.get(claim.id, INCONCLUSIVE)
        if outcome == CRASH:
            raise ZeroDivisionError("a bug\nof two lines")
        return made_verdict(claim.id, outcome)

    monkeypatch.setattr(session.Judging, "judge", judge)
    return wanted


def run(tree: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return tree.runpytest_inprocess("claims", "-p", "no:cacheprovider", "--scale", "smoke", *arguments)


def verdicts_json(tree: pytest.Pytester) -> dict[str, Any]:
    return json.loads((tree.path / ".replicate" / "report" / "verdicts.json").read_text(encoding="utf-8"))


def test_each_outcome_has_its_letter_word_and_category(tree: pytest.Pytester, outcomes: dict[str, str]) -> None:
    outcomes |= ONE_OF_EACH
    result = run(tree, "-k", SELECT)
    result.stdout.fnmatch_lines(["*test_rho.py CR *", "*test_robust.py N *", "*test_slope.py I *"])
    for outcome in ONE_OF_EACH.values():
        assert f"1 {outcome}" in result.stdout.lines[-1]
    assert "failed" not in result.stdout.lines[-1]
    assert result.ret == 1
    result = run(tree, "-v", "-k", SELECT)
    result.stdout.fnmatch_lines(
        [
            "claims/test_rho.py::test_claim[[]rho/convnext_t-imagenet[]] CONTRADICTED*",
            "claims/test_rho.py::test_claim[[]rho/overall[]] REPLICATED*",
            "claims/test_robust.py::test_claim[[]robust/long[]] NOT RUN*",
            "claims/test_slope.py::test_claim[[]slope/vit_s16-cifar100[]] INCONCLUSIVE*",
        ]
    )


def test_summary_explains_a_contradiction_and_the_exit_status(tree: pytest.Pytester, outcomes: dict[str, str]) -> None:
    outcomes |= ONE_OF_EACH
    result = run(tree, "-k", SELECT)
    result.stdout.fnmatch_lines(
        [
            "*= verdicts =*",
            "PROBE: scale smoke is not the paper's protocol*",
            "*The paper's own cells were not run*",
            "rho/convnext_t-imagenet*CONTRADICTED*0.425 [[]0.35, 0.5[]]*",
            "not run (1): this scale leaves it out",
            "94 claims: 1 replicated, 1 contradicted, 1 inconclusive, 91 not run (90 of them not selected)",
            "rho/convnext_t-imagenet is contradicted",
            "  claim:  In convnext_t-imagenet the best weight decay*",
            "  paper:  0.101 [[]0.083, 0.119[]]",
            "  here:   0.425 [[]0.35, 0.5[]], n = 6, smoke (probe)",
            "  margin: [[]0.05, 0.2[]]: the interval of the ratio lies within a factor 2 of 0.10*",
            "  reason: 95 % interval [[]0.35, 0.5[]] lies outside the margin*",
            "written: *verdicts.json, *verdicts.md,*",
            "exit status 1: 1 claim is contradicted",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "site-packages" not in result.stdout.str()


def test_verdict_file_has_every_claim(tree: pytest.Pytester, outcomes: dict[str, str]) -> None:
    outcomes |= ONE_OF_EACH
    run(tree, "-k", SELECT)
    data = verdicts_json(tree)
    assert [c["id"] for c in data["claims"]] == [c.id for c in CLAIMS]
    assert data["registry"]["hash"] == REGISTRY_HASH
    assert data["scale"]["name"] == "smoke"
    assert data["probe"] is True
    by_id = {c["id"]: c for c in data["claims"]}
    assert {i: by_id[i]["outcome"] for i in ONE_OF_EACH} == ONE_OF_EACH
    assert [i for i, c in by_id.items() if c["selected"]] == [c.id for c in CLAIMS if c.id in ONE_OF_EACH]
    other = by_id["sgd/differs"]
    assert (other["outcome"], other["reason"]) == (NOT_RUN, "not selected in this session")
    assert (tree.path / ".replicate" / "report" / "verdicts.md").exists()


@pytest.mark.parametrize("outcome", [REPLICATED, INCONCLUSIVE, NOT_RUN])
def test_nothing_contradicted_is_status_0(tree: pytest.Pytester, outcomes: dict[str, str], outcome: str) -> None:
    outcomes[OVERALL] = outcome
    result = run(tree, "-k", "overall")
    result.stdout.fnmatch_lines(["exit status 0: no claim is contradicted"])
    assert result.ret == 0


def test_a_crash_is_status_3_an_error_and_no_verdict(tree: pytest.Pytester, outcomes: dict[str, str]) -> None:
    outcomes |= {OVERALL: CRASH, CELL: CONTRADICTED}
    result = run(tree, "-v", "-k", SELECT)
    assert result.ret == 3
    result.stdout.fnmatch_lines(
        [
            "*rho/overall[]] CRASHED*",
            "*= ERRORS =*",
            "*ZeroDivisionError*",
            "rho/overall * CRASHED *",
            "exit status 3: 1 claim could not be judged because of an error: rho/overall",
        ]
    )
    assert "1 error" in result.stdout.lines[-1]
    crashed = next(c for c in verdicts_json(tree)["claims"] if c["id"] == OVERALL)
    assert crashed["outcome"] == NOT_RUN
    assert crashed["crashed"] == "crashed: ZeroDivisionError: a bug"
    assert crashed["reason"] == "could not be judged: crashed: ZeroDivisionError: a bug"


def test_a_test_that_is_no_claim_counts_as_ever(tree: pytest.Pytester, outcomes: dict[str, str]) -> None:
    (tree.path / "claims" / "test_other.py").write_text("def test_other(): assert False\n")
    result = run(tree, "-k", "other or overall")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["exit status 1: no claim is contradicted, but a test that judges no claim failed"])


def expect(tree: pytest.Pytester, outcomes: dict[str, str], **changes: Any) -> str:
    path = tree.path / "expected.json"
    verdict_file.write(path, made_file(outcomes, **changes))
    return str(path)


def test_expected_verdicts_are_status_0_contradicted_ones_too(tree: pytest.Pytester, outcomes: dict[str, str]) -> None:
    outcomes |= ONE_OF_EACH
    result = run(tree, "-k", SELECT, "--expect", expect(tree, ONE_OF_EACH))
    result.stdout.fnmatch_lines(["*test_rho.py CR *", "exit status 0: every verdict is the expected one"])
    assert result.ret == 0


def test_a_changed_verdict_is_status_1_also_for_the_better(tree: pytest.Pytester, outcomes: dict[str, str]) -> None:
    outcomes |= ONE_OF_EACH
    expected = expect(tree, {**ONE_OF_EACH, OVERALL: CONTRADICTED})
    result = run(tree, "-k", SELECT, "--expect", expected)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "*test_rho.py CX *",
            "changed: rho/overall was contradicted, is replicated",
            "exit status 1: 1 claim got another verdict than expected",
        ]
    )
    result = run(tree, "-v", "-k", "overall", "--expect", expected)  # the others are not selected, hence not compared
    result.stdout.fnmatch_lines(["*rho/overall[]] CHANGED from contradicted to replicated*"])


def test_expected_verdicts_under_other_rules_or_scale_are_told(tree: pytest.Pytester, outcomes: dict[str, str]) -> None:
    expected = expect(tree, {OVERALL: INCONCLUSIVE}, registry_hash="beef", scale="embedded")
    result = run(tree, "-k", "overall", "--expect", expected)
    result.stdout.fnmatch_lines(
        [
            f"expect: the claims or their rules have changed since (registry beef, now {REGISTRY_HASH})",
            "expect: the expected verdicts are of scale embedded, these of smoke",
        ]
    )
    assert result.ret == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--scale", "nonsense"],
            "--scale: expected one of auto, smoke, embedded, *; got 'nonsense'",
        ),
        (["--store", "claims/test_rho.py"], "*test_rho.py: expected a directory, got a file; name a directory with*"),
        (["--store", "none", "--offline"], "store *none: expected a directory, got nothing there; train first, or *"),
        (["--report", "claims/test_rho.py"], "--report *test_rho.py: expected a folder that can be written, got: *"),
        (["--expect", "none.json"], "--expect *none.json: expected a verdict file, found no such file; *"),
        (["--expect", "claims/test_rho.py"], "--expect *test_rho.py: expected a verdict file, got text that is not J*"),
        (["--store", ""], "--store: expected a folder, got an empty name"),
    ],
    ids=lambda x: " ".join(x)[:30] if isinstance(x, list) else "",
)
def test_unusable_options_are_one_line_and_status_2(tree: pytest.Pytester, arguments: list[str], message: str) -> None:
    result = tree.runpytest_inprocess("claims", "-p", "no:cacheprovider", *arguments, no_reraise_ctrlc=True)
    assert result.ret == 2
    assert len(result.stderr.lines) == 1
    result.stderr.fnmatch_lines([f"Exit: {message}*"])
    assert "Traceback" not in result.stdout.str()


def test_header_says_scale_reason_store_and_runs(tree: pytest.Pytester, outcomes: dict[str, str]) -> None:
    result = tree.runpytest_inprocess("claims", "-p", "no:cacheprovider", "-k", "overall")
    result.stdout.fnmatch_lines(
        [
            "replicate: scale=embedded (auto: no CUDA device is visible): PROBE, not the paper's protocol",
            "replicate: store=.replicate/store runs: * needed, * missing, *",
            "replicate: 1 claim selected, runs: *",
        ]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_selected_by_its_name(tree: pytest.Pytester, family: str) -> None:
    result = tree.runpytest_inprocess(
        "claims", "-p", "no:cacheprovider", "--collect-only", "-q", "-k", f"test_{family}.py"
    )
    ids = [line.rpartition("[")[2].rstrip("]") for line in result.stdout.lines if "::" in line]
    assert ids == [c.id for c in CLAIMS if c.family == family]
    assert not (tree.path / ".replicate").exists()


def test_one_dim_selects_its_family_alone(tree: pytest.Pytester) -> None:
    result = tree.runpytest_inprocess("claims", "-p", "no:cacheprovider", "--collect-only", "-q", "-k", "one_dim")
    lines = [line for line in result.stdout.lines if "::" in line]
    assert len(lines) == sum(c.family == "one_dim" for c in CLAIMS)
    assert all(line.startswith("claims/test_one_dim.py::test_claim[one-dim/") for line in lines)


def test_other_tests_open_no_store_and_print_no_header(tree: pytest.Pytester) -> None:
    (tree.path / "tests").mkdir()
    (tree.path / "tests" / "test_x.py").write_text("def test_x(): pass\n")
    result = tree.runpytest_inprocess("tests", "-p", "no:cacheprovider")
    assert result.ret == 0
    assert "replicate:" not in result.stdout.str()
    assert not (tree.path / ".replicate").exists()


def test_stopping_early_says_which_claims_were_not_reached(tree: pytest.Pytester, outcomes: dict[str, str]) -> None:
    outcomes |= ONE_OF_EACH
    result = run(tree, "-x", "-k", SELECT)
    assert result.ret == 1
    by_id = {c["id"]: c for c in verdicts_json(tree)["claims"]}
    assert by_id[CELL]["outcome"] == CONTRADICTED
    assert by_id[SLOPE]["reason"] == "not judged: the session stopped before it"


def test_an_interrupted_session_writes_no_verdict_file(
    tree: pytest.Pytester, outcomes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: session.Judging, claim: Claim) -> Verdict:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.Judging, "judge", interrupted)
    result = tree.runpytest_inprocess("claims", "--scale", "smoke", "-k", "overall", no_reraise_ctrlc=True)
    result.stdout.fnmatch_lines(["exit status 2: the session ended early, 0 of 1 claims were judged; no verdict file*"])
    assert result.ret == 2
    assert not (tree.path / ".replicate" / "report" / "verdicts.json").exists()


def test_report_of_a_session(tree: pytest.Pytester, outcomes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes |= ONE_OF_EACH
    monkeypatch.setattr(reporting, "write_page", DRAWN)
    run(tree, "-k", SELECT, "--report", "out")
    names = {path.name for path in (tree.path / "out").iterdir()}
    assert names == {"report.html", "summary.md", "verdicts.json", "verdicts.md"}
    assert "C · contradicted" in (tree.path / "out" / "report.html").read_text(encoding="utf-8").replace("</span>", "")

    def fail(*arguments: object) -> None:
        raise RuntimeError("no pictures today")

    monkeypatch.setattr("replicate.reporting.write_page", fail)
    result = run(tree, "-k", SELECT, "--report", "again")
    result.stdout.fnmatch_lines(["report: report.html could not be made: RuntimeError: no pictures today"])
    assert result.ret == 1
    assert (tree.path / "again" / "verdicts.json").exists()


def test_junit_file_carries_the_verdict(tree: pytest.Pytester, outcomes: dict[str, str]) -> None:
    outcomes |= ONE_OF_EACH
    run(tree, "-k", SELECT, "--junit-xml", "junit.xml")
    text = (tree.path / "junit.xml").read_text(encoding="utf-8")
    assert 'failures="1"' in text
    assert 'skipped="2"' in text
    assert '<property name="verdict" value="contradicted"' in text
    assert '<property name="scale" value="smoke"' in text
    assert '<property name="low" value="0.3' in text
    assert '<property name="high" value="inf"' in text  # the inconclusive one's
    assert 'message="rho/convnext_t-imagenet is contradicted' in text.replace("Failed: ", "")


@pytest.mark.slow
def test_verdicts_and_crashes_travel_from_xdist_workers(tree: pytest.Pytester) -> None:
    tree.makeconftest(
        """
        import os
        from fixtures import session
        from replicate.verdict import CONTRADICTED, REPLICATED
        from tests.verdicts import made_verdict

        pytest_plugins = ["fixtures.plugin"]

        def judge(self, claim):
            assert self.in_process
            self.store.note("a file was set aside")
            if claim.id == "slope/vit_s16-cifar100":
                os._exit(9)
            return made_verdict(claim.id, CONTRADICTED if "convnext" in claim.id else REPLICATED)

        session.Judging.judge = judge
        """
    )
    arguments = (
        "claims",
        "-n",
        "2",
        "--junit-xml",
        "junit.xml",
        "-p",
        "no:cacheprovider",
        "--scale",
        "smoke",
        "-k",
        SELECT.replace("or long", ""),
    )
    result = tree.runpytest_subprocess(*arguments)
    result.stdout.fnmatch_lines(
        [
            "replicate: scale=smoke (--scale): PROBE, not the paper's protocol",
            "replicate: 3 claims selected, runs: *",
            "rho/convnext_t-imagenet *CONTRADICTED*",
            "rho/overall *REPLICATED*",
            "slope/vit_s16-cifar100 *CRASHED*",
            "store: a file was set aside",
            "exit status 3: 1 claim could not be judged because of an error: slope/vit_s16-cifar100",
        ]
    )
    assert result.ret == 3
    junit = (tree.path / "junit.xml").read_text(encoding="utf-8")
    assert '<property name="verdict" value="contradicted"' in junit
    assert '<property name="high" value="0.5"' in junit
    result = tree.runpytest_subprocess("claims", "-n", "2", "--scale", "nonsense")
    assert result.ret == 2
    assert [line for line in result.stderr.lines if line] == result.stderr.lines[:1]
    result.stderr.fnmatch_lines(["Exit: --scale: expected one of auto, smoke, *"])
