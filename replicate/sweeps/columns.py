"""Finds the columns of a table: learning rate, weight decay, score and so on, by name or as the caller says.

If several columns could be meant, an error asks for a choice. Notes report columns used under other names, and whether
higher or lower is better where the name leaves it open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replicate.sweeps import names
from replicate.sweeps.names import Measure
from replicate.sweeps.numbers import number
from replicate.sweeps.table import Table, listed
from replicate.sweeps.vocabulary import ACCURACY, ALIASES, HIGHER, LOSS, OPTIMIZER, QUALIFIERS, SCORE, UNKNOWN
from replicate.text import UsageError

METRICS = (ACCURACY, LOSS, SCORE)
FIELDS = ("lr", "wd", *METRICS, "seed", "arch", "dataset", "run", "step", "state")
"""Fields that `--columns` can name."""
QUIET = ("n", "observed", "lost", "direction", "state", "run", "step")
"""Fields whose columns are used without a note that names them."""
UNNAMED = "unnamed"
"""Architecture or data set of a sweep that does not name it."""
SURE = (0, 3)
"""Values of `names.Measure.tier` for names that beyond doubt denote an accuracy (0) or a loss (3)."""
BITS = {"8", "16", "32", "64"}
DIRECTIONS = {"max": SCORE, "min": LOSS}


@dataclass(frozen=True)
class Metric:
    """The score that is judged: its column and kind."""

    column: str
    kind: str
    """accuracy (will be converted to percent), loss (lower is better), or score (higher is better)."""
    spread: str = ""
    """The column of the score's standard deviation or standard error; empty if there is none."""
    standard_error: bool = False

    @property
    def sign(self) -> float:
        return -1.0 if self.kind == LOSS else 1.0


def parse_columns(arguments: Sequence[str]) -> dict[str, str]:
    """Field → column from arguments such as `lr=config.lr,wd=params_wd`; raises UsageError for other arguments."""
    columns: dict[str, str] = {}
    for pair in (pair for argument in arguments for pair in argument.split(",")):
        field, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or field not in FIELDS or not column:
            raise UsageError(f"--columns: expected FIELD=COLUMN with FIELD one of {', '.join(FIELDS)}; got {pair!r}")
        if field in columns:
            raise UsageError(f"--columns: expected each field once, got {field}={columns[field]} and {pair}")
        columns[field] = column
    return columns


def names_both(header: Sequence[str]) -> bool:
    """Whether a table has columns of learning rates and of weight decays."""
    return all(any(names.tier(column, field) is not None for column in header) for field in ("lr", "wd"))


def find_columns(
    table: Table, asked: str | None, columns: Mapping[str, str], notes: list[str]
) -> tuple[dict[str, str], Metric]:
    """Field → column, for every field that the table has, and the metric.

    `asked`: the metric that the caller names, if any; `columns`: field → column, as the caller names them. Decisions
    are added to `notes`. Raises UsageError if a column is missing or ambiguous.
    """
    found: dict[str, str] = {}
    for field, column in columns.items():
        if column not in table.header:
            raise UsageError(f"{table.name}: --columns {field}={column}: no such column; the table has {table.columns}")
    for field in ALIASES:
        chosen = (
            columns[field] if field in columns else _guess(table, field, set(columns.values()) | set(found.values()))
        )
        if chosen is not None:
            found[field] = chosen
    told: list[str] = []
    metric, why_not = _metric(table, asked, columns, told)
    missing = [field for field in ("lr", "wd") if field not in found]
    if missing or metric is None:
        if metric is None:
            missing.append(asked.partition(":")[0] if asked else "accuracy or loss")
        if why_not and missing[:-1] == []:
            raise UsageError(f"{table.name}: {why_not}")
        raise UsageError(
            f"{table.name}: expected columns lr, wd and accuracy or loss; found none for {', '.join(missing)} among "
            f"{table.columns}; name them with --columns, e.g. --columns {missing[0].split()[0]}=NAME"
        )
    notes += told
    found = {field: column for field, column in found.items() if column not in (metric.column, metric.spread)}
    renamed = [
        f"{field}={column}"
        for field, column in [*found.items(), (metric.kind, metric.column)]
        if field != column and field not in columns and field not in QUIET
    ]
    if renamed:
        order = ("lr", "wd", *METRICS)
        renamed.sort(key=lambda one: order.index(f) if (f := one.partition("=")[0]) in order else len(order))
        notes.append(f"taking {', '.join(renamed)}")
    return found, metric


