"""The `tune` section of a config: the fields of Ray's `TuneConfig`, a scheduler and a search algorithm by name, and
stopping conditions."""

from __future__ import annotations

import dataclasses
import datetime
import math
import time
from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune.schedulers import PopulationBasedTraining
from ray.tune.search import BasicVariantGenerator

from ray_classy.config import dotted, mark_of
from ray_classy.config.places import locate_errors
from ray_classy.errors import ComponentError, ConfigError
from ray_classy.registry import Key, Keys, nearest, signature_keys
from ray_classy.trainer.ranking import default_metric, default_mode
from ray_classy.tune.parts import EPOCH, SCHEDULER_REGISTRY, SEARCH_ALG_REGISTRY, Scheduler, SearchAlg, Sweep

_OBJECTS = frozenset({"trial_name_creator", "trial_dirname_creator", "chdir_to_trial_dir", "scheduler", "search_alg"})
PROGRESS = (EPOCH, "where", "training_iteration")
"""The entries of every report of a trial besides its metrics."""


def tune_keys() -> Keys:
    """Returns the keys of the `tune` section with their types and defaults."""
    fields = signature_keys(tune.TuneConfig, skip=_OBJECTS)
    return {
        **{name: key._replace(doc=_DOCS.get(name, "")) for name, key in fields.items()},
        "time_budget_s": Key(float | None, None, "ends the sweep after so many seconds."),
        "reuse_actors": Key(bool, True, "whether trials take over the processes of others."),
        "scheduler": Key(Scheduler, {"name": "fifo"}, "decides which trials continue."),
        "search_alg": Key(SearchAlg, {"name": "random"}, "suggests the values of trials."),
        "stop": Key(
            dict[str, float],
            {},
            "thresholds by metric: a trial ends where a loss falls to its own, or another metric rises to it.",
        ),
        "resources_per_trial": Key(dict[str, float] | None, None, "what a trial reserves, by resource."),
    }


_DOCS = {
    "metric": "what trials are compared by, such as test.accuracy.top_1; null takes the first meter, else the loss.",
    "mode": "whether a greater (max) or a smaller (min) metric is better; null is found from the metric.",
    "num_samples": "number of trials, or passes over a grid.",
    "max_concurrent_trials": "trials that run at the same time; null is as many as fit.",
}


def tune_config_of(section: Mapping[str, Any], given: tune.TuneConfig | None) -> tune.TuneConfig:
    """Returns the config object that was given in Python, else one built from the section."""
    if given is not None:
        # Its reuse_actors is False by default, which cannot be distinguished from an intended False.
        return dataclasses.replace(given, reuse_actors=True)
    names = {field.name for field in dataclasses.fields(tune.TuneConfig)} - _OBJECTS
    fields = {name: value for name, value in section.items() if name in names and value is not None}
    return tune.TuneConfig(**{"reuse_actors": True, **fields})


def with_parts(chosen: tune.TuneConfig, section: Mapping[str, Any], config: Any, sweep: Sweep) -> tune.TuneConfig:
    """Returns a copy of a config object in which scheduler and search algorithm are built, if they are not set yet.

    Raises:
        ConfigError: an argument is invalid; the message has its line.
    """
    built = dataclasses.replace(chosen)
    if isinstance(built.search_alg, BasicVariantGenerator):
        built.search_alg = None  # `SweepSearch` draws at random itself, from the seed
    if built.scheduler is None:
        built.scheduler = _part("scheduler", SCHEDULER_REGISTRY, section, config, sweep)
    if built.search_alg is None:
        built.search_alg = _part("search_alg", SEARCH_ALG_REGISTRY, section, config, sweep)
    if isinstance(built.scheduler, PopulationBasedTraining) and built.search_alg is not None:
        raise ConfigError(
            f"{mark_of(config, ('tune', 'search_alg'))}: tune.search_alg: population-based training changes the values "
            f"itself: leave out the search algorithm, or use another scheduler"
        )
    return built


def _part(key: str, registry: Any, section: Mapping[str, Any], config: Any, sweep: Sweep) -> Any:
    given = section.get(key) or {"name": "fifo" if key == "scheduler" else "random"}
    arguments = {name: value for name, value in given.items() if name != "name" and value is not None}
    with locate_errors(config, "tune", key):
        return registry.named_class(given).build(arguments, sweep)


