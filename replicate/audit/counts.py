"""The paper's numbers of runs, grid points, saved runs and architectures, against those that its design implies."""

from __future__ import annotations

from collections.abc import Iterable

from replicate.audit.finding import Check, Finding, failing, from_checks, holding
from replicate.audit.grid import on_grid
from replicate.audit.reported import Reported, need


def _compared(paper: Reported, name: str, what: str, expected: float) -> Check:
    """The stated figure called `name` compared with the `expected` value; `what` describes the figure in reports."""
    recomputed = f"{expected:,.4g}" if expected < 1000 else f"{expected:,.0f}"
    return paper.figure(name).check(what, expected, recomputed=recomputed)


def _all(paper: Reported, table: Iterable[tuple[str, str, float]]) -> list[Check]:
    """`_compared` for each (name, what, expected) of `table` that is stated; raises NotStated if none of them is."""
    rows = list(table)
    checks = [_compared(paper, *row) for row in rows if paper.states(row[0])]
    need(checks, f"the figures {', '.join(name for name, _, _ in rows)}")
    return checks


def _listed(checks: Iterable[Check]) -> str:
    return ", ".join(f"{c.what}: {c.printed}" for c in checks)


def _points(paper: Reported) -> int:
    return sum(len(wds) for _, wds in paper.grid)


def _seeds(paper: Reported) -> int:
    return int(paper.value("count/seeds"))


def runs_per_dataset(paper: Reported) -> int:
    """Architectures times grid points times seeds."""
    return len(paper.architectures) * _points(paper) * _seeds(paper)


def run_count(paper: Reported) -> Finding:
    """`audit/run-count`: the number of runs in title, abstract, text and design."""
    one, all_ = runs_per_dataset(paper), runs_per_dataset(paper) * len(paper.datasets)
    wds = max(len(wds) for _, wds in paper.grid)
    rows = [
        ("count/architectures", "architectures", len(paper.architectures)),
        ("count/learning-rates", "learning rates", len(paper.grid)),
        ("count/weight-decays", "weight decays", wds),
        ("runs/per-dataset", "runs per data set", one),
        ("runs/total", "runs in all", all_),
        *((f"runs/{place}", f"runs in all, {place}", all_) for place in ("title", "abstract", "introduction")),
    ]
    checks = _all(paper, rows)
    wrong = failing(checks)
    evidence = (
        f"{len(paper.architectures)} architectures, {_points(paper)} grid points and {_seeds(paper)} seeds make "
        f"{one:,} runs per data set and {all_:,} on {len(paper.datasets)}"
    )
    if wrong:
        where, printed = (", ".join(dict.fromkeys(x)) for x in ([c.source for c in wrong], [c.printed for c in wrong]))
        evidence += f"; the paper states {printed} ({where})"
    return from_checks(
        checks,
        source="title, abstract, sections 1 and 3.1",
        claimed=_listed(checks[3:]),
        evidence=evidence + ".",
        assumes="every cell was trained on the whole grid with every seed",
        consistent_if="title and abstract count one data set",
    )


def grid_count(paper: Reported) -> Finding:
    """`audit/grid-count`: whether counts of grid points and runs said to exclude weight decay 0 really exclude it."""
    points, seeds = _points(paper), _seeds(paper)
    without = sum(sum(w > 0 for w in wds) for _, wds in paper.grid)
    rows = [
        ("cost/grid-points", "points of the grid", points),
        ("cost/grid-runs", "runs of the grid", points * seeds),
        ("cost/grid-points/without-zero", "points without weight decay 0", without),
        ("cost/grid-runs/without-zero", "runs without weight decay 0", without * seeds),
    ]
    checks = _all(paper, rows)
    return from_checks(
        checks,
        source="sections 3.4 and 4.3",
        claimed=_listed(checks),
        evidence=f"The grid has {points} points and {points * seeds} runs with weight decay 0, {without} and "
        f"{without * seeds} without it.",
        assumes="the grid of section 3.1",
        consistent_if="the count is said to include weight decay 0",
    )


