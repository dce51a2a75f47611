"""From a store to verdicts: judged where a claim's runs are there, `not run` with the reason where they are not."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from replicate import __version__
from replicate.data import catalogue
from replicate.judging import claim_verdicts
from replicate.judging.verdict import Evidence, Verdict, not_run
from replicate.judging.verdict_file import Entry, VerdictFile, entry
from replicate.landscape.from_store import Missing, landscapes_for
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim
from replicate.paper.registry import CLAIMS, REGISTRY_HASH
from replicate.runs.needed import Key, runs_for, split
from replicate.runs.run import Run
from replicate.runs.scales import NotTrained, Scale
from replicate.store import provenance
from replicate.store.store import Store, StoredRun

MOST_CELLS = 2
"""Claims over more cells than these have no landscape of their own."""


def judge(claim: Claim, scale: Scale, store: Store) -> Verdict:
    """The verdict of `claim` from what `store` holds; nothing is trained."""
    try:
        landscapes = landscapes_for(claim, scale, store)
    except NotTrained as reason:
        return not_run(claim, str(reason), Evidence(scale.name, scale.probe))
    except Missing as missing:
        evidence = Evidence(
            scale.name, scale.probe, trained([claim], scale), missing.have, missing.need - missing.have, 0
        )
        return not_run(claim, str(missing), evidence, f"`replicate train --scale {scale.name}`")
    runs = runs_for([claim], scale)
    told_apart = [run for run in runs if run.data.name in catalogue.TITLES]  # the others need not be looked up again
    note = not_published(stored for run in told_apart if (stored := store.get(run)) is not None)
    evidence = Evidence(
        scale=scale.name,
        probe=scale.probe or bool(note),
        cells=trained([claim], scale),
        runs=len(runs),
        seeds=len({run.seed for run in runs}),
        synthetic=any(landscape.synthetic for landscape in landscapes.values()),
        note=note,
    )
    return claim_verdicts.judge(claim, landscapes, evidence)


def not_published(runs: Iterable[StoredRun]) -> str:
    """`not the published …` where any of `runs` was trained on other images than its data set is known for, else ``.

    Made-up images in the right format would else speak for the paper.
    """
    read = {
        (stored.run["data"]["name"], stored.provenance.get("data_checksum"), _whole(stored.run["data"]))
        for stored in runs
        if stored.run["data"]["name"] in catalogue.TITLES
    }
    others = {name for name, checksum, whole in read if not (whole and catalogue.published(name, checksum))}
    return f"not the published {' and '.join(catalogue.TITLES[name] for name in sorted(others))}" if others else ""


def _whole(spec: dict[str, Any]) -> bool:
    """Whether a recorded `DataSpec` is all of its data set, unaltered."""
    return spec["train_images"] is None and spec["test_images"] is None and not spec["label_noise"]


def trained(claims: Iterable[Claim], scale: Scale) -> tuple[str, ...]:
    """What `scale` trains for `claims`, e.g. `resnet50 on digits`, each once."""
    return tuple(dict.fromkeys(f"{run.arch} on {run.data.name}" for run in runs_for(claims, scale)))


def _versions() -> dict[str, str]:
    """Of what judges, beside what trains."""
    judged_with = {name: importlib.metadata.version(name) for name in ("scipy", "pandas")}
    return {"replicate": __version__, **provenance.versions(), **judged_with}


def trained_with(found: Iterable[StoredRun]) -> tuple[str, ...]:
    """Software, trainer and precision of some runs with their number, most runs first."""
    kinds: Counter[str] = Counter()
    for stored in found:
        of = stored.provenance
        software = ", ".join(f"{name} {version}" for name, version in sorted(of.get("versions", {}).items()))
        kinds[f"{software or 'unknown'}; {of.get('trainer', 'solo')}, {of.get('precision', 'float32')}"] += 1
    return tuple(f"{kind}: {count:,} run{'' if count == 1 else 's'}" for kind, count in kinds.most_common())


def verdict_file(
    entries: Sequence[Entry], claims: Sequence[Claim], scale: Scale, why: str, store: Store
) -> VerdictFile:
    """The file of `entries`, with what the runs of `claims` in `store` say of themselves."""
    answerable, _ = split(claims, scale)
    runs: dict[str, Run] = {run.key: run for run in runs_for(answerable, scale)}
    found = [stored for key in runs if (stored := store.read(key)) is not None]
    return VerdictFile(
        registry_hash=REGISTRY_HASH,
        scale=scale.name,
        why=why,
        summary=scale.summary,
        probe=scale.probe or bool(not_published(found)),
        synthetic=any(stored.synthetic for stored in found),
        trained=tuple(dict.fromkeys(f"{stored.run['arch']} on {stored.run['data']['name']}" for stored in found)),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions=_versions(),
        devices=tuple(sorted({str(stored.provenance.get("device_model", "unknown")) for stored in found})),
        store_hash=store.content_hash(stored.key for stored in found),
        store_runs=len(found),
        entries=tuple(entries),
        seconds=sum(stored.result.seconds for stored in found),
        trained_with=trained_with(stored for stored in found if not stored.synthetic),
    )


def judge_all(claims: Sequence[Claim], scale: Scale, why: str, store: Store) -> VerdictFile:
    """The verdict file of all `claims`, judged from what `store` holds."""
    return verdict_file([entry(claim, judge(claim, scale, store)) for claim in claims], claims, scale, why, store)


def landscapes(scale: Scale, store: Store) -> dict[Key, Landscape]:
    """What can be drawn: by cell and variant the landscape of the first claim that `store` has all runs of.

    The claims on ratios come first in the registry and need all grids, so theirs is the fullest there is.
    """
    found: dict[Key, Landscape] = {}
    for claim in CLAIMS:
        places = {(part.cell, part.variant) for part in claim.parts}
        if len(claim.cells) > MOST_CELLS or places <= found.keys():
            continue
        try:
            for place, landscape in landscapes_for(claim, scale, store).items():
                found.setdefault(place, landscape)
        except (NotTrained, Missing):
            continue
    return found
