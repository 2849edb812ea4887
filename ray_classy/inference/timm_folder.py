"""Folders in the layout of timm on the Hugging Face Hub: `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ray_classy import __version__
from ray_classy.errors import CheckpointError
from ray_classy.inference.export_record import FORMAT, ExportRecord, PreprocessingRecord
from ray_classy.printable import printable
from ray_classy.records import parse_json_object

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_PREFIX = "model."
_OWN = ("name", "model", "num_classes", "pretrained", "heads")


def timm_network(config: Mapping[str, Any], model: nn.Module) -> Any:
    """Returns the network of timm that a model is.

    Raises:
        CheckpointError: the model is another, or has heads, which timm does not know.
    """
    from ray_classy.models.timm_model import TimmModel

    if not isinstance(model, TimmModel):
        raise CheckpointError(
            f"the format timm is for networks of timm (model.name: timm), and the model is {config.get('name')!r}: "
            f"export it as pt2, onnx or safetensors"
        )
    if config.get("heads"):
        raise CheckpointError(
            "the model has heads in the place of the network's own classifier, which timm cannot build: export it as "
            "pt2, onnx or safetensors, or train it without heads"
        )
    return model.model


def timm_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Returns the weights of a network under timm's names."""
    return {name: value.contiguous().clone() for name, value in network.state_dict().items()}


def timm_config(network: Any, record: ExportRecord) -> str:
    """Returns `config.json`: the network, its preprocessing as timm describes it, and the names of the classes."""
    cfg = dict(network.pretrained_cfg)
    config = {
        "architecture": cfg.get("architecture") or str(record.model["model"]).partition(".")[0],
        "num_classes": network.num_classes,
        "num_features": network.num_features,
        "pretrained_cfg": {
            **{key: cfg[key] for key in ("first_conv", "classifier", "fixed_input_size", "pool_size") if key in cfg},
            "tag": "ray_classy",
            "custom_load": False,
            "num_classes": network.num_classes,
            "input_size": list(record.shape),
            **_preprocessing(record.preprocessing.transforms or [], record.shape),
        },
        "model_args": {key: value for key, value in record.model.items() if key not in _OWN and value is not None},
    }
    if record.classes is not None:
        config["label_names"] = record.classes
    return json.dumps(config, indent=2)


def _preprocessing(transforms: list[Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """What timm calls the size, the crop and the normalization of a list of transforms."""
    flat: list[dict[str, Any]] = []
    for one in transforms:
        within = one.get("transforms") if isinstance(one, Mapping) else None
        flat += within if isinstance(within, list) else [one]
    named = {str(one.get("name")): one for one in flat if isinstance(one, Mapping)}
    normalize, resize = named.get("Normalize", {}), named.get("Resize", {})
    size, crop = resize.get("size"), 1.0
    if isinstance(size, int) and "CenterCrop" in named:
        crop = min(1.0, min(shape[-2:]) / size)
    squash = isinstance(size, list | tuple) and len(size) == 2
    return {
        "mean": list(normalize.get("mean", [0.0] * shape[0])),
        "std": list(normalize.get("std", [1.0] * shape[0])),
        "interpolation": resize.get("interpolation", "bilinear"),
        "crop_pct": crop,
        "crop_mode": "squash" if squash else "center",
    }


def record_of_folder(content: bytes, where: str) -> ExportRecord:
    """Returns the record of a folder that another program wrote, from its `config.json`.

    Raises:
        RecordError: it is damaged.
        CheckpointError: it is not of a classifier of timm.
    """
    from ray_classy.models.timm_model import preprocessing_of

    config = parse_json_object(content, where)
    name, number = config.get("architecture"), config.get("num_classes")
    labels = config.get("label_names")
    arguments = config.get("model_args") or {}
    if not isinstance(name, str) or type(number) is not int or not 1 <= number <= 1_000_000:
        raise CheckpointError("its config.json does not name a classifier of timm (architecture, num_classes)")
    if labels is not None and (not isinstance(labels, list) or not all(isinstance(one, str) for one in labels)):
        raise CheckpointError("the label_names in its config.json are not a list of text")
    if (labels is not None and len(labels) != number) or not isinstance(arguments, dict):
        raise CheckpointError(
            f"its config.json has {number} classes, and does not name as many: {printable(labels)[:80]}"
        )
    arguments = {key: value for key, value in arguments.items() if key not in _OWN}
    model = {**arguments, "name": "timm", "model": name, "num_classes": number}
    cfg = config.get("pretrained_cfg") or {}
    how = preprocessing_of(model, cfg if isinstance(cfg, dict) else {})
    transforms = [{"name": "apply_transform_to_key", "key": "input", "transforms": how.transforms(train=False)}]
    return ExportRecord(
        format=FORMAT,
        ray_classy=__version__,
        classes=labels,
        activation="softmax",
        input_shape=["rows", 3, *how.size],
        preprocessing=PreprocessingRecord("RGB", transforms),
        model=model,
    )


def weights_of_model(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns weights under the names of `TimmModel`."""
    return {f"{_PREFIX}{name}": value for name, value in weights.items()}
