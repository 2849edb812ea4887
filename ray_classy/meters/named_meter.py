"""A meter under a name of its own, which may measure one of several targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ray_classy.errors import CheckpointError, ComponentError
from ray_classy.meters.classy_meter import ClassyMeter


class NamedMeter(ClassyMeter):
    """Gives a meter another name: "colour/accuracy" is the accuracy of the target `colour`, "f1_macro" some F1.

    Args:
        name: its name in logs and metrics; what stands before a slash is the target that it measures, whose output has
            the same name.
        meter: any meter.

    Attributes:
        meter: the meter.
        target: the name of the target; "" if there is only one.
    """

    def __init__(self, name: str, meter: ClassyMeter) -> None:
        self._name = name
        self.meter = meter
        self.target = name.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The meter's name in logs and metrics."""
        return self._name

    @property
    def value(self) -> Any:
        """The measurements by name."""
        return self.meter.value

    @property
    def sample_keys(self) -> tuple[str, ...]:  # type: ignore[override]
        """Entries of a sample that the meter gets."""
        return getattr(self.meter, "sample_keys", ())

    def update(self, model_output: Any, target: Any, **kwargs: Any) -> None:
        """Counts one batch of the target.

        Raises:
            ComponentError: there is no such target, or no such output.
        """
        self.meter.update(self._part("head", model_output), self._part("target", target), **kwargs)

    def _part(self, what: str, values: Any) -> torch.Tensor:
        if not self.target:
            return values
        if not isinstance(values, Mapping) or self.target not in values:
            there = ", ".join(map(str, values)) if isinstance(values, Mapping) else f"only one {what}"
            raise ComponentError(
                f"meter {self.name!r} measures the {what} {self.target!r}, and there is {there}: name it "
                f"TARGET/METER, and give each target a head with its name as unique_id"
            )
        return values[self.target]

    def set_classes(self, number: int | None, names: list[str] | None, several: bool) -> None:
        """Tells the meter the classes of the target; see `ClassyMeter`."""
        if hasattr(self.meter, "set_classes"):
            self.meter.set_classes(number, names, several)

    def reset(self) -> None:
        """Resets all counts to 0."""
        self.meter.reset()

    def sync_state(self) -> None:
        """Sums the counts of all processes."""
        self.meter.sync_state()

    def validate(self, model_output_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> None:
        """Raises a ComponentError if the meter cannot measure outputs and targets of these shapes."""
        self.meter.validate(model_output_shape, target_shape)

    def get_classy_state(self) -> dict[str, Any]:
        """Returns the meter's state under its name."""
        return {"name": self.name, "meter": self.meter.get_classy_state()}

    def set_classy_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_classy_state` returned."""
        if state.get("name") != self.name or not isinstance(state.get("meter"), Mapping):
            raise CheckpointError(
                f"the checkpoint's meter is {state.get('name')!r}, this one is {self.name!r}: use the meters of the "
                f"run that wrote the checkpoint"
            )
        self.meter.set_classy_state(state["meter"])
