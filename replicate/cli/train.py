"""`replicate train`: fills the store with what a scale lacks."""

from __future__ import annotations

import argparse
import math
import sys
import time

from replicate.cli.options import use_images
from replicate.cli.output import note, print_json, say
from replicate.data import catalogue
from replicate.landscape.from_store import missing_runs
from replicate.paper.claim import Claim
from replicate.paper.registry import CLAIMS
from replicate.runs import scales
from replicate.runs.needed import in_rounds, possible_runs, runs_for, split
from replicate.runs.run import Run
from replicate.store import recorded
from replicate.store.model_file import Keep
from replicate.store.store import Store, open_store
from replicate.text import UsageError
from replicate.train.contract import TRAINERS
from replicate.train.engine.choice import check, ensure_of
from replicate.train.plan import budget, priority


def run(options: argparse.Namespace) -> int:
    check(options.engine, options.address)
    scale = scales.get(options.scale)
    allowed = budget.seconds(options.budget)  # before anything is downloaded
    if scale.why_untrainable:
        raise UsageError(f"scale {scale.name}: {scale.why_untrainable}")
    if options.retrain and not options.keep_models:
        raise UsageError("--retrain: expected --keep-models with it: only for its model is a stored run trained again")
    keep = Keep.NONE if not options.keep_models else Keep.ALL if options.retrain else Keep.NEW
    use_images(options.data)
    store = open_store(options.store, below=recorded.of_scale(scale.name), keep=keep)
    claims, _ = split(CLAIMS, scale)
    runs = runs_for(claims, scale, store.result)
    before = len(store.keys() & {r.key for r in runs})
    if before < len(runs):
        for _, spec in scale.data:
            catalogue.prepare(spec)
    note(f"scale {scale.name}: {len(runs)} runs needed, {before} in {store.path}, {len(runs) - before} to train")
    if keep is Keep.NEW and (without := store.without_model(runs)):
        note(f"{len(without)} stored runs have no model and are not trained again; --retrain does that")
    parts, until = [claims], math.inf
    if allowed is not None:
        until = time.monotonic() + allowed
        by_id = {claim.id: claim for claim in claims}
        parts = [[by_id[name] for name in step.claims] for step in priority.best_first(CLAIMS, scale, store)]
    status = _train(store, parts, scale, options, until)
    runs = runs_for(claims, scale, store.result)  # brackets in rounds have asked for more
    present = len(store.keys() & {r.key for r in runs})
    if options.json:
        print_json({"scale": scale.name, "needed": len(runs), "stored_before": before, "stored": present})
    elif status == 0 and present < len(runs):
        answered = sum(not missing_runs(claim, scale, store) for claim in claims)
        have = f"{present} of {len(runs)} runs are in {store.path}"
        enough = f"which is enough for {answered} of {len(claims)} claims"
        print(f"the budget of {options.budget} is spent: {have}, {enough}; the same command goes on from there")
    elif status == 0:
        say([f"{present} of {len(runs)} runs are in {store.path}; judge them: pytest claims/ --scale {scale.name}"])
    return status


def _train(
    store: Store, parts: list[list[Claim]], scale: scales.Scale, options: argparse.Namespace, until: float
) -> int:
    """Train what `parts` need, one after the other, each in as many rounds as it takes; the exit status."""
    from replicate.train.engine.failed import TrainingFailed
    from replicate.train.engine.leave import OutOfTime  # here and no earlier: the engine needs the GPU stack
    from replicate.train.watch import in_flight
    from replicate.train.watch.monitor import Monitor

    ensure = ensure_of(options.engine, options.address)
    possible = {run.key: run for run in possible_runs(scale)}

    def wanted() -> list[Run]:
        return runs_for([claim for part in parts for claim in part], scale, store.result)

    try:
        with Monitor(store, wanted(), below=lambda: in_flight.lines(in_flight.read(store), possible), more=wanted):
            for runs in (runs for part in parts for runs in in_rounds(part, scale, store.result)):
                ensure(store, runs, processes=options.processes, trainer=TRAINERS[options.trainer], until=until)
    except OutOfTime as over:
        note(str(over))
    except TrainingFailed as error:
        print(f"replicate train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        note("interrupted; finished runs are kept, the same command goes on from there")
        return 130
    return 0