def with_metric(chosen: tune.TuneConfig, config: Any, names: list[str], stop: Mapping[str, float]) -> tune.TuneConfig:
    """Returns a copy of a config object in which metric and mode are set.

    The default metric is the first meter of the test phases, else the loss.

    Raises:
        ConfigError: the metric is not reported, and the message lists those that are; or a value is out of range.
    """
    built = dataclasses.replace(chosen)
    if built.metric is None:
        built.metric = default_metric(names)
        if built.metric is None:
            place = mark_of(config, ("tune",))
            raise ConfigError(f"{place}: tune.metric: missing; name a metric that the task reports")
    for key, name in [("metric", built.metric), *(("stop", name) for name in stop)]:
        allowed = [*names, *PROGRESS] if key == "stop" else names
        if names and name not in allowed:
            near = nearest(str(name), allowed)
            hint = f"did you mean {near}? " if near else ""
            path = ("tune", key, name) if key == "stop" else ("tune", key)
            raise ConfigError(
                f"{mark_of(config, path)}: {dotted(path[:2])}: no metric named {name!r} is reported: "
                f"{hint}The task reports {', '.join(allowed)}"
            )
    if built.mode is None:
        built.mode = default_mode(str(built.metric))
    elif built.mode not in ("min", "max"):
        raise ConfigError(f"{mark_of(config, ('tune', 'mode'))}: tune.mode: must be 'min' or 'max', not {built.mode!r}")
    if built.num_samples < 1 and built.num_samples != -1:
        raise ConfigError(
            f"{mark_of(config, ('tune', 'num_samples'))}: tune.num_samples: must be at least 1, or -1 for no limit, "
            f"not {built.num_samples}"
        )
    for key in ("max_concurrent_trials", "time_budget_s"):
        value = getattr(built, key)
        if isinstance(value, int | float) and value <= 0:
            raise ConfigError(f"{mark_of(config, ('tune', key))}: tune.{key}: must be above 0 or null, not {value}")
    if built.num_samples == -1 and not built.time_budget_s:
        raise ConfigError(
            f"{mark_of(config, ('tune', 'num_samples'))}: tune.num_samples: -1 draws samples without limit: set "
            f"tune.time_budget_s as well"
        )
    return built


class Stop(tune.Stopper):
    """Stops trials at thresholds, and the whole sweep at its time budget.

    Args:
        stop: a threshold for each metric, at which a trial is stopped: a loss that falls to it, any other metric that
            rises to it; or a stopper or function as Ray Tune takes it.
        budget: the time budget of the sweep in seconds; None for no limit.

    Attributes:
        over: why the sweep ends before all trials do; None while it does not.
    """

    def __init__(self, stop: Any, budget: float | datetime.timedelta | None) -> None:
        self._thresholds = dict(stop) if isinstance(stop, Mapping) else {}
        self._other = None if isinstance(stop, Mapping) else stop
        self._seconds = budget.total_seconds() if isinstance(budget, datetime.timedelta) else budget
        self._until = math.inf
        self._ends_trials = False
        self.over: str | None = None

    def reason(self, result: Mapping[str, Any]) -> str | None:
        """Describes the threshold that a result has reached; None if it has reached none."""
        reached = [(n, limit) for n, limit in self._thresholds.items() if _reached(n, result.get(n), limit)]
        return f"{reached[0][0]} reached {reached[0][1]:g}" if reached else None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Returns whether to stop a trial."""
        return bool(self._other(trial_id, result)) if self._other is not None else self.reason(result) is not None

    def is_over(self) -> bool:
        """Returns whether the sweep is to end; the first call starts the time budget."""
        now = time.monotonic()
        if self._seconds is not None and math.isinf(self._until):
            self._until = now + self._seconds
        if now > self._until:
            self.over = f"the time budget of {self._seconds:g} s is spent"
        elif isinstance(self._other, tune.Stopper) and self._other.stop_all():
            self.over = f"by {type(self._other).__name__}"
        return self.over is not None

    def end_trials(self) -> None:
        """Has Ray Tune end all trials in the next iteration of its loop."""
        self._ends_trials = True

    def stop_all(self) -> bool:
        """Returns whether Ray Tune is to end all trials; it calls this in every iteration of its loop."""
        return self._ends_trials


def _reached(name: str, value: Any, limit: float) -> bool:
    if value is None:
        return False
    return value <= limit if name.endswith("loss") else value >= limit


def trial_resources_per_worker(section: Mapping[str, Any], workers: int) -> dict[str, float] | None:
    """Divides the resources of a trial among its workers; None if the section does not set them.

    Raises:
        ComponentError: no resource is above 0.
    """
    given = section.get("resources_per_trial")
    if not given:
        return None
    if not any(amount > 0 for amount in given.values()):
        raise ComponentError("tune.resources_per_trial: no resource is above 0; set one, such as {CPU: 1}")
    return {name: amount / workers for name, amount in given.items()}
