"""Reads and writes files of trained landscapes, which are kept with the source code: one row per run.

`fixtures/recorded/landscapes/<name>.csv.gz` begins with `# ` and a line of JSON: what all its runs have in common, and
the list of origins (versions, processor, data) to which its rows refer by index. A row is a learning rate, a weight
decay, a seed, how many test images the trained model classifies as labelled (empty if it diverged), and an origin.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicate.calibration.trained import LANDSCAPES, Trained
from replicate.runs.run import Run
from replicate.store import atomic, kept
from replicate.store.record import StoredRun
from replicate.text import UsageError

FORMAT = 1
KEPT = "fixtures/recorded/landscapes"
COLUMNS = ("lr", "weight_decay", "seed", "right", "origin")
VARIED = ("lr", "weight_decay", "seed")
"""Settings in which the runs of a landscape differ."""
ORIGIN = ("code", "versions", "device_model", "platform", "data_checksum")
"""The fields of a run's provenance that are recorded: those that may differ between runs and affect the result."""


@dataclass(frozen=True)
class Row:
    """One run of a landscape and how it ended."""

    lr: float
    weight_decay: float
    seed: int
    right: int | None
    """Number of test images classified as labelled; None: diverged."""
    origin: int


@dataclass(frozen=True)
class Recorded:
    """The runs of a landscape that have been trained so far."""

    landscape: Trained
    rows: tuple[Row, ...]
    origins: tuple[Mapping[str, Any], ...]

    def accuracy_pp(self, row: Row) -> float | None:
        """Accuracy in percent of the test images; None: diverged."""
        return self.landscape.accuracy_pp(row.right)


def path_of(name: str) -> Path:
    """The path of the file of the landscape `name`, whether it exists or not."""
    return kept.path(KEPT) / f"{name}.csv.gz"


def missing(recorded: Recorded, seed: int) -> list[Run]:
    """The runs of `seed` that are not recorded."""
    there = {(row.lr, row.weight_decay, row.seed) for row in recorded.rows}
    return [run for run in recorded.landscape.runs(seed) if (run.lr, run.weight_decay, run.seed) not in there]


def added(recorded: Recorded, runs: Iterable[StoredRun]) -> Recorded:
    """`recorded` with `runs` added; these must be runs of the same landscape that `recorded` lacks."""
    origins, rows = list(recorded.origins), list(recorded.rows)
    for found in runs:
        origin = {name: found.provenance.get(name) for name in ORIGIN}
        if origin not in origins:
            origins.append(origin)
        right = round(found.result.accuracy_pp * recorded.landscape.tested / 100)
        run = found.run
        rows.append(
            Row(
                float(run["lr"]),
                float(run["weight_decay"]),
                int(run["seed"]),
                None if found.result.diverged else right,
                origins.index(origin),
            )
        )
    return Recorded(recorded.landscape, tuple(rows), tuple(origins))


def write(path: Path, recorded: Recorded) -> None:
    """Writes `recorded` to `path` atomically; equal runs give equal bytes."""
    common = recorded.landscape.runs(0)[0].record()
    head = {"format": FORMAT, "landscape": recorded.landscape.name, "tested": recorded.landscape.tested}
    head |= {"run": {name: value for name, value in common.items() if name not in VARIED}, "origins": recorded.origins}
    text = io.StringIO()
    text.write(f"# {json.dumps(head, sort_keys=True)}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    ordered = sorted(recorded.rows, key=lambda row: (row.seed, row.lr, row.weight_decay))
    writer.writerows((f"{row.lr:g}", f"{row.weight_decay:g}", row.seed, row.right, row.origin) for row in ordered)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.written(path) as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:  # without name and time
        packed.write(text.getvalue().encode())


def read(name: str, path: Path | None = None) -> Recorded:
    """The recorded runs of the landscape `name`, none if there is no file.

    Raises UsageError if the file is damaged, or if its runs do not match today's definition of the landscape.
    """
    path = path or path_of(name)
    landscape = LANDSCAPES[name]
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            head = json.loads(file.readline().removeprefix("# "))
            rows = tuple(_row(row) for row in csv.DictReader(file))
    except FileNotFoundError:
        return Recorded(landscape, (), ())
    except (OSError, EOFError, zlib.error, ValueError, KeyError) as error:
        raise UsageError(f"landscape {name}: expected its runs in {path}, got {error}; restore the file") from error
    today = landscape.runs(0)[0].record()
    if head.get("run") != {field: value for field, value in today.items() if field not in VARIED}:
        raise UsageError(
            f"landscape {name}: expected runs with its current settings in {path}, got others; delete the file"
        )
    return Recorded(landscape, rows, tuple(head["origins"]))


def _row(fields: Mapping[str, str]) -> Row:
    right = int(fields["right"]) if fields["right"] else None
    return Row(float(fields["lr"]), float(fields["weight_decay"]), int(fields["seed"]), right, int(fields["origin"]))
