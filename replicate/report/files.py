"""Writes the files of a report into one folder: verdicts.json, verdicts.md, summary.md and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from replicate.calibration import measured
from replicate.judging import verdict_file
from replicate.judging.verdict_file import VerdictFile
from replicate.landscape.from_store import all_landscapes
from replicate.paper.registry import REGISTRY_HASH, claim
from replicate.report import markdown
from replicate.runs.needed import runs_for
from replicate.runs.scales import Scale
from replicate.store import atomic, kept
from replicate.store.store import Store
from replicate.text import UsageError

VERDICTS, TABLES, SUMMARY, PAGE = "verdicts.json", "verdicts.md", "summary.md", "report.html"
KEPT = "docs/calibration.json"
"""The saved output of `replicate calibrate --out`."""
CALIBRATION = kept.path(KEPT)


def write_texts(out: Path, file: VerdictFile) -> tuple[Path, ...]:
    """Write the files that need only the verdicts; returns their paths."""
    verdict_file.write(out / VERDICTS, file)
    atomic.write_text(out / TABLES, markdown.render(file))
    atomic.write_text(out / SUMMARY, markdown.summary(file))
    return out / VERDICTS, out / TABLES, out / SUMMARY


def write_page(out: Path, file: VerdictFile, scale: Scale, store: Store) -> Path:
    """Write report.html, with a picture of each cell that has all its runs in `store`; returns its path."""
    from replicate.audit import audits
    from replicate.audit.picture import picture
    from replicate.audit.subject import published
    from replicate.report import html

    paper = published()
    findings = [finding.to_json() for finding in audits.run(paper).findings]
    rates, lacking = calibration()
    found = all_landscapes(scale, store)
    atomic.write_text(out / PAGE, html.render(file, found, picture(paper), rates, findings, lacking))
    return out / PAGE


def write_picture(path: Path, scale: Scale, store: Store) -> None:
    """Draw all cells that have all their runs in `store` into one picture; raises `UsageError` if there are none."""
    from replicate.report.figures.document import document
    from replicate.report.figures.landscape import landscape

    found = all_landscapes(scale, store)
    pictures = [
        (" and ".join(dict.fromkeys(run.title for run in runs_for([claim(f"rho/{cell.id}")], scale))), landscape(table))
        for (cell, variant), table in found.items()
        if variant == "main"
    ]
    if not pictures:
        raise UsageError(
            f"store {store.path}: expected a cell of scale {scale.name} with all its runs, got no such cell; train more"
        )
    atomic.write_text(path, document(pictures))


def calibration(path: Path = CALIBRATION) -> tuple[Sequence[measured.CellRow], str]:
    """How often the rules err on one cell, by the saved calibration; if it is missing or outdated, why."""
    if not path.exists():
        return (), kept.lacking(KEPT, "calibration figures")
    try:
        found = measured.read(path)
    except UsageError as error:
        return (), str(error)
    if found.registry != REGISTRY_HASH:
        return (), f"{path.name} was measured with other claims or rules; repeat `replicate calibrate --out`"
    return found.cells, ""
