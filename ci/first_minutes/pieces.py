"""Which findings there are to be had, which of them are missing, and which came to an error."""

from __future__ import annotations

from first_minutes.findings import Findings
from first_minutes.trial import Trial

OF_STACK = ("steps", "replays", "evaluation", "augmentation", "memory", "profile")
"""Found by the process of an architecture, in this order."""
BESIDE = "beside"
"""The plain loop and the script's way: found for an architecture too."""


def names(tried: Trial) -> list[str]:
    """All findings but correctness, which has one for each test, and evidence, which is asked for."""
    of_each = [f"{arch}/{piece}" for arch in tried.architectures for piece in (*OF_STACK, BESIDE)]
    return ["health", *of_each, "projection"]


def missing(tried: Trial, findings: Findings) -> list[str]:
    """The names of what is still to be found, what came to an error included."""
    found = {name: findings.good(name) for name in names(tried)}
    return [name for name, of in found.items() if of is None or not of.get("complete", True)]


def errors(tried: Trial, findings: Findings) -> dict[str, str]:
    """By name, what came to an error."""
    asked = [*names(tried), *(f"{arch}/compile" for arch in tried.architectures), "evidence"]
    found = {name: findings.get(name) or {} for name in asked}
    return {name: str(of["error"]) for name, of in found.items() if "error" in of}


def wrong(tried: Trial, findings: Findings) -> list[str]:
    """A line on each thing that was found and is not as it should be."""
    tests = (findings.get("correctness") or {}).get("tests", {})
    lines = [f"{name} failed: {test.get('error', '')}" for name, test in tests.items() if test["outcome"] == "failed"]
    for arch in tried.architectures:
        steps = findings.good(f"{arch}/steps")
        if steps is not None and not steps["agrees"]:
            lines.append(f"{arch}: stack and plain loop differ by {steps['apart']:.2g} within {steps['steps']} steps")
    return [*lines, *(f"{name}: {error}" for name, error in errors(tried, findings).items())]
