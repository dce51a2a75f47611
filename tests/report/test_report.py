"""The terminal table and the Markdown report: everything a reader needs, at any width, and nothing breaks out."""

from __future__ import annotations

import dataclasses
import re

import pytest

from replicate.estimate.estimate import Estimate
from replicate.estimate.power_law import Rivals
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, REPLICATED, Outcome
from replicate.judging.verdict_file import VerdictFile
from replicate.paper.claim import Figure, Margin
from replicate.paper.registry import CLAIMS, claim
from replicate.report import markdown, terminal
from replicate.report.wording import counts_text, estimate_text, figure_text, margin_text, notices, sentence
from replicate.text import printable
from tests.support.verdicts import made_cell, made_file

JUDGED = {
    "rho/overall": REPLICATED,
    "rho/convnext_t-imagenet": CONTRADICTED,
    "slope/vit_s16-cifar100": INCONCLUSIVE,
    "robust/long": NOT_RUN,
    "robust/batch/256": NOT_RUN,
}


def text_of(file: VerdictFile, width: int, settle: bool = True) -> str:
    return "\n".join(line.text for line in terminal.summary(file, width, settle))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 200, 400])
def test_every_fact_is_on_the_terminal_and_within_its_width(width: int) -> None:
    lines = terminal.summary(made_file(JUDGED), width)
    assert all(len(line.text) <= width for line in lines)
    words = " ".join(" ".join(line.text for line in lines).split())
    for claim_id in JUDGED:
        assert claim_id in words
    for fact in (
        "REPLICATED",
        "CONTRADICTED",
        "INCONCLUSIVE",
        "PROBE: scale smoke is not the paper's protocol",
        "resnet50, vit_s16 on digits",
        "The paper's own cells were not run",
        "evidence: smoke (probe)",
        "0.125 [0.0875, 0.16",  # estimate and interval
        "[0.05, 0.2]",  # margin
        "to settle: about 4 more seeds",
        "not run (2): this scale leaves it out",
        f"{len(CLAIMS)} claims: 1 replicated, 1 contradicted, 1 inconclusive, {len(CLAIMS) - 3} not run "
        f"({len(CLAIMS) - 5} of them not selected)",
    ):
        assert fact in words or width < 80, fact


def test_claims_that_were_not_selected_are_counted_and_not_listed() -> None:
    text = text_of(made_file({"rho/overall": REPLICATED}), 100)
    assert "slope/" not in text
    assert "93 not run (not selected)" in text


def test_a_wide_terminal_has_one_line_a_claim() -> None:
    lines = text_of(made_file(JUDGED), 200).splitlines()
    row = next(line for line in lines if line.startswith("rho/convnext_t-imagenet"))
    assert re.search(
        r"CONTRADICTED +0\.425 \[0\.35, 0\.5\] +\[0\.05, 0\.2\] +6 rates +best λ is 0\.35 to 0\.5 times η \(claimed",
        row,
    )


def test_evidence_is_a_column_where_it_differs() -> None:
    file = made_file({"rho/overall": REPLICATED, "one-dim/mean-gap": REPLICATED})
    first = file.entries[10]
    assert first.id == "rho/overall"
    other = dataclasses.replace(first.verdict.evidence, synthetic=True)
    changed = dataclasses.replace(first, verdict=dataclasses.replace(first.verdict, evidence=other))
    file = dataclasses.replace(file, entries=(*file.entries[:10], changed, *file.entries[11:]))
    for width in (80, 140, 200):
        text = text_of(file, width)
        assert "smoke (synthetic)" in text
        assert "smoke (probe)" in text
        assert "evidence: smoke" not in text


def test_lines_carry_the_outcome_for_colour() -> None:
    found = {line.outcome for line in terminal.summary(made_file(JUDGED), 100)}
    assert found == {"", REPLICATED, CONTRADICTED, INCONCLUSIVE, NOT_RUN}


def test_a_crash_is_no_verdict() -> None:
    file = made_file({"rho/overall": NOT_RUN})
    entries = tuple(dataclasses.replace(e, crashed="crashed: ValueError: x") if e.selected else e for e in file.entries)
    file = dataclasses.replace(file, entries=entries)
    text = text_of(file, 100)
    assert re.search(r"rho/overall +CRASHED", text)
    assert "crashed: ValueError: x" in text
    assert "93 not run, 1 crashed" in text
    assert "**crashed**" in markdown.render(file)


def test_paper_protocol_is_no_probe_and_synthetic_evidence_says_so() -> None:
    assert notices(made_file({}, scale="cifar100", probe=False)) == []
    (notice,) = notices(made_file({}, scale="cifar100", probe=False, synthetic=True))
    assert notice.startswith("SYNTHETIC")


def test_settling_can_be_left_out() -> None:
    assert "to settle" not in text_of(made_file(JUDGED), 100, settle=False)


def estimate(value: float | None, low: float, high: float, unit: str = "") -> Estimate:
    return Estimate("q", unit, value, low, high, 0.95, 5, "m")


INF = float("inf")


