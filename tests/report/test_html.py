"""report.html: every claim is there, nothing is loaded, nothing breaks out, the same verdicts give the same bytes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from replicate.audit.finding import CONSISTENT, DECISION_INCONSISTENT, INCONSISTENT, Finding
from replicate.audit.finding import OUTCOMES as OUTCOMES_OF_AUDIT
from replicate.calibration import measured
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, OUTCOMES, REPLICATED, Secondary
from replicate.judging.verdict_file import Entry, VerdictFile
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import Truth, bracket_grid, draw, paper_grid, ratio_grid
from replicate.paper.cells import Cell
from replicate.paper.registry import CELLS, CLAIMS, REGISTRY_HASH
from replicate.report import files, headline, html, markdown, page, view
from replicate.report.families import BY_KEY, cell_of, kappa_of, kind
from tests.support.landscapes import together
from tests.support.pages import HOSTILE, read
from tests.support.verdicts import made_file

FINITE = {c.id for c in CLAIMS if abs(c.margin.low) < float("inf") and abs(c.margin.high) < float("inf")}
MIXED = {c.id: OUTCOMES[i % 4] if c.id in FINITE else NOT_RUN for i, c in enumerate(CLAIMS)}
RATES = [
    measured.CellRow("a", "b", 1.0, 3.0, 5, "rho", t, 10, r, c, 1 - r - c, 0.0, None, None)
    for t, r, c in ((0.1, 0.8, 0.0), (3.0, 0.0, 1.0), (None, 0.0, 0.0))
]


def landscape(cell: Cell, seeds: int = 2) -> Landscape:
    truth = Truth()
    grid = together(paper_grid, ratio_grid, bracket_grid(truth)) if seeds > 2 else bracket_grid(truth)
    lrs = {} if seeds > 2 else {"lrs": (1e-4, 1e-3, 1e-2)}
    rng = np.random.default_rng(0)
    return draw(truth, grid, rng, seeds=range(seeds), arch=cell.arch, dataset=cell.dataset, diverged_above=1e-4, **lrs)


@pytest.fixture(scope="module")
def mixed() -> str:
    found = {(CELLS[0], "main"): landscape(CELLS[0]), (CELLS[0], "sgd"): landscape(CELLS[0])}
    return html.render(made_file(MIXED), found, '<svg xmlns="http://www.w3.org/2000/svg"><text>T</text></svg>', RATES)


def hostile_file(text: str) -> VerdictFile:
    """A file with `text` wherever a file may hold text of somebody else's."""

    def hostile(e: Entry) -> Entry:
        evidence = dataclasses.replace(e.verdict.evidence, scale=text, cells=(text,))
        beside = Secondary(direction=text, disagreement=text)
        verdict = dataclasses.replace(e.verdict, reason=text, settle=text, evidence=evidence, secondary=beside)
        return dataclasses.replace(e, verdict=verdict, statement=text, source=text, rule=text)

    file = made_file({"rho/overall": REPLICATED, CLAIMS[0].id: CONTRADICTED, "slope/vit_s16-imagenet": INCONCLUSIVE})
    return dataclasses.replace(
        file,
        entries=tuple(hostile(e) for e in file.entries),
        scale=text,
        summary=text,
        why=text,
        devices=(text,),
        trained=(text,),
        versions={text: text},
    )


@pytest.mark.slow
def test_every_claim_has_its_place_and_every_letter_leads_to_it(mixed: str) -> None:
    found = read(mixed)
    for c in CLAIMS:
        assert page.slug(c.id) in found.ids, c.id
        assert f"#{page.slug(c.id)}" in found.links, c.id
    assert found.tags.count("main") == 1
    assert "#main" in found.links
    for heading in (
        "The ratio",
        "What a wrong ratio costs",
        "Provenance",
        "How often the rules err",
        "What the paper’s grid",
    ):
        assert heading in found.text, heading
    for fact in ("0.098 [0.081, 0.115]", "0123456789abcdef", "python 3.11.0, torch 2.9.0", "a processor"):
        assert fact in found.text, fact


