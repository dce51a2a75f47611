"""The answer in words: which weight decay λ to set, how it depends on the learning rate η, what tuning only η costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from replicate.estimate.by_rate import Where
from replicate.estimate.flags import Flag
from replicate.judging.practice import InPractice
from replicate.judging.reasons import span
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, REPLICATED
from replicate.judging.verdict_file import Entry, VerdictFile
from replicate.paper.protocol import RHO
from replicate.report import rivals
from replicate.report.families import TITLES, kind
from replicate.report.wording import CRASHED, outcome_text
from replicate.text import joined

CLEAR = 2.0
"""An accuracy lost counts as real if it exceeds this many of its standard errors."""


def sentences(file: VerdictFile) -> tuple[str, str, str]:
    """Three sentences, from the verdicts alone: counts, the ratio, tuning the learning rate alone."""
    return _counted(file), _ratio(file), _use(file)


def to_act(file: VerdictFile) -> str:
    """What the paper's rule costs here, what to set instead, and which law of λ held; empty if nothing is known."""
    if not file.practice:
        return ""
    return f"{rule_costs(file.practice)} To set instead: {'; '.join(to_set(file.practice))}. {rivals.summary(file)}"


def rule_costs(cells: Sequence[InPractice]) -> str:
    """A sentence on what λ = 0.1η costs against the best λ at the best learning rate; empty without cells."""
    if not cells:
        return ""
    measured = [one for one in cells if one.by_rule is not None and one.by_rule.value > CLEAR * one.by_rule.error > 0]
    costly = [one for one in measured if not _alike_by_rule(one)]
    free = [one for one in cells if one not in costly and (one.by_rule is not None or _alike_by_rule(one))]
    unknown = [one for one in cells if one not in costly and one not in free]
    parts = []
    if costly:
        losses = [one.by_rule.value for one in costly if one.by_rule is not None]
        parts.append(f"costs {span(min(losses), max(losses))} pp of accuracy on {_named(costly)}")
    if free:
        parts.append(f"is not distinguishable from the best λ on {_named(free)}")
    if unknown:
        parts.append(f"was not run on {_named(unknown)}")
    return f"At the best learning rate of each model, λ = 0.1η {', '.join(parts)}."


def _alike_by_rule(one: InPractice) -> bool:
    """Whether λ = 0.1η is one of the weight decays that are not distinguishable from the best."""
    return one.alike[0] <= RHO * one.lr <= one.alike[1]


def to_set(cells: Sequence[InPractice]) -> list[str]:
    """For each cell its best learning rate and the weight decays to set there, in words."""
    return [f"{_named([one])} at η = {one.lr:g}: {_to_set(one)}" for one in cells]


def _to_set(one: InPractice) -> str:
    best_run = f" (best run: {one.best_wd:.2g})"
    if one.where in (Where.ANY_BELOW, Where.FLAT):
        from_ = "" if one.alike[0] == 0 else f"from {one.alike[0]:.2g} "
        helps = one.none is not None and one.none.value > one.none.error
        return f"any λ {from_}up to {one.alike[1]:.2g}{best_run if helps else ''}"
    if one.where is Where.ABOVE:
        return f"λ ≥ {one.low:.2g} (best run: {one.best_wd:.2g}, the largest)"
    if one.low == 0:
        return f"λ ≤ {one.high:.2g}{best_run}"
    return f"λ from {one.low:.2g} to {one.high:.2g}"


def _named(cells: Sequence[InPractice]) -> str:
    """The models of `cells` by data set: `vit_s16 and swin_t on digits`."""
    by_data: dict[str, list[str]] = {}
    for one in cells:
        model, _, data = one.trained.partition(" on ")
        by_data.setdefault(data, []).append(TITLES.get(model, model))
    return " and ".join(f"{joined(models)} on {data}" for data, models in by_data.items())


