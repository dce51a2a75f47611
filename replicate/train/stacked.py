"""Trains a stack: runs that differ only in learning rate, weight decay and schedule, in lock-step on one device.

Each run has a lane, a copy of the model. The runs share architecture, initialisation and order of batches, so a batch
is fetched once for all lanes. A lane computes what `solo` computes, apart from rounding: kernels for many lanes add in
another order. Lanes do not influence each other: a lane that diverges is frozen, and the other lanes go on.

With at least two lanes, the result of a run is the same to the last bit whatever the number of lanes, the index of its
lane and the other runs (tested on a CPU by `ci/test_stacked_bits.py`; not on a GPU). A single lane would use different
kernels, so a run on its own is trained in two equal lanes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from replicate.data import catalogue
from replicate.runs import schedule
from replicate.runs.result import Result
from replicate.runs.run import Run
from replicate.runs.stacks import stack_key
from replicate.train import compiled, models, optim, setting
from replicate.train.accelerate import Captured, CaptureFailed
from replicate.train.batches import check
from replicate.train.checkpoint import Saver
from replicate.train.contract import TooLarge, Workspace
from replicate.train.inputs import Resident
from replicate.train.memory import give_back_memory, keep_freed_memory, out_of_memory
from replicate.train.own_layout import OwnLayout
from replicate.train.setting import TrainError

State = dict[str, Any]
"""The state of a stack in training, as saved in its checkpoint."""

Keep = Callable[[int, dict[str, Tensor]], None]
"""Called with the index of a run in its stack and the state of its model, on the CPU."""

FEWEST_LANES = 2
LANES = 16
"""Default number of runs trained at once on a GPU. More gain little on an H100: time goes into memory traffic, which
grows with the runs. It is kept for fewer runs, too, because compiling for another number takes minutes."""


@dataclass(frozen=True)
class How:
    """How a stack is trained, which affects a result only by rounding."""

    lanes: int | None = None
    """The largest number of lanes, at least 2; a compiled stack always has this many. None: as many as runs."""
    compiled: bool = False
    """Whether to use torch.compile, for fixed shapes."""
    graph: bool = False
    """Whether to replay steps as CUDA graphs."""
    products: bool | None = None
    """Whether to compute in the way that is fast on a GPU: convolutions as matrix products, all lanes evaluated at
    once, and the host never waiting for the device. None: only on a GPU."""


COMPILED_FROM = 500
"""Fewest steps of a run for which compiling, a minute or two per architecture, saves time on a GPU."""


def usual(run: Run, device: str) -> How:
    """How a stack with `run` is trained on `device` by default."""
    if device == "cpu":
        return How()
    return How(compiled=compiled.can_compile() and schedule.steps(run) >= COMPILED_FROM, graph=True)


def train_stack(
    runs: Sequence[Run],
    device: str = "cpu",
    how: How | None = None,
    workspace: Workspace | None = None,
    keep: Keep | None = None,
) -> list[Result]:
    """Train `runs`, which must have the same `stack_key`, as one stack; returns their results in the same order.

    `how`: by default `usual`. `workspace`: None for no checkpoints. `keep` is called at the end with the model of each
    run that did not diverge. `Result.seconds` is each run's share of the time. Raises `TrainError` if the runs cannot
    be trained this way, `Stopped` if `workspace.stopping` becomes true, and `TooLarge` if memory runs out or the
    capture of a CUDA graph fails.
    """
    how, workspace = how or (usual(runs[0], device) if runs else How()), workspace or Workspace()
    _check(runs, device, how)
    # Unused lanes repeat the last run: a compiled step has a fixed number of lanes.
    fewest = max(FEWEST_LANES, how.lanes or 0) if how.compiled else FEWEST_LANES
    lanes = [*runs, *[runs[-1]] * (fewest - len(runs))]
    if device == "cpu":
        keep_freed_memory()
    no_compiler = ""
    try:
        with setting.reproducible(device):
            results = _trained(lanes, device, how, workspace, keep)
    except compiled.CompileFailed as error:
        no_compiler = str(error)
    except Exception as error:
        if isinstance(error, CaptureFailed) or out_of_memory(error):
            raise TooLarge(len(lanes)) from error
        raise
    if device != "cpu":
        give_back_memory(device)
    if no_compiler:  # outside the except clause, whose traceback keeps the stack's tensors alive
        workspace.notice(f"compiling failed on {device} ({no_compiler}): training goes on uncompiled")
        return train_stack(runs, device, replace(how, compiled=False), workspace, keep)
    return results[: len(runs)]


def _trained(runs: Sequence[Run], device: str, how: How, workspace: Workspace, keep: Keep | None) -> list[Result]:
    """Train one stack. Its compiled functions are kept; the memory of its weights and moments is freed."""
    stack = _Stack(runs, device, how)
    way = "compiled" if how.compiled else "eager"
    if how.products is not None:
        way += f", products={how.products}"
    with stack.functions.unproven():
        results = stack.train(Saver.of_training(workspace, way, device, runs))
    if keep is not None:
        stack.hand_out(keep)
    if how.compiled:
        stack.lanes.stop()
    return results


class _Stack:
    def __init__(self, runs: Sequence[Run], device: str, how: How) -> None:
        self.runs, self.device, self.how = runs, device, how
        self.products = device != "cpu" if how.products is None else how.products
        self.started = time.perf_counter()
        self.earlier_seconds = 0.0
        run = runs[0]
        self.inputs = Resident(run, device)
        self.info = self.inputs.info
        model = models.of_run(run)
        example = torch.empty(1, self.info.in_chans, self.info.image_size, self.info.image_size)
        self.example = example if self.products else None
        self.functions = compiled.functions_for(runs, model.to(device), device, how.compiled, self.example)
        self.lanes = self.functions.lanes
        self.moments = optim.zeros(run.optimizer, self.lanes.weights)
        self.steps_per_epoch = self.inputs.steps_per_epoch
        self.steps = run.epochs * self.steps_per_epoch
        warmup_steps = run.warmup_epochs * self.steps_per_epoch
        like = self.lanes.weights[0]
        self.table = optim.coefficients(runs, self.steps, warmup_steps, like)
        self.taken = 0
        self.alive = torch.ones(len(runs), dtype=torch.bool, device=device)
        self.losses = torch.zeros(len(runs), self.steps_per_epoch, dtype=like.dtype, device=device)
        """Losses of the batches of the current epoch."""
        self.history: list[list[float]] = [[] for _ in runs]
        self._captured: dict[int, Captured] = {}
        """Captured steps by size of the batch: the last batch of an epoch may be smaller."""

    def train(self, saver: Saver) -> list[Result]:
        """Train from the checkpoint, or from the start, to the end; returns the result of each lane."""
        state = saver.load("cpu")  # into host memory: it is as large as the stack
        if state is not None:
            self.restore(state)
        del state
        run = self.runs[0]
        batches: list[Tensor] = []
        while self.taken < self.steps and (self.taken % self.steps_per_epoch or bool(self.alive.any())):
            epoch, within = divmod(self.taken, self.steps_per_epoch)
            if not batches or within == 0:
                batches = self.inputs.start(epoch)
            self.losses[:, within] = self.step(batches[within])
            self.taken += 1
            if within + 1 == self.steps_per_epoch:
                self.end_epoch()
                if (epoch + 1) % run.eval_every_epochs == 0 or epoch + 1 == run.epochs:
                    self.evaluate()
            saver.after_step(self.state, f"{self.taken} of {self.steps} steps")
        results = self.results()
        saver.done()
        return results

    def step(self, index: Tensor) -> Tensor:
        """Take one step in all lanes on the images at `index`; returns their losses [lanes]."""
        now = self.table[self.taken]
        if not self.how.graph:
            return self.eager_step(index, now)
        if len(index) not in self._captured:
            others = next(iter(self._captured.values()), None)
            self._captured[len(index)] = Captured(self.eager_step, index, now, self.tensors(), others)
        return self._captured[len(index)](index, now)

    def eager_step(self, index: Tensor, now: Tensor) -> Tensor:
        """As `step`, without a CUDA graph: reads and writes device memory only. `now`: the step's coefficients."""
        leaves = self.lanes.leaves
        images, labels = self.inputs.batch(index)
        losses = self.functions.losses(leaves, self.inputs.normalise(images), labels)
        gradients = torch.autograd.grad(losses.sum(), leaves)
        self.functions.update(self.lanes.weights, self.moments, self.lanes.copies, gradients, now)
        return losses.detach()

    def end_epoch(self) -> None:
        """Freeze lanes whose loss or weights are not finite: set weights to 0, since computing with nan may be slow."""
        self.alive &= self.losses.double().mean(1).isfinite() & self.lanes.finite()
        if not self.products and bool(self.alive.all()):
            return  # only on a CPU: on a GPU the host would have to wait for all steps to find out
        for tensor in self.tensors():
            dead = ~self.alive[: len(tensor)]
            tensor.masked_fill_(dead.view(-1, *[1] * (tensor.dim() - 1)), 0)
        optim.freeze(self.table, self.alive)

    def evaluate(self) -> None:
        """Append the test accuracy of each lane that has not diverged to its history."""
        shown = self.inputs.test_batches(setting.EVALUATION_BATCH)
        right = self.lanes.right(shown, self.functions.hits if self.products else None)
        for history, count, alive in zip(self.history, right.tolist(), self.alive.tolist(), strict=True):
            if alive:
                history.append(100 * count / len(self.inputs.test_labels))
        self.functions.proven = True

    def results(self) -> list[Result]:
        # Divided by the number of different runs: lanes that repeat a run do not count.
        seconds = (self.earlier_seconds + time.perf_counter() - self.started) / len(set(self.runs))
        chance = 100 / self.info.num_classes
        lanes = zip(self.alive.tolist(), self.losses.double().mean(1).tolist(), self.history, strict=True)
        return [
            Result(history[-1], max(history), False, loss, tuple(history), seconds)
            if alive
            else Result(chance, max([*history, chance]), True, None, tuple(history), seconds)
            for alive, loss, history in lanes
        ]

    def hand_out(self, keep: Keep) -> None:
        """Call `keep` once for each distinct run that has not diverged."""
        layout = OwnLayout(self.runs[0], self.example)
        for lane, alive in enumerate(self.alive.tolist()):
            if alive and self.runs.index(self.runs[lane]) == lane:
                state = layout.state(self.lanes, lane, self.table, self.taken)
                keep(lane, {name: tensor.cpu() for name, tensor in state.items()})

    def tensors(self) -> list[Tensor]:
        """The tensors that a step changes in place, each [lanes, ...]."""
        copies = [rounded for rounded in self.lanes.copies if rounded is not None]
        return [
            *self.lanes.weights,
            *self.moments.first,
            *self.moments.second,
            *copies,
            *self.lanes.statistics.values(),
        ]

    def state(self) -> State:
        """Everything that the rest of the training depends on; the order of batches follows from seed and epoch."""
        return {
            "taken": self.taken,
            **self._saved(),
            "history": self.history,
            "lane_seconds": (self.earlier_seconds + time.perf_counter() - self.started) / len(self.runs),
        }

    def _saved(self) -> dict[str, list[Tensor]]:
        return {
            "weights": self.lanes.weights,
            "first": self.moments.first,
            "second": self.moments.second,
            "statistics": list(self.lanes.statistics.values()),
            "epoch": [self.alive, self.losses],
        }

    def restore(self, state: State) -> None:
        """Continue from a `state` that the method of that name has returned."""
        self.taken = state["taken"]
        self.earlier_seconds = state["lane_seconds"] * len(self.runs)
        self.history = [list(history) for history in state["history"]]
        for name, mine in self._saved().items():
            for tensor, saved in zip(mine, state[name], strict=True):
                tensor.copy_(saved)
        self.lanes.round()
        optim.freeze(self.table, self.alive)


