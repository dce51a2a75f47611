"""The audit as a whole: every id, its outcome on the paper, made-up papers, folders, the command, the documents."""

from __future__ import annotations

import ast
import csv
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest

from replicate.audit import folder, printing
from replicate.audit.audits import Audit, Report, audits, run
from replicate.audit.finding import CONSISTENT, OUTCOMES, NotStated
from replicate.audit.picture import picture
from replicate.audit.reported import RatioRow, Reported
from replicate.audit.subject import published
from replicate.cli import main
from replicate.paper.registry import CELLS, CLAIMS
from replicate.store.strict import json_types
from tests.support.audited import change, made_up, write_folder

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "made-up-paper"
MADE_FROM = 4
"""The seed of the example; its sweep is one in which what the made-up paper says of p-values holds as well."""

REQUIRED = (
    *(f"audit/reachability/{cell.id}" for cell in CELLS),
    *(f"audit/p-values/{cell.id}" for cell in CELLS),
    *(
        f"audit/{name}"
        for name in (
            "on-grid", "pipeline-on-truth", "anova-p", "anova-df", "run-count", "grid-count", "saving", "within-0.3",
            "deviation-range", "deviation-growth", "asymmetry", "three-cnns", "compute", "script", "references",
        )
    ),
    *(
        f"theory/{name}"
        for name in (
            "effective-l2", "constant-ratio-preserves-balance", "equilibrium-norm", "constant-ratio-keeps-norm",
            "l2-closed-form", "inertness",
        )
    ),
)  # fmt: skip

CONSISTENT_IDS = {
    *(f"audit/p-values/{cell.id}" for cell in CELLS),
    *(
        f"audit/{name}"
        for name in (
            "p-reference", "none-rejects", "slopes-hold-one", "drop-p", "anova-p", "mean-gap", "tolerance-zone",
            "robust-range", "recipe-arithmetic",
        )
    ),
    "theory/equilibrium-norm", "theory/constant-ratio-keeps-norm", "theory/l2-closed-form",
}  # fmt: skip
"""What holds in the paper."""


@pytest.fixture(scope="module")
def report() -> Report:
    return run(published())


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A folder that takes no time: two cells, two learning rates."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "grid.csv").write_text("lr,wd\n1e-3,1e-4\n1e-2,1e-3\n1e-2,1e-2\n")
    (tmp_path / "small" / "table-1.csv").write_text("arch,dataset,rho\na,x,0.10\nb,x,0.10\n")
    return str(tmp_path / "small")


def test_every_id_is_there_once(report: Report) -> None:
    ids = [f.id for f in report.findings]
    assert len(ids) == len(set(ids))
    assert set(REQUIRED) <= set(ids)
    assert not report.left_out
    assert ids == [a.id for a in audits(published())]
    assert not set(ids) & {c.id for c in CLAIMS}


def test_what_holds_in_the_paper(report: Report) -> None:
    assert {f.id for f in report.findings if f.outcome == CONSISTENT} == CONSISTENT_IDS
    assert report.counts == {"consistent": 22, "inconsistent": 16, "decision-inconsistent": 23}


def test_every_finding_is_whole(report: Report) -> None:
    for f in report.findings:
        assert f.source
        assert f.claimed
        assert f.recomputed
        assert f.assumes
        assert f.evidence.endswith(".")
        assert any(c.isdigit() for c in f.evidence), f.id
        assert "nan" not in f.evidence.split(), f.id


def test_names_that_other_selections_use() -> None:
    """`-k` picks trained claims by such words; no finding may come along."""
    for a in audits(published()):
        assert not any(word in a.id for word in ("overall", "long", "one_dim", "other"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 9))
def test_made_up_papers_are_consistent(seed: int) -> None:
    """Sweeps in which the claim is true, analysed the paper's way. Two statements may fail by the noise of 5 seeds."""
    found = run(made_up(seed))
    by_chance = {"audit/none-rejects", "audit/slopes-hold-one"}
    wrong = {f.id: f.evidence for f in found.findings if f.outcome != CONSISTENT and f.id not in by_chance}
    assert not wrong
    assert len(found.findings) > 45


def test_a_finding_goes_by_the_name_of_its_audit_and_no_other() -> None:
    first = audits(published())[0]
    assert first.find().id == first.id
    assert [f.id for f in run(published(), [Audit("audit/x", first.find)]).findings] == ["audit/x"]


