"""`replicate runs`: lists, shows, compares, exports, deletes, records and verifies stored runs."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from replicate.calibration import trained
from replicate.cli import runs_compare
from replicate.cli.options import use_images
from replicate.cli.output import columns, note, print_json, say, shown, write_file
from replicate.cli.stored import one_run, to_read
from replicate.data import catalogue
from replicate.paper.claim import Part
from replicate.paper.registry import CLAIMS
from replicate.runs import rounds, scales
from replicate.runs.needed import parts_at, possible_runs, runs_at, split
from replicate.store import garbage, kept, recorded
from replicate.store.store import Store, StoredRun, StoreError, open_store
from replicate.text import UsageError

FIELDS = (
    *("key", "arch", "dataset", "optimizer", "schedule", "epochs", "batch_size", "lr", "wd", "seed"),
    *("accuracy", "best_accuracy", "diverged", "seconds", "synthetic"),
)
LISTED = ("key", "arch", "dataset", "optimizer", "lr", "wd", "seed", "accuracy", "diverged", "seconds")
POINT_FIELDS = ("arch", "dataset", "lr", "wd", "seed", "accuracy", "best_accuracy", "diverged", "key")


def run(options: argparse.Namespace) -> int:
    if options.action == "verify":
        use_images(options.data)
        if options.landscape is not None:
            return _verify_landscape(options.landscape, options.keys, options.sample, options.json)
        if options.weights:
            return _verify_weights(to_read(options.store), options.keys, options.sample, options.json)
        return _verify(scales.get(options.scale), options.keys, options.sample, options.json)
    scale = scales.get(options.scale) if getattr(options, "scale", None) else None
    store = to_read(options.store, scale)
    status = 0
    if options.action == "record":
        _record(store, scales.get(options.scale))
    elif options.action == "list":
        _list(store, scale, options.json)
    elif options.action == "show":
        _show(store, options.key, options.json)
    elif options.action == "compare":
        status = runs_compare.run(options, store)
    elif options.action == "gc":
        _gc(store, options.delete, options.json)
    elif scale:
        _export(POINT_FIELDS, landscape_points(store, scale, options.variant), options.format, options.out)
    else:
        _export(FIELDS, (_row(stored) for stored in store.records()), options.format, options.out)
    return status


def _list(store: Store, scale: scales.Scale | None, as_json: bool) -> None:
    """Print all runs of the store, or those of `scale`, including recorded ones."""
    rows = [_row(stored) for stored in (store.records() if scale is None else _of_scale(store, scale).values())]
    if as_json:
        print_json({"runs": rows})
        return
    ordered = sorted(rows, key=lambda r: (r["arch"], r["dataset"], r["optimizer"], r["lr"], r["wd"], r["seed"]))
    print(columns(LISTED, [[shown(row[field]) for field in LISTED] for row in ordered]))
    of_scale = f" of scale {scale.name}, those recorded with the source code included," if scale else ""
    note(f"{len(rows)} runs{of_scale} in {store.path}")


def _show(store: Store, prefix: str, as_json: bool) -> None:
    stored = one_run(store, prefix)
    record: dict[str, Any] = {"key": stored.key, "run": stored.run, "result": stored.result.to_json()}
    model = store.layout.model(stored.key)
    record |= {"provenance": stored.provenance, "synthetic": stored.synthetic}
    record |= {"model": str(model) if model.is_file() else None}
    if as_json:
        print_json(record)
        return
    for name, value in record.items():
        say([f"{name}: {value}" if not isinstance(value, dict) else f"{name}:"])
        if isinstance(value, dict):
            say(f"  {field}: {shown(v)}" for field, v in value.items())


def _of_scale(store: Store, scale: scales.Scale) -> dict[str, StoredRun]:
    """Key → run of `scale`, stored or recorded."""
    runs = possible_runs(scale)
    return {run.key: stored for run in runs if (stored := store.read(run.key)) is not None}


def _gc(store: Store, delete: bool, as_json: bool) -> None:
    """List the files that no process will read again; with `delete`, delete them."""
    items = garbage.find(store)
    left = 0
    if delete:
        gone = garbage.delete(items)
        left = len(items) - len(gone)
        items = gone
    size = sum(item.size_bytes for item in items)
    if as_json:
        rows = [
            {"path": i.path.relative_to(store.path).as_posix(), "reason": i.reason, "bytes": i.size_bytes}
            for i in items
        ]
        print_json({"deleted": delete, "bytes": size, "items": rows})
        return
    if items:
        by_reason = {reason: [i.size_bytes for i in items if i.reason == reason] for reason in garbage.REASONS}
        counted = [(reason, len(sizes), sum(sizes)) for reason, sizes in by_reason.items() if sizes]
        print(columns(("what", "number", "bytes"), counted))
    if not items:
        say([f"nothing to delete in {store.path}: a scale needs every run, and there are no leftover files"])
    elif delete:
        say([f"deleted {len(items)} files and folders in {store.path}: {size:,} bytes"])
    else:
        print(f"{size:,} bytes; nothing was deleted; add --delete to delete these")
    if left:
        note(f"{left} files or folders were not deleted: they are gone already, or the store must be made writable")


def _export(fields: Sequence[str], rows: Iterable[dict[str, Any]], form: str, out: str | None) -> None:
    """Write `rows` to `out` or standard output; `form` is `csv` or `parquet`."""
    if form == "parquet":
        if importlib.util.find_spec("pyarrow") is None:
            raise UsageError("--format parquet: expected pyarrow, got none installed; pip install pyarrow")
        if out is None and sys.stdout.isatty():
            raise UsageError("--format parquet: expected a file, got a terminal; add --out FILE.parquet")
    blob = _parquet(fields, rows) if form == "parquet" else _csv(fields, rows).encode()
    if out is not None:
        write_file("--out", Path(out), blob)
    elif form == "parquet":
        sys.stdout.buffer.write(blob)
    else:
        sys.stdout.write(blob.decode())


def _csv(fields: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _parquet(fields: Sequence[str], rows: Iterable[dict[str, Any]]) -> bytes:
    import pandas as pd  # slow to import, and not needed for CSV

    frame = pd.DataFrame(list(rows), columns=list(fields))
    for field in ("accuracy", "best_accuracy", "seconds"):
        if field in frame:
            frame[field] = frame[field].astype("float64")  # also if all values are None because every run diverged
    blob = io.BytesIO()
    frame.to_parquet(blob, index=False, engine="pyarrow")
    return blob.getvalue()


def _record(store: Store, scale: scales.Scale) -> None:
    """Copy all stored runs of `scale` into the source tree, where later sessions find them (`recorded`)."""
    if not kept.in_clone():
        raise UsageError(f"expected a clone of the repository to record runs in, got an installation in {kept.ROOT}")
    found = _of_scale(store, scale)
    if not found:
        raise UsageError(
            f"store {store.path}: expected runs of scale {scale.name}, got none; train them with `replicate train`"
        )
    path = recorded.path_of(scale.name)
    try:
        recorded.write(path, found.values())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; make it writable") from error
    wanted = len(runs_at(scale, store.result))
    say([f"{len(found)} of {wanted} runs recorded in {path} ({path.stat().st_size / 1e6:.2f} MB); commit this file"])


def _verify(scale: scales.Scale, asked: Sequence[str], sample: int, as_json: bool) -> int:
    """Train recorded runs, those with the keys `asked` or else `sample` runs, in a temporary store; compare results.

    Returns exit status 1 if a result disagrees. With the same processor and versions, results must be equal to the last
    digit. Other processors and versions round differently, as does a GPU that trains a run together with other runs
    than before. Training magnifies rounding errors: accuracies may then differ by up to `ROUNDING_PP`.
    """
    found = recorded.of_scale(scale.name)
    runs = {run.key: run for run in possible_runs(scale)}
    keys = sorted(found.keys() & runs.keys())
    if not keys:
        raise UsageError(f"scale {scale.name}: expected recorded runs in {recorded.path_of(scale.name)}, got none")
    # Keys are hashes, so every n-th of them is a random sample.
    chosen = _named(keys, asked, scale) if asked else keys[:: max(1, len(keys) // sample)][:sample]
    for spec in dict.fromkeys(runs[key].data for key in chosen):
        catalogue.prepare(spec)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder, "store"))
        from replicate.train.engine import local  # not at the top: the engine needs the GPU stack

        local.ensure(store, [runs[key] for key in chosen])
        again = {key: stored for key in chosen if (stored := store.read(key)) is not None}
    rows = [_compared(found[key], again[key]) for key in chosen]
    return _say_compared({"scale": scale.name, "recorded": len(keys)}, COMPARED, rows, as_json)


def _verify_landscape(name: str, asked: Sequence[str], sample: int, as_json: bool) -> int:
    """Train `sample` runs of the trained landscape `name` again and compare the results, as `_verify` does."""
    if name not in trained.LANDSCAPES:
        raise UsageError(f"--landscape: expected one of {', '.join(trained.LANDSCAPES)}; got {name!r}")
    if asked:
        raise UsageError(f"KEY: expected none with --landscape (its runs have no keys), got {asked[0]}; use --sample N")
    from replicate.calibration import training  # not at the top: the engine needs the GPU stack

    landscape = trained.LANDSCAPES[name]
    catalogue.prepare(landscape.data)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for before, after, same in training.again(name, sample, Path(folder, "store")):
            row: dict[str, Any] = {"lr": before.lr, "wd": before.weight_decay, "seed": before.seed}
            recorded_pp, again_pp = landscape.accuracy_pp(before.right), landscape.accuracy_pp(after.right)
            near = recorded_pp is not None and again_pp is not None and abs(recorded_pp - again_pp) <= ROUNDING_PP
            row |= {"recorded": recorded_pp, "again": again_pp, "same machine": same}
            rows.append(row | {"agrees": recorded_pp == again_pp or (near and not same)})
    return _say_compared({"landscape": name}, COMPARED[2:], rows, as_json)


def _verify_weights(store: Store, asked: Sequence[str], sample: int, as_json: bool) -> int:
    """Evaluate kept models again, with the keys `asked` or else of `sample` runs; compare accuracies with the records.

    Returns exit status 1 if one disagrees. On another machine, and for runs trained on a GPU, accuracies may differ by
    up to `EVALUATION_PP`: nothing magnifies rounding errors here. A damaged model counts as a disagreement.
    """
    chosen = sorted({one_run(store, key).key for key in asked})
    if not asked:
        held = [stored.key for stored in store.records() if store.layout.model(stored.key).is_file()]
        chosen = held[:: max(1, len(held) // sample)][:sample]
    if not chosen:
        raise UsageError(f"store {store.path}: expected kept models, got none; train with --keep-models")
    from replicate.train import kept_models  # not at the top: it needs the GPU stack

    rows = []
    for key in chosen:
        before, again = one_run(store, key), None
        try:
            again = kept_models.evaluated(store, before)
        except StoreError as error:
            note(str(error))
        rows.append(_compared_pp(before, again, EVALUATION_PP))
    return _say_compared({"store": str(store.path)}, COMPARED, rows, as_json)


def _say_compared(of: dict[str, Any], fields: Sequence[str], rows: list[dict[str, Any]], as_json: bool) -> int:
    """Print `rows`, in JSON after the fields `of`; returns exit status 1 if a row disagrees, else 0."""
    if as_json:
        print_json({**of, "rows": rows})
    else:
        print(columns(fields, [[shown(row[field]) for field in fields] for row in rows]))
        equal = sum(row["recorded"] == row["again"] for row in rows)
        print(f"{equal} of {len(rows)} equal to the last digit, {sum(not row['agrees'] for row in rows)} disagree")
    return int(not all(row["agrees"] for row in rows))


def _named(keys: Sequence[str], prefixes: Sequence[str], scale: scales.Scale) -> list[str]:
    """For each prefix, the one of `keys` that begins with it, without repeats; `UsageError` if not exactly one does."""
    chosen: dict[str, None] = {}
    for prefix in prefixes:
        found = [key for key in keys if key.startswith(prefix)]
        if len(found) != 1:
            raise UsageError(
                f"KEY {prefix!r}: expected the key of one recorded run of scale {scale.name}, or its first digits, got "
                f"{len(found) or 'none'} that begin{'' if len(found) > 1 else 's'} with it; "
                f"see `replicate runs list --scale {scale.name}`"
            )
        chosen[found[0]] = None
    return list(chosen)


COMPARED = ("key", "arch", "lr", "wd", "seed", "recorded", "again", "same machine", "agrees")
ROUNDING_PP = 5.0
EVALUATION_PP = 1.0


def _compared(before: StoredRun, after: StoredRun) -> dict[str, Any]:
    row = _compared_pp(before, (after.result.accuracy_pp, after.provenance), ROUNDING_PP)
    exactly = row["same machine"] and before.provenance.get("device") == "cpu"
    return row | ({"agrees": before.content == after.content} if exactly else {})


def _compared_pp(before: StoredRun, again: tuple[float, dict[str, Any]] | None, most_pp: float) -> dict[str, Any]:
    """A row of the table. `again`: new accuracy and provenance; on other machines, up to `most_pp` apart agrees."""
    again_pp, origin = again or (None, {})
    names = ("versions", "device_model", "platform")
    same = all(before.provenance.get(name) == origin.get(name) for name in names)
    exactly = same and before.provenance.get("device") == "cpu"
    row, recorded_pp = _row(before), before.result.accuracy_pp
    of_run = {name: row[name] for name in ("key", "arch", "lr", "wd", "seed")}
    agrees = again_pp is not None and abs(recorded_pp - again_pp) <= (0 if exactly else most_pp)
    return of_run | {"recorded": recorded_pp, "again": again_pp, "same machine": same, "agrees": agrees}


def _row(stored: StoredRun) -> dict[str, Any]:
    """A run as a row; a diverged run has the accuracy None, in a table an empty cell, as `replicate judge` reads it."""
    run, result = stored.run, stored.result
    row = {**run, "key": stored.key, "dataset": run["data"]["name"], "wd": run["weight_decay"]}
    row |= {"accuracy": None if result.diverged else result.accuracy_pp, "best_accuracy": result.best_accuracy_pp}
    row |= {"diverged": result.diverged, "seconds": result.seconds, "synthetic": stored.synthetic}
    return {field: row[field] for field in FIELDS}


def landscape_points(store: Store, scale: scales.Scale, variant: str) -> Iterable[dict[str, Any]]:
    """One row per distinct stored point (learning rate, weight decay, seed) of `scale`, named as in the paper."""
    trained, _ = split(CLAIMS, scale)
    parts = list(dict.fromkeys(part for claim in trained for part in parts_at(claim, scale)))
    variants = dict.fromkeys(part.variant for part in parts)
    if variant not in variants:
        raise UsageError(f"--variant: expected one of {', '.join(variants)} at scale {scale.name}, got {variant!r}")
    rows = []
    missing = 0
    for cell in dict.fromkeys(part.cell for part in parts):
        grids = [Part(cell, variant, part.grid) for part in parts if part.cell == cell and part.variant == variant]
        points = {(p.lr, p.weight_decay, p.seed): p for part in grids for p in rounds.points(scale, part, store.result)}
        for _, point in sorted(points.items()):
            stored = store.read(point.run.key)
            if stored is None:
                missing += 1
                continue
            rows.append(
                _row(stored) | {"arch": cell.arch, "dataset": cell.dataset, "lr": point.lr, "wd": point.weight_decay}
            )
    if missing:
        note(f"{missing} of {missing + len(rows)} points are not in the store; train them with `replicate train`")
    return rows
