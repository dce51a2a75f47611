"""Reads numbers as people and tools write them, with units, bold type, `±`, powers of ten or a remark."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

NOTHING = frozenset({"", "none", "null", "na", "n/a", "nil", "<na>", "nat", "#n/a", "#num!", "#div/0!", "undefined"})
"""What tools write for a missing value."""
DASHES = frozenset({"-", "--", "---", "–", "—", "−", "/", "?", "tbd", "todo", "n.r.", "not run", "skipped"})
"""What people write for a run that was never done."""
DIVERGED = frozenset(
    {sign + word for sign in ("", "+", "-") for word in ("nan", "inf", "infinity")}
    | {"∞", "-∞", "diverged", "diverge", "diverges", "div", "div.", "divergent", "nan loss"}
    | {"unstable", "exploded", "blew up", "overflow"}
)
"""What is written instead of the score of a diverged run."""
LONGEST = 200
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
SIGNS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "’": "", "\u202f": " ", "\xa0": " "})
PLAIN = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
COMMA_NUMBER = re.compile(r"[-+]?\d*,\d+(?:e[-+]?\d+)?", re.IGNORECASE)
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+")
SPREAD = re.compile(rf"(?P<value>.+?)\s*(?:±|\+/-|\+-|\\pm)\s*(?P<spread>{PLAIN})\s*%?$", re.IGNORECASE)
BRACKETED = re.compile(r"(?P<value>[^(\[]+?)\s*[(\[](?P<note>[^()\[\]]*)[)\]]$")
POWER = re.compile(
    rf"(?:(?P<times>{PLAIN})\s*\*\s*)?(?P<base>10|2)\s*(?:\^|\*\*)\s*\(?(?P<power>{PLAIN})\)?", re.IGNORECASE
)
FRACTION = re.compile(r"(\d{1,9})\s*/\s*(\d{1,9})")
UNIT = re.compile(r"(?<=[\d.])\s*(?:pp|pts?|points?|percent|per cent|nats?|bits?|bpb)$", re.IGNORECASE)
NAMED = re.compile(r"[A-Za-zλη_]{1,20}\s*=\s*(?=[-+.\d])")
EMPHASIS = re.compile(r"\*\*|__|`|\$|</?[a-z]{1,6}>|\\(?:textbf|mathbf|underline|bf|emph|,|;)|[{}]", re.IGNORECASE)
MARKS = "*†‡§¶#^~≈ "


@dataclass(frozen=True)
class Number:
    """A number with its annotations."""

    value: float
    percent: bool = False
    """Whether the number has a % sign; `value` is the number before the sign."""
    spread: float | None = None
    """The number after ±."""


@lru_cache(maxsize=1 << 16)
def number(text: str, decimal_comma: bool = False) -> Number | None:
    """The number in `text`, however it is written; None if it is not a number."""
    if len(text) > LONGEST or "_" in text.strip("_"):  # Python reads 1_000 as a number; no export means that
        return None
    value = _plain(text, decimal_comma)
    return _decorated(text, decimal_comma) if value is None else Number(value)


def is_nothing(text: str) -> bool:
    return text.strip().lower() in NOTHING


def is_dash(text: str) -> bool:
    return text.strip().lower() in DASHES


def is_diverged(text: str) -> bool:
    """Whether `text` says that a run diverged: nan, inf, or a word such as `diverged`."""
    return text.strip().lower() in DIVERGED


def _plain(text: str, decimal_comma: bool) -> float | None:
    if "," in text and (decimal_comma or COMMA_NUMBER.fullmatch(text.strip())):
        if not decimal_comma and THOUSANDS.fullmatch(text.strip()):
            return None  # 1,234 is ambiguous: 1234 or 1.234
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return None


def _decorated(text: str, decimal_comma: bool) -> Number | None:
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda found: "^" + found[0].translate(SUPERSCRIPTS), text)
    text = text.replace("\\times", "*").replace("\\cdot", "*").replace("\\pm", "±").replace("\\%", "%")
    text = unicodedata.normalize("NFKC", EMPHASIS.sub("" if "**" not in text.strip("*") else _no_power, text))
    text = NAMED.sub("", text.translate(SIGNS).strip(MARKS), count=1)
    remark = ""
    if bracketed := BRACKETED.fullmatch(text):
        text, remark = bracketed["value"].strip(MARKS), bracketed["note"].strip()
    spread = None
    if found := SPREAD.fullmatch(text):
        spread = _plain(found["spread"], False)
        text = found["value"].strip() + ("%" if text.endswith("%") and not found["value"].strip().endswith("%") else "")
    elif remark and (inside := _plain(remark.rstrip("%"), decimal_comma)) is not None:
        spread = abs(inside)  # 82.07 (0.12)
    percent = text.endswith("%")
    text = UNIT.sub("", text.removesuffix("%").strip())
    value = _plain(text, decimal_comma)
    if value is None:
        value = _power(text)
    if value is None:
        return None
    return Number(value, percent, spread if spread is None or math.isfinite(spread) else None)


def _no_power(found: re.Match[str]) -> str:
    """Replacement for EMPHASIS that keeps `**` between two numbers: a power, not bold type."""
    inside = found.string[max(0, found.start() - 1) : found.start()].isdigit()
    return found[0] if found[0] == "**" and inside and not found.string.startswith("**") else ""


def _power(text: str) -> float | None:
    if found := POWER.fullmatch(text):
        power, times = float(found["power"]), float(found["times"] or 1)
        return times * float(found["base"]) ** power if abs(power) < 300 else None
    if found := FRACTION.fullmatch(text):
        return int(found[1]) / int(found[2]) if int(found[2]) else None
    return None
