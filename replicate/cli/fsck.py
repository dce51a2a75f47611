"""`replicate fsck`: checks every file of a store; with `--repair`, moves damaged and unused ones to quarantine/."""

from __future__ import annotations

import argparse

from replicate.cli.output import print_json, say
from replicate.cli.stored import to_read
from replicate.store import fsck


def run(options: argparse.Namespace) -> int:
    # Opening the store for writing would already repair some files.
    store = to_read(options.store)
    found = fsck.check(store)
    left = list(found.problems)
    if options.repair and found.problems:
        left = fsck.repair(store, found.problems)

    def name(path: object) -> str:
        return str(path).removeprefix(f"{store.path}/")

    if options.json:
        problems = [
            {"kind": p.kind, "path": name(p.path), "why": p.why, "repaired": options.repair and p not in left}
            for p in found.problems
        ]
        quarantine = [name(path) for path in found.quarantined]
        print_json({"store": str(store.path), "records": found.records, "problems": problems, "quarantine": quarantine})
        return 1 if found.problems else 0
    for problem in found.problems:
        done = "" if not options.repair else "; not moved: it is in use" if problem in left else "; moved to quarantine"
        say([f"{problem.kind}: {name(problem.path)}: {problem.why}{done}"])
    for path in found.quarantined:
        say([f"moved to quarantine earlier, safe to delete: {name(path)}"])
    print(
        f"{found.records} valid records, {len(found.problems)} problems, {len(found.quarantined)} files in quarantine"
    )
    if found.problems and not options.repair:
        print("--repair moves these files to quarantine/; runs without a valid record are trained again")
    return 1 if found.problems else 0
