"""The content of a report as plain data for templates: matrix of verdicts, families, rows, provenance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, REPLICATED
from replicate.judging.verdict_file import Entry, VerdictFile
from replicate.paper.registry import CELLS
from replicate.report import beside
from replicate.report.families import BY_KEY, DATASETS, FAMILIES, TITLES, Family, cell_of, cell_title, kappa_of, kind
from replicate.report.figures.intervals import LETTERS
from replicate.report.wording import (
    CRASHED,
    estimate_text,
    figure_text,
    margin_text,
    n_text,
    outcome_text,
    provisional_text,
    same_reason,
    sure_text,
    trained_text,
)

MEANINGS = (
    (REPLICATED, "the whole interval lies inside the margin"),
    (CONTRADICTED, "the whole interval lies outside"),
    (INCONCLUSIVE, "the interval crosses an edge of the margin: these data cannot tell"),
    (NOT_RUN, "runs are missing"),
    (CRASHED, "judging failed with an error; there is no verdict"),
)
ROWS = (
    ("rho", "ratio"),
    ("rho/reject", "0.10 not rejected"),
    ("slope", "slope"),
    ("intercept", "intercept"),
    ("r2", "R²"),
    ("one-dim/gap", "η alone"),
    ("sgd/rho", "SGD"),
)
"""Kinds of claims about one cell each, and their names in the matrix."""
COLUMNS = tuple(cell for dataset in DATASETS for cell in CELLS if cell.dataset == dataset)
SHORT = {"resnet50": "RN", "vit_s16": "ViT", "convnext_t": "CN", "mixer_s16": "Mix", "swin_t": "Swin"}


@dataclass(frozen=True)
class Mark:
    """A verdict as a letter in a matrix, with `?` if it is not robust; `outcome` is empty if there is no claim."""

    id: str = ""
    outcome: str = ""
    letter: str = ""
    name: str = ""


@dataclass(frozen=True)
class Row:
    """One claim in the table of its family."""

    id: str
    name: str
    statement: str
    source: str
    paper: str
    here: str
    margin: str
    outcome: str
    letter: str
    evidence: str
    kind: str
    """What the runs follow: the paper's protocol (`paper`), another one (`probe`), or a formula (`synthetic`)."""
    reason: str
    settle: str
    n: str
    sure: str
    rule: str
    method: str
    beside: tuple[tuple[str, str], ...]
    """Name and figures of the criteria that do not decide."""


@dataclass(frozen=True)
class Section:
    """One family of claims."""

    family: Family
    paper: str
    here: str
    counts: str
    rows: tuple[Row, ...]
    not_run: tuple[tuple[str, tuple[str, ...]], ...]
    """Why claims were not run, and their ids."""
    provisional: tuple[tuple[str, str], ...]
    """Id and provisional verdict of claims that were not run."""
    settle: tuple[tuple[str, tuple[str, ...]], ...]
    """What would settle inconclusive claims, and the ids of those claims."""


def mark(e: Entry, name: str = "") -> Mark:
    """The claim as a letter. `name`: shown instead of its id."""
    outcome = outcome_text(e)
    unsure = e.verdict.survives is False
    return Mark(e.id, outcome, LETTERS[outcome] + "?" * unsure, (name or e.id) + ", not robust" * unsure)


def cells_matrix(file: VerdictFile) -> list[tuple[str, list[Mark]]]:
    """Verdicts as letters: a row per kind of claim (`ROWS`), a column per cell (`COLUMNS`)."""
    by = {(kind(e.id), cell_of(e.id)): e for e in file.entries if cell_of(e.id)}
    out = []
    for key, words in ROWS:
        marks = [mark(by[key, c.id], cell_title(c.id)) if (key, c.id) in by else Mark() for c in COLUMNS]
        out.append((words, marks))
    return out


def kappa_matrix(file: VerdictFile) -> tuple[list[str], list[tuple[str, list[Mark]]]]:
    """The claims on Table 2: the values of kappa, and for each data set its marks."""
    found = {where: e for e in file.entries if (where := kappa_of(e.id)) is not None}
    kappas = sorted({kappa for _, kappa in found})
    rows = []
    for dataset, title in DATASETS.items():
        marks = [mark(found[dataset, k], f"{title}, κ = {k:g}") if (dataset, k) in found else Mark() for k in kappas]
        rows.append((title, marks))
    return [f"{k:g}" for k in kappas], rows


def other_marks(file: VerdictFile) -> list[Mark]:
    """The claims that are neither in `cells_matrix` nor in `kappa_matrix`."""
    rows = {key for key, _ in ROWS}
    return [mark(e) for e in file.entries if not (cell_of(e.id) and kind(e.id) in rows) and kappa_of(e.id) is None]


def headings() -> list[tuple[str, list[tuple[str, str]]]]:
    """One item per data set: its title, and short and full name of each of its architectures."""
    return [
        (title, [(SHORT[c.arch], TITLES[c.arch]) for c in COLUMNS if c.dataset == dataset])
        for dataset, title in DATASETS.items()
    ]


