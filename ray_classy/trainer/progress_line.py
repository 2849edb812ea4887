"""The line of progress within a phase: how far the run is, how fast it trains, and when it will be over."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from ray_classy.disk_errors import size_text
from ray_classy.display import duration, rates_text


@dataclass(frozen=True)
class Figures:
    """The progress within a phase, in figures.

    Attributes:
        phase_type: "train" or "test".
        phase: the number of the phase among those of its type, from 1.
        phases: how many phases of its type the run has; None if that is not known.
        step: steps of this rank in the phase.
        steps: how many it will have; None if that is not known.
        train_step: train steps of the run.
        where: progress of the training in [0, 1].
        loss: mean over the rows of the steps since the last line, on this rank; on a display, of the last step.
        lr: learning rates of the parameter groups; None in test phases.
        samples_per_second: of all ranks together.
        data_wait: the share of the time in which the step waited for its batch, in [0, 1].
        memory: bytes; of a GPU the most that was allocated so far, else what the process has.
        epoch_left: seconds to the end of the epoch and of its test phase, as far as they are known.
        run_left: seconds to the end of the run.
    """

    phase_type: str
    phase: int
    phases: int | None = None
    step: int = 0
    steps: int | None = None
    train_step: int = 0
    where: float = 0.0
    loss: float | None = None
    lr: list[float] | None = None
    samples_per_second: float | None = None
    data_wait: float | None = None
    memory: int | None = None
    epoch_left: float | None = None
    run_left: float | None = None

    def record(self) -> dict[str, Any]:
        """As a line of `steps.jsonl`: without what is only an estimate; JSON has no infinite numbers and no NaN."""
        values = dataclasses.asdict(self)
        if self.loss is not None and not math.isfinite(self.loss):
            values["loss"] = None
        return {name: values[name] for name in values if name not in ("epoch_left", "run_left", "phases")}

    def values(self) -> dict[str, float]:
        """The numbers that loggers plot, by name."""
        rates = dict(enumerate(self.lr or [])) if self.lr and len(self.lr) > 1 else {}
        named = {
            "loss": self.loss,
            "lr": self.lr[0] if self.lr else None,
            **{f"lr_{group}": rate for group, rate in rates.items()},
            "samples_per_second": self.samples_per_second,
            "data_wait": self.data_wait,
        }
        return {name: float(value) for name, value in named.items() if value is not None}

    @property
    def title(self) -> str:
        """The phase and the step: `train 3/90  step 400/1000`."""
        return phase_title(self.phase_type, self.phase, self.phases, self.step, self.steps)

    def parts(self) -> list[str]:
        """What is known beside the title, each with its unit."""
        known = [
            ("loss {:.4f}", self.loss),
            ("lr {}", rates_text(self.lr) if self.lr else None),
            ("{:.0f} samples/s", self.samples_per_second),
            ("data wait {:.0%}", self.data_wait),
            ("memory {}", None if self.memory is None else size_text(self.memory)),
            ("epoch {} left", None if self.epoch_left is None else duration(self.epoch_left)),
            ("run {} left", None if self.run_left is None else duration(self.run_left)),
        ]
        return [form.format(value) for form, value in known if value is not None]

    def line(self) -> str:
        """As a line of the log."""
        return "  ".join([self.title, *self.parts(), f"{self.where:.0%} done"])


def phase_title(phase_type: str, phase: int, phases: int | None, step: int, steps: int | None) -> str:
    """The phase and the step; what is None is not known."""
    return f"{phase_type} {phase}{_of(phases)}  step {step}{_of(steps)}"


def _of(number: int | None) -> str:
    return "" if number is None else f"/{number}"
