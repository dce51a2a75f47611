"""One run, from its record to its result, in a plain loop: the reference that every faster way must agree with."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from replicate import data, models
from replicate.paper.protocol import ADAMW_BETAS, ADAMW_EPS, SGD_MOMENTUM
from replicate.runs import DataSpec, Run
from replicate.train.result import Result
from replicate.train.schedule import factor

EVALUATION_BATCH = 500
"""Images per forward pass of an evaluation: fixed, because rounding may depend on it."""


class TrainError(Exception):
    """A run that cannot be trained as recorded; the message is one line."""


def train(run: Run, device: str = "cpu") -> Result:
    """Train `run` and evaluate it; the result depends on the record and the machine alone.

    Test accuracy is taken after every `eval_every_epochs` epochs and after the last: at the small scales a look at all
    test images costs as much as several steps. A run diverges where the mean loss of an epoch is not finite or, at an
    evaluation, a weight is not; it ends there with the accuracy of guessing.
    """
    if run.augment:
        raise TrainError(f"augmentation {', '.join(run.augment)}: cannot be trained yet; expected a run without any")
    if not run.warmup_epochs < run.epochs:
        raise TrainError(f"warmup_epochs: expected fewer than the {run.epochs} epochs, got {run.warmup_epochs}")
    with _reproducible(device):
        return _train(run, device)


def _train(run: Run, device: str) -> Result:
    started = time.perf_counter()
    train_images, train_labels, test_images, test_labels = _on_device(run.data, device)
    info = data.info(run.data)
    model = models.build_seeded(run.model, info.num_classes, info.in_chans, info.image_size, run.seed)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(run, model)

    steps_per_epoch = math.ceil(len(train_labels) / run.batch_size)
    steps, warmup_steps = run.epochs * steps_per_epoch, run.warmup_epochs * steps_per_epoch
    history: list[float] = []
    epoch_loss = math.nan
    step = 0
    for epoch in range(run.epochs):
        model.train()
        order = torch.randperm(len(train_labels), generator=_generator(run.seed, "order", epoch)).to(device)
        losses = []
        for batch in order.split(run.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = run.lr * factor(run.schedule, step, steps, warmup_steps)
            loss = functional.cross_entropy(model(train_images[batch]), train_labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            step += 1
        epoch_loss = torch.stack(losses).double().mean().item()
        evaluated = (epoch + 1) % run.eval_every_epochs == 0 or epoch + 1 == run.epochs
        if not math.isfinite(epoch_loss) or (evaluated and not _finite(model)):
            chance = 100 / info.num_classes  # a broken model answers one class for everything, or nothing at all
            best = max([*history, chance])
            return Result(chance, best, True, None, tuple(history), time.perf_counter() - started)
        if evaluated:
            history.append(_accuracy_pp(model, test_images, test_labels))
    return Result(history[-1], max(history), False, epoch_loss, tuple(history), time.perf_counter() - started)


def _optimizer(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    """One group for all parameters: the paper's script decays biases and norms like any other weight."""
    if run.optimizer == "adamw":
        return torch.optim.AdamW(
            model.parameters(), run.lr, betas=ADAMW_BETAS, eps=ADAMW_EPS, weight_decay=run.weight_decay, fused=True
        )
    if run.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), run.lr, momentum=SGD_MOMENTUM, weight_decay=run.weight_decay, fused=True
        )
    raise TrainError(f"optimizer: expected adamw or sgd, got {run.optimizer!r}")


def _accuracy_pp(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percent of `images` that `model` classifies as `labels`."""
    model.eval()
    with torch.inference_mode():
        right = sum(
            int((model(x).argmax(1) == y).sum())
            for x, y in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)
        )
    return 100 * right / len(labels)


def _finite(model: nn.Module) -> bool:
    """Whether every weight and running statistic is finite."""
    return all(bool(t.isfinite().all()) for t in model.state_dict().values())


def _generator(seed: int, what: str, epoch: int) -> torch.Generator:
    """A generator of its own for each (seed, use, epoch): no draw depends on how many came before it."""
    digest = hashlib.sha256(f"{seed}/{what}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@lru_cache(maxsize=8)
def _on_device(spec: DataSpec, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The split's four arrays as tensors on `device`, once a process."""
    split = data.load(spec)

    def images(array: NDArray[np.float32]) -> Tensor:
        return torch.tensor(array, device=device).to(memory_format=torch.channels_last)

    def labels(array: NDArray[np.int64]) -> Tensor:
        return torch.tensor(array, device=device)

    return images(split.train_images), labels(split.train_labels), images(split.test_images), labels(split.test_labels)


@contextmanager
def _reproducible(device: str) -> Iterator[None]:
    """Deterministic kernels, one thread on the CPU, denormals as zero; what was set before is put back.

    Denormals: strong decay drives weights and moments through them, where a CPU is many times slower.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic  # a module with a property, which type checkers do not see
    fill = settings.fill_uninitialized_memory
    if device == "cpu":
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # a safeguard that costs time; nothing here reads it
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        torch.use_deterministic_algorithms(deterministic)
        settings.fill_uninitialized_memory = fill
