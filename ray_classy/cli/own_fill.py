"""Chooses the values of the recipe for a user's own data from the data, and says what was chosen."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

import torch

from ray_classy.cli.duration import seconds_of
from ray_classy.cli.output import command_line
from ray_classy.cli.own_choice import (
    Facts,
    choose_bad_rows,
    choose_batch,
    choose_epochs,
    choose_model,
    choose_transforms,
    has_bfloat16,
    network_of,
)
from ray_classy.cli.own_lines import data_lines, training_lines
from ray_classy.cli.own_rows import build_datasets
from ray_classy.cli.own_source import FLAGS, PLACES, Source
from ray_classy.config import Config, apply_overrides
from ray_classy.config.document import search_node
from ray_classy.config.overrides import override_texts
from ray_classy.dataset.cpus import cpus_of_this_machine
from ray_classy.dataset.data_report import class_counts, data_report
from ray_classy.dataset.image_sample import sample_images
from ray_classy.dataset.row_dataset import row_dataset_of
from ray_classy.display import print_line
from ray_classy.errors import CheckpointNotFoundError
from ray_classy.memory import machine_bytes

_SECONDS_FOR_IMAGES = 4.0
_RATE = "optimizer.param_schedulers.lr.then.start_value"
_RATE_FROM_SCRATCH = 1e-3
_CPUS_OF_TRIAL = 2
"""One for its worker, and one for the pipeline that decodes its images."""


def filled(arguments: argparse.Namespace, source: Source, config: Config) -> dict[str, Any]:
    """Returns what is chosen for data by dotted keys, without what the user sets; prints it, and what is odd.

    Args:
        arguments: the command line.
        source: the data.
        config: the recipe, with the data and the user's overrides.

    Raises:
        ConfigError: an override is wrong.
        UnknownComponentError: there is no network of the name.
        DataError: the data cannot be read, or have no classes.
        CheckpointNotFoundError: the weights cannot be had.
    """
    datasets = build_datasets(config, source)
    train = datasets["train"]
    base = row_dataset_of(train)
    assert base is not None, "datasets of images have rows"
    sample = sample_images(base, _SECONDS_FOR_IMAGES)
    on_gpu, memory, workers = _device(arguments, config)
    names, _ = class_counts(train) or ([], None)
    facts = Facts(len(train), len(names), sample.short_side(), sample.grey, on_gpu, memory, workers)
    values: dict[str, Any] = {}
    if arguments.model or arguments.weights or not _is_set("model", arguments):
        values["model"] = choose_model(arguments.model, arguments.weights, facts)
    model = apply_overrides(config, [*override_texts(values), *arguments.words]).get("model") or {}
    scratch = not (model.get("weights") or model.get("pretrained"))
    side, *transforms = choose_transforms(model, facts, scratch)
    for phase_type, chosen in zip(("train", "test"), transforms, strict=True):
        wrapped = [{"name": "apply_transform_to_key", "key": "input", "transforms": chosen}]
        values[f"dataset.{phase_type}.transforms"] = wrapped
    network = network_of(model, facts.classes)
    batch, room = choose_batch(facts, network, side)
    values["dataset.train.batchsize_per_replica"] = batch
    values["dataset.test.batchsize_per_replica"] = 2 * batch
    for phase_type, dataset in datasets.items():
        rows = row_dataset_of(dataset)
        key, most = f"dataset.{phase_type}.max_bad_rows", choose_bad_rows(len(dataset))
        if rows is not None and not _is_set(key, arguments):
            values[key] = rows.max_bad_rows = most
    values["num_epochs"] = choose_epochs(len(train), scratch, facts.small)
    if scratch and search_node(config.get("optimizer")) is None:
        values[_RATE] = _RATE_FROM_SCRATCH
    values |= _of_device(arguments, on_gpu, memory) | _of_budget(arguments)
    values = {key: value for key, value in values.items() if key == "model" or not _is_set(key, arguments)}
    whole = apply_overrides(config, [*override_texts(values), *arguments.words])
    own = _is_set("dataset.train.transforms", arguments)
    room = "" if _is_set("dataset.train.batchsize_per_replica", arguments) else room
    remarks = [f"data: {remark}" for remark in source.remarks]
    for line in (*data_lines(source, datasets), *training_lines(whole, facts, side, room, own), *remarks):
        print_line(line)
    if arguments.command != "check":  # which says what is odd itself, and trains nothing
        if not arguments.print_config:
            _fetch_weights(network, arguments)
        for line in data_report(datasets, sample=sample):
            print_line(f"data: {line}")
    return values


def _is_set(key: str, arguments: argparse.Namespace) -> bool:
    """Whether the user has overridden a value, one in it, or one that it is in."""
    words = [word.partition("=")[0].strip() for word in arguments.words]
    return any(word == key or word.startswith(f"{key}.") or key.startswith(f"{word}.") for word in words)


def _of_device(arguments: argparse.Namespace, on_gpu: bool | None, memory: int | None) -> dict[str, Any]:
    """Returns the values with which the GPUs of this machine are used."""
    found: dict[str, Any] = {}
    if on_gpu and arguments.use_gpu is None and not getattr(arguments, "local", False):
        found["ray.use_gpu"] = True
    if on_gpu and memory is not None and has_bfloat16():
        found["amp_args"] = {"amp_type": "pytorch", "dtype": "bfloat16"}
    return found


def _of_budget(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the values of a sweep that ends after a time."""
    if getattr(arguments, "budget", None) is None:
        return {}
    endless = {"tune.num_samples": -1} if arguments.num_samples is None else {}
    return {"tune.time_budget_s": seconds_of(arguments.budget), **endless}


