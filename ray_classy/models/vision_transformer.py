"""Vision transformers, and those that go by a name."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.models import vision_transformer_names
from ray_classy.models.classy_model import ClassyModel, register_model
from ray_classy.models.lecun_normal_init import lecun_normal_init
from ray_classy.models.mbconv_block import get_same_padding_for_kernel_size
from ray_classy.models.model_state import StateMismatch
from ray_classy.models.positions import fit_positions
from ray_classy.models.sincos2d import sincos2d
from ray_classy.models.transformer_encoder import Encoder, EncoderBlock, LayerNorm, MLPBlock

__all__ = [
    "ConvStemLayer",
    "Encoder",
    "EncoderBlock",
    "LayerNorm",
    "MLPBlock",
    "ViTB16",
    "ViTB32",
    "ViTH14",
    "ViTL16",
    "ViTL32",
    "VisionTransformer",
    "get_same_padding_for_kernel_size",
]

_MOST_LAYERS = 10_000  # so that a slip in a number does not build a model for hours


class ConvStemLayer(NamedTuple):
    """A convolution of the stem.

    Attributes:
        kernel: its size, odd.
        stride: its stride.
        out_channels: its number of output channels.
    """

    kernel: int
    stride: int
    out_channels: int


@register_model("vision_transformer")
class VisionTransformer(ClassyModel):
    """A transformer encoder of image patches (Dosovitskiy et al. 2021, arXiv:2010.11929), with layer norm first.

    Heads read the block `trunk_output`.

    Args:
        image_size: height and width of the images, in pixels; a multiple of `patch_size`.
        patch_size: height and width of a patch.
        num_layers: number of encoder layers.
        num_heads: number of attention heads; divides `hidden_dim`.
        hidden_dim: width of a token.
        mlp_dim: width of the hidden layer of each MLP.
        dropout_rate: probability in [0, 1) with which values of embeddings and outputs are zeroed while training.
        attention_dropout_rate: the same for attention weights.
        classifier: "token" for the output at a class token, "gap" for the average over the patches.
        conv_stem_layers: convolutions, each with batch norm and ReLU, whose strides multiply to `patch_size`, and which
            a 1x1 convolution follows (Xiao et al. 2021, arXiv:2106.14881); None for one convolution of patches. Each
            is a ConvStemLayer or a dict with its attributes.
        positions: "learned" position embeddings, or the fixed ones of `sincos2d`, for which `hidden_dim` is a multiple
            of 4 and at least 8.

    The input is (N, 3, image_size, image_size), the output (N, hidden_dim).

    Raises:
        ComponentError: a number is out of its range, sizes do not fit, or `classifier` is unknown; when it is called:
            the images have another size.
    """

    FORMER_KEYS: ClassVar[tuple[str, ...]] = ("num_classes",)

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        mlp_dim: int,
        dropout_rate: float = 0,
        attention_dropout_rate: float = 0,
        classifier: Literal["token", "gap"] = "token",
        conv_stem_layers: list[Any] | None = None,
        positions: Literal["learned", "sincos2d"] = "learned",
    ) -> None:
        super().__init__()
        numbers = {"image_size": image_size, "patch_size": patch_size, "num_layers": num_layers}
        numbers |= {"num_heads": num_heads, "hidden_dim": hidden_dim, "mlp_dim": mlp_dim}
        for name, value in numbers.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ComponentError(f"{name} of a vision transformer is {value!r}; expected an integer of at least 1")
        for name, rate in (("dropout_rate", dropout_rate), ("attention_dropout_rate", attention_dropout_rate)):
            if not 0 <= rate < 1:
                raise ComponentError(f"{name} of a vision transformer is {rate}; it must be in [0, 1)")
        if num_layers > _MOST_LAYERS:
            raise ComponentError(f"num_layers of a vision transformer is {num_layers}, more than {_MOST_LAYERS}")
        if image_size % patch_size:
            raise ComponentError(f"image_size {image_size} is not a multiple of patch_size {patch_size}; change either")
        if hidden_dim % num_heads:
            raise ComponentError(f"hidden_dim {hidden_dim} is not a multiple of num_heads {num_heads}; change either")
        if classifier not in ("token", "gap"):
            raise ComponentError(f"classifier of a vision transformer is {classifier!r}; choose 'token' or 'gap'")
        if positions not in ("learned", "sincos2d"):
            raise ComponentError(f"positions of a vision transformer is {positions!r}; choose 'learned' or 'sincos2d'")
        if positions == "sincos2d" and (hidden_dim % 4 or hidden_dim < 8):
            raise ComponentError(
                f"positions 'sincos2d' need a hidden_dim that is a multiple of 4 and at least 8, not {hidden_dim}"
            )
        self.image_size = image_size
        self.patch_size = patch_size
        self.hidden_dim = hidden_dim
        self.mlp_dim = mlp_dim
        self.attention_dropout_rate = attention_dropout_rate
        self.dropout_rate = dropout_rate
        self.classifier = classifier
        self.conv_stem_layers = None if conv_stem_layers is None else _stem_layers(conv_stem_layers, patch_size)
        self.seq_length = (image_size // patch_size) ** 2
        if classifier == "token":
            self.class_token = nn.Parameter(torch.zeros(1, 1, hidden_dim))
            self.seq_length += 1
        if self.conv_stem_layers is None:
            self.conv_proj: nn.Module = nn.Conv2d(3, hidden_dim, kernel_size=patch_size, stride=patch_size)
        else:
            self.conv_proj = _conv_stem(self.conv_stem_layers, hidden_dim)
        self.encoder = Encoder(
            self.seq_length, num_layers, num_heads, hidden_dim, mlp_dim, dropout_rate, attention_dropout_rate
        )
        if positions == "sincos2d":
            self.encoder.fix_positions(self._sincos2d())
        self.trunk_output = nn.Identity()
        self.init_weights()

    def init_weights(self) -> None:
        """Initializes the convolution of patches; a stem of several keeps the initialization of torch."""
        if isinstance(self.conv_proj, nn.Conv2d):
            lecun_normal_init(self.conv_proj.weight, fan_in=3 * self.patch_size**2)
            assert self.conv_proj.bias is not None
            nn.init.zeros_(self.conv_proj.bias)

    def _sincos2d(self) -> torch.Tensor:
        """Returns fixed position embeddings, shape (seq_length, 1, hidden_dim): zeros for the class token."""
        side = self.image_size // self.patch_size
        grid = sincos2d(side, side, self.hidden_dim)
        return torch.cat([torch.zeros(self.seq_length - len(grid), self.hidden_dim), grid]).unsqueeze(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 4 or x.shape[2] != self.image_size or x.shape[3] != self.image_size:
            raise ComponentError(
                f"the input of this vision transformer is {tuple(x.shape)}; expected (N, 3, {self.image_size}, "
                f"{self.image_size}): resize the images, or set image_size"
            )
        tokens = self.conv_proj(x).flatten(2).permute(2, 0, 1)  # (patches, N, hidden_dim)
        if self.classifier == "token":
            tokens = torch.cat([self.class_token.expand(-1, x.shape[0], -1), tokens])
        tokens = self.encoder(tokens)
        return self.trunk_output(tokens[0] if self.classifier == "token" else tokens.mean(dim=0))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (3, self.image_size, self.image_size)

    def own_names(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Returns weights under this model's names; it knows those of torchvision and timm too."""
        return super().own_names(vision_transformer_names.renamed(weights))

    def set_classy_state(self, state: Mapping[str, Any], strict: bool = True) -> StateMismatch:
        """Loads a state; see `ClassyModel`. Position embeddings of another image size are interpolated (bicubic)."""
        return super().set_classy_state(fit_positions(self, state)[0], strict)


