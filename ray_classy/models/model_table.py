"""The models of this package by name: where each class is, so that it is imported only when it is used."""

from __future__ import annotations

_REGNETS = """
Y_400mf Y_800mf Y_1.6gf Y_3.2gf Y_8gf Y_16gf Y_32gf Y_64gf Y_128gf Y_256gf
X_400mf X_800mf X_1.6gf X_3.2gf X_8gf X_16gf X_32gf Z_500mf Z_4gf
"""


def _regnet_class(kind: str) -> str:
    family, _, size = kind.partition("_")
    return f"RegNet{family}{size.replace('.', '_')}"


MODELS: dict[str, str] = {
    "airbench": "ray_classy.models.airbench:Airbench",
    "anynet": "ray_classy.models.anynet:AnyNet",
    "densenet": "ray_classy.models.densenet:DenseNet",
    "efficientnet": "ray_classy.models.efficientnet:EfficientNet",
    **{f"efficientnet_b{i}": f"ray_classy.models.efficientnet:EfficientNetB{i}" for i in range(8)},
    "mlp": "ray_classy.models.mlp:MLP",
    "timm": "ray_classy.models.timm_model:TimmModel",
    "torchvision": "ray_classy.models.torchvision_model:TorchvisionModel",
    "regnet": "ray_classy.models.regnet:RegNet",
    **{f"regnet_{kind.lower()}": f"ray_classy.models.regnet:{_regnet_class(kind)}" for kind in _REGNETS.split()},
    "resnet": "ray_classy.models.resnet:ResNet",
    "resnet18": "ray_classy.models.resnet:ResNet18",
    "resnet34": "ray_classy.models.resnet:ResNet34",
    "resnet50": "ray_classy.models.resnet:ResNet50",
    "resnet101": "ray_classy.models.resnet:ResNet101",
    "resnet152": "ray_classy.models.resnet:ResNet152",
    "resnext": "ray_classy.models.resnext:ResNeXt",
    "resnext50_32x4d": "ray_classy.models.resnet:ResNeXt50",
    "resnext101_32x4d": "ray_classy.models.resnet:ResNeXt101",
    "resnext152_32x4d": "ray_classy.models.resnet:ResNeXt152",
    "resnext3d": "ray_classy.models.resnext3d:ResNeXt3D",
    "vision_transformer": "ray_classy.models.vision_transformer:VisionTransformer",
    "vit_b_16": "ray_classy.models.vision_transformer:ViTB16",
    "vit_b_32": "ray_classy.models.vision_transformer:ViTB32",
    "vit_h_14": "ray_classy.models.vision_transformer:ViTH14",
    "vit_l_16": "ray_classy.models.vision_transformer:ViTL16",
    "vit_l_32": "ray_classy.models.vision_transformer:ViTL32",
}
"""The class of each model, "module:class"."""
