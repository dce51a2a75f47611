"""Verdicts on claims from the runs of a store; `not run`, with the reason, for claims whose runs are missing."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from replicate import __version__
from replicate.data import catalogue
from replicate.judging import claim_verdicts, how_sure, practice
from replicate.judging.practice import InPractice
from replicate.judging.ratios import LEVEL
from replicate.judging.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    REPLICATED,
    Evidence,
    Provisional,
    Verdict,
    not_run,
)
from replicate.judging.verdict_file import Entry, VerdictFile, entry
from replicate.landscape.from_store import Missing, collect
from replicate.paper.claim import Claim
from replicate.paper.registry import CELLS, REGISTRY_HASH, claim
from replicate.runs import looks
from replicate.runs.needed import runs_for, split
from replicate.runs.run import Run
from replicate.runs.scales import NotTrained, Scale
from replicate.store import provenance
from replicate.store.snapshot import Snapshot
from replicate.store.store import Store, StoredRun

BY_RATIO = {f"rho/{cell.id}" for cell in CELLS}
"""Ids of the claims on the ratio (best weight decay / learning rate) of one cell."""


def judge(claim: Claim, scale: Scale, store: Store, until_settled: bool = False) -> Verdict:
    """The verdict on `claim` from the runs in `store`; nothing is trained.

    `until_settled`: the claim is judged from its first seeds, and only if that is not decisive, from all its runs. If
    runs are missing, the verdict is `not run`, with a provisional verdict if enough seeds are complete.
    """
    level, look = LEVEL, ""
    now = Snapshot(store)  # all looks see the same state of the store
    if until_settled and _two_looks(claim, scale):
        if (verdict := settled(claim, scale, now)) is not None:
            return verdict
        level, look = looks.LAST_LEVEL, LAST_LOOK
    try:
        collected = collect(claim, scale, now)
    except NotTrained as reason:
        return not_run(claim, str(reason), Evidence(scale.name, scale.probe))
    except Missing as missing:
        cells = tuple(dict.fromkeys(run.title for run in missing.needed))
        evidence = Evidence(scale.name, scale.probe, cells, missing.have, len(missing.needed) - missing.have)
        verdict = not_run(claim, str(missing), evidence, f"`replicate train --scale {scale.name}`")
        if not looks.enough(scale, missing.complete):
            return verdict
        return replace(verdict, provisional=_provisional(claim, scale, now, missing))
    return claim_verdicts.judge(claim, collected.landscapes, _evidence(scale, collected.runs, look), level)


FIRST_LOOK = f"first look of --until settled, at {looks.FIRST_SEEDS} seeds"
LAST_LOOK = "last look of --until settled"


def settled(claim: Claim, scale: Scale, store: Store | Snapshot) -> Verdict | None:
    """The verdict of the first look (interim analysis) if it is decisive; None if it is not, or if runs are missing.

    It depends on the runs of the first seeds alone, so it is the same on every machine and for every order of training.
    """
    if not _two_looks(claim, scale):
        return None
    try:
        collected = collect(claim, scale, store, looks.first_look(claim, scale))
    except Missing:
        return None
    evidence = _evidence(scale, collected.runs, FIRST_LOOK)
    verdict = claim_verdicts.judge(claim, collected.landscapes, evidence, looks.FIRST_LEVEL)
    return None if verdict.outcome == INCONCLUSIVE else verdict


def _two_looks(claim: Claim, scale: Scale) -> bool:
    return bool(split([claim], scale)[0] and looks.first_look(claim, scale))


def _provisional(claim: Claim, scale: Scale, store: Snapshot, missing: Missing) -> Provisional:
    """The verdict from the complete seeds of each cell."""
    collected = collect(claim, scale, store, missing.complete)
    verdict = claim_verdicts.decide(claim, collected.landscapes, _evidence(scale, collected.runs))
    seeds = min(len(of_cell) for of_cell in missing.complete.values())
    return Provisional(verdict.outcome, verdict.reason, verdict.estimate, verdict.evidence.runs, seeds)


def _evidence(scale: Scale, runs: Sequence[StoredRun], look: str = "") -> Evidence:
    note = not_published(runs)
    return Evidence(
        scale=scale.name,
        probe=scale.probe or bool(note),
        cells=tuple(dict.fromkeys(stored.title for stored in runs)),
        runs=len(runs),
        seeds=len({stored.run["seed"] for stored in runs}),
        synthetic=any(stored.synthetic for stored in runs),
        note=note,
        look=look,
    )


def not_published(runs: Iterable[StoredRun]) -> str:
    """The note `not the published <data sets>` if any of `runs` was trained on images other than the published ones.

    Otherwise empty. Without this note, fake images in the right format could count as evidence about the paper.
    """
    read = {
        (stored.run["data"]["name"], stored.provenance.get("data_checksum"), _whole(stored.run["data"]))
        for stored in runs
        if stored.run["data"]["name"] in catalogue.TITLES
    }
    others = {name for name, checksum, whole in read if not (whole and catalogue.published(name, checksum))}
    return f"not the published {' and '.join(catalogue.TITLES[name] for name in sorted(others))}" if others else ""


def _whole(spec: dict[str, Any]) -> bool:
    """Whether a recorded `DataSpec` is the whole data set, unaltered."""
    return spec["train_images"] is None and spec["test_images"] is None and not spec["label_noise"]


def _versions() -> dict[str, str]:
    """Versions of replicate and of the libraries used for training and for judging."""
    judged_with = {name: importlib.metadata.version(name) for name in ("scipy", "pandas")}
    return {"replicate": __version__, **provenance.versions(), **judged_with}


def trained_with(found: Iterable[StoredRun]) -> tuple[str, ...]:
    """Each combination of software, trainer and precision among `found` with its number of runs, most runs first."""
    kinds: Counter[str] = Counter()
    for stored in found:
        of = stored.provenance
        software = ", ".join(f"{name} {version}" for name, version in sorted(of.get("versions", {}).items()))
        kinds[f"{software or 'unknown'}; {of.get('trainer', 'solo')}, {of.get('precision', 'float32')}"] += 1
    return tuple(f"{kind}: {count:,} run{'' if count == 1 else 's'}" for kind, count in kinds.most_common())


def verdict_file(
    entries: Sequence[Entry], claims: Sequence[Claim], scale: Scale, why: str, store: Store
) -> VerdictFile:
    """The verdict file of `entries`, with provenance from `store`; `why`: why `scale` was chosen, for reports."""
    answerable, _ = split(claims, scale)
    runs: dict[str, Run] = {run.key: run for run in runs_for(answerable, scale, store.result)}
    found = [stored for key in runs if (stored := store.read(key)) is not None]
    return VerdictFile(
        registry_hash=REGISTRY_HASH,
        scale=scale.name,
        why=why,
        summary=scale.summary,
        probe=scale.probe or bool(not_published(found)),
        synthetic=any(stored.synthetic for stored in found),
        trained=tuple(dict.fromkeys(stored.title for stored in found)),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions=_versions(),
        devices=tuple(sorted({str(stored.provenance.get("device_model", "unknown")) for stored in found})),
        store_hash=store.content_hash(stored.key for stored in found),
        store_runs=len(found),
        entries=tuple(entries),
        seconds=sum(stored.result.seconds for stored in found),
        trained_with=trained_with(stored for stored in found if not stored.synthetic),
        practice=_in_practice(entries, scale, store),
    )


def _in_practice(entries: Sequence[Entry], scale: Scale, store: Store) -> tuple[InPractice, ...]:
    """The practical results of each cell whose ratio was judged, from the runs of that claim, whose fit is cached."""
    found = []
    for e in entries:
        if e.id in BY_RATIO and e.verdict.outcome != NOT_RUN:
            of = claim(e.id)
            (cell,) = of.cells
            with contextlib.suppress(NotTrained, Missing):
                landscape = collect(of, scale, store).landscapes[cell, "main"]
                found.append(practice.of_cell(cell.id, ", ".join(e.verdict.evidence.cells), landscape))
    return tuple(one for one in found if one is not None)


def with_how_sure(entries: Sequence[Entry], scale: Scale, store: Store, processes: int) -> list[Entry]:
    """`entries` with the robustness of each decisive verdict, judged again some twenty times in `processes` processes.

    Claims that were settled by their first seeds (`--until settled`), without all their runs, are left as they are.
    """
    judged = {}
    for e in entries:
        if e.verdict.outcome in (REPLICATED, CONTRADICTED) and not e.crashed:
            of = claim(e.id)
            with contextlib.suppress(Missing):
                judged[e.id] = how_sure.Judged(of, collect(of, scale, store).landscapes, e.verdict)
    found = dict(zip(judged, how_sure.of_verdicts(list(judged.values()), processes), strict=True))
    return [replace(e, verdict=replace(e.verdict, how_sure=found.get(e.id))) for e in entries]


def judge_all(
    claims: Sequence[Claim], scale: Scale, why: str, store: Store, until_settled: bool = False, sure_processes: int = 0
) -> VerdictFile:
    """The verdict file of all `claims`, judged from the runs in `store`.

    `why`: why `scale` was chosen, for reports; `until_settled`: as in `judge`; `sure_processes`: number of processes
    that find how robust the verdicts are (`with_how_sure`), 0 to leave this out.
    """
    entries = [entry(one, judge(one, scale, store, until_settled)) for one in claims]
    if sure_processes:
        entries = with_how_sure(entries, scale, store, sure_processes)
    return verdict_file(entries, claims, scale, why, store)
