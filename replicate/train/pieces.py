"""Stacks in pieces that fit into memory: which lanes go together, and with which part of a state they go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

State = dict[str, Any]
"""Of a stack in training, as its checkpoint holds it."""

T = TypeVar("T")


@dataclass
class Piece:
    """Lanes from `start` to before `stop`, to be trained together from the state in which they have `begun`."""

    start: int
    stop: int
    begun: State | None = None

    def cut(self, most: int, fewest: int) -> list[Piece]:
        """Itself in pieces of at most `most` lanes; a state is filled up to `fewest`."""
        found = []
        for a in range(self.start, self.stop, most):
            b = min(a + most, self.stop)
            lanes = filled(range(a - self.start, b - self.start), fewest)
            found.append(Piece(a, b, None if self.begun is None else part(self.begun, lanes)))
        return found


def filled(lanes: Sequence[T], fewest: int) -> list[T]:
    """`lanes` and, up to `fewest`, the last one again."""
    return [*lanes, *[lanes[-1]] * (fewest - len(lanes))]


def part(state: State, lanes: Sequence[int]) -> State:
    """The state of `lanes`: whatever is a tensor or a list has the lanes first, though not all of them in `second`."""
    taken: State = {}
    for name, value in state.items():
        if isinstance(value, dict):
            taken[name] = part(value, lanes)
        elif isinstance(value, Tensor):
            taken[name] = value[[lane for lane in lanes if lane < len(value)]]
        else:
            taken[name] = [value[lane] for lane in lanes] if isinstance(value, list) else value
    return taken
