"""Trains one run in a plain loop: the reference with which every faster trainer must agree."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from replicate.data.catalogue import Info
from replicate.runs.result import Result
from replicate.runs.run import Run
from replicate.runs.schedule import factor
from replicate.train import inputs, models, setting
from replicate.train.checkpoint import Saver
from replicate.train.setting import TrainError

Keep = Callable[[dict[str, Tensor]], None]
"""Called with `nn.Module.state_dict()` of a trained model; the tensors are the model's own, not copies."""


def train(run: Run, device: str = "cpu", saver: Saver | None = None, keep: Keep | None = None) -> Result:
    """Train and evaluate `run`; the result depends only on the run's record and the machine.

    Test accuracy is measured after every `eval_every_epochs` epochs and after the last epoch: at the small scales an
    evaluation costs as much as several steps. A run has diverged if the mean loss of an epoch is not finite, or if a
    weight is not finite at an evaluation; it then ends with the accuracy of guessing. Training resumes from the
    checkpoint of `saver`, if there is one. `keep` is called with the final state of the model if the run did not
    diverge. Raises `TrainError` if the run cannot be trained, and `Stopped` if `saver` was asked to stop.
    """
    if not run.warmup_epochs < run.epochs:
        raise TrainError(f"warmup_epochs: expected fewer than the {run.epochs} epochs, got {run.warmup_epochs}")
    saver = saver or Saver()
    with setting.reproducible(device):
        result = _train(run, device, saver, keep)
    saver.done()
    return result


def _train(run: Run, device: str, saver: Saver, keep: Keep | None) -> Result:
    started = time.perf_counter()
    shown = inputs.open_inputs(run, device)
    info = shown.info
    model, optimizer, passes = beginning(run, info, device)
    steps, warmup_steps = run.epochs * shown.steps_per_epoch, run.warmup_epochs * shown.steps_per_epoch
    history: list[float] = []
    losses: list[Tensor] = []
    """Losses of the batches of the current epoch."""
    step = 0
    if (saved := saver.load("cpu")) is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step, history, losses = saved["step"], list(saved["history"]), list(saved["losses"].to(device))
        started -= saved["seconds"]
    del saved  # as large as model and optimizer

    def state() -> dict[str, Any]:
        done = {"history": history, "losses": torch.stack(losses), "seconds": time.perf_counter() - started}
        return {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict(), **done}

    epoch_loss = math.nan
    # A checkpoint saved between the last step of an epoch and its evaluation resumes with no batches left.
    for epoch in range((step - len(losses)) // shown.steps_per_epoch, run.epochs):
        model.train()
        for images, labels in shown.batches(epoch, len(losses)):
            for group in optimizer.param_groups:
                group["lr"] = run.lr * factor(run.schedule, step, steps, warmup_steps)
            optimizer.zero_grad(set_to_none=True)
            losses.append(backward(model, passes, images, labels, shown.normalise, info.parts))
            optimizer.step()
            step += 1
            saver.after_step(state, f"{step} of {steps} steps")
        epoch_loss = torch.stack(losses).double().mean().item()
        losses = []
        evaluated = (epoch + 1) % run.eval_every_epochs == 0 or epoch + 1 == run.epochs
        if not math.isfinite(epoch_loss) or (evaluated and not _finite(model)):
            chance = 100 / info.num_classes  # a model with infinite or nan weights predicts one class, or none
            best = max([*history, chance])
            return Result(chance, best, True, None, tuple(history), time.perf_counter() - started)
        if evaluated:
            with passes:
                history.append(accuracy_pp(model, shown))
    if keep is not None:
        keep(model.state_dict())
    return Result(history[-1], max(history), False, epoch_loss, tuple(history), time.perf_counter() - started)


def beginning(run: Run, info: Info, device: str) -> tuple[nn.Module, torch.optim.Optimizer, torch.autocast]:
    """The model of `run` before the first step, its optimiser, and the context for its forward passes."""
    model = models.of_run(run).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model, setting.optimizer(run, model), setting.passes(run, device)


def backward(
    model: nn.Module,
    passes: AbstractContextManager[Any],
    images: Tensor,
    labels: Tensor,
    normalise: Callable[[Tensor], Tensor],
    parts: int,
) -> Tensor:
    """Backpropagate the mean loss over a batch and return it.

    The batch is processed in `parts` parts, as by `DataParallel` on that many GPUs: batch normalisation sees one part
    at a time, and only the first part updates the running averages.
    """
    total = torch.zeros((), device=labels.device)
    momenta = {module: module.momentum for module in model.modules() if isinstance(module, _BatchNorm)}
    for x, y in zip(images.chunk(parts), labels.chunk(parts), strict=True):
        pixels = normalise(x)
        with passes:
            logits = model(pixels)
        loss = functional.cross_entropy(logits.to(pixels.dtype), y) * (len(y) / len(labels))
        loss.backward()
        total = total + loss.detach()
        for module in momenta:
            module.momentum = 0.0
    for module, momentum in momenta.items():
        module.momentum = momentum
    return total


def accuracy_pp(model: nn.Module, shown: inputs.Inputs) -> float:
    """Percent of the test images that `model` classifies correctly."""
    model.eval()
    right = count = 0
    with torch.inference_mode():
        for images, labels in shown.test_batches(setting.EVALUATION_BATCH):
            right += int((model(images).argmax(1) == labels).sum())
            count += len(labels)
    return 100 * right / count


def _finite(model: nn.Module) -> bool:
    return all(bool(t.isfinite().all()) for t in model.state_dict().values())
