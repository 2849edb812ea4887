"""Records how Classy Vision 0.7.0 counts networks.

Run it in an environment with `classy-vision==0.7.0`: `python -m tests.data.record_counts`.

Writes tests/data/counts.json: of each network below its config, the shape and the key of an input, and the FLOPs,
activations and parameters that Classy Vision counted. tests/generic/test_profiler.py compares them.
"""

import json
import pathlib

FILE = pathlib.Path(__file__).parent / "counts.json"


def head(block, planes, name="fully_connected", **keys):
    """The only head of a network, with five classes."""
    head = {"name": name, "unique_id": "head", "fork_block": block, "in_plane": planes, "num_classes": 5}
    return [{**head, **keys}]


RESNET = {"name": "resnet", "num_blocks": [1, 1], "init_planes": 4}
ANYNET = {
    "name": "anynet",
    "depths": [2, 1],
    "widths": [8, 16],
    "group_widths": [4, 4],
    "bottleneck_multipliers": [1.0, 1.0],
    "strides": [1, 2],
    "stem_width": 8,
}
VIT = {
    "name": "vision_transformer",
    "image_size": 16,
    "patch_size": 4,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "mlp_dim": 12,
    "heads": head("trunk_output", 8, "vision_transformer_head", hidden_dim=6),
}
VIT_STEM = [{"kernel": 3, "stride": 2, "out_channels": 4}, {"kernel": 3, "stride": 2, "out_channels": 6}]
I3D = {
    "name": "resnext3d",
    "input_planes": 3,
    "clip_crop_size": 16,
    "frames_per_clip": 4,
    "num_blocks": [2, 1],
    "stem_planes": 4,
    "stem_maxpool": True,
    "stage_planes": 8,
    "stage_temporal_kernel_basis": [[3], [1, 3]],
    "temporal_conv_1x1": [True, False],
    "stage_temporal_stride": [1, 2],
    "stage_spatial_stride": [1, 2],
    "num_groups": 2,
    "width_per_group": 2,
    "skip_transformation_type": "postactivated_shortcut",
    "residual_transformation_type": "postactivated_bottleneck_transformation",
}
R2D = {
    **I3D,
    "frames_per_clip": 1,
    "stem_temporal_kernel": 1,
    "stage_temporal_kernel_basis": [[1], [1]],
    "temporal_conv_1x1": [False, False],
    "stage_temporal_stride": [1, 1],
}
LAST = "pathway0-stage2-block0"
LINEAR = "fully_convolutional_linear"
IMAGE, CLIP = (3, 64, 64), (3, 4, 16, 16)

NETWORKS = {  # the config, the shape of an input, and the key of the input if it is in a dict
    "densenet121": ({"name": "densenet", "num_blocks": [6, 12, 24, 16]}, (3, 224, 224), None),
    "densenet": (
        {
            "name": "densenet",
            "num_blocks": [2, 2],
            "init_planes": 8,
            "growth_rate": 4,
            "use_se": True,
            "se_reduction_ratio": 2,
            "heads": head("block1-1", 16),
        },
        IMAGE,
        None,
    ),
    "regnet_x": ({"name": "regnet_x_400mf", "heads": head("trunk_output", 384)}, (3, 224, 224), None),
    "regnet_y": ({"name": "regnet_y_400mf"}, (3, 224, 224), None),
    "regnet_z": ({"name": "regnet_z_500mf"}, (3, 224, 224), None),
    "anynet": (ANYNET, IMAGE, None),
    "anynet_vanilla": ({**ANYNET, "block_type": "vanilla_block", "stem_type": "res_stem_cifar"}, IMAGE, None),
    "anynet_basic": ({**ANYNET, "block_type": "res_basic_block", "activation": "silu"}, IMAGE, None),
    "efficientnet_b0": ({"name": "efficientnet_b0"}, (3, 224, 224), None),
    "vit_b_32": ({"name": "vit_b_32"}, (3, 224, 224), None),
    "vit": (VIT, (3, 16, 16), None),
    "vit_gap_stem": ({**VIT, "classifier": "gap", "conv_stem_layers": VIT_STEM}, (3, 16, 16), None),
    "i3d": ({**I3D, "heads": head(LAST, 16, LINEAR)}, CLIP, None),
    "i3d_from_dict": ({**I3D, "input_key": "video", "heads": head(LAST, 16, LINEAR, use_dropout=True)}, CLIP, "video"),
    "i3d_windows": ({**I3D, "heads": head(LAST, 16, LINEAR, pool_size=[1, 2, 2])}, CLIP, None),
    "r2plus1d": (
        {
            **I3D,
            "stem_name": "r2plus1d_stem",
            "residual_transformation_type": "basic_r2plus1d_transformation",
        },
        CLIP,
        None,
    ),
    "r2d": (R2D, (3, 16, 16), None),
    "resnext_se": (
        {**RESNET, "name": "resnext", "use_se": True, "base_width_and_cardinality": [2, 2]},
        IMAGE,
        None,
    ),
    "resnet": ({**RESNET, "heads": head("block1-0", 32)}, IMAGE, None),
    "resnet_convolution_in_head": (
        {**RESNET, "heads": head("block1-0", 32, conv_planes=8, activation="silu", normalize_inputs="l2")},
        IMAGE,
        None,
    ),
    "resnet_pooling_head": ({**RESNET, "heads": head("block1-0", 32, num_classes=None)}, IMAGE, None),
    "resnet50": ({"name": "resnet50"}, (3, 224, 224), None),
    "resnext50": ({"name": "resnext50_32x4d"}, (3, 224, 224), None),
    "small_resnet": ({**RESNET, "small_input": True}, (3, 32, 32), None),
    "mlp": (
        {
            "name": "mlp",
            "input_dim": 48,
            "output_dim": 5,
            "hidden_dims": [12, 7],
            "dropout": 0.5,
            "first_dropout": True,
            "use_batchnorm": True,
            "first_batchnorm": True,
        },
        (3, 4, 4),
        None,
    ),
}


def counted(config, shape, key):
    """What Classy Vision counts of a network."""
    from classy_vision.generic.profiler import compute_activations, compute_flops, count_params
    from classy_vision.models import build_model

    model = build_model(json.loads(json.dumps(config)))
    return {
        "config": config,
        "input_shape": shape,
        "input_key": key,
        "flops": compute_flops(model, shape, key),
        "activations": compute_activations(model, shape, key),
        "parameters": count_params(model),
    }


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(counted(*network))}" for name, network in NETWORKS.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