def _guess(table: Table, field: str, taken: set[str]) -> str | None:
    """The column of `field`, or None; UsageError if several columns with different contents may be meant."""
    places = {column: place for column in table.header if (place := names.tier(column, field)) is not None}
    places = {column: place for column, place in places.items() if column not in taken and _fits(table, column, field)}
    if not places:
        return None
    best = min(places.values())
    candidates = [column for column, place in places.items() if place == best]
    if field in ("run", "step", "state", "n", "observed", "lost", "direction"):
        return candidates[0]
    # An export may contain a setting twice; columns with equal contents are no conflict.
    if len({tuple(table.values(column)) for column in candidates}) > 1:
        examples = f"--columns {field}={candidates[0]}"
        raise UsageError(
            f"{table.name}: {field} may be any of the columns {listed(candidates, 6)}; say which, e.g. {examples}"
        )
    return candidates[0]


def _fits(table: Table, column: str, field: str) -> bool:
    """Whether a column's values fit the meaning of its name: `n` needs counts, `step` needs varying numbers."""
    values = [value for value in table.values(column)[:200] if value]
    if field == "n":
        counts = [found.value for value in values if (found := number(value)) is not None]
        return bool(counts) and len(counts) == len(values) and all(n >= 0 and n.is_integer() for n in counts)
    if field == "step":
        return len(set(values)) > 1 and all(number(value) is not None for value in values)
    return True


def _metric(table: Table, asked: str | None, columns: Mapping[str, str], notes: list[str]) -> tuple[Metric | None, str]:
    """The metric and an empty text; or None and the reason, empty if no column has the name of a metric."""
    measures = {column: one for column in table.header if (one := names.measure(column)) is not None}
    measures = {column: one for column, one in measures.items() if column not in columns.values() or one.spread}
    spreads = {column: one for column, one in measures.items() if one.spread}
    plain = {column: one for column, one in measures.items() if not one.spread}
    scores = {column: one for column, one in plain.items() if _holds(table, column, one)}
    scores = scores or {column: one for column, one in plain.items() if one.tier in SURE}
    name, _, direction = (
        (asked or "").strip().rpartition(":")
        if asked and asked.rstrip().endswith((":max", ":min"))
        else (asked or "", "", "")
    )
    named = [m for m in METRICS if m in columns]
    if len(named) > 1 and name not in named:
        raise UsageError("--columns: expected accuracy or loss, got both; name one, or choose with --metric")
    if named and name in METRICS and name not in named:
        raise UsageError(f"--columns: expected {name}=… as --metric {name} says, got {named[0]}=…")
    if named:
        kind = name if name in named else named[0]
        return _with_spread(columns[kind], kind, spreads), ""
    if name and name not in METRICS:
        return _asked(table, name, direction, measures, spreads), ""
    wanted = {column: one for column, one in scores.items() if not name or one.kind in (name, UNKNOWN)}
    if name and name not in table.header:  # the most certain column of this kind
        wanted = {c: m for c, m in wanted.items() if m.kind == name} or wanted
    if not wanted:
        return None, ""
    order = min(one.tier for one in wanted.values())
    best = [column for column, one in wanted.items() if one.tier == order]
    best = [name] if name in best else [column for column in best if not names.selects(column)] or best
    if len({tuple(table.values(column)) for column in best}) > 1:
        kind = wanted[best[0]].kind
        field = kind if kind in METRICS else "metric"
        way = f"--columns {field}={best[0]}" if kind in METRICS else f"--metric {best[0]}:max"
        raise UsageError(f"{table.name}: {field} may be any of the columns {listed(best, 6)}; say which, e.g. {way}")
    column, found = best[0], wanted[best[0]]
    kind = name if found.kind == UNKNOWN and name else found.kind
    if kind == UNKNOWN:
        kind = _told(table, column, notes)
        if not kind:
            return None, (
                f"column {column} may be an accuracy or a loss; say --metric accuracy or --metric loss (or "
                f"{column}:max or {column}:min)"
            )
    if direction:
        kind = kind if (kind in HIGHER) == (direction == "max") else DIRECTIONS[direction]
    if found.tier == 5 and not name:
        notes.append(f"{column}: higher is taken as better; if lower is better, use --metric {column}:min")
    _others(column, kind, scores, notes)
    return _with_spread(column, kind, spreads), ""


