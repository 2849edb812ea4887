"""Schedulers and search algorithms of Ray Tune, by the names that the `tune` section of a config uses."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ray_classy.errors import ComponentError
from ray_classy.registry import Key, Keys, Registry, signature_keys

if TYPE_CHECKING:
    from ray_classy.tune.space import Node, Space

SCHEDULER_REGISTRY: Registry[Scheduler] = Registry("scheduler")
SEARCH_ALG_REGISTRY: Registry[SearchAlg] = Registry("search_alg")
EPOCH = "epoch"


class Sweep(NamedTuple):
    """Properties of a sweep from which schedulers and search algorithms are built.

    Attributes:
        space: the search space.
        epochs: the length of a trial.
        seed: derived from the seed of the sweep and the number of its trials before it was resumed or extended.
        mutable: the nodes whose values may change during a trial, because the model keeps its structure.
    """

    space: Space
    epochs: int | float
    seed: int
    mutable: list[Node]


class _Part(ABC):
    """A class of Ray under a short name; its config keys are the arguments of its constructor."""

    module: ClassVar[str]
    class_name: ClassVar[str]
    extra: ClassVar[str | None] = None
    hidden: ClassVar[frozenset[str]] = frozenset({"metric", "mode"})
    defaults: ClassVar[dict[str, Any]] = {}

    @classmethod
    def ray_class(cls) -> Any:
        """Imports and returns the class of Ray."""
        return getattr(importlib.import_module(cls.module), cls.class_name)

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the arguments of Ray's class, with defaults for trials that report once per epoch."""
        keys = signature_keys(cls.ray_class(), skip=cls.hidden)
        changed = {name: Key(keys[name].annotation, default) for name, default in cls.defaults.items()}
        return {**keys, **changed}

    @classmethod
    @abstractmethod
    def build(cls, arguments: dict[str, Any], sweep: Sweep) -> Any:
        """Builds the object of Ray.

        Args:
            arguments: of its constructor.
            sweep: the sweep for which it is built.

        Raises:
            ComponentError: an argument is invalid, or a required package is missing.
        """

    @classmethod
    def _made(cls, arguments: Mapping[str, Any]) -> Any:
        try:
            return cls.ray_class()(**{**cls.defaults, **arguments})
        except (ImportError, RuntimeError, AttributeError) as error:
            if cls.extra is None:
                raise
            raise ComponentError(f"{error}; install it with: pip install 'ray_classy[{cls.extra}]'") from error


class Scheduler(_Part):
    """Decides which trials continue."""

    module = "ray.tune.schedulers"
    defaults: ClassVar[dict[str, Any]] = {"time_attr": EPOCH}

    @classmethod
    def build(cls, arguments: dict[str, Any], sweep: Sweep) -> Any:
        return cls._made(arguments)


SCHEDULER_REGISTRY.base = Scheduler
register_scheduler = SCHEDULER_REGISTRY.register


@register_scheduler("fifo")
class Fifo(Scheduler):
    """Trains every trial to its end."""

    class_name = "FIFOScheduler"
    defaults: ClassVar[dict[str, Any]] = {}


class _Halving(Scheduler):
    """Successive halving; `max_t` defaults to the number of epochs of a trial."""

    @classmethod
    def config_keys(cls) -> Keys:
        return {**super().config_keys(), "max_t": Key(int | None, None)}

    @classmethod
    def build(cls, arguments: dict[str, Any], sweep: Sweep) -> Any:
        most = arguments.get("max_t") or sweep.epochs
        if arguments.get("grace_period", 0) > most:
            raise ComponentError(
                f"grace_period {arguments['grace_period']} is more than the {most} epochs of a trial; reduce it"
            )
        if most < 1 and "grace_period" in cls.config_keys():
            arguments = {"grace_period": most, **arguments}  # the default of Ray is a whole epoch
        return cls._made({**arguments, "max_t": most})


@register_scheduler("asha")
class Asha(_Halving):
    """Asynchronous successive halving (Li et al., "A system for massively parallel hyperparameter tuning", 2020)."""

    class_name = "AsyncHyperBandScheduler"


@register_scheduler("hyperband")
class HyperBand(_Halving):
    """HyperBand (Li et al., "Hyperband: a novel bandit-based approach to hyperparameter optimization", 2018)."""

    class_name = "HyperBandScheduler"


@register_scheduler("median_stopping")
class MedianStopping(Scheduler):
    """Stops trials below the median of the others (Golovin et al., "Google Vizier", 2017)."""

    class_name = "MedianStoppingRule"
    defaults: ClassVar[dict[str, Any]] = {"time_attr": EPOCH, "grace_period": 1}


