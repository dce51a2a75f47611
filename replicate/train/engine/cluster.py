"""Connects to a Ray cluster, or raises an error whose message says in one line why connecting failed."""

from __future__ import annotations

import os
import socket

import ray
from ray import exceptions as lost

from replicate.text import UsageError

ANSWER_SECONDS = 10.0
"""How long to wait for the cluster's address to answer."""


def connect(address: str | None) -> None:
    """Connect to the Ray cluster at `address`; None: to a cluster that Ray finds, else to a new one on this machine.

    Raises UsageError if connecting fails. Does nothing if this process is connected already.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # else Ray warns; a task without a GPU uses none anyway
    try:
        _check_reachable(address)
        ray.init(address=address, log_to_driver=False, logging_level="WARNING")
    except (OSError, RuntimeError, ValueError, TimeoutError, lost.RayError) as error:
        words = next(iter(str(error).splitlines()), "no message")
        raise UsageError(
            f"--engine ray: expected a Ray cluster at {address or 'the default address'}, got {type(error).__name__}: "
            f"{words}; start one (ray start --head) or check --address"
        ) from error


def _check_reachable(address: str | None) -> None:
    """Raise OSError if `address` is a host and port that does not answer: Ray itself would wait for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
