"""What a sweep answers, in words: a table by learning rate, the weight decay to set, and an explanation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from replicate.estimate.by_rate import Loss, RateRow, Where
from replicate.estimate.flags import Flag
from replicate.judging.answer import Setting
from replicate.judging.rule import position
from replicate.judging.sweep_verdicts import JudgedCell
from replicate.judging.verdict import INCONCLUSIVE, NOT_RUN
from replicate.paper.protocol import RHO
from replicate.report.figures.intervals import LETTERS
from replicate.report.wording import estimate_text, margin_text, sentence
from replicate.text import bounds, joined, printable

UNNAMED = "unnamed"
"""The name that `replicate.sweeps` gives to an architecture or data set that a file does not name."""
MOST_NAMED = 4
MOST_SETTINGS = 6
NONE = "—"
WORDS = {
    "rho": "the best weight decay is a tenth of the learning rate",
    "slope": "best weight decay is proportional to learning rate",
    "intercept": "the line of best weight decays has no intercept",
    "r2": "a proportional line explains the best weight decays",
    "one-dim/gap": "tuning the learning rate alone loses less than 0.3 pp",
}
"""Claim → its statement in words."""


def heads(cell: JudgedCell) -> tuple[str, ...]:
    """The column headings of `table`."""
    decay = ("ηλ · steps",) if cell.answer.steps is not None else ()
    losses = ("no decay", "λ/10", "10 λ", f"{RHO:g} lr")
    if cell.answer.searched:
        return ("lr", "best λ", "95 %", "where", *decay, *losses[1:], "trials")
    return ("lr", "best λ", "95 %", "where", *decay, _score_name(cell), *losses, "runs", "seeds")


def table(cell: JudgedCell) -> list[tuple[str, ...]]:
    """One row per learning rate, with the columns `heads`."""
    return [_row(cell, row) for row in cell.answer.by_lr]


def caption(cell: JudgedCell) -> str:
    """A caption that explains the columns of `table`."""
    score = f"{_score_name(cell)}{', %' if cell.metric == 'accuracy' else ''}"
    unit = "in percentage points" if cell.metric == "accuracy" else "in its unit"
    if cell.answer.searched:
        return (
            "A random search: a smooth surface was fitted to its trials and evaluated at these learning rates. Best "
            "λ: where the surface is highest; 95 %: interval of the best λ. The next three columns: what is lost "
            f"compared with the best λ, {unit} ± standard error, at a tenth of the best λ, at ten times the best λ "
            "and by the paper's rule. Trials: the number of trials for which this learning rate is the nearest."
        )
    return (
        f"Best λ: the weight decay with the best mean {score}. 95 %: interval of the best λ. The next four columns: "
        f"what is lost compared with the best λ, {unit} ± standard error, without decay (or at the smallest decay run, "
        "in brackets), at a tenth of the best λ, at ten times the best λ and by the paper's rule."
    )


def headline(cell: JudgedCell) -> str:
    """Which weight decay to set at the learning rates asked for; if none were, at all that can be answered."""
    found = [one for one in cell.answer.settings if one.asked or not one.why_not]
    best = cell.answer.best
    if found:
        best_lr = None if best is None else best.lr
        if not any(one.asked for one in found):
            found.sort(key=lambda one: one.lr != best_lr)
        return f"To set: {'; '.join(_setting(one, best_lr, first=one is found[0]) for one in found)}."
    if best is None or best.best_wd is None:
        return "To set: no run has a score."
    if _all_equal(cell):
        return "To set: unknown, because all runs have the same score."
    return (
        f"To set: unknown from these runs; the best of them is at learning rate {best.lr:.3g} with weight decay "
        f"{best.best_wd:.3g}."
    )


def paragraph(cell: JudgedCell) -> str:
    """What weight decay does, how the best one depends on the learning rate, and what the paper's rule would cost."""
    law = f"{sentence(cell)}{_constant(cell)}."
    parts = [_best(cell), *_without(cell), law[0].upper() + law[1:], *_by_rule(cell)]
    parts.append(f"The noise between seeds is {cell.answer.noise}.")
    return " ".join(part for part in parts if part)


