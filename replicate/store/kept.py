"""Files that a clone of the repository has and an installed package lacks: their paths, and a message if missing."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The root of the clone; for an installed package, the folder it is installed in."""

log = logging.getLogger(__name__)


def path(name: str) -> Path:
    """The path of the file or folder `name` of the repository, whether or not it exists."""
    return ROOT / name


def in_clone() -> bool:
    """Whether this package runs from a clone of the repository."""
    return path("pyproject.toml").is_file()


def lacking(name: str, what: str) -> str:
    """If the file `name` is missing, one line that says how to get `what` it holds; else an empty text."""
    if path(name).exists():
        return ""
    return f"{what}: expected {name}, which only a clone of the repository has, got an installation; run in a clone"


@lru_cache
def look_for(name: str, what: str) -> None:
    """Warn, once per process, if the file `name`, which holds `what`, is missing."""
    if line := lacking(name, what):
        log.warning(line)
