"""The base class of meters, their registry, and how configs are built into meters."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from ray_classy.errors import ConfigError
from ray_classy.registry import Registry, construct, named_component, reads_signature

METER_REGISTRY: Registry[Any] = Registry(
    "meter",
    {
        "accuracy": "ray_classy.meters.accuracy_meter:AccuracyMeter",
        "auroc": "ray_classy.meters.classification_metrics:AUROCMeter",
        "average_precision": "ray_classy.meters.classification_metrics:AveragePrecisionMeter",
        "calibration_error": "ray_classy.meters.classification_metrics:CalibrationErrorMeter",
        "confusion_matrix": "ray_classy.meters.classification_metrics:ConfusionMatrixMeter",
        "f1": "ray_classy.meters.classification_metrics:F1Meter",
        "precision_at_k": "ray_classy.meters.precision_meter:PrecisionAtKMeter",
        "recall_at_k": "ray_classy.meters.recall_meter:RecallAtKMeter",
        "torchmetrics": "ray_classy.meters.torchmetrics_meter:TorchMetricsMeter",
        "video_accuracy": "ray_classy.meters.video_accuracy_meter:VideoAccuracyMeter",
    },
)
register_meter = METER_REGISTRY.register


class ClassyMeter(ABC):
    """Measures the outputs of a phase.

    The task resets it at the start of a phase, updates it in every step, and synchronises it once, at the end of the
    phase. `value` may be read at any time: it covers the counts of all processes up to the last synchronisation, and
    those of this process since.

    A meter that needs to know the classes of the targets defines `set_classes(number, names, several)`, which is called
    when a task is built and when classes are matched: with the number of outputs, the names of the classes in the order
    of their indices (None for each that is not known), and whether a row may have several of them.

    Attributes:
        sample_keys: names of entries of a sample that `update` gets as keyword arguments, where the sample has them.
    """

    sample_keys: tuple[str, ...] = ()

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> ClassyMeter:
        """Builds the meter from its config: the constructor's arguments by name."""
        return construct(cls, config)

    @property
    @abstractmethod
    def name(self) -> str:
        """The meter's name in logs and metrics."""

    @property
    @abstractmethod
    def value(self) -> Any:
        """The measurements by name; reading it may wait for the device."""

    @abstractmethod
    def update(self, model_output: torch.Tensor, target: torch.Tensor, **kwargs: Any) -> None:
        """Counts one batch, without waiting for the device.

        Args:
            model_output: the model's output, detached, on any device.
            target: the batch's target, on the same device.
            **kwargs: the task passes `is_train`, whether this is a train phase, and the entries of
                the sample that `sample_keys` names.
        """

    @abstractmethod
    def reset(self) -> None:
        """Resets all counts to 0."""

    def sync_state(self) -> None:
        """Sums the counts of all processes; every process must call it.

        The default, for meters that count on one process only, does nothing.
        """
        return

    def validate(self, model_output_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> None:
        """Raises a ComponentError if the meter cannot measure outputs and targets of these shapes."""
        return

    @abstractmethod
    def get_classy_state(self) -> dict[str, Any]:
        """Returns the counts and the options they depend on, as plain values and tensors on the CPU."""

    @abstractmethod
    def set_classy_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_classy_state` returned.

        Raises:
            CheckpointError: the state belongs to another meter, or to one with other options.
        """

    def __repr__(self) -> str:
        value = self.value
        parts = value.items() if isinstance(value, Mapping) else [("value", value)]
        shown = (f"{key}={part:.6f}" if isinstance(part, float) else f"{key}={part}" for key, part in parts)
        return f"{self.name}_meter({','.join(shown)})"


def scalars(value: Mapping[str, Any]) -> dict[str, int | float]:
    """Returns the numbers among the values of a meter; not those of each class, nor matrices."""
    return {key: one for key, one in value.items() if isinstance(one, int | float)}


METER_REGISTRY.base = ClassyMeter


def build_meter(config: Mapping[str, Any]) -> ClassyMeter:
    """Builds a meter from a config with its `name` and its arguments.

    Raises:
        UnknownComponentError: no meter has that name.
    """
    return METER_REGISTRY.named_class(config).from_config(copy.deepcopy(dict(config)))


def build_meters(config: Mapping[str, Mapping[str, Any] | None]) -> list[ClassyMeter]:
    """Builds meters from a mapping of names to arguments, in its order.

    A key is a meter's name, or TARGET/METER for one of several targets; any other key needs the meter's `name` among
    the arguments.

    Raises:
        ConfigError: the config is not such a mapping.
        UnknownComponentError: no meter has one of the names.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"meters must be a mapping from a meter's name to its arguments, such as {{'accuracy': {{'topk': [1]}}}}, "
            f"not {config!r}"
        )
    return [_build_named(name, arguments or {}) for name, arguments in config.items()]


def _build_named(name: str, arguments: Mapping[str, Any]) -> ClassyMeter:
    from ray_classy.meters.named_meter import NamedMeter  # which derives from ClassyMeter

    kind = named_component(name, arguments)
    meter = build_meter({**arguments, "name": kind})
    return meter if kind == name else NamedMeter(name, meter)
