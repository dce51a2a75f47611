"""Profiles a training step: the kernels that take most time, their memory bandwidth, and the step's budget."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from first_minutes import trial

TOP = 20
STEPS = 3
"""Steps to profile, after one warm-up step."""


def profiled(step: Callable[[], object], device: str) -> tuple[list[dict[str, Any]], float]:
    """The `TOP` kernels of `step` that take most time, and the total seconds of all its kernels.

    A row has name, launches and microseconds per step, share of the total, and GB/s, None for kernels whose bytes
    Inductor does not count.
    """
    step()
    on_gpu = device != trial.CPU
    kind = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[kind]) as profiler:
        for _ in range(STEPS):
            step()
        if on_gpu:
            torch.cuda.synchronize(device)
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    found = [
        (
            event.key,
            event.count / STEPS,
            (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / STEPS,
        )
        for event in profiler.key_averages()
        if event.device_type == wanted
    ]
    found.sort(key=lambda row: -row[2])
    total = sum(microseconds for _, _, microseconds in found)
    sizes = compiled_bytes()
    rows = []
    for name, launches, microseconds in found[:TOP]:
        moved = sizes.get(_plain(name))
        rate = None if moved is None or not microseconds else moved * launches / microseconds / 1e3
        row = {"name": name, "launches": launches, "microseconds": microseconds, "gb_per_second": rate}
        rows.append(row | {"share": microseconds / total if total else 0.0})
    return rows, total / 1e6


def compiled_bytes() -> dict[str, float]:
    """Name of each kernel that Inductor compiled in this process → bytes read and written per launch.

    Inductor counts them only if `TORCHINDUCTOR_BENCHMARK_KERNEL` is set, as `ci/gpu` does.
    """
    from torch._inductor.codecache import PyCodeCache

    found = {}
    for module in PyCodeCache.modules:
        for name, value in vars(module).items():
            gigabytes = getattr(value, "inductor_meta", {}).get("kernel_num_gb")
            if gigabytes is not None:
                found[_plain(name)] = gigabytes * 1e9
    return found


def _plain(name: str) -> str:
    """A kernel's name without the namespace and arguments that the profiler adds."""
    return re.sub(r"\(.*\)$", "", name).split("::")[-1]


def budget(arch: str) -> dict[str, float] | None:
    """The launches and bytes that the budget test allows a step of `arch`; None if there is no budget."""
    with contextlib.suppress(ImportError, AttributeError):
        budgets: dict[str, dict[str, float]] = importlib.import_module("lowered").BUDGET
        return budgets.get(arch)
    return None
