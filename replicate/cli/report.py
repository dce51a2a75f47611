"""`replicate report`: judges claims from stored runs and writes a report; `report compare` compares two reports."""

from __future__ import annotations

import argparse
from pathlib import Path

from replicate.cli.output import check_folder, note, print_json, say
from replicate.cli.stored import fullest, to_read
from replicate.judging import verdict_file
from replicate.judging.store_verdicts import judge_all
from replicate.judging.verdict import CONTRADICTED
from replicate.judging.verdict_file import VerdictFile
from replicate.paper.registry import CLAIMS
from replicate.report import compare as comparing
from replicate.report import files
from replicate.report.wording import counts_text, notices
from replicate.runs import scales
from replicate.runs.scales import Scale
from replicate.store.store import Store
from replicate.text import UsageError
from replicate.train.cores import physical_cores


def run(options: argparse.Namespace) -> int:
    if options.action == "compare":
        return _compare(options)
    if not options.out:
        raise UsageError("expected a folder for the report, got none; add --out DIR")
    check_folder("--picture", options.picture)
    given = scales.get(options.scale) if options.scale else None
    store = to_read(options.store, given)
    scale, why = (given, "--scale") if given else _most_complete(store)
    processes = len(physical_cores()) if options.how_sure else 0
    file = judge_all(CLAIMS, scale, why, store, options.until is not None, processes)
    out = Path(options.out)
    try:
        written = [*files.write_texts(out, file), files.write_page(out, file, scale, store)]
        if options.picture:
            files.write_picture(Path(options.picture), scale, store)
            written.append(Path(options.picture))
    except OSError as error:
        raise UsageError(f"{error.filename or out}: expected a writable folder, got: {error.strerror}") from None
    for text in notices(file):
        note(text)
    if options.json:
        print_json(file.to_json())
    else:
        print(counts_text(file))
        say([f"scale {scale.name} ({why}); written: {', '.join(map(str, written))}"])
    return int(file.counts[CONTRADICTED] > 0)


def _compare(options: argparse.Namespace) -> int:
    """Print the changes between two verdict files; returns exit status 0 if there are none, else 1."""
    before, after = (_read(Path(name)) for name in (options.before, options.after))
    changes = comparing.compare(before, after)
    if options.json:
        print_json({"equal": not changes, "changes": [vars(change) for change in changes]})
    else:
        say(comparing.lines(changes))
    return int(bool(changes))


def _read(path: Path) -> VerdictFile:
    return verdict_file.read(path / files.VERDICTS if path.is_dir() else path)


def _most_complete(store: Store) -> tuple[Scale, str]:
    """The scale with most runs in `store`, and why it was chosen."""
    keys = store.keys()
    scale, held = fullest(keys)
    if not held:
        raise UsageError(
            f"store {store.path}: expected runs of a scale ({', '.join(scales.SCALES)}), got none among "
            f"its {len(keys)} runs; run `replicate train` first"
        )
    return scale, f"the store holds {held} of its runs"
