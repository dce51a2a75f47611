"""Keeps the measured cost of runs in the store, so that `train` orders the runs as a `plan` before it did."""

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
"""A time in the file above this, about 30 years, is taken for damage and ignored."""


@dataclass(frozen=True)
class _Price:
    """The content of the file that keeps the costs of a scale's runs."""

    format: int
    scale: str
    devices: list[str]
    seconds: dict[str, float]


def keep(layout: Layout, scale: str, seconds: Mapping[str, float]) -> None:
    """Keep `seconds`: architecture → device-seconds of a run of `scale`. Kept values of other architectures stay."""
    found = {**kept(layout, scale), **seconds}
    layout.rates.mkdir(parents=True, exist_ok=True)
    content = _Price(FORMAT, scale, _devices(), found)
    atomic.write(layout.price(scale), json.dumps(asdict(content), indent=1, sort_keys=True) + "\n")


def kept(layout: Layout, scale: str) -> dict[str, float]:
    """Architecture → device-seconds of a run of `scale`, if they were measured on the devices of this machine.

    A file that cannot be read counts as missing.
    """
    try:
        found = decode(layout.price(scale).read_bytes(), _Price)
    except (OSError, Malformed):
        return {}
    if (found.format, found.scale, found.devices) != (FORMAT, scale, _devices()):
        return {}
    return {arch: taken for arch, taken in found.seconds.items() if 0 < taken < MOST_SECONDS}


def _devices() -> list[str]:
    """Identities of the visible GPUs; if there are none, a hash of this machine's name."""
    return sorted(devices.cuda_devices()) or [cores.machine()]
