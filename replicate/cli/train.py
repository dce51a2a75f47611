"""`replicate train`: trains the runs of a scale that the store lacks."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable

from replicate.cli.options import use_images
from replicate.cli.output import note, print_json, say
from replicate.data import catalogue
from replicate.judging import training_order
from replicate.landscape.from_store import missing_runs
from replicate.paper.claim import Claim
from replicate.paper.registry import CLAIMS
from replicate.runs import looks, scales
from replicate.runs.needed import possible_runs, runs_for, split
from replicate.runs.run import Run
from replicate.store import recorded
from replicate.store.model_file import Keep
from replicate.store.store import Store, open_store
from replicate.text import UsageError
from replicate.train.contract import TRAINERS
from replicate.train.engine.choice import check, ensure_of
from replicate.train.plan import budget


def run(options: argparse.Namespace) -> int:
    check(options.engine, options.address)
    scale = scales.get(options.scale)
    allowed = budget.seconds(options.budget)  # before anything is downloaded
    if scale.why_untrainable:
        raise UsageError(f"scale {scale.name} cannot be trained: {scale.why_untrainable}")
    if options.retrain and not options.keep_models:
        raise UsageError(
            "--retrain: expected --keep-models beside it, as runs are trained again only to save their models; add it"
        )
    keep = Keep.NONE if not options.keep_models else Keep.ALL if options.retrain else Keep.NEW
    use_images(options.data)
    store = open_store(options.store, below=recorded.of_scale(scale.name), keep=keep)
    answerable, _ = split(CLAIMS, scale)
    claims = answerable
    runs = runs_for(claims, scale, store.result)
    before = len(store.keys() & {r.key for r in runs})
    if before < len(runs):
        for _, spec in scale.data:
            catalogue.prepare(spec)
    note(f"scale {scale.name}: {len(runs)} runs needed, {before} in {store.path}, {len(runs) - before} to train")
    if keep is Keep.NEW and (without := store.without_model(runs)):
        note(f"{len(without)} stored runs have no model; --retrain would train them again")
    until = math.inf if allowed is None else time.monotonic() + allowed
    until_settled = options.until is not None
    if until_settled and (why := looks.why_once(scale)):
        note(why)
    parts = training_order.parts(CLAIMS, scale, store, budget=allowed is not None, until_settled=until_settled)
    status = _train(store, claims, parts, scale, options, until)
    first: list[Run] = []
    if until_settled:
        claims = training_order.unsettled(claims, scale, store)
        first = runs_for(answerable, scale, store.result, looks.FIRST_SEEDS)
    # Brackets that depend on results may have asked for more runs.
    runs = list({run.key: run for run in (*first, *runs_for(claims, scale, store.result))}.values())
    present = len(store.keys() & {r.key for r in runs})
    if options.json:
        print_json({"scale": scale.name, "needed": len(runs), "stored_before": before, "stored": present})
    elif status == 0 and present < len(runs):
        answered = len(answerable) - sum(bool(missing_runs(claim, scale, store)) for claim in claims)
        have = f"{present} of {len(runs)} runs are in {store.path}"
        enough = f"enough to judge {answered} of {len(answerable)} claims"
        print(f"the budget of {options.budget} is spent: {have}, {enough}; run the same command again to continue")
    elif status == 0:
        say([f"{present} of {len(runs)} runs are in {store.path}; to judge: pytest claims/ --scale {scale.name}"])
    return status


def _train(
    store: Store,
    claims: list[Claim],
    parts: Iterable[list[Run]],
    scale: scales.Scale,
    options: argparse.Namespace,
    until: float,
) -> int:
    """Train the runs that `claims` need, list by list in the order of `parts`; returns the exit status."""
    from replicate.train.engine.failed import TrainingFailed
    from replicate.train.engine.leave import OutOfTime  # not at the top: the engine needs the GPU stack
    from replicate.train.watch import in_flight
    from replicate.train.watch.monitor import Monitor

    ensure = ensure_of(options.engine, options.address)
    possible = {run.key: run for run in possible_runs(scale)}

    def wanted() -> list[Run]:
        return runs_for(claims, scale, store.result)

    try:
        with Monitor(store, wanted(), below=lambda: in_flight.lines(in_flight.read(store), possible), more=wanted):
            for part in parts:
                ensure(store, part, processes=options.processes, trainer=TRAINERS[options.trainer], until=until)
    except OutOfTime as over:
        note(str(over))
    except TrainingFailed as error:
        print(f"replicate train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        note("interrupted; finished runs are kept, and the same command continues from there")
        return 130
    return 0