class _Population(Scheduler):
    """Population-based training: bad trials are replaced by copies of good ones, with changed values."""

    mutations: ClassVar[str]

    @classmethod
    def config_keys(cls) -> Keys:
        changed = {cls.mutations: Key(list[str] | None, None), "perturbation_interval": Key(float | None, None)}
        return {**super().config_keys(), **changed}

    @classmethod
    def build(cls, arguments: dict[str, Any], sweep: Sweep) -> Any:
        interval = arguments.get("perturbation_interval") or (sweep.epochs // 4 or min(1, sweep.epochs))
        nodes = _named(arguments.get(cls.mutations), sweep, cls.mutations)
        return cls._made({**arguments, "perturbation_interval": interval, **cls._mutating(nodes)})

    @classmethod
    @abstractmethod
    def _mutating(cls, nodes: list[Node]) -> dict[str, Any]:
        """Returns the arguments of Ray's class that say which values it may change, and how."""


@register_scheduler("pbt")
class Pbt(_Population):
    """Population-based training (Jaderberg et al., "Population based training of neural networks", 2017).

    `hyperparam_mutations` names the search nodes whose values are changed; the default is all that may change.
    """

    class_name = "PopulationBasedTraining"
    mutations = "hyperparam_mutations"
    hidden = frozenset({"metric", "mode", "custom_explore_fn", "log_config", "require_attrs"})

    @classmethod
    def _mutating(cls, nodes: list[Node]) -> dict[str, Any]:
        choices = {node.name: list(node.labels) if node.labels is not None else node.domain for node in nodes}
        return {"hyperparam_mutations": choices, "custom_explore_fn": _Bounded(nodes), "log_config": False}


@register_scheduler("pb2")
class Pb2(_Population):
    """Population-based bandits (Parker-Holder et al., "Provably efficient online hyperparameter optimization with
    population-based bandits", 2020).

    `hyperparam_bounds` names the search nodes whose values are changed; the default is all ranges that may change.
    """

    module = "ray.tune.schedulers.pb2"
    class_name = "PB2"
    extra = "pb2"
    mutations = "hyperparam_bounds"
    hidden = frozenset({"metric", "mode", "custom_explore_fn", "log_config", "require_attrs"})

    @classmethod
    def _mutating(cls, nodes: list[Node]) -> dict[str, Any]:
        bounds = {node.name: list(node.bounds) for node in nodes if node.bounds is not None}
        if not bounds:
            raise ComponentError(
                "pb2 changes values within ranges, but no range is searched: use pbt, or search a range"
            )
        return {"hyperparam_bounds": bounds, "log_config": False}


class _Bounded:
    """Moves changed values back into the bounds of their nodes, and to multiples of their steps."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = {node.name: node for node in nodes}

    def __call__(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            name: self.nodes[name].nearest(value) if name in self.nodes else value for name, value in params.items()
        }


def _named(names: list[str] | None, sweep: Sweep, key: str) -> list[Node]:
    """Returns the nodes whose values are changed."""
    if names is None:
        if not sweep.mutable:
            raise ComponentError(
                "no searched value may change during a trial, as all of them change the structure of the model or the "
                "length of the trial: search a value such as the learning rate, or use another scheduler"
            )
        return sweep.mutable
    by_name = {node.name: node for node in sweep.space.nodes}
    for name in names:
        if name not in by_name:
            raise ComponentError(f"{key}: {name!r} is not searched; searched are {', '.join(by_name)}")
        if by_name[name] not in sweep.mutable:
            raise ComponentError(
                f"{key}: {name!r} cannot change during a trial, as the state of the model or optimizer, or the length "
                f"of the trial, would no longer fit"
            )
    return [by_name[name] for name in names]


class SearchAlg(_Part):
    """Suggests the parameters of the next trial."""

    module = "ray.tune.search"
    hidden = frozenset({"space", "metric", "mode", "points_to_evaluate", "evaluated_rewards", "sampler", "storage"})

    @classmethod
    def build(cls, arguments: dict[str, Any], sweep: Sweep) -> Any:
        return cls._made(arguments)


SEARCH_ALG_REGISTRY.base = SearchAlg
register_search_alg = SEARCH_ALG_REGISTRY.register


@register_search_alg("random")
class Random(SearchAlg):
    """Grid and random search; the parameters of a trial depend only on its number and the seed."""

    @classmethod
    def config_keys(cls) -> Keys:
        return {}

    @classmethod
    def build(cls, arguments: dict[str, Any], sweep: Sweep) -> Any:
        return None


@register_search_alg("optuna")
class Optuna(SearchAlg):
    """Optuna's tree-structured Parzen estimator (Akiba et al., "Optuna", 2019)."""

    module = "ray.tune.search.optuna"
    class_name = "OptunaSearch"
    extra = "optuna"

    @classmethod
    def build(cls, arguments: dict[str, Any], sweep: Sweep) -> Any:
        wrong = [node.name for node in sweep.space.nodes if node.grid or (node.labels is None and node.bounds is None)]
        if wrong:
            raise ComponentError(
                f"optuna does not support grids, functions and normal distributions: {', '.join(wrong)}; use choice or "
                f"a range"
            )
        seed = arguments.get("seed")
        return cls._made({**arguments, "seed": sweep.seed if seed is None else seed})
