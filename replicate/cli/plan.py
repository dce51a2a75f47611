"""`replicate plan`: how many runs a scale needs for each cell and grid, their cost, and the claims that need them."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from replicate.cli.options import use_images
from replicate.cli.output import columns, note, print_json
from replicate.cli.stored import to_read
from replicate.paper.registry import CLAIMS
from replicate.runs import scales
from replicate.runs.needed import runs_at
from replicate.runs.run import Run
from replicate.runs.stacks import stacks
from replicate.store import recorded
from replicate.store.store import Store
from replicate.text import UsageError, duration
from replicate.train.engine import devices
from replicate.train.engine.missing import MOST_RUNS
from replicate.train.plan import costs, milestones, priority, scale_choice
from replicate.train.plan.milestones import Milestones
from replicate.train.plan.plan import Plan, make_plan


def run(options: argparse.Namespace) -> int:
    scale, why = scale_choice.choose(options.scale)
    if options.scale == scale_choice.AUTO:
        note(f"scale {scale.name} ({why})")
    store = _store(options.store, scale)
    use_images(options.data)
    measured = _measured(scale, store) if options.measure else None
    if measured and store:
        _keep(store, scale, measured)
    plan = make_plan(CLAIMS, scale, store, measured)
    steps = priority.best_first(CLAIMS, scale, store, plan.rates)
    models = _models(plan) if options.keep_models else None
    stored = store.keys() if store else set()
    reached = {name: milestones.of(CLAIMS, scale, stored, plan.rates, two) for name, two in WAYS.items()}
    if options.json:
        more: dict[str, Any] = {} if models is None else {"model_bytes": models}
        more["milestones"] = {name: asdict(found) for name, found in reached.items()}
        print_json(plan.to_json() | {"store": options.store, "order": [_step(step) for step in steps]} | more)
    else:
        print(text(plan, options.store))
        if models is not None:
            of = {name: f"{size:,} bytes" for name, size in models.items()}
            print(f"models: {of['to_train']} for the runs to train, {of['needed']} for all runs, with --keep-models")
        print(_milestones_text(reached))
        print(_order_text(steps))
    return 0


def _models(plan: Plan) -> dict[str, int]:
    """Bytes of the kept models of all runs of `plan`, and of its missing runs, if no run diverges."""
    from replicate.train.kept_models import bytes_of  # not at the top: it needs the GPU stack

    return {"needed": bytes_of(plan.runs), "to_train": bytes_of(plan.missing)}


def _measured(scale: scales.Scale, store: Store | None) -> dict[str, float]:
    """Architecture → seconds of one device per run, measured by training a few steps.

    A GPU is locked meanwhile: another training on it would slow the measurement and take memory.
    """
    if scale.why_untrainable:
        raise UsageError(f"--measure: scale {scale.name} cannot be measured: {scale.why_untrainable}")
    from replicate.train.engine import lease
    from replicate.train.price import seconds_per_run  # not at the top: they need the GPU stack
    from replicate.train.stacked import FEWEST_LANES, LANES

    if why := devices.unseen(runs_at(scale)):
        note(why)
    slots = devices.slots()
    of_arch: dict[str, list[Run]] = {}
    for run in runs_at(scale):
        of_arch.setdefault(run.arch, []).append(run)
    found: dict[str, float] = {}
    with lease.to_measure(store, slots, note) as slot:
        for arch, runs in of_arch.items():
            of_main = [run for run in runs if scales.relative_cost(scale, run) == 1]
            if not of_main:
                continue
            note(f"measuring {arch} on {slot.device}")
            most = MOST_RUNS if slot.device == devices.CPU else LANES
            typical = statistics.median_high(len(stack) for stack in stacks(runs, most))
            found[arch] = seconds_per_run(of_main[0], slot.device, max(typical, FEWEST_LANES))
    return found


def _keep(store: Store, scale: scales.Scale, measured: Mapping[str, float]) -> None:
    try:
        costs.keep(store.layout, scale.name, measured)
    except OSError as error:
        note(f"cannot keep the measured costs in {store.path}: {error.strerror}; --budget will not use them")


def _step(step: priority.Step) -> dict[str, Any]:
    hours = None if step.seconds is None else round(step.seconds / 3600, 4)
    an_hour = len(step.claims) * 3600 / step.seconds if step.seconds else None
    per_hour = None if an_hour is None else round(an_hour, 4)
    counts = {"claims": list(step.claims), "runs": len(step.runs)}
    return counts | {"device_hours": hours, "claims_per_device_hour": per_hour}


WAYS = {"all seeds": False, "--until settled": True}
"""How runs are trained → True if claims are judged on two seeds first, on all seeds only if that is inconclusive."""


def _milestones_text(reached: Mapping[str, Milestones]) -> str:
    """A table: how many runs are still to train, in the order without `--budget`, before the first and last verdict."""
    header = ("trained with", "first provisional", "first final", "last, at least", "last, at most")
    rows = []
    for name, found in reached.items():
        of_each = (found.first_provisional, found.first_final, found.last_at_least, found.last)
        rows.append((name, *("none" if when is None else _when(when) for when in of_each)))
    return f"\nruns still to train before each verdict (and hours of one device):\n{columns(header, rows)}"


def _when(when: milestones.When) -> str:
    hours = "?" if when.device_hours is None else f"{when.device_hours:.2f}"
    return f"{when.runs:,} runs ({hours} h)"


MOST_STEPS = 12
"""The table of the order of training has at most this many rows; the JSON has all."""


def _order_text(steps: Sequence[priority.Step]) -> str:
    """A table of the steps in which `--budget` trains: totals so far, and claims that can be judged per hour."""
    rows, seconds, runs, claims = [], 0.0, 0, 0
    for step in steps:
        seconds += step.seconds or 0.0
        runs += len(step.runs)
        claims += len(step.claims)
        known = all(s.seconds is not None for s in steps)
        hours = (step.seconds or 0.0) / 3600
        an_hour = "now" if not step.runs else f"{len(step.claims) / hours:.3g}" if known and hours else "?"
        rows.append((f"{seconds / 3600:.2f}" if known else "?", runs, claims, an_hour, _families(step.claims)))
    left_out = (f"… {len(rows) - MOST_STEPS} more", "", "", "", "all are in --json")
    shown = rows if len(rows) <= MOST_STEPS else [*rows[: MOST_STEPS - 1], left_out, rows[-1]]
    header = ("hours", "runs", "claims judged", "claims per hour", "families of this step")
    return f"\nmost claims per hour first (the order of --budget TIME; totals so far):\n{columns(header, shown)}"


def _store(path: str, scale: scales.Scale) -> Store | None:
    """The store at `path`, read-only; None if it does not exist and the source tree has no runs of `scale`."""
    if not _exists(path) and not recorded.of_scale(scale.name):
        note(f"there is no store at {path} yet: all runs count as missing")
        return None
    return to_read(path, scale)


def text(plan: Plan, store: str) -> str:
    """The plan as text for people."""
    scale = plan.scale
    kind = "a probe: its verdicts do not apply to the paper's cells" if scale.probe else "the paper's protocol"
    too_small = "change a float32 weight"
    if scale.no_effect_below:
        too_small = f"shrink the weights by {100 * scale.no_effect_below:g} % over a training"
    lines = [
        f"scale {scale.name}: {scale.summary} ({kind})",
        f"runs: {at_least(len(plan.runs), plan.most)} needed, {plan.stored} in {store}, "
        f"{at_least(plan.to_train, plan.most - plan.stored)} to train",
        f"landscape points: {plan.points}; {plan.inert} of them share the run at weight decay 0, because their weight "
        f"decay is too small to {too_small}",
        _cost(plan),
        f"claims: {len(plan.trained)} can be judged at this scale, {len(plan.left_out)} cannot",
    ]
    if scale.why_untrainable:
        lines.append(f"not yet trainable: {scale.why_untrainable}")
    rows = []
    for p in plan.parts:
        hours = "?" if p.seconds_to_train is None else f"{p.seconds_to_train / 3600:.2f}"
        runs = str(len(p.runs)) if p.most == len(p.runs) else f"{len(p.runs)}-{p.most}"
        counts = (p.points, runs, p.stored, p.to_train, hours, len(p.claims))
        rows.append((p.part.cell.id, p.part.variant, p.part.grid, *counts, _families(p.claims)))
    header = ("cell", "variant", "grid", "points", "runs", "stored", "to train", "hours", "claims", "families")
    lines += ["", columns(header, rows), "Rows share runs, so the columns add up to more than the totals above."]
    if plan.most > len(plan.runs):
        lines.append(
            "Results decide how far the bracket around an optimum is extended. Of two numbers, the second is the most "
            "that may be needed; points, runs to train and hours of a row are the least."
        )
    reasons: dict[str, list[str]] = {}
    for claim, reason in plan.left_out.items():
        reasons.setdefault(reason, []).append(claim)
    if reasons:
        lines += ["", "claims that cannot be judged at this scale:"]
        lines += [f"  {len(of_reason)} ({_families(of_reason)}): {reason}" for reason, of_reason in reasons.items()]
    return "\n".join(lines)


def _families(claims: list[str] | tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(claim.split("/")[0] for claim in claims))


def _cost(plan: Plan) -> str:
    if plan.seconds is None or plan.seconds_to_train is None:
        return f"cost: {plan.rates.source}"
    most = plan.most_seconds_to_train
    cost = duration(plan.seconds_to_train)
    if plan.most > len(plan.runs) and most is not None:
        cost = f"at least {cost} and at most {duration(most)}"
    return (
        f"cost: {cost} on one {plan.rates.device} for the runs to train, {duration(plan.seconds)} for all; "
        f"{plan.rates.source}"
    )


def at_least(least: int, most: int) -> str:
    """`5`, or `at least 5 and at most 9`."""
    return str(least) if least == most else f"at least {least} and at most {most}"


def _exists(path: str | Path) -> bool:
    try:
        return Path(path).exists()
    except OSError:
        return True  # opening the store will report what is wrong with its name
