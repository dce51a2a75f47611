"""The verdict table as lines of text that fit a terminal of a given width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from replicate.judging.verdict import NOT_RUN
from replicate.judging.verdict_file import Entry, VerdictFile
from replicate.report.wording import (
    counts_text,
    estimate_text,
    margin_text,
    notices,
    outcome_text,
    reason_text,
    same_reason,
)

HEADINGS = ("claim", "verdict", "estimate [interval]", "margin", "n", "evidence")
GAP = "  "
INDENT = " " * 4
REASON_WIDTH = 48
"""A reason gets a column of its own where at least this many characters are left for it."""
SMALLEST_WIDTH = 40


@dataclass(frozen=True)
class Line:
    """One line of text; `outcome` lets the caller colour it and is empty for plain lines."""

    text: str
    outcome: str = ""


def summary(file: VerdictFile, width: int, settle: bool = True) -> list[Line]:
    """Notices, the table of judged claims, the claims that were not run by reason, and the counts.

    `settle`: whether the reasons of open verdicts say what would settle them.
    """
    width = max(width, SMALLEST_WIDTH)
    out = [Line(text) for notice in notices(file) for text in textwrap.wrap(notice, width)]
    judged = [e for e in file.entries if outcome_text(e) != NOT_RUN]
    if judged:
        out += [Line("")] if out else []
        out += table(judged, width, settle)
    for reason, entries in same_reason(e for e in file.entries if e.selected):
        out.append(Line(""))
        out += [Line(t, NOT_RUN) for t in textwrap.wrap(f"not run ({len(entries)}): {reason}", width)]
        out += _listed([e.id for e in entries], width)
    return [*out, Line(""), *(Line(t) for t in textwrap.wrap(_all_counts(file), width))]


def table(entries: Sequence[Entry], width: int, settle: bool = True) -> list[Line]:
    """The table of `entries`: one line a claim where it fits, the reason beneath it where it does not.

    Evidence that is the same for every claim stands above the table and not in it.
    """
    width = max(width, SMALLEST_WIDTH)
    rows = [_columns(e) for e in entries]
    reasons = [reason_text(e, settle) for e in entries]
    headings: tuple[str, ...] = HEADINGS
    top = []
    if len({row[-1] for row in rows}) == 1:
        top = [Line(f"evidence: {rows[0][-1]}")]
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    widths = [max(len(h), *(len(r[i]) for r in rows)) for i, h in enumerate(headings)]
    outcomes = [outcome_text(e) for e in entries]
    total = sum(widths) + len(GAP) * (len(widths) - 1)
    if total + len(GAP) + REASON_WIDTH <= width:
        return [*top, *_reason_beside(headings, rows, widths, reasons, outcomes, width - total - len(GAP))]
    if total <= width:
        return [*top, *_reason_beneath(headings, rows, widths, reasons, outcomes, width)]
    return [*top, *_narrow(headings, rows, widths, reasons, outcomes, width)]


def _columns(e: Entry) -> tuple[str, ...]:
    v = e.verdict
    return (
        e.id,
        outcome_text(e).upper(),
        estimate_text(v.estimate),
        margin_text(v.margin),
        "-" if v.estimate is None else str(v.estimate.n),
        v.evidence.label,
    )


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(c.ljust(w) for c, w in zip(cells, widths, strict=False)).rstrip()


def _reason_beside(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    reasons: Sequence[str],
    outcomes: Sequence[str],
    left: int,
) -> list[Line]:
    indent = " " * (sum(widths) + len(GAP) * len(widths))
    out = [Line(_row((*headings, "reason"), (*widths, left)))]
    for row, reason, outcome in zip(rows, reasons, outcomes, strict=True):
        first, *more = textwrap.wrap(reason, left) or [""]
        out.append(Line(_row((*row, first), (*widths, left)), outcome))
        out += [Line(indent + t, outcome) for t in more]
    return out


def _reason_beneath(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    reasons: Sequence[str],
    outcomes: Sequence[str],
    width: int,
) -> list[Line]:
    out = [Line(_row(headings, widths)), Line(f"{INDENT}reason")]
    for row, reason, outcome in zip(rows, reasons, outcomes, strict=True):
        out.append(Line(_row(row, widths), outcome))
        out += [Line(t) for t in _indented(reason, width)]
    return out


def _narrow(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    reasons: Sequence[str],
    outcomes: Sequence[str],
    width: int,
) -> list[Line]:
    """Claim, verdict and estimate on the first line, if need be on two; all else beneath."""
    top = _row(headings[:3], widths)
    top = top if len(top) <= width else ", ".join(headings[:3])
    out = [Line(top), Line(f"{INDENT}{', '.join(headings[3:])}: reason")]
    for row, reason, outcome in zip(rows, reasons, outcomes, strict=True):
        text = _row(row[:3], widths)
        if len(text) > width:
            out += [Line(row[0], outcome), *(Line(t, outcome) for t in _indented(" ".join(row[1:3]), width))]
        else:
            out.append(Line(text, outcome))
        margin, n, *evidence = row[3:]
        out += [Line(t) for t in _indented(f"{', '.join((f'margin {margin}', f'n {n}', *evidence))}: {reason}", width)]
    return out


def _indented(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=INDENT, subsequent_indent=INDENT)


def _listed(ids: Sequence[str], width: int) -> list[Line]:
    # Not broken at hyphens: an id is there to be copied.
    texts = textwrap.wrap(
        ", ".join(ids),
        width,
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [Line(t) for t in texts]


def _all_counts(file: VerdictFile) -> str:
    left_out = sum(not e.selected for e in file.entries)
    if not left_out:
        return counts_text(file)
    all_of_them = left_out == sum(outcome_text(e) == NOT_RUN for e in file.entries)
    return f"{counts_text(file)} ({'' if all_of_them else f'{left_out} of them '}not selected)"
