"""Trains the paper's models at full size for some minutes, judges the claims, and records the runs as evidence."""

from __future__ import annotations

from pathlib import Path

from first_minutes.findings import Findings, Found
from first_minutes.trial import Trial
from replicate.data import catalogue
from replicate.data.source import DataError
from replicate.runs.needed import runs_at
from replicate.store import recorded
from replicate.store.store import open_store

RECORDED = "recorded"
"""Subfolder for recorded runs, to be copied into `fixtures/recorded`."""


JUDGED = (0, 1)
"""Exit statuses of pytest if claims were judged: none contradicted, or at least one."""


def missing_images(tried: Trial) -> str:
    """A line that names images missing for the training of evidence; empty if none are missing."""
    for _, spec in tried.shapes.data:
        try:
            catalogue.prepare(spec)
        except DataError as error:
            return f"--evidence: {error}"
    return ""


def command(tried: Trial, store: Path, report: Path, budget: str) -> list[str]:
    """Arguments for pytest, run from the project's root, to train for at most `budget` and judge the stored runs.

    The audit of the paper's own figures is left out, because it needs no device.
    """
    asked = ["claims/", "--ignore", "claims/test_audit.py", "--ignore", "claims/test_theory.py", "-q"]
    asked += ["-p", "no:cacheprovider", "--scale", tried.shapes.name, "--budget", budget]
    return [*asked, "--store", str(store), "--report", str(report)]


def record(tried: Trial, findings: Findings, store: Path) -> Found:
    """Record the scale's runs in `store`, with their provenance; returns their numbers by architecture."""
    scale, opened = tried.shapes, open_store(store)
    wanted = runs_at(scale, opened.result)
    held = {run.key: stored for run in wanted if (stored := opened.read(run.key)) is not None}
    by_arch = {arch: sum(run.key in held for run in wanted if run.arch == arch) for arch in tried.architectures}
    path = recorded.path_of(scale.name, findings.folder / RECORDED)
    if held:
        recorded.write(path, held.values())
    found = {"scale": scale.name, "runs": len(held), "wanted": len(wanted), "by_architecture": by_arch}
    found["devices"] = sorted({str(stored.provenance.get("device_model")) for stored in held.values()})
    findings.put("evidence", **found)
    return found
