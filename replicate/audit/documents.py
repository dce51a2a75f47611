"""The text compared with the script, with itself and with the works it cites; citations with the reference list."""

from __future__ import annotations

from collections.abc import Sequence

from replicate.audit.finding import Check, Finding, failing, from_checks, holding
from replicate.audit.reported import Point, Reported, Work, need


def _checks(points: Sequence[Point]) -> list[Check]:
    return [Check(p.topic, p.said, p.found, holds=p.agrees, source=p.source, decides=p.decides) for p in points]


def script(paper: Reported) -> Finding:
    """`audit/script`: the published script compared with the described protocol."""
    need(paper.script, "a published script")
    checks = _checks(paper.script)
    wrong = failing(checks)
    severe = [c.what for c in wrong if c.decides]
    evidence = f"The published script follows {holding(checks)} points of the described protocol"
    if wrong:
        evidence += f"; it differs in: {'; '.join(c.what for c in wrong)}"
    if severe:
        evidence += f"; results that the script cannot produce: {'; '.join(severe)}"
    return from_checks(
        checks,
        source="sections 3 and 4, published scripts",
        claimed=f"{len(checks)} points of the protocol",
        evidence=evidence + ".",
        assumes="the results were produced by this script; that timm's models refuse 32 x 32 images was tested "
        "(ci/count_flops.py)",
        consistent_if="the results were produced by another script than the published one",
    )


def contradictions(paper: Reported) -> Finding:
    """`audit/contradictory-statements`: pairs of statements that contradict each other."""
    need(paper.contradictions, "pairs of statements on the same subject")
    checks = _checks(paper.contradictions)
    wrong = "; ".join(f"{c.what}: {c.printed}, but {c.recomputed}" for c in failing(checks))
    return from_checks(
        checks,
        claimed="; ".join(c.printed for c in checks),
        evidence=f"{wrong[:1].upper()}{wrong[1:]}." if wrong else f"{len(checks)} pairs of statements agree.",
        assumes="each statement is meant as generally as it is worded",
        consistent_if="one of each pair is withdrawn or confined to a case",
    )


def cited_work(paper: Reported) -> Finding:
    """`audit/cited-work`: what a cited work is said to show compared with what it shows."""
    need(paper.cited_work, "what cited work is said to show")
    checks = _checks(paper.cited_work)
    wrong = "; ".join(f"{c.what}: {c.printed}, while {c.recomputed}" for c in failing(checks))
    return from_checks(
        checks,
        claimed=", ".join(c.what for c in checks),
        evidence=f"{wrong or f'{len(checks)} cited works show what they are cited for'}.",
        assumes="the works are those of the reference list, by title and venue",
        consistent_if="other works by these authors are meant, and listed",
    )


def references(paper: Reported) -> Finding:
    """`audit/references`: works cited but not listed, listed but not cited, and years that disagree."""
    bibliography = need(paper.bibliography, "citations and references")
    cited, listed = bibliography.cited, bibliography.listed

    def missing(works: Sequence[Work], others: Sequence[Work]) -> list[str]:
        names = [f"{w.author} {w.year}" for w in others]
        return [name for name in (f"{w.author} {w.year}" for w in works) if name not in names]

    unlisted, uncited = missing(cited, listed), missing(listed, cited)
    years = [f"{w.author} {w.year}, venue {w.venue_year}" for w in listed if w.venue_year not in (None, w.year)]
    rows = [
        ("cited and not listed", f"{len(cited)} works cited", "none", unlisted),
        ("listed and not cited", f"{len(listed)} works listed", "none", uncited),
        ("year of the citation against that of the venue", "agree", "agree", years),
    ]
    return from_checks(
        [
            Check(what, printed, ", ".join(wrong) or right, holds=not wrong, source="references")
            for what, printed, right, wrong in rows
        ],
        claimed=f"{len(cited)} works cited, {len(listed)} listed",
        evidence=f"Of {len(cited)} works cited {len(unlisted)} are not in the list of {len(listed)}, {len(uncited)} "
        f"are listed but not cited, and {len(years)} have another year than their venue.",
        assumes="a work is identified by author and year",
        consistent_if="the list is completed and its years are corrected",
    )
