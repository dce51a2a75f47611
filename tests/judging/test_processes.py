"""Processes that judge: they end with the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENDLESS = """
import os, sys, time
from pathlib import Path
from replicate.judging.processes import in_processes

def endless(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    list(in_processes(endless, [sys.argv[1]] * 2, 2))
"""


def living(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_they_end_with_a_killed_parent(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS, encoding="utf-8")
    seen = tmp_path / "seen"
    seen.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(seen)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    until = time.monotonic() + 60
    while len(list(seen.iterdir())) < 2:
        assert time.monotonic() < until and parent.poll() is None
        time.sleep(0.05)
    workers = [path.name for path in seen.iterdir()]
    parent.send_signal(how)
    parent.wait()
    until = time.monotonic() + 30
    while any(map(living, workers)):
        assert time.monotonic() < until, "they go on without their parent"
        time.sleep(0.1)
