"""The networks of timm (https://github.com/huggingface/pytorch-image-models) as models; timm is an extra."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from typing import Any, Self

from ray_classy.errors import ComponentError, UnknownComponentError
from ray_classy.models.classy_model import register_model, with_heads
from ray_classy.models.layers import heads_group
from ray_classy.models.library_model import LibraryModel, build_network, check_heads, file_of_weights, unknown_network
from ray_classy.models.preprocessing import Preprocessing
from ray_classy.models.pretrained import DownloadedWeights, HubWeights, PretrainedWeights, require, torch_cache
from ray_classy.records import parse_json_object
from ray_classy.registry import Key, Keys, signature_keys
from ray_classy.storage import Storage

_CONFIG_FILE, _WEIGHTS_FILE = "config.json", "model.safetensors"
_OF_BATCH_NORM = ("bn_eps", "bn_momentum")  # of networks of these classes, whose builders read them
_WITH_BATCH_NORM_OPTIONS = ("EfficientNet", "MobileNetV3")
_NOT_OPTIONS = ("num_classes", "device", "dtype")
_OF_TIMM = ("pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
_SAFE = {"pytorch_model.bin": _WEIGHTS_FILE, "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}


@register_model("timm")
class TimmModel(LibraryModel):
    """A network of timm.

    Args:
        model: its name in timm, with or without a tag of weights (`vit_small_patch16_224`, `resnet50.a1_in1k`;
            `ray-classy list model PATTERN` finds them).
        num_classes: the number of outputs; None for that of its weights, 0 for no classifier. In a config it comes from
            the data, and is 0 where the model has heads.
        options: further arguments of the network, such as `drop_path_rate` and `img_size`.

    The input is (N, channels, height, width), the output (N, num_classes). A config may name pretrained weights, which
    are loaded before the training starts: `pretrained: true` for those that timm has, or the path of a file, or of a
    folder with `config.json` and `model.safetensors`.

    Raises:
        UnavailableError: timm is not installed.
        UnknownComponentError: timm has no such network.
        ComponentError: the network refuses an argument.
    """

    def __init__(self, model: str, num_classes: int | None = None, **options: Any) -> None:
        check_name(model)
        import timm

        refused = sorted(options.keys() & {*_OF_TIMM})
        if refused:
            raise ComponentError(f"{refused[0]} cannot be given to {model}: weights are named by `pretrained`")
        outputs = {} if num_classes is None else {"num_classes": num_classes}
        arguments = {**outputs, **options}
        network: Any = build_network(lambda **given: timm.create_model(model, **given), model, arguments)
        shape = tuple(timm.data.resolve_model_data_config(network)["input_size"])
        size = options.get("img_size")
        if size is not None:
            shape = (shape[0], *((size, size) if isinstance(size, int) else size))
        if num_classes and not _classifiers(network):
            raise ComponentError(f"{model} of timm has no classifier: give the model heads, which read its features")
        super().__init__(network, model, () if num_classes == 0 else _classifiers(network), shape)
        self._arguments = arguments

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds the network; see `config_keys` and `keys_for`."""
        options = {key: value for key, value in config.items() if key not in ("name", "heads", "pretrained")}
        check_name(config["model"])
        check_heads(config)
        if config.get("heads"):
            options["num_classes"] = 0
        model = cls(**{**_folder_config(config).get("model_args", {}), **options})
        model.starting_weights = _weights(model, config.get("pretrained", False))
        return model

    @classmethod
    def config_keys(cls) -> Keys:
        """The name of the network, the number of classes, the weights, and the heads."""
        weights = "Pretrained weights to start from: true for those of timm, or a folder, file, run or checkpoint."
        return with_heads({**signature_keys(cls), "pretrained": Key(bool | str, False, weights)})

    @classmethod
    def keys_for(cls, model: Any) -> Keys | None:
        """The options of a network's constructor; see `options_of`."""
        return options_of(model)

    @classmethod
    def preprocessing(cls, config: Mapping[str, Any]) -> Preprocessing:
        """That of the network's weights, or that in the folder with them."""
        return preprocessing_of(config, _folder_config(config).get("pretrained_cfg", {}))

    def extract_features(self, x: Any) -> Any:
        """Returns what is in front of the classifier, (N, features)."""
        network: Any = self.model
        return network.forward_head(network.forward_features(x), pre_logits=True) if self._classifiers else self(x)

    def layer_groups(self) -> list[list[str]]:
        """Returns the names of all parameters in the groups in which timm has them, and those of heads behind them."""
        from timm.models import group_parameters

        matcher = getattr(self.model, "group_matcher", None)
        layers = {} if matcher is None else group_parameters(self.model, matcher(coarse=False), reverse=True)
        names = [name for name, _ in self.model.named_parameters()]
        if layers.keys() != set(names):
            return super().layer_groups()
        groups: list[list[str]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
        for name in names:
            groups[layers[name]].append(f"model.{name}")
        return [*groups, *heads_group(self)]

    def classifier_names(self) -> tuple[str, ...]:
        return _classifiers(self.model)

    def converted(self, weights: dict[str, Any]) -> dict[str, Any]:
        """Returns weights of other names or sizes as timm converts them for the network."""
        import timm

        if not weights:  # without any, timm would download its own
            return weights
        cfg: Any = self.model.pretrained_cfg
        heads = [weights.get(f"{name}.weight") for name in _classifiers(self.model)]
        number = next((head.shape[0] for head in heads if head is not None), cfg["num_classes"])
        overlay = {"state_dict": dict(weights), "num_classes": number, "source": "", "custom_load": False}
        try:
            network = timm.create_model(
                self.network_name, pretrained=True, pretrained_cfg_overlay=overlay, **self._arguments
            )
        except (RuntimeError, ValueError, KeyError, AttributeError, TypeError, AssertionError):
            return weights  # of another network
        return _taken_over(weights, network.state_dict())


def check_name(model: Any) -> None:
    """Checks that timm has a network, and the weights that a tag names.

    Raises:
        UnavailableError: timm is not installed.
        UnknownComponentError: it has no such network or tag.
    """
    require("timm", "timm")
    from timm.models import is_model, list_models

    name, _, tag = str(model).partition(".")
    if not is_model(name):
        raise UnknownComponentError(unknown_network("timm", str(model), list_models()))
    known = list_models(f"{name}.*", pretrained=True)
    if tag and model not in known:
        raise UnknownComponentError(
            f"timm has no weights {tag!r} of {name}: " + (f"it has {', '.join(known)}" if known else "it has none")
        )


def preprocessing_of(config: Mapping[str, Any], pretrained_cfg: Mapping[str, Any]) -> Preprocessing:
    """Returns the preprocessing of a network's weights.

    Args:
        config: of the model.
        pretrained_cfg: what `config.json` beside the weights says of them, before what timm knows of the network.
    """
    check_name(config["model"])
    from timm.data import resolve_data_config
    from timm.models import get_pretrained_cfg

    found = get_pretrained_cfg(config["model"])
    cfg = {**(found.to_dict() if found is not None else {}), **pretrained_cfg}
    asked = {key: config[key] for key in ("img_size", "in_chans") if config.get(key) is not None}
    data = resolve_data_config(asked, pretrained_cfg=cfg)
    height, width = data["input_size"][1:]
    return Preprocessing(
        (height, width),
        math.floor(min(height, width) / data["crop_pct"]),
        data["interpolation"],
        tuple(data["mean"]),
        tuple(data["std"]),
        data["crop_mode"] == "squash",
    )


def options_of(model: Any) -> Keys | None:
    """Returns the options of a network that a config may give, beside its number of classes; None if it may give any.

    Raises:
        UnavailableError: timm is not installed.
        UnknownComponentError: timm has no such network.
    """
    check_name(model)
    from timm.models import model_entrypoint

    entry = model_entrypoint(str(model).partition(".")[0])
    cls = inspect.get_annotations(entry, eval_str=True).get("return")
    constructor = inspect.signature(cls).parameters if inspect.isclass(cls) else {}
    if not constructor or any(one.kind is one.VAR_KEYWORD for one in constructor.values()):
        return None  # the network itself refuses what it does not know
    more = _OF_BATCH_NORM if cls.__name__ in _WITH_BATCH_NORM_OPTIONS else ()  # type: ignore[union-attr]
    return {name: Key(Any, None) for name in [*constructor, *more] if name not in _NOT_OPTIONS}


def _classifiers(network: Any) -> tuple[str, ...]:
    """Returns the names of the layers that make the class scores, as timm records them."""
    found = network.pretrained_cfg.get("classifier") or ()
    names = (found,) if isinstance(found, str) else tuple(found)
    modules = dict(network.named_modules())
    return tuple(name for name in names if name in modules)


def _folder_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` in the folder of weights that a config names; empty if it names none.

    Raises:
        ComponentError: it is for another network.
    """
    path = config.get("pretrained")
    found = folder_config(path) if isinstance(path, str) else {}
    name = str(config["model"]).partition(".")[0]
    if found.get("architecture", name) != name:
        raise ComponentError(
            f"the weights in {path} are of the network {found['architecture']!r}, and the model is {name!r}: "
            f"give one of them"
        )
    sections = {key: found[key] for key in ("model_args", "pretrained_cfg") if isinstance(found.get(key), dict)}
    return sections


def _taken_over(weights: dict[str, Any], loaded: dict[str, Any]) -> dict[str, Any]:
    """Returns the weights of a network that timm loaded, also from other names; what it left aside has its own name.

    Networks that timm loads without checks keep new weights where it finds none: those are left out.

    Args:
        weights: of the file.
        loaded: of the network.
    """
    exact = not any(value.is_meta for value in loaded.values())

    def mark(value: Any) -> Any:  # what two tensors of the same numbers have in common, whatever their shapes
        return (value.numel(), float(value.double().sum()) if exact else None) if hasattr(value, "numel") else None

    theirs, ours = ({mark(value) for value in entries.values()} for entries in (weights, loaded))
    aside = {name: value for name, value in weights.items() if name not in loaded and mark(value) not in ours}
    return aside | {name: value for name, value in loaded.items() if name in weights or mark(value) in theirs}


def folder_config(path: str) -> dict[str, Any]:
    """Returns what the `config.json` in a folder of weights says; empty without one.

    Args:
        path: of the folder, or of anything else.
    """
    file = os.path.join(path, _CONFIG_FILE)
    return parse_json_object(Storage(path).read(_CONFIG_FILE), file) if os.path.isfile(file) else {}


def _weights(model: TimmModel, pretrained: bool | str) -> PretrainedWeights | None:
    """Returns the weights that a config names.

    Raises:
        ComponentError: timm has none of the network.
    """
    if pretrained is False or pretrained is None:
        return None
    if isinstance(pretrained, str):
        return file_of_weights("model.pretrained", pretrained)
    cfg: Any = model.model.pretrained_cfg
    name = f"{cfg.get('architecture', model.network_name)}.{cfg['tag']}" if cfg.get("tag") else model.network_name
    repository, url = cfg.get("hf_hub_id"), cfg.get("url")
    if repository:
        files = [cfg.get("hf_hub_filename") or "pytorch_model.bin"]
        files = [_SAFE[file] for file in files if file in _SAFE] + files
        url = f"https://huggingface.co/{repository}/resolve/main/{files[0]}"
        from huggingface_hub.constants import HF_HUB_CACHE

        return HubWeights(f"{name} of timm", HF_HUB_CACHE, url, "model.pretrained", repository, tuple(files))
    if isinstance(url, str) and url:
        return DownloadedWeights(f"{name} of timm", torch_cache(url), url, "model.pretrained")
    raise ComponentError(
        f"timm has no pretrained weights of {model.network_name}: give `pretrained: false`, or the path of a file, or "
        f"one of the networks in `ray-classy list model {model.network_name.split('_')[0]} --pretrained`"
    )