def _device(arguments: argparse.Namespace, config: Mapping[str, Any]) -> tuple[bool | None, int | None, int]:
    """Returns whether workers have GPUs, the memory of each, and their number; None where it is not known here."""
    local, wanted = getattr(arguments, "local", False), getattr(arguments, "use_gpu", None)
    section = config.get("ray") or {}
    number = arguments.num_workers if arguments.num_workers is not None else section.get("num_workers")
    workers = 1 if local or not isinstance(number, int) else max(1, number)
    if not local and (arguments.address or section.get("address") or os.environ.get("RAY_ADDRESS")):
        return wanted, None, workers
    if torch.cuda.is_available() and wanted is not False and (local or workers <= torch.cuda.device_count()):
        return True, min(torch.cuda.get_device_properties(n).total_memory for n in range(workers)), workers
    memory = machine_bytes()
    share = workers * trials_at_once(arguments.command, config)
    return bool(wanted), None if wanted or memory is None else memory // share, workers


def trials_at_once(command: str, config: Mapping[str, Any]) -> int:
    """Returns how many trials of a sweep share the memory of this machine, if they have no GPUs; 1 for a run."""
    if command != "tune":
        return 1
    room = cpus_of_this_machine() // _CPUS_OF_TRIAL
    most = (config.get("tune") or {}).get("max_concurrent_trials")
    return max(1, min(room, most) if isinstance(most, int) else room)


def _fetch_weights(network: Any, arguments: argparse.Namespace) -> None:
    """Downloads the weights that a model starts from, before anything else is done.

    Raises:
        CheckpointNotFoundError: they cannot be had; the message has the command that trains without them.
    """
    weights = getattr(network, "starting_weights", None)
    if weights is None:
        return
    try:
        weights.fetch()
    except CheckpointNotFoundError as error:
        without = [flag for flag in (*PLACES, *FLAGS) if flag != "weights"]
        given = [flag for flag in without if getattr(arguments, flag, None) is not None]
        flags = [word for flag in given for word in (f"--{flag}", str(getattr(arguments, flag)))]
        local = ["--local"] if getattr(arguments, "local", False) else []
        command = command_line(arguments.command, *flags, *local, *arguments.words)
        raise CheckpointNotFoundError(f"{error}; or train from scratch: {command}") from None