def test_nothing_can_be_loaded(mixed: str) -> None:
    assert read(mixed).policy == page.POLICY
    assert page.POLICY.startswith("default-src 'none'")
    addresses = set(re.findall(r"https?://[^\"' <)]+", mixed))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name space, never fetched


def test_the_same_verdicts_give_the_same_bytes(mixed: str) -> None:
    found = {(CELLS[0], "main"): landscape(CELLS[0]), (CELLS[0], "sgd"): landscape(CELLS[0])}
    again = html.render(made_file(MIXED), found, '<svg xmlns="http://www.w3.org/2000/svg"><text>T</text></svg>', RATES)
    assert again == mixed


def test_a_verdict_is_never_colour_alone(mixed: str) -> None:
    for outcome, letter in (("replicated", "R"), ("contradicted", "C"), ("inconclusive", "I"), ("not-run", "N")):
        marks = re.findall(
            rf'<a class="m {outcome}"[^>]*aria-label="[^"]*: {outcome.replace("-", " ")}">(.)</a>', mixed
        )
        assert marks and set(marks) == {letter}


@pytest.mark.parametrize(
    ("changes", "words", "badge"),
    [
        ({"probe": True}, "PROBE: scale", "PROBE"),
        ({"probe": True, "synthetic": True}, "SYNTHETIC: some of the evidence was made up", None),
        ({"scale": "cifar100", "probe": False}, "PAPER’S PROTOCOL: the runs", "PAPER’S PROTOCOL"),
    ],
)
def test_the_kind_of_evidence_stands_at_the_top_and_at_each_verdict(
    changes: dict[str, object], words: str, badge: str | None
) -> None:
    file = made_file({"rho/overall": REPLICATED}, **changes)  # type: ignore[arg-type]
    found = read(html.render(file))
    assert words in found.text[:600]
    assert badge is None or any(badge in text for text in found.texts[-400:])


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12].encode("unicode_escape").decode())
def test_hostile_text_is_shown_as_text(text: str) -> None:
    written = html.render(hostile_file(text))
    found = read(written)
    shown = page.plain(text) if len(text) < 80 else f"{text[:80]}… (10,000 characters)"
    assert " ".join(shown.split()) in found.text
    assert "49" not in re.findall(r"<bdi>(.*?)</bdi>", written)
    assert len(written) < 1_000_000 or len(text) > 80
    assert "\x00" not in written
    assert "\x1b" not in written


def test_claims_that_were_not_run_and_crashed_ones() -> None:
    read(html.render(made_file({})))
    assert (
        headline.sentences(made_file({}))[0]
        == f"None of the paper's {len(CLAIMS)} claims could be judged from this probe."
    )
    file = made_file({"rho/overall": NOT_RUN, "rho/resnet50-cifar100": REPLICATED})
    crashed = tuple(
        dataclasses.replace(e, crashed="crashed: ZeroDivisionError: <b>") if e.selected else e for e in file.entries
    )
    found = read(html.render(dataclasses.replace(file, entries=crashed)))
    assert "crashed: ZeroDivisionError: <b>" in found.text
    assert "judging 2 of them crashed" in headline.sentences(dataclasses.replace(file, entries=crashed))[0] or (
        "None of the paper's" in headline.sentences(dataclasses.replace(file, entries=crashed))[0]
    )
    assert "E · crashed" in found.text
    read(html.render(dataclasses.replace(file, entries=())))


def test_the_answer_in_three_sentences() -> None:
    file = made_file(
        {f"rho/{c.id}": outcome for c, outcome in zip(CELLS, [REPLICATED] * 3 + [CONTRADICTED] * 2, strict=False)}
    )
    first, second, third = headline.sentences(file)
    assert first == (
        f"5 of the paper's {len(CLAIMS)} claims could be judged from this probe: 3 replicated, 2 contradicted, "
        f"0 inconclusive; {len(CLAIMS) - 5} were not run."
    )
    assert second == (
        "The best weight decay is a tenth of the learning rate, within a factor 2, in 3 of 5 cells, "
        "0.35 to 0.5 times the learning rate in 2."
    )
    assert third == "What tuning the learning rate alone costs has not been measured."


