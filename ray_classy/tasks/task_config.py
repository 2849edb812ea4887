"""Checks the config of a task, and builds a classification task from it."""

from __future__ import annotations

import copy
import functools
import logging
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ray_classy.config import Problem, dotted, problems_in, raise_problems
from ray_classy.config.imports import import_modules
from ray_classy.config.places import locate_errors
from ray_classy.config.ray_options import RAY_KEYS
from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.split import Split
from ray_classy.dataset.target_columns import ONLY
from ray_classy.dataset.transforms.mixup import MixupTransform
from ray_classy.errors import ConfigError
from ray_classy.heads import HEAD_REGISTRY
from ray_classy.hooks import ClassyHook, build_hook
from ray_classy.losses import ClassyLoss, build_loss
from ray_classy.losses.loss_weight import ignored_index
from ray_classy.meters import ClassyMeter, build_meters
from ray_classy.models import MODEL_REGISTRY, ClassyModel, build_model
from ray_classy.models.head_hints import hint_at
from ray_classy.optim import ClassyOptimizer, build_optimizer, build_optimizer_schedulers
from ray_classy.optim.param_scheduler import ParamScheduler, build_param_scheduler
from ray_classy.optim.param_scheduler.classy_vision_param_scheduler import with_num_epochs
from ray_classy.registry import ByName, Key, Keys, config_keys, signature_keys
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host
from ray_classy.tasks.class_weights import balanced_weights
from ray_classy.tasks.classes import classes_of_heads, describe_classes, number_of_outputs
from ray_classy.tasks.classy_task import TASK_REGISTRY
from ray_classy.tasks.data_sections import (
    TRAINING_NEEDS_IT,
    build_phase_dataset,
    dataset_problems,
    is_of_train,
    phase_types_of,
    with_shuffling,
    with_test_section,
)
from ray_classy.tasks.draft import Draft
from ray_classy.tasks.option import option_keys, option_problems, options_of, section_keys
from ray_classy.tasks.precision import Precision
from ray_classy.tasks.preprocessing import with_preprocessing
from ray_classy.tasks.splits import check_one_source

if TYPE_CHECKING:
    from ray_classy.tasks.planned_task import PlannedTask

T = TypeVar("T")

_log = logging.getLogger(__name__)

RESERVED: Keys = {
    "imports": Key(list[str], [], "modules of your own, imported before anything is built."),
    "seed": Key(int, 0, "seeds the order of rows, random transforms and new weights."),
    "ray": Key(dict[str, Any], {}, "workers, failures, checkpoints and the cluster."),
    "tune": Key(dict[str, Any], {}, "settings of a sweep."),
    "report": Key(bool, False, "write report.html and report.md into the folder at the end of a run or sweep."),
}
"""Keys that every task's config may have; `ray` is checked by `RayOptions`, `tune` by the sweep."""


def classification_keys(cls: type) -> Keys:
    """Returns the keys of a classification task: its options and its parts."""
    mixup = signature_keys(MixupTransform, skip=frozenset({"mixup_alpha", "correct_lam"}))
    alpha = Key(float, doc="parameter of mixup's Beta distribution, at least 0; 0 disables mixup.")
    parts = {
        "dataset": Key(
            {
                "train": Key(ClassyDataset | None, None, "the dataset of train phases."),
                "test": Key(ClassyDataset | None, None, "the dataset of test phases; null for none."),
                "split": Key(signature_keys(Split), None, "divides the rows of one dataset into both; null for none."),
            },
            doc="the datasets.",
        ),
        "loss": Key(ClassyLoss, doc="what training minimizes."),
        "model": Key(ClassyModel, doc="the network, with its heads."),
        "meters": Key(ByName(ClassyMeter), {}, "arguments of meters, by name."),
        "optimizer": Key(ClassyOptimizer | None, None, "the optimizer and its schedules; training needs it."),
        "hooks": Key(list[ClassyHook] | None, None, "are called at the events of a run, in this order."),
        "mixup": Key({"alpha": alpha, **mixup}, None, "mixes the rows of each training batch; null for no mixing."),
        "image_size": Key(ParamScheduler | None, None, "schedule of the longer side of training images, in pixels."),
    }
    return {
        **parts,
        **option_keys(cls),
        "amp_args": Key(section_keys(Precision), None, "mixed precision; null for none."),
    }


def checked(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a task's config as it is, if it has no mistakes.

    Raises:
        ConfigError: it has; the message lists them all.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"a task's config must be a mapping with a `name`, not {config!r}")
    import_modules(config)
    problems = [
        problem
        for problem in problems_in(with_test_section(config), TASK_REGISTRY, sections={**RESERVED, **RAY_KEYS})
        if not is_of_train(config, problem.path)
    ]
    cls = TASK_REGISTRY.get(config.get("name", ""))
    if not problems and cls is not None and options_of(cls):
        keys = config_keys(cls) or {}
        problems = list(_contradictions(cls, config)) if classification_keys(cls).keys() <= keys.keys() else []
    raise_problems([_with_hint(problem, config) for problem in problems], config)
    return config


def _with_hint(problem: Problem, config: Mapping[str, Any]) -> Problem:
    """Adds to a missing key what the rest of the config says about its value."""
    hint = hint_at(config, problem.path) if problem.message.startswith("missing") else ""
    return Problem(problem.path, problem.message + hint)