class TestText:
    def test_json(self, report: Report) -> None:
        data = json.loads(printing.json_text(report, [*(f.id for f in report.findings), "audit/new"]))
        assert data["format"] == 1
        assert data["counts"] == report.counts
        assert data["not_run"] == ["audit/new"]
        assert {"id", "outcome", "evidence", "source", "claimed", "recomputed", "assumes"} <= data["findings"][0].keys()
        assert {f["outcome"] for f in data["findings"]} <= set(OUTCOMES)

    @pytest.mark.parametrize("width", [40, 100])
    @pytest.mark.parametrize("verbose", [False, True])
    def test_lines_fit(self, report: Report, width: int, verbose: bool) -> None:
        found = list(printing.lines(report, width, verbose))
        assert " ".join(found).endswith(printing.counts_text(report))
        names = {f.id for f in report.findings}
        # A long word, and a name with its place, may stick out.
        assert all(len(line) <= width or line.split()[0] in names or len(line.split()) == 1 for line in found)
        assert len(found) > len(report.findings)

    def test_markdown_has_every_finding(self, report: Report) -> None:
        found = printing.markdown(report)
        assert all(f"### `{f.id}`" in found for f in report.findings)

    def test_markup_in_a_paper_stays_text(self) -> None:
        paper = change(made_up(4), 0, arch="<script>|*x*")
        found = printing.markdown(run(paper, audits(paper)[:1]))
        assert "<script>" in found
        assert "<script>" not in re.sub("`[^`]*`", "", found)  # as code it is text

    def test_json_of_what_json_lacks(self) -> None:
        assert json_types({1.5: (float("nan"), True, None)}) == {"1.5": [None, True, None]}
        with pytest.raises(TypeError, match="expected numbers, texts, lists and mappings, got a set"):
            json_types({1})


class TestPicture:
    def test_the_paper(self) -> None:
        root = ElementTree.fromstring(picture(published()))
        circles = [c for c in root.iter("{http://www.w3.org/2000/svg}circle") if c.get("cx") != "9"]
        assert len(circles) == 48
        assert sum(c.get("fill") == "#c1440e" for c in circles) == 1
        assert "at 1 of 6 learning rates" in picture(published())
        assert "0.131" in picture(published())

    def test_another_paper(self) -> None:
        ElementTree.fromstring(picture(made_up(4)))
        assert "at 3 of 3 learning rates" in picture(made_up(4))


def unit(number: str) -> Decimal:
    """One in the last digit of a decimal number."""
    return Decimal(1).scaleb(-len(number.partition(".")[2]))