def saving(paper: Reported) -> Finding:
    """`audit/saving`: every factor and share by which the one-dimensional search is said to cost less."""
    seeds, rates = _seeds(paper), len(paper.grid)
    line, full = rates * seeds, _points(paper) * seeds
    rows: list[tuple[str, str, float]] = [
        ("cost/line-runs", "runs of the line", line),
        ("cost/reduction", "runs saved, %", 100 * (1 - line / full)),
        ("cost/factor", "grid over line", full / line),
        ("cost/factor/introduction", "grid over line, introduction", full / line),
        ("cost/share/abstract", "line over grid, abstract", line / full),
        ("cost/share/conclusion", "line over grid, conclusion", line / full),
    ]
    for name in ("pruned", "typical"):
        if paper.states(f"cost/{name}-grid/weight-decays"):
            repeats = paper.value("cost/typical-grid/seeds") if name == "typical" else seeds
            runs = rates * paper.value(f"cost/{name}-grid/weight-decays") * repeats
            rows += [
                (f"cost/{name}-grid-runs", f"runs of the {name} grid", runs),
                (f"cost/{name}-factor", f"{name} grid over line", runs / line),
            ]
    if paper.states("cost/example-grid/seeds"):
        lrs, wds, repeats = (
            paper.value(f"cost/example-grid/{x}") for x in ("learning-rates", "weight-decays", "seeds")
        )
        rows += [
            ("cost/example-grid-runs", "points of the example", lrs * wds),
            ("cost/example-grid-runs-with-seeds", "runs of the example", lrs * wds * repeats),
        ]
    checks = _all(paper, rows)
    wrong = [f"{c.printed} ({c.source})" for c in failing(checks)]
    evidence = f"{line} runs are 1/{full / line:g} of {full}: {holding(checks)} figures agree with this ratio"
    if wrong:
        evidence += f"; {', '.join(wrong)} do not"
    details = {}
    if paper.states("cost/typical-grid/seeds"):
        like = rates * paper.value("cost/typical-grid/weight-decays") / rates
        details["typical grid over line, the same seeds for both"] = like
    return from_checks(
        checks,
        source="abstract, sections 1, 3.4, 4.3 and 7",
        claimed=_listed(checks),
        evidence=evidence + ".",
        assumes="cost is counted in runs; both searches use the same epochs",
        consistent_if="one sixth is meant as a lower bound on the saving",
        details=details,
    )


def uncounted(paper: Reported) -> Finding:
    """`audit/uncounted-runs`: how many runs the paper's statements require beyond the stated total."""
    need(paper.experiments or paper.drops, "experiments beyond the grid")
    cells, seeds = len(paper.ratios), _seeds(paper)
    off_line = sum(not on_grid(paper, lr, paper.rho * lr) for lr, _ in paper.grid)
    off_drops = sum(not on_grid(paper, lr, k * paper.rho * lr) for lr, _ in paper.grid for k in paper.kappas)
    runs = {"the line": off_line * seeds * cells, "the drops": off_drops * seeds * cells}
    parts = {what: n for what, n in (runs | {e.what: e.runs for e in paper.experiments}).items() if n}
    extra = sum(parts.values())
    grid = runs_per_dataset(paper) * len(paper.datasets)
    total = paper.figure("runs/total")
    counted, needed = total.value.value, grid + extra
    check = Check("runs in all", f"{counted:,.0f}", f"{needed:,}", holds=counted >= needed, source=total.source)
    each = ", ".join(f"{what}: {n:,}" for what, n in parts.items())
    return from_checks(
        [check],
        source="sections 3.1 and 4.2 to 4.4",
        claimed=f"{counted:,.0f} runs in all",
        evidence=f"Beyond the grids' {grid:,} runs, the paper's statements need {extra:,} more ({each})."
        if extra
        else f"The statements need no more than the {counted:,.0f} runs that the paper counts.",
        assumes="a best weight decay is found on a whole grid and a drop at every learning rate, in every cell with "
        "every seed",
        consistent_if="the robustness checks and drops rest on fewer runs than the grid, at some learning rates only",
        details=parts,
    )


def three_cnns(paper: Reported) -> Finding:
    """`audit/three-cnns`: how many of the architectures are convolutional networks."""
    need(paper.learners, "which architectures are convolutional")
    cnns = [learner.name for learner in paper.learners if learner.convolutional]
    check = _compared(paper, "count/cnns", "convolutional networks", len(cnns))
    return from_checks(
        [check],
        claimed=f"{check.printed} convolutional networks",
        evidence=f"{len(cnns)} of the {len(paper.learners)} architectures are convolutional networks "
        f"({', '.join(cnns)}); the paper says {check.printed}.",
        assumes="neither an MLP-Mixer nor a Swin transformer is a convolutional network",
        consistent_if="the paper counts another architecture as convolutional, and says which",
    )
