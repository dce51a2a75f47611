"""`replicate synthesize`: fills a store with made-up runs, to be judged by `pytest claims/ --scale synthetic`."""

from __future__ import annotations

import argparse

from replicate import __version__
from replicate.cli.output import note, print_json, say
from replicate.landscape import world
from replicate.runs import scales
from replicate.runs.needed import runs_at
from replicate.store.store import open_store
from replicate.text import UsageError


def run(options: argparse.Namespace) -> int:
    if options.world not in world.WORLDS:
        raise UsageError(f"--world: expected one of {', '.join(world.WORLDS)}; got {options.world!r}")
    store = open_store(options.store)
    runs = runs_at(scales.SYNTHETIC)
    made = 0
    for one in runs:
        stored = store.get(one)
        if stored is None:
            store.put(
                one, world.result(options.world, one), {"world": options.world, "code": __version__}, durable=False
            )
            made += 1
        elif stored.provenance.get("world") != options.world:
            raise UsageError(
                f"store {store.path}: expected runs of the world {options.world}, got "
                f"{stored.provenance.get('world')!r}; name another folder with --store"
            )
    note(f"world {options.world}: {made} runs made, {len(runs) - made} stored before")
    if options.json:
        print_json({"world": options.world, "runs": len(runs), "made": made})
    else:
        say([f"to judge these runs: pytest claims/ --scale synthetic --store {store.path}"])
    return 0
