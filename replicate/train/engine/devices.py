"""Devices: what of this machine a training may use, as slots that processes lease from each other by name.

A slot is a CUDA device that is visible now or, where there is none, a physical core. Its name says which piece of
hardware it is, so that two sessions agree on it however each of them has numbered its devices, or named its machine:
a container has a name of its own, and a GPU one that no other has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from replicate.store.strict import Malformed, decode
from replicate.text import one_line
from replicate.train import cores

CPU = "cpu"
VARIABLE = "CUDA_VISIBLE_DEVICES"
ASK_SECONDS = 120.0
"""For a process that loads torch and the driver, on a machine that is busy."""

_ASK = """
import json, torch
found = []
for i in range(torch.cuda.device_count()):
    of = torch.cuda.get_device_properties(i)
    place = [getattr(of, f"pci_{part}_id", i) for part in ("domain", "bus", "device")]
    found.append(str(getattr(of, "uuid", "pci-%s-%s-%s" % tuple(place))))
print(json.dumps(found))
"""
PLACE = "pci-"
"""Begins what a device without a UUID is called: machines have such names in common."""


@dataclass(frozen=True)
class Slot:
    """A share of this machine that one training at a time may use."""

    name: str
    """Of its lease (`Store.lease`)."""
    device: str
    """As torch calls it in this process and its children: `cpu`, `cuda:0`."""


def slots(processes: int | None = None) -> tuple[Slot, ...]:
    """One for each CUDA device that is visible, at most `processes`; else for each core, as `cores.slots` has it.

    More processes than CUDA devices wait for each other: a device is never shared.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes: expected 1 or more, got {processes}")
    if found := cuda_devices():
        return tuple(Slot(_name(identity), f"cuda:{i}") for i, identity in enumerate(found))[:processes]
    return tuple(Slot(name, CPU) for name in cores.slots(processes))


def _name(identity: str) -> str:
    """Of the lease on a GPU."""
    name = f"gpu-{re.sub(r'[^A-Za-z0-9]+', '-', identity)}"
    return f"{cores.machine()}-{name}" if identity.startswith(PLACE) else name


def still_there(wanted: Sequence[Slot]) -> list[Slot]:
    """Those of `wanted` that are there now, by the numbers they have now: one that vanishes may renumber others."""
    _asked.cache_clear()
    now = {slot.name: slot for slot in slots()}
    return [now[slot.name] for slot in wanted if slot.name in now]


def cuda_devices() -> tuple[str, ...]:
    """What tells each CUDA device that torch sees now from all others of the machine, in CUDA's order."""
    if not may_see_cuda(os.environ):
        return ()
    return _asked(os.environ.get(VARIABLE)).found


def unseen() -> str:
    """A line for people where a CUDA device may be there and none was found, so that cores train; else empty."""
    if not may_see_cuda(os.environ) or not (why := _asked(os.environ.get(VARIABLE)).why):
        return ""
    return (
        f"devices: expected a CUDA device, which the driver's files hint at, got {why}; training on cores, on which "
        f"large models take weeks: see to the driver and to PyTorch's CUDA build, or set {VARIABLE}= if cores are meant"
    )


def may_see_cuda(environment: Mapping[str, str], devices: Path = Path("/dev")) -> bool:
    """Whether it is worth asking torch: by the driver's device files and `CUDA_VISIBLE_DEVICES`."""
    if named(environment.get(VARIABLE)) == ():
        return False
    if sys.platform == "win32":
        return shutil.which("nvidia-smi") is not None
    # WSL shows no device file per GPU: there the driver's own program tells.
    return any(devices.glob("nvidia[0-9]*")) or ((devices / "dxg").exists() and shutil.which("nvidia-smi") is not None)


def named(variable: str | None) -> tuple[str, ...] | None:
    """The devices that a value of `CUDA_VISIBLE_DEVICES` names: numbers, UUIDs, MIG names; None: it is not set.

    As CUDA reads it: an empty entry or -1 hides itself and all that follow.
    """
    if variable is None:
        return None
    found = []
    for entry in (part.strip() for part in variable.split(",")):
        if not entry or entry.startswith("-"):
            break
        found.append(entry)
    return tuple(found)


@dataclass(frozen=True)
class _Answer:
    """What torch said of CUDA devices."""

    found: tuple[str, ...]
    why: str = ""
    """There is none."""


@lru_cache(maxsize=4)
def _asked(variable: str | None) -> _Answer:
    """`cuda_devices` under this value of the variable, asked in a process that ends: ours must not initialise CUDA."""
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK], capture_output=True, text=True, check=True, timeout=ASK_SECONDS
        )
        uuids = decode(asked.stdout, list[str])
    except subprocess.TimeoutExpired:
        return _Answer((), f"no answer from torch within {ASK_SECONDS:g} s")
    except subprocess.CalledProcessError as failed:
        last = (failed.stderr or "").strip().splitlines()[-1:]
        return _Answer((), one_line(f"an error in asking torch ({last[0] if last else failed})"))
    except (OSError, Malformed, subprocess.SubprocessError) as error:
        return _Answer((), one_line(f"an error in asking torch ({type(error).__name__}: {error})"))
    # A slice of a device may have the UUID of the whole; its own name is the one by which it was asked for.
    wanted = named(variable) or ()
    found = tuple(
        wanted[i] if i < len(wanted) and wanted[i].startswith("MIG-") else uuid for i, uuid in enumerate(uuids)
    )
    return _Answer(found, "" if found else "none that torch can use")
