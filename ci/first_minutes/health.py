"""Is the device healthy? Checks driver, mode, compiler, headers, and copy and matmul speed, within seconds."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import torch

from first_minutes import trial
from first_minutes.findings import Found
from replicate.text import one_line

ASKED = (
    *("name", "uuid", "driver_version", "compute_mode", "mig.mode.current", "persistence_mode", "pstate"),
    *("memory.total", "memory.used", "temperature.gpu", "clocks.sm", "clocks.max.sm", "power.draw", "power.limit"),
    "ecc.errors.uncorrected.volatile.total",
)
"""Fields to query from nvidia-smi."""
COPIED_BYTES = 4 << 30
MULTIPLIED = 8192
"""Rows and columns of the multiplied matrices, large enough for the device's peak rate."""


def main() -> None:
    asked, findings, _ = trial.of_process(__doc__)
    found = software()
    if not asked.rehearsed and not torch.cuda.is_available():
        findings.put("health", **found, error="PyTorch sees no CUDA device; check the driver and PyTorch's CUDA build")
        sys.exit(2)
    found |= driver() if not asked.rehearsed else {}
    findings.put("health", **found)
    with findings.timing():
        found |= rates(asked.device, small=asked.rehearsed)
        findings.put("health", **found)
    if not asked.rehearsed:
        found |= compiler(asked.device)
        findings.put("health", **found)


def software() -> Found:
    """Versions, cores and memory of this machine, and whether the compiler and header that Triton needs are there."""
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "timm", "numpy")},
        "cuda": torch.version.cuda,
        "triton": importlib.util.find_spec("triton") is not None,
        "c_compiler": next((c for c in (os.environ.get("CC"), "cc", "gcc", "clang") if c and shutil.which(c)), None),
        "python_h": header.exists(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "free_disk_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
    }


def driver() -> Found:
    """nvidia-smi's fields for each GPU, and the other processes that use a GPU."""

    def smi(query: str) -> list[list[str]]:
        command = ["nvidia-smi", query, "--format=csv,noheader"]
        try:
            out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
        except (OSError, subprocess.SubprocessError) as error:
            return [[one_line(error)]]
        return [[value.strip() for value in line.split(",")] for line in out.splitlines()]

    gpus = smi(f"--query-gpu={','.join(ASKED)}")
    told = [dict(zip(ASKED, row, strict=True)) if len(row) == len(ASKED) else {"nvidia-smi": row} for row in gpus]
    return {"gpus": told, "others": smi("--query-compute-apps=pid,used_memory")}


def rates(device: str, small: bool) -> Found:
    """Memory bandwidth (TB/s) and matrix-product rate (TFLOP/s) in the dtype that training uses."""
    size, copied, kind = (512, 64 << 20, torch.float32) if small else (MULTIPLIED, COPIED_BYTES, torch.bfloat16)
    source = torch.empty(copied // 8, dtype=torch.float64, device=device).fill_(1.0)
    target = torch.empty_like(source)
    a = torch.randn(size, size, dtype=kind, device=device)
    out = torch.empty_like(a)
    copying = best_seconds(lambda: target.copy_(source), device)
    multiplying = best_seconds(lambda: torch.mm(a, a, out=out), device)
    return {
        "copy_tb_per_s": 2 * copied / copying / 1e12,  # each byte is read and written
        "matmul_tflop_per_s": 2 * size**3 / multiplying / 1e12,
    }


def best_seconds(work: Callable[[], object], device: str, times: int = 10) -> float:
    """The shortest of `times` timings of `work`, after one warm-up call."""
    found = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        if device != trial.CPU:
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found[1:])


def compiler(device: str) -> Found:
    """Whether torch.compile works, and how long it takes to compile a tiny function."""
    started = time.perf_counter()
    try:
        got = torch.compile(lambda x: (x * 2).sum())(torch.ones(1000, device=device))
        works = float(got) == 2000.0
        return {"compiles": works, "compile_seconds": round(time.perf_counter() - started, 2)}
    except Exception as error:
        return {"compiles": False, "compile_error": one_line(error)}


if __name__ == "__main__":
    main()
