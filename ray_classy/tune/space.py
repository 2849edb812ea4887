"""The search space of a sweep: a task config in which search nodes take the place of values.

A search node is a mapping that names a domain of Ray Tune (`{search: loguniform, lower: 1e-4, upper: 1}`) or, in
Python, the domain itself (`tune.loguniform(1e-4, 1)`). It may replace any value at any depth, also a whole component,
and may be nested in the choices of another node.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.sample import Categorical, Domain, Float, Function, Integer, Quantized

from ray_classy.config import Config, Problem, dotted, raise_problems
from ray_classy.config.document import Mark, Path
from ray_classy.errors import ConfigError
from ray_classy.seeding import derive_seed
from ray_classy.tune.domains import (
    SEARCH,
    described,
    is_node,
    is_rays_grid,
    labels_of,
    normal,
    problems_of_node,
    quantized,
)

_STRUCTURE = ("tune", "ray", "imports")


@dataclass(eq=False)
class Node:
    """A searched value.

    Attributes:
        name: the name of the parameter: its dotted path, followed by the choice in which it is nested if two nodes have
            the same path.
        path: where its value is put in the config of a trial.
        domain: Ray's domain; that of a grid or choice has the labels as categories.
        labels: of a grid or choice, the values by label; the label of a plain value is the value itself.
        grid: whether every value is tried.
        within: of a nested node, the names of the choices around it, each with the label for which it is active.
        origin: the path of the node itself in the config.
        key: the key of the list of values in the node.
    """

    name: str
    path: Path
    domain: Domain
    labels: dict[Any, Any] | None = None
    grid: bool = False
    within: dict[str, Any] = field(default_factory=dict)
    origin: Path = ()
    key: str = ""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The smallest and the largest value of a range of numbers; None for other domains."""
        if not isinstance(self.domain, Float | Integer) or normal(self.domain):
            return None
        exclusive = isinstance(self.domain, Integer) and not quantized(self.domain)
        return self.domain.lower, self.domain.upper - exclusive

    def nearest(self, value: Any) -> Any:
        """Returns the value of a range that is nearest to a number."""
        if self.bounds is None:
            return value
        sampler = self.domain.get_sampler()
        if isinstance(sampler, Quantized):
            value = round(value / sampler.q) * sampler.q
        return self.domain.cast(min(max(value, self.bounds[0]), self.bounds[1]))

    def value(self, label: Any) -> Any:
        """Returns the value of a label."""
        return copy.deepcopy(self.labels[label]) if self.labels is not None and label in self.labels else label

    def examples(self) -> list[tuple[Any, Path]]:
        """Returns labels that cover the node's values, each with its path within the node."""
        if self.labels is not None:
            return [(label, (self.key, index)) for index, label in enumerate(self.labels)]
        if self.bounds is not None:
            return [(self.bounds[0], ("lower",)), (self.bounds[1], ("upper",))]
        if isinstance(self.domain, Function):
            return []
        return [(self.domain.cast(normal(self.domain).mean), ("mean",))]

    def draw(self, seed: int, spec: Any) -> Any:
        """Draws a label; the same one for the same seed."""
        generator = np.random.RandomState(derive_seed(seed, zlib.crc32(self.name.encode())) & 0xFFFFFFFF)
        if isinstance(self.domain, Function):
            return self.domain.func(spec) if inspect.signature(self.domain.func).parameters else self.domain.func()
        drawn = self.domain.sample(spec, random_state=generator)
        return drawn.item() if isinstance(drawn, np.generic) else drawn


