"""--images, --manifest, --parquet and --shards: a recipe for data of one's own, filled in by what the data are like."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import command_line
from ray_classy.cli.own_source import PLACES, Source, find_source
from ray_classy.config.document import Config, search_node
from ray_classy.display import print_line

RECIPE = "recipe:own_folder"
SWEEP = "recipe:sweeps/own_folder"
_SOURCES = tuple(PLACES)
_FLAGS = ("model", "weights", "split", "test")
_MOST_CLASSES = 6
_LIKELY_CLASSES = 1_000


def words_of(arguments: argparse.Namespace) -> list[str]:
    """Returns the words of a command line: with a flag such as --images, the recipe and the overrides that fill it in.

    What is chosen, and what is odd in the data, is printed.

    Raises:
        UsageError: there is a config besides, two of the flags, or one that goes with them is given without.
        RayClassyError: there is no such data, or it cannot be read.
    """
    words: list[str] = arguments.words
    sources = [flag for flag in _SOURCES if getattr(arguments, flag, None) is not None]
    given = [flag for flag in (*_FLAGS, "budget") if getattr(arguments, flag, None) is not None]
    if not sources:
        if given and given[0] == "budget":
            raise UsageError("--budget goes with --images and its like; in a config, the key is tune.time_budget_s")
        if given:
            keys = "model, dataset.test and dataset.split"
            raise UsageError(f"--{given[0]} goes with --images DIR and its like; in a config, the keys are {keys}")
        return words
    flag = sources[0]
    if len(sources) > 1:
        raise UsageError(f"--{flag} and --{sources[1]} are given: take one of them")
    for option in ("resume", "extend"):
        if getattr(arguments, option, None) is not None:
            raise UsageError(f"--{option} has the config of its run: leave out --{flag}")
    recipe = SWEEP if arguments.command == "tune" else RECIPE
    if words and "=" not in words[0]:
        more = "quote a pattern, so that the shell leaves it" if flag in ("parquet", "shards") else "leave it out"
        raise UsageError(f"--{flag} takes {recipe}, and {words[0]!r} is one word too many: {more}")
    return [recipe, *_overrides(arguments, flag, recipe)]


def _overrides(arguments: argparse.Namespace, flag: str, recipe: str) -> list[str]:
    """Returns the overrides of the recipe: the source, what is chosen, and the user's own, which count."""
    from ray_classy.config import apply_overrides, load_config

    place, words = getattr(arguments, flag), arguments.words
    whole = load_config(recipe)
    own = apply_overrides(whole, words)
    sections = own.get("dataset")
    own_train, own_test = (_section(sections, phase_type) for phase_type in ("train", "test"))
    test = arguments.test if arguments.test is not None else own_test.get(PLACES[flag])
    if test is not None and arguments.split is not None:
        raise UsageError("--split takes test rows from those to train on, and --test names others: use one of them")
    in_recipe = _section(whole.get("dataset"), "train")
    source = find_source(
        flag, place, test, {key: value for key, value in own_train.items() if value != in_recipe.get(key)}
    )
    filled = _source_overrides(source, in_recipe, arguments.split)
    config = apply_overrides(whole, [*_texts(filled), *words])
    chosen = _Choice(arguments, source, config)
    return [*_texts({**filled, **chosen.values}), *words]


def _section(sections: Any, phase_type: str) -> dict[str, Any]:
    section = sections.get(phase_type) if isinstance(sections, Mapping) else None
    return dict(section) if isinstance(section, Mapping) else {}


def _source_overrides(source: Source, in_recipe: Mapping[str, Any], split: float | None) -> dict[str, Any]:
    common = {key: value for key, value in in_recipe.items() if key not in PLACES.values()}
    found: dict[str, Any] = {"dataset.train": {**common, **source.train}}
    if source.test is not None:
        found |= {"dataset.split": None, **{f"dataset.test.{key}": value for key, value in source.test.items()}}
    elif split is not None:
        found["dataset.split.test"] = split
    return found


