"""`replicate runs`: list, show and export what the store holds."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from replicate import scales
from replicate.cli.output import columns, note, print_json
from replicate.collect import parts_at, split
from replicate.paper.claims import Part
from replicate.paper.registry import CLAIMS
from replicate.store import Store, StoredRun, StoreError, open_store


class NoSuchRun(Exception):
    """A key or variant that leads to no run; the message is one line."""


UNUSABLE = (scales.ScaleError, StoreError, NoSuchRun)

FIELDS = (
    "key", "arch", "dataset", "optimizer", "schedule", "epochs", "batch_size", "lr", "wd", "seed", "accuracy",
    "best_accuracy", "diverged", "seconds", "synthetic",
)  # fmt: skip
LISTED = ("key", "arch", "dataset", "optimizer", "lr", "wd", "seed", "accuracy", "diverged", "seconds")
POINT_FIELDS = ("arch", "dataset", "lr", "wd", "seed", "accuracy", "best_accuracy", "diverged", "key")


def run(options: argparse.Namespace) -> int:
    store = open_store(options.store, create=False, read_only=True)
    if options.action == "list":
        _list(store, options.json)
    elif options.action == "show":
        _show(store, options.key, options.json)
    elif options.scale:
        _print_csv(POINT_FIELDS, landscape_points(store, scales.get(options.scale), options.variant))
    else:
        _print_csv(FIELDS, (_row(stored) for stored in store.records()))
    for notice in store.notices:
        note(notice)
    return 0


def _list(store: Store, as_json: bool) -> None:
    rows = [_row(stored) for stored in store.records()]
    if as_json:
        print_json({"runs": rows})
        return
    shown = sorted(rows, key=lambda r: (r["arch"], r["dataset"], r["optimizer"], r["lr"], r["wd"], r["seed"]))
    print(columns(LISTED, [[_shown(row[field]) for field in LISTED] for row in shown]))
    note(f"{len(rows)} runs in {store.path}")


def _show(store: Store, prefix: str, as_json: bool) -> None:
    keys = store.find(prefix)
    if len(keys) != 1:
        got = f"{len(keys)} that begin with it: {', '.join(keys[:4])}, …" if keys else "none"
        raise NoSuchRun(f"{prefix}: expected the key of one run in {store.path}, got {got}; see `replicate runs list`")
    stored = store.read(keys[0])
    if stored is None:
        raise NoSuchRun(f"{keys[0]}: expected a whole record, got a corrupt one; train it again")
    record = {
        "key": stored.key, "run": stored.run, "result": stored.result.to_json(), "provenance": stored.provenance,
        "synthetic": stored.synthetic,
    }  # fmt: skip
    if as_json:
        print_json(record)
        return
    for name, value in record.items():
        print(f"{name}: {value}" if not isinstance(value, dict) else f"{name}:")
        if isinstance(value, dict):
            print("\n".join(f"  {field}: {_shown(v)}" for field, v in value.items()))


def _row(stored: StoredRun) -> dict[str, Any]:
    """A run as a row; the accuracy of a diverged one is None, which `replicate judge` reads as diverged."""
    run, result = stored.run, stored.result
    return {
        "key": stored.key, "arch": run["arch"], "dataset": run["data"]["name"], "optimizer": run["optimizer"],
        "schedule": run["schedule"], "epochs": run["epochs"], "batch_size": run["batch_size"], "lr": run["lr"],
        "wd": run["weight_decay"], "seed": run["seed"], "accuracy": None if result.diverged else result.accuracy_pp,
        "best_accuracy": result.best_accuracy_pp, "diverged": result.diverged, "seconds": result.seconds,
        "synthetic": stored.synthetic,
    }  # fmt: skip


def landscape_points(store: Store, scale: scales.Scale, variant: str) -> Iterable[dict[str, Any]]:
    """The stored landscape points of `scale` under the paper's names of cells, each point once."""
    trained, _ = split(CLAIMS, scale)
    parts = list(dict.fromkeys(part for claim in trained for part in parts_at(claim, scale)))
    variants = dict.fromkeys(part.variant for part in parts)
    if variant not in variants:
        raise NoSuchRun(f"--variant: expected one of {', '.join(variants)} at scale {scale.name}, got {variant!r}")
    rows = []
    missing = 0
    for cell in dict.fromkeys(part.cell for part in parts):
        grids = [Part(cell, variant, part.grid) for part in parts if part.cell == cell and part.variant == variant]
        points = {(p.lr, p.weight_decay, p.seed): p for part in grids for p in scales.points(scale, part)}
        for _, point in sorted(points.items()):
            stored = store.read(point.run.key)
            if stored is None:
                missing += 1
                continue
            rows.append(
                _row(stored) | {"arch": cell.arch, "dataset": cell.dataset, "lr": point.lr, "wd": point.weight_decay}
            )
    if missing:
        note(f"{missing} of {missing + len(rows)} points are not in the store; `replicate train` adds them")
    return rows


def _print_csv(fields: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    out = io.StringIO()
    writer = csv.DictWriter(out, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    sys.stdout.write(out.getvalue())


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
