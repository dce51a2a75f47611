"""`replicate runs compare`: compares two stored runs field by field, or all runs that two stores share."""

from __future__ import annotations

import argparse
from typing import Any

from replicate.cli.output import columns, print_json, shown
from replicate.cli.stored import one_run, to_read
from replicate.store import differences
from replicate.store.differences import Pair
from replicate.store.store import Store
from replicate.text import UsageError

MOST_ROWS = 20
HEADER = ("key", "arch", "dataset", "lr", "wd", "seed", "first", "second", "difference")


def run(options: argparse.Namespace, store: Store) -> int:
    """Exit status 0 if all results are equal, 1 if any differ."""
    if options.other is not None:
        other = to_read(options.other)
        return _stores(store, other, options.keys, options.json)
    if len(options.keys) != 2:
        raise UsageError(
            f"compare: expected two keys, or --other DIR, got {len(options.keys)} keys; see `replicate runs list`"
        )
    before, after = (one_run(store, key) for key in options.keys)
    fields = differences.of_runs(before, after)
    pair = Pair(before, after)
    if options.json:
        named = [{"name": f.name, "first": f.before, "second": f.after} for f in fields]
        print_json({"equal": pair.equal, "difference_pp": pair.difference_pp, "fields": named})
    else:
        print(f"accuracy {before.result.accuracy_pp:.4g} and {after.result.accuracy_pp:.4g} per cent: {_words(pair)}")
        if fields:
            print(columns(("field", "first", "second"), [(f.name, _short(f.before), _short(f.after)) for f in fields]))
    return int(not pair.equal)


def _stores(before: Store, after: Store, prefixes: list[str], as_json: bool) -> int:
    found = differences.of_stores(_chosen(before, prefixes), _chosen(after, prefixes))
    if not found.pairs:
        raise UsageError(
            f"compare: expected runs that {before.path} and {after.path} share, got none "
            f"({found.only_before} only in the first, {found.only_after} only in the second)"
        )
    differing = found.differing
    rows = [_row(pair) for pair in differing]
    if as_json:
        only = {"only_first": found.only_before, "only_second": found.only_after}
        print_json({"shared": len(found.pairs), **only, "differing": rows})
        return int(bool(differing))
    text = f"{len(found.pairs)} runs in both, {len(differing)} differ"
    if differing:
        by = [abs(pair.difference_pp) for pair in differing]
        text += f" (by {sum(by) / len(by):.2g} pp on average, {max(by):.2g} at most)"
    print(f"{text}; {found.only_before} only in the first, {found.only_after} only in the second")
    if differing:
        print(columns(HEADER, [[shown(row[field]) for field in HEADER] for row in rows[:MOST_ROWS]]))
    if len(rows) > MOST_ROWS:
        print(f"... and {len(rows) - MOST_ROWS} runs that differ less; --json prints all")
    return int(bool(differing))


def _chosen(store: Store, prefixes: list[str]) -> list[Any]:
    return [stored for stored in store.records() if not prefixes or stored.key.startswith(tuple(prefixes))]


def _row(pair: Pair) -> dict[str, Any]:
    run = pair.before.run
    first, second = (None if s.result.diverged else s.result.accuracy_pp for s in (pair.before, pair.after))
    named = (pair.before.key, run["arch"], run["data"]["name"], run["lr"], run["weight_decay"], run["seed"])
    return dict(zip(HEADER, (*named, first, second, pair.difference_pp), strict=True))


def _words(pair: Pair) -> str:
    if pair.equal:
        return "equal to the last digit"
    return f"the second is {abs(pair.difference_pp):.2g} pp {'higher' if pair.difference_pp >= 0 else 'lower'}"


def _short(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
