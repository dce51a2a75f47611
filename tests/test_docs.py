"""The documentation: every command in it is run, or at least read by the real parsers; every link leads somewhere.

A command in a code block is run as it stands, from a folder that has what it names. What would train or compute for
minutes is read by the argument parser alone. Commands within sentences may be incomplete; their options must exist.
"""

from __future__ import annotations

import argparse
import ast
import csv
import importlib.util
import json
import os
import re
import shlex
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fixtures import options as plugin_options
from replicate.cli import main
from replicate.cli.arguments import parser
from replicate.estimate.flags import Flag
from replicate.judging import verdict_file
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, OUTCOMES, REPLICATED
from replicate.paper.registry import CELLS, claim
from replicate.runs import scales
from replicate.runs.needed import runs_for
from replicate.runs.result import Result
from replicate.store import recorded, strict
from replicate.store.store import open_store
from tests.support.verdicts import made_file

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]  # fmt: skip

SLOW = (
    *("train", "calibrate", "synthesize", "audit", "runs record", "runs verify", "watch"),
    "plan --scale cifar100 --measure",
)
"""Commands that are only parsed: they train, compute for seconds (`audit` has tests of its own), or wait for others."""
PYTEST_OWN = {"-k", "-n", "-q", "-m", "--help", "--junit-xml"}

BLOCK = re.compile(r"(?ms)^```[a-z]*\n(.*?)^```|^(?: {4}\S.*\n)+")
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\]\(([^()\s]+)\)")


def commands_of(text: str) -> list[str]:
    """The lines of code blocks that are commands, without comments."""
    lines = []
    for block in BLOCK.finditer(text):
        for line in (block[1] if block[1] is not None else block[0]).splitlines():
            plain = re.split(r"\s+#|\s+\(", line.strip())[0]
            if re.match(r"(replicate|bash|pytest|python) |ci/\w", plain := plain.removeprefix(".venv/bin/")):
                lines.append(plain)
    return lines


def arguments_of(command: str) -> list[str] | None:
    """The arguments where it is a `replicate` command."""
    words = shlex.split(command)
    return words[1:] if words and words[0] == "replicate" else None


BLOCKS = [
    (path.relative_to(ROOT).as_posix(), line)
    for path in DOCUMENTS
    for line in dict.fromkeys(commands_of(path.read_text(encoding="utf-8")))
]
TO_RUN = {line: where for where, line in BLOCKS if arguments_of(line) is not None}
SPANS = sorted(
    {
        (path.relative_to(ROOT).as_posix(), " ".join(found[1].split()))
        for path in DOCUMENTS
        for found in SPAN.finditer(BLOCK.sub("", path.read_text(encoding="utf-8")))
    }
)


class Options:
    """Stands in for pytest's parser and notes the options that the plugin registers."""

    def __init__(self) -> None:
        self.names: set[str] = set(PYTEST_OWN)

    def getgroup(self, *_: str) -> Options:
        return self

    def addoption(self, *names: str, **_: Any) -> None:
        self.names.update(names)


@cache
def pytest_options() -> set[str]:
    found = Options()
    plugin_options.add(found)  # type: ignore[arg-type]
    return found.names


@cache
def all_options() -> set[str]:
    """Every option of every command."""
    found: set[str] = set()
    pending: list[argparse.ArgumentParser] = [parser()]
    while pending:
        one = pending.pop()
        for action in one._actions:
            found.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                pending += action.choices.values()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of the documents find what they name."""
    here = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "examples", here / "examples")
    (here / "sweep.csv").write_text("lr,wd,seed,accuracy\n1e-3,0,0,0.5\n1e-3,1e-4,0,0.6\n1e-2,1e-3,0,0.55\n")
    scale = scales.get("embedded")
    runs = runs_for([claim("deviation/cifar100/kappa-0.1")], scale)[:40]
    for name in (".replicate/store", "A", "B"):
        store = open_store(here / name)
        for run in runs:
            accuracy = 50.0 + run.seed % 7
            store.put(run, Result(accuracy, accuracy, False, 1.0, (accuracy,), 0.1), {}, durable=False)
    for name in ("old", "new"):
        (here / name).mkdir()
        verdict_file.write(here / name / "verdicts.json", made_file({"one-dim/cost": REPLICATED}))
    return here


def key(folder: Path) -> str:
    return sorted((folder / ".replicate" / "store" / "runs").glob("*/*.json"))[0].stem


@pytest.mark.parametrize("command", TO_RUN)
def test_commands_are_understood(command: str) -> None:
    arguments = arguments_of(command)
    assert arguments is not None
    assert parser().parse_args(arguments).command == arguments[0], TO_RUN[command]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(c, marks=[pytest.mark.slow] if (arguments_of(c) or [])[:2] == ["report", "--out"] else [])
        for c in TO_RUN
        if "--once" in c or not " ".join(arguments_of(c) or ()).startswith(SLOW)
    ],
)
def test_commands_work(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("REPLICATE_STORE", raising=False)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(scales, "SCALES", {name: scales.SCALES[name] for name in ("smoke", "embedded")})
    arguments = [key(folder) if word == "KEY" else word for word in arguments_of(command) or ()]
    if arguments[:2] == ["report", "compare"] and "A" in arguments:
        arguments[-2:] = ["old", "new"]
    status = main(arguments)
    out, err = capsys.readouterr()
    assert status in (0, 1), f"{TO_RUN[command]}: {command}: {err}"
    assert out or "--out" in arguments


@pytest.mark.parametrize(("where", "command"), [(w, c) for w, c in BLOCKS if c not in TO_RUN])
def test_scripts_and_their_options_exist(where: str, command: str) -> None:
    check_script(command)


@pytest.mark.parametrize("where", sorted({where for where, _ in SPANS}))
def test_what_stands_in_sentences_exists(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, options and files of this repository that a sentence names."""
    for text in (span for place, span in SPANS if place == where):
        if text.startswith("--"):
            option = re.split(r"[ =]", text)[0]
            assert option in all_options() | pytest_options(), f"{where}: {text}"
        elif text.startswith("replicate ") and "…" not in text:
            understood(text, capsys)
        elif re.match(r"(runs|report|watch|judge|plan|train|audit|calibrate) \S", text):
            understood(f"replicate {text}", capsys)
        elif text.startswith(("ci/", "pytest ", "python benchmarks/")):
            check_script(text)
        elif re.fullmatch(r"(replicate|docs|tests|claims|examples|benchmarks|fixtures)/[\w./-]*", text):
            assert (ROOT / text).exists() or text.startswith("fixtures/recorded"), f"{where}: no {text}"


