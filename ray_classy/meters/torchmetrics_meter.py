"""Metrics of the package torchmetrics as meters: F1, AUROC, average precision, confusion matrix and others."""

from __future__ import annotations

import copy
import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from ray_classy.errors import (
    CheckpointError,
    ComponentError,
    DamagedCheckpointError,
    UnavailableError,
    UnknownComponentError,
)
from ray_classy.meters.classy_meter import ClassyMeter, register_meter
from ray_classy.meters.top_k_meter import check_one_output
from ray_classy.meters.torchmetrics_state import (
    State,
    combined,
    computed,
    load_state,
    reductions_of,
    shared_state,
    state_of,
)
from ray_classy.registry import nearest

_PENDING_BYTES = 64 << 20
"""Outputs are collected on their device up to this size, so that a step does not wait for it."""
_TASKS = ("binary", "multiclass", "multilabel")


@register_meter("torchmetrics")
class TorchMetricsMeter(ClassyMeter):
    """A metric of `torchmetrics.classification`, exact on any number of processes.

    Whether rows have one class (multiclass), several (multilabel) or the model one output (binary), and the number of
    classes, come from the task. Outputs are scores (logits): of one class softmax makes probabilities, else sigmoid.
    Rows and entries without a label (negative targets) do not count; mixed rows count for their larger part.

    The value has the average under its name ("macro"), or "value"; `per_class` adds a value for each class by its name,
    null where there is none; matrices are lists beside the names of the `classes`. Confusion matrices have a row for
    each true class.

    Outputs are measured on the CPU, some steps at a time. Processes exchange counts at the end of a phase. Metrics of
    curves (AUROC, average precision) keep all scores of the phase in memory, on every process at its end, unless
    `thresholds` is given.

    Args:
        metric: name of the class with or without its task: "F1Score", "MulticlassF1Score", "MatthewsCorrCoef".
        per_class: whether there is a value for each class, besides `average` if that is given.
        average: "macro", "micro" or "weighted", where the metric takes it; None takes its default.
        task: "binary", "multiclass" or "multilabel"; None finds it.
        num_classes: number of classes; None takes that of the task.
        options: other arguments of the metric's class.

    Raises:
        UnavailableError: torchmetrics is not installed.
        UnknownComponentError: it has no such metric.
        ComponentError: an argument has an invalid value, or the metric cannot be summed over processes.
    """

    NAME: ClassVar[str] = "torchmetrics"
    METRIC: ClassVar[str | None] = None

    def __init__(
        self,
        metric: str | None = None,
        per_class: bool = False,
        average: str | None = None,
        task: str | None = None,
        num_classes: int | None = None,
        **options: Any,
    ) -> None:
        if importlib.util.find_spec("torchmetrics") is None:
            raise UnavailableError(
                f"meter {self.name!r} needs torchmetrics: pip install 'ray_classy[metrics]', or leave the meter out"
            )
        metric = self.METRIC or metric
        if not isinstance(metric, str):
            raise ComponentError(f"metric must be the name of a class of torchmetrics.classification, not {metric!r}")
        for given in _TASKS:
            if metric.lower().startswith(given) and task in (None, given):
                metric, task = metric[len(given) :], given
        if task is not None and task not in _TASKS:
            raise ComponentError(f"task must be one of {', '.join(_TASKS)}, not {task!r}")
        if type(per_class) is not bool:
            raise ComponentError(f"per_class must be true or false, not {per_class!r}")
        if num_classes is not None and (type(num_classes) is not int or num_classes < 1):
            raise ComponentError(f"num_classes must be an integer of at least 1, not {num_classes!r}")
        self.metric, self.per_class, self.average, self.task = metric, per_class, average, task
        self.num_classes, self.options = num_classes, options
        self.classes: list[str] | None = None
        self._metrics: dict[str, Any] = {}  # of this process since the last synchronisation, by what they give
        self._total: dict[str, State] = {}  # of all processes before
        self._pending: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._pending_bytes = 0
        self._value: dict[str, Any] | None = None
        self._check()
        if task is not None and (num_classes is not None or task == "binary"):
            self._build()

    def _check(self) -> None:
        """Finds wrong arguments now; those of some task are right as long as the task is not known."""
        errors = []
        for task in [self.task] if self.task is not None else _TASKS[1:]:
            try:
                self._made(task, self.num_classes or 2)
                return
            except (ComponentError, UnknownComponentError) as error:
                errors.append(error)
        raise errors[0]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TorchMetricsMeter:
        """Builds the meter from its config: arguments of the meter and of the metric's class."""
        arguments = {key: copy.deepcopy(value) for key, value in config.items() if key != "name"}
        if cls.METRIC is not None and "metric" in arguments:
            raise ComponentError(f"meter {config.get('name')!r} is the metric {cls.METRIC}: leave `metric` out")
        return cls(**arguments)

    @property
    def name(self) -> str:
        """The meter's name in logs and metrics."""
        return self.NAME

    # -- the metrics --------------------------------------------------------------------------------------------------

    def set_classes(self, number: int | None, names: list[str] | None, several: bool) -> None:
        """Takes the classes of the task; see `ClassyMeter`."""
        changed = False
        if self.task is None and (number is not None or several):
            self.task, changed = ("multilabel" if several else "binary" if number == 1 else "multiclass"), True
        if self.num_classes is None and number is not None:
            self.num_classes, changed = number, True
        if names is not None and names != self.classes:
            self.classes, self._value = list(names), None
        if changed and self.task is not None and self.num_classes is not None:
            self._build()

    def _build(self) -> None:
        assert self.task is not None
        self._metrics = self._made(self.task, self.num_classes or 1)
        self._value = None

    def _made(self, task: str, number: int) -> dict[str, Any]:
        """Makes the metrics that are asked for, by the names of their values."""
        cls = _find(self.name, self.metric, task)
        parameters = inspect.signature(cls).parameters
        known = [name for name, one in parameters.items() if one.kind is not one.VAR_KEYWORD]
        for name in self.options:
            if name not in known:
                near = nearest(name, known)
                hint = f"did you mean {near}?" if near else f"it takes {', '.join(known)}"
                raise ComponentError(f"meter {self.name!r}: {cls.__name__} has no argument {name!r}; {hint}")
        fixed: dict[str, Any] = {"multiclass": {"num_classes": number}, "multilabel": {"num_labels": number}}.get(
            task, {}
        )
        fixed |= {"validate_args": False, "ignore_index": -1}
        fixed = {name: value for name, value in fixed.items() if name in known}
        fixed["sync_on_compute"] = False  # processes exchange counts in sync_state, and only there
        averages: dict[str, Any] = {"value": {}}
        if self.average is not None or self.per_class or parameters.get("average") is not None:
            if "average" not in known:
                if self.average is not None:
                    raise ComponentError(f"meter {self.name!r}: {cls.__name__} has no average: leave it out")
                averages = {"per_class" if self.per_class else "value": {}}
            else:
                default = parameters["average"].default
                named = self.average or (None if self.per_class else default)
                averages = {} if named is None else {str(named): {"average": named}}
                if self.per_class:
                    averages["per_class"] = {"average": "none"}
        # Checked once with the metric's own checks, which in an update would look at every target.
        try:
            for more in averages.values():
                cls(
                    **{**fixed, **self.options, **more, **({"validate_args": True} if "validate_args" in known else {})}
                )
            made = {name: cls(**{**fixed, **self.options, **more}) for name, more in averages.items()}
        except (TypeError, ValueError) as error:
            raise ComponentError(f"meter {self.name!r}: {cls.__name__}: {error}") from None
        for one in made.values():
            strange = [name for name, reduction in reductions_of(one).items() if reduction is None]
            if strange:
                raise ComponentError(
                    f"meter {self.name!r}: {cls.__name__} cannot be put together from several processes (its state "
                    f"{strange[0]!r} is neither a sum nor a list): choose another metric"
                )
        return made

    # -- counting -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def update(self, model_output: torch.Tensor, target: torch.Tensor, **kwargs: Any) -> None:
        """Keeps one batch, to be measured later.

        Args:
            model_output: scores of shape (N, C).
            target: class indices of shape (N,) or (N, 1), or values per class of shape (N, C).

        Raises:
            ComponentError: the shapes do not match, or the number of classes is another.
        """
        check_one_output(self.name, model_output)
        self.validate(model_output.shape, target.shape)
        if not self._metrics:
            self.set_classes(model_output.shape[1], None, target.shape == model_output.shape)
        self._pending.append((model_output, target))
        self._pending_bytes += model_output.nbytes + target.nbytes
        self._value = None
        if self._pending_bytes > _PENDING_BYTES:
            self._measure()

    def _measure(self) -> None:
        """Measures what was kept."""
        if not self._pending:
            return
        outputs = torch.cat([output.float() for output, _ in self._pending]).cpu()
        targets = torch.cat([self._as_classes(output, target) for output, target in self._pending]).cpu()
        self._pending, self._pending_bytes = [], 0
        if self.task == "multiclass":
            kept = targets >= 0
            outputs, targets = outputs[kept].softmax(1), targets[kept]
        else:
            outputs = outputs.sigmoid()
        if self.task == "binary":
            kept = targets.reshape(-1) >= 0
            outputs, targets = outputs.reshape(-1)[kept], targets.reshape(-1)[kept]
        if len(targets):
            for metric in self._metrics.values():
                metric.update(outputs, targets)

    def _as_classes(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Returns class indices (N,), or 0 and 1 (N, C); -1 where there is no label."""
        if self.task != "multiclass":
            values = target.reshape(output.shape)
            return (values >= 0.5).long().masked_fill(values < 0, -1)
        if target.shape == output.shape and target.ndim == 2:
            return target.argmax(1).masked_fill((target <= 0).all(1), -1)
        return target.reshape(-1).long().clamp(min=-1)

    def reset(self) -> None:
        """Resets all counts to 0."""
        for metric in self._metrics.values():
            metric.reset()
        self._total, self._pending, self._pending_bytes, self._value = {}, [], 0, None

    def sync_state(self) -> None:
        """Puts the counts of all processes together; every process must call it."""
        self._measure()
        for name, metric in self._metrics.items():
            shared = shared_state(state_of(metric), reductions_of(metric))
            self._total[name] = combined(self._total.get(name), shared, reductions_of(metric))
            metric.reset()
        self._value = None

    @property
    def value(self) -> dict[str, Any]:
        """The measurements by name; 0 before any update."""
        self._measure()
        if self._value is None:
            self._value = {name: self._value_of(name, metric) for name, metric in self._metrics.items()}
            if self.classes and any(isinstance(one, list) for one in self._value.values()):
                self._value["classes"] = self.classes
        return self._value

    def _value_of(self, name: str, metric: Any) -> Any:
        together = combined(self._total.get(name), state_of(metric), reductions_of(metric))
        if any(value.numel() and bool(value.any()) for value in together.values()):
            return self._named(computed(metric, together))
        return _zeros(self._named(computed(metric, None, self.task, self.num_classes or 1)))

    def _named(self, result: Any) -> Any:
        """Converts a result to plain numbers: by class where there is one for each."""
        if isinstance(result, Mapping):
            return {str(key): self._named(one) for key, one in result.items()}
        if isinstance(result, list | tuple):
            return [self._named(one) for one in result]
        if result.ndim == 0:
            return result.item()
        if len(result) != self.num_classes or (result.ndim == 2 and self.task == "multiclass"):
            return _plain(result.tolist())
        names = self.classes if self.classes is not None and len(self.classes) == len(result) else range(len(result))
        return {str(name): _plain(one.tolist()) for name, one in zip(names, result, strict=True)}

    def validate(self, model_output_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> None:
        """Raises a ComponentError if the meter cannot measure outputs and targets of these shapes."""
        output, target = tuple(model_output_shape), tuple(target_shape)
        if len(output) != 2 or target not in ((output[0],), (output[0], 1), output):
            raise ComponentError(
                f"meter {self.name!r} takes outputs of shape (N, C) and targets of shape (N,), (N, 1) or (N, C), not "
                f"{output} and {target}"
            )
        number = 1 if self.task == "binary" else self.num_classes
        if number is not None and output[1] != number:
            raise ComponentError(f"meter {self.name!r} is for {number} classes, and the model has {output[1]} outputs")
        if self.task == "multilabel" and target != output:
            raise ComponentError(
                f"meter {self.name!r} with task multilabel takes one value per class, of shape {output}, not {target}"
            )

    # -- state --------------------------------------------------------------------------------------------------------

    def get_classy_state(self) -> dict[str, Any]:
        """Returns the counts and the options they depend on, as plain values and tensors on the CPU."""
        self._measure()
        return {
            "name": self.name,
            "metric": self.metric,
            "task": self.task,
            "num_classes": self.num_classes,
            "total": {name: dict(state) for name, state in self._total.items()},
            "curr": {name: state_of(metric) for name, metric in self._metrics.items()},
        }

    def set_classy_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_classy_state` returned.

        Raises:
            CheckpointError: the state belongs to another meter, or to one with other options.
            DamagedCheckpointError: an entry is missing or has another type.
        """
        keys = ("name", "metric", "task", "num_classes")
        theirs, ours = [state.get(key) for key in keys], [self.name, self.metric, self.task, self.num_classes]
        if theirs != ours and theirs[2:] != [None, None]:
            raise CheckpointError(
                f"the checkpoint's meter is {theirs}, this one is {ours} ({', '.join(keys)}): use the meters of the "
                f"run that wrote the checkpoint"
            )
        self.reset()
        for name, metric in self._metrics.items():
            expected = state_of(metric)
            parts = {key: state[key].get(name) for key in ("total", "curr") if isinstance(state.get(key), Mapping)}
            if len(parts) != 2:
                raise DamagedCheckpointError(f"the checkpoint's state of meter {self.name!r} has no counts")
            for part in filter(None, parts.values()):
                self._check_state(part, expected, reductions_of(metric))
            if parts["total"]:
                self._total[name] = {key: value.cpu() for key, value in parts["total"].items()}
            if parts["curr"]:
                load_state(metric, {key: value.cpu() for key, value in parts["curr"].items()})

    def _check_state(self, state: Any, expected: State, reductions: Mapping[str, Any]) -> None:
        tensors = isinstance(state, Mapping) and all(isinstance(value, torch.Tensor) for value in state.values())
        if not tensors or state.keys() != expected.keys():
            raise DamagedCheckpointError(f"the checkpoint's state of meter {self.name!r} is damaged: other entries")
        for name, value in state.items():
            if reductions[name] != "cat" and value.shape != expected[name].shape:
                raise CheckpointError(
                    f"the checkpoint's meter {self.name!r} has {name} of shape {tuple(value.shape)}, this one of "
                    f"{tuple(expected[name].shape)}: use the options of the run that wrote the checkpoint"
                )


def _find(meter: str, metric: str, task: str) -> Any:
    """Returns the class of a metric for a task."""
    from torchmetrics import classification

    cls = getattr(classification, task.capitalize() + metric, None)
    if cls is None:
        names = [
            name.removeprefix(task.capitalize()) for name in dir(classification) if name.startswith(task.capitalize())
        ]
        near = nearest(metric, names)
        hint = f"did you mean {near}?" if near else f"it has {', '.join(names)}"
        raise UnknownComponentError(f"meter {meter!r}: torchmetrics has no {task} metric {metric!r}; {hint}")
    return cls


def _zeros(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _zeros(one) for key, one in value.items()}
    return [_zeros(one) for one in value] if isinstance(value, list) else type(value)(0) if value is not None else None


def _plain(value: Any) -> Any:
    """Replaces NaN, of classes without rows, by None."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if value != value else value
