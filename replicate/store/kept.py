"""What is kept with the source and not in the package: where it is in a clone, and one line for who has no clone."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The clone's root; for an installed package the folder that it lies in."""

log = logging.getLogger(__name__)


def path(name: str) -> Path:
    """Where the file or folder `name` of the repository is, or would be."""
    return ROOT / name


def in_clone() -> bool:
    """Whether this package is part of a clone."""
    return path("pyproject.toml").is_file()


def lacking(name: str, what: str) -> str:
    """The line on what is lacking without the file `name`, and where to get it; empty where the file is there."""
    if path(name).exists():
        return ""
    return f"{what}: kept with the source, in {name}, which this installation lacks; run in a clone of the repository"


@lru_cache
def look_for(name: str, what: str) -> None:
    """Says once, as a warning, where `name` is lacking."""
    if line := lacking(name, what):
        log.warning(line)