def _check(runs: Sequence[Run], device: str, how: How) -> None:
    """Raise `TrainError` if `runs` are not a stack or cannot be trained like this on `device`."""
    if not runs:
        raise TrainError("stack: expected one run or more, got none")
    if not catalogue.info(runs[0].data).resident:
        raise TrainError(
            f"stack: expected data that fit on a device, got {runs[0].data.name}, which is streamed from its files; "
            "train its runs one by one"
        )
    check(runs[0])
    for run in runs:
        if run.optimizer not in optim.OPTIMIZERS:
            raise TrainError(f"optimizer: expected one of {', '.join(optim.OPTIMIZERS)}; got {run.optimizer!r}")
        if stack_key(run) != stack_key(runs[0]):
            ours, theirs = stack_key(runs[0]).record(), stack_key(run).record()
            name = next(name for name in ours if ours[name] != theirs[name])
            raise TrainError(
                f"stack: expected runs of equal {name}, got {ours[name]} and {theirs[name]}; group runs by stack_key"
            )
    if how.lanes is not None and not max(FEWEST_LANES, len(runs)) <= how.lanes:
        raise TrainError(f"lanes: expected {max(FEWEST_LANES, len(runs))} or more, got {how.lanes}")
    setting.compute_dtype(runs[0])
    if device == "cpu" and how.graph:
        raise TrainError("graph: expected a CUDA device, got cpu")