def _asked(
    table: Table, name: str, direction: str, measures: Mapping[str, Measure], spreads: Mapping[str, Measure]
) -> Metric:
    """The metric whose column the caller names; UsageError if there is none, or whether higher is better is unknown."""
    same = [c for c in table.header if c == name] or [
        c for c in table.header if name.lower() in (c.lower(), names.plain(c)) or c.lower().endswith("/" + name.lower())
    ]
    if len(same) != 1:
        what = f"several columns ({listed(same, 4)})" if same else "no such column"
        raise UsageError(
            f"{table.name}: --metric {name}: {what}; the table has {table.columns}; or use --metric accuracy or "
            "--metric loss to choose one by its name"
        )
    found = measures.get(same[0])
    kind = found.kind if found is not None else UNKNOWN
    if not direction and kind == UNKNOWN:
        kind = _told(table, same[0], [])
        if not kind:
            raise UsageError(
                f"{table.name}: --metric {name}: the name does not say whether higher or lower is better; use "
                f"--metric {name}:max or {name}:min"
            )
    if direction and (kind == UNKNOWN or (kind in HIGHER) != (direction == "max")):
        kind = DIRECTIONS[direction]
    return _with_spread(same[0], kind, spreads)


def _told(table: Table, column: str, notes: list[str]) -> str:
    """Accuracy, loss or score, for a column whose name does not say: by a direction column or % signs; else empty."""
    for direction in [c for c in table.header if names.tier(c, "direction") is not None]:
        words = {value.strip("[]'\" ").rpartition(".")[2].lower()[:3] for value in table.values(direction) if value}
        if len(words) == 1 and words <= {"max", "min"}:
            return DIRECTIONS[words.pop()]
    values = [value for value in table.values(column) if number(value, table.decimal_comma) is not None]
    if values and all(value.rstrip("* ").endswith("%") for value in values):
        notes.append(f"{column}: percentages, taken as an accuracy; if lower is better, use --metric {column}:min")
        return ACCURACY
    return ""


def _others(column: str, kind: str, scores: Mapping[str, Measure], notes: list[str]) -> None:
    """Adds a note on other columns that `--metric` could choose."""
    others = {c: m for c, m in scores.items() if c != column and m.kind in METRICS}
    if kind == ACCURACY and (losses := [c for c, m in others.items() if m.kind == LOSS and m.tier == 3]):
        notes.append(f"judging accuracy ({column}); --metric loss judges {losses[0]}")
    elif others:
        shown = listed(list(others), 4)
        notes.append(f"judging {column}; --metric NAME judges another: {shown}")


def _with_spread(column: str, kind: str, spreads: Mapping[str, Measure]) -> Metric:
    """The metric with the column of its standard deviation or error, if exactly one column matches it by name."""
    own = names.measure(column)
    base = {word for part in names.parts(column) for word in part} - QUALIFIERS
    same = [
        c
        for c, m in spreads.items()
        if c != column
        and (m.tier == 9 or (own is not None and m.kind == own.kind and base <= {w for p in names.parts(c) for w in p}))
    ]
    if len(same) != 1:
        return Metric(column, kind)
    return Metric(column, kind, same[0], spreads[same[0]].spread == "sem")


def _holds(table: Table, column: str, found: Measure) -> bool:
    """Whether a column's values can be scores: a column `error` may have texts of exceptions, `precision` bits."""
    values = [value for value in table.values(column) if value]
    if values and not any(number(value, table.decimal_comma) is not None for value in values[:1000]):
        return False
    return found.tier in SURE or not values or not set(values) <= BITS


def one_optimizer(table: Table, taken: Sequence[str]) -> None:
    """Raises UsageError if runs of several optimisers would be judged as one cell; columns in `taken` are skipped."""
    for column in table.header:
        if names.plain(column) not in OPTIMIZER or column in taken:
            continue
        values = sorted({value.lower() for value in table.values(column)})
        if len(values) > 1:
            shown = ", ".join(repr(value[:40]) for value in values[:4])
            raise UsageError(
                f"{table.name}: expected the runs of one optimizer, got {len(values)} values "
                f"({shown}) in column {column}; keep the rows of one, or judge each separately: --columns "
                f"arch={column}"
            )
