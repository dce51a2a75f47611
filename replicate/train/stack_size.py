"""How many lanes a stack should have on a device, or none at all: measured for a moment, decided, remembered.

The choice changes speed, and the rounding of results where it falls between stack and plain loop; nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
from msgspec import Meta

from replicate.data import catalogue
from replicate.runs.run import Run
from replicate.store import atomic
from replicate.store.strict import Malformed, decode
from replicate.text import one_line
from replicate.train import compiled, inputs, models, setting, solo, stacked
from replicate.train.batches import Batch
from replicate.train.memory import give_back_memory, keep_freed_memory, out_of_memory
from replicate.train.stacked import FEWEST_LANES, How, usual

FORMAT = 2

ALONE = 0
"""For a number of lanes: train each run by itself, in the plain loop."""

MOST_LANES = 32
"""As many runs as an engine puts into a stack: more lanes would be filled up with copies."""
WORTH = 1.1
"""A stack must be this many times as fast as the plain loop: below, its twin of a run and its waiting eat the gain."""
NEARLY = 0.95
"""Fewer lanes at this share of the best rate are preferred: they leave memory and work for others."""
STOP = 0.8
"""Larger stacks are not tried once a rate has fallen to this share of the best one, …"""
GAIN, FIRST_COMPILED = 1.05, 8
"""… nor, where each size is compiled for a minute or two, beyond one that is not so many times as fast as the one
before; there fewer lanes than these are not tried either."""
LIMIT_SECONDS = 24 * 3600.0
"""For so long a limit is believed: the memory may have been another process's."""


Lanes = Annotated[int, Meta(ge=0, le=MOST_LANES)]
Positive = Annotated[float, Meta(gt=0)]


@dataclass(frozen=True)
class LaneRates:
    """Steps of a run a second: a stack of ten lanes that makes a step a second has rate ten."""

    alone: Positive
    stacked: tuple[tuple[Lanes, Positive], ...]
    """Lanes → rate, ascending."""
    limit: Lanes | None = None
    """Lanes above which memory has run out, in the measurement or in a training."""
    limited: Positive | None = None
    """When it last did, in seconds since the epoch."""


def best(rates: LaneRates, may_be_alone: bool = True) -> int:
    """The number of lanes to train with; where it `may_be_alone`, `ALONE` if stacks are not worth it."""
    fits = [(lanes, rate) for lanes, rate in rates.stacked if rates.limit is None or lanes <= rates.limit]
    top = max((rate for _, rate in fits), default=0.0)
    if not fits or (may_be_alone and top < WORTH * rates.alone):
        return ALONE
    return min(lanes for lanes, rate in fits if rate >= NEARLY * top)


def choose(
    run: Run,
    device: str,
    folder: Path,
    how: How | None = None,
    *,
    may_be_alone: bool = True,
    seconds: float = 0.25,
) -> int:
    """The number of lanes for stacks of runs like `run`: by the rates that `known` gives."""
    return best(known(run, device, folder, how, seconds), may_be_alone)


def known(run: Run, device: str, folder: Path, how: How | None = None, seconds: float = 0.25) -> LaneRates:
    """The rates of runs like `run`: as remembered in `folder`, else, or where their limit is an old one, measured now.

    Measuring takes about `seconds`, and what compiling takes, for each of up to five stacks. Processes that measure at
    the same time both do so, and the later answer stays.
    """
    how = how or usual(run, device)
    path = _path(run, device, folder, how)
    rates = _read(path, how.notice)
    if rates is None or (rates.limited is not None and not 0 <= time.time() - rates.limited < LIMIT_SECONDS):
        rates = measure(run, device, how, seconds)
        _write(path, _identity(run, device, how), rates)
    return rates


def remember_limit(run: Run, device: str, folder: Path, lanes: int, *, how: How | None = None) -> None:
    """Keep in `folder` that memory has run out above `lanes`, where rates are kept."""
    how = how or usual(run, device)
    path = _path(run, device, folder, how)
    rates = _read(path, how.notice)
    if rates is not None:
        lowest = lanes if rates.limit is None else min(lanes, rates.limit)
        _write(path, _identity(run, device, how), dataclasses.replace(rates, limit=lowest, limited=time.time()))


