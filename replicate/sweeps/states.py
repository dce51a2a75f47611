"""What became of a run, from the words in its state and score: finished, diverged, left out, or never run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from replicate.sweeps.numbers import is_dash, is_diverged, is_nothing, number
from replicate.sweeps.table import Table

FINISHED, DIVERGED, LEFT_OUT, NEVER_RUN = "finished", "diverged", "left out", "never run"

DONE = {
    "",
    "complete",
    "completed",
    "finished",
    "success",
    "succeeded",
    "successful",
    "done",
    "terminated",
    "ok",
    "true",
}
DONE |= {"finish", "passed", "converged", "good", "stopped early", "early_stopped", "exited", "0", "none", "null"}
"""States of a run whose score is final; Ray marks a finished run as TERMINATED."""
LOST = {"diverged", "nan", "exploded", "unstable", "divergence", "diverge", "blew up", "loss is nan", "inf"}
"""States that mean divergence."""
FAILED = {"failed", "failure", "crashed", "crash", "error", "errored", "fail", "exception", "oom", "out of memory"}
"""States of a run that failed; if its score is nan, it counts as diverged."""
UNSTARTED = {"waiting", "pending", "queued", "scheduled", "created", "not started", "not_started", "no results", "todo"}
NO_RUN = "without a run"
OPTUNA_FAILED = "fail"
"""Optuna's state of a trial that returned nan; Optuna stores no value for it, and it counts as diverged."""
ACCIDENTS = FAILED | {"killed", "running", "preempted", "preempting", "timeout", "timed out", "timed_out", "canceled"}
ACCIDENTS |= {"cancelled", "aborted", "interrupted", "stopped", "pruned", "paused", "t/o", "cuda oom", "segfault"}
"""What people write instead of the score of a run that did not finish."""
NO = {"false", "0", "no", "0.0", "f", "n"}


@dataclass(frozen=True)
class Fate:
    """What became of a run, and the table's word for it."""

    kind: str
    word: str = ""


def fates(table: Table, found: Mapping[str, str], score: str) -> list[Fate]:
    """What became of each row's run; `found`: field → column; `score`: the column of scores."""

    def column(field: str) -> list[str]:
        return table.values(found[field]) if field in found else [""] * len(table.rows)

    scores = table.values(score)
    optuna = any(state.strip().upper() == "COMPLETE" for state in column("state"))
    return [
        _fate(*row, optuna, "n" in found or "observed" in found)
        for row in zip(column("state"), scores, column("n"), column("observed"), column("lost"), strict=True)
    ]


def _fate(state: str, score: str, n: str, observed: str, lost: str, optuna: bool, told: bool) -> Fate:
    state, score = state.strip().lower().removeprefix("trialstate."), score.strip()
    word = score.lower()
    if (
        told
        and ((n and (runs := number(n)) is not None and runs.value == 0) or observed.lower() in NO)
        and not _is_score(score)
    ):
        return Fate(NEVER_RUN, NO_RUN)
    if lost and lost.lower() not in NO and not is_nothing(lost):
        return Fate(DIVERGED, "diverged")
    if state in LOST:
        return Fate(DIVERGED, state)
    if state in UNSTARTED:
        return Fate(NEVER_RUN, state)
    if state not in DONE:
        explicit = is_diverged(score)
        if state in FAILED and (explicit or (optuna and state == OPTUNA_FAILED and is_nothing(score))):
            return Fate(DIVERGED, state)
        return Fate(LEFT_OUT, state)
    if is_dash(score):
        return Fate(NEVER_RUN, score)
    if word in ACCIDENTS:
        return Fate(LEFT_OUT, word)
    if is_nothing(score) or is_diverged(score):
        return Fate(DIVERGED, word)
    return Fate(FINISHED)


def _is_score(text: str) -> bool:
    return number(text) is not None or is_diverged(text)


def notes(found: list[Fate], column: str | None) -> list[str]:
    """Notes on the runs that were left out, taken as diverged, or never run; `column`: the column of states."""
    out = []
    left = Counter(one.word[:40] for one in found if one.kind == LEFT_OUT)
    if left:
        counted = ", ".join(f"{n} {word}" for word, n in sorted(left.items()))
        out.append(f"left out the runs that {column or 'the score'} does not call finished: {counted}")
    failed = sum(one.kind == DIVERGED and one.word == OPTUNA_FAILED for one in found)
    if failed:
        out.append(
            f"{failed} of {len(found)} trials failed without a value: taken as diverged, because Optuna marks trials "
            f"that returned nan this way; they bound the best weight decay; --where {column}=COMPLETE leaves them out"
        )
    never = Counter(one.word[:40] for one in found if one.kind == NEVER_RUN)
    if never:
        words = ", ".join(f"{n} {word if word == NO_RUN else repr(word)}" for word, n in sorted(never.items()))
        hint = "; write nan for a run that diverged" if any(is_dash(word) for word in never) else ""
        out.append(f"taken as never run: {words}{hint}")
    return out
