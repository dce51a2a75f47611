"""Reaching a Ray cluster: an address to a connection, or one line on why there is none."""

from __future__ import annotations

import os
import socket

import ray
from ray import exceptions as lost

from replicate.text import UsageError

ANSWER_SECONDS = 10.0
"""For a cluster to answer at all."""


def connect(address: str | None) -> None:
    """To the Ray cluster at `address`; without one, to the one that Ray finds, or to a new one on this machine."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a task without a GPU asks torch for none
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
    """Raise OSError where `address` names a machine and a port that does not answer: Ray itself would wait minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