def test_numbers() -> None:
    assert estimate_text(None) == "—"
    assert estimate_text(estimate(0.09834, 0.081, 0.115)) == "0.0983 [0.081, 0.115]"
    assert estimate_text(estimate(3.0, -INF, 4.0, "pp")) == "(−∞, 4] pp"
    assert estimate_text(estimate(None, 0.0, INF)) == "— (not bounded)"
    assert estimate_text(estimate(None, -INF, 0.5)) == "(−∞, 0.5]"
    assert estimate_text(estimate(None, -INF, INF, "pp")) == "— (not bounded)"
    assert figure_text(None) == "-"
    assert figure_text(Figure(0.098, 0.081, 0.115, "", "Table 1, row 1")) == "0.098 [0.081, 0.115]"
    assert figure_text(Figure(0.34, None, None, "pp", "section 4.3")) == "0.34 pp"
    assert figure_text(claim("rho/reject/vit_s16-imagenet").figure) == "p = 0.18"
    assert figure_text(claim("universality/anova").figure) == "F(4, 45) = 0.72"
    assert margin_text(Margin(0.05, 0.2)) == "[0.05, 0.2]"
    assert margin_text(Margin(-INF, 0.3)) == "≤ 0.3"
    assert margin_text(Margin(0.9, INF)) == "≥ 0.9"
    assert margin_text(claim("one-dim/cost").margin) == "= 0.125"
    told = f"{len(CLAIMS)} claims: 1 replicated, 1 contradicted, 1 inconclusive, {len(CLAIMS) - 3} not run"
    assert counts_text(made_file(JUDGED)) == told


def test_markdown_has_every_claim_and_the_provenance() -> None:
    text = markdown.render(made_file(JUDGED))
    for c in CLAIMS:
        assert f"`{c.id}`" in text
    for fact in (
        "# Verdicts at scale smoke",
        "> **PROBE.** scale smoke is not the paper's protocol",
        "## rho",
        "## slope",
        "| **contradicted** |",
        "- this scale leaves it out: `robust/batch/256`, `robust/long`",
        "runs: 12, content hash `0123456789abcdef`",
        "versions: python 3.11.0, torch 2.9.0",
        "devices: a processor",
    ):
        assert fact in text, fact
    assert "## robust" not in text  # nothing judged there


def test_markdown_tables_have_as_many_cells_as_headings() -> None:
    tables = re.findall(r"(?:^\|.*\n)+", markdown.render(made_file(JUDGED)), re.MULTILINE)
    assert len(tables) > 2
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


def test_markdown_lets_no_markup_through() -> None:
    file = made_file({"rho/overall": REPLICATED})
    hostile = "<script>x</script> | a\n\n# b `c` [d](e)"
    entries = tuple(
        dataclasses.replace(e, verdict=dataclasses.replace(e.verdict, reason=hostile)) if e.selected else e
        for e in file.entries
    )
    text = markdown.render(dataclasses.replace(file, entries=entries, trained=(hostile,), devices=(hostile,)))
    assert "<script" not in text
    assert "\n# b" not in text
    assert "&lt;script&gt;x&lt;/script&gt; \\| a \\# b \\`c\\` \\[d\\](e)" in text


# ---------------------------------------------------------------- one sentence a cell


@pytest.mark.parametrize(
    ("exponent", "slope", "slope_verdict", "rho", "rho_verdict", "expected"),
    [
        (1, (0.9, 1.1), "replicated", 0.1, "replicated", "in proportion to the learning rate, about 0.1 times it"),
        (1, (0.9, 1.1), "replicated", 9.2, "contradicted", "in proportion to the learning rate, but it is about 9.2"),
        (1, (0.9, 1.1), "replicated", 0.2, "inconclusive", "grows in proportion to the learning rate"),
        (1, (0.28, 1.12), "inconclusive", 11.0, "contradicted", "perhaps in proportion: λ* ∝ η^b with b from 0.28 to"),
        (None, (0.32, 0.62), "contradicted", 1.0, "contradicted", "with the learning rate: λ* ∝ η^b with b from 0.32"),
        (1, (0.3, None), "inconclusive", None, "inconclusive", "perhaps in proportion: λ* ∝ η^b with b ≥ 0.3 (95 %)"),
        (None, (-0.62, -0.34), "contradicted", 1.0, "contradicted", "learning rate grows: λ* ∝ η^b with b from −0.62"),
        (-1, (-1.1, -0.26), "contradicted", 1.0, "contradicted", "their product stays the same: λ* ∝ η^b with b from"),
        (-1, (-1.1, -0.9), "contradicted", 1.0, "contradicted", "grows, so that their product stays the same"),
        (0, (-0.1, 0.1), "contradicted", 1.0, "contradicted", "does not depend on the learning rate"),
        (0, (-0.4, 0.3), "contradicted", 1.0, "contradicted", "does not grow in proportion to the learning rate"),
        (None, (-0.4, 1.3), "inconclusive", None, "inconclusive", "cannot be told from these runs"),
        (None, None, "inconclusive", None, "inconclusive", "cannot be told from these runs"),
    ],
)  # fmt: skip
def test_the_sentence_of_a_cell_says_no_more_than_its_intervals(
    exponent: int | None, slope: tuple[float | None, float | None] | None, slope_verdict: str, rho: float | None,
    rho_verdict: str, expected: str,
) -> None:  # fmt: skip
    low, high = slope or (None, None)
    measured = {
        "rho": Estimate("rho", "", rho, -INF, INF, 0.95, 5, "m"),
        "slope": estimate(None, -INF if low is None else low, INF if high is None else high),
    }
    cell = made_cell(rho=Outcome(rho_verdict), slope=Outcome(slope_verdict))
    rivals = Rivals(exponent=exponent, supported=None, excluded=(), exponent_of_lr_times_wd=None)
    assert expected in sentence(dataclasses.replace(cell, measured=measured, rivals=rivals))


def test_names_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[31mb\u202ec שלום") == "a\ufffd[31mb\ufffdc שלום"