def _contradictions(cls: type, config: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields values out of range, and keys that do not go together."""
    yield from option_problems(cls, config)
    yield from dataset_problems(config)
    if config.get("test_only"):
        if int(config.get("num_epochs", 1)) != config.get("num_epochs", 1):
            yield Problem(("num_epochs",), f"a test_only run evaluates whole epochs, not {config['num_epochs']}")
    elif not config.get("optimizer"):
        yield Problem(("optimizer",), f"missing; {TRAINING_NEEDS_IT}")
    strategy = (config.get("distributed") or {}).get("strategy", "zero")
    if strategy != "zero" and config.get("use_sharded_ddp"):
        yield Problem(("use_sharded_ddp",), f"means distributed.strategy: zero, which is {strategy!r}: leave one out")


def seeded(seed: int, build: Callable[[], T]) -> T:
    """Calls `build` with seeded random generators, and restores the generators."""
    with host_rng_kept():
        seed_host(derive_seed(seed))
        return build()


def configure(task: PlannedTask, config: dict[str, Any], draft: Draft | None = None) -> Any:
    """Sets every option and part of a task from its config, and returns the task.

    Args:
        task: new.
        config: a task's config.
        draft: how parts are built for a task that is not trained; None builds what is trained.
    """
    # A `from_config` of the user's may call this with a config that `build_task` has not seen.
    raise_problems(list(_contradictions(type(task), config)), config)
    config = with_shuffling(config)
    with locate_errors(config, "model"):
        config = with_preprocessing(config)
    for key, one in options_of(type(task)).items():
        with locate_errors(config, *([key] if key in config else [])):
            one.set_from(task, config)
    seed, test_only = task.seed, task.test_only
    device = draft.device if draft is not None else None
    for phase_type in phase_types_of(config):
        if phase_type == "test" or not test_only:
            with locate_errors(config, "dataset", phase_type):
                build = build_phase_dataset if draft is None else draft.dataset
                task.set_dataset(build(config, phase_type, task.datasets.get("train")), phase_type)
    with locate_errors(config, "dataset", "test"):
        check_one_source(task.datasets)
    config = _with_num_classes(config, task.datasets)
    with locate_errors(config, "loss"):
        counted = balanced_weights(config, task.datasets)
        task.balanced_loss, config = (None if counted is config else config), counted
        task.set_loss(seeded(seed, lambda: build_loss(config["loss"])))
    with locate_errors(config, "model"):
        task.set_model(seeded(seed, lambda: build_model(config["model"], device, weights=False)))
    task.is_draft = draft is not None
    with locate_errors(config, "meters"):
        task.set_meters(build_meters(config.get("meters") or {}))
        describe_classes(task)
    if config.get("mixup"):
        with locate_errors(config, "mixup"):
            arguments = {"ignore_index": ignored_index(task.base_loss), **config["mixup"]}
            if arguments["ignore_index"] is None:
                del arguments["ignore_index"]
            if arguments.get("num_classes") is None:
                arguments["num_classes"] = classes_of_heads(task.base_model) or config["model"].get("num_classes")
            task.set_mixup_transform(MixupTransform(arguments.pop("alpha"), **arguments))
    if not test_only:
        epochs = config["num_epochs"] * config["dataset"]["train"].get("phases_per_epoch", 1)
        with locate_errors(config, "optimizer"):
            task.set_optimizer(build_optimizer(config["optimizer"]))
            task.set_optimizer_schedulers(build_optimizer_schedulers(config["optimizer"], epochs))
        if config.get("image_size"):
            with locate_errors(config, "image_size"):
                task.set_image_size(build_param_scheduler(with_num_epochs(config["image_size"], epochs)))
    hooks = []
    for index, hook in enumerate(config.get("hooks") or []):
        with locate_errors(config, "hooks", index):
            hooks.append(build_hook(hook))
    with locate_errors(config, "hooks"):
        task.set_hooks(hooks)
    task.config = copy.copy(config)  # setters write to it
    return task


def _with_num_classes(config: dict[str, Any], datasets: Mapping[str, ClassyDataset]) -> dict[str, Any]:
    """Returns the config with the dataset's number of classes, of train before test, where the model gives none.

    It is given to its heads or, if it has none, to its own classifier.
    """
    model = config.get("model") or {}
    heads = model.get("heads") or []
    lacking: list[tuple[Any, ...]] = [("heads", index) for index, head in enumerate(heads) if _lacks_num_classes(head)]
    sizes_classifier = getattr(MODEL_REGISTRY.get(str(model.get("name"))), "sizes_classifier", False)
    if sizes_classifier and not heads and model.get("num_classes") is None:
        lacking = [()]
    for source in ("train", "test"):
        if not lacking or source not in datasets:
            continue
        with locate_errors(config, "dataset", source):
            numbers = {path: number_of_outputs(datasets[source], _target_of(config["model"], path)) for path in lacking}
        if not any(numbers.values()):
            continue
        filled = copy.deepcopy(config)
        for path in lacking:
            number = numbers[path]
            if number is not None:
                functools.reduce(operator.getitem, path, filled["model"])["num_classes"] = number
                key = dotted(("model", *path, "num_classes"))
                _log.info("%s is %d, from the %s dataset", key, number, source)
        return filled
    return config


def _target_of(model: Mapping[str, Any], path: tuple[Any, ...]) -> str:
    """Returns the name of the target that a head is for; that of the only one for a model's own classifier."""
    return str(model["heads"][path[1]].get("unique_id")) if path else ONLY


def _lacks_num_classes(head: Mapping[str, Any]) -> bool:
    """Returns whether the config of a head may have `num_classes` and does not."""
    if head.get("num_classes") is not None or head.get("name") not in HEAD_REGISTRY:
        return False
    return "num_classes" in (config_keys(HEAD_REGISTRY[head["name"]]) or {})
