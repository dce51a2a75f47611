"""The engine that users choose by name; only that one is imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial

from replicate.text import UsageError

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)


def check(name: str, address: str | None) -> None:
    """Raise `UsageError` if engine `name` is not installed, or if it does not take an `address`."""
    if name == RAY and importlib.util.find_spec("ray") is None:
        raise UsageError("--engine ray: expected Ray to be installed, got none; pip install 'replicate[ray]'")
    if name != RAY and address is not None:
        raise UsageError(f"--address {address}: expected --engine ray with it, got {name}")


def ensure_of(name: str, address: str | None) -> Callable[..., None]:
    """The function `ensure(store, runs, processes=…, trainer=…, until=…)` of engine `name`."""
    check(name, address)
    if name == RAY:
        from replicate.train.engine import ray as engine

        return partial(engine.ensure, address=address)
    from replicate.train.engine import local

    return local.ensure
