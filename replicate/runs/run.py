"""A run: one training, fully described by a frozen record, and the key under which its result is stored."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from replicate.data.spec import DataSpec, Number, is_synthetic

RESULT_VERSION = 2
"""A part of every record; increase it when a change of the training code changes the result of an unchanged run."""

_FLOAT32_HALF_ULP_BELOW_ONE = 2.0**-25
"""Half the distance from 1 to the next smaller float32: for x below it, 1 - x rounds to 1."""


@dataclass(frozen=True)
class ModelSpec:
    """A timm model: a registered name (`resnet50`) or a class of timm (`class:ResNet`), with arguments."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", _frozen(self.arguments))


def _frozen(value: Any) -> Any:
    """`value` with JSON's lists turned back into tuples."""
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Run:
    """One training. On one machine, equal runs have equal results, whatever is trained at the same time."""

    arch: str
    model: ModelSpec
    data: DataSpec
    optimizer: str
    """`adamw` (PyTorch's convention: each step shrinks the weights by lr * weight_decay) or `sgd` (momentum 0.9,
    weight decay added to the gradient)."""
    lr: Number
    """Peak learning rate."""
    weight_decay: Number
    seed: int
    """Seeds initialisation, data order and augmentation."""
    schedule: str
    """`cosine`, `step` or `linear`, after a linear warm-up of `warmup_epochs`."""
    epochs: int
    warmup_epochs: int
    batch_size: int
    augment: tuple[str, ...] = ()
    """Names of the augmentations, in order."""
    eval_every_epochs: int = 1
    """Epochs between evaluations; the last is at the end of training. Affects only a result's history and its best."""
    precision: str = "float32"
    """`float32` or `bf16` in the forward and backward pass; weights, moments, statistics and losses are float32."""

    @property
    def synthetic(self) -> bool:
        """Whether the result is made up by `replicate.landscape.world` and never trained."""
        return is_synthetic(self.data.name)

    @property
    def title(self) -> str:
        """What is trained, e.g. `resnet50 on digits`."""
        return f"{self.arch} on {self.data.name}"

    def record(self) -> dict[str, Any]:
        """The run as JSON types, from which the key is computed."""
        return json.loads(json.dumps(self._fields()))

    @cached_property
    def key(self) -> str:
        """The first 24 hexadecimal digits of the SHA-256 of the record, defaults included."""
        text = json.dumps(self._fields(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _fields(self) -> dict[str, Any]:
        """The record, not copied and so only to be read: copying with `asdict` took four fifths of a plan's time."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"result_version": RESULT_VERSION, **own, "model": vars(self.model), "data": vars(self.data)}


@dataclass(frozen=True, kw_only=True)
class RunRecord(Run):
    """A stored `Run.record`, also of an older `RESULT_VERSION`: the fields that it lacks have defaults in `Run`."""

    result_version: int


@dataclass(frozen=True)
class Point:
    """A learning rate, weight decay and seed, and the run that measures the accuracy there.

    The run has weight decay 0 if the point's weight decay is too small to have an effect (`weight_decay_is_inert`).
    """

    lr: float
    weight_decay: float
    seed: int
    run: Run


def weight_decay_is_inert(lr: float, weight_decay: float) -> bool:
    """Whether AdamW's shrinkage factor 1 - lr * weight_decay rounds to 1 in float32.

    Such a run equals the run with weight decay 0 bit for bit (`tests/runs/test_run.py` trains both), so only the run
    with weight decay 0 is trained. `lr` is the peak learning rate, which no schedule exceeds.

    >>> weight_decay_is_inert(lr=5e-5, weight_decay=1e-4), weight_decay_is_inert(lr=1e-3, weight_decay=1e-4)
    (True, False)
    """
    return 0 < lr * weight_decay < _FLOAT32_HALF_ULP_BELOW_ONE


def point(run: Run) -> Point:
    """The landscape point of `run`; a weight decay without effect becomes 0 in the run that is trained."""
    trained = run
    if run.optimizer == "adamw" and not run.synthetic and weight_decay_is_inert(run.lr, run.weight_decay):
        trained = dataclasses.replace(run, weight_decay=0.0)
    return Point(run.lr, run.weight_decay, run.seed, trained)
