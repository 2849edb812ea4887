"""The loader of weights: of every file that is read, into every model.

    weights = read_weights("resnet50.pth")
    report = load_weights(model, weights, reset_heads=True)
    print(report)

What is read is in the table of docs/weights.md. Nothing in a file is executed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ray_classy.checkpoint.files import WEIGHTS_FILES, read_weights_file
from ray_classy.checkpoint.state_dicts import find_averages, find_state_dict, is_average
from ray_classy.errors import CheckpointError
from ray_classy.models.batch_counters import fit_counters
from ray_classy.models.classifiers import is_classifier, own_classifier
from ray_classy.models.head_points import in_trunk
from ray_classy.models.model_state import StateMismatch, StateMismatchError, flatten, mismatch_error, model_part
from ray_classy.models.plain_weights import FoundWeights, find_weights, split_heads
from ray_classy.models.positions import fit_positions
from ray_classy.models.weights_report import WeightsReport, refusal
from ray_classy.printable import printable
from ray_classy.storage import Storage
from ray_classy.urls import parent, shown

_CONFIG = "config.json"
_MOST_LETTERS = 80


@dataclass(frozen=True)
class Weights:
    """The weights in a file.

    Attributes:
        tensors: by the names in the file; of a checkpoint of a task, those of the model's trunk.
        source: the file, for messages.
        undone: what was around the tensors: "under the key state_dict", say.
        state: the state of the model in a checkpoint of a task, with its heads; None for any other file.
        record: what such a checkpoint says of the run that wrote it (its entry `ray_classy`).
    """

    tensors: Mapping[str, Any]
    source: str = "the pretrained weights"
    undone: tuple[str, ...] = ()
    state: Mapping[str, Any] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)


def read_weights(source: str, key: str | None = None) -> Weights:
    """Reads the weights in a file or folder onto the CPU.

    Args:
        source: local path or URL of a file that `torch.save` wrote, a `.safetensors` file, a folder of timm
            (`config.json` and `model.safetensors`), a run, or a checkpoint, also of Classy Vision.
        key: where in the file the weights are, with dots ("model_ema"); None looks at the usual places.

    Raises:
        CheckpointNotFoundError: there is none.
        UnsafeFileError: the file would run code elsewhere.
        CheckpointError: it is damaged, has no weights, has several, or has none under the key.
        StorageError: it cannot be read, also not in a second try.
    """
    where, content = read_weights_file(source)
    try:
        weights = weights_of(content, where, key)
    except CheckpointError as error:
        raise type(error)(f"{shown(where)}: {error}") from None
    architecture = _architecture(where)
    return weights if architecture is None else replace(weights, undone=(f"a {architecture}", *weights.undone))


def _architecture(file: str) -> str | None:
    """Returns the name of the network in the `config.json` beside a file of weights, if there is one."""
    storage, name = Storage(parent(file)), file.rpartition("/")[2]
    if not name.startswith(WEIGHTS_FILES) or not storage.exists(_CONFIG):
        return None
    try:
        config = json.loads(storage.read(_CONFIG))
    except (OSError, ValueError, RecursionError):
        return None
    found = config.get("architecture") if isinstance(config, dict) else None
    return printable(found)[:_MOST_LETTERS] if isinstance(found, str) else None


def weights_of(content: Mapping[str, Any], source: str = "the pretrained weights", key: str | None = None) -> Weights:
    """Returns the weights in what a file holds.

    Args:
        content: a checkpoint of a task, a state dict, or a dict that has a state dict somewhere.
        source: the file, for messages.
        key: as for `read_weights`.

    Raises:
        CheckpointError: it has no weights, several, or none under the key.
    """
    whole = content.get("classy_state_dict") if isinstance(content, Mapping) else None
    if isinstance(whole, Mapping) and "base_model" in whole:
        record = content.get("ray_classy")
        record = record if isinstance(record, Mapping) else {}
        trunk = model_part(whole["base_model"])["trunk"]
        if key is None or key == "classy_state_dict.base_model":
            return Weights(trunk, source, (), whole["base_model"], record)
        if is_average(key):
            tensors = {**trunk, **find_averages(whole)}
            return Weights(tensors, source, (f"the averages of the weights ({key})",), None, record)
    found = find_state_dict(content, key)
    undone: tuple[str, ...] = (f"under the key {found.key}",) if found.key else ()
    if found.others:
        undone += (f"not those under {', '.join(found.others)}",)
    return Weights(found.tensors, source, undone)


def load_weights(model: Any, weights: Weights, reset_heads: bool = False, strict: bool = True) -> WeightsReport:
    """Loads weights into a model.

    A prefix that all names in the file share is removed, names of other libraries become the model's
    (`ClassyModel.own_names`), numbers get the model's type, and position embeddings its number of patches.

    Args:
        model: a `ClassyModel`.
        weights: from `read_weights`.
        reset_heads: leave the model's heads, or the classifier in its trunk, as they are.
        strict: refuse weights that are not exactly the model's; otherwise load those that fit.

    Returns:
        What was loaded, and what was not.

    Raises:
        CheckpointError: they do not fit, or none of them does; nothing is loaded then.
    """
    found = _found(model, weights, reset_heads)
    state, resized = fit_positions(model, found.state)
    source = origin(weights, found.prefix)
    try:
        differences = load_state(model, state, reset_heads, strict)
    except StateMismatchError as error:
        raise CheckpointError(f"{source}: {refusal(model, state, error.differences, reset_heads)}") from None
    given = flatten(state["model"]["trunk"], state["model"]["heads"])
    unused = {**found.dropped, **{name: given.get(name) for name in differences.unexpected}}
    names = {id(value): name for name, value in weights.tensors.items()}
    unused = {names.get(id(value), name): value for name, value in unused.items()}
    return WeightsReport.of(model, source, differences, reset_heads, unused, resized, found.filled)


def origin(weights: Weights, prefix: str) -> str:
    """Returns where weights are from, in words: the file, the key in it, and the prefix of their names."""
    without = (f"without the prefix {prefix}",) if prefix else ()
    return ", ".join([shown(weights.source), *weights.undone, *without])


def load_state(model: Any, state: Mapping[str, Any], reset_heads: bool, strict: bool = True) -> StateMismatch:
    """Loads what a model's `get_classy_state` returned; with `reset_heads` all but its heads or classifier.

    Returns:
        What differs: what `model.set_classy_state` returns.

    Raises:
        CheckpointError: the state does not fit, or nothing in it does.
    """
    if reset_heads:
        own, given = model.get_classy_state()["model"], model_part(state)
        kept = {name: own["trunk"][name] for name in own_classifier(model)}
        state = {**state, "model": {"trunk": {**given["trunk"], **kept}, "heads": own["heads"]}}
    try:
        differences = model.set_classy_state(state, strict=strict)
    except StateMismatchError as error:
        _check_fits(model, error.differences, reset_heads)
        raise
    _check_fits(model, differences, reset_heads)
    return differences


def _check_fits(model: Any, differences: Any, reset_heads: bool) -> None:
    """Refuses a state of which only the model's own heads or classifier fit."""
    if reset_heads and differences:
        trunk = model.get_classy_state()["model"]["trunk"].keys() - own_classifier(model)
        if differences.fits_nothing_of(trunk):
            text = f"nothing in the state fits the trunk of this {type(model).__name__}: {differences}"
            raise mismatch_error(text, differences) from None


