"""`replicate runs gc`: what nobody will read again, and with `--delete` its deletion."""

from __future__ import annotations

import argparse

from replicate.cli.output import columns, note, print_json, say
from replicate.store import garbage
from replicate.store.garbage import Item
from replicate.store.store import Store


def run(options: argparse.Namespace, store: Store) -> int:
    items = garbage.find(store)
    left = 0
    if options.delete:
        gone = garbage.delete(items)
        left = len(items) - len(gone)
        items = gone
    size = sum(item.size_bytes for item in items)
    if options.json:
        rows = [
            {"path": i.path.relative_to(store.path).as_posix(), "reason": i.reason, "bytes": i.size_bytes}
            for i in items
        ]
        print_json({"deleted": options.delete, "bytes": size, "items": rows})
        return 0
    if items:
        print(columns(("what", "number", "bytes"), _rows(items)))
    if not items:
        say([f"nothing to delete: a scale names everything in {store.path}"])
    elif options.delete:
        say([f"deleted {len(items)} of {store.path}: {size:,} bytes"])
    else:
        print(f"{size:,} bytes; nothing was deleted, --delete does that")
    if left:
        note(f"{left} could not be deleted; make the store writable, or they were gone already")
    return 0


def _rows(items: list[Item]) -> list[tuple[str, int, int]]:
    by_reason = {reason: [i.size_bytes for i in items if i.reason == reason] for reason in garbage.REASONS}
    return [(reason, len(sizes), sum(sizes)) for reason, sizes in by_reason.items() if sizes]
