"""The verdict file as Markdown, for a pull request or a job summary."""

from __future__ import annotations

import re
from collections.abc import Iterator

from replicate.judging.verdict import CONTRADICTED, NOT_RUN, OUTCOMES
from replicate.judging.verdict_file import Entry, VerdictFile
from replicate.report import headline, view
from replicate.report.figures.intervals import LETTERS
from replicate.report.wording import (
    PROVISIONAL,
    counts_text,
    estimate_text,
    figure_text,
    margin_text,
    n_text,
    notices,
    outcome_text,
    provisional_text,
    reason_text,
    same_reason,
    sure_text,
    trained_text,
)

MOST_LISTED = 6
"""The short form lists this many contradicted claims of a family and counts the others."""
_SPECIAL = re.compile(r"([\\`*_\[\]#|~])")


def summary(file: VerdictFile) -> str:
    """The short form, for the summary of a CI job: notices, the answer, and counts by family."""
    lines = [f"## Verdicts at scale {_escaped(file.scale)}", "", *_notices(file)]
    lines += [_escaped(text) + "\n" for text in (headline.to_act(file),) if text]
    lines += [f"- {_escaped(text)}" for text in headline.sentences(file)]
    lines += ["", "| family | R | C | I | N | contradicted |", "|---|---|---|---|---|---|"]
    for family in dict.fromkeys(e.family for e in file.entries):
        entries = [e for e in file.entries if e.family == family]
        shown = [outcome_text(e) for e in entries]
        against = [f"`{e.id}`" for e in entries if outcome_text(e) == CONTRADICTED]
        ids = ", ".join(against[:MOST_LISTED]) + (
            f" and {len(against) - MOST_LISTED} more" * (len(against) > MOST_LISTED)
        )
        numbers = " | ".join(str(shown.count(outcome)) for outcome in OUTCOMES)
        lines.append(f"| {_escaped(family.replace('_', '-'))} | {numbers} | {ids or '–'} |")
    crashed = [f"- `{e.id}`: {_escaped(e.crashed)}" for e in file.entries if e.crashed]
    lines += ["", "Could not be judged because of an error:", "", *crashed] if crashed else []
    lines += ["", "R replicated, C contradicted, I inconclusive, N not run."]
    return "\n".join([*lines, ""])


def render(file: VerdictFile) -> str:
    """The whole report: notices, counts, one table per family, claims that were not run, provenance."""
    lines = [f"# Verdicts at scale {_escaped(file.scale)}", "", *_notices(file)]
    lines += [_escaped(text) + "\n" for text in (headline.to_act(file),) if text]
    lines += [f"**{_escaped(counts_text(file))}.**", "", *_matrix(file), ""]
    families = dict.fromkeys(e.family for e in file.entries)
    for family in families:
        judged = [e for e in file.entries if e.family == family and outcome_text(e) != NOT_RUN]
        if judged:
            lines += [f"## {_escaped(family.replace('_', '-'))}", "", *_table(judged), ""]
    groups = same_reason(file.entries)
    if groups:
        lines += ["## Not run", ""]
        lines += [f"- {_escaped(reason)}: {', '.join(f'`{e.id}`' for e in entries)}" for reason, entries in groups]
        lines += [""]
    if provisional := [f"- `{e.id}`: {_escaped(text)}" for e in file.entries if (text := provisional_text(e))]:
        lines += ["## Provisional", "", f"{PROVISIONAL.capitalize()}.", "", *provisional, ""]
    return "\n".join([*lines, "## Provenance", "", *_provenance(file), ""])


def _notices(file: VerdictFile) -> Iterator[str]:
    for notice in notices(file):
        word, _, text = notice.partition(": ")
        yield from (f"> **{word}.** {_escaped(text)}", "")


def _matrix(file: VerdictFile) -> Iterator[str]:
    """The verdicts on claims about one cell each, as letters (R: replicated, …): one table per data set."""
    rows = view.cells_matrix(file)
    first = 0
    for title, archs in view.headings():
        columns = range(first, first + len(archs))
        first += len(archs)
        shown = [(words, [marks[i].letter for i in columns]) for words, marks in rows]
        if all(set(letters) <= {"", LETTERS[NOT_RUN]} for _, letters in shown):
            continue
        yield from (
            "",
            f"| {_escaped(title)} | {' | '.join(brief for brief, _ in archs)} |",
            f"|---{'|---' * len(archs)}|",
        )
        yield from (f"| {_escaped(words)} | {' | '.join(letters)} |" for words, letters in shown)


def _table(entries: list[Entry]) -> list[str]:
    head = ("claim", "paper", "here", "margin", "verdict", "from", "how sure", "evidence", "reason")
    out = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for e in entries:
        v = e.verdict
        cells = (
            f"`{e.id}`<br>{_escaped(e.statement)}",
            f"{_escaped(figure_text(e.figure))}<br>{_escaped(e.source)}",
            _escaped(estimate_text(v.estimate)),
            _escaped(margin_text(v.margin)),
            f"**{outcome_text(e)}**",
            n_text(v.estimate),
            _escaped(sure_text(v)) or "–",
            _escaped(v.evidence.label),
            _escaped(reason_text(e)),
        )
        out.append(f"| {' | '.join(cells)} |")
    return out


def _provenance(file: VerdictFile) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(file.versions.items()))
    return [
        f"- scale: {_escaped(f'{file.scale} ({file.why}): {file.summary}')}",
        f"- trained: {_escaped(trained_text(file))}",
        f"- runs: {file.store_runs}, content hash `{file.store_hash}`",
        f"- registry of claims: `{file.registry_hash}`",
        f"- devices: {_escaped(', '.join(file.devices) or 'none')}",
        f"- versions: {_escaped(versions)}",
        f"- judged: {_escaped(file.created)}",
    ]


def _escaped(text: str) -> str:
    """`text` on one line, with the characters escaped that Markdown or HTML would take for markup."""
    plain = " ".join(text.split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)
