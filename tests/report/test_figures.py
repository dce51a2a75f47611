"""Pictures: text alternatives, colours as variables, names as text, and odd landscapes that must not break them."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from replicate.calibration.measured import CellRow
from replicate.estimate.estimate import Estimate
from replicate.paper.claim import Margin
from replicate.report.figures.calibration import calibration, shares
from replicate.report.figures.canvas import COLOURS, canvas, label, number
from replicate.report.figures.deviation import deviation
from replicate.report.figures.intervals import Row, Scale, intervals
from replicate.report.figures.landscape import _apart, landscape
from tests.support.landscapes import sweep
from tests.support.pages import HOSTILE

INF = math.inf
NAN = math.nan
SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ET.Element:
    """The picture as XML, with a text alternative."""
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert not [e for e in root.iter() if e.tag == f"{SVG}script"]
    return root


def texts(svg: str) -> str:
    return " ".join("".join(e.itertext()) for e in parsed(svg).iter(f"{SVG}text"))


def test_colours_are_variables_with_fallbacks() -> None:
    svg = intervals([Row("a", 1.0, 0.5, 2.0, "replicated")], Scale("q", (0.5, 2.0)), "T.")
    assert f"var(--ours, {COLOURS['ours']})" in svg
    for colour in COLOURS.values():
        assert svg.count(colour) == svg.count(f", {colour})")
    assert len(set(COLOURS.values())) == len(COLOURS)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_text(name: str) -> None:
    svg = intervals([Row(name, 1.0, 0.5, 2.0, "replicated")], Scale("q", (0.5, 2.0)), "T.")
    assert label(name) in texts(svg)
    assert len(label(name)) <= 30
    alt = landscape(sweep({1e-3: {1e-5: 1, 1e-4: 2, 1e-3: 1}}, arch=name, dataset=name))
    assert label(name) in str(parsed(alt).get("aria-label"))


def test_two_pictures_share_no_id() -> None:
    one, other = (intervals([Row("a", x, 0.5, 2.0, "replicated")], Scale("q", (0.5, 2.0)), "T.") for x in (1.0, 1.1))
    ids = [{e.get("id") for e in parsed(svg).iter() if e.get("id")} for svg in (one, other)]
    assert ids[0] and not ids[0] & ids[1]


ODD = {
    "one learning rate": {1e-3: {1e-5: [1, 2], 1e-4: [3, 4], 1e-3: [2, 1]}},
    "one point": {1e-3: {0.1: 1}},
    "only weight decay 0": {1e-3: {0: [1, 2]}, 1e-2: {0: [2, 3]}},
    "with weight decay 0": {1e-3: {0: [1, 1], 1e-4: [2, 3], 1e-3: [1, 2]}, 1e-2: {0: [1, 1]}},
    "all diverged": {1e-3: {1e-4: [-INF, -INF], 1e-3: [-INF, -INF]}},
    "one diverged": {1e-3: {1e-5: [50, 51], 1e-4: [60, 61], 1e-3: [52, 50], 1e-2: [-INF, -INF]}},
    "one seed": {lr: {1e-5: 50, 1e-4: 60, 1e-3: 52} for lr in (1e-4, 1e-3, 1e-2)},
    "flat": {lr: {1e-5: [5, 5], 1e-4: [5, 5], 1e-3: [5, 5]} for lr in (1e-4, 1e-3, 1e-2)},
    "far apart": {1e-9: {1e-30: [1, 2], 1e-20: [3, 4], 1e9: [2, 1]}, 1e3: {1e-30: [1, 2], 1e-20: [3, 4], 1e9: [1, 0]}},
    "many learning rates": {lr: {1e-5: 50, 1e-4: 60, 1e-3: 52} for lr in np.geomspace(1e-5, 1e-1, 23)},
    "losses": {lr: {1e-5: [-2.5, -2.4], 1e-4: [-2.1, -2.0], 1e-3: [-2.3, -2.4]} for lr in (1e-4, 1e-3, 1e-2)},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_landscapes(name: str) -> None:
    svg = landscape(sweep(ODD[name], metric="loss" if name == "losses" else "accuracy"))
    assert "nan" not in svg.split("aria-label")[0]
    assert "Landscape of a on d" in str(parsed(svg).get("aria-label"))


def test_the_landscape_says_where_the_best_weight_decay_lies() -> None:
    kappas = (0.01, 0.1, 1, 10, 100)
    row = {k: [70 - 8 * math.log10(k) ** 2 + seed / 10 for seed in range(3)] for k in kappas}
    hill = {lr: {0.1 * lr * k: scores for k, scores in row.items()} for lr in (1e-4, 1e-3, 1e-2)}
    svg = landscape(sweep(hill))
    words = str(parsed(svg).get("aria-label"))
    assert words.count("claimed") == 3
    assert "anywhere" not in words
    assert {"0.1η", "const.", "∝ 1/η", "learning rate η"} <= {
        "".join(e.itertext()) for e in parsed(svg).iter(f"{SVG}text")
    }


def test_open_intervals_and_an_empty_scale() -> None:
    rows = [
        Row("closed", 0.1, 0.08, 0.12, "replicated", (0.1, 0.08, 0.12)),
        Row("open below", None, 0.0, 3.0, "inconclusive"),
        Row("open", None, -INF, INF, "inconclusive"),
        Row("above", 30.0, 10.0, INF, "contradicted"),
    ]
    for log in (True, False):
        svg = intervals(rows, Scale("q", (0.05, 0.2), log), "T.")
        assert texts(svg).count("I") >= 2
    assert "interval open to open, inconclusive" in str(parsed(svg).get("aria-label"))
    parsed(intervals(rows[2:3], Scale("q", (-INF, 0.3)), "T."))


def test_deviation_curve_with_gaps_and_open_ends() -> None:
    closed = Estimate("drop_pp", "pp", 1.0, 0.5, 1.5, 0.95, 5, "m")
    unknown = Estimate("drop_pp", "pp", None, -INF, INF, 0.95, 0, "m")
    svg = deviation("cifar100", {0.1: (closed, Margin(2.8, 4.0)), 2.0: (unknown, Margin(0.2, 1.2))}, "CIFAR-100.")
    assert "kappa 2: no value (open to open)" in str(parsed(svg).get("aria-label"))


def test_operating_characteristics() -> None:
    rate = CellRow("a", "b", 1.0, 3.0, 5, "rho", 0.1, 4, 0.5, 0.0, 0.5, 0.0, 0.95, None)
    rates = [
        rate,
        replace(rate, replicated=1.0, inconclusive=0.0),
        replace(rate, truth=None),
        replace(rate, quantity="r2"),
        replace(rate, slope=0.5, contradicted=1.0),  # where no single ratio is true
    ]
    found = shares(rates, "rho")
    assert shares([replace(rate, quantity="slope", slope=0.5)], "slope") != {}
    assert found == {0.1: {"replicated": 0.75, "inconclusive": 0.25, "contradicted": 0.0}}
    assert "▸" in texts(calibration(found, "ratio", (0.05, 0.2)))
    assert "▸" not in texts(calibration(found, "ratio", (0.2, 0.3)))


def test_numbers_and_labels() -> None:
    assert [number(x) for x in (0, 5e-5, 0.001, 0.25, 1, 100, 1e4, 1e-30, -1)] == [
        "0", "5e-5", "0.001", "0.25", "1", "100", "1e4", "1e-30", "−1",
    ]  # fmt: skip
    assert label("a\nb\x00") == "a b"
    assert label("שלום") == "\u2068שלום\u2069"
    assert _apart([1.0, 1.1, 0.0], 0.5) == [1.0, 1.5, 0.0]


def test_the_same_picture_twice() -> None:
    pictures = []
    for _ in range(2):
        with canvas(100, 80, "alt") as drawn:
            drawn.axes(10, 10, 10, 10).plot([1, 2], [2, 1], "o")
        pictures.append(drawn.svg)
    assert pictures[0] == pictures[1]
