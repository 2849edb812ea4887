"""Search nodes in a config: their kinds, keys and checks, and the labels of their values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.sample import Categorical, Domain, Function, Integer, LogUniform, Normal, Quantized, Uniform

from ray_classy.config import Problem, problems_in
from ray_classy.config.document import Path
from ray_classy.errors import ConfigError
from ray_classy.redact import redacted_values
from ray_classy.registry import Key, Keys, nearest

SEARCH = "search"
_BOUNDS: Keys = {"lower": Key(float), "upper": Key(float)}
_WHOLE: Keys = {"lower": Key(int), "upper": Key(int)}
_STEP: Keys = {"q": Key(float)}
_WHOLE_STEP: Keys = {"q": Key(int)}
DOMAINS: dict[str, Keys] = {
    "choice": {"categories": Key(list[Any])},
    "grid_search": {"values": Key(list[Any])},
    "uniform": _BOUNDS,
    "quniform": {**_BOUNDS, **_STEP},
    "loguniform": _BOUNDS,
    "qloguniform": {**_BOUNDS, **_STEP},
    "randn": {"mean": Key(float, 0.0), "sd": Key(float, 1.0)},
    "qrandn": {"mean": Key(float), "sd": Key(float), **_STEP},
    "randint": _WHOLE,
    "qrandint": {**_WHOLE, "q": Key(int, 1)},
    "lograndint": _WHOLE,
    "qlograndint": {**_WHOLE, **_WHOLE_STEP},
}
"""The keys of each search domain of Ray Tune, by Ray's name of the domain."""


def is_node(value: Any) -> bool:
    """Returns whether a value of a config is a search node."""
    return isinstance(value, Domain) or is_rays_grid(value) or (isinstance(value, Mapping) and SEARCH in value)


def is_rays_grid(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"grid_search"}


def normal(domain: Domain) -> Any:
    """Returns the sampler of a domain if it is a normal distribution, else None."""
    sampler = domain.get_sampler()
    sampler = sampler.get_sampler() if isinstance(sampler, Quantized) else sampler
    return sampler if isinstance(sampler, Normal) else None


def quantized(domain: Domain) -> bool:
    return isinstance(domain.get_sampler(), Quantized)


def problems_of_node(value: Mapping[str, Any], origin: Path) -> list[Problem]:
    """Finds the mistakes in a search node that is a mapping."""
    name = value[SEARCH]
    if name not in DOMAINS:
        near = nearest(str(name), list(DOMAINS))
        hint = f"did you mean {near}?" if near else f"known: {', '.join(DOMAINS)}"
        return [Problem((*origin, SEARCH), f"unknown kind of search {name!r}: {hint}")]
    arguments = {key: inner for key, inner in value.items() if key != SEARCH}
    problems = problems_in(arguments, DOMAINS[name], origin)
    if problems:
        return problems
    given = {**{key: entry.default for key, entry in DOMAINS[name].items()}, **arguments}
    for key in ("categories", "values"):
        if key in given and not given[key]:
            problems.append(Problem((*origin, key), "is empty; list the values to choose from"))
    if "lower" in given and not given["lower"] < given["upper"]:
        text = f"lower is {given['lower']} and upper is {given['upper']}; lower must be below upper"
        problems.append(Problem((*origin, "lower"), text))
    if "log" in name and not given["lower"] > 0:
        text = f"{name} needs a lower bound above 0, not {given['lower']}"
        problems.append(Problem((*origin, "lower"), text))
    for key in ("q", "sd"):
        if key in given and not given[key] > 0:
            problems.append(Problem((*origin, key), f"must be above 0, not {given[key]}"))
    if not problems and name not in ("choice", "grid_search"):
        try:
            getattr(tune, name)(**arguments)
        except (ValueError, TypeError) as error:
            problems.append(Problem(origin, str(error)))
    return problems


def labels_of(values: list[Any]) -> dict[Any, Any]:
    """Assigns a unique label to each value: a plain value itself, else what distinguishes it from the others."""
    labels: dict[Any, Any] = {}
    for value in values:
        label = redacted_values(_label(value, values))  # labels are recorded and printed
        unique, number = label, 2
        while unique in labels:
            unique, number = f"{label}#{number}", number + 1
        labels[unique] = value
    return labels


def _label(value: Any, values: list[Any]) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not isinstance(value, Mapping | list | tuple):
        return _label(described(value), [])
    words = [_shown(value)]
    if isinstance(value, Mapping):
        others = [other for other in values if isinstance(other, Mapping)]
        telling = [key for key in value if any(other.get(key) != value[key] for other in others)]
        words = [
            f"{key}={inner}" for key, inner in value.items() if key in telling and _is_short(inner) and key != "name"
        ]
        if isinstance(value.get("name"), str) and ("name" in telling or not words):
            words.insert(0, value["name"])
            if [other.get("name") for other in others].count(value["name"]) == 1:
                words = words[:1]
    text = " ".join(words) or _shown(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _is_short(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 20)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def described(value: Any) -> Any:
    """Converts a config to plain values, with search nodes as mappings; anything else becomes its `repr`."""
    if isinstance(value, Domain):
        return _described_domain(value)
    if is_rays_grid(value):
        return {SEARCH: "grid_search", "values": described(list(value["grid_search"]))}
    if isinstance(value, Mapping):
        return {str(key): described(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [described(inner) for inner in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _described_domain(domain: Domain) -> Any:
    """Converts a domain of Ray to the mapping that describes it in a config file."""
    if isinstance(domain, Categorical):
        return {SEARCH: "choice", "categories": described(list(domain.categories))}
    if isinstance(domain, Function):
        return f"sample_from({getattr(domain.func, '__qualname__', domain.func)})"
    sampler = domain.get_sampler()
    quantum = {}
    if isinstance(sampler, Quantized):
        quantum, sampler = {"q": sampler.q}, sampler.get_sampler()
    whole = isinstance(domain, Integer)
    prefix = "q" if quantum else ""
    if isinstance(sampler, Normal):
        return {SEARCH: f"{prefix}randn", "mean": sampler.mean, "sd": sampler.sd, **quantum}
    bounds = {"lower": domain.lower, "upper": domain.upper}
    log = isinstance(sampler, LogUniform)
    if not log and sampler is not None and not isinstance(sampler, Uniform):
        raise ConfigError(f"{domain!r} is not supported in a search space; use one of {', '.join(DOMAINS)}")
    name = f"{prefix}{'log' if log else ''}{'randint' if whole else 'uniform'}"
    return {SEARCH: name, **bounds, **quantum}