def _texts(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


class _Choice:
    """What is chosen for data, printed in five lines, and what is odd in the data.

    Attributes:
        values: of the config, by dotted keys; the user's own are not among them.
    """

    def __init__(self, arguments: argparse.Namespace, source: Source, config: Config) -> None:
        from ray_classy.cli.own_choice import (
            Facts,
            choose_batch,
            choose_epochs,
            choose_model,
            choose_transforms,
            network_of,
        )
        from ray_classy.dataset.data_report import class_counts, data_report
        from ray_classy.dataset.image_sample import sample_images
        from ray_classy.dataset.row_dataset import row_dataset_of

        self._set_by_user = {word.partition("=")[0].strip() for word in arguments.words}
        self._config = config
        self.values: dict[str, Any] = {}
        datasets = _datasets(config, source)
        train = datasets["train"]
        names, counts = class_counts(train) or ([], [])
        used = [(names[number], int(count)) for number, count in enumerate(counts) if count]
        base = row_dataset_of(train)
        assert base is not None, "datasets of images have rows"
        sample = sample_images(base, 6.0)
        on_gpu, memory, workers = _device(arguments, config)
        facts = Facts(len(train), len(names), sample.short_side(), sample.grey, on_gpu, memory, workers)
        scratch = arguments.weights is None and not self._is_users("model")
        if not self._is_users("model"):
            self.values["model"] = choose_model(arguments.model, arguments.weights, facts)
        model = self.values.get("model", config.get("model")) or {}
        scratch = scratch or not (model.get("weights") or model.get("pretrained"))
        side, *transforms = choose_transforms(model, facts, scratch)
        for phase_type, chosen in zip(("train", "test"), transforms, strict=True):
            self._set(
                f"dataset.{phase_type}.transforms",
                [{"name": "apply_transform_to_key", "key": "input", "transforms": chosen}],
            )
        network = network_of(model, facts.classes)
        batch, bounded = choose_batch(facts, network, side)
        self._set("dataset.train.batchsize_per_replica", batch)
        self._set("dataset.test.batchsize_per_replica", 2 * batch)
        self._set("num_epochs", choose_epochs(len(train), scratch, facts.small))
        rate = "optimizer.param_schedulers.lr.then.start_value"
        if scratch and not self._is_searched("optimizer", "param_schedulers"):
            self._set(rate, 1e-3)
        if on_gpu and getattr(arguments, "use_gpu", None) is None and not getattr(arguments, "local", False):
            self._set("ray.use_gpu", True)
        if getattr(arguments, "budget", None) is not None:
            self.values["tune.time_budget_s"] = seconds_of(arguments.budget)
            if arguments.num_samples is None:
                self._set("tune.num_samples", -1)
        lines = self._lines(source, datasets, used, facts, scratch, side, bounded)
        for line in (*lines, *(f"data: {remark}" for remark in source.remarks)):
            print_line(line)
        if arguments.command != "check" and not arguments.print_config:
            _fetch_weights(network, arguments)
        if arguments.command != "check":  # which says it itself
            for line in data_report(datasets, sample=sample):
                print_line(f"data: {line}")

    def _set(self, key: str, value: Any) -> None:
        if not self._is_users(key):
            self.values[key] = value

    def _is_users(self, key: str) -> bool:
        """Whether the user has set a value, one in it, or one that it is in."""
        return any(
            word == key or word.startswith(f"{key}.") or key.startswith(f"{word}.") for word in self._set_by_user
        )

    def _is_searched(self, *path: str) -> bool:
        value: Any = self._config
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return search_node(value) is not None

    def _lines(
        self,
        source: Source,
        datasets: Mapping[str, Any],
        used: Any,
        facts: Any,
        scratch: bool,
        side: int,
        bounded: bool,
    ) -> Iterator[str]:
        from ray_classy.config import apply_overrides

        config = apply_overrides(self._config, [*_texts(self.values)])
        rows, tests = len(datasets["train"]), len(datasets["test"])
        fewest = min(used, key=lambda one: one[1])
        most = sorted(used, key=lambda one: -one[1])[:_MOST_CLASSES]
        listed = ", ".join(f"{name} {count:,}" for name, count in most)
        more = f", ..., {fewest[0]} {fewest[1]:,}" if len(used) > _MOST_CLASSES else ""
        yield f"data: {source.name}: {rows + tests:,} images of {len(used):,} classes; to train on: {listed}{more}"
        split = datasets["train"].split_rows
        if split is None:
            places = [_place(section) for section in (source.train, source.test or {})]
            yield f"split: {rows:,} to train on ({places[0]}), {tests:,} for tests ({places[1]})"
        else:
            both = ", each class on both sides" if split.split.stratify else ""
            yield f"split: {rows:,} to train on, {tests:,} for tests ({tests / (rows + tests):.0%}), by a hash of " + (
                f"the column {split.split.id}{both}" if split.split.id else f"their names{both}"
            )
        yield f"model: {_model_line(config['model'], scratch)}"
        batch = config["dataset"]["train"]["batchsize_per_replica"]
        each = f" for each of {facts.workers} workers" if facts.workers > 1 else ""
        room = ", which fit the memory" if bounded else ""
        device = {True: "on a GPU", False: "on CPUs", None: "on the cluster"}[facts.on_gpu]
        yield f"images: {side} x {side} pixels, in batches of {batch}{each}{room}, {device}"
        epochs, steps = config.get("num_epochs"), -(-rows // (batch * facts.workers))
        augmentation = "of your own" if self._is_users("dataset.train.transforms") else _augmentation(config)
        yield f"training: {epochs} epochs of {steps:,} steps, {_rate(config)}, augmentation: {augmentation}"


def _fetch_weights(network: Any, arguments: argparse.Namespace) -> None:
    """Downloads the weights that a model starts from, before anything else is done.

    Raises:
        CheckpointNotFoundError: they cannot be had; the message has the command that trains without them.
    """
    from ray_classy.errors import CheckpointNotFoundError

    weights = getattr(network, "starting_weights", None)
    if weights is None:
        return
    try:
        weights.fetch()
    except CheckpointNotFoundError as error:
        given = [flag for flag in (*_SOURCES, "model", "split", "test") if getattr(arguments, flag, None) is not None]
        flags = [word for flag in given for word in (f"--{flag}", str(getattr(arguments, flag)))]
        local = ["--local"] if getattr(arguments, "local", False) else []
        command = command_line(arguments.command, *flags, *local, *arguments.words)
        raise CheckpointNotFoundError(f"{error}; or train from scratch: {command}") from None


def _datasets(config: Config, source: Source) -> dict[str, Any]:
    """Builds the datasets of both phases without their transforms, which depend on what is in them."""
    from ray_classy.config import Config as Sections
    from ray_classy.dataset.split import Split
    from ray_classy.tasks.data_sections import build_phase_dataset, split_of
    from ray_classy.tasks.task_config import checked

    sections = {kind: _bare(section) for kind, section in config["dataset"].items()}
    whole = Sections({**config, "dataset": sections}, config.file, config.marks)
    if search_node(whole) is None:
        checked(whole)
    train = build_phase_dataset({**whole, "dataset": {"train": sections["train"]}}, "train")
    _check_classes(source, train)
    split = split_of(whole)
    if split is not None:
        Split(**split).take(train, "train")
    return {"train": train, "test": build_phase_dataset(whole, "test", train)}


def _bare(section: Any) -> Any:
    if not isinstance(section, Mapping) or "transforms" not in section:
        return section
    return {key: value for key, value in section.items() if key != "transforms"}


def _check_classes(source: Source, train: Any) -> None:
    """Checks that each row has one class, of two or more.

    Raises:
        DataError: it is not so.
    """
    from ray_classy.dataset.data_report import class_counts
    from ray_classy.errors import DataError

    names, counts = class_counts(train) or ([], [])
    used = [(names[number], int(count)) for number, count in enumerate(counts) if count]

    if train.target_columns():
        raise DataError(
            f"{source.name}: rows have several labels, for which there are other recipes: "
            f"ray-classy recipes multi_label"
        )
    if not used:
        raise DataError(f"{source.name}: no labels" + (f": {train.without_targets}" if train.without_targets else ""))
    if len(used) == 1:
        inside = _inside(source.train.get("image_folder"), used[0][0])
        hint = f"; it has folders of its own: give {inside!r}" if inside else "; at least two are needed"
        raise DataError(f"{source.name}: all {used[0][1]:,} rows are of one class, {used[0][0]!r}{hint}")


def _inside(folder: Any, name: str) -> str | None:
    """Returns the only class folder if it has folders, as an archive that was unpacked into a folder of its own."""
    path = os.path.join(str(folder), name)
    below = os.path.isdir(path) and any(os.path.isdir(os.path.join(path, inner)) for inner in os.listdir(path))
    return path if folder is not None and below else None


def _device(arguments: argparse.Namespace, config: Mapping[str, Any]) -> tuple[bool | None, int | None, int]:
    """Returns whether workers have GPUs, the memory of each, and their number; None where it is not known here."""
    import torch

    from ray_classy.memory import machine_bytes

    local, wanted = getattr(arguments, "local", False), getattr(arguments, "use_gpu", None)
    section = config.get("ray") or {}
    number = arguments.num_workers if arguments.num_workers is not None else section.get("num_workers")
    workers = 1 if local or not isinstance(number, int) else max(1, number)
    if not local and (arguments.address or section.get("address") or os.environ.get("RAY_ADDRESS")):
        return wanted, None, workers
    if torch.cuda.is_available() and wanted is not False and (local or workers <= torch.cuda.device_count()):
        return True, min(torch.cuda.get_device_properties(n).total_memory for n in range(workers)), workers
    memory = machine_bytes()
    return bool(wanted), None if wanted or memory is None else memory // workers, workers


def _place(section: Mapping[str, Any]) -> str:
    place = next((section[key] for key in PLACES.values() if key in section), "")
    return f"{len(place)} files" if isinstance(place, list) else str(place)


def _model_line(model: Mapping[str, Any], scratch: bool) -> str:
    name, network = model.get("name"), model.get("model")
    what = f"{network} of {name}" if network else f"a small {name}"
    if not scratch:
        return f"{what}, from the weights {model.get('weights') or model.get('pretrained')}"
    better = (
        "--weights DEFAULT (downloads those of a ResNet-50) or a file is usually better, most of all with few images"
    )
    return f"{what}, from scratch, as no --weights are given; {better}"


def _rate(config: Mapping[str, Any]) -> str:
    rate = (config.get("optimizer") or {}).get("param_schedulers", {}).get("lr", {})
    rate = rate.get("then", rate) if isinstance(rate, Mapping) else rate
    start = rate.get("start_value") if isinstance(rate, Mapping) else None
    return f"learning rate {start:g}" if isinstance(start, int | float) else "learning rate searched"


def _augmentation(config: Mapping[str, Any]) -> str:
    words = {
        "RandomResizedCrop": "random crops",
        "random_shift": "shifts",
        "RandomHorizontalFlip": "flips",
        "TrivialAugmentWide": "TrivialAugment (few images per class)",
    }
    chosen = config["dataset"]["train"]["transforms"][0]["transforms"]
    return ", ".join(words[one["name"]] for one in chosen if one.get("name") in words)


_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?")


def seconds_of(text: str) -> float:
    """Returns the seconds of a time such as 1h, 90m, 1h30m or 3600.

    Raises:
        UsageError: it is not a time above 0.
    """
    match = _SPAN.fullmatch(text.strip().lower())
    hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0.0, 0.0, 0.0)
    found = 3600 * hours + 60 * minutes + seconds
    if found <= 0:
        raise UsageError(f"--budget must be a time such as 1h, 90m or 1h30m, not {text!r}")
    return found