def title(cell: JudgedCell) -> str:
    """The name of a cell and the settings that all its runs share."""
    named = " on ".join(names(cell)) or "this sweep"
    return printable(f"{named} ({shared(cell)})" if shared(cell) else named)


def names(cell: JudgedCell) -> tuple[str, ...]:
    """Architecture and data set, each left out if the sweep does not name it."""
    return tuple(name for name in (cell.arch, cell.dataset) if name != UNNAMED)


def shared(cell: JudgedCell) -> str:
    """The settings that all runs of the cell share, in words; empty if none are known."""
    return ", ".join(f"{column} {value}" for column, value in cell.settings[:MOST_SETTINGS])


@dataclass(frozen=True)
class ClaimRow:
    """A claim of the paper with its verdict on the cell."""

    name: str
    words: str
    outcome: str
    letter: str
    here: str
    margin: str
    reason: str


def verdicts(cell: JudgedCell) -> tuple[ClaimRow, ...]:
    """One row per claim."""
    return tuple(
        ClaimRow(
            name=name,
            words=WORDS.get(name, name),
            outcome=verdict.outcome,
            letter=LETTERS[verdict.outcome],
            here=estimate_text(None if verdict.outcome == NOT_RUN else cell.measured[name]),
            margin=margin_text(verdict.margin),
            reason=verdict.reason,
        )
        for name, verdict in cell.verdicts.items()
    )


def remarks(cell: JudgedCell) -> Iterable[str]:
    """Lines below the verdicts: reasons that interval and margin do not show, flags, what settles inconclusive ones."""
    why: dict[tuple[str, str], list[str]] = {}
    for name, verdict in cell.verdicts.items():
        found = cell.measured[name]
        if verdict.outcome == NOT_RUN or position(found.low, found.high, verdict.margin) != verdict.outcome:
            why.setdefault((verdict.outcome, verdict.reason), []).append(name)
    yield from (f"{', '.join(names)} {outcome}: {reason}." for (outcome, reason), names in why.items())
    for flag in cell.flags:
        yield f"{flag}: {flag.meaning}."
    settle: dict[str, list[str]] = {}
    for name, outcome in cell.outcomes.items():
        if outcome == INCONCLUSIVE:
            settle.setdefault(cell.settle(name), []).append(name)
    yield from (f"To settle {', '.join(names)}: {text}." for text, names in settle.items() if text)
    if cell.disagreements:
        yield (
            f"The paper's own method gives another verdict on {', '.join(cell.disagreements)}: that method takes "
            "the best run of each learning rate as the optimum and ignores its uncertainty (--json has the figures)."
        )


def worth(cell: JudgedCell) -> str:
    """A line to print above `next_runs`: how much these are expected to narrow the answer."""
    plan = cell.answer.plan
    if plan is None or not plan.runs:
        return "What to run next: no further runs of this kind would narrow the answer."
    title = f"What to run next ({len(plan.runs)} runs; rank 1 tells most)"
    if plan.slope_narrows is None or plan.ratio_narrows is None:
        return f"{title}; without these runs the answer stays open:"
    slope, ratio = (f"{100 * share:.0f} %" for share in (plan.slope_narrows, plan.ratio_narrows))
    return f"{title}; these should reduce the standard error of the slope to {slope} of now, the ratio's to {ratio}:"


NEXT = ("lr", "weight decay", "new seeds", "rank")


def next_runs(cell: JudgedCell) -> list[tuple[str, ...]]:
    """The runs to do next, with the columns `NEXT`: one row per learning rate and weight decay."""
    seeds: dict[tuple[float, float], list[str]] = {}
    for run in cell.answer.plan.runs if cell.answer.plan is not None else ():
        seeds.setdefault((run.lr, run.wd), []).append(str(run.seed))
    rank = {pair: i + 1 for i, pair in enumerate(seeds)}
    return [(f"{lr:g}", f"{wd:g}", ", ".join(seeds[lr, wd]), str(rank[lr, wd])) for lr, wd in sorted(seeds)]


def _unit(cell: JudgedCell) -> str:
    """What to write after a difference of scores: ` pp`, or nothing."""
    return " pp" if cell.metric == "accuracy" else ""


