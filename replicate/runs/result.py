"""What a training returns, in plain values that fit a JSON record."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Any

from replicate.data.spec import Number


@dataclass(frozen=True)
class Result:
    """The outcome of one run. Accuracies are in percent of the test images."""

    accuracy_pp: Number
    """At the end of training; of a diverged run, that of guessing: 100 / number of classes."""
    best_accuracy_pp: Number
    """The largest of `history` (and of guessing, where diverged): chosen on the test images, as the paper's script
    does; never judged on."""
    diverged: bool
    """True where the loss or a weight stopped being finite; training ended there."""
    train_loss: Number | None
    """Mean over the last epoch's batches; None where diverged."""
    history: tuple[Number, ...]
    """Test accuracy at each evaluation, the last one at the end of training; a diverged run's ends where it did."""
    seconds: Number

    def __post_init__(self) -> None:
        for name in ("accuracy_pp", "best_accuracy_pp", "train_loss", "history", "seconds"):
            values = getattr(self, name)
            for value in values if isinstance(values, tuple) else (values,):
                if value is not None and not abs(value) <= sys.float_info.max:  # also a whole number beyond all floats
                    raise ValueError(f"{name}: expected a finite number, got {value!r:.80}")
        for name in ("accuracy_pp", "best_accuracy_pp"):
            value = getattr(self, name)
            if not 0 <= value <= 100:
                raise ValueError(f"{name}: expected a percentage from 0 to 100, got {value}")
        if (self.train_loss is None) != self.diverged:
            raise ValueError(
                f"expected a train_loss exactly where not diverged, got {self.train_loss}, {self.diverged}"
            )

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        return {**asdict(self), "history": list(self.history)}
