"""Schedulers and search algorithms by name, as the `tune` section of a config gives them."""

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
    """What schedulers and search algorithms need to know of a sweep.

    Attributes:
        space: what is searched.
        epochs: length of a trial.
        seed: of the sweep, and of how many trials it had before it was gone on with.
        mutable: the nodes whose values may change in the middle of a trial, because the model keeps its structure.
    """

    space: Space
    epochs: int | float
    seed: int
    mutable: list[Node]


class _Part(ABC):
    """A class of Ray's under a short name: its constructor's arguments are the keys."""

    module: ClassVar[str]
    class_name: ClassVar[str]
    extra: ClassVar[str | None] = None
    hidden: ClassVar[frozenset[str]] = frozenset({"metric", "mode"})
    defaults: ClassVar[dict[str, Any]] = {}

    @classmethod
    def ray_class(cls) -> Any:
        """Ray's class."""
        return getattr(importlib.import_module(cls.module), cls.class_name)

    @classmethod
    def config_keys(cls) -> Keys:
        """The keys: those of Ray's class, with the defaults that suit a sweep over epochs."""
        keys = signature_keys(cls.ray_class(), skip=cls.hidden)
        changed = {name: Key(keys[name].annotation, default) for name, default in cls.defaults.items()}
        return {**keys, **changed}

    @classmethod
    @abstractmethod
    def build(cls, arguments: dict[str, Any], sweep: Sweep) -> Any:
        """Ray's object.

        Raises:
            ComponentError: an argument is impossible, or a package that it needs is missing.
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
    """Decides which trials go on."""

    module = "ray.tune.schedulers"
    defaults: ClassVar[dict[str, Any]] = {"time_attr": EPOCH}

    @classmethod
    def build(cls, arguments: dict[str, Any], sweep: Sweep) -> Any:
        return cls._made(arguments)


SCHEDULER_REGISTRY.base = Scheduler
register_scheduler = SCHEDULER_REGISTRY.register


@register_scheduler("fifo")
class Fifo(Scheduler):
    """Every trial is trained to its end."""

    class_name = "FIFOScheduler"
    defaults: ClassVar[dict[str, Any]] = {}


class _Halving(Scheduler):
    """Successive halving; `max_t` is the number of epochs unless it is given."""

    @classmethod
    def config_keys(cls) -> Keys:
        return {**super().config_keys(), "max_t": Key(int | None, None)}

    @classmethod
    def build(cls, arguments: dict[str, Any], sweep: Sweep) -> Any:
        most = arguments.get("max_t") or sweep.epochs
        if arguments.get("grace_period", 0) > most:
            raise ComponentError(
                f"grace_period {arguments['grace_period']} is more than the {most} epochs of a trial; lower it"
            )
        if most < 1 and "grace_period" in cls.config_keys():
            arguments = {"grace_period": most, **arguments}  # Ray's default is a whole epoch
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
    """Population-based training: bad trials take up the state of good ones, with other values."""

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
        """The arguments that tell Ray's class what to change."""


@register_scheduler("pbt")
class Pbt(_Population):
    """Population-based training (Jaderberg et al., "Population based training of neural networks", 2017).

    `hyperparam_mutations` names the searched values that are changed; without it, all that may be.
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

    `hyperparam_bounds` names the searched ranges that are changed; without it, all that may be.
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
            raise ComponentError("pb2 changes values in ranges, and none is searched: use pbt, or search a range")
        return {"hyperparam_bounds": bounds, "log_config": False}


class _Bounded:
    """Keeps values that were multiplied inside the bounds of their nodes, and on their steps."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = {node.name: node for node in nodes}

    def __call__(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            name: self.nodes[name].nearest(value) if name in self.nodes else value for name, value in params.items()
        }


def _named(names: list[str] | None, sweep: Sweep, key: str) -> list[Node]:
    """The nodes whose values are changed."""
    if names is None:
        if not sweep.mutable:
            raise ComponentError(
                "no searched value may change in the middle of a trial: all of them change the model's structure; "
                "search the learning rate, say, or take another scheduler"
            )
        return sweep.mutable
    by_name = {node.name: node for node in sweep.space.nodes}
    for name in names:
        if name not in by_name:
            raise ComponentError(f"{key}: {name!r} is not searched; searched are {', '.join(by_name)}")
        if by_name[name] not in sweep.mutable:
            raise ComponentError(
                f"{key}: {name!r} cannot change in the middle of a trial: the state of the model or optimizer would "
                f"not fit any more"
            )
    return [by_name[name] for name in names]


class SearchAlg(_Part):
    """Chooses the parameters of the next trial."""

    module = "ray.tune.search"
    hidden = frozenset({"space", "metric", "mode", "points_to_evaluate", "evaluated_rewards", "sampler", "storage"})

    @classmethod
    def build(cls, arguments: dict[str, Any], sweep: Sweep) -> Any:
        return cls._made(arguments)


SEARCH_ALG_REGISTRY.base = SearchAlg
register_search_alg = SEARCH_ALG_REGISTRY.register


@register_search_alg("random")
class Random(SearchAlg):
    """Grids are tried in full, all else is drawn at random: trial i depends on i and the seed alone."""

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
                f"optuna searches no grids, functions and normal distributions: {', '.join(wrong)}; use choice, or a "
                f"range"
            )
        seed = arguments.get("seed")
        return cls._made({**arguments, "seed": sweep.seed if seed is None else seed})
