"""The keys of torchvision's transforms, written by scripts/write_torchvision_keys.py: do not edit.

They are read instead of the signatures where torchvision has this version, so that a config is checked without the
seconds that its import takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ray_classy.dataset.transforms.classy_transform import ClassyTransform
from ray_classy.registry import Key, Keys

VERSION = "0.29"

_Interpolation = Literal["nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos"] | int
_Fill = int | float | Sequence[int] | Sequence[float] | None
_PaddingMode = Literal["constant", "edge", "reflect", "symmetric"]

KEYS: dict[str, Keys] = {
    "AugMix": {
        "severity": Key(int, 3),
        "mixture_width": Key(int, 3),
        "chain_depth": Key(int, -1),
        "alpha": Key(float, 1.0),
        "all_ops": Key(bool, True),
        "interpolation": Key(_Interpolation, "bilinear"),
        "fill": Key(_Fill, None),
    },
    "AutoAugment": {
        "policy": Key(Literal["imagenet", "cifar10", "svhn"], "imagenet"),
        "interpolation": Key(_Interpolation, "nearest"),
        "fill": Key(_Fill, None),
    },
    "CenterCrop": {"size": Key(int | Sequence[int])},
    "ClampBoundingBoxes": {"clamping_mode": Key(str | None, "auto")},
    "ClampKeyPoints": {},
    "ColorJitter": {
        "brightness": Key(float | Sequence[float] | None, None),
        "contrast": Key(float | Sequence[float] | None, None),
        "saturation": Key(float | Sequence[float] | None, None),
        "hue": Key(float | Sequence[float] | None, None),
    },
    "Compose": {"transforms": Key(list[ClassyTransform])},
    "ConvertBoundingBoxFormat": {"format": Key(Literal["XYXY", "XYWH", "CXCYWH", "XYWHR", "CXCYWHR", "XYXYXYXY"])},
    "ConvertImageDtype": {"dtype": Key(str, "torch.float32")},
    "CutMix": {"alpha": Key(float, 1.0), "num_classes": Key(int | None, None), "labels_getter": Key(Any, "default")},
    "ElasticTransform": {
        "alpha": Key(float | Sequence[float], 50.0),
        "sigma": Key(float | Sequence[float], 5.0),
        "interpolation": Key(_Interpolation, "bilinear"),
        "fill": Key(_Fill, 0),
    },
    "FiveCrop": {"size": Key(int | Sequence[int])},
    "GaussianBlur": {"kernel_size": Key(int | Sequence[int]), "sigma": Key(int | float | Sequence[float], (0.1, 2.0))},
    "GaussianNoise": {"mean": Key(float, 0.0), "sigma": Key(float, 0.1), "clip": Key(Any, True)},
    "Grayscale": {"num_output_channels": Key(int, 1)},
    "Identity": {},
    "JPEG": {"quality": Key(int | Sequence[int])},
    "Lambda": {"lambd": Key(Any)},
    "LinearTransformation": {"transformation_matrix": Key(list), "mean_vector": Key(list)},
    "MixUp": {"alpha": Key(float, 1.0), "num_classes": Key(int | None, None), "labels_getter": Key(Any, "default")},
    "Normalize": {"mean": Key(Sequence[float]), "std": Key(Sequence[float]), "inplace": Key(bool, False)},
    "PILToTensor": {},
    "Pad": {"padding": Key(int | Sequence[int]), "fill": Key(_Fill, 0), "padding_mode": Key(_PaddingMode, "constant")},
    "RGB": {},
    "RandAugment": {
        "num_ops": Key(int, 2),
        "magnitude": Key(int, 9),
        "num_magnitude_bins": Key(int, 31),
        "interpolation": Key(_Interpolation, "nearest"),
        "fill": Key(_Fill, None),
    },
    "RandomAdjustSharpness": {"sharpness_factor": Key(float), "p": Key(float, 0.5)},
    "RandomAffine": {
        "degrees": Key(float | Sequence),
        "translate": Key(Sequence[float] | None, None),
        "scale": Key(Sequence[float] | None, None),
        "shear": Key(int | float | Sequence[float] | None, None),
        "interpolation": Key(_Interpolation, "nearest"),
        "fill": Key(_Fill, 0),
        "center": Key(list[float] | None, None),
    },
    "RandomApply": {"transforms": Key(list[ClassyTransform]), "p": Key(float, 0.5)},
    "RandomAutocontrast": {"p": Key(float, 0.5)},
    "RandomChannelPermutation": {},
    "RandomChoice": {"transforms": Key(list[ClassyTransform]), "p": Key(list[float] | None, None)},
    "RandomCrop": {
        "size": Key(int | Sequence[int]),
        "padding": Key(int | Sequence[int] | None, None),
        "pad_if_needed": Key(bool, False),
        "fill": Key(_Fill, 0),
        "padding_mode": Key(_PaddingMode, "constant"),
    },
    "RandomEqualize": {"p": Key(float, 0.5)},
    "RandomErasing": {
        "p": Key(float, 0.5),
        "scale": Key(Sequence[float], (0.02, 0.33)),
        "ratio": Key(Sequence[float], (0.3, 3.3)),
        "value": Key(float | Literal["random"] | list[float], 0.0),
        "inplace": Key(bool, False),
    },
    "RandomGrayscale": {"p": Key(float, 0.1)},
    "RandomHorizontalFlip": {"p": Key(float, 0.5)},
    "RandomInvert": {"p": Key(float, 0.5)},
    "RandomIoUCrop": {
        "min_scale": Key(float, 0.3),
        "max_scale": Key(float, 1.0),
        "min_aspect_ratio": Key(float, 0.5),
        "max_aspect_ratio": Key(float, 2.0),
        "sampler_options": Key(list[float] | None, None),
        "trials": Key(int, 40),
    },
    "RandomOrder": {"transforms": Key(list[ClassyTransform])},
    "RandomPerspective": {
        "distortion_scale": Key(float, 0.5),
        "p": Key(float, 0.5),
        "interpolation": Key(_Interpolation, "bilinear"),
        "fill": Key(_Fill, 0),
    },
    "RandomPhotometricDistort": {
        "brightness": Key(tuple[float, float], (0.875, 1.125)),
        "contrast": Key(tuple[float, float], (0.5, 1.5)),
        "saturation": Key(tuple[float, float], (0.5, 1.5)),
        "hue": Key(tuple[float, float], (-0.05, 0.05)),
        "p": Key(float, 0.5),
    },
    "RandomPosterize": {"bits": Key(int), "p": Key(float, 0.5)},
    "RandomResize": {
        "min_size": Key(int),
        "max_size": Key(int),
        "interpolation": Key(_Interpolation, "bilinear"),
        "antialias": Key(bool | None, True),
    },
    "RandomResizedCrop": {
        "size": Key(int | Sequence[int]),
        "scale": Key(tuple[float, float], (0.08, 1.0)),
        "ratio": Key(tuple[float, float], (0.75, 1.3333333333333333)),
        "interpolation": Key(_Interpolation, "bilinear"),
        "antialias": Key(bool | None, True),
    },
    "RandomRotation": {
        "degrees": Key(float | Sequence),
        "interpolation": Key(_Interpolation, "nearest"),
        "expand": Key(bool, False),
        "center": Key(list[float] | None, None),
        "fill": Key(_Fill, 0),
    },
    "RandomShortestSize": {
        "min_size": Key(list[int] | tuple[int] | int),
        "max_size": Key(int | None, None),
        "interpolation": Key(_Interpolation, "bilinear"),
        "antialias": Key(bool | None, True),
    },
    "RandomSolarize": {"threshold": Key(float), "p": Key(float, 0.5)},
    "RandomVerticalFlip": {"p": Key(float, 0.5)},
    "RandomZoomOut": {"fill": Key(_Fill, 0), "side_range": Key(Sequence[float], (1.0, 4.0)), "p": Key(float, 0.5)},
    "Resize": {
        "size": Key(int | Sequence[int] | None),
        "interpolation": Key(_Interpolation, "bilinear"),
        "max_size": Key(int | None, None),
        "antialias": Key(bool | None, True),
    },
    "SanitizeBoundingBoxes": {
        "min_size": Key(float, 1.0),
        "min_area": Key(float, 1.0),
        "labels_getter": Key(str | None, "default"),
    },
    "SanitizeKeyPoints": {"labels_getter": Key(str | None, None)},
    "ScaleJitter": {
        "target_size": Key(tuple[int, int]),
        "scale_range": Key(tuple[float, float], (0.1, 2.0)),
        "interpolation": Key(_Interpolation, "bilinear"),
        "antialias": Key(bool | None, True),
    },
    "SetClampingMode": {"clamping_mode": Key(str | None)},
    "TenCrop": {"size": Key(int | Sequence[int]), "vertical_flip": Key(bool, False)},
    "ToDtype": {"dtype": Key(str), "scale": Key(bool, False)},
    "ToImage": {},
    "ToPILImage": {"mode": Key(str | None, None)},
    "ToPureTensor": {},
    "ToTensor": {},
    "TrivialAugmentWide": {
        "num_magnitude_bins": Key(int, 31),
        "interpolation": Key(_Interpolation, "nearest"),
        "fill": Key(_Fill, None),
    },
    "UniformTemporalSubsample": {"num_samples": Key(int)},
}
