"""Chooses a model, sizes of images and batches, a schedule and augmentation for rows of the user's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_classy.errors import RayClassyError, UnknownComponentError

SMALL = 64
"""Images whose shorter side has at most so many pixels keep their size, and get a small network."""
SIDE_ON_CPUS = 128
"""Side of the images of a network that is trained from scratch on CPUs: a third of the time of 224 pixels."""
_FEW_PER_CLASS = 100
_STEPS_OF_EPOCH = 20
_LEAST_BATCH = 2
_MEMORY = 0.5
"""The part of a machine's or a GPU's memory that training may take."""


@dataclass(frozen=True)
class Facts:
    """What a choice depends on.

    Attributes:
        rows: to train on.
        classes: their number.
        side: median of the images' shorter sides in pixels; None if it is not known.
        grey: whether all images are grey.
        on_gpu: whether workers have GPUs; None if it is not known.
        memory: bytes of a worker's GPU, or of the machine's memory for each worker; None if it is not known.
        workers: number of workers.
    """

    rows: int
    classes: int
    side: int | None
    grey: bool
    on_gpu: bool | None
    memory: int | None
    workers: int = 1

    @property
    def small(self) -> bool:
        """Whether the images are small, as those of MNIST and CIFAR."""
        return self.side is not None and self.side <= SMALL


def choose_model(model: str | None, weights: str | None, facts: Facts) -> dict[str, Any]:
    """Returns the config of a model.

    Args:
        model: a network of torchvision or timm; None chooses one.
        weights: DEFAULT, another name, a file, or a folder of timm, which names its network; None trains from scratch.
        facts: see there.

    Raises:
        UnknownComponentError: neither library has such a network.
    """
    if model is None and weights is None and facts.small:
        head = {"name": "fully_connected", "unique_id": "class", "fork_block": "block2-1", "in_plane": 128}
        trunk = {"small_input": True, "basic_layer": True, "num_blocks": [2, 2, 2], "init_planes": 32}
        return {"name": "resnet", **trunk, "zero_init_bn_residuals": True, "heads": [head]}
    name = model or _network_of_folder(weights) or ("resnet18" if weights is None else "resnet50")
    if _is_of_timm(name):
        pretrained = weights if weights is None or weights.upper() != "DEFAULT" else True
        return {"name": "timm", "model": name, **({} if pretrained is None else {"pretrained": pretrained})}
    return {"name": "torchvision", "model": name, "weights": weights}


def _network_of_folder(weights: str | None) -> str | None:
    """Returns the network that the `config.json` in a folder of weights names; None if there is none."""
    if weights is None or not os.path.isdir(weights):
        return None
    from ray_classy.models.timm_model import folder_config

    found = folder_config(weights).get("architecture")
    return found if isinstance(found, str) else None


def _is_of_timm(name: str) -> bool:
    from ray_classy.models.library_model import unknown_network
    from ray_classy.models.timm_model import check_name
    from ray_classy.models.torchvision_model import names

    if name in names():
        return False
    try:
        check_name(name)
    except RayClassyError:  # there is no timm, or it has no such network either
        raise UnknownComponentError(f"--model: {unknown_network('torchvision', name, names())}") from None
    return True


def choose_transforms(model: Mapping[str, Any], facts: Facts, scratch: bool) -> tuple[int, list[Any], list[Any]]:
    """Returns the side of the model's input in pixels, and the transforms of train and test images."""
    if model.get("name") not in ("torchvision", "timm"):
        return _small_transforms(facts)
    from ray_classy.models import MODEL_REGISTRY

    found = MODEL_REGISTRY.named_class(model).preprocessing(model)
    if scratch and model.get("name") == "torchvision" and not facts.on_gpu and "resnet" in str(model.get("model")):
        found = found.of_size(SIDE_ON_CPUS)  # these networks take any size
    train = found.transforms(train=True)
    if strong_augmentation(facts):
        train.insert(2, {"name": "TrivialAugmentWide"})
    return min(found.size), train, found.transforms(train=False)


def strong_augmentation(facts: Facts) -> bool:
    """Whether there are so few rows of a class that colours and shapes are changed at random too."""
    return facts.rows < _FEW_PER_CLASS * facts.classes


def _small_transforms(facts: Facts) -> tuple[int, list[Any], list[Any]]:
    side = min(facts.side or SMALL, SMALL)
    normalize = {"name": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    first = [{"name": "ToImage"}, {"name": "Resize", "size": side}, {"name": "CenterCrop", "size": side}]
    last = [{"name": "ToDtype", "dtype": "float32", "scale": True}, normalize]
    flip = [] if facts.grey else [{"name": "RandomHorizontalFlip"}]  # letters and digits are not the same mirrored
    return side, [*first, *flip, {"name": "random_shift", "pixels": max(1, side // 8)}, *last], [*first, *last]


def network_of(model: Mapping[str, Any], classes: int) -> Any:
    """Builds a model without memory for its weights, and without loading any.

    Raises:
        RayClassyError: the model cannot be built.
    """
    from ray_classy.models import build_model

    config: dict[str, Any] = {**model}
    if config.get("heads"):
        config["heads"] = [{"num_classes": classes, **head} for head in config["heads"]]
    try:
        return build_model(config, "meta")
    except Exception:  # some networks exist with real weights only; if the mistake is the user's, it is raised again
        return build_model(config, weights=False)


def choose_batch(facts: Facts, network: Any, side: int) -> tuple[int, str]:
    """Returns the rows of a worker's step, and what is to be said of the memory; empty if it has room for more.

    The rows of all workers together are a power of two from 8 to 64 (small images: 128), so that an epoch of few rows
    has steps enough; those of a worker take half of the memory that it has at most.

    Args:
        facts: see there.
        network: see `network_of`.
        side: of the input in pixels.
    """
    together = 8
    while together < (128 if facts.small else 64) and 2 * together * _STEPS_OF_EPOCH <= facts.rows:
        together *= 2
    batch = max(_LEAST_BATCH, together // facts.workers)
    fits = _rows_within(facts, network, side)
    if fits is None or fits >= batch:
        return batch, ""
    while batch > max(_LEAST_BATCH, fits):
        batch //= 2
    batch = max(_LEAST_BATCH, batch)
    if fits >= batch:
        return batch, "which fit the memory"
    return batch, "which may not fit the memory: a smaller --model is safer"


def _rows_within(facts: Facts, network: Any, side: int) -> int | None:
    """Returns how many rows fit into a part of a worker's memory; None if it or the model's size is not known."""
    from ray_classy.generic.training_memory import training_memory

    if facts.memory is None:
        return None
    try:
        needed = training_memory(network, (3, side, side))
    except (RuntimeError, NotImplementedError):  # the network asks for the values of what it computes
        return None
    return needed.rows_within(int(facts.memory * _MEMORY))


def has_bfloat16() -> bool:
    """Whether the GPU of this machine computes in bfloat16 itself, which halves time and memory."""
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False)


def choose_bad_rows(rows: int) -> int:
    """Returns how many images of a phase may be damaged, which are skipped and counted: one of a hundred."""
    return max(5, rows // 100)


def choose_epochs(rows: int, scratch: bool, small: bool) -> int:
    """Returns the number of epochs: fewer of more rows, and more from scratch than from pretrained weights."""
    if not scratch:
        return min(30, max(5, round(50_000 / rows)))
    return min(100, max(15, round((500_000 if small else 200_000) / rows)))
