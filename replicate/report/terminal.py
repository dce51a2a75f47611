"""The summary of verdicts as lines of text that fit the width of a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from replicate.judging.verdict import NOT_RUN
from replicate.judging.verdict_file import Entry, VerdictFile
from replicate.report import headline, view
from replicate.report.wording import (
    PROVISIONAL,
    counts_text,
    estimate_text,
    margin_text,
    n_text,
    notices,
    outcome_text,
    provisional_text,
    reason_text,
    same_reason,
    sure_text,
)

HEADINGS = ("claim", "verdict", "estimate [interval]", "margin", "from", "evidence")
GAP = "  "
INDENT = " " * 4
REASON_WIDTH = 48
"""A reason gets its own column if at least this many characters are left for it."""
SMALLEST_WIDTH = 40
FEW = 20
"""Up to this many judged claims are only listed, one per line; for more, a matrix of letters comes first."""


@dataclass(frozen=True)
class Line:
    """One line of text; `outcome`, by which the caller colours it, is empty for plain lines."""

    text: str
    outcome: str = ""


def summary(file: VerdictFile, width: int, settle: bool = True, listed: bool = True) -> list[Line]:
    """Notices, matrix of letters, answer, table of judged claims, claims not run grouped by reason, and counts.

    `settle`: whether open verdicts say what would settle them. `listed`: whether there is one line per claim; with at
    most `FEW` of them the matrix is left out.
    """
    width = max(width, SMALLEST_WIDTH)
    out = [Line(text) for notice in notices(file) for text in textwrap.wrap(notice, width)]
    judged = [e for e in file.entries if outcome_text(e) != NOT_RUN]
    if judged and not (listed and len(judged) <= FEW):
        out += [Line(""), *map(Line, matrix(file, width, listed))]
        for text in filter(None, (headline.to_act(file), *headline.sentences(file))):
            out += [Line(""), *map(Line, textwrap.wrap(text, width))]
    if judged and listed:
        out += [Line("")] if out else []
        out += table(judged, width, settle)
    for reason, entries in same_reason(e for e in file.entries if e.selected):
        out.append(Line(""))
        out += [Line(t, NOT_RUN) for t in textwrap.wrap(f"not run ({len(entries)}): {reason}", width)]
        if listed:  # whole ids, which can be copied
            out += map(Line, _indented(", ".join(e.id for e in entries), width, breaks=False))
    if provisional := [(e.id, text) for e in file.entries if (text := provisional_text(e))]:
        out += [Line(""), *(Line(t, NOT_RUN) for t in textwrap.wrap(f"{PROVISIONAL} ({len(provisional)})", width))]
        out += [Line(t) for name, text in provisional for t in _indented(f"{name}: {text}", width)]
    return [*out, Line(""), *(Line(t) for t in textwrap.wrap(_all_counts(file), width))]


def matrix(file: VerdictFile, width: int, listed: bool = False) -> Iterator[str]:
    """Lines with a letter for every claim: a table with a column per cell, one per kappa, and a list of the others."""
    rows = view.cells_matrix(file)
    name = max(len(words) for words, _ in rows)
    pad = 5 if width >= name + len(GAP) + 30 else 3
    first = 0
    blocks = []
    for title, archs in view.headings():
        columns = range(first, first + len(archs))
        first += len(archs)
        head = [title.ljust(pad * len(archs)), "".join(brief[: pad - 1].ljust(pad) for brief, _ in archs)]
        block = [*head, *("".join(marks[i].letter.ljust(pad) for i in columns) for _, marks in rows)]
        if any(marks[i].outcome not in ("", NOT_RUN) for _, marks in rows for i in columns):
            blocks.append(block)
    names = ["", "", *(words for words, _ in rows)]
    a_row = max(1, (width - name) // max((len(block[1]) + len(GAP) for block in blocks), default=width))
    for start in range(0, len(blocks), a_row):
        for i, words in enumerate(names):
            yield GAP.join([words.ljust(name), *(block[i] for block in blocks[start : start + a_row])]).rstrip()
    kappas, of_kappas = view.kappa_matrix(file)
    judged = [(title, marks) for title, marks in of_kappas if any(m.outcome not in ("", NOT_RUN) for m in marks)]
    if judged:
        yield ""
        yield f"{'lost at κ ='.ljust(name)}{GAP}{''.join(k.ljust(pad) for k in kappas)}".rstrip()
        yield from (
            f"{t.ljust(name)}{GAP}{''.join(m.letter.ljust(pad) for m in marks)}".rstrip() for t, marks in judged
        )
    others = [f"{mark.id} {mark.letter}" for mark in view.other_marks(file) if mark.outcome != NOT_RUN]
    yield ""
    yield from textwrap.wrap(", ".join(others), width, break_on_hyphens=False)
    key = "R replicated, C contradicted, I inconclusive, N not run, E crashed"
    unsure = any(e.verdict.survives is False for e in file.entries)
    key += "; ? changes when some data are left out" * unsure
    more = "" if listed else " -v lists every claim with its estimate and reason."
    yield from textwrap.wrap(f"{key}.{more}", width)


def table(entries: Sequence[Entry], width: int, settle: bool = True) -> list[Line]:
    """The table of `entries`: one line per claim, with the reason below if the line would be too long.

    Evidence that is the same for all claims is put above the table.
    """
    width = max(width, SMALLEST_WIDTH)
    rows = [_columns(e) for e in entries]
    headings: tuple[str, ...] = HEADINGS
    top = []
    if len({row[-1] for row in rows}) == 1:
        top = [Line(f"evidence: {rows[0][-1]}")]
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    claims = [_Claim(row, _why(e, settle), outcome_text(e)) for row, e in zip(rows, entries, strict=True)]
    widths = [max(len(h), *(len(r[i]) for r in rows)) for i, h in enumerate(headings)]
    total = sum(widths) + len(GAP) * (len(widths) - 1)
    if total + len(GAP) + REASON_WIDTH <= width:
        return [*top, *_reason_beside(headings, claims, widths, width - total - len(GAP))]
    return [*top, *(_reason_beneath if total <= width else _narrow)(headings, claims, widths, width)]


@dataclass(frozen=True)
class _Claim:
    cells: tuple[str, ...]
    reason: str
    outcome: str


def _why(e: Entry, settle: bool) -> str:
    sure = sure_text(e.verdict)
    return f"{reason_text(e, settle)}; {sure}" if sure else reason_text(e, settle)


def _columns(e: Entry) -> tuple[str, ...]:
    v = e.verdict
    return (
        e.id,
        outcome_text(e).upper(),
        estimate_text(v.estimate),
        margin_text(v.margin),
        n_text(v.estimate),
        v.evidence.label,
    )


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(c.ljust(w) for c, w in zip(cells, widths, strict=False)).rstrip()


def _reason_beside(
    headings: tuple[str, ...], claims: Sequence[_Claim], widths: Sequence[int], left: int
) -> Iterator[Line]:
    indent = " " * (sum(widths) + len(GAP) * len(widths))
    yield Line(_row((*headings, "reason"), (*widths, left)))
    for claim in claims:
        first, *more = textwrap.wrap(claim.reason, left) or [""]
        yield Line(_row((*claim.cells, first), (*widths, left)), claim.outcome)
        yield from (Line(indent + t, claim.outcome) for t in more)


def _reason_beneath(
    headings: tuple[str, ...], claims: Sequence[_Claim], widths: Sequence[int], width: int
) -> Iterator[Line]:
    yield Line(_row(headings, widths))
    yield Line(f"{INDENT}reason")
    for claim in claims:
        yield Line(_row(claim.cells, widths), claim.outcome)
        yield from map(Line, _indented(claim.reason, width))


def _narrow(headings: tuple[str, ...], claims: Sequence[_Claim], widths: Sequence[int], width: int) -> Iterator[Line]:
    """Claim, verdict and estimate on the first line, or two if needed; everything else below."""
    top = _row(headings[:3], widths)
    yield Line(top if len(top) <= width else ", ".join(headings[:3]))
    yield Line(f"{INDENT}{', '.join(headings[3:])}: reason")
    for claim in claims:
        name, outcome, estimate, margin, n, *evidence = claim.cells
        text = _row(claim.cells[:3], widths)
        if len(text) > width:
            yield Line(name, claim.outcome)
            yield from (Line(t, claim.outcome) for t in _indented(f"{outcome} {estimate}", width))
        else:
            yield Line(text, claim.outcome)
        beneath = ", ".join((f"margin {margin}", f"from {n}", *evidence))
        yield from map(Line, _indented(f"{beneath}: {claim.reason}", width))


def _indented(text: str, width: int, *, breaks: bool = True) -> list[str]:
    """`text` below a row; unless `breaks`, it is not broken at hyphens or inside words."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_on_hyphens=breaks,
        break_long_words=breaks,
    )


def _all_counts(file: VerdictFile) -> str:
    left_out = sum(not e.selected for e in file.entries)
    if not left_out:
        return counts_text(file)
    all_of_them = left_out == sum(outcome_text(e) == NOT_RUN for e in file.entries)
    return f"{counts_text(file)} ({'' if all_of_them else f'{left_out} of them '}not selected)"
