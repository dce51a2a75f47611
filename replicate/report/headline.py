"""The answer in three sentences: how many claims held, what the best weight decay does, what tuning η alone costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, REPLICATED
from replicate.judging.verdict_file import Entry, VerdictFile
from replicate.report.families import kind
from replicate.report.wording import CRASHED, outcome_text


def sentences(file: VerdictFile) -> tuple[str, str, str]:
    """Three sentences in plain words, from the verdicts alone."""
    return _counted(file), _ratio(file), _use(file)


def _counted(file: VerdictFile) -> str:
    shown = [outcome_text(e) for e in file.entries]
    judged = [o for o in shown if o in (REPLICATED, CONTRADICTED, INCONCLUSIVE)]
    total = len(shown)
    if not judged:
        return f"None of the paper's {total} claims could be judged from {_evidence(file)}."
    parts = [f"{judged.count(o)} {o}" for o in (REPLICATED, CONTRADICTED, INCONCLUSIVE)]
    text = f"Of the paper's {total} claims {len(judged)} could be judged from {_evidence(file)}: {', '.join(parts)}"
    if shown.count(NOT_RUN):
        text += f"; {shown.count(NOT_RUN)} {'was' if shown.count(NOT_RUN) == 1 else 'were'} not run"
    if shown.count(CRASHED):
        text += f"; judging {shown.count(CRASHED)} of them crashed"
    return text + "."


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
        span = f"{_plain(low)} to {_plain(high)} times it" if low > 0 and math.isfinite(high) else "elsewhere"
        text += f", {span} in {len(no)}"
    if open_:
        text += f", and cannot be located well enough in {len(open_)}"
    if slopes:
        grows, not_so, unknown = _split(slopes)
        text += f"; it grows in proportion to the learning rate in {_count(len(grows))}"
        text += f", does not in {len(not_so)}" if not_so else ""
        text += f", and in {len(unknown)} one cannot tell" if unknown else ""
    return text + "."


def _use(file: VerdictFile) -> str:
    gaps = _of_kind(file, "one-dim/gap")
    if not gaps:
        return "What tuning the learning rate alone costs has not been measured."
    yes, no, open_ = _split(gaps)
    text = (
        "Tuning the learning rate alone, with λ = 0.1η, costs less than 0.3 pp against the paper’s grid "
        f"in {_count(len(yes))} of {len(gaps)} cells"
    )
    text += f", more in {len(no)}" if no else ""
    text += f", and in {len(open_)} one cannot tell" if open_ else ""
    drops = _of_kind(file, "deviation/kappa")
    if drops:
        as_printed = _count(len(_split(drops)[0]))
        text += f"; {as_printed} of the {len(drops)} drops of Table 2 that were measured came out as printed"
    return text + "."


def _of_kind(file: VerdictFile, wanted: str) -> list[Entry]:
    """The judged claims of a kind."""
    return [e for e in file.entries if kind(e.id) == wanted and outcome_text(e) not in (NOT_RUN, CRASHED)]


def _split(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Replicated, contradicted, inconclusive."""
    by = {o: [e for e in entries if outcome_text(e) == o] for o in (REPLICATED, CONTRADICTED, INCONCLUSIVE)}
    return by[REPLICATED], by[CONTRADICTED], by[INCONCLUSIVE]


def _count(n: int) -> str:
    return str(n) if n else "none"


def _plain(x: float) -> str:
    """Two digits, and no power of ten up to a million."""
    return f"{float(f'{x:.2g}'):,.6g}" if x < 1e6 else f"{x:.1e}"


def _evidence(file: VerdictFile) -> str:
    return "made-up runs" if file.synthetic else "this probe" if file.probe else "runs at the paper's protocol"
