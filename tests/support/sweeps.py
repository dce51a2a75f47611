"""One small sweep, as the many formats of tests/sweeps write it, and what a reader must find in each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from replicate.landscape.landscape import Landscape
from replicate.sweeps.settings import Parted, parse_names, parse_where
from replicate.sweeps.source import read_table
from replicate.sweeps.sweep import Sweep, read_sweep

RUNS: list[dict[str, Any]] = [
    {"lr": lr, "wd": wd, "seed": seed, "acc": 70 + 3 * i + j + seed / 4}
    for i, lr in enumerate((0.001, 0.003, 0.01))
    for j, wd in enumerate((0.0, 0.0001, 0.001))
    for seed in (1, 2)
]
"""18 runs: three learning rates, three weight decays, two seeds; accuracies in percent."""
EXPECTED = sorted((r["lr"], r["wd"], r["acc"]) for r in RUNS)


def csv_text(runs: list[dict[str, Any]], delimiter: str = ",") -> str:
    header = list(runs[0])
    return "\n".join(delimiter.join(map(str, row)) for row in [header, *([r[c] for c in header] for r in runs)]) + "\n"


def read(path: Path, metric: str | None = None, **options: Any) -> Sweep:
    """The sweep in `path`, with `where`, `by`, `ignore`, `take` and `noise` as they are typed."""
    parted = Parted(
        parse_where([options["where"]] if "where" in options else []),
        parse_names([options.get("by", "")]),
        parse_names([options.get("ignore", "")]),
    )
    return read_sweep(
        read_table(str(path)),
        metric,
        options.get("columns"),
        parted=parted,
        take=options.get("take", "last"),
        noise_sd=options.get("noise"),
    )


def of_text(
    folder: Path, text: str | bytes, metric: str | None = None, name: str = "runs.csv", **options: Any
) -> Sweep:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(folder / name, metric, **options)


def only(found: Sweep) -> Landscape:
    assert len(found.landscapes) == 1
    return found.landscapes[0]


def scores(found: Sweep) -> list[tuple[float, float, float]]:
    """(lr, wd, score) of each run of the one landscape, sorted."""
    frame = only(found).frame
    return sorted((float(r.lr), float(r.wd), round(float(r.score), 9)) for r in frame.itertuples())
