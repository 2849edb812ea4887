"""How a model is built: from its config, with heads and pretrained weights, or from a checkpoint."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Mapping
from typing import Any

import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.checkpoint.manifest import read_manifest
from ray_classy.errors import ComponentError, MissingStateError
from ray_classy.heads import ClassyHead, build_head
from ray_classy.models.classy_model import MODEL_REGISTRY, ClassyModel
from ray_classy.models.head_points import block_list
from ray_classy.storage import Storage


def build_model(config: Mapping[str, Any], device: str | None = None, weights: bool = True) -> ClassyModel:
    """Builds the model that `config["name"]` chooses, with its heads.

    Args:
        config: `name`, the keys of that model, and `heads`: a list of head configs, each with the `fork_block` that
            the head reads.
        device: where the model is built; "meta" gives shapes without weights, which take no memory.
        weights: load the pretrained weights that the config names, unless the device is "meta".

    Raises:
        CheckpointError: the pretrained weights cannot be read or do not fit.
        UnknownComponentError: no model or head is registered under a name, or the trunk has no such block.
        ComponentError: a head has no `fork_block` or `unique_id`, or an argument is impossible.
    """
    with torch.device(device) if device is not None else contextlib.nullcontext():
        model = _build_model(config)
    if weights and device != "meta" and model.starting_weights is not None:
        model.load_starting_weights(model.starting_weights.read())
    return model


def _build_model(config: Mapping[str, Any]) -> ClassyModel:
    model = MODEL_REGISTRY.named_class(config).from_config(copy.deepcopy(dict(config)))
    heads: dict[str, list[ClassyHead]] = {}
    for head in config.get("heads") or []:
        if "fork_block" not in head:
            raise ComponentError(
                f"a head of model {config['name']!r} has no `fork_block`, the block that it reads: {dict(head)!r}; "
                f"{type(model).__name__} has {block_list(model)}"
            )
        heads.setdefault(head["fork_block"], []).append(build_head(head))
    if heads:
        model.set_heads(heads)
    return model


def build_from_checkpoint(checkpoint: Mapping[str, Any] | str) -> ClassyModel:
    """Builds the model of a checkpoint and loads its weights; see `ClassyModel.from_checkpoint`."""
    content = load_checkpoint(checkpoint) if isinstance(checkpoint, str) else checkpoint
    sources = [content.get("input_args"), content.get("ray_classy")]
    if isinstance(checkpoint, str):
        folder = os.path.dirname(checkpoint) if checkpoint.endswith(".torch") else checkpoint
        sources.append(read_manifest(Storage(folder or "."), ""))
    configs = [source.get("config") for source in sources if isinstance(source, Mapping)]
    config = next(filter(None, (config.get("model") for config in configs if isinstance(config, Mapping))), None)
    state = (content.get("classy_state_dict") or {}).get("base_model")
    if config is None or state is None:
        raise MissingStateError(
            "the checkpoint has no config of its model (it was written for a task built in Python) or no model "
            "state; build the model yourself and call set_classy_state with classy_state_dict.base_model"
        )
    model = build_model(config, weights=False)
    model.set_classy_state(state)
    return model
