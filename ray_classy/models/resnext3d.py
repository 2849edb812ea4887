"""ResNeXt3D, a family of networks for video: I3D, R3D, R(2+1)D, and 2D networks that see frame by frame."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.models.classy_model import ClassyModel, register_model, with_heads
from ray_classy.models.model_state import StateMismatch, model_part
from ray_classy.models.resnext3d_block import (
    ResBlock,
    find_transformation,
    residual_transformations,
    skip_transformations,
)
from ray_classy.models.resnext3d_stage import ResStage
from ray_classy.models.resnext3d_stem import R2Plus1DStem, ResNeXt3DStem
from ray_classy.registry import REQUIRED, Key, Keys, constructor_arguments, signature_keys

model_stems: dict[str, type[ResNeXt3DStem]] = {"r2plus1d_stem": R2Plus1DStem, "resnext3d_stem": ResNeXt3DStem}

_MOST_BLOCKS = 10_000  # so that a slip in a number does not build a model for hours

logger = logging.getLogger(__name__)


class ResNeXt3DBase(ClassyModel):
    """The stem and the input of networks for video; a subclass adds `stages`.

    Args:
        input_key: the key of the clip where the input is a dict; None where it is a tensor.
        input_planes: number of input channels.
        clip_crop_size: height and width of a clip, in pixels.
        frames_per_clip: number of frames of a clip.
        num_blocks: number of blocks of each stage.
        stem_name: "resnext3d_stem", or "r2plus1d_stem" with a (2+1)D convolution of size 3.
        stem_planes: number of channels after the stem.
        stem_temporal_kernel: size in time of the stem's convolution.
        stem_spatial_kernel: its size in height and width.
        stem_maxpool: end the stem with max pooling.

    The input is (N, input_planes, T, H, W), or (N, input_planes, H, W) for one frame, or a dict with one of them under
    `input_key`.

    Raises:
        ComponentError: a number is not positive, or a name is unknown; when it is called: the input has another form.
    """

    stages: nn.Sequential

    def __init__(
        self,
        input_key: str | None,
        input_planes: int,
        clip_crop_size: int,
        frames_per_clip: int,
        num_blocks: list[int],
        stem_name: str,
        stem_planes: int,
        stem_temporal_kernel: int,
        stem_spatial_kernel: int,
        stem_maxpool: bool,
    ) -> None:
        super().__init__()
        _check_numbers(
            {
                "input_planes": input_planes,
                "clip_crop_size": clip_crop_size,
                "frames_per_clip": frames_per_clip,
                "stem_planes": stem_planes,
                "stem_temporal_kernel": stem_temporal_kernel,
                "stem_spatial_kernel": stem_spatial_kernel,
            }
        )
        _check_list("num_blocks", num_blocks)
        if sum(num_blocks) > _MOST_BLOCKS:
            raise ComponentError(f"num_blocks {num_blocks} are {sum(num_blocks)} blocks, more than {_MOST_BLOCKS}")
        if not isinstance(stem_name, str) or stem_name not in model_stems:
            raise ComponentError(f"stem_name is {stem_name!r}; choose one of {', '.join(sorted(model_stems))}")
        self._input_key = input_key
        self.input_planes = input_planes
        self.clip_crop_size = clip_crop_size
        self.frames_per_clip = frames_per_clip
        self.num_blocks = num_blocks
        self.stem = model_stems[stem_name](
            stem_temporal_kernel, stem_spatial_kernel, input_planes, stem_planes, stem_maxpool
        )

    def _init_parameter(self, zero_init_residual_transform: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual_transform:
            for module in self.modules():
                if isinstance(module, ResBlock):
                    module.residual.zero_init()

    def forward(self, x: torch.Tensor | Mapping[str, torch.Tensor]) -> torch.Tensor:
        clip = self._clip(x)
        return self.stages(self.stem([clip.unsqueeze(2) if clip.ndim == 4 else clip]))[0]

    def _clip(self, x: Any) -> torch.Tensor:
        if isinstance(x, Mapping):
            if self._input_key not in x:
                raise ComponentError(
                    f"the input is a dict with the keys {sorted(map(str, x))}, and input_key of this resnext3d is "
                    f"{self._input_key!r}: set it to the key of the clip"
                )
            x = x[self._input_key]
        elif isinstance(x, torch.Tensor) and self._input_key is not None:
            raise ComponentError(
                f"the input is a tensor, and input_key of this resnext3d is {self._input_key!r}: leave it out"
            )
        if not isinstance(x, torch.Tensor) or x.ndim not in (4, 5):
            form = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise ComponentError(
                f"the input of this resnext3d is {form}; expected a tensor (N, {self.input_planes}, T, H, W), one "
                "without T, or a dict with such a tensor"
            )
        return x

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one clip: channels, frames, height, width."""
        return (self.input_planes, self.frames_per_clip, self.clip_crop_size, self.clip_crop_size)

    @property
    def input_key(self) -> str | None:
        """The key of the clip where the input is a dict."""
        return self._input_key

    def set_classy_state(self, state: Mapping[str, Any], strict: bool = True) -> StateMismatch:
        """Loads a state; see `ClassyModel`. That of a 2D network of the same form, or of a deeper one, fits too.

        The weights of convolutions that have size 1 in time in the state are repeated over time and divided by the size
        (inflation, arXiv:1705.07750). Weights of the trunk that this network lacks are logged and left out.
        """
        model = model_part(state)
        own = super().get_classy_state()["model"]["trunk"]
        trunk = {name: _inflated(value, own[name]) for name, value in model["trunk"].items() if name in own}
        unknown = [name for name in model["trunk"] if name not in own]
        if unknown:
            shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            logger.warning(
                "%d weights in the state are not in this %s and are left out: %s",
                len(unknown),
                type(self).__name__,
                shown,
            )
        return super().set_classy_state({**state, "model": {**model, "trunk": trunk}}, strict)


