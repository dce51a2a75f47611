"""The meaning of a column's name: which field or measure it denotes, as the various tools write them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from replicate.sweeps.vocabulary import (
    ALIASES,
    BASES,
    LOSS,
    OPTIMIZER_WORDS,
    PREFIXES,
    QUALIFIERS,
    SCORE,
    SET,
    SPREADS,
    STANDARD_ERRORS,
    TRAINED_ON,
    UNKNOWN,
)


@dataclass(frozen=True)
class Measure:
    """What a column measures."""

    kind: str
    """accuracy, loss, score, or unknown: a name that does not say whether higher is better."""
    tier: int
    """Rank of certainty that this column is the one to judge; 0 is the most certain."""
    spread: str = ""
    """`std` or `sem` if the column is the standard deviation or error of the measure instead."""


LONGEST_NAME = 400
"""Only this many characters of a column's name are used; longer names are nested too deeply to be a sweep's."""


@lru_cache(maxsize=4096)
def parts(column: str) -> tuple[tuple[str, ...], ...]:
    """The words of each part of a name; parts are separated by `/`, `.`, `:` or `|`. Only a long name's end is used."""
    column = column.strip()[-LONGEST_NAME:]
    name = re.sub(r"\s*[(\[][^)\]]*[)\]]\s*$", "", column) or column
    name = name.replace("λ", "lambda").replace("η", "eta").replace("R²", "r2").replace("@", "").replace("%", " ")
    name = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()
    found = (tuple(re.findall(r"[^\s_\-]+", part)) for part in re.split(r"[/.:|>]+", name))
    return tuple(part for part in found if part)


@lru_cache(maxsize=4096)
def plain(column: str) -> str:
    """The name without prefixes: `config/optimizer.lr`, `params_lr`, `Learning Rate` → `lr`, `lr`, `learning_rate`."""
    divided = parts(column)
    if not divided:
        return ""
    words = list(divided[-1])
    while len(words) > 1 and words[0] in PREFIXES:
        del words[0]
    return "_".join(words)


@lru_cache(maxsize=1 << 14)
def tier(column: str, field: str) -> int | None:
    """Rank of certainty that the name denotes `field`: 0 is the most certain; None if it does not."""
    divided = parts(column)
    if not divided:
        return None
    name = plain(column)
    logged = divided[0][0] in TRAINED_ON and len(divided) > 1 and field in ("lr", "wd")
    if logged:  # a value logged during training, not the run's setting
        return None
    groups = ALIASES[field]
    for place, names in enumerate(groups):
        if name in names:
            return place
    if field in ("lr", "wd"):
        words = name.split("_")
        while len(words) > 1 and words[0] in OPTIMIZER_WORDS:
            del words[0]
            for place, names in enumerate(groups):
                if "_".join(words) in names:
                    return place
    return None


@lru_cache(maxsize=1 << 14)
def measure(column: str) -> Measure | None:
    """What a column of this name measures on data not trained on; None if the name denotes no such measure."""
    words = [word for part in parts(column) for word in part]
    if len(words) > 1 and words[0] in SET:
        return None
    while len(words) > 1 and words[0] in PREFIXES:
        del words[0]
    if set(words) & TRAINED_ON:
        return None  # accuracy or loss on the training data is not judged
    spread = ""
    for size in (2, 1):
        for i in range(len(words) - size + 1):
            if "_".join(words[i : i + size]) in SPREADS and not spread:
                spread = "sem" if "_".join(words[i : i + size]) in STANDARD_ERRORS else "std"
                del words[i : i + size]
    if "neg" in words or "negative" in words:
        rest = [word for word in words if word not in ("neg", "negative")]
        inner = _base(rest)
        if inner is not None and inner[0] == LOSS and "_".join(words) not in BASES:
            return Measure(SCORE, 2, spread)
    found = _base(words) or (_base(list(parts(column)[-1])) if parts(column) and not spread else None)
    if found is None:
        return Measure(UNKNOWN, 9, spread) if spread and not [w for w in words if w not in QUALIFIERS] else None
    return Measure(*found, spread)


def selects(column: str) -> bool:
    """Whether the name denotes a run's best value, or the value with averaged weights, rather than the last value."""
    return bool({word for part in parts(column) for word in part} & {"best", "max", "min", "ema", "top"})


def averages(column: str) -> bool:
    """Whether the name denotes a mean or a median."""
    return bool({word for part in parts(column) for word in part} & {"mean", "avg", "average", "median"})


def _base(words: list[str]) -> tuple[str, int] | None:
    """Kind and tier of the measure that `words` name, if necessary without qualifiers such as `val` or `mean`."""
    left = list(words)
    while left:
        for start in range(len(left)):
            name = "_".join(left[start:])
            if name in BASES and all(word in QUALIFIERS or "_".join(left[:start]) in BASES for word in left[:start]):
                return BASES[name]
        if left[-1] not in QUALIFIERS:
            return None
        del left[-1]
    return None
