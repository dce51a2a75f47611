"""Counts: runs, grid points, savings and architectures against what the design comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from replicate.audit.finding import Check, Finding, from_checks
from replicate.audit.grid import on_grid
from replicate.audit.reported import Reported, need


def _compared(paper: Reported, name: str, what: str, expected: float, decides: bool = False) -> Check:
    """The figure called `name` against what it should be."""
    figure = paper.figure(name)
    value = figure.measured.value
    holds = value.meets(expected)
    return Check(
        what, value.text, f"{expected:,.4g}" if expected < 1000 else f"{expected:,.0f}", holds, figure.source, decides
    )


def _all(paper: Reported, table: Iterable[tuple[str, str, float]]) -> list[Check]:
    """The comparisons of those figures that the paper states; NotStated where it states none."""
    rows = list(table)
    checks = [_compared(paper, name, what, expected) for name, what, expected in rows if paper.states(name)]
    need(checks, f"the figures {', '.join(name for name, _, _ in rows)}")
    return checks


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
    checks = _all(
        paper,
        [
            ("count/architectures", "architectures", len(paper.architectures)),
            ("count/learning-rates", "learning rates", len(paper.grid)),
            ("count/weight-decays", "weight decays", wds),
            ("runs/per-dataset", "runs a data set", one),
            ("runs/total", "runs in all", all_),
            ("runs/title", "runs in all, title", all_),
            ("runs/abstract", "runs in all, abstract", all_),
            ("runs/introduction", "runs in all, introduction", all_),
        ],
    )
    wrong = [c for c in checks if not c.holds]
    evidence = (
        f"{len(paper.architectures)} architectures, {_points(paper)} grid points and {_seeds(paper)} seeds make "
        f"{one:,} runs a data set and {all_:,} on {len(paper.datasets)}"
    )
    if wrong:
        where, printed = (
            ", ".join(dict.fromkeys(texts)) for texts in zip(*((c.source, c.printed) for c in wrong), strict=True)
        )
        evidence += f"; {where} have {printed}"
    return from_checks(
        "audit/run-count", "title, abstract, sections 1 and 3.1",
        ", ".join(f"{c.what}: {c.printed}" for c in checks[3:]), checks,
        evidence + ".", "every cell was trained on the whole grid with every seed",
        "title and abstract count one data set",
    )  # fmt: skip


def grid_count(paper: Reported) -> Finding:
    """`audit/grid-count`: whether a count that is said to leave out weight decay 0 does."""
    seeds = _seeds(paper)
    without = sum(sum(w > 0 for w in wds) for _, wds in paper.grid)
    checks = _all(
        paper,
        [
            ("cost/grid-points", "points of the grid", _points(paper)),
            ("cost/grid-runs", "runs of the grid", _points(paper) * seeds),
            ("cost/grid-points/without-zero", "points without weight decay 0", without),
            ("cost/grid-runs/without-zero", "runs without weight decay 0", without * seeds),
        ],
    )
    return from_checks(
        "audit/grid-count", "sections 3.4 and 4.3", ", ".join(f"{c.what}: {c.printed}" for c in checks), checks,
        f"The grid has {_points(paper)} points and {_points(paper) * seeds} runs with weight decay 0, {without} and "
        f"{without * seeds} without it.",
        "the grid of section 3.1", "the count is said to include weight decay 0",
    )  # fmt: skip


def saving(paper: Reported) -> Finding:
    """`audit/saving`: every factor and share that the one-dimensional search is said to save."""
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
    smaller: list[tuple[str, Callable[[], tuple[float, float]]]] = [
        ("pruned", lambda: (rates * paper.value("cost/pruned-grid/weight-decays"), seeds)),
        (
            "typical",
            lambda: (rates * paper.value("cost/typical-grid/weight-decays"), paper.value("cost/typical-grid/seeds")),
        ),
    ]
    for name, size in smaller:
        if paper.states(f"cost/{name}-grid/weight-decays"):
            points, repeats = size()
            rows += [
                (f"cost/{name}-grid-runs", f"runs of the {name} grid", points * repeats),
                (f"cost/{name}-factor", f"{name} grid over line", points * repeats / line),
            ]
    if paper.states("cost/example-grid/seeds"):
        points = paper.value("cost/example-grid/learning-rates") * paper.value("cost/example-grid/weight-decays")
        rows += [
            ("cost/example-grid-runs", "points of the example", points),
            (
                "cost/example-grid-runs-with-seeds",
                "runs of the example",
                points * paper.value("cost/example-grid/seeds"),
            ),
        ]
    checks = _all(paper, rows)
    wrong = [f"{c.printed} ({c.source})" for c in checks if not c.holds]
    fine = sum(c.holds for c in checks)
    evidence = f"{line} runs against {full} are a share of 1/{full / line:g}: {fine} of {len(checks)} figures follow"
    if wrong:
        evidence += f", {', '.join(wrong)} do not"
    details = {}
    if paper.states("cost/typical-grid/seeds"):
        like = rates * paper.value("cost/typical-grid/weight-decays") / rates
        details["typical grid over line, the same seeds for both"] = like
    return from_checks(
        "audit/saving", "abstract, sections 1, 3.4, 4.3 and 7", ", ".join(f"{c.what}: {c.printed}" for c in checks),
        checks,
        evidence + ".", "cost is counted in runs; both searches use the same epochs",
        "one sixth is meant as a lower bound on what is saved", details,
    )  # fmt: skip


def uncounted(paper: Reported) -> Finding:
    """`audit/uncounted-runs`: runs that statements of the paper need beyond those it counts."""
    need(paper.experiments or paper.drops, "experiments beyond the grid")
    cells, seeds = len(paper.ratios), _seeds(paper)
    off_line = sum(not on_grid(paper, lr, paper.rho * lr) for lr, _ in paper.grid)
    off_drops = sum(not on_grid(paper, lr, k * paper.rho * lr) for lr, _ in paper.grid for k in paper.kappas)
    parts = [
        ("the line", off_line * seeds * cells, "section 4.3"),
        ("the drops", off_drops * seeds * cells, "section 4.2"),
    ]
    parts += [(e.what, e.runs, e.source) for e in paper.experiments]
    parts = [part for part in parts if part[1]]
    extra = sum(n for _, n, _ in parts)
    grid = runs_per_dataset(paper) * len(paper.datasets)
    total = paper.figure("runs/total")
    counted = total.measured.value.value
    check = Check("runs in all", f"{counted:,.0f}", f"{grid + extra:,}", counted >= grid + extra, total.source)
    each = ", ".join(f"{what}: {n:,}" for what, n, _ in parts)
    return from_checks(
        "audit/uncounted-runs", "sections 3.1 and 4.2 to 4.4", f"{counted:,.0f} runs in all", [check],
        f"Beyond the grids' {grid:,} runs the paper's statements need {extra:,} more ({each})."
        if extra else f"The {counted:,.0f} runs that are counted are all that the statements need.",
        "a best weight decay is found on a whole grid, a drop at every learning rate, each in every cell with every "
        "seed",
        "the robustness checks and drops were made on fewer runs than the grid, at some learning rates only",
        {what: n for what, n, _ in parts},
    )  # fmt: skip


def three_cnns(paper: Reported) -> Finding:
    """`audit/three-cnns`: how many of the architectures are convolutional networks."""
    need(paper.learners, "which architectures are convolutional")
    cnns = [learner.name for learner in paper.learners if learner.convolutional]
    check = _compared(paper, "count/cnns", "convolutional networks", len(cnns))
    return from_checks(
        "audit/three-cnns", check.source, f"{check.printed} convolutional networks", [check],
        f"{len(cnns)} of the {len(paper.learners)} architectures are convolutional networks ({', '.join(cnns)}); the "
        f"paper has {check.printed}.",
        "an MLP-Mixer is no convolutional network, nor is a Swin transformer",
        "one of the others is counted among them, and named",
    )  # fmt: skip