def sections(file: VerdictFile) -> list[Section]:
    """One section per family, in the order of `FAMILIES`, then families of other papers."""
    keys = [f.key for f in FAMILIES] + list(dict.fromkeys(e.family for e in file.entries if e.family not in BY_KEY))
    out = []
    for key in keys:
        entries = [e for e in file.entries if e.family == key]
        if entries:
            family = BY_KEY.get(key, Family(key, key.replace("_", " ").capitalize(), "", "", ""))
            out.append(_section(family, entries))
    return out


def _section(family: Family, entries: Sequence[Entry]) -> Section:
    judged = [e for e in entries if outcome_text(e) != NOT_RUN]
    main = [e for e in entries if kind(e.id) == family.main]
    outcomes = [outcome_text(e) for e in entries]
    counts = ", ".join(f"{outcomes.count(o)} {o}" for o, _ in MEANINGS if o in outcomes)
    open_ = [e for e in judged if outcome_text(e) == INCONCLUSIVE and e.verdict.settle]
    settle: dict[str, list[str]] = {}
    for e in open_:
        settle.setdefault(e.verdict.settle, []).append(e.id)
    return Section(
        family,
        _range([e.figure.value for e in main if e.figure is not None], main),
        _here(main),
        counts,
        tuple(row(e) for e in judged),
        tuple((reason, tuple(e.id for e in group)) for reason, group in same_reason(entries)),
        tuple((e.id, text) for e in entries if (text := provisional_text(e))),
        tuple((text, tuple(ids)) for text, ids in settle.items()),
    )


def _value(e: Entry) -> float | None:
    estimate = e.verdict.estimate
    return None if estimate is None or estimate.value is None or not math.isfinite(estimate.value) else estimate.value


def _here(main: Sequence[Entry]) -> str:
    """The range of the estimates of `main`, in words."""
    judged = [e for e in main if e.verdict.estimate is not None]
    values = [v for e in judged if (v := _value(e)) is not None]
    rest = len(judged) - len(values)
    if not values:
        return "no claim has a single value" if judged else ""
    return _range(values, main) + (f"; {rest} more without a single value" if rest else "")


def _range(values: Sequence[float], main: Sequence[Entry]) -> str:
    """`0.094 to 0.112 in 10 claims`, in the unit of the claims `main`; empty if there are no `values`."""
    found = sorted(values)
    if not found:
        return ""
    unit = f" {main[0].unit}" if main[0].unit else ""
    ends = f"{found[0]:.3g}{unit}" if found[0] == found[-1] else f"{found[0]:.3g} to {found[-1]:.3g}{unit}"
    return f"{ends} in {len(found)} claims" if len(found) > 1 else ends


def row(e: Entry) -> Row:
    """A claim as texts."""
    v = e.verdict
    estimate = v.estimate
    outcome = outcome_text(e)
    return Row(
        id=e.id,
        name=cell_title(cell_of(e.id)) if cell_of(e.id) else "",
        statement=e.statement,
        source=e.source,
        paper=figure_text(e.figure),
        here=estimate_text(estimate),
        margin=margin_text(v.margin),
        outcome=outcome,
        letter=LETTERS[outcome],
        evidence=v.evidence.scale,
        kind="synthetic" if v.evidence.synthetic else "probe" if v.evidence.probe else "paper",
        reason=e.crashed or v.reason,
        settle="" if e.crashed else v.settle,
        n="" if estimate is None else n_text(estimate),
        sure=sure_text(v),
        rule=e.rule,
        method="" if estimate is None else estimate.method,
        beside=beside.words(v.secondary),
    )


def provenance(file: VerdictFile) -> list[tuple[str, str]]:
    """Where the evidence comes from: pairs of name and text."""
    out = [
        ("Scale", f"{file.scale} ({file.why}): {file.summary}"),
        ("Trained", trained_text(file)),
        ("Runs", f"{file.store_runs:,}"),
        ("Cost", _cost(file)),
        ("Machines", ", ".join(file.devices) or "none"),
        ("Software that trained", "; ".join(file.trained_with)),
        ("Software that judged", ", ".join(f"{name} {version}" for name, version in sorted(file.versions.items()))),
        ("Claims and rules", f"{len(file.entries)} claims, hash {file.registry_hash}"),
        ("Runs' content", f"hash {file.store_hash}"),
        ("Judged", file.created),
    ]
    return [(name, words) for name, words in out if words]


def _cost(file: VerdictFile) -> str:
    if not file.seconds:
        return (
            "nothing was trained" if file.store_runs == 0 else "not recorded" if not file.synthetic else "none: made up"
        )
    each = file.seconds / max(file.store_runs, 1)
    return f"{file.seconds:,.0f} device-seconds ({file.seconds / 3600:.2f} hours), {each:.2g} s a run"
