"""Numbers with units and decorations, and what is no number."""

from __future__ import annotations

import pytest

from replicate.sweeps.numbers import Number, is_diverged, is_nothing, number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("**82.07**", 82.07),
        ("__82.07__", 82.07),
        ("`1e-3`", 0.001),
        ("<b>82.07</b>", 82.07),
        (r"\textbf{82.07}", 82.07),
        ("82.07†", 82.07),
        ("82.07*", 82.07),
        ("10^-6.0", 1e-6),
        ("10**-3", 0.001),
        ("3·10⁻⁴", 3e-4),
        ("3×10^-4", 3e-4),
        (r"$3 \times 10^{-4}$", 3e-4),
        ("2^-10", 2**-10),
        ("1/1024", 1 / 1024),
        ("0,0003", 0.0003),
        ("−1.5", -1.5),
        ("lr=1e-3", 0.001),
        ("~3e-4", 3e-4),
        ("3.21 nats", 3.21),
        ("82.1 pp", 82.1),
    ],
)  # fmt: skip
def test_decorations(text: str, value: float) -> None:
    found = number(text)
    assert found is not None
    assert found.value == pytest.approx(value, rel=1e-12)
    assert (found.percent, found.spread) == (False, None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("68.2%", Number(68.2, percent=True)),
        ("0.682 ± 0.003", Number(0.682, spread=0.003)),
        ("0.682+/-0.003", Number(0.682, spread=0.003)),
        ("**68.2 ± 0.3**", Number(68.2, spread=0.3)),
        ("68.2 ± 0.3 %", Number(68.2, percent=True, spread=0.3)),
        ("68.2 (0.3)", Number(68.2, spread=0.3)),
        ("1e-3 (peak)", Number(0.001)),
    ],
)
def test_what_stands_beside(text: str, found: Number) -> None:
    assert number(text) == found


@pytest.mark.parametrize(
    "text", ["", "fast", "1_000", "1,234", "1e-3 → 1e-5", "0x10", "1.5.2", "10^400", "1/0", "9" * 300, "-", "± 3", "()"]
)
def test_no_numbers(text: str) -> None:
    assert number(text) is None


def test_commas_where_they_are_decimal() -> None:
    assert number("1,234", True) == Number(1.234)


def test_words() -> None:
    assert is_nothing("None") and is_nothing(" <NA> ") and not is_nothing("0")
    assert is_diverged("NaN") and is_diverged("-inf") and is_diverged("diverged") and not is_diverged("")