class TestFolder:
    def test_there_and_back(self, tmp_path: Path) -> None:
        paper = made_up(4)
        write_folder(paper, tmp_path)
        found = folder.read(str(tmp_path))
        assert found.grid == paper.grid
        assert [(r.cell, r.rho, r.p, r.slope, r.r2) for r in found.ratios] == [
            (r.cell, r.rho, r.p, r.slope, r.r2) for r in paper.ratios
        ]
        assert [(d.kappa, d.dataset, d.drop, d.p, d.p_below) for d in found.drops] == [
            (d.kappa, d.dataset, d.drop, d.p, d.p_below) for d in paper.drops
        ]
        assert [(f.name, f.measured.text) for f in found.figures] == [(f.name, f.measured.text) for f in paper.figures]

    def test_the_example_is_what_the_tests_make(self, tmp_path: Path) -> None:
        """To a unit in a number's last digit: processors round differently."""
        write_folder(made_up(MADE_FROM), tmp_path)
        for path in sorted(tmp_path.iterdir()):
            kept, made = ((place / path.name).read_text() for place in (EXAMPLE, tmp_path))
            assert NUMBER.sub("#", kept) == NUMBER.sub("#", made), path.name
            for a, b in zip(NUMBER.findall(kept), NUMBER.findall(made), strict=True):
                assert abs(Decimal(a) - Decimal(b)) <= unit(a), (path.name, a, b)

    def test_the_paper_from_a_folder(self, tmp_path: Path, report: Report) -> None:
        """Its tables as CSV give the outcomes that the package gives, as far as a folder can hold them."""
        write_folder(published(), tmp_path)
        found = {f.id: f.outcome for f in run(folder.read(str(tmp_path))).findings}
        expected = {f.id: f.outcome for f in report.findings}
        assert {i: expected[i] for i in found} == found
        assert len(found) == 53

    def test_two_tables_and_a_grid_are_enough(self, tmp_path: Path) -> None:
        """The smallest folder: a grid, cells with a ratio, a drop."""
        (tmp_path / "grid.csv").write_text("lr,wd,seed\n1e-3,1e-4,0\n1e-3,1e-4,1\n1e-2,1e-3,0\n1e-2,1e-2,0\n")
        (tmp_path / "table-1.csv").write_text("arch,dataset,rho\na,x,0.10\nb,x,0.30\n")
        (tmp_path / "table-2.csv").write_text("kappa,dataset,drop\n10,x,2.0\n")
        found = run(folder.read(str(tmp_path)))
        outcomes = {f.id: f.outcome for f in found.findings}
        assert outcomes["audit/reachability/a-x"] == CONSISTENT
        assert outcomes["audit/reachability/b-x"] != CONSISTENT
        assert "audit/on-grid" in outcomes
        assert ("audit/anova-p", "the figure anova/f") in found.left_out
        assert len(found.findings) + len(found.left_out) == len(audits(folder.read(str(tmp_path))))
        assert not any("section" in f.source for f in found.findings)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("grid.csv", None, "expected grid.csv and table-1.csv in it, found no grid.csv"),
            ("grid.csv", "lr\n1e-3\n", "grid.csv: expected a column wd, found lr"),
            ("grid.csv", "lr,wd\n", "grid.csv: expected at least one row, got none"),
            (
                "grid.csv",
                "lr,wd\n0,1\n",
                "expected learning rates above 0 and weight decays of at least 0, got lr 0, wd 1",
            ),
            (
                "grid.csv",
                "lr,wd\nfast,1\n",
                "row 2, column lr: expected a number as printed, such as 0.10 or 1/6, got 'fast'",
            ),
            ("table-1.csv", "arch,dataset,rho\na,x,\n", "row 2: expected a value in column rho, got none"),
            ("table-1.csv", "arch,dataset,rho\na,x,-1\n", "column rho: expected a ratio above 0, got -1"),
            ("table-1.csv", "arch,dataset,rho\na,x,0.1\na,x,0.2\n", "expected each row once, got a-x twice"),
            (
                "table-1.csv",
                "arch,dataset,rho,rho_low\na,x,0.1,0.05\n",
                "expected both rho_low and rho_high or neither",
            ),
            ("table-2.csv", "kappa,dataset,drop\n0,x,1\n", "column kappa: expected a number above 0, got 0"),
            ("table-2.csv", "kappa,dataset,drop,p\n2,x,1,~0.1\n", "column p: expected a number as printed"),
            ("figures.csv", "name,value\nrho,\n", "expected a value in column low, got none"),
            ("figures.csv", "name,value\nrho,0.1,0.2\n", "expected 2 values as in the header, got 3"),
        ],
    )
    def test_unusable(
        self, tmp_path: Path, name: str, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(EXAMPLE, tmp_path / "paper")
        if content is None:
            (tmp_path / "paper" / name).unlink()
        else:
            (tmp_path / "paper" / name).write_text(content)
        assert main(["audit", str(tmp_path / "paper"), "--json"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert message in err

    @pytest.mark.parametrize("name", ["nowhere", "tests/audit/test_audit.py"])
    def test_no_folder(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["audit", str(ROOT / name)]) == 2
        assert "expected a folder with grid.csv and table-1.csv, got" in capsys.readouterr().err


class TestCommand:
    def test_json_stands_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["audit", str(EXAMPLE), "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        data = json.loads(out)
        assert data["paper"] == "made-up-paper"
        assert {f["outcome"] for f in data["findings"]} == {CONSISTENT}
        assert {"id": "audit/compute", "missing": "device-hours of the runs"} in data["left_out"]

    def test_status_1_where_anything_is_off(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.copytree(EXAMPLE, tmp_path / "paper")
        path = tmp_path / "paper" / "figures.csv"
        path.write_text(path.read_text().replace("cost/factor,21", "cost/factor,20"))
        assert main(["audit", str(tmp_path / "paper")]) == 1
        assert (
            "A figure or statement is wrong (inconsistent, 1)\n  audit/saving  [the paper]" in capsys.readouterr().out
        )

    def test_picture(self, tmp_path: Path, small: str, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "grid.svg"
        assert main(["audit", small, "--picture", str(path)]) == 0
        ElementTree.parse(path)
        assert f"written: {path}" in capsys.readouterr().err
        assert main(["audit", small, "--picture", str(ROOT / "README.md" / "x.svg")]) == 2
        assert "expected a file in an existing folder, but there is no " in capsys.readouterr().err

    @pytest.mark.slow
    def test_loads_no_gpu_stack(self, small: str) -> None:
        command = [sys.executable, "-X", "importtime", "-m", "replicate", "audit", small, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        loaded = {
            line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")
        }
        assert "replicate.audit.audits" in loaded
        assert not {name.split(".")[0] for name in loaded} & {"torch", "timm", "torchvision", "sklearn", "matplotlib"}


def test_the_document_is_what_the_command_prints(report: Report) -> None:
    """`replicate audit --markdown > docs/audit.md`; sentences and outcomes, not the last digits of a simulation."""
    written = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    assert [line for line in written.splitlines() if line.startswith("#")] == [
        line for line in printing.markdown(report).splitlines() if line.startswith("#")
    ]
    assert printing.counts_text(report) in written.replace("\\", "")


def test_flop_counts_name_what_counted_them() -> None:
    tree = ast.parse((ROOT / "replicate" / "audit" / "flop_counts.py").read_text(encoding="utf-8"))
    assert "ci/count_flops.py" in (ast.get_docstring(tree) or "")


def test_cells_in_a_paper_without_p_values() -> None:
    bare = Reported("bare", published().grid, (RatioRow("a", "x", published().ratios[0].rho),))
    missing = Counter(what for _, what in run(bare).left_out)
    assert missing["p-values in the table of ratios"] == 3
    with pytest.raises(NotStated):
        next(a for a in audits(bare) if a.id == "audit/on-grid").find()


def test_the_example_can_be_read_by_a_spreadsheet() -> None:
    for path in EXAMPLE.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as f:
            assert len({len(row) for row in csv.reader(f)}) == 1
