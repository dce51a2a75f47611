"""Memory: recognises that it has run out, keeps freed memory for the next step, or returns it to the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from functools import lru_cache

import torch

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""Words in a RuntimeError that mean lack of memory."""


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` or one of its causes says that the memory of the device or the host has run out."""
    found = [error]
    for one in found:
        # If memory runs out while a graph is captured, ending the capture raises a second error.
        causes = (one.__cause__, one.__context__)
        found += [cause for cause in causes if cause is not None and all(cause is not other for other in found)]
    return any(
        isinstance(one, torch.OutOfMemoryError | MemoryError)
        or (isinstance(one, RuntimeError) and any(word in str(one) for word in OUT_OF_MEMORY))
        for one in found
    )


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Make glibc, if that is the C library, keep freed memory for the rest of this process.

    A stack's activations are megabytes each. By default glibc returns such blocks to the system at once, and the next
    operation gets them back page by page and zeroed, which takes up to a third of a step.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(m_mmap_threshold, 32 << 20)  # the largest value that glibc accepts
        mallopt(m_trim_threshold, (1 << 31) - 1)


def give_back_memory(device: str) -> None:
    """Free unreferenced memory of the host and of `device`, so that this or another process can allocate it."""
    gc.collect()
    if device != "cpu":
        # Wait first: a failed capture may still be running on a stream that would reuse its freed memory at once.
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