def _counted(file: VerdictFile) -> str:
    shown = [outcome_text(e) for e in file.entries]
    judged = [o for o in shown if o in (REPLICATED, CONTRADICTED, INCONCLUSIVE)]
    total = len(shown)
    if not judged:
        return f"None of the paper's {total} claims could be judged from {_evidence(file)}."
    parts = [f"{judged.count(o)} {o}" for o in (REPLICATED, CONTRADICTED, INCONCLUSIVE)]
    text = f"{len(judged)} of the paper's {total} claims could be judged from {_evidence(file)}: {', '.join(parts)}"
    if shown.count(NOT_RUN):
        text += f"; {shown.count(NOT_RUN)} {'was' if shown.count(NOT_RUN) == 1 else 'were'} not run"
    inert = [e for e in file.entries if outcome_text(e) == REPLICATED and _inert(e)]
    if inert:
        text += (
            f"; {len(inert)} of the {shown.count(REPLICATED)} replicated claims hold for another reason than the "
            "paper's: at the best learning rate no weight decay has any effect"
        )
    if shown.count(CRASHED):
        text += f"; judging {shown.count(CRASHED)} claims crashed"
    return text + "."


def _inert(e: Entry) -> bool:
    return e.verdict.estimate is not None and Flag.INERT in e.verdict.estimate.flags


def _ratio(file: VerdictFile) -> str:
    ratios, slopes = _of_kind(file, "rho"), _of_kind(file, "slope")
    if not ratios:
        return "Where the best weight decay lies has not been measured."
    yes, no, open_ = _split(ratios)
    text = (
        "The best weight decay is a tenth of the learning rate, within a factor 2, "
        f"in {_count(len(yes))} of {len(ratios)} cells"
    )
    if no:
        ends = [x for e in no if e.verdict.estimate for x in (e.verdict.estimate.low, e.verdict.estimate.high)]
        low, high = min(ends), max(ends)
        bounded = low > 0 and math.isfinite(high)
        span = f"{_plain(low)} to {_plain(high)} times the learning rate" if bounded else "elsewhere"
        text += f", {span} in {len(no)}"
    if open_:
        text += f", and is not located precisely enough in {len(open_)}"
    if slopes:
        grows, not_so, unknown = _split(slopes)
        text += f"; it grows in proportion to the learning rate in {_count(len(grows))}"
        text += f", does not in {len(not_so)}" if not_so else ""
        text += f", and is undecided in {len(unknown)}" if unknown else ""
    return text + "."


def _use(file: VerdictFile) -> str:
    gaps = _of_kind(file, "one-dim/gap")
    if not gaps:
        return "What tuning the learning rate alone costs has not been measured."
    yes, no, open_ = _split(gaps)
    text = (
        "Tuning the learning rate alone, with λ = 0.1η, costs less than 0.3 pp compared with the paper’s grid "
        f"in {_count(len(yes))} of {len(gaps)} cells"
    )
    text += f", more in {len(no)}" if no else ""
    text += f", and is undecided in {len(open_)}" if open_ else ""
    drops = _of_kind(file, "deviation/kappa")
    if drops:
        as_printed = _count(len(_split(drops)[0]))
        text += f"; {as_printed} of the {len(drops)} drops of Table 2 that were measured came out as printed"
    return text + "."


def _of_kind(file: VerdictFile, wanted: str) -> list[Entry]:
    """The judged claims whose `kind` (the id without cell, data set and multiple) is `wanted`."""
    return [e for e in file.entries if kind(e.id) == wanted and outcome_text(e) not in (NOT_RUN, CRASHED)]


def _split(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry], list[Entry]]:
    by = {o: [e for e in entries if outcome_text(e) == o] for o in (REPLICATED, CONTRADICTED, INCONCLUSIVE)}
    return by[REPLICATED], by[CONTRADICTED], by[INCONCLUSIVE]


def _count(n: int) -> str:
    return str(n) if n else "none"


def _plain(x: float) -> str:
    """`x` to two digits, without a power of ten below a million."""
    return f"{float(f'{x:.2g}'):,.6g}" if x < 1e6 else f"{x:.1e}"


def _evidence(file: VerdictFile) -> str:
    return "made-up runs" if file.synthetic else "this probe" if file.probe else "runs at the paper's protocol"
