"""`replicate calibrate`: measures how often the rules err, on landscapes and experiments with known truth."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from replicate.calibration import experiments, measured, rates, studies, tables, trained_rates
from replicate.calibration.trained import LANDSCAPES
from replicate.cli.output import check_folder, note, print_json, progress, say
from replicate.data import catalogue
from replicate.paper.registry import REGISTRY_HASH
from replicate.store import kept as kept_files
from replicate.text import UsageError, duration
from replicate.train.cores import slots

PARTS = ["trained", "cells", "experiments"]
TRAINING = Path(".replicate") / "trained"
"""The store in which `--train` trains runs before it records them in the source tree."""
KEPT = Path(".replicate") / "calibration"
"""The folder of intermediate results: an interrupted calibration continues from them if the rules are the same."""


def run(options: argparse.Namespace) -> int:
    out = Path(options.out) if options.out else None
    check_folder("--out", options.out)
    numbers = None if out is None else out.with_suffix(".json")
    if out is not None and numbers == out:
        raise UsageError(f"--out: expected a file for the tables, e.g. calibration.md, got {options.out}")
    parts = options.part or PARTS
    if options.train and parts != ["trained"]:
        raise UsageError(f"--train: expected --part trained, got {' and '.join(parts)}; give --part trained only")
    kept = numbers is not None and numbers.exists() and len(parts) < len(PARTS)
    found = measured.read(numbers) if numbers is not None and kept else measured.Measured()
    if found.registry != REGISTRY_HASH:
        note(f"{numbers} was measured with other rules: its parts that are not measured again now are removed")
        found = measured.Measured()
    processes = options.processes or len(slots())
    started = time.monotonic()
    for part in parts:
        if part == "trained":
            if options.train:
                _train(options.train, options.processes)
            rows = trained_rates.rates(
                LANDSCAPES, options.landscapes, processes, progress("calibrate", "studies"), KEPT
            )
            found = replace(found, trained=tuple(rows))
        elif part == "cells":
            chosen = [*studies.studies(), *studies.power_studies()]
            chosen = studies.thin(chosen, options.studies) if options.studies else chosen
            judged = rates.rates(chosen, options.landscapes, processes, progress("calibrate", "studies"), KEPT)
            found = replace(found, cells=measured.cell_rows(judged))
        else:
            judged_whole = experiments.rates(
                experiments.EXPERIMENTS,
                experiments.SEED_COUNTS,
                options.outcomes,
                processes,
                progress("calibrate", "experiments"),
                KEPT,
            )
            found = replace(found, experiments=tuple(judged_whole))
        if numbers is not None:
            measured.write(numbers, found)
    note(f"calibrated in {duration(time.monotonic() - started)}")
    if out is not None:
        out.write_text(tables.markdown(found), encoding="utf-8")
    if options.json:
        print_json(found.to_json())
    elif out is None:
        print(tables.markdown(found))
    else:
        say([f"written to {out}; wrong decisive verdicts: {100 * measured.worst(found):.1f} % in the worst row"])
    return 0


def _train(seeds: int, processes: int | None) -> None:
    """Train and record the first `seeds` seeds of every trained landscape, except seeds recorded already."""
    if not kept_files.in_clone():
        raise UsageError(
            f"--train: expected a clone of the repository to record runs in, got an installation in {kept_files.ROOT}"
        )
    for spec in dict.fromkeys(landscape.data for landscape in LANDSCAPES.values()):
        catalogue.prepare(spec)
    from replicate.calibration import training  # not at the top: it needs the GPU stack

    show, whole = progress("calibrate", "seeds of landscapes trained"), dict.fromkeys(LANDSCAPES, 0)

    def report(name: str, done: int, of: int) -> None:
        whole[name] = done
        show(sum(whole.values()), len(LANDSCAPES) * of)

    training.train(list(LANDSCAPES), seeds, TRAINING, processes, report)
