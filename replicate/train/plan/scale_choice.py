"""Chooses the scale for `--scale auto` on this machine."""

from __future__ import annotations

from replicate.runs import scales
from replicate.runs.scales import Scale
from replicate.text import UsageError
from replicate.train.engine import devices

AUTO = "auto"


def choose(name: str) -> tuple[Scale, str]:
    """The scale called `name`, or for `auto` the largest that this machine can train; and the reason for the choice."""
    if name != AUTO:
        if name not in scales.SCALES:
            raise UsageError(f"--scale: expected one of {AUTO}, {', '.join(scales.SCALES)}; got {name!r}")
        return scales.get(name), "--scale"
    if not devices.cuda_devices():
        return scales.get("embedded"), "auto: no CUDA device is visible"
    large = scales.get("cifar100")
    if large.why_untrainable:
        why = f"auto: a CUDA device is visible, but {large.name} cannot be trained: {large.why_untrainable}"
        return scales.get("embedded"), why
    return large, "auto: a CUDA device is visible"
