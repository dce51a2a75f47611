"""Text against script, text against text, and citations against the list of references, point by point."""

from __future__ import annotations

from collections.abc import Sequence

from replicate.audit.finding import Check, Finding, from_checks
from replicate.audit.reported import Point, Reported, Work, need


def _checks(points: Sequence[Point]) -> list[Check]:
    return [Check(p.topic, p.said, p.found, p.agrees, p.source, p.decides) for p in points]


def script(paper: Reported) -> Finding:
    """`audit/script`: the published script against the described protocol."""
    need(paper.script, "a published script")
    checks = _checks(paper.script)
    wrong = [c for c in checks if not c.holds]
    severe = [c.what for c in wrong if c.decides]
    fine = len(checks) - len(wrong)
    evidence = f"{fine} of {len(checks)} points of the described protocol are what the published script does"
    if wrong:
        evidence += f"; it differs in: {'; '.join(c.what for c in wrong)}"
    if severe:
        evidence += f"; results that the script cannot give: {'; '.join(severe)}"
    return from_checks(
        "audit/script", "sections 3 and 4, published scripts", f"{len(checks)} points of the protocol", checks,
        evidence + ".",
        "the script is the one that made the results; that timm's models refuse 32 x 32 images was tried "
        "(ci/count_flops.py)",
        "the results were made with another script than the published one",
    )  # fmt: skip


def contradictions(paper: Reported) -> Finding:
    """`audit/contradictory-statements`: pairs of statements that exclude each other."""
    need(paper.contradictions, "pairs of statements on one thing")
    checks = _checks(paper.contradictions)
    wrong = [c for c in checks if not c.holds]
    evidence = "; ".join(f"{c.what}: {c.printed}, but {c.recomputed}" for c in wrong)
    return from_checks(
        "audit/contradictory-statements", ", ".join(dict.fromkeys(c.source for c in checks)),
        "; ".join(c.printed for c in checks), checks,
        f"{evidence[:1].upper()}{evidence[1:]}." if wrong else f"{len(checks)} pairs of statements go together.",
        "each statement is meant as generally as it is worded", "one of each pair is withdrawn or confined to a case",
    )  # fmt: skip


def cited_work(paper: Reported) -> Finding:
    """`audit/cited-work`: what a cited work is said to show against what it shows."""
    need(paper.cited_work, "what cited work is said to show")
    checks = _checks(paper.cited_work)
    wrong = [c for c in checks if not c.holds]
    evidence = "; ".join(f"{c.what}: {c.printed}, while {c.recomputed}" for c in wrong)
    return from_checks(
        "audit/cited-work", ", ".join(dict.fromkeys(c.source for c in checks)), ", ".join(c.what for c in checks),
        checks,
        f"{evidence}." if wrong else f"{len(checks)} cited works show what they are cited for.",
        "the works are those of the reference list, by title and venue",
        "other works by these authors are meant, and listed",
    )  # fmt: skip


def references(paper: Reported) -> Finding:
    """`audit/references`: works cited and not listed, listed and not cited, and years that disagree."""
    need(paper.bibliography, "citations and references")
    assert paper.bibliography is not None
    cited, listed = paper.bibliography.cited, paper.bibliography.listed

    def names(works: Sequence[Work]) -> set[tuple[str, int]]:
        return {(w.author, w.year) for w in works}

    unlisted = [w for w in cited if (w.author, w.year) not in names(listed)]
    uncited = [w for w in listed if (w.author, w.year) not in names(cited)]
    years = [w for w in listed if w.venue_year is not None and w.venue_year != w.year]

    def shown(works: Sequence[Work]) -> str:
        return ", ".join(f"{w.author} {w.year}" for w in works) or "none"

    checks = [
        Check("cited and not listed", f"{len(cited)} works cited", shown(unlisted), not unlisted, "references"),
        Check("listed and not cited", f"{len(listed)} works listed", shown(uncited), not uncited, "references"),
        Check("year of the citation against that of the venue", "agree",
              ", ".join(f"{w.author} {w.year}, venue {w.venue_year}" for w in years) or "agree", not years,
              "references"),
    ]  # fmt: skip
    return from_checks(
        "audit/references", "references", f"{len(cited)} works cited, {len(listed)} listed", checks,
        f"Of {len(cited)} works cited {len(unlisted)} are not in the list of {len(listed)}, {len(uncited)} are "
        f"listed and not cited, and {len(years)} have another year than their venue.",
        "a work goes by author and year", "the list is completed and its years are corrected",
    )  # fmt: skip