class _Named(VisionTransformer):
    """A vision transformer whose SIZES its name fixes.

    Args:
        image_size, dropout_rate, attention_dropout_rate, classifier: as for VisionTransformer.
    """

    SIZES: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        image_size: int = 224,
        dropout_rate: float = 0,
        attention_dropout_rate: float = 0,
        classifier: Literal["token", "gap"] = "token",
    ) -> None:
        super().__init__(
            image_size=image_size,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            classifier=classifier,
            **self.SIZES,
        )


_BASE = {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "mlp_dim": 3072}
_LARGE = {"num_layers": 24, "num_heads": 16, "hidden_dim": 1024, "mlp_dim": 4096}


@register_model("vit_b_32")
class ViTB32(_Named):
    """ViT-B/32."""

    SIZES = {"patch_size": 32, **_BASE}


@register_model("vit_b_16")
class ViTB16(_Named):
    """ViT-B/16."""

    SIZES = {"patch_size": 16, **_BASE}


@register_model("vit_l_32")
class ViTL32(_Named):
    """ViT-L/32."""

    SIZES = {"patch_size": 32, **_LARGE}


@register_model("vit_l_16")
class ViTL16(_Named):
    """ViT-L/16."""

    SIZES = {"patch_size": 16, **_LARGE}


@register_model("vit_h_14")
class ViTH14(_Named):
    """ViT-H/14."""

    SIZES = {"patch_size": 14, "num_layers": 32, "num_heads": 16, "hidden_dim": 1280, "mlp_dim": 5120}


def _stem_layers(layers: list[Any], patch_size: int) -> list[ConvStemLayer]:
    """The layers of a stem, checked."""
    found = []
    for layer in layers:
        try:
            found.append(ConvStemLayer(**layer) if isinstance(layer, Mapping) else ConvStemLayer(*layer))
        except TypeError:
            raise ComponentError(
                f"a layer of conv_stem_layers is {layer!r}; expected the keys {', '.join(ConvStemLayer._fields)}"
            ) from None
    numbers = [number for layer in found for number in layer]
    if not found or not all(isinstance(number, int) and number > 0 for number in numbers):
        raise ComponentError(f"conv_stem_layers is {layers}; expected at least one layer, with positive numbers")
    if math.prod(layer.stride for layer in found) != patch_size:
        raise ComponentError(
            f"the strides of conv_stem_layers {[layer.stride for layer in found]} do not multiply to patch_size "
            f"{patch_size}; change either"
        )
    return found


def _conv_stem(layers: list[ConvStemLayer], hidden_dim: int) -> nn.Sequential:
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for i, layer in enumerate(layers):
        padding = get_same_padding_for_kernel_size(layer.kernel)
        modules[f"conv_{i}"] = nn.Conv2d(
            channels, layer.out_channels, layer.kernel, layer.stride, padding=padding, bias=False
        )
        modules[f"bn_{i}"] = nn.BatchNorm2d(layer.out_channels)
        modules[f"relu_{i}"] = nn.ReLU(inplace=True)
        channels = layer.out_channels
    modules[f"conv_{len(layers)}"] = nn.Conv2d(channels, hidden_dim, kernel_size=1)
    return nn.Sequential(modules)