def _score_name(cell: JudgedCell) -> str:
    return cell.metric if cell.metric in ("accuracy", "loss") else "score"


def _row(cell: JudgedCell, row: RateRow) -> tuple[str, ...]:
    lost = f", {row.diverged} diverged" if row.diverged else ""
    decay: tuple[str, ...] = ()
    if (steps := cell.answer.steps) is not None:
        decay = (NONE if row.best_wd is None else f"{row.lr * row.best_wd * steps:.2g}",)
    first = (
        f"{row.lr:g}",
        NONE if row.best_wd is None else f"{row.best_wd:.3g}",
        place(row.low, row.high) if row.where.placed else NONE,
        row.where.value,
        *decay,
    )
    losses = (_loss(row.tenth), _loss(row.tenfold), _loss(row.by_rule))
    if cell.answer.searched:
        return (*first, *losses, f"{row.runs}{lost}")
    score = NONE if row.best_score is None else _score(cell, row.best_score)
    return (*first, score, _no_decay(row), *losses, f"{row.runs}{lost}", str(row.seeds))


def place(low: float, high: float) -> str:
    """An interval of weight decays: `0.02 to 0.06`, `≤ 0.3`, `≥ 0.02`, `not bounded`."""
    if low == 0 and math.isinf(high):
        return "not bounded"
    if low == 0 or math.isinf(high):
        return bounds(-math.inf if low == 0 else low, high)
    return f"{low:.2g} to {high:.2g}"


def _score(cell: JudgedCell, score: float) -> str:
    return f"{score:.2f}" if cell.metric == "accuracy" else f"{-score if cell.metric == 'loss' else score:.4g}"


def _loss(loss: Loss | None) -> str:
    if loss is None:
        return NONE
    return f"{loss.value:.2g} ± {loss.error:.1g}" if loss.error else "0"


def _no_decay(row: RateRow) -> str:
    """What is lost without decay against the best λ; if λ = 0 was not run, what the smallest λ loses, and that λ."""
    if row.least is None or row.least.wd == 0:
        return _loss(row.least)
    return f"{_loss(row.least)} (λ {row.least.wd:.2g})"


def _best(cell: JudgedCell) -> str:
    best = cell.answer.best
    if best is None or best.best_score is None or best.best_wd is None:
        return "No run has a score."
    score = f"{_score(cell, best.best_score)}{' %' if cell.metric == 'accuracy' else ''}"
    if _all_equal(cell):
        return f"All runs have the same {_score_name(cell)}, {score}, so they say nothing about weight decay."
    at = f"learning rate {best.lr:.3g} with weight decay {best.best_wd:.3g}"
    return f"The best {_score_name(cell)} of all, {score}, is at {at}."


def _all_equal(cell: JudgedCell) -> bool:
    """Whether all runs have the same score."""
    if cell.answer.searched:
        return Flag.EQUAL in cell.flags
    scored = [row for row in cell.answer.by_lr if row.best_score is not None]
    return {row.where for row in scored} == {Where.EQUAL} and len({row.best_score for row in scored}) == 1


