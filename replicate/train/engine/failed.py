"""Turns an exception in a trainer into the error that the user reads, and recognises the failure of a device."""

from __future__ import annotations

from collections.abc import Sequence

from replicate.runs.run import Run
from replicate.text import UsageError

DEVICE_ERRORS = ("AcceleratorError",)
"""Names of the exceptions that torch raises if a device fails."""
DEVICE_WORDS = (
    *("CUDA error", "CUDA driver error", "NCCL error", "CUBLAS_STATUS_EXECUTION_FAILED", "HIP error"),
    "No CUDA GPUs are available",  # in a process that was given a GPU
)
"""Words in the RuntimeError that older versions of torch raise if a device fails."""
NO_DEVICE = "no other device is left. Stored runs are kept: repair the device and train again"
NO_MEMORY = "out of memory"
"""A device stays usable after an error with these words."""


class TrainingFailed(UsageError):
    """A run could not be trained; the first line names the run and the error, the rest is the traceback."""

    def __init__(self, message: str, runs: Sequence[Run] = ()) -> None:
        super().__init__(message)
        self.runs = runs
        """Runs of which at least one could not be trained; empty if no run is at fault."""


class DeviceFailed(TrainingFailed):
    """A device failed during training; the runs are not at fault and can be trained on another device."""


def describe(*runs: Run) -> str:
    """One run, or several runs that are trained together, in a few words for a message."""
    run = runs[0]
    if len(runs) > 1:
        keys = ", ".join(r.key for r in runs[:3]) + (", …" if len(runs) > 3 else "")
        return f"a stack of {len(runs)} runs of {run.arch} on {run.data.name} seed={run.seed} (keys {keys})"
    return (
        f"{run.arch} on {run.data.name} lr={run.lr:g} wd={run.weight_decay:g} seed={run.seed} "
        f"({run.optimizer}, key {run.key})"
    )


def failure(error: BaseException, device: str, *suspects: Run) -> TrainingFailed:
    """Turn `error`, which `suspects` (at least one is at fault) caused on `device`, into the exception to raise."""
    text = " ".join(str(error).split()) or "no message"
    if device != "cpu" and is_of_device(error):
        what = f"{describe(*suspects)}: {type(error).__name__}: {text}"
        return DeviceFailed(f"device {device} failed while training {what}")
    return TrainingFailed(f"training {describe(*suspects)} failed: {type(error).__name__}: {text}", suspects)


def is_of_device(error: BaseException) -> bool:
    """Whether `error` means that the device does not work, at least not in this process."""
    text = str(error)
    if NO_MEMORY in text.lower():
        return False
    named = any(kind.__name__ in DEVICE_ERRORS for kind in type(error).__mro__)
    return named or (isinstance(error, RuntimeError) and any(word in text for word in DEVICE_WORDS))