def measure(run: Run, device: str, how: How | None = None, seconds: float = 0.25, most: int = MOST_LANES) -> LaneRates:
    """LaneRates of training steps alone and in stacks of 2, 4, 8, … up to `most` lanes, one after the other."""
    how = how or usual(run, device)
    first, worth = (FIRST_COMPILED, GAIN) if how.compiled else (FEWEST_LANES, STOP)
    run = dataclasses.replace(run, epochs=max(run.epochs, 1))
    if device == "cpu":
        keep_freed_memory()
    with setting.reproducible(device):
        alone = 1 / seconds_of(_solo_step(run, device), device, seconds)
        rates: list[tuple[int, float]] = []
        lanes, limit = first, None
        while lanes <= most:
            try:
                stack = stacked._Stack([run] * lanes, device, how)
                batches = stack.inputs.start(0)
                if stack.products:  # a CPU has memory for any stack that it is fast with
                    _rehearse(stack, batches)
                rates.append((lanes, lanes / seconds_of(lambda: stack.step(batches[0]), device, seconds)))  # noqa: B023
            except Exception as error:
                if not out_of_memory(error):
                    raise
                limit = lanes // 2
                break
            finally:
                stack = None  # type: ignore[assignment]
                compiled.forget()
                give_back_memory(device)
            if len(rates) > 1 and rates[-1][1] < worth * max(rate for _, rate in rates[:-1]):
                break
            lanes *= 2
    return LaneRates(alone, tuple(rates), limit, None if limit is None else time.time())


def _rehearse(stack: stacked._Stack, batches: list[torch.Tensor]) -> None:
    """Do once whatever a training does: while a captured step holds its memory, the rest must find some."""
    stack.step(batches[0])
    if len(batches[-1]) < len(batches[0]):
        stack.step(batches[-1])
    stack.end_epoch()
    stack.evaluate(batches=1)
    stack.inputs.start(1)


def _solo_step(run: Run, device: str) -> Callable[[], Any]:
    """A step of the plain loop, on the same batch each time."""
    shown = inputs.Resident(run, device)
    return lone_step(run, device, shown, shown.batch(shown.start(0)[0]))


def lone_step(run: Run, device: str, shown: solo.Shown, batch: Batch) -> Callable[[], None]:
    """A step of the plain loop on `batch`, in the precision and the parts that `run` and its data ask for."""
    info = shown.info
    model = models.build_seeded(run.model, info.num_classes, info.in_chans, info.image_size, run.seed)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = setting.optimizer(run, model)
    passes = setting.passes(run, device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        solo.backward(model, passes, shown, *batch)
        optimizer.step()

    return step


def seconds_of(step: Callable[[], Any], device: str, seconds: float) -> float:
    """The shortest of the times that `step` took within about `seconds`, after two steps that do not count.

    On a CPU, time in which the process had no core does not count.
    """
    now = time.process_time if device == "cpu" else time.perf_counter
    for _ in range(2):
        step()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < 3 or time.perf_counter() < end:
        if device != "cpu":
            torch.cuda.synchronize(device)
        started = now()
        step()
        if device != "cpu":
            torch.cuda.synchronize(device)
        found.append(now() - started)
    return max(min(found), 1e-9)


@dataclass(frozen=True)
class _Kept:
    """What a file of rates holds."""

    rates: LaneRates
    of: dict[str, Any] = dataclasses.field(default_factory=dict)
    """All that they depend on: `_identity`."""

    def __post_init__(self) -> None:
        if self.rates.limit is not None and self.rates.limited is None:
            raise ValueError("expected the time `limited` beside a `limit`, got none")


def _identity(run: Run, device: str, how: How) -> dict[str, Any]:
    """All that a rate depends on."""
    cpu = device == "cpu"
    return {
        "format": FORMAT,
        "model": dataclasses.asdict(run.model),
        "data": dataclasses.asdict(catalogue.info(run.data)),
        "batch_size": run.batch_size,
        "augment": list(run.augment),
        "optimizer": run.optimizer,
        "precision": run.precision,
        "compiled": how.compiled,
        "graph": how.graph,
        "products": how.products,
        "device": torch.backends.cpu.get_cpu_capability() if cpu else torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


def _path(run: Run, device: str, folder: Path, how: How) -> Path:
    text = json.dumps(_identity(run, device, how), sort_keys=True)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def _read(path: Path, notice: Callable[[str], None]) -> LaneRates | None:
    try:
        return decode(path.read_bytes(), _Kept).rates
    except FileNotFoundError:
        return None
    except (OSError, Malformed) as error:
        notice(one_line(f"{path.name}: expected measured rates: {error}; measuring anew"))
        return None


def _write(path: Path, identity: dict[str, Any], rates: LaneRates) -> None:
    """Whole or not at all; a measurement that cannot be kept is made again next time."""
    text = json.dumps(dataclasses.asdict(_Kept(rates, identity)), indent=1, sort_keys=True)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, text)
