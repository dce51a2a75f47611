"""A bracket in rounds: it ends, encloses what can be enclosed, and depends on nothing but whole rounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate.runs.bracket import LOOKS, Bracket, End, Place, Rounds, at, expand

Table = dict[tuple[Place, int], float]
TESTED, CHANCE = 1000, 10.0

rules = st.builds(
    lambda lowest, start, above: Rounds(tuple(lowest + k for k in sorted(start)), lowest, lowest + max(start) + above),
    st.integers(-5, 0),
    st.sets(st.integers(0, 5), min_size=1, max_size=3),
    st.integers(0, 5),
)
seeds = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Rounds, list[int], Table]:
    """A rule, seeds, and the accuracy of every run that it may ask for: anything, often equal or guessed."""
    rule, of = draw(rules), draw(seeds)
    score = st.one_of(st.floats(0, 100), st.sampled_from([CHANCE, 50.0, 51.0, 100.0, 0.0]))
    return rule, of, {(place, seed): draw(score) for place in (None, *rule.places) for seed in of}


def asked(rule: Rounds, of: list[int], known: Table) -> Bracket:
    return expand(rule, of, lambda place, seed: known.get((place, seed)), TESTED, CHANCE)


def trained(rule: Rounds, of: list[int], world: Table, first: Callable[[list[tuple[Place, int]]], int]) -> Table:
    """What is known when nothing is missing any more; `first` says which of the missing runs is done next."""
    known: Table = {}
    while missing := [run for run in asked(rule, of, known).runs if run not in known]:
        assert len(known) <= len(world)
        run = missing[first(missing)]
        known[run] = world[run]
    return known


@settings(max_examples=30)
@given(worlds(), st.randoms(use_true_random=False))
def test_ends_with_the_same_runs_in_whatever_order_they_are_done(
    world: tuple[Rounds, list[int], Table], random: np.random.Generator
) -> None:
    rule, of, scores = world
    in_order = trained(rule, of, scores, lambda missing: 0)
    assert trained(rule, of, scores, lambda missing: len(missing) - 1) == in_order
    assert trained(rule, of, scores, lambda missing: random.randrange(len(missing))) == in_order  # type: ignore[attr-defined]
    done = asked(rule, of, in_order)
    assert done.done
    assert set(done.runs) == in_order.keys()
    assert set(rule.start) <= {place for place, _ in done.runs} - {None} <= set(rule.places)


@given(worlds(), st.data())
def test_depends_on_whole_rounds_alone(world: tuple[Rounds, list[int], Table], data: st.DataObject) -> None:
    """Whatever else is known changes nothing, and to know more never takes back what was asked for."""
    rule, of, scores = world
    whole = asked(rule, of, scores)
    some = data.draw(st.sets(st.sampled_from(sorted(scores, key=repr))))
    before = asked(rule, of, {run: scores[run] for run in some})
    assert set(before.runs) <= set(whole.runs)
    assert before.done == (set(before.runs) <= some)
    needed_alone = asked(rule, of, {run: scores[run] for run in some & set(whole.runs)})
    assert needed_alone == before
    assert asked(rule, of, {run: scores[run] for run in whole.runs}) == whole


@given(worlds())
def test_fewer_seeds_ask_for_a_part_of_the_runs(world: tuple[Rounds, list[int], Table]) -> None:
    rule, of, scores = world
    whole = set(asked(rule, of, scores).runs)
    for count in LOOKS:
        if count < len(of):
            assert set(asked(rule, of[:count], scores).runs) <= whole


@given(worlds())
def test_all_seeds_are_at_all_places(world: tuple[Rounds, list[int], Table]) -> None:
    rule, of, scores = world
    runs = asked(rule, of, scores).runs
    assert len(runs) == len({place for place, _ in runs}) * len(of)


def curve(peak: float, gain: float, width: float = 1.5) -> Callable[[Place, int], float]:
    """Accuracy that rises from 40 % by `gain` to `peak` and falls to guessing, without noise."""

    def score(place: Place, seed: int) -> float:
        if place is None:
            return 40.0
        if place <= peak:
            return 40.0 + gain * math.exp(-((place - peak) ** 2) / (2 * width**2))
        return max(CHANCE, 40.0 + gain - 8 * (place - peak) ** 2)

    return score


@given(st.floats(-2.9, 5.9), st.floats(20, 40), st.integers(1, 5))
def test_encloses_an_optimum_wherever_it_lies(peak: float, gain: float, count: int) -> None:
    found = expand(Rounds(), range(count), curve(peak, gain), TESTED, CHANCE)
    places = sorted({place for place, _ in found.runs if place is not None})
    assert (found.low, found.high) == (End.FALLEN, End.FALLEN)
    assert places[0] < peak < places[-1]
    best = max(places, key=lambda place: curve(peak, gain)(place, 0))
    i = places.index(best)
    assert places[i + 1] - best == best - places[i - 1] == 1
    assert len(places) <= 6 + abs(peak)


def test_goes_no_further_down_where_none_does_as_well() -> None:
    found = expand(Rounds(), range(5), curve(-1.0, 0.5), TESTED, CHANCE)
    assert (found.low, found.high) == (End.FLAT, End.FALLEN)
    assert min(place for place, _ in found.runs if place is not None) == -1


def test_goes_on_down_where_none_does_better_than_the_smallest() -> None:
    def harmful(place: Place, seed: int) -> float:
        return 70.0 if place is None or place < -2 else 60.0 - 5 * place

    found = expand(Rounds(), range(3), harmful, TESTED, CHANCE)
    assert (found.low, found.high) == (End.FLAT, End.FALLEN)
    assert min(place for place, _ in found.runs if place is not None) == -2


def test_ends_at_the_limit_on_either_side() -> None:
    def straight(slope: float) -> Callable[[Place, int], float]:
        return lambda place, seed: 40.0 if place is None else 60.0 + slope * place

    falling = expand(Rounds(), range(3), straight(-5), TESTED, CHANCE)
    assert (falling.low, falling.high) == (End.LIMIT, End.FALLEN)
    assert min(place for place, _ in falling.runs if place is not None) == Rounds().lowest
    rising = expand(Rounds(), range(3), straight(5), TESTED, CHANCE)
    assert (rising.low, rising.high) == (End.FALLEN, End.LIMIT)
    assert max(place for place, _ in rising.runs if place is not None) == Rounds().highest


def test_where_nothing_is_learnt_the_first_round_is_all() -> None:
    found = expand(Rounds(), (0, 1, 2), lambda place, seed: CHANCE + 0.5 * seed, TESTED, CHANCE)
    assert (found.low, found.high) == (End.LIMIT, End.LIMIT)
    assert {place for place, _ in found.runs} == {None, *Rounds().start}


def test_one_seed_explores() -> None:
    """What it alone knows decides which places all seeds go to."""
    score = curve(3.0, 30.0)
    alone = expand(Rounds(), (7,), score, TESTED, CHANCE)
    known = {run: score(*run) for run in alone.runs}
    others = asked(Rounds(), [7, 8, 9, 10], known)
    assert not others.done
    assert set(others.runs) == {(place, seed) for place, _ in alone.runs for seed in (7, 8, 9, 10)}


def test_no_decay_takes_a_whole_weight_at_a_step() -> None:
    assert at(3) == 27.0
    assert at(-2) == 1 / 9
    assert Rounds().within(80) == Rounds((-1, 1), -4, 3)
    assert Rounds((1,), 0, 7).within(3) == Rounds((0,), 0, 0)
    assert Rounds((1,), 1).within(3) == Rounds((1,), 1, 1), "the lowest, whatever it takes"
    for steps in (2, 9, 10, 100, 78_200):
        assert all(at(place) < steps for place in Rounds().within(steps).places)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ((), r"^start: expected ascending exponents, got \(\)$"),
        ((1, 0), r"^start: expected ascending exponents, got \(1, 0\)$"),
        ((-9, 1), r"^start: expected exponents from -4 to 7, got \(-9, 1\)$"),
        ((1, 8), r"^start: expected exponents from -4 to 7, got \(1, 8\)$"),
    ],
)
def test_a_rule_that_cannot_be(start: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Rounds(start)
