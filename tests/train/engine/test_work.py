"""What becomes of a stack whose worker has died: where it waits again, in which parts, and when it is given up."""

from __future__ import annotations

from collections import deque

import pytest

from replicate.runs.run import Run
from replicate.train.engine.failed import TrainingFailed, describe
from replicate.train.engine.work import RETRIES, Death, Work, WorkerDied, after_death
from tests.support.faketrainer import fake_run

OTHER = Work([fake_run(seed=9)], origin=1)
KINDS = pytest.mark.parametrize("death", Death)


def runs_of(n: int) -> list[Run]:
    return [fake_run(seed) for seed in range(n)]


def die(waiting: deque[Work], work: Work, death: Death, missing: list[Run] | None = None) -> WorkerDied | None:
    return after_death(waiting, work, work.runs if missing is None else missing, death, "signal 9", "its last words\n")


@KINDS
@pytest.mark.parametrize("runs", [1, 5])
def test_a_stack_is_tried_again_as_often_as_its_kind_of_death_allows(death: Death, runs: int) -> None:
    """Alone or in company, by the engines' books: attempts of each part until it is split or given up."""
    most, before_halves = {
        Death.CRASHED: (3, 1),
        Death.KILLED: (10, 3),
        Death.UNEXPLAINED: (10, 3),
        Death.MACHINE_LOST: (30, None),
    }[death]
    waiting: deque[Work] = deque()
    work, attempts = Work(runs_of(runs), origin=0), 0
    error = None
    while error is None and not (attempts and len(waiting) > 1):
        error = die(waiting, waiting.pop() if waiting else work, death)
        attempts += 1
    if runs > 1 and before_halves is not None:
        assert attempts == before_halves
        assert [part.runs for part in waiting] == [work.runs[:3], work.runs[3:]]
        assert all(part.origin == 0 and not part.deaths for part in waiting), "each half begins anew"
    else:
        assert attempts == most and not waiting
        assert str(error) == (
            f"training {describe(*work.runs)} failed: {most} workers died while training it, the last by signal 9; "
            "check memory and the installation\nits last words"
        )


@KINDS
def test_a_killed_stack_waits_behind_the_others_and_any_other_goes_first(death: Death) -> None:
    waiting = deque([OTHER])
    work = Work(runs_of(1), origin=0)
    assert die(waiting, work, death) is None
    assert list(waiting) == ([OTHER, work] if death is Death.KILLED else [work, OTHER])


@KINDS
def test_halves_go_first_and_in_order(death: Death) -> None:
    times = RETRIES[death].before_halves
    work = Work(runs_of(2), origin=0)
    work.deaths[death] = 2 if times == 3 else 0
    waiting = deque([OTHER])
    assert die(waiting, work, death) is None
    parts = [work.runs] if death is Death.MACHINE_LOST else [work.runs[:1], work.runs[1:]]
    assert [part.runs for part in waiting] == [*parts, OTHER.runs]


@KINDS
def test_what_a_half_done_stack_has_stored_is_not_blamed(death: Death) -> None:
    waiting: deque[Work] = deque()
    work = Work(runs_of(4), origin=0)
    missing = work.runs[3:]
    while (error := die(waiting, waiting.pop() if waiting else work, death, missing)) is None:
        assert [part.runs for part in waiting] == [missing], "one run is not split"
    assert describe(*missing) in str(error)


@KINDS
def test_a_stack_that_was_done_when_its_worker_died_is_done(death: Death) -> None:
    waiting: deque[Work] = deque()
    work = Work(runs_of(2), origin=0)
    work.deaths[death] = 100
    assert die(waiting, work, death, missing=[]) is None and not waiting


def test_each_kind_of_death_counts_for_itself() -> None:
    """Nine kills and two crashes give nothing up; the third crash does, and says three."""
    waiting: deque[Work] = deque()
    work = Work(runs_of(1), origin=0)
    for death in [Death.KILLED] * 9 + [Death.CRASHED] * 2:
        assert die(waiting, work, death) is None
    error = die(waiting, work, Death.CRASHED)
    assert isinstance(error, TrainingFailed) and "failed: 3 workers died while training it" in str(error)
