#!/usr/bin/env python3
"""Coverage-guided fuzzing of every reader of files and options with libFuzzer and atheris (`pip install '.[fuzz]'`).

python ci/fuzz.py --minutes 30                    # all targets, which share the time
python ci/fuzz.py --minutes 5 --target record     # one target
python ci/fuzz.py --target record --input FILE    # repeat a finding, with its traceback

tests/support/readers.py has the targets and the law that each must keep. An input that breaks it is saved as a file,
one per kind of error and line of code, and fuzzing goes on. Exit status: 0 no findings, 1 findings, 2 cannot be run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SLOW_SECONDS = 10.0
HANG_SECONDS = 60
MEMORY_MIB = 3072
MOST_ENDS = 5
"""A target whose process ends early this many times is given up."""
OWN_SHARE = 0.75
"""Share of the mutations made by the target's own mutator, which knows the format; libFuzzer makes the others."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="minutes for all targets together (default: 30)")
    parser.add_argument("--target", action="append", metavar="NAME", help="fuzz this target (default: all)")
    parser.add_argument("--findings", metavar="DIR", type=Path, default=Path("fuzz-findings"), help="folder")
    parser.add_argument("--input", metavar="FILE", type=Path, help="only check this input of the target")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    if options.worker is not None:
        return work(options.target[0], options.worker, options.findings)
    from tests.support.readers import TARGETS

    names = options.target or list(TARGETS)
    if unknown := set(names) - TARGETS.keys():
        parser.error(f"--target: expected one of {', '.join(TARGETS)}; got {', '.join(sorted(unknown))}")
    if options.input is not None:
        if len(names) != 1:
            parser.error(f"--input: expected one --target with it, got {len(names)}; add --target NAME")
        try:
            check(names[0], options.input.read_bytes())
        except Exception:
            traceback.print_exc()
            return 1
        print(f"{names[0]}: keeps the law")
        return 0
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("ci/fuzz.py: expected the package atheris, found none; pip install '.[fuzz]'", file=sys.stderr)
        return 2
    return sum(fuzz(name, 60 * options.minutes / len(names), options.findings) for name in names) and 1


def fuzz(name: str, seconds: float, findings: Path) -> int:
    """Fuzz one target in a process, restarted after a hang or lack of memory; returns the number of findings."""
    folder = findings.absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    ends, tried, ended = time.monotonic() + seconds, 0, 0
    report = folder / "report.json"
    while (left := ends - time.monotonic()) > 5:
        report.unlink(missing_ok=True)
        command = [sys.executable, __file__, "--target", name, "--worker", str(left), "--findings", str(folder)]
        with (folder / f"ended-{ended + 1}.log").open("w") as log:
            try:
                status = subprocess.run(
                    command, cwd=ROOT, stdout=log, stderr=log, check=False, timeout=left + 600
                ).returncode
            except subprocess.TimeoutExpired:  # libFuzzer looks at the clock between two inputs
                status = -1
        tried += json.loads(report.read_text())["tried"] if report.exists() else 0
        if status == 0:
            Path(log.name).unlink()
            continue
        ended += 1
        if ended >= MOST_ENDS:
            break
    report.unlink(missing_ok=True)
    found = sorted([*folder.glob("*.input"), *(path for path in folder.glob("*-*") if path.suffix == "")])
    print(f"{name}: {tried} inputs tried, {len(found)} findings, {ended} times ended early", flush=True)
    for path in found:
        why = path.with_suffix(".why")
        print(f"  {why.read_text().splitlines()[0] if why.exists() else 'hang, memory or a crash: ' + path.name}")
        print(f"  python ci/fuzz.py --target {name} --input {path}", flush=True)
    return len(found) + ended


def work(name: str, seconds: float, findings: Path) -> int:
    """Run libFuzzer's loop on one target for `seconds`; called in the target's process."""
    import atheris

    with atheris.instrument_imports(include=["replicate", "fixtures"]):
        from tests.support import readers
    import tests.support.guard

    target = readers.TARGETS[name]
    corpus = tests.support.guard.sandbox()
    for i, seed in enumerate(target.seeds()):
        (corpus / f"seed-{i}").write_bytes(seed)
    tried, last = 0, time.monotonic()
    known: set[str] = set()

    def one(data: bytes) -> None:
        nonlocal tried, last
        tried += 1
        if (now := time.monotonic()) - last > 2:
            (findings / "report.json").write_text(json.dumps({"tried": tried}))
            last = now
        try:
            check(name, data)
        except Exception as error:
            save(error, data, name, findings, known)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() > OWN_SHARE:
            return atheris.Mutate(data, most)
        try:
            return target.mutate(data, rng)[:most]
        except Exception:  # the mutator does not understand this input
            return atheris.Mutate(data, most)

    flags = [
        f"-max_total_time={max(1, int(seconds))}", f"-timeout={HANG_SECONDS}", f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={findings}/", "-max_len=300000", "-len_control=0", "-verbosity=0", "-reload=0",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()  # ends the process
    return 0


def check(name: str, data: bytes) -> None:
    """Check one input in a temporary folder; raises if the law is broken or the check is slow."""
    from tests.support.guard import Breach, guarded, sandbox
    from tests.support.readers import TARGETS

    folder = sandbox()
    began = time.monotonic()
    try:
        with guarded(folder):
            TARGETS[name].check(data, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if (taken := time.monotonic() - began) > SLOW_SECONDS:
        raise Breach(f"expected an answer in {SLOW_SECONDS:g} s, got one in {taken:.0f}")


def save(error: Exception, data: bytes, name: str, findings: Path, known: set[str]) -> None:
    """Save an input with its traceback, unless the same kind of error at the same line is known."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/replicate/" in frame.filename or "/fixtures/" in frame.filename]
    words = "".join(c for c in str(error)[:40] if c.isalpha()) if "Breach" in type(error).__name__ else ""
    place = f"{own[-1].filename.rsplit('/', 2)[-1]}:{own[-1].lineno}" if own else "?"
    kind = f"{type(error).__name__} {words} at {place}"
    if kind in known:
        return
    known.add(kind)
    path = findings / f"{hashlib.sha256(kind.encode()).hexdigest()[:12]}.input"
    if not path.exists():
        path.write_bytes(data)
        text = "".join(traceback.format_exception(error))
        path.with_suffix(".why").write_text(f"{kind}: {str(error)[:200]!r}\n{text}", errors="replace")


if __name__ == "__main__":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    sys.exit(main())