def understood(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command as a sentence has it: what it lacks is no fault."""
    try:
        parser().parse_args(arguments_of(command))
        return
    except SystemExit:
        message = capsys.readouterr().err
    assert "arguments are required" in message, f"{command}: {message}"


def check_script(command: str) -> None:
    """Scripts are there and can be run; the options of what hands them on to pytest are known."""
    program, *arguments = shlex.split(command)
    if program in ("bash", "python"):
        program, *arguments = arguments
    if program != "pytest":
        script = ROOT / program
        assert script.is_file(), f"no {program}"
        assert os.access(script, os.X_OK) or program.startswith(("benchmarks/", ".ci/", "ci/constraints", "ci/test_"))
    if program in ("ci/claims", "ci/test", "pytest"):
        given = {word.partition("=")[0] for word in arguments if word.startswith("-")}
        assert given <= pytest_options(), command


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(BLOCK.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f"{path.name}: {target}"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.*)$", found.read_text(encoding="utf-8"))
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{path.name}: {target}"


def schema() -> Any:
    return json.loads((ROOT / "docs" / "verdicts.schema.json").read_text(encoding="utf-8"))


class TestSchema:
    def test_it_is_made_from_the_classes(self) -> None:
        """`python -m replicate.judging.verdict_file > docs/verdicts.schema.json` writes it."""
        assert schema() == strict.schema(verdict_file.StoredFile, "verdicts.json, format 2")

    def test_it_is_one(self) -> None:
        jsonschema.Draft202012Validator.check_schema(schema())

    def test_a_file_with_every_outcome(self) -> None:
        ids = ("slope/vit_s16-cifar100", "slope/swin_t-cifar100", "slope/resnet50-cifar100", "slope/mixer_s16-cifar100")
        file = made_file(dict(zip(ids, OUTCOMES, strict=True)))
        assert all(file.counts.values())
        jsonschema.validate(file.to_json(), schema())

    @pytest.mark.slow
    def test_a_file_that_the_suite_writes(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Judged from stored runs, with the details of real estimates."""
        store = str(folder / ".replicate" / "store")
        assert main(["report", "--store", store, "--scale", "embedded", "--out", str(tmp_path)]) in (0, 1)
        written = json.loads((tmp_path / "verdicts.json").read_text(encoding="utf-8"))
        jsonschema.validate(written, schema())
        assert any(entry["estimate"] for entry in written["claims"])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": 1}, "1 is not one of \\[2\\]"),
            ({"probe": "yes"}, "is not of type 'boolean'"),
            ({"more": 1}, "'more' was unexpected"),
        ],
    )
    def test_other_files_are_refused(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(jsonschema.ValidationError, match=message):
            jsonschema.validate(made_file({}).to_json() | change, schema())

    def test_every_field_is_explained(self) -> None:
        text = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
        found = schema()
        blocks = [block for block in found["$defs"].values() if "properties" in block]
        for name in {name for block in blocks for name in block["properties"]}:
            assert f"`{name}`" in text, f"docs/verdicts.md does not explain {name}"


def test_every_flag_is_explained_and_those_that_forbid_are_marked() -> None:
    text = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"(?m)^\| (`[^|]*?)( \*)? \|", text.partition("## Flags")[2]))
    marked = {name.strip("` "): bool(star) for names, star in rows.items() for name in names.split(",")}
    assert marked == {flag.value: bool(flag.forbids) for flag in Flag}