class Space:
    """A config with search nodes.

    Args:
        config: the config of a task, as a mapping or as a `Config`, which knows the lines for error messages.

    Raises:
        ConfigError: search nodes are invalid or not allowed at their place; the message lists all of them.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.nodes: list[Node] = []
        self._problems: list[Problem] = []
        self._collect(config, (), (), {})
        raise_problems(self._problems, config)

    def __len__(self) -> int:
        return len(self.nodes)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _collect(self, value: Any, path: Path, origin: Path, within: dict[str, Any]) -> None:
        """Collects the nodes in `value`, which is written at `origin` and is put at `path`."""
        if is_node(value):
            if path and path[0] in _STRUCTURE:
                text = f"{path[0]} configures the sweep itself and cannot be searched; use a plain value"
                self._problems.append(Problem(origin, text))
            else:
                self._add(value, path, origin, within)
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                self._collect(inner, (*path, key), (*origin, key), within)
        elif isinstance(value, list | tuple):
            for index, inner in enumerate(value):
                self._collect(inner, (*path, index), (*origin, index), within)

    def _add(self, value: Any, path: Path, origin: Path, within: dict[str, Any]) -> None:
        domain, values, key = self._read(value, origin)
        if domain is None:
            return
        name = dotted(path)
        if any(node.name == name for node in self.nodes):
            name = f"{name}@{'@'.join(str(label) for label in within.values())}".replace("/", "_")
        grid = key == "values"
        if grid and within:
            self._problems.append(
                Problem(origin, "a grid inside a choice would also be run for the other choices; use search: choice")
            )
        node = Node(name, path, domain, grid=grid, within=within, origin=origin, key=key)
        self.nodes.append(node)
        if values is None:
            return
        node.labels = labels_of(values)
        node.domain = Categorical(list(node.labels)).uniform()
        for index, (label, inner) in enumerate(node.labels.items()):
            self._collect(inner, path, (*origin, key, index), {**within, name: label})

    def _read(self, value: Any, origin: Path) -> tuple[Any, list[Any] | None, str]:
        """Returns the domain of a node, and of a grid or choice its values and the key of their list."""
        if isinstance(value, Categorical):
            return value, list(value.categories), "categories"
        if isinstance(value, Domain):
            return value, None, ""
        if is_rays_grid(value):
            return Categorical([]), list(value["grid_search"]), "values"
        problems = problems_of_node(value, origin)
        self._problems += problems
        if problems:
            return None, None, ""
        arguments = {key: inner for key, inner in value.items() if key != SEARCH}
        if value[SEARCH] in ("choice", "grid_search"):
            key, values = next(iter(arguments.items()))
            return Categorical([]), list(values), key
        return getattr(tune, value[SEARCH])(**arguments), None, ""

    # -- giving -------------------------------------------------------------------------------------------------------

    @property
    def grid_size(self) -> int:
        """The number of combinations of grid values; 1 without a grid."""
        size = 1
        for node in self.nodes:
            size *= len(node.labels or ()) if node.grid else 1
        return size

    def draw(self, index: int, seed: int) -> dict[str, Any]:
        """Returns the parameters of trial `index` of a grid and random search, which depend only on the arguments.

        Successive trials cycle through the combinations of grid values; all other values are drawn for each trial.
        """
        grids = [node for node in self.nodes if node.grid]
        combinations = list(itertools.product(*(list(node.labels or ()) for node in grids)))
        params = dict(zip((node.name for node in grids), combinations[index % len(combinations)], strict=True))
        try:
            return self._drawn(params, index, seed)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"cannot draw the values of trial {index}: {type(error).__name__}: {error}") from error

    def _drawn(self, params: dict[str, Any], index: int, seed: int) -> dict[str, Any]:
        late = [node for node in self.nodes if isinstance(node.domain, Function)]
        for node in [node for node in self.nodes if not node.grid and node not in late] + late:
            spec = SimpleNamespace(config=_Attributes(self.trial_config(params))) if node in late else None
            params[node.name] = node.draw(derive_seed(seed, index), spec)
        return {node.name: params[node.name] for node in self.nodes}

    def active(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the parameters without those of nodes that are nested in choices that were not made."""
        idle = {node.name for node in self.nodes if any(params.get(n) != label for n, label in node.within.items())}
        return {name: value for name, value in params.items() if name not in idle}

    def trial_config(self, params: Mapping[str, Any]) -> Config:
        """Builds the plain config of a trial.

        Args:
            params: labels by name of node; any other name is the dotted path of a value to set.
        """
        values = _plain({key: value for key, value in self.config.items() if key != "tune"})
        marks: dict[Path, Mark] = dict(getattr(self.config, "marks", {}))
        active = self.active(params)
        for node in self.nodes:
            if node.name in active:
                _put(values, node.path, node.value(active[node.name]))
                self._move_marks(marks, node, active[node.name])
        for name in active.keys() - {node.name for node in self.nodes}:
            _put(values, tuple(int(step) if step.isdigit() else step for step in name.split(".")), active[name])
        return Config(_plain(values), getattr(self.config, "file", None), marks)

    def _move_marks(self, marks: dict[Path, Mark], node: Node, label: Any) -> None:
        """Assigns the lines on which a value is written in a node to the place where it is put."""
        where = next((path for example, path in node.examples() if example == label), ())
        source = (*node.origin, *where)
        all_marks: dict[Path, Mark] = getattr(self.config, "marks", {})
        found = {path: mark for path, mark in all_marks.items() if path[: len(source)] == source}
        marks.update({(*node.path, *path[len(source) :]): mark for path, mark in found.items()})

    def variants(self) -> Iterator[dict[str, Any]]:
        """Yields parameters that cover every value of every choice and both ends of every range."""
        first: dict[str, Any] = {}
        for node in self.nodes:
            examples = node.examples()
            first[node.name] = examples[0][0] if examples else self.draw(0, 0)[node.name]
        yield first
        for node in self.nodes:
            for label, _ in node.examples():
                if label != first[node.name] or node.within:
                    yield {**first, **node.within, node.name: label}

    def described(self) -> dict[str, Any]:
        """Converts the config to plain values, with search nodes as mappings; anything else becomes its `repr`."""
        return described(self.config)


class _Attributes(dict[str, Any]):
    """A config whose keys are also attributes, as functions of `tune.sample_from` expect."""

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(f"the config has no {name!r}, only {', '.join(self)}") from None
        return _Attributes(value) if isinstance(value, dict) else value


def in_words(node: Node) -> str:
    """Describes the values of a node in words."""
    if node.labels is not None:
        return f"{'each' if node.grid else 'one'} of {', '.join(str(label) for label in node.labels)}"
    said = described(node.domain)
    if not isinstance(said, Mapping):
        return str(said)
    given = {key: value for key, value in said.items() if key not in (SEARCH, "lower", "upper")}
    words = f"{said[SEARCH]} from {said['lower']} to {said['upper']}" if "lower" in said else str(said[SEARCH])
    return " ".join([words, *(f"{key} {value}" for key, value in given.items())])


def _plain(value: Any) -> Any:
    """Copies a config without copying search nodes."""
    if is_node(value):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return copy.deepcopy(value)


def _put(values: Any, path: Path, value: Any) -> None:
    for step in path[:-1]:
        if isinstance(values, dict) and values.get(step) is None:
            values[step] = {}
        values = values[step]
    values[path[-1]] = value
