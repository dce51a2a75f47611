"""`ci/gpu`: starts the processes that check and time a device, the most informative first in case time runs out."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from first_minutes import evidence, pieces, projection, summary, trial
from first_minutes.checked import FOLDER_VARIABLE
from first_minutes.findings import Findings
from first_minutes.trial import NO_ROOM, Trial
from replicate.text import UsageError, one_line
from replicate.train.plan import budget

ROOT = Path(__file__).parents[2]
TESTS = "ci/test_gpu.py"
LAST = "claims or second_gpu"
"""`-k` expression of tests that train for minutes or on other devices; they run after all timings."""
REHEARSED = "augmentation"
"""`-k` expression of the tests of a rehearsal; CI runs all tests on the CPU anyway."""
POLL_SECONDS = 0.2
WRITE_SECONDS = 5.0
ENDING_SECONDS = 60.0
"""Time for judging claims and recording runs after the training budget is spent."""
TIME_IS_UP = 3


class TimeIsUp(Exception):
    """The minutes are over; the next call continues with the findings that are missing."""


class Session:
    """The child processes of one call of `ci/gpu`, and the deadline by which all must have ended."""

    ending = False
    """Set by SIGTERM; read only while no process is being started, so that every process is known and can be ended."""

    def __init__(self, tried: Trial, findings: Findings, deadline: float) -> None:
        self.tried, self.findings, self.deadline = tried, findings, deadline
        self._running: list[subprocess.Popen[bytes]] = []
        self._written = 0.0

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start Python with `arguments`; its output goes to the log called `name`."""
        path = self.findings.folder / log_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=log, stderr=log)
        self._running.append(process)
        return process

    def module(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        """Start the module `name` of this package as a process."""
        told = ("--device", self.tried.device, "--out", str(self.findings.folder))
        return self.start("-".join([name, *more]), "-m", f"first_minutes.{name}", *told, *more)

    def tests(self, chosen: str) -> subprocess.Popen[bytes]:
        """Start the tests of `ci/test_gpu.py` that `-k chosen` selects and that have not passed yet."""
        asked = ("-q", "-p", "no:cacheprovider", "-p", "first_minutes.checked", "-k", chosen)
        return self.start("correctness", "-m", "pytest", TESTS, *asked, "--device", self.tried.device)

    def wait(self, processes: Sequence[subprocess.Popen[bytes]]) -> list[int]:
        """Wait for all `processes`, keep the summary up to date meanwhile, and return the exit statuses."""
        while any(process.poll() is None for process in processes):
            if Session.ending:
                sys.exit(128 + signal.SIGTERM)
            if time.monotonic() > self.deadline:
                raise TimeIsUp
            if time.monotonic() - self._written > WRITE_SECONDS:
                summary.write(self.tried, self.findings)
                self._written = time.monotonic()
            time.sleep(POLL_SECONDS)
        return [process.returncode for process in processes]

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the processes that still run; their findings so far are on disk."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()


def look(session: Session) -> None:
    """Produce the missing findings: health, then timings beside correctness tests, then the remaining tests."""
    tried, findings = session.tried, session.findings
    if findings.good("health") is None:
        (status,) = session.wait([session.module("health")])
        if findings.get("health") is None:
            findings.fail("health", f"the process ended with status {status}; see {log_of('health')}")
        if findings.good("health") is None:
            return
    tests = [] if exclusive(findings) else [session.tests(REHEARSED if tried.rehearsed else f"not ({LAST})")]
    stack_all(session)
    projection.project(tried, findings, store_of(findings))
    for arch in tried.architectures:
        if findings.good(f"{arch}/{pieces.BESIDE}") is None:
            session.wait([session.module("beside", arch)])
    projection.project(tried, findings, store_of(findings))
    session.wait(tests)
    if not tried.rehearsed:
        session.wait([session.tests("test")])  # all tests that have not passed yet


def stack_all(session: Session) -> None:
    """Run one process per architecture for its missing findings, all at once if the device allows several processes.

    A process that runs out of memory beside the others is started again when they have ended.
    """
    findings = session.findings
    waiting = [
        arch
        for arch in session.tried.architectures
        if any(findings.good(f"{arch}/{piece}") is None for piece in pieces.OF_STACK)
    ]
    one_by_one = waiting
    if not exclusive(findings):
        statuses = session.wait([session.module("architecture", arch) for arch in waiting])
        one_by_one = [arch for arch, status in zip(waiting, statuses, strict=True) if status == NO_ROOM]
    for arch in one_by_one:
        session.wait([session.module("architecture", arch)])
    for arch in waiting:
        if all(findings.get(f"{arch}/{piece}") is None for piece in pieces.OF_STACK):
            log = log_of(f"architecture-{arch}")
            findings.fail(f"{arch}/{pieces.OF_STACK[0]}", f"the process ended without any finding; see {log}")


def gather(session: Session, minutes: str) -> None:
    """Train, judge and record evidence for no longer than `minutes`."""
    tried, findings = session.tried, session.findings
    if why := evidence.missing_images(tried):
        findings.fail("evidence", why)
        raise UsageError(why)
    store, report = store_of(findings), findings.folder / "report"
    evidence.record(tried, findings, store)  # runs of an earlier call that was cut off
    asked = evidence.command(tried, store, report, minutes)
    (status,) = session.wait([session.start("evidence", "-m", "pytest", *asked)])
    evidence.record(tried, findings, store)
    if status not in evidence.JUDGED:
        raise UsageError(f"--evidence: expected pytest to end with 0 or 1, got {status}; see {log_of('evidence')}")


def of_device(findings: Findings, tried: Trial) -> None:
    """Mark the folder as holding findings on this kind of device; raises UsageError if it holds another kind's."""
    kind = tried.device.partition(":")[0]
    if (found := findings.get("device")) is None:
        findings.put("device", kind=kind)
    elif found.get("kind") != kind:
        got = f"findings on {found.get('kind')}"
        raise UsageError(f"--out {findings.folder}: expected findings on {kind}, got {got}; name another folder")


def exclusive(findings: Findings) -> bool:
    """Whether the device admits one process at a time, so that no two can run on it side by side."""
    gpus = (findings.get("health") or {}).get("gpus", [])
    return any(gpu.get("compute_mode") == "Exclusive_Process" for gpu in gpus)


def store_of(findings: Findings) -> Path:
    return findings.folder / "store"


def log_of(name: str) -> str:
    """The log file of the process called `name`, relative to the folder of findings."""
    return f"logs/{name}.txt"


def prepare(folder: Path, tried: Trial) -> None:
    """Set environment variables for child processes: caches in the folder, compiled kernels that report bytes moved."""
    caches = folder / "caches"
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(caches / "inductor")
    os.environ["TRITON_CACHE_DIR"] = str(caches / "triton")
    os.environ["TORCHINDUCTOR_BENCHMARK_KERNEL"] = "1"
    os.environ[FOLDER_VARIABLE] = str(folder)
    cores = os.cpu_count() or 1
    # Each compiling process would otherwise start as many compile workers as there are cores.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(max(1, cores // len(tried.architectures))))
    if tried.rehearsed:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The checked command-line options."""
    parser = argparse.ArgumentParser(prog="ci/gpu", description=__doc__)
    parser.add_argument(
        "--out", type=Path, help="folder of the results (default: gpu-report; for a rehearsal gpu-rehearsal)"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal with small models")
    parser.add_argument("--minutes", type=float, default=9.5, help="most minutes of this call (default: 9.5)")
    parser.add_argument("--evidence", metavar="TIME", help="only train claims and record runs, for this long, e.g. 9m")
    parser.add_argument("--arch", nargs="+", metavar="NAME", help="only these architectures")
    asked = parser.parse_args(arguments)
    known = trial.on(trial.CPU).architectures
    if unknown := sorted(set(asked.arch or ()) - set(known)):
        parser.error(f"--arch: expected some of {', '.join(known)}; got {', '.join(unknown)}")
    if asked.arch and asked.evidence:
        parser.error("--arch: expected no --evidence with it, since the claims need all architectures; leave one out")
    if asked.out is None:
        asked.out = Path("gpu-rehearsal" if asked.device == trial.CPU else "gpu-report")
    if not asked.minutes > 0:
        parser.error(f"--minutes: expected a number above 0, got {asked.minutes:g}")
    return asked


def main() -> int:
    started = time.monotonic()
    asked = parsed()
    tried = trial.on(asked.device if asked.device == trial.CPU else "cuda:0")
    if asked.arch:
        tried = replace(tried, only=tuple(asked.arch))
    findings = Findings(asked.out.resolve())
    try:
        of_device(findings, tried)
        return found_out(asked, tried, findings, started)
    except UsageError as error:
        print(f"ci/gpu: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"ci/gpu: --out {asked.out}: expected a folder to write to, got {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def found_out(asked: argparse.Namespace, tried: Trial, findings: Findings, started: float) -> int:
    """Produce the findings asked for, write the summary and print what is wrong; returns the exit status."""
    status = 0
    try:
        seconds = budget.seconds(asked.evidence, "--evidence")
        prepare(findings.folder, tried)
        within = 60 * asked.minutes if seconds is None else seconds + ENDING_SECONDS
        session = Session(tried, findings, started + within)
        with session:
            if asked.evidence:
                gather(session, asked.evidence)
            else:
                trial.made_up_images(findings.folder / "made-up", tried)
                look(session)
    except TimeIsUp:
        print("ci/gpu: time is up; run the same command again for the missing findings", file=sys.stderr)
        status = TIME_IS_UP
    except UsageError as error:
        print(f"ci/gpu: {error}", file=sys.stderr)
        status = 2
    summary.write(tried, findings)
    wrong = pieces.wrong(tried, findings)
    for line in wrong:
        print(f"ci/gpu: {line}", file=sys.stderr)
    print(findings.folder / summary.FILE)
    return status or int(bool(wrong))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: setattr(Session, "ending", True))
    sys.exit(main())
