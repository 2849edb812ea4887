"""Heads: modules that map the features of a block of the trunk to the model's output."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.heads.classy_head import HEAD_REGISTRY, ClassyHead, build_head, register_head
    from ray_classy.heads.fully_connected_head import FullyConnectedHead
    from ray_classy.heads.fully_convolutional_linear_head import FullyConvolutionalLinearHead
    from ray_classy.heads.identity_head import IdentityHead
    from ray_classy.heads.vision_transformer_head import VisionTransformerHead

__all__ = [
    "HEAD_REGISTRY",
    "ClassyHead",
    "FullyConnectedHead",
    "FullyConvolutionalLinearHead",
    "IdentityHead",
    "VisionTransformerHead",
    "build_head",
    "register_head",
]

__getattr__ = lazy_exports(__name__)
