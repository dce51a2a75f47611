"""Memory: whether it has run out, keeping what is freed for the next step, and giving it back."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from functools import lru_cache

import torch

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""What a RuntimeError says where there is no class for it."""


def out_of_memory(error: BaseException) -> bool:
    """Whether `error`, or one that it came of, says that memory has run out, of the device or of the host."""
    found = [error]
    for one in found:
        # Where memory runs out in the capture of a graph, ending the capture raises an error of its own.
        causes = (one.__cause__, one.__context__)
        found += [cause for cause in causes if cause is not None and all(cause is not other for other in found)]
    return any(
        isinstance(one, torch.OutOfMemoryError | MemoryError)
        or (isinstance(one, RuntimeError) and any(word in str(one) for word in OUT_OF_MEMORY))
        for one in found
    )


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Have the C library keep what is freed, for this process from now on, where that is glibc.

    A stack's activations are megabytes each. glibc gives such blocks back to the system at once and gets them again,
    page by page and zeroed, in the next operation: up to a third of a step.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(m_mmap_threshold, 32 << 20)  # glibc refuses more
        mallopt(m_trim_threshold, (1 << 31) - 1)


def give_back_memory(device: str) -> None:
    """To other processes, or for a smaller stack, what nothing refers to any more."""
    gc.collect()
    if device != "cpu":
        # What is freed counts as free for the stream it was made on, though a failed capture's may still work on it.
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
