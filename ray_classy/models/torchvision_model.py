"""The classification networks of torchvision as models."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import nn

from ray_classy.errors import ComponentError, UnknownComponentError
from ray_classy.models.classy_model import register_model, with_heads
from ray_classy.models.library_model import LibraryModel, build_network, check_heads, file_of_weights, unknown_network
from ray_classy.models.positions import resized_positions
from ray_classy.models.preprocessing import Preprocessing
from ray_classy.models.pretrained import DownloadedWeights, PretrainedWeights, torch_cache
from ray_classy.registry import Key, Keys, nearest, signature_keys

_READ_BY_BUILDERS: dict[str, Keys] = {
    "EfficientNet": {"dropout": Key(float)},
    "MaxVit": {"input_size": Key(list[int])},
    "MobileNetV3": {"width_mult": Key(float), "reduced_tail": Key(bool), "dilated": Key(bool)},
    "VisionTransformer": {"image_size": Key(int)},
}
"""By class, options that the functions of torchvision read themselves; those of the constructors come with them."""
_WITH_AUXILIARY = ("GoogLeNet", "Inception3")
_SIZE = 224
"""Pixels of a side for which torchvision builds a vision transformer, unless it is told another size."""
_POSITIONS = "encoder.pos_embedding"
_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")


@register_model("torchvision")
class TorchvisionModel(LibraryModel):
    """A classification network of torchvision.

    Args:
        model: its name in torchvision (`convnext_tiny`; `ray-classy list model PATTERN` finds them).
        num_classes: the number of outputs; None for the 1000 of ImageNet, 0 for no classifier. In a config it comes
            from the data, and is 0 where the model has heads.
        options: further arguments of the network's constructor, such as `stochastic_depth_prob`.

    The input is (N, 3, height, width), the output (N, num_classes). A config may name pretrained weights, which are
    loaded before the training starts: `weights: DEFAULT`, another name of torchvision's (`IMAGENET1K_V1`), or the path
    of a file.

    Raises:
        UnknownComponentError: torchvision has no such network.
        ComponentError: the network refuses an argument.
    """

    FURTHER = ("AuxLogits.", "aux1.", "aux2.")

    def __init__(self, model: str, num_classes: int | None = None, **options: Any) -> None:
        builder = _builder(model)
        cls = _class_of(builder)
        if cls.__name__ in _WITH_AUXILIARY:
            if options.get("aux_logits"):
                raise ComponentError(f"aux_logits of {model} must be false: a task trains one output of a network")
            options = {"aux_logits": False, "init_weights": True, **options}
        outputs = {} if num_classes is None else {"num_classes": num_classes or 1}
        network = build_network(builder, model, {**outputs, **options})
        classifier = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
        if num_classes == 0:
            network.set_submodule(classifier, nn.Identity())
        size = options.get("image_size") or _preset(model, None).size[0]  # any other size, for most networks
        super().__init__(network, model, [] if num_classes == 0 else [classifier], (3, size, size))
        self._layers_of_classifier = (classifier,)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds the network; see `config_keys` and `keys_for`."""
        options = {key: value for key, value in config.items() if key not in ("name", "heads", "weights")}
        source = _weights(config["model"], config.get("weights"))
        check_heads(config)
        if config.get("heads"):
            options["num_classes"] = 0
        model = cls(**{**_options_of_weights(config["model"], config.get("weights")), **options})
        model.starting_weights = source
        return model

    @classmethod
    def config_keys(cls) -> Keys:
        """The name of the network, the number of classes, the weights, and the heads."""
        weights = (
            "Pretrained weights to start from: DEFAULT, another name of torchvision's, or a file, run or checkpoint."
        )
        return with_heads({**signature_keys(cls), "weights": Key(str | None, None, weights)})

    @classmethod
    def keys_for(cls, model: Any) -> Keys:
        """The options of a network's constructor; see `options_of`."""
        return options_of(model)

    @classmethod
    def preprocessing(cls, config: Mapping[str, Any]) -> Preprocessing:
        """That of the weights, or of the network's default weights for images of its size."""
        found = _preset(config["model"], config.get("weights"))
        size = config.get("image_size")
        return found if size is None else found.of_size(size)

    def classifier_names(self) -> tuple[str, ...]:
        return self._layers_of_classifier

    def converted(self, weights: dict[str, Any]) -> dict[str, Any]:
        """Returns weights with the names of older files, or the positions of another image size, as they are here."""
        weights = {_DENSE_LAYER.sub(r"\1", name): value for name, value in weights.items()}
        own = self.model.state_dict().get(_POSITIONS)
        if own is not None and _POSITIONS in weights:
            weights[_POSITIONS] = resized_positions(weights[_POSITIONS], tuple(own.shape), antialias=False)
        return weights