@dataclass(frozen=True)
class _Found:
    """The state of a model in a file.

    Attributes:
        state: as the model's `get_classy_state` returns it.
        prefix: of its names in the file.
        dropped: entries of the file that are left out.
        filled: entries that are the model's own.
    """

    state: Mapping[str, Any]
    prefix: str = ""
    dropped: Mapping[str, Any] = field(default_factory=dict)
    filled: Collection[str] = ()


def _found(model: Any, weights: Weights, reset_heads: bool) -> _Found:
    plain = find_weights(model, weights.tensors)
    names = model.state_dict().keys()
    if weights.state is None:
        return _plain(model, plain, reset_heads)
    inner = model_part(weights.state)
    dropped = flatten({}, inner["heads"]) if reset_heads else {}
    known = model.own_names(inner["trunk"]).keys() & names
    if known or not plain.weights.keys() & names:
        return _Found(weights.state, "", dropped)
    found = _plain(model, plain, reset_heads)  # the trunk of a model with names of its own
    heads = found.state["model"]["heads"] if reset_heads else inner["heads"]
    state = {**found.state, "model": {"trunk": found.state["model"]["trunk"], "heads": heads}}
    return _Found(state, found.prefix, {**found.dropped, **dropped}, found.filled)


def _plain(model: Any, plain: FoundWeights, reset_heads: bool) -> _Found:
    """Sorts a plain state dict into a trunk and heads."""
    own = model.state_dict()
    left, heads = split_heads(model, plain.weights)
    left, filled = fit_counters({name: value for name, value in own.items() if in_trunk(name)}, left)
    dropped: dict[str, Any] = dict(plain.others)
    if reset_heads:
        dropped |= {name: left.pop(name) for name in [*left] if name not in own and is_classifier(name)}
        in_trunk_too = own_classifier(model)
        dropped |= {name: value for name, value in left.items() if name in in_trunk_too}
        dropped |= flatten({}, heads)
    state = {**model.get_classy_state(), "model": {"trunk": left, "heads": heads}}
    return _Found(state, plain.prefix, dropped, filled)
