"""Recorded trainings that are quick to judge: of the scale `probe`, five seeds of AdamW on the digits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from replicate.runs import scales
from replicate.store import recorded

_PROBE = scales.get("probe")
SCALE = replace(_PROBE, seeds=_PROBE.seeds[:5], data=_PROBE.data[:1], variants=("main",))


def _is_one(run: dict[str, Any]) -> bool:
    return run["seed"] in SCALE.seeds and (run["optimizer"], run["data"]["name"]) == ("adamw", "digits")


ALL = {key: stored for key, stored in recorded.of_scale(_PROBE.name).items() if _is_one(stored.run)}
