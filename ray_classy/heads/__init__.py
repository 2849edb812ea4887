"""Heads: the parts of a model that turn the features of a trunk's block into an output."""

from ray_classy.heads.classy_head import HEAD_REGISTRY, ClassyHead, build_head, register_head
from ray_classy.heads.fully_connected import FullyConnectedHead
from ray_classy.heads.identity import IdentityHead

__all__ = [
    "HEAD_REGISTRY",
    "ClassyHead",
    "FullyConnectedHead",
    "IdentityHead",
    "build_head",
    "register_head",
]
