"""The findings as one page for people, in Markdown, rewritten whenever something is found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from first_minutes import pieces
from first_minutes.evidence import RECORDED
from first_minutes.findings import Findings, Found
from first_minutes.trial import Trial
from replicate.store import atomic
from replicate.text import one_line

FILE = "summary.md"
SHOWN_KERNELS = 8
"""Kernels shown per architecture; the findings have twenty."""


def write(tried: Trial, findings: Findings) -> None:
    """Write the page beside the findings."""
    atomic.write_text(findings.folder / FILE, page(tried, findings))


def page(tried: Trial, findings: Findings) -> str:
    """The whole page."""
    what = "rehearsal with small models" if tried.rehearsed else f"{tried.lanes} lanes at the shapes of"
    lines = [f"# First minutes on {tried.device}: {what} {tried.shapes.name}".rstrip(), ""]
    lines += _health(findings.get("health"))
    lines += _correctness(findings.get("correctness"))
    lines += _architectures(tried, findings)
    lines += _projection(findings.get("projection"))
    lines += _evidence(findings.get("evidence"))
    for arch in tried.architectures:
        lines += _kernels(arch, findings.good(f"{arch}/profile"))
    lines += _missing(tried, findings)
    return "\n".join(lines) + "\n"


def _health(found: Found | None) -> list[str]:
    if found is None:
        return ["Health: not checked yet.", ""]
    shown = {name: value for name, value in found.items() if name not in ("gpus", "versions", "error")}
    lines = ["## Health", ""]
    lines += [f"**{found['error']}**", ""] if "error" in found else []
    for gpu in found.get("gpus", []):
        lines.append("- " + ", ".join(f"{name} {value}" for name, value in gpu.items()))
    lines.append("- " + ", ".join(f"{name} {value}" for name, value in found["versions"].items()))
    lines.append("- " + ", ".join(f"{name} {_shown(value)}" for name, value in shown.items()))
    return [*lines, ""]


def _correctness(found: Found | None) -> list[str]:
    if found is None:
        return []
    tests: Mapping[str, Found] = found["tests"]
    count = {word: sum(t["outcome"] == word for t in tests.values()) for word in ("passed", "failed", "skipped")}
    lines = ["## Correctness (ci/test_gpu.py)", "", ", ".join(f"{n} {word}" for word, n in count.items()), ""]
    for name, test in tests.items():
        if test["outcome"] != "passed":
            lines.append(f"- {test['outcome']}: `{name}`: {test.get('error') or test.get('why') or ''}")
    return [*lines, ""]


def _architectures(tried: Trial, findings: Findings) -> list[str]:
    header = ("", "compiled in", "a step", "images/s", "x loop", "evaluation", "an epoch's start", "peak", "apart")
    rows = []
    for arch in tried.architectures:
        compile_, steps, replays, evaluation, starts, memory, beside = (
            findings.good(f"{arch}/{piece}") or {}
            for piece in ("compile", "steps", "replays", "evaluation", "augmentation", "memory", "beside")
        )
        step, loop = replays.get("step_seconds"), beside.get("loop_step_seconds")
        target = starts.get("by_scale", {}).get(tried.target.name, {})
        apart = "" if not steps else f"{steps['apart']:.2g}{'' if steps['agrees'] else ' (too far)'}"
        rows.append(
            (
                arch,
                _unit(compile_.get("seconds"), "s") if compile_.get("compiled") else "not compiled" if compile_ else "",
                _unit(None if step is None else 1e3 * step, "ms"),
                _unit(replays.get("images_per_second"), ""),
                _unit(None if step is None or loop is None else loop * tried.lanes / step, ""),
                _unit(evaluation.get("seconds"), "s"),
                _unit(target.get("seconds"), "s"),
                _unit(memory.get("peak_gb"), "GB"),
                apart,
            )
        )
    said = (
        f"A step trains {tried.lanes} runs together; an epoch's start augments the images of {tried.target.name}; "
        "apart: largest relative difference of the losses of stack and plain loop in the first steps."
    )
    return ["## Architectures", "", *_table(header, rows), "", said, ""]


def _projection(found: Found | None) -> list[str]:
    if not found or not found["architectures"]:
        return []
    header = ("", "runs of the grid", "hours", "all runs", "hours", "grid as the script trains", "speed-up over script")
    rows: list[Sequence[object]] = [
        (
            arch,
            of["grid_runs"],
            _unit(of["grid_hours"], ""),
            of["all_runs"],
            _unit(of["all_hours"], ""),
            _unit(of["script_grid_hours"], "h"),
            _unit(of["times_the_script"], ""),
        )
        for arch, of in found["architectures"].items()
    ]
    total = (found["grid_runs"], _unit(found["grid_hours"], ""), found["all_runs"], _unit(found["all_hours"], ""))
    rows.append(("total" if found["complete"] else "total of the rows above", *total, "", ""))
    return [f"## Projected for {found['scale']}, one device", "", *_table(header, rows), ""]


def _evidence(found: Found | None) -> list[str]:
    if not found:
        return []
    if "error" in found:
        return ["## Evidence", "", found["error"], ""]
    by_arch = ", ".join(f"{arch} {count}" for arch, count in found["by_architecture"].items())
    said = (
        f"{found['runs']} of {found['wanted']} runs of {found['scale']} ({by_arch}) on {', '.join(found['devices'])}."
    )
    where = f"Copy `{RECORDED}/{found['scale']}` to `fixtures/recorded/` to keep them with the source."
    return ["## Evidence", "", said, where if found["runs"] else "", ""]


def _kernels(arch: str, found: Found | None) -> list[str]:
    if found is None:
        return []
    budget = found["budget"]
    allowed = ", ".join(f"{name} {_shown(value)}" for name, value in budget.items()) if budget else "no budget known"
    header = ("kernel", "launches", "µs a step", "share", "GB/s")
    rows = [
        (
            f"`{one_line(row['name'])[:70]}`",
            _unit(row["launches"], ""),
            _unit(row["microseconds"], ""),
            f"{row['share']:.1%}",
            _unit(row["gb_per_second"], ""),
        )
        for row in found["kernels"][:SHOWN_KERNELS]
    ]
    title = f"## Kernels of {arch}: {1e3 * found['kernel_seconds']:.3g} ms a step"
    return [title, "", f"Budget: {allowed}.", "", *_table(header, rows), ""]


def _missing(tried: Trial, findings: Findings) -> list[str]:
    left, wrong = pieces.missing(tried, findings), pieces.errors(tried, findings)
    lines = ["## Missing findings", "", ", ".join(left) if left else "nothing", ""]
    if not tried.rehearsed:
        lines += ["To let trainings reuse the compiled kernels, run in this folder:", "", "```"]
        lines += ["export TORCHINDUCTOR_BENCHMARK_KERNEL=1", 'export TORCHINDUCTOR_CACHE_DIR="$PWD/caches/inductor"']
        lines += ['export TRITON_CACHE_DIR="$PWD/caches/triton"', "```", ""]
    if wrong:
        lines += ["## Errors", "", *(f"- {name}: {error}" for name, error in wrong.items()), ""]
    return lines


def _table(header: Iterable[object], rows: Iterable[Sequence[object]]) -> list[str]:
    names = [str(name) for name in header]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return lines + [f"| {' | '.join(str(value) for value in row)} |" for row in rows]


def _unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.0f} {unit}".rstrip() if value >= 100 else f"{value:.3g} {unit}".rstrip()


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