class TestWorkedExample:
    def test_the_sweep_is_what_the_script_makes(self, tmp_path: Path) -> None:
        script = ROOT / "examples" / "your-own-sweep" / "make.py"
        spec = importlib.util.spec_from_file_location("make", script)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.main(tmp_path / "sweep.csv")
        assert (tmp_path / "sweep.csv").read_bytes() == script.with_name("sweep.csv").read_bytes()
        with script.with_name("sweep.csv").open() as file:
            assert all(row["config.dataset"].startswith("made-up") for row in csv.DictReader(file))

    def test_the_document_shows_what_the_command_says(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Sentences, claims and verdicts; the last digits of estimates are not the same on every machine."""
        assert main(["judge", str(ROOT / "examples" / "your-own-sweep" / "sweep.csv")]) == 1
        said = [" ".join(line.split()[:2]) for line in capsys.readouterr().out.splitlines()]
        text = (ROOT / "docs" / "your-own-sweep.md").read_text(encoding="utf-8")
        shown = next(block[1] for block in BLOCK.finditer(text) if block[1] and block[1].startswith("made-up-cnn on"))
        assert [" ".join(line.split()[:2]) for line in shown.splitlines()] == said

    def test_the_picture(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = ROOT / "examples" / "your-own-sweep"
        out = tmp_path / "sweep.svg"
        assert main(["judge", str(folder / "sweep.csv"), "--picture", str(out)]) == 1
        for path in (out, folder / "sweep.svg"):
            text = path.read_text(encoding="utf-8")
            ElementTree.fromstring(text)
            assert "made-up-cnn on made-up-images" in text and "made-up-vit on made-up-images" in text
            assert "var(--" not in text  # it stands alone
            ids = re.findall(r'\bid="([^"]+)"', text)
            assert len(ids) == len(set(ids))
        assert main(["judge", str(folder / "sweep.csv"), "--picture", str(tmp_path / "sweep.svg" / "x")]) == 2
        assert "--picture" in capsys.readouterr().err.splitlines()[-1]


def test_the_workflow_runs_scripts_that_exist() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert {"push", "pull_request"} <= workflow[True].keys()  # YAML 1.1 reads the key `on` as true
    assert workflow["jobs"]["software"]["strategy"]["matrix"]["python"] == ["3.10", "3.13"]
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    scripts = {step["run"].split()[0] for step in steps if step.get("run", "").startswith("ci/")}
    assert scripts == {"ci/test", "ci/smoke", "ci/expected", "ci/worlds"}
    assert all(os.access(ROOT / script, os.X_OK) for script in scripts)
    assert any("GITHUB_STEP_SUMMARY" in step.get("run", "") for step in steps)


def test_the_results_in_the_readme_are_those_of_the_recorded_runs() -> None:
    """By the verdicts that are saved beside the runs; `ci/expected` judges the runs."""
    saved = verdict_file.read(ROOT / "fixtures" / "recorded" / "probe" / "verdicts.json")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    for words, name in (("best λ is", "rho/"), ("slope of ln λ", "slope/"), ("tuning η alone", "one-dim/gap/")):
        for dataset, data in (("cifar100", "digits"), ("imagenet", "Fashion-MNIST")):
            (row,) = (r for r in rows if r[0].startswith(words) and r[0].endswith(data))
            assert row[1:] == [saved.outcomes[name + c.id] for c in CELLS if c.dataset == dataset]
    counts = ", ".join(f"{saved.counts[outcome]} {outcome}" for outcome in (CONTRADICTED, INCONCLUSIVE, NOT_RUN))
    assert f"In all: {saved.counts[REPLICATED]} claims replicated, {counts}" in text
    runs = sum(1 for _ in recorded.read(recorded.path_of("probe")))
    assert f"{runs:,} runs of small models" in text
    assert saved.store_runs == runs


def code() -> list[Path]:
    """Every Python file of the repository."""
    folders = ("replicate", "fixtures", "claims", "tests", "ci", "benchmarks", "examples")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def docstrings() -> Iterator[tuple[str, str]]:
    """Where each string that stands alone in the code is, and the string: those of attributes are among them."""
    for path in code():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            value = node.value if isinstance(node, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", value.value.strip()


def test_docstrings_name_what_they_speak_of() -> None:
    """None begins with "Of", as though its attribute's name were its first word, nor goes on in the next one."""
    bad = [at for at, text in docstrings() if text.startswith(("Of ", "…")) or text.endswith((", and …", " is …"))]
    assert bad == []


PRIVATE_WORDS = re.compile(r"(?i)\b(so\s+many|who[e]ver|of\s+before|such\s+as\s+a\s+run\s+has)\b")
"""Phrases that a native speaker stumbles over, in one line or across its end."""


def test_plain_words() -> None:
    """Docstrings, comments, messages and documents name the thing that they count and the process that acts."""
    bad = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}: {found[0]!r}"
        for path in (*code(), *DOCUMENTS)
        for text in [path.read_text(encoding="utf-8")]
        for found in PRIVATE_WORDS.finditer(text)
    ]
    assert bad == []
