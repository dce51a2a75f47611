"""The names of all findings, and which are missing, are errors, or show a failure."""

from __future__ import annotations

from first_minutes.findings import Findings
from first_minutes.trial import Trial

OF_STACK = ("steps", "replays", "evaluation", "augmentation", "memory", "profile")
"""The findings on stacks that an architecture's process produces, in this order."""
BESIDE = "beside"
"""The finding with an architecture's times in the plain loop and as the script trains."""


def names(tried: Trial) -> list[str]:
    """All findings except `correctness`, which has one outcome per test, and `evidence`, which is optional."""
    of_each = [f"{arch}/{piece}" for arch in tried.architectures for piece in (*OF_STACK, BESIDE)]
    return ["health", *of_each, "projection"]


def missing(tried: Trial, findings: Findings) -> list[str]:
    """The names of missing findings; errors and incomplete findings count as missing."""
    found = {name: findings.good(name) for name in names(tried)}
    return [name for name, of in found.items() if of is None or not of.get("complete", True)]


def errors(tried: Trial, findings: Findings) -> dict[str, str]:
    """Name → error, for each finding that is an error."""
    asked = [*names(tried), *(f"{arch}/compile" for arch in tried.architectures), "evidence"]
    found = {name: findings.get(name) or {} for name in asked}
    return {name: str(of["error"]) for name, of in found.items() if "error" in of}


def wrong(tried: Trial, findings: Findings) -> list[str]:
    """One line per failed test, per stack that disagrees with the plain loop, and per error."""
    tests = (findings.get("correctness") or {}).get("tests", {})
    lines = [f"{name} failed: {test.get('error', '')}" for name, test in tests.items() if test["outcome"] == "failed"]
    for arch in tried.architectures:
        steps = findings.good(f"{arch}/steps")
        if steps is not None and not steps["agrees"]:
            lines.append(f"{arch}: stack and plain loop differ by {steps['apart']:.2g} within {steps['steps']} steps")
    return [*lines, *(f"{name}: {error}" for name, error in errors(tried, findings).items())]
