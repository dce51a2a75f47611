"""`replicate watch`: shows the progress of training into a store, from any machine that sees the store."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

from replicate.cli.output import note, print_json
from replicate.cli.stored import fullest, to_read
from replicate.runs import scales
from replicate.runs.needed import possible_runs, runs_at
from replicate.runs.run import Run
from replicate.runs.scales import Scale
from replicate.store.store import Store
from replicate.text import UsageError, duration
from replicate.train.watch import in_flight
from replicate.train.watch.monitor import Monitor
from replicate.train.watch.snapshot import Snapshot, line

SECONDS = 1.0
"""Seconds between two updates."""
LINE_SECONDS = 15.0
"""Seconds between two lines if standard output is not a terminal."""


def run(options: argparse.Namespace) -> int:
    given = scales.get(options.scale) if options.scale else None
    store = to_read(options.store, given)
    scale = given or _busiest(store)
    runs = {run.key: run for run in possible_runs(scale)}
    first = Monitor(store, runs_at(scale, store.result)).poll()
    if options.json:
        print_json({"scale": scale.name, **_json(first), **_in_flight(store)})
        return 0
    note(f"watching scale {scale.name} in {store.path}")
    if options.once or first.done == first.total:
        print(line(first))
        if first.done < first.total:
            print("\n".join(in_flight.lines(in_flight.read(store), runs)))
        return _end(first)
    return _watch(store, scale, runs)


def _watch(store: Store, scale: Scale, runs: Mapping[str, Run]) -> int:
    """Show progress on standard output until all runs are stored, including runs that results make necessary."""
    monitor = Monitor(
        store,
        runs_at(scale, store.result),
        stream=sys.stdout,
        interval=SECONDS,
        log_interval=LINE_SECONDS,
        below=lambda: in_flight.lines(in_flight.read(store), runs),
        joining=True,
        more=lambda: runs_at(scale, store.result),
    )
    try:
        with monitor:
            while (last := monitor.poll()).done < last.total:
                time.sleep(SECONDS)
        return _end(last)
    except KeyboardInterrupt:
        print(line(monitor.poll()))
        note("stopped watching; the training continues")
        return 130


def _end(last: Snapshot) -> int:
    if last.done == last.total:
        print(f"done: all {last.total} runs are stored; training took {duration(last.device_seconds)} on one device")
    return 0


def _busiest(store: Store) -> Scale:
    """The scale with most runs stored or in training."""
    keys = store.keys().union(*(stack.keys for stack in in_flight.read(store).stacks))
    scale, held = fullest(keys)
    if not held:
        raise UsageError(
            f"store {store.path}: expected runs of a scale, stored or begun, got "
            f"none among its {len(keys)} runs; add --scale NAME"
        )
    return scale


def _json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "runs": {"needed": snapshot.total, "stored": snapshot.done},
        "diverged": snapshot.diverged,
        "device_seconds": snapshot.device_seconds,
        "cells": [
            {"cell": c.label, "needed": c.total, "stored": c.done, "diverged": c.diverged, "device_seconds": c.seconds}
            for c in snapshot.cells
        ],
    }


def _in_flight(store: Store) -> dict[str, Any]:
    found = in_flight.read(store)
    stacks = [
        {"runs": stack.keys, "left": stack.left, "state": stack.state}
        | {"begun_seconds_ago": stack.begun_seconds_ago, "saved_seconds_ago": stack.saved_seconds_ago}
        for stack in found.stacks
    ]
    return {"devices_at_work": list(found.devices), "stacks": stacks}
