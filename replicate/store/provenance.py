"""Provenance: what a result was made with (software, device, data), without names of users, hosts or paths."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from replicate import __version__
from replicate.data import catalogue
from replicate.runs.run import RESULT_VERSION, Run

LIBRARIES = ("torch", "timm", "numpy")


def collect(run: Run, device: str, seconds: float, how: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance of the result of `run`, trained on `device` in `seconds`; `how`: further fields from the trainer."""
    return {
        **how,
        "code": {"replicate": __version__, "result_version": RESULT_VERSION},
        "versions": versions(),
        "device": device,
        "device_model": device_model(device),
        "platform": f"{platform.system()} {platform.machine()}",
        "data_checksum": _checksum(run),
        "seconds": round(seconds, 4),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@lru_cache(maxsize=1)
def _versions() -> tuple[tuple[str, str], ...]:
    found = [("python", platform.python_version())]
    for name in LIBRARIES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append((name, "not installed"))
    return tuple(found)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a result depends on; does not import them."""
    return dict(_versions())


@lru_cache(maxsize=8)
def device_model(device: str) -> str:
    """The model name of the processor or accelerator `device`."""
    torch = sys.modules.get("torch")
    if not device.startswith("cpu"):
        return str(torch.cuda.get_device_name(device)) if torch is not None else "unknown"
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    # The CPU capability decides which kernels PyTorch uses, and so the last bits of a result.
    capability = torch.backends.cpu.get_cpu_capability() if torch is not None else "unknown"
    return f"{model} ({capability})"


def _checksum(run: Run) -> str | None:
    """Checksum of the data that `run` was trained on; None if this version of replicate cannot load the data."""
    known = catalogue.DATASETS.get(run.data.name)
    return catalogue.checksum(run.data) if known is not None and known.loadable else None
