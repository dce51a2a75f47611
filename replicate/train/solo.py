"""One run, from its record to its result, in a plain loop: the reference that every faster way must agree with."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from replicate import data, models
from replicate.runs import Run
from replicate.train import setting
from replicate.train.result import Result
from replicate.train.schedule import factor
from replicate.train.setting import TrainError, compute_dtype


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
    with setting.reproducible(device):
        return _train(run, device)


def _train(run: Run, device: str) -> Result:
    started = time.perf_counter()
    train_images, train_labels, test_images, test_labels = setting.on_device(run.data, device)
    info = data.info(run.data)
    model = models.build_seeded(run.model, info.num_classes, info.in_chans, info.image_size, run.seed)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = setting.optimizer(run, model)

    steps_per_epoch = math.ceil(len(train_labels) / run.batch_size)
    steps, warmup_steps = run.epochs * steps_per_epoch, run.warmup_epochs * steps_per_epoch
    dtype = compute_dtype(run)
    passes = torch.autocast(torch.device(device).type, dtype, dtype is not None)
    history: list[float] = []
    epoch_loss = math.nan
    step = 0
    for epoch in range(run.epochs):
        model.train()
        order = torch.randperm(len(train_labels), generator=setting.generator(run.seed, "order", epoch)).to(device)
        losses = []
        for batch in order.split(run.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = run.lr * factor(run.schedule, step, steps, warmup_steps)
            with passes:
                logits = model(train_images[batch])
            loss = functional.cross_entropy(logits.to(train_images.dtype), train_labels[batch])
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
            with passes:
                history.append(_accuracy_pp(model, test_images, test_labels))
    return Result(history[-1], max(history), False, epoch_loss, tuple(history), time.perf_counter() - started)


def _accuracy_pp(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percent of `images` that `model` classifies as `labels`."""
    model.eval()
    with torch.inference_mode():
        right = sum(
            int((model(x).argmax(1) == y).sum())
            for x, y in zip(images.split(setting.EVALUATION_BATCH), labels.split(setting.EVALUATION_BATCH), strict=True)
        )
    return 100 * right / len(labels)


def _finite(model: nn.Module) -> bool:
    """Whether every weight and running statistic is finite."""
    return all(bool(t.isfinite().all()) for t in model.state_dict().values())