@register_model("resnext3d")
class ResNeXt3D(ResNeXt3DBase):
    """Stages of 3D residual blocks named `pathway0-stage{s}-block{i}`, s from 1; the output is the last one's.

    Networks of Carreira & Zisserman 2017 (arXiv:1705.07750: I3D), Hara et al. 2018 (arXiv:1711.09577: R3D) and Tran et
    al. 2018 (arXiv:1711.11248: R(2+1)D). Stage s has `stage_planes * 2**(s - 1)` output planes.

    Args:
        input_key: the key of the clip where the input is a dict; None where it is a tensor.
        input_planes: number of input channels.
        clip_crop_size: height and width of a clip, in pixels.
        skip_transformation_type: "postactivated_shortcut" or "preactivated_shortcut".
        residual_transformation_type: "basic_transformation", "basic_r2plus1d_transformation",
            "postactivated_bottleneck_transformation" or "preactivated_bottleneck_transformation". Networks of the last
            end with batch norm and ReLU, named like the last block with `-bn` and `-relu`.
        frames_per_clip: number of frames of a clip.
        num_blocks: number of blocks of each stage.
        stem_name: "resnext3d_stem", or "r2plus1d_stem" with a (2+1)D convolution of size 3.
        stem_planes: number of channels after the stem.
        stem_temporal_kernel: size in time of the stem's convolution.
        stem_spatial_kernel: its size in height and width.
        stem_maxpool: end the stem with max pooling.
        stage_planes: number of output channels of the first stage.
        stage_temporal_kernel_basis: for each stage, the sizes in time that bottlenecks have in turn; 3 if None.
        temporal_conv_1x1: for each stage, whether that is the size of the first convolution (1x1) of a bottleneck
            instead of the middle one; False if None.
        stage_temporal_stride: stride of each stage in time; 1 and then 2 if None.
        stage_spatial_stride: stride of each stage in height and width; 1 and then 2 if None.
        num_groups: groups of the convolutions of size 3.
        width_per_group: channels of each group of a bottleneck in the first stage; each later stage doubles them.
        zero_init_residual_transform: start each block as its shortcut.

    The input is (N, input_planes, T, H, W), or (N, input_planes, H, W) for one frame, or a dict with one of them under
    `input_key`. The output is (N, planes, T', H', W').

    Raises:
        ComponentError: a number is not positive, a list has not one entry for each stage, or a name is unknown; when it
            is called: the input has another form.
    """

    FORMER_KEYS: ClassVar[tuple[str, ...]] = ("num_classes",)

    def __init__(
        self,
        input_key: str | None,
        input_planes: int,
        clip_crop_size: int,
        skip_transformation_type: str,
        residual_transformation_type: str,
        frames_per_clip: int,
        num_blocks: list[int],
        stem_name: str = "resnext3d_stem",
        stem_planes: int = 64,
        stem_temporal_kernel: int = 3,
        stem_spatial_kernel: int = 7,
        stem_maxpool: bool = False,
        stage_planes: int = 256,
        stage_temporal_kernel_basis: list[list[int]] | None = None,
        temporal_conv_1x1: list[bool] | None = None,
        stage_temporal_stride: list[int] | None = None,
        stage_spatial_stride: list[int] | None = None,
        num_groups: int = 1,
        width_per_group: int = 64,
        zero_init_residual_transform: bool = False,
    ) -> None:
        super().__init__(
            input_key,
            input_planes,
            clip_crop_size,
            frames_per_clip,
            num_blocks,
            stem_name,
            stem_planes,
            stem_temporal_kernel,
            stem_spatial_kernel,
            stem_maxpool,
        )
        _check_numbers({"stage_planes": stage_planes, "num_groups": num_groups, "width_per_group": width_per_group})
        stages = len(num_blocks)
        kernels = _per_stage("stage_temporal_kernel_basis", stage_temporal_kernel_basis, [[3]] * stages)
        first_is_temporal = _per_stage("temporal_conv_1x1", temporal_conv_1x1, [False] * stages)
        later = [1, *[2] * (stages - 1)]
        temporal = _per_stage("stage_temporal_stride", stage_temporal_stride, later)
        spatial = _per_stage("stage_spatial_stride", stage_spatial_stride, later)
        for sizes in kernels:
            if not isinstance(sizes, (list, tuple)) or not sizes:
                raise ComponentError(f"stage_temporal_kernel_basis is {kernels}; expected a list of sizes per stage")
        _check_list("stage_temporal_kernel_basis", [size for sizes in kernels for size in sizes])
        _check_list("stage_temporal_stride", temporal)
        _check_list("stage_spatial_stride", spatial)
        find_transformation(skip_transformations, "skip_transformation_type", skip_transformation_type)
        find_transformation(residual_transformations, "residual_transformation_type", residual_transformation_type)
        self.stages = nn.Sequential()
        dim_in = stem_planes
        for s, depth in enumerate(num_blocks):
            dim_out = stage_planes * 2**s
            stage = ResStage(
                s + 1,
                [dim_in],
                [dim_out],
                [num_groups * width_per_group * 2**s],
                [kernels[s]],
                [first_is_temporal[s]],
                [temporal[s]],
                [spatial[s]],
                [depth],
                [num_groups],
                skip_transformation_type,
                residual_transformation_type,
                disable_pre_activation=s == 0,
                final_stage=s == stages - 1,
            )
            self.stages.append(stage)
            dim_in = dim_out
        self._init_parameter(zero_init_residual_transform)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the trunk from the model's config; `heads` are left to `build_model`."""
        arguments = {"input_key": None, **constructor_arguments(cls, config)}
        arguments.pop("heads", None)
        missing = [name for name, key in cls.config_keys().items() if key.default is REQUIRED and name not in arguments]
        if missing:
            raise ComponentError(f"a resnext3d needs {', '.join(missing)}: add them to the config of the model")
        return cls(**arguments)

    @classmethod
    def config_keys(cls) -> Keys:
        """The constructor's arguments, of which `input_key` may be left out, and the heads."""
        return with_heads({**signature_keys(cls), "input_key": Key(str | None, None)})


def _inflated(weight: Any, own: Any) -> Any:
    """A weight (out, in, 1, H, W) repeated and divided so that it fits `own` (out, in, T, H, W); others as they are."""
    if not isinstance(weight, torch.Tensor) or weight.ndim != 5 or own.ndim != 5:
        return weight
    frames = own.shape[2]
    return weight.repeat(1, 1, frames, 1, 1) / frames if weight.shape[2] == 1 else weight


def _check_numbers(numbers: Mapping[str, Any]) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ComponentError(f"{name} of a resnext3d is {value!r}; expected an integer of at least 1")


def _check_list(name: str, values: Any) -> None:
    if not isinstance(values, (list, tuple)) or not values:
        raise ComponentError(f"{name} is {values!r}; expected a list with one number for each stage")
    _check_numbers({f"{name}[{i}]": value for i, value in enumerate(values)})


def _per_stage(name: str, given: Any, default: list[Any]) -> Any:
    if given is None:
        return default
    if not isinstance(given, (list, tuple)) or len(given) < len(default):
        raise ComponentError(
            f"{name} is {given!r}; expected a list with an entry for each of the {len(default)} stages"
        )
    return given
