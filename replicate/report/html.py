"""report.html: verdicts and pictures of the runs as one self-contained page; equal inputs give equal bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from replicate import __version__
from replicate.estimate.estimate import Estimate
from replicate.judging.select import Landscapes
from replicate.judging.verdict_file import VerdictFile
from replicate.paper.claim import Margin
from replicate.paper.protocol import RHO_SGD
from replicate.paper.registry import CLAIMS
from replicate.report import headline, page, rivals, view
from replicate.report.families import DATASETS, cell_of, cell_title, kappa_of, kind
from replicate.report.figures.intervals import LETTERS
from replicate.report.wording import PROVISIONAL, notices

if TYPE_CHECKING:
    from replicate.calibration.measured import CellRow

FINDINGS = {
    "decision-inconsistent": "figures disagree, and a conclusion changes with them",
    "inconsistent": "figures disagree",
    "consistent": "the figures agree",
}
"""Outcome of the audit → what it means, the most serious first."""


@dataclass(frozen=True)
class Picture:
    """A picture with its heading."""

    name: str
    words: str
    svg: Markup
    cls: str = ""


@dataclass(frozen=True)
class Illustrated:
    """A family of claims with its pictures."""

    section: view.Section
    plots: tuple[Picture, ...]
    landscapes: tuple[Picture, ...]


@dataclass(frozen=True)
class Check:
    """A section that shows whether the rules can be trusted."""

    title: str
    words: str
    pictures: tuple[Picture, ...]


def render(
    file: VerdictFile,
    landscapes: Landscapes | None = None,
    reachability: str = "",
    rates: Sequence[CellRow] = (),
    findings: Sequence[Mapping[str, Any]] = (),
    lacking: str = "",
) -> str:
    """The page. `reachability`: the audit's picture of the grid; `rates`: from the calibration, how often rules err;
    `findings`: the audit's, as in its JSON; `lacking`: why there are no `rates`, or empty."""
    sections = [
        Illustrated(s, tuple(_plots(s.family.key, file)), tuple(_landscapes(s.family.key, file, landscapes or {})))
        for s in view.sections(file)
    ]
    kappas, kappa_rows = view.kappa_matrix(file)
    return page.render(
        "report.html",
        file=file,
        kind="synthetic" if file.synthetic else "probe" if file.probe else "paper",
        notices=notices(file),
        rule_costs=headline.rule_costs(file.practice),
        to_set=headline.to_set(file.practice),
        laws_held=rivals.summary(file),
        answer=headline.sentences(file),
        tried=any(e.verdict.how_sure for e in file.entries),
        cases=rivals.CASES.values(),
        predictions=rivals.predictions(file),
        meanings=[(o, LETTERS[o], words) for o, words in view.MEANINGS],
        provisional_words=PROVISIONAL,
        headings=view.headings(),
        cells=view.cells_matrix(file),
        kappas=kappas,
        kappa_rows=kappa_rows,
        others=view.other_marks(file),
        sections=sections,
        checks=_checks(reachability, rates, lacking),
        findings=findings,
        finding_counts=[(o, sum(f["outcome"] == o for f in findings), words) for o, words in FINDINGS.items()],
        provenance=view.provenance(file),
        version=__version__,
    )


def _plots(family: str, file: VerdictFile) -> list[Picture]:
    """The pictures of a family that need only its verdicts."""
    from replicate.report.figures import forest

    drawn = {
        "rho": ("rho", forest.ratio, "The ratio by cell"),
        "slope": ("slope", forest.slope, "The slope by cell"),
        "one_dim": ("one-dim/gap", forest.gap, "What tuning η alone costs"),
        "sgd": ("sgd/rho", forest.sgd, "The ratio under SGD"),
    }
    if family == "deviation":
        return _deviations(file)
    if family not in drawn:
        return []
    wanted, draw, name = drawn[family]
    entries = [e for e in file.entries if kind(e.id) == wanted and cell_of(e.id) and e.verdict.estimate is not None]
    if not entries:
        return []
    paper = "Orange diamond: the paper. " if any(forest.row(e, "").paper for e in entries) else ""
    words = f"Blue: these runs, with arrows at open ends. {paper}Shaded: the margin. The letter is the verdict."
    return [Picture(name, words, page.svg(draw(entries, lambda e: cell_title(cell_of(e.id)))))]


def _deviations(file: VerdictFile) -> list[Picture]:
    from replicate.report.figures.deviation import deviation

    out = []
    for dataset, title in DATASETS.items():
        found: dict[float, tuple[Estimate, Margin]] = {}
        for e in file.entries:
            where = kappa_of(e.id)
            if where is not None and where[0] == dataset and e.verdict.estimate is not None:
                found[where[1]] = (e.verdict.estimate, e.verdict.margin)
        if found:
            words = "Blue: these runs. Orange: the paper’s Table 2. Shaded: the margins."
            out.append(Picture(title, words, page.svg(deviation(dataset, found, f"{title}.")), "small"))
    return out


def _landscapes(family: str, file: VerdictFile, found: Landscapes) -> list[Picture]:
    """For each cell of a family a picture of all its runs, with the verdict on the cell's ratio."""
    from replicate.report.figures.landscape import landscape

    outcomes = file.outcomes
    out = []
    for (cell, variant), table in found.items():
        if {"main": "rho", "sgd": "sgd"}.get(variant, "robust") == family:
            outcome = outcomes.get(f"rho/{cell.id}", "") if variant == "main" else ""
            name = cell_title(cell.id) + ("" if variant == "main" else f", {variant}")
            words = f"ratio {outcome}; {len(table.frame)} runs" if outcome else f"{len(table.frame)} runs"
            drawn = landscape(table, RHO_SGD) if variant == "sgd" else landscape(table)
            out.append(Picture(name, words, page.svg(drawn), "small"))
    return out


def _checks(reachability: str, rates: Sequence[CellRow], lacking: str) -> list[Check]:
    out = []
    if reachability:
        out.append(
            Check(
                "What the paper’s grid can reach",
                "The paper can only have found best weight decays on its grid (dots). At most learning rates the "
                "claimed weight decay (cross) is not on that grid, so this suite trains two more grids.",
                (Picture("", "", page.svg(_described(reachability)), "wide reach"),),
            )
        )
    if rates:
        from replicate.report.figures.calibration import calibration, shares

        pictures = []
        for quantity, title in (("rho", "ratio"), ("slope", "slope"), ("gap_pp", "gap in pp")):
            found = shares(rates, quantity)
            if found:
                margin = next(c.margin for c in CLAIMS if c.quantity == quantity)
                drawn = calibration(found, title, (margin.low, margin.high))
                where = ", for laws λ ∝ η" if quantity == "rho" else ""
                pictures.append(Picture(f"The {title}", f"by its true value{where}", page.svg(drawn)))
        out.append(
            Check(
                "How often the rules err",
                "Made-up runs whose true values are known, judged by the same rules: R replicated, I inconclusive, "
                "C contradicted. ▸ marks truths inside the margin. C is an error in these rows, R in all others.",
                tuple(pictures),
            )
        )
    elif lacking:
        out.append(Check("How often the rules err", f"{lacking[0].upper()}{lacking[1:]}.", ()))
    return out


def _described(picture: str) -> str:
    """The audit's picture with a text alternative."""
    words = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", picture)[:2])  # title and subtitle, escaped already
    alt = f"The paper’s grid of learning rates and weight decays against the claimed line. {words}"
    return picture.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
