"""The result of a training, in plain values that fit a JSON record."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Any

from replicate.data.spec import Number


@dataclass(frozen=True)
class Result:
    """The result of one run. Accuracies are in percent of the test images."""

    accuracy_pp: Number
    """At the end of training; for a diverged run the accuracy of guessing, 100 / number of classes."""
    best_accuracy_pp: Number
    """The largest value of `history`; if diverged, at least the accuracy of guessing. It is chosen on the test images,
    as in the paper's script, so no verdict uses it."""
    diverged: bool
    """Whether the loss or a weight became infinite or NaN, which ended the training."""
    train_loss: Number | None
    """Mean over the batches of the last epoch; None if diverged."""
    history: tuple[Number, ...]
    """Test accuracy at each evaluation; the last one is at the end of training or before the run diverged."""
    seconds: Number

    def __post_init__(self) -> None:
        for name in ("accuracy_pp", "best_accuracy_pp", "train_loss", "history", "seconds"):
            values = getattr(self, name)
            for value in values if isinstance(values, tuple) else (values,):
                if value is not None and not abs(value) <= sys.float_info.max:  # an int may exceed all floats
                    raise ValueError(f"{name}: expected a finite number, got {value!r:.80}")
        for name in ("accuracy_pp", "best_accuracy_pp"):
            value = getattr(self, name)
            if not 0 <= value <= 100:
                raise ValueError(f"{name}: expected a percentage from 0 to 100, got {value}")
        if (self.train_loss is None) != self.diverged:
            raise ValueError(
                f"train_loss: expected None if and only if diverged, got {self.train_loss} and diverged={self.diverged}"
            )

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types."""
        return {**asdict(self), "history": list(self.history)}
