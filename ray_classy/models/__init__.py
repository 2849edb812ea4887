"""Models: trunks that heads are attached to."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.models.airbench import Airbench
    from ray_classy.models.anynet import AnyNet
    from ray_classy.models.building import build_model
    from ray_classy.models.classy_block import ClassyBlock
    from ray_classy.models.classy_model import MODEL_REGISTRY, ClassyModel, register_model
    from ray_classy.models.densenet import DenseNet
    from ray_classy.models.efficientnet import EfficientNet
    from ray_classy.models.lecun_normal_init import lecun_normal_init
    from ray_classy.models.mlp import MLP
    from ray_classy.models.model_state import StateMismatch
    from ray_classy.models.model_wrappers import ClassyModelHeadExecutorWrapper, ClassyModelWrapper
    from ray_classy.models.regnet import RegNet
    from ray_classy.models.resnet import (
        ResNet,
        ResNet18,
        ResNet34,
        ResNet50,
        ResNet101,
        ResNet152,
        ResNeXt50,
        ResNeXt101,
        ResNeXt152,
    )
    from ray_classy.models.resnext import ResNeXt
    from ray_classy.models.resnext3d import ResNeXt3D
    from ray_classy.models.squeeze_and_excitation_layer import SqueezeAndExcitationLayer
    from ray_classy.models.vision_transformer import VisionTransformer

__all__ = [
    "MLP",
    "MODEL_REGISTRY",
    "Airbench",
    "AnyNet",
    "ClassyBlock",
    "ClassyModel",
    "ClassyModelHeadExecutorWrapper",
    "ClassyModelWrapper",
    "DenseNet",
    "EfficientNet",
    "RegNet",
    "ResNeXt",
    "ResNeXt3D",
    "ResNeXt50",
    "ResNeXt101",
    "ResNeXt152",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "SqueezeAndExcitationLayer",
    "StateMismatch",
    "VisionTransformer",
    "build_model",
    "lecun_normal_init",
    "register_model",
]

__getattr__ = lazy_exports(__name__)
