"""What a run was measured to cost on the devices here, kept in a store, so that a budget follows the plan's order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from replicate.store import atomic
from replicate.store.layout import Layout
from replicate.store.strict import Malformed, decode
from replicate.train import cores
from replicate.train.engine import devices

FORMAT = 1
MOST_SECONDS = 1e9
"""No run takes thirty years."""


@dataclass(frozen=True)
class _Price:
    """What the file of a scale holds."""

    format: int
    scale: str
    devices: list[str]
    seconds: dict[str, float]


def keep(layout: Layout, scale: str, seconds: Mapping[str, float]) -> None:
    """Keep the device-seconds of a run of `scale` by architecture, beside what is kept of other ones."""
    found = {**kept(layout, scale), **seconds}
    layout.rates.mkdir(parents=True, exist_ok=True)
    content = _Price(FORMAT, scale, _devices(), found)
    atomic.write(layout.price(scale), json.dumps(asdict(content), indent=1, sort_keys=True) + "\n")


def kept(layout: Layout, scale: str) -> dict[str, float]:
    """Architecture → device-seconds of a run of `scale`, as measured on these very devices; empty where nothing was.

    What cannot be read is as good as never measured.
    """
    try:
        found = decode(layout.price(scale).read_bytes(), _Price)
    except (OSError, Malformed):
        return {}
    if (found.format, found.scale, found.devices) != (FORMAT, scale, _devices()):
        return {}
    return {arch: taken for arch, taken in found.seconds.items() if 0 < taken < MOST_SECONDS}


def _devices() -> list[str]:
    """The GPUs that are seen, else this machine, by names that tell nothing of it."""
    return sorted(devices.cuda_devices()) or [cores.machine()]
