"""Compiles one architecture, compares it with the plain loop, times and profiles it, and measures its memory.

Each architecture has a process of its own, so that five compile at once. One lock is held during every timing. Findings
of an earlier call are not repeated, and its compiled kernels are in the caches.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from stacked import runs_of  # the benchmark
from torch import Tensor

from first_minutes import kernels, trial
from first_minutes.beside import plain_losses
from first_minutes.findings import Findings
from first_minutes.health import best_seconds
from first_minutes.pieces import OF_STACK
from first_minutes.trial import NO_ROOM, STEPS, Trial
from replicate.data import catalogue
from replicate.runs.run import Run
from replicate.train import setting
from replicate.train.accelerate import CaptureFailed
from replicate.train.inputs import Resident
from replicate.train.memory import keep_freed_memory, out_of_memory
from replicate.train.stacked import How, _Stack

MOST_APART = {"float32": 1e-4, "bf16": 0.02}
"""Precision → largest relative difference of stack's and loop's losses. bf16 on a CPU: 0.2 % after nine steps."""
GROUP = 10
"""Steps timed together as one sample."""


class Probe:
    """A stack (runs trained together) of one architecture, built and compiled at its first use."""

    def __init__(self, arch: str, tried: Trial, findings: Findings) -> None:
        self.arch, self.tried, self.findings = arch, tried, findings
        self.device = tried.device
        self.runs: list[Run] = tried.runs(arch)

    @cached_property
    def stack(self) -> _Stack:
        how = self.tried.how()
        if self.device == trial.CPU:
            keep_freed_memory()
        if how.compiled:
            try:
                return self._begun(how)
            except Exception as error:
                if no_room(error):
                    raise
                self.findings.fail(f"{self.arch}/compile", error)
            how = replace(how, compiled=False)  # outside `except`: its traceback keeps the stack's tensors
        return self._begun(how)

    def _begun(self, how: How) -> _Stack:
        """A stack whose step is compiled and captured, in the state before its first step."""
        started = time.perf_counter()
        stack = _Stack(self.runs, self.device, how)
        before = [tensor.to("cpu", copy=True) for tensor in stack.tensors()]  # device memory is measured
        stack.step(stack.inputs.start(0)[0])
        self.wait()
        for tensor, old in zip(stack.tensors(), before, strict=True):
            tensor.copy_(old)
        if how == self.tried.how():
            found = {"seconds": time.perf_counter() - started, "compiled": how.compiled, "lanes": len(self.runs)}
            if earlier := self.findings.good(f"{self.arch}/compile"):  # which filled the caches
                found = {**earlier, "again_seconds": found["seconds"]}
            self.findings.put(f"{self.arch}/compile", **found)
        return stack

    def wait(self) -> None:
        """Wait until the device has finished its queued work."""
        if self.device != trial.CPU:
            torch.cuda.synchronize(self.device)

    def steps(self) -> dict[str, Any]:
        """Losses of the stack's first and last run, step by step, compared with the plain loop's."""
        stack, precision = self.stack, self.runs[0].precision
        together = torch.stack([loss[[0, -1]] for loss in self._first_steps(stack)]).double()
        alone = torch.stack([plain_losses(run, self.device, STEPS) for run in (self.runs[0], self.runs[-1])], 1)
        apart = float(((together.cpu() - alone) / alone).abs().max())
        return {
            "steps": STEPS,
            "precision": precision,
            "stack": together[:, 0].tolist(),
            "loop": alone[:, 0].tolist(),
            "apart": apart,
            "agrees": apart <= MOST_APART[precision],
        }

    def _first_steps(self, stack: _Stack) -> Iterator[Tensor]:
        batches: list[Tensor] = []
        for _ in range(STEPS):
            epoch, within = divmod(stack.taken, stack.steps_per_epoch)
            batches = stack.inputs.start(epoch) if not batches or within == 0 else batches
            yield stack.step(batches[within]).clone()
            stack.taken += 1
        stack.taken = 0  # the timings repeat one step

    def replays(self) -> dict[str, Any]:
        """Seconds of a training step of all runs of the stack."""
        stack, batch = self.stack, self.stack.inputs.start(0)[0]
        groups = max(1, self.tried.replays // GROUP)
        found = []
        with self.findings.timing():
            for _ in range(groups + 1):  # the first sample is dropped
                started = time.perf_counter()
                for _ in range(GROUP):
                    stack.step(batch)
                self.wait()
                found.append((time.perf_counter() - started) / GROUP)
        step = statistics.median(found[1:])
        images = len(self.runs) * len(batch) / step
        return {"step_seconds": step, "least": min(found[1:]), "most": max(found[1:]), "images_per_second": images}

    def evaluation(self) -> dict[str, Any]:
        """Seconds to evaluate all runs of the stack on all test images."""
        started = time.perf_counter()
        self.stack.evaluate()
        first = time.perf_counter() - started
        with self.findings.timing():
            seconds = best_seconds(self.stack.evaluate, self.device, 3)
        return {"first_seconds": first, "seconds": seconds, "images": len(self.stack.inputs.test_labels)}

    def augmentation(self) -> dict[str, Any]:
        """Seconds of the work at the start of an epoch for all runs of the stack, by scale."""
        found = {}
        for scale in dict.fromkeys((self.tried.shapes, self.tried.target)):
            run: Run = runs_of(scale, self.arch, 1)[0]
            shown = Resident(run, self.device)
            with self.findings.timing():
                found[scale.name] = {
                    "seconds": best_seconds(lambda: shown.start(0), self.device, 2),  # noqa: B023  called at once
                    "images": catalogue.train_size(run.data),
                    "augment": list(run.augment),
                }
        return {"by_scale": found}

    def memory(self) -> dict[str, Any]:
        """Peak memory of this process so far, GB: on the GPU, or of the process on a CPU."""
        self.stack.step(self.stack.inputs.start(0)[0])
        if self.device == trial.CPU:
            return {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}
        return {"peak_gb": torch.cuda.max_memory_reserved(self.device) / 1e9}

    def profile(self) -> dict[str, Any]:
        """The kernels of a step that take longest and the bytes that they move, with the budget of the step."""
        batch = self.stack.inputs.start(0)[0]
        with self.findings.timing():
            rows, seconds = kernels.profiled(lambda: self.stack.step(batch), self.device)
        return {"kernels": rows, "kernel_seconds": seconds, "budget": kernels.budget(self.arch)}


def no_room(error: Exception) -> bool:
    """Whether memory ran out; as in training, any error during a graph capture counts as lack of memory."""
    return isinstance(error, CaptureFailed) or out_of_memory(error)


def main() -> None:
    tried, findings, asked = trial.of_process(__doc__)
    (arch,) = asked.arch
    wanted = [piece for piece in OF_STACK if findings.good(f"{arch}/{piece}") is None]
    if not wanted:
        return
    probe = Probe(arch, tried, findings)
    failed = False
    with setting.reproducible(tried.device):
        for piece in wanted:
            try:
                findings.put(f"{arch}/{piece}", **getattr(probe, piece)())
            except Exception as error:
                findings.fail(f"{arch}/{piece}", error)
                failed = True
                if no_room(error):
                    sys.exit(NO_ROOM)  # this process cannot be relied on any more
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
