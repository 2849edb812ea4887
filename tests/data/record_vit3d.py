"""Records networks of Classy Vision 0.7.0: `python tests/data/record_vit3d.py` in an environment with that package.

Writes to tests/models/data:

classy_vision_{vision_transformer,resnext3d}.pt
                               of narrow networks: a checkpoint, an input, and the outputs in evaluation and in
                               training mode
classy_vision_vit3d.json       of networks of the sizes that are used: their configs, the number of parameters, and a
                               hash of the names and shapes of all entries of the state, in their order
"""

import copy
import hashlib
import json
import pathlib

import torch
from classy_vision.models import build_model

FOLDER = pathlib.Path(__file__).parent.parent / "models" / "data"

VIT = {
    "name": "vision_transformer",
    "image_size": 16,
    "patch_size": 4,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "mlp_dim": 12,
    "heads": [
        {
            "name": "vision_transformer_head",
            "unique_id": "head",
            "fork_block": "trunk_output",
            "in_plane": 8,
            "num_classes": 3,
            "hidden_dim": 6,
        }
    ],
}
STEM = [{"kernel": 3, "stride": 2, "out_channels": 4}, {"kernel": 3, "stride": 2, "out_channels": 6}]
VITS = {
    "token": VIT,
    "gap": {**VIT, "classifier": "gap"},
    "stem": {**VIT, "conv_stem_layers": STEM},
}


def head(block, planes):
    """Attaches a head with three classes to a block."""
    name = "fully_convolutional_linear"
    return [{"name": name, "unique_id": "head", "fork_block": block, "in_plane": planes, "num_classes": 3}]


I3D = {
    "name": "resnext3d",
    "input_planes": 3,
    "clip_crop_size": 16,
    "frames_per_clip": 4,
    "num_blocks": [2, 1],
    "stem_planes": 4,
    "stem_temporal_kernel": 3,
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
    "heads": head("pathway0-stage2-block0", 16),
}
PRE = {
    "skip_transformation_type": "preactivated_shortcut",
    "residual_transformation_type": "preactivated_bottleneck_transformation",
}
STAGES_OF_4 = {"stage_planes": 4, "num_groups": 1, "heads": head("pathway0-stage2-block0", 8)}
NETWORKS_3D = {
    "i3d": I3D,
    "preactivated_i3d": {**I3D, **PRE, "heads": head("pathway0-stage2-block0-relu", 16)},
    "r3d": {**I3D, **STAGES_OF_4, "residual_transformation_type": "basic_transformation"},
    "r2plus1d": {
        **I3D,
        **STAGES_OF_4,
        "stem_name": "r2plus1d_stem",
        "residual_transformation_type": "basic_r2plus1d_transformation",
    },
    "r2d": {
        **I3D,
        "frames_per_clip": 1,
        "stem_temporal_kernel": 1,
        "stage_temporal_kernel_basis": [[1], [1]],
        "stage_temporal_stride": [1, 1],
    },
}

I3D50 = {
    **I3D,
    "clip_crop_size": 224,
    "frames_per_clip": 32,
    "num_blocks": [3, 4, 6, 3],
    "stem_planes": 64,
    "stem_temporal_kernel": 5,
    "stage_planes": 256,
    "stage_temporal_kernel_basis": [[3], [3, 1], [3, 1], [1, 3]],
    "temporal_conv_1x1": [True] * 4,
    "stage_temporal_stride": [1, 2, 1, 1],
    "stage_spatial_stride": [1, 2, 2, 2],
    "num_groups": 1,
    "width_per_group": 64,
    "heads": head("pathway0-stage4-block2", 2048),
}
R2D50 = {
    **I3D50,
    "frames_per_clip": 1,
    "stem_temporal_kernel": 1,
    "stage_temporal_kernel_basis": [[1]] * 4,
    "stage_temporal_stride": [1] * 4,
}
R3D34 = {
    **{key: value for key, value in I3D50.items() if not key.startswith(("stage_t", "temporal", "stage_s"))},
    "input_key": "video",
    "clip_crop_size": 112,
    "frames_per_clip": 8,
    "stem_maxpool": False,
    "stage_planes": 64,
    "residual_transformation_type": "basic_transformation",
    "heads": head("pathway0-stage4-block2", 512),
}
PRE_HEAD = {"heads": head("pathway0-stage4-block2-relu", 2048)}
FULL = {
    "postactivated_i3d50": I3D50,
    "preactivated_i3d50": {**I3D50, **PRE, **PRE_HEAD},
    "postactivated_r2d50": R2D50,
    "preactivated_r2d50": {**R2D50, **PRE, **PRE_HEAD},
    "postactivated_r2d101": {**R2D50, "num_blocks": [3, 4, 23, 3]},
    "preactivated_r2d101": {**R2D50, **PRE, **PRE_HEAD, "num_blocks": [3, 4, 23, 3]},
    "r3d34": R3D34,
    "r2plus1d34": {
        **R3D34,
        "stem_name": "r2plus1d_stem",
        "residual_transformation_type": "basic_r2plus1d_transformation",
    },
    "resnext3d_defaults": {
        "name": "resnext3d",
        "input_planes": 3,
        "clip_crop_size": 112,
        "skip_transformation_type": "postactivated_shortcut",
        "residual_transformation_type": "postactivated_bottleneck_transformation",
        "frames_per_clip": 8,
        "num_blocks": [1, 1, 1, 1],
    },
    **{name: {"name": name} for name in ("vit_b_32", "vit_b_16", "vit_l_32", "vit_l_16", "vit_h_14")},
    "vit_b_16_of_384_pixels": {"name": "vit_b_16", "image_size": 384, "dropout_rate": 0.1, "classifier": "gap"},
}


def checkpoint(config, x):
    """A network with arbitrary weights and statistics, and what it computes."""
    torch.manual_seed(0)
    model = build_model(copy.deepcopy(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        model.train()(x)
        state = copy.deepcopy(model.get_classy_state())
        output_in_training = model(x).clone()
        model.set_classy_state(state)
        output = model.eval()(x).clone()
    content = {"input_args": {"config": {"model": config}}, "classy_state_dict": {"base_model": state}}
    return {"checkpoint": content, "input": x, "output": output, "output_in_training": output_in_training}


def outline(config):
    """The size of a network and the hash of its outline."""
    with torch.device("meta"):
        model = build_model(copy.deepcopy(config))
    state = model.get_classy_state()["model"]["trunk"]
    lines = "\n".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"config": config, "parameters": parameters, "outline": hashlib.sha256(lines.encode()).hexdigest()}


def main():
    torch.manual_seed(0)
    image, clip = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 4, 16, 16)
    vits = {name: checkpoint(config, image) for name, config in VITS.items()}
    torch.save(vits, FOLDER / "classy_vision_vision_transformer.pt")
    networks = {name: checkpoint(config, image if name == "r2d" else clip) for name, config in NETWORKS_3D.items()}
    torch.save(networks, FOLDER / "classy_vision_resnext3d.pt")
    full = {name: outline(config) for name, config in FULL.items()}
    (FOLDER / "classy_vision_vit3d.json").write_text(json.dumps(full, indent=1) + "\n")


main()
