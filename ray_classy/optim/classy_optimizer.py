"""The base class of optimizers, their registry, and how a config is built into one."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch

from ray_classy.errors import CheckpointError, MissingStateError, TaskError
from ray_classy.optim.implementation import IMPLEMENTATIONS, check_implementation, fused_pays, implementation_keys
from ray_classy.optim.param_groups import (
    Group,
    as_groups,
    check_numbers,
    check_same_shapes,
    check_same_structure,
    check_scheduled,
    split_schedulers,
)
from ray_classy.optim.param_scheduler import ParamScheduler, UpdateInterval, build_param_scheduler
from ray_classy.optim.param_scheduler.classy_vision_param_scheduler import with_num_epochs
from ray_classy.optim.param_scheduler.composite_scheduler import LAST_WHERE
from ray_classy.optim.saved_state import buffers_of, check_buffers, check_saved_state
from ray_classy.optim.trained_parameters import Trained, check_layer_decay, make_groups
from ray_classy.registry import Key, Keys, Registry, construct_from, constructor_arguments, signature_keys
from ray_classy.torch_compat import step_of

OPTIMIZER_REGISTRY: Registry[Any] = Registry(
    "optimizer",
    {
        "adam": "ray_classy.optim.adam:Adam",
        "adamw": "ray_classy.optim.adamw:AdamW",
        "adamw_mt": "ray_classy.optim.adamw_mt:AdamWMT",
        "by_pattern": "ray_classy.optim.by_pattern:ByPattern",
        "lamb": "ray_classy.optim.lamb:Lamb",
        "rmsprop": "ray_classy.optim.rmsprop:RMSProp",
        "rmsprop_tf": "ray_classy.optim.rmsprop_tf:RMSPropTF",
        "sgd": "ray_classy.optim.sgd:SGD",
        "zero": "ray_classy.optim.zero:ZeRO",
    },
    fallback="ray_classy.optim.torch_optimizers:find",
    fallback_names="ray_classy.optim.torch_optimizers:names",
    unique_class_names=True,
)
register_optimizer = OPTIMIZER_REGISTRY.register


HOW_IT_RUNS = ("foreach", "fused", "capturable", "differentiable")
"""Options of torch that choose an implementation of the update; they are not restored."""


class OptionsView:
    """The options of an optimizer as attributes, read when they are asked for.

    An option is one value if all groups agree, and the list of the distinct values in the order of the groups if they
    do not.

    Args:
        optimizer: has parameters by the time an option is read.
    """

    def __init__(self, optimizer: ClassyOptimizer) -> None:
        self.optimizer = optimizer

    def __getattr__(self, option: str) -> Any:
        if option.startswith("__") or option in ("optimizer", "params"):
            raise AttributeError(option)
        values: list[Any] = []
        for group in self.optimizer.param_groups:
            if option in group and group[option] not in values:
                values.append(group[option])
        if not values:
            known = ", ".join(name for name in self.optimizer.param_groups[0] if name != "params")
            raise AttributeError(f"the optimizer has no option {option!r}: it has {known}")
        return values[0] if len(values) == 1 else values


class ClassyOptimizer(ABC):
    """A torch optimizer whose options may follow schedules.

    It is built without parameters; `set_param_groups` adds them and creates the torch optimizer. Schedules with
    interval "epoch" are evaluated by `on_epoch`, those with interval "step" by `step`.

    Attributes:
        optimizer: the torch optimizer, created by `prepare`; None before.
        shards_state: whether the optimizer asks for the strategy that shards its state across ranks.
        needs_whole_parameters: whether the update of an element of a parameter depends on its other elements, so that
            parameters cannot be sharded across ranks.
        layer_decay: ratio of the learning rates of a layer and the layer above it, in (0, 1]; None for no ratio. See
            `trained_parameters.make_groups`.
        implementations: which of the options "foreach" and "fused" the config of the optimizer has.
        foreach: whether an update works on lists of parameters; None lets torch choose.
        fused: whether an update of all parameters is computed in few kernels; None does so on CPUs.
    """

    FORMER_KEYS: tuple[str, ...] = ("num_epochs",)
    shards_state = False
    needs_whole_parameters = False
    layer_decay: float | None = None
    implementations: ClassVar[tuple[str, ...]] = ()
    foreach: bool | None = None
    fused: bool | None = None
    _rates: Sequence[float] | None = None

    def __init__(self) -> None:
        self.optimizer: Any = None
        self._schedulers: list[dict[str, ParamScheduler]] = []

    @classmethod
    def config_keys(cls) -> Keys:
        """The constructor's arguments, `layer_decay`, and `param_schedulers` (by option), which the task builds."""
        schedules = "schedules of the optimizer's options, by option, such as lr."
        decay = "ratio of the learning rates of a layer and the layer above it, above 0 and up to 1."
        return {
            **signature_keys(cls),
            **implementation_keys(cls.implementations),
            "layer_decay": Key(float | None, None, decay),
            "param_schedulers": Key(dict[str, ParamScheduler] | None, None, schedules),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ClassyOptimizer:
        """Builds the optimizer from its config: the constructor's arguments by name, and `layer_decay`."""
        arguments = constructor_arguments(cls, config)
        arguments.pop("param_schedulers", None)
        name = config.get("name", cls.__name__)
        if "layer_decay" in signature_keys(cls):
            return construct_from(cls, arguments, name)
        layer_decay = check_layer_decay(arguments.pop("layer_decay", None))
        chosen = check_implementation({one: arguments.pop(one, None) for one in cls.implementations})
        optimizer = construct_from(cls, arguments, name)
        optimizer.layer_decay = layer_decay
        vars(optimizer).update(chosen)
        return optimizer

    def make_groups(
        self, trained: Sequence[Trained], schedulers: Mapping[str, ParamScheduler], bn_weight_decay: bool
    ) -> list[Group]:
        """Returns the groups of the parameters that a task trains, for `set_param_groups`.

        Args:
            trained: the parameters.
            schedulers: by option.
            bn_weight_decay: whether parameters of batch-norm layers have weight decay.
        """
        return make_groups(trained, schedulers, bn_weight_decay, self.layer_decay)

    @abstractmethod
    def prepare(self, param_groups: list[Group]) -> None:
        """Sets `self.optimizer` to a torch optimizer of these parameter groups.

        Args:
            param_groups: dicts with `params`, a list of parameters, and options that override the optimizer's own.
        """

    def implementation(self, param_groups: list[Group]) -> dict[str, bool]:
        """Returns `foreach` and `fused`, as far as they are chosen, as arguments of the torch optimizer.

        Args:
            param_groups: of the torch optimizer.

        Raises:
            ComponentError: both are true.
        """
        chosen = check_implementation({name: getattr(self, name) for name in IMPLEMENTATIONS})
        if any(parameter.is_meta for group in param_groups for parameter in group["params"]):
            chosen.pop("fused", None)  # for real tensors only
        elif not chosen and "fused" in self.implementations and fused_pays(param_groups):
            return {"fused": True}
        return chosen

    def parts(self) -> Sequence[ClassyOptimizer]:
        """Returns the optimizers that make the updates: itself, unless it is made of others."""
        return [self]

    def set_param_groups(self, param_groups: Any, **kwargs: Any) -> None:
        """Adds the parameters, evaluates all schedules at 0 and creates the torch optimizer.

        Args:
            param_groups: parameters, one group (a dict with `params` and options) or a list of groups. An option may
                be a value or a `ParamScheduler`. The learning rate of a group is multiplied by its `lr_scale`.
            **kwargs: options for every group, values or schedulers; they override those of the groups.

        Raises:
            ComponentError: there are no parameters, an option has a value of the wrong type, or a schedule is for an
                option that the optimizer lacks.
        """
        groups = [{**group, **kwargs} for group in as_groups(param_groups)]
        plain, self._schedulers = split_schedulers(groups)
        for group, schedulers in zip(plain, self._schedulers, strict=True):
            group.update({option: scheduler(0.0) for option, scheduler in schedulers.items()})
        self.prepare(plain)
        check_numbers(plain, self.optimizer)
        check_scheduled(self._schedulers, self.optimizer)
        for group in self.param_groups:
            if "lr_scale" in group:
                group["lr"] *= group["lr_scale"]

    def flags(self) -> dict[str, bool]:
        """Returns the arguments that are true or false, by name; some determine which buffers there are."""
        return {name: value for name, value in vars(self).items() if type(value) is bool and name not in HOW_IT_RUNS}

    @property
    def type_name(self) -> str:
        """The name that a checkpoint has for this type of optimizer."""
        return type(self).__name__

    @property
    def param_groups(self) -> list[Group]:
        """The torch optimizer's parameter groups: the options as they are now."""
        return self._prepared().param_groups

    @property
    def options_view(self) -> OptionsView:
        """The options as they are now, as attributes (`options_view.lr`)."""
        return OptionsView(self)

    @property
    def last_lr(self) -> list[float]:
        """The distinct learning rates of the groups in the last update; before the first one, those that it will use.

        At the end of a train phase `options_view.lr` is the rate of the next update already.
        """
        return list(dict.fromkeys(_rates_of(self.param_groups) if self._rates is None else self._rates))

    def step(self, *args: Any, closure: Callable[[], Any] | None = None, where: float | None = None) -> Any:
        """Evaluates the schedules of interval "step", then updates the parameters.

        Args:
            *args: passed to the torch optimizer's `step`.
            closure: recomputes the loss and the gradients, for optimizers that call it.
            where: the fraction of training that is done, in [0, 1).

        Raises:
            TaskError: `where` is missing or out of range, or the optimizer has no parameters yet.
        """
        optimizer = self._prepared()
        if where is None or not 0 <= where < 1:
            raise TaskError(f"optimizer.step needs where, the fraction of training done, in [0, 1), not {where}")
        groups = optimizer.param_groups
        self._evaluate(groups, where, UpdateInterval.STEP)
        self._rates = _rates_of(groups)
        step = step_of(optimizer)
        return step(*args) if closure is None else step(*args, closure=closure)

    def on_epoch(self, where: float) -> None:
        """Evaluates the schedules of interval "epoch"; the task calls it after every train phase.

        Args:
            where: the fraction of training that is done. At 1 nothing is evaluated, for no phase is left.
        """
        if where < 1:
            self._evaluate(self.param_groups, where, UpdateInterval.EPOCH)

    def set_where(self, where: float) -> None:
        """Sets every scheduled option to its value at a position, as a resumed run does.

        Args:
            where: the fraction of training that is done, at least 0; 1 and more mean the last position of training.
        """
        if where < 0:
            raise TaskError(f"where, the fraction of training done, must be at least 0, not {where}")
        for interval in UpdateInterval:
            self._evaluate(self.param_groups, min(where, LAST_WHERE), interval)

    def zero_grad(self) -> None:
        """Drops the gradients of all parameters."""
        optimizer = self._prepared()
        if getattr(type(optimizer), "zero_grad", None) is not torch.optim.Optimizer.zero_grad:
            optimizer.zero_grad()
            return
        for group in optimizer.param_groups:  # what torch's does too, after some work for its profiler and compiler
            for parameter in group["params"]:
                parameter.grad = None

    def get_classy_state(self) -> dict[str, Any]:
        """Returns the type's name, the torch optimizer's `state_dict`, and the numbers of parameters without state.

        They are the entries `name`, `optim` and `without_state`.
        """
        saved = self._prepared().state_dict()
        numbers = (number for group in saved["param_groups"] for number in group["params"])
        without = [number for number in numbers if number not in saved["state"]]
        return {"name": self.type_name, "optim": saved, "without_state": without}

    def buffers(self, options: Mapping[str, Any]) -> Collection[str]:
        """Returns the names of the buffers that a parameter with a state must have; without them it is damaged.

        Args:
            options: of the parameter's group.
        """
        return ()

    def set_classy_state(self, state: Mapping[str, Any]) -> None:
        """Restores the buffers (momenta, moments, step counters) and the options (learning rate, weight decay, ...).

        Schedules go on setting their options. A task that loads a checkpoint keeps its own options.

        Raises:
            DamagedCheckpointError: an entry of the state is missing or has another type.
            CheckpointError: the state belongs to another type of optimizer, or to other parameter groups.
            TaskError: the optimizer has no parameters yet.
        """
        optimizer = self._prepared()
        theirs, ours = state.get("name", self.type_name), self.type_name
        if theirs != ours:
            raise CheckpointError(
                f"the checkpoint's optimizer is {theirs}, this one is {ours}: use the same optimizer to resume, or "
                f"load only the model of the checkpoint"
            )
        if not isinstance(state.get("optim"), Mapping):
            raise MissingStateError(f"the checkpoint has no optimizer state: no 'optim' among {sorted(state)}")
        check_saved_state(state)
        saved, own = state["optim"], optimizer.param_groups
        names = [buffers_of(self, group) for group in saved["param_groups"]]
        check_buffers(saved, names)
        check_same_structure(saved["param_groups"], own)
        check_same_shapes(saved, names, own)
        groups = [
            {**group, **saved_group, **{name: group[name] for name in HOW_IT_RUNS if name in group}}
            for group, saved_group in zip(own, saved["param_groups"], strict=True)
        ]
        # torch keeps tensors that need no conversion: without a copy, training would write into the caller's state.
        optimizer.load_state_dict({**saved, "state": copy.deepcopy(saved["state"]), "param_groups": groups})

    def _prepared(self) -> Any:
        if self.optimizer is None:
            raise TaskError(f"{type(self).__name__} has no parameters yet: call set_param_groups first")
        return self.optimizer

    def _evaluate(self, groups: Sequence[Group], where: float, interval: UpdateInterval) -> None:
        values: dict[int, float] = {}  # groups share schedulers: those of the layers, say, which `layer_decay` makes
        # Not strict: groups added to the torch optimizer later have no schedules.
        for group, schedulers in zip(groups, self._schedulers, strict=False):
            for option, scheduler in schedulers.items():
                if scheduler.update_interval is interval:
                    key = id(scheduler)
                    if key not in values:
                        values[key] = scheduler(where)
                    group[option] = values[key] * (group.get("lr_scale", 1.0) if option == "lr" else 1.0)


def _rates_of(groups: Sequence[Group]) -> list[float]:
    return [group["lr"] for group in groups if "lr" in group]


OPTIMIZER_REGISTRY.base = ClassyOptimizer


def build_optimizer(config: Mapping[str, Any]) -> ClassyOptimizer:
    """Builds an optimizer, without parameters, from a config with its `name` and its arguments.

    `param_schedulers` is ignored: see `build_optimizer_schedulers`.

    Raises:
        UnknownComponentError: no optimizer has that name.
    """
    return OPTIMIZER_REGISTRY.named_class(config).from_config(copy.deepcopy(dict(config)))


def build_optimizer_schedulers(config: Mapping[str, Any], num_epochs: float | None = None) -> dict[str, ParamScheduler]:
    """Builds the schedulers in an optimizer's config (`param_schedulers`), by the option that each is for.

    Args:
        config: the optimizer's config.
        num_epochs: the length of training in train phases, for schedulers that need it and whose config lacks it;
            None reads `num_epochs` in the optimizer's config.

    Raises:
        UnknownComponentError: no scheduler has that name.
    """
    length = config.get("num_epochs") if num_epochs is None else num_epochs
    schedulers = {
        prefix + option: scheduler
        for prefix, part in nested_configs(config)
        for option, scheduler in build_optimizer_schedulers(part, length).items()
    }
    own = config.get("param_schedulers") or {}
    built = {option: build_param_scheduler(with_num_epochs(part, length)) for option, part in own.items()}
    return {**schedulers, **built}


def nested_configs(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the configs of the optimizers in an optimizer's config, each with the prefix of its schedules' names."""
    if isinstance(config.get("base_optimizer"), Mapping):  # of `zero`
        yield "", config["base_optimizer"]
    if config.get("name") == "by_pattern":
        groups = enumerate(config.get("groups") or [])
        parts = [(f"groups.{index}.", group.get("optimizer")) for index, group in groups]
        yield from ((prefix, part) for prefix, part in [*parts, ("default.", config.get("default"))] if part)