def names() -> list[str]:
    """Returns the names of torchvision's classification networks."""
    from torchvision import models

    return models.list_models(module=models)


def options_of(model: Any) -> Keys:
    """Returns the options of a network that a config may give, beside its number of classes.

    Raises:
        UnknownComponentError: torchvision has no such network.
    """
    cls = _class_of(_builder(model))
    keys = {name: key for name, key in signature_keys(cls).items() if name != "num_classes" and _is_plain(key)}
    found = {**keys, **_READ_BY_BUILDERS.get(cls.__name__, {})}
    return {name: Key(key.annotation | None, None) for name, key in found.items()}


def _is_plain(key: Key) -> bool:
    """Whether a config can give an argument, and need not: it is neither a function nor a class of layers."""
    is_function = any(word in str(key.annotation) for word in ("Callable", "Module"))
    return not is_function and isinstance(key.default, bool | int | float | str | list | tuple | None)


def weights_of(model: str) -> dict[str, Any]:
    """Returns the entries of torchvision's enumeration of a network's weights by their names; the first is DEFAULT."""
    from torchvision.models import get_model_weights

    kinds = get_model_weights(model)
    entries = dict(kinds.__members__)
    default = entries.pop("DEFAULT", None)
    return {**({"DEFAULT": default} if default is not None else {}), **entries}


def _builder(model: Any) -> Callable[..., nn.Module]:
    from torchvision.models import get_model_builder

    if model not in names():
        raise UnknownComponentError(unknown_network("torchvision", str(model), names()))
    return get_model_builder(model)


def _class_of(builder: Callable[..., nn.Module]) -> type:
    return typing.get_type_hints(builder)["return"]


def _entry(model: str, weights: Any) -> Any:
    """Returns the entry of torchvision's enumeration that a config names; None if it names a file, or nothing."""
    return weights_of(model).get(weights) if isinstance(weights, str) else None


def _weights(model: str, weights: str | None) -> PretrainedWeights | None:
    """Returns the weights that a config names.

    Raises:
        ComponentError: it is neither a name nor a path.
    """
    if weights is None:
        return None
    entry = _entry(model, weights)
    if entry is not None:
        return DownloadedWeights(f"{entry} of torchvision", torch_cache(entry.url), entry.url, "model.weights")
    known = list(weights_of(model))
    if not any(mark in weights for mark in "./~") and not os.path.exists(weights):
        near = nearest(weights, known)
        hint = f"did you mean {near}?" if near else f"it has {', '.join(known)}"
        raise ComponentError(f"{model} has no weights {weights!r} in torchvision, and there is no such file: {hint}")
    return file_of_weights("model.weights", weights)


def _options_of_weights(model: str, weights: str | None) -> dict[str, Any]:
    """Returns the options that torchvision sets for pretrained weights."""
    if weights is None:
        return {}
    entry, kind = _entry(model, weights), _class_of(_builder(model)).__name__
    if kind in _WITH_AUXILIARY:
        return {"transform_input": True, "init_weights": False}
    if kind == "VisionTransformer" and entry is not None:
        return {"image_size": entry.meta["min_size"][0]}
    return {}


def _preset(model: str, weights: Any) -> Preprocessing:
    """Returns the preprocessing of weights, or of the first ones for images of the size that the network takes."""
    fixed = _class_of(_builder(model)).__name__ == "VisionTransformer"  # which takes images of one size
    others = (one for one in weights_of(model).values() if not fixed or one.meta["min_size"][0] == _SIZE)
    entry = _entry(model, weights) or next(others, None)
    if entry is None:
        return Preprocessing()
    preset = entry.transforms()
    side = preset.crop_size[0]
    return Preprocessing(
        (side, side), preset.resize_size[0], preset.interpolation.value, tuple(preset.mean), tuple(preset.std)
    )
