"""A report of findings as JSON, as lines for a terminal, and as Markdown."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from replicate.audit.audits import Report
from replicate.audit.finding import CONSISTENT, DECISION_INCONSISTENT, INCONSISTENT, OUTCOMES, Finding
from replicate.store import strict

FORMAT = 1
TITLES = {
    DECISION_INCONSISTENT: "A conclusion changes",
    INCONSISTENT: "A figure or statement is wrong",
    CONSISTENT: "Consistent",
}
_SPECIAL = re.compile(r"([\\`*_\[\]#|~<>])")


def to_json(report: Report, ids: Sequence[str] | None = None) -> dict[str, Any]:
    """The report as JSON types. `ids`: all known audits; audits that were not run are listed as `not_run`.

    `format` 1, `paper`, `counts` by outcome, `findings` (`id`, `outcome`, `evidence`, `source`, `claimed`,
    `recomputed`, `assumes`, `consistent_if`, `checks`, `details`), `left_out` (`id`, `missing`: what the paper does not
    state) and `not_run`.
    """
    done = {f.id for f in report.findings} | {name for name, _ in report.left_out}
    return {
        "format": FORMAT,
        "paper": report.paper,
        "counts": report.counts,
        "findings": [strict.json_types(f.to_json()) for f in report.findings],
        "left_out": [{"id": name, "missing": missing} for name, missing in report.left_out],
        "not_run": [name for name in ids or () if name not in done],
    }


def json_text(report: Report, ids: Sequence[str] | None = None) -> str:
    return json.dumps(to_json(report, ids), indent=1, allow_nan=False) + "\n"


def by_severity(findings: Sequence[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """Each outcome that occurs with its findings, the most severe outcome first."""
    for outcome in reversed(OUTCOMES):
        group = [f for f in findings if f.outcome == outcome]
        if group:
            yield outcome, group


def counts_text(report: Report) -> str:
    """The counts as in `62 findings: 23 consistent, 16 inconsistent, 23 decision-inconsistent`."""
    each = ", ".join(f"{n} {outcome}" for outcome, n in report.counts.items())
    return f"{len(report.findings)} findings: {each}"


def lines(report: Report, width: int, verbose: bool = False) -> Iterator[str]:
    """The report for a terminal, one sentence per finding, the most severe first.

    `verbose` adds the figures claimed and recomputed, the assumptions, and what would make the figures agree.
    """
    width = max(width, 40)

    def indented(text: str, by: int = 4) -> list[str]:
        indent = " " * by
        return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)

    for outcome, group in by_severity(report.findings):
        yield from textwrap.wrap(f"{TITLES[outcome]} ({outcome}, {len(group)})", width, break_on_hyphens=False)
        for finding, likewise in [(f, []) for f in group] if verbose else _first_of_cells(group):
            yield f"  {finding.id}  [{finding.source}]"
            yield from indented(finding.evidence)
            if likewise:
                yield from indented(f"likewise: {', '.join(f.id.rpartition('/')[2] for f in likewise)}")
            if verbose:
                yield from indented(f"claimed: {finding.claimed}")
                yield from indented(f"recomputed: {finding.recomputed}")
                yield from indented(f"assumes: {finding.assumes}")
            if verbose and finding.consistent_if:
                yield from indented(f"consistent if: {finding.consistent_if}")
        yield ""
    if report.left_out:
        yield from textwrap.wrap(f"Not audited ({len(report.left_out)}), because the paper does not state", width)
        for missing in dict.fromkeys(text for _, text in report.left_out):
            names = [name for name, text in report.left_out if text == missing]
            yield from indented(f"{missing}: {', '.join(names)}", 2)
        yield ""
    yield from textwrap.wrap(counts_text(report), width, break_on_hyphens=False)


def _first_of_cells(findings: Sequence[Finding]) -> list[tuple[Finding, list[Finding]]]:
    """The first finding of each audit, with the findings of the same audit on other cells."""
    out: list[tuple[Finding, list[Finding]]] = []
    first: dict[str, list[Finding]] = {}
    for finding in findings:
        name, _, cell = finding.id.rpartition("/")
        if "/" in name and cell and name in first:
            first[name].append(finding)
            continue
        others: list[Finding] = []
        if "/" in name:
            first[name] = others
        out.append((finding, others))
    return out


def markdown(report: Report) -> str:
    """The report as a document: counts, then one section per outcome with every finding in full."""
    out = [f"# Audit of {_escaped(report.paper)}", "", f"{_escaped(counts_text(report))}.", ""]
    for outcome, group in by_severity(report.findings):
        out += [f"## {TITLES[outcome]} ({outcome})", ""]
        for f in group:
            out += [f"### {_code(f.id)}", "", _escaped(f.evidence), ""]
            rows = [("where", f.source), ("claimed", f.claimed), ("recomputed", f.recomputed), ("assumes", f.assumes)]
            if f.consistent_if:
                rows.append(("consistent if", f.consistent_if))
            out += [f"- *{name}*: {_escaped(text)}" for name, text in rows]
            out.append("")
    if report.left_out:
        out += ["## Not audited", ""]
        out += [f"- {_code(name)}: the paper does not state {_escaped(missing)}" for name, missing in report.left_out]
        out.append("")
    return "\n".join(out)


def _code(name: str) -> str:
    """`name` as inline code; backticks in it, which would end the code, become apostrophes."""
    return f"`{' '.join(name.replace('`', chr(39)).split())}`"


def _escaped(text: str) -> str:
    """`text` on one line, with everything escaped that Markdown or HTML would take for markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()).replace("&", "&amp;"))
