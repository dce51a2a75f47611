"""`report compare`: what differs between two verdict files, and nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from replicate.cli import main
from replicate.judging import verdict_file
from replicate.judging.verdict import CONTRADICTED, REPLICATED
from replicate.judging.verdict_file import VerdictFile
from replicate.report.compare import compare, lines, same
from tests.support.verdicts import made_file

FILE = made_file({"rho/overall": REPLICATED})


def with_overall(file: VerdictFile, **changes: object) -> VerdictFile:
    """`file` with the verdict on rho/overall changed."""
    entries = tuple(
        dataclasses.replace(e, verdict=dataclasses.replace(e.verdict, **changes)) if e.id == "rho/overall" else e
        for e in file.entries
    )
    return dataclasses.replace(file, entries=entries)


def test_equal_files_whenever_and_with_whatever_they_were_made() -> None:
    later = dataclasses.replace(FILE, created="2027-01-01", versions={"python": "4"}, why="auto")
    assert compare(FILE, later) == []
    assert lines([]) == ["no differences in claims, rules, evidence, verdicts or estimates"]


def test_each_kind_of_difference_has_its_word() -> None:
    found = compare(FILE, made_file({"rho/overall": CONTRADICTED}, registry_hash="0", store_runs=13, store_hash="f"))
    assert {(c.kind, c.where) for c in found} == {
        ("registry", "hash of claims and rules"),
        ("evidence", "runs"),
        ("evidence", "hash of the runs"),
        ("verdict", "rho/overall"),
        ("estimate", "rho/overall"),
    }
    text = lines(found)
    assert "verdict: rho/overall: replicated → contradicted" in text
    assert text[0].startswith("registry: ")
    assert text[-1] == "5 differences: 1 of registry, 2 of evidence, 1 of verdict, 1 of estimate"


def test_estimate_margin_and_evidence_of_one_claim() -> None:
    verdict = next(e.verdict for e in FILE.entries if e.id == "rho/overall")
    assert verdict.estimate is not None
    moved = dataclasses.replace(verdict.estimate, high=verdict.estimate.high * 1.001)
    (change,) = compare(FILE, with_overall(FILE, estimate=moved))
    assert change.kind == "estimate"
    nudged = dataclasses.replace(verdict.estimate, high=verdict.estimate.high * (1 + 1e-12))
    assert compare(FILE, with_overall(FILE, estimate=nudged)) == []
    (change,) = compare(FILE, with_overall(FILE, evidence=dataclasses.replace(verdict.evidence, runs=99)))
    assert (change.kind, change.after) == ("evidence", "smoke (probe), 99 runs, 0 seeds")
    assert not same(verdict.estimate, None)
    assert not same(verdict.estimate, dataclasses.replace(verdict.estimate, value=None))


def test_claims_that_only_one_file_has() -> None:
    fewer = dataclasses.replace(FILE, entries=FILE.entries[1:])
    (gone,) = compare(FILE, fewer)
    (new,) = compare(fewer, FILE)
    assert (gone.kind, gone.after, new.before) == ("registry", "absent", "absent")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = made_file({"rho/overall": CONTRADICTED})
    for name, file in (("a", FILE), ("b", other)):
        (tmp_path / name).mkdir()
        verdict_file.write(tmp_path / name / "verdicts.json", file)
    a, b = str(tmp_path / "a"), str(tmp_path / "b" / "verdicts.json")  # a folder will do
    assert main(["report", "compare", a, a]) == 0
    assert "no difference" in capsys.readouterr().out
    assert main(["report", "compare", a, b]) == 1
    assert "verdict: rho/overall: replicated → contradicted" in capsys.readouterr().out
    assert main(["report", "compare", a, b, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] is False
    assert {c["kind"] for c in found["changes"]} == {"verdict", "estimate"}
    assert main(["report", "compare", a, str(tmp_path / "none")]) == 2
    assert "expected a verdict file, found no such file" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert "expected a folder for the report, got none; add --out DIR" in capsys.readouterr().err
