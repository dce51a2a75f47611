"""Executable claims: tests that judge a paper's claims on AdamW's weight decay from training runs.

`judge` judges your own sweep, given as a table, a file or `Landscape`s; `open_store` gives access to the runs and
models of a store. Each name is imported when it is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "judge": "replicate.notebook",
    "Judged": "replicate.notebook",
    "Landscape": "replicate.landscape.landscape",
    "open_store": "replicate.train.kept_models",
}
__all__ = ["Judged", "Landscape", "__version__", "judge", "open_store"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