def _without(cell: JudgedCell) -> Iterable[str]:
    """Sentences on learning rates where weight decay hardly matters or its optimum is not inside the range run."""
    unit = _unit(cell)
    rows_of = {where: [row for row in cell.answer.by_lr if row.where is where] for where in Where}
    if rows := rows_of[Where.ANY_BELOW]:
        up_to = min(max(row.alike) for row in rows)
        most = max(row.alike_loses for row in rows)
        none = "including none" if all(row.alike[0] == 0 for row in rows) else "down to the smallest that was run"
        yield (
            f"At {_lrs(rows)} weight decay hardly matters up to {up_to:.2g}, {none}: the means of these runs differ by "
            f"at most {most:.2g}{unit}, which is not distinguishable from 0."
        )
    if rows := rows_of[Where.FLAT]:
        most = max(row.alike_loses for row in rows)
        by = "" if cell.answer.searched else f": means differ by at most {most:.2g}{unit}, not distinguishable from 0"
        yield f"At {_lrs(rows)} weight decay hardly matters{by}."
    if rows := rows_of[Where.ABOVE]:
        yield f"At {_lrs(rows)} the best weight decay may be larger than all that were run."
    if rows := rows_of[Where.BELOW]:
        with_zero = all(row.smallest == 0 for row in rows)
        where = "lie between 0 and the next one that was run" if with_zero else "be smaller than all that were run"
        yield f"At {_lrs(rows)} the best weight decay may {where}."
    if rows := rows_of[Where.OPEN]:
        at = ", ".join(f"{row.best_wd:.3g}{_end(row)} at learning rate {row.lr:g}" for row in rows[:MOST_NAMED])
        more = f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
        yield (
            f"The best runs have weight decay {at}{more}. How near the optimum is to these "
            "is unknown without the standard deviation between seeds: run a second seed, or add --noise SD if known."
        )
    if (rows := rows_of[Where.EQUAL]) and not _all_equal(cell):
        yield f"At {_lrs(rows)} all runs have the same {_score_name(cell)}, so they say nothing about weight decay."
    if rows := rows_of[Where.UNKNOWN]:
        yield f"At {_lrs(rows)} there are too few weight decays to locate the best one."


def _end(row: RateRow) -> str:
    if row.best_wd == row.largest:
        return ", the largest,"
    return ", the smallest," if row.best_wd == row.smallest else ""


def _lrs(rows: Sequence[RateRow]) -> str:
    named = [f"{row.lr:g}" for row in rows]
    if len(named) > MOST_NAMED:
        return f"{len(named)} learning rates from {named[0]} to {named[-1]}"
    return f"learning rate{'s' if len(named) > 1 else ''} {joined(named)}"


def _constant(cell: JudgedCell) -> str:
    value = cell.answer.constant
    if value is None or cell.exponent is None or cell.exponent == 1:
        return ""
    return f"; {'ηλ' if cell.exponent == -1 else 'λ'} ≈ {value:.2g}"


def _setting(one: Setting, best_lr: float | None, *, first: bool) -> str:
    """What to set at one learning rate; only the `first` of a list has the words "learning rate", "weight decay"."""
    which = "" if one.run and one.lr != best_lr else f" ({'the best' if one.run else 'not run'})"
    at, what = f"at {'learning rate ' if first else ''}{one.lr:.3g}{which}", "weight decay " if first else ""
    if one.why_not:
        return f"{at}: unknown, {one.why_not}"
    if one.any_below:
        return f"{at}: any {what}{'' if one.low == 0 else f'from {one.low:.2g} '}up to {one.high:.2g}"
    best = "" if one.best_run is None else f" (best run: {one.best_run:.2g})"
    if one.low == 0:
        return f"{at}: {what}at most {one.high:.2g}{best}"
    if math.isinf(one.high):
        return f"{at}: {what}at least {one.low:.2g}{best}"
    return f"{at}: {what}{one.low:.2g} to {one.high:.2g}"


def _by_rule(cell: JudgedCell) -> Iterable[str]:
    """A sentence on what the paper's rule would cost at the best learning rate."""
    best = cell.answer.best
    if cell.answer.searched and best is not None:  # the surface near the best trial
        of_best = math.log(best.lr)
        best = min(cell.answer.by_lr, key=lambda row: abs(math.log(row.lr) - of_best), default=None)
    if best is None or not best.where.placed:
        return
    unit = _unit(cell)
    rule = f"The paper's rule, λ = {RHO:g} lr, that is {RHO * best.lr:.2g} at learning rate {best.lr:g},"
    if best.by_rule is None and best.smallest == 0 and best.least is not None and RHO * best.lr < (best.best_wd or 0):
        yield f"{rule} lies between 0, which loses {_loss(best.least)}{unit}, and the smallest weight decay run there."
    elif best.by_rule is None:
        yield f"{rule} lies outside the range of weight decays run there."
    elif best.by_rule.error == 0:
        yield f"{rule} costs nothing: it is the best run."
    else:
        yield f"{rule} would cost {best.by_rule.value:.2g} ± {best.by_rule.error:.1g}{unit}."
