"""The devices of this machine that training may use, as slots that processes lease by name.

A slot is a visible CUDA device or, if there is none, a physical core. A slot's name identifies the hardware, so that
two sessions agree on it even if they number their devices differently. The name of a GPU is its UUID alone, because
containers on one machine have different host names. A process that trains on a CUDA device sees only that device
(`Slot.bind`), so that it cannot create a context on another.
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
"""How long a process may take to load torch and the driver, on a busy machine."""

# Neither counting nor describing devices creates a context, which a device in mode EXCLUSIVE_PROCESS could refuse.
# Before `init`, torch counts the driver's devices instead of CUDA's: a device that is split by MIG counts as one.
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
"""Start of the identity of a device without a UUID: its PCI address, which another machine may use, too."""


@dataclass(frozen=True)
class Slot:
    """A device that one training at a time may use."""

    name: str
    """Name of the lock on the device (`Store.lease`)."""
    device: str
    """torch's name for the device in a process that sees all devices: `cpu`, `cuda:3`."""
    visible: str = ""
    """Value of `CUDA_VISIBLE_DEVICES` for a process that is to see only this device."""

    def bind(self) -> str:
        """Make this process see only this device, and return torch's name for it; call this before CUDA is used."""
        if self.device == CPU:
            return CPU
        os.environ[VARIABLE] = self.visible
        return "cuda:0"


def slots(processes: int | None = None) -> tuple[Slot, ...]:
    """One slot for each visible CUDA device or, if there is none, for each physical core.

    `processes`: how many slots instead; at most one per CUDA device, but any number on cores, which may be shared.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes: expected 1 or more, got {processes}")
    if found := cuda_devices():
        entries = _entries(os.environ.get(VARIABLE)) or [str(i) for i in range(len(found))]
        each = enumerate(zip(found, entries, strict=False))
        return tuple(Slot(_name(identity), f"cuda:{i}", entry) for i, (identity, entry) in each)[:processes]
    return tuple(Slot(name, CPU) for name in cores.slots(processes))


def _name(identity: str) -> str:
    """Name of the lock on the GPU with this `identity` (UUID or PCI address)."""
    name = f"gpu-{re.sub(r'[^A-Za-z0-9]+', '-', identity)}"
    return f"{cores.machine()}-{name}" if identity.startswith(PLACE) else name


def still_there(wanted: Sequence[Slot]) -> list[Slot]:
    """The slots of `wanted` whose devices still exist, with the devices' current numbers, which may have changed."""
    _asked.cache_clear()
    now = {slot.name: slot for slot in slots()}
    return [now[slot.name] for slot in wanted if slot.name in now]


def cuda_devices() -> tuple[str, ...]:
    """The identity (UUID or PCI address) of each CUDA device that torch sees, in CUDA's order."""
    if not may_see_cuda(os.environ):
        return ()
    return _asked(os.environ.get(VARIABLE))[0]


def unseen(runs: Iterable[Run] = ()) -> str:
    """A warning if there seems to be a CUDA device that torch cannot use, so that CPU cores train instead; else "".

    Raises `UsageError` if one of `runs` has a precision for accelerators, because CPU cores would take weeks.
    """
    if not may_see_cuda(os.environ) or not (why := _asked(os.environ.get(VARIABLE))[1]):
        return ""
    foreign = next((run.precision for run in runs if run.precision != "float32"), None)
    line = (
        f"devices: expected a CUDA device, because a driver is installed, got {why}; "
        f"{f'CPU cores would train for weeks in {foreign}' if foreign else 'training on CPU cores'}: "
        f"check the driver and PyTorch's CUDA build, or set {VARIABLE}= to use CPU cores"
    )
    if foreign:
        raise UsageError(line)
    return line


def may_see_cuda(environment: Mapping[str, str], devices: Path = Path("/dev")) -> bool:
    """Whether torch may find a CUDA device, judging by the driver's device files and `CUDA_VISIBLE_DEVICES`."""
    if named(environment.get(VARIABLE)) == ():
        return False
    if sys.platform == "win32":
        return shutil.which("nvidia-smi") is not None
    # WSL has no device file per GPU, so look for the driver's command there.
    return any(devices.glob("nvidia[0-9]*")) or ((devices / "dxg").exists() and shutil.which("nvidia-smi") is not None)


def named(variable: str | None) -> tuple[str, ...] | None:
    """The entries in a value of `CUDA_VISIBLE_DEVICES`: numbers, UUIDs or MIG names; None if it is not set.

    As in CUDA, an empty entry or -1 and all entries after it are ignored.
    """
    if variable is None:
        return None
    found = []
    for entry in (part.strip() for part in variable.split(",")):
        if not entry or entry.startswith("-"):
            break
        found.append(entry)
    return tuple(found)


@lru_cache(maxsize=4)
def _asked(variable: str | None) -> tuple[tuple[str, ...], str]:
    """The devices that torch finds for this value of `CUDA_VISIBLE_DEVICES`, and the reason if there are none.

    A short-lived process asks torch, because this process must not initialise CUDA.
    """
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK], capture_output=True, text=True, check=True, timeout=ASK_SECONDS
        )
        uuids = decode(asked.stdout, list[str])
    except subprocess.TimeoutExpired:
        return (), f"no answer from torch within {ASK_SECONDS:g} s"
    except subprocess.CalledProcessError as failed:
        last = (failed.stderr or "").strip().splitlines()[-1:]
        return (), one_line(f"an error in asking torch ({last[0] if last else failed})")
    except (OSError, Malformed, subprocess.SubprocessError) as error:
        return (), one_line(f"an error in asking torch ({type(error).__name__}: {error})")
    if uuids and (slices := _slices(variable)):
        return slices, ""  # by name: a MIG slice may have the UUID of the whole device
    return tuple(uuids), "" if uuids else "none that torch can use"


def _entries(variable: str | None) -> tuple[str, ...] | None:
    """For each device, the value of `CUDA_VISIBLE_DEVICES` that selects only it; None if that is its number."""
    return _slices(variable) or named(variable)


def _slices(variable: str | None) -> tuple[str, ...]:
    """The MIG slices in a value of `CUDA_VISIBLE_DEVICES`. A process sees one slice, so each needs its own process."""
    return tuple(entry for entry in named(variable) or () if entry.startswith("MIG-"))
