"""Devices: what of this machine a training may use, as slots that processes lease from each other by name.

A slot is a CUDA device that is visible now or, where there is none, a physical core. Its name says which piece of
hardware it is, so that two sessions agree on it however each of them has numbered its devices, or named its machine:
a container has a name of its own, and a GPU one that no other has. A process that trains on a CUDA device sees that
one alone (`Slot.bind`), so that it cannot have a context on another.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from replicate.runs.run import Run
from replicate.store.strict import Malformed, decode
from replicate.text import UsageError, one_line
from replicate.train import cores

CPU = "cpu"
VARIABLE = "CUDA_VISIBLE_DEVICES"
ASK_SECONDS = 120.0
"""For a process that loads torch and the driver, on a machine that is busy."""

# Neither counting the devices nor describing them makes a context, which one in mode EXCLUSIVE_PROCESS may refuse.
# Before `init`, torch counts what the driver manages, and not what CUDA shows of it: a device in slices as a whole.
_ASK = """
import json, torch
torch.cuda.init()
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
    """Name of its lease (`Store.lease`)."""
    device: str
    """As torch calls it in this process: `cpu`, `cuda:3`."""
    visible: str = ""
    """`CUDA_VISIBLE_DEVICES` for a process that is to see it alone."""

    def bind(self) -> str:
        """Have this process, in which CUDA was not asked for anything yet, see it alone; what torch then calls it."""
        if self.device == CPU:
            return CPU
        os.environ[VARIABLE] = self.visible
        return "cuda:0"


def slots(processes: int | None = None) -> tuple[Slot, ...]:
    """One for each CUDA device that is visible, at most `processes`; else for each core, as `cores.slots` has it.

    More processes than CUDA devices wait for each other: a device is never shared.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes: expected 1 or more, got {processes}")
    if found := cuda_devices():
        entries = _entries(os.environ.get(VARIABLE)) or [str(i) for i in range(len(found))]
        each = enumerate(zip(found, entries, strict=False))
        return tuple(Slot(_name(identity), f"cuda:{i}", entry) for i, (identity, entry) in each)[:processes]
    return tuple(Slot(name, CPU) for name in cores.slots(processes))


def _name(identity: str) -> str:
    """Name of the lease on a GPU."""
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


def unseen(runs: Iterable[Run] = ()) -> str:
    """A line for people where a CUDA device may be there and none was found, so that cores train; else empty.

    Raises `UsageError` where one of `runs` computes in a precision of accelerators: cores would take weeks.
    """
    if not may_see_cuda(os.environ) or not (why := _asked(os.environ.get(VARIABLE)).why):
        return ""
    foreign = next((run.precision for run in runs if run.precision != "float32"), None)
    line = (
        f"devices: expected a CUDA device, which the driver's files hint at, got {why}; "
        f"{f'in {foreign} cores would train for weeks' if foreign else 'training on cores'}: "
        f"see to the driver and to PyTorch's CUDA build, or set {VARIABLE}= if cores are meant"
    )
    if foreign:
        raise UsageError(line)
    return line


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
    if uuids and (slices := _slices(variable)):
        return _Answer(slices)  # by their own names: a slice may have the UUID of the whole
    return _Answer(tuple(uuids), "" if uuids else "none that torch can use")


def _entries(variable: str | None) -> tuple[str, ...] | None:
    """How each device can be asked for alone; None: by its number."""
    return _slices(variable) or named(variable)


def _slices(variable: str | None) -> tuple[str, ...]:
    """Those of devices (MIG) that are asked for. CUDA shows a process no more than one, but each to one of its own."""
    return tuple(entry for entry in named(variable) or () if entry.startswith("MIG-"))
