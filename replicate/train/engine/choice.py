"""Imports the engine that the user has chosen by name, and no other."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial

from replicate.text import UsageError

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)


def check(name: str, address: str | None) -> None:
    """Raise `UsageError` if the engine `name` is not installed, or if `address` is given but the engine is not Ray."""
    if name == RAY and importlib.util.find_spec("ray") is None:
        raise UsageError("--engine ray: expected Ray to be installed, found it missing; pip install 'replicate[ray]'")
    if name != RAY and address is not None:
        raise UsageError(f"--address {address}: expected --engine ray beside it, got --engine {name}")


def ensure_of(name: str, address: str | None) -> Callable[..., None]:
    """The function of engine `name` that trains missing runs: `ensure(store, runs, processes=…, trainer=…, …)`."""
    check(name, address)
    if name == RAY:
        from replicate.train.engine import ray as engine

        return partial(engine.ensure, address=address)
    from replicate.train.engine import local

    return local.ensure