def test_the_short_summary_is_short(tmp_path: Path) -> None:
    file = made_file(MIXED)
    files.write_texts(tmp_path, file)
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert text == markdown.summary(file)
    assert len(text) < 6000
    assert "> **PROBE.**" in text
    for sentence in headline.sentences(file):
        assert sentence[:40] in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {7}
    assert len(rows) == 2 + len(BY_KEY)
    assert "<script" not in markdown.summary(hostile_file(HOSTILE[0]))


def test_kinds_of_claims() -> None:
    assert {c.family for c in CLAIMS} == set(BY_KEY)
    assert kind("rho/reject/vit_s16-imagenet") == "rho/reject"
    assert cell_of("rho/overall") == ""
    assert kappa_of("deviation/imagenet/kappa-0.5") == ("imagenet", 0.5)
    shown = [m.id for _, marks in view.cells_matrix(made_file({})) for m in marks if m.id]
    shown += [m.id for _, marks in view.kappa_matrix(made_file({}))[1] for m in marks]
    shown += [m.id for m in view.other_marks(made_file({}))]
    assert sorted(shown) == sorted(c.id for c in CLAIMS)


def test_no_calibration_is_no_section(tmp_path: Path) -> None:
    assert files.calibration(tmp_path / "none.json") == ((), "")
    (tmp_path / "bad.json").write_text("[1", encoding="utf-8")
    rates, why = files.calibration(tmp_path / "bad.json")
    assert not rates and "expected a calibration" in why
    stale = measured.Measured(measured.read(files.CALIBRATION).cells[:1], registry="another")
    measured.write(tmp_path / "stale.json", stale)
    rates, why = files.calibration(tmp_path / "stale.json")
    assert not rates and why.startswith("stale.json was measured with other claims or rules; repeat `replicate")
    measured.write(tmp_path / "good.json", dataclasses.replace(stale, registry=REGISTRY_HASH))
    assert files.calibration(tmp_path / "good.json") == (stale.cells, "")
    assert "How often the rules err" not in html.render(made_file({}))


@pytest.mark.slow
def test_ten_cells_of_five_seeds_are_small_enough() -> None:
    one = landscape(CELLS[0], seeds=5)
    found = {(cell, "main"): dataclasses.replace(one, arch=cell.arch, dataset=cell.dataset) for cell in CELLS}
    assert len(one.frame) > 500
    written = html.render(made_file(MIXED), found)
    read(written)
    assert len(written.encode()) < 5_000_000


def test_the_paper_s_own_figures_are_on_the_page() -> None:
    def finding(name: str, outcome: str, evidence: str, consistent_if: str = "") -> Finding:
        texts = {"source": "s", "claimed": "1", "recomputed": "2", "assumes": "a", "consistent_if": consistent_if}
        return Finding(id=name, outcome=outcome, evidence=evidence, **texts)

    fits = finding("audit/saving", CONSISTENT, "It adds up.")
    off = finding("audit/run-count", INCONSISTENT, "<b>Twelve</b> runs are missing.", "they exist")
    falls = finding("audit/on-grid", DECISION_INCONSISTENT, "0.1 is not on the grid.", "it were")
    assert tuple(html.FINDINGS) == tuple(reversed(OUTCOMES_OF_AUDIT))
    written = html.render(made_file({}), findings=[finding.to_json() for finding in (fits, off, falls)])
    found = read(written)
    assert "Of 3 findings" in found.text
    assert "&lt;b&gt;Twelve&lt;/b&gt; runs are missing." in written
    assert "It would be consistent if they exist." in found.text
    places = [written.index(f">audit/{name}<") for name in ("on-grid", "run-count", "saving")]
    assert places == sorted(places)  # the gravest first
    assert "The paper’s own figures" not in html.render(made_file({}))


def test_what_trained_is_told_from_what_judged() -> None:
    words = "python 3.12.1, torch 2.11.0; stacked, bfloat16: 1,200 runs"
    written = html.render(made_file({}, trained_with=(words,)))
    assert f"<dt>Software that trained</dt><dd><bdi>{words}</bdi></dd>" in written
    assert "Software that trained" not in html.render(made_file({}))
