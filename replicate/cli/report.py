"""`replicate report`: judges what the store holds and writes verdicts.json and verdicts.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from replicate import reporting, scales
from replicate.cli.output import note, print_json
from replicate.collect import runs_for, split
from replicate.judging import judge_all
from replicate.paper.registry import CLAIMS
from replicate.report.text import counts_text, notices
from replicate.scales import Scale
from replicate.store import Store, StoreError, open_store
from replicate.verdict import CONTRADICTED


class CannotReport(Exception):
    """A report that cannot be made or written; the message is one line."""


UNUSABLE = (scales.ScaleError, StoreError, CannotReport)


def run(options: argparse.Namespace) -> int:
    store = open_store(options.store, create=False, read_only=True)
    scale, why = (scales.get(options.scale), "--scale") if options.scale else _most_complete(store)
    file = judge_all(CLAIMS, scale, why, store)
    out = Path(options.out)
    try:
        written = [*reporting.write_texts(out, file), reporting.write_page(out, file, scale, store)]
    except OSError as error:
        raise CannotReport(f"--out {out}: expected a folder that can be written, got: {error.strerror}") from None
    for text in (*store.notices, *notices(file)):
        note(text)
    if options.json:
        print_json(file.to_json())
    else:
        print(counts_text(file))
        print(f"scale {scale.name} ({why}); written: {', '.join(map(str, written))}")
    return int(file.counts[CONTRADICTED] > 0)


def _most_complete(store: Store) -> tuple[Scale, str]:
    """The scale of which `store` holds most runs, and the words that say so."""
    keys = store.keys()
    held = {}
    for scale in scales.SCALES.values():
        wanted = {run.key for run in runs_for(split(CLAIMS, scale)[0], scale)}
        held[scale.name] = len(keys & wanted)
    name = max(held, key=lambda n: held[n])
    if not held[name]:
        raise CannotReport(
            f"store {store.path}: expected runs of one of the scales {', '.join(held)}, got {len(keys)} others; "
            "train first"
        )
    return scales.get(name), f"the store holds {held[name]} of its runs"
