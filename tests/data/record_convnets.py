"""Records networks of Classy Vision 0.7.0: `python tests/data/record_convnets.py` in an environment with that package.

Writes to tests/models/data:

classy_vision_{densenet,anynet,regnet,efficientnet}.pt
                               of narrow networks: a checkpoint, an input, and the outputs in evaluation and in
                               training mode
classy_vision_convnets.json    of each registered RegNet and EfficientNet and of DenseNet-121: the number of parameters
                               and a hash of the shapes of all entries of its state, in their order
"""

import copy
import hashlib
import json
import pathlib

import torch
from classy_vision.models import MODEL_REGISTRY, build_model

FOLDER = pathlib.Path(__file__).parent.parent / "models" / "data"


def head(block, planes):
    """Attaches a head with three classes to a block."""
    name = "fully_connected"
    return [{"name": name, "unique_id": "head", "fork_block": block, "in_plane": planes, "num_classes": 3}]


DENSENET = {"name": "densenet", "num_blocks": [2, 2], "init_planes": 8, "growth_rate": 3, "expansion": 2}
ANYNET = {
    "name": "anynet",
    "depths": [2, 1],
    "widths": [8, 16],
    "group_widths": [4, 4],
    "bottleneck_multipliers": [1.0, 1.0],
    "strides": [1, 2],
    "stem_width": 8,
    "heads": head("trunk_output", 16),
}
REGNET = {
    "name": "regnet",
    "depth": 4,
    "w_0": 8,
    "w_a": 4.0,
    "w_m": 2.0,
    "group_width": 4,
    "stem_width": 8,
    "heads": head("trunk_output", 16),
}
EFFICIENTNET = {
    "name": "efficientnet",
    "model_params": {"width_coefficient": 0.05, "depth_coefficient": 0.4, "resolution": 32, "dropout_rate": 0.0},
    "bn_momentum": 0.01,
    "bn_epsilon": 1e-3,
    "width_divisor": 4,
    "min_width": None,
    "drop_connect_rate": 0.0,
    "use_se": True,
    "num_classes": 3,
}
CASES = {
    "densenet": {**DENSENET, "heads": head("trunk_output", 13)},
    "densenet_se": {
        **DENSENET,
        "growth_rate": 4,
        "small_input": True,
        "final_bn_relu": False,
        "use_se": True,
        "se_reduction_ratio": 2,
        "heads": head("block1-1", 16),
    },
    "anynet": ANYNET,
    "anynet_vanilla": {**ANYNET, "depths": [1, 1], "block_type": "vanilla_block", "stem_type": "res_stem_cifar"},
    "anynet_basic": {**ANYNET, "block_type": "res_basic_block", "activation": "silu"},
    "regnet_y": {**REGNET, "heads": head("block2-1", 16)},
    "regnet_x": {**REGNET, "use_se": False, "bottleneck_multiplier": 0.5, "stem_type": "res_stem_in"},
    "regnet_z": {
        **REGNET,
        "w_a": 2.0,
        "bottleneck_multiplier": 2.0,
        "activation": "silu",
        "block_type": "res_bottleneck_linear_block",
    },
    "efficientnet": EFFICIENTNET,
    "efficientnet_head": {**EFFICIENTNET, "use_se": False, "min_width": 8, "heads": head("trunk_output", 64)},
}


def packed(tensors):
    """The same tensors as parts of a single one of each type, which makes the file small."""
    names = {dtype: [name for name in tensors if tensors[name].dtype is dtype] for dtype in (torch.float, torch.int64)}
    parts = {}
    for chosen in names.values():
        sizes = [tensors[name].numel() for name in chosen]
        whole = torch.cat([tensors[name].flatten() for name in chosen]) if chosen else torch.empty(0)
        for name, part in zip(chosen, whole.split(sizes), strict=True):
            parts[name] = part.view(tensors[name].shape)
    return {name: parts[name] for name in tensors}


def recorded(config, x):
    """A checkpoint of a network with any weights and statistics, an input, and its outputs."""
    torch.manual_seed(1)
    model = build_model(copy.deepcopy(config))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5)):
                torch.nn.init.uniform_(value, low, low + 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    state = copy.deepcopy(model.get_classy_state())
    state["model"]["trunk"] = packed(state["model"]["trunk"])
    with torch.no_grad():
        output = model.eval()(x)
        trained = model.train()(x)
    arguments = {"config": {"name": "classification_task", "model": config}}
    checkpoint = {"input_args": arguments, "classy_state_dict": {"base_model": state}}
    return {"checkpoint": checkpoint, "input": x, "output": output, "output_in_training": trained}


def outline(config):
    """The number of parameters, and a hash of all shapes."""
    with torch.device("meta"):
        model = build_model(config)
    shapes = "\n".join(str(tuple(value.shape)) for value in model.state_dict().values())
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "shapes": hashlib.sha256(shapes.encode()).hexdigest(),
    }


if __name__ == "__main__":
    x = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    for family in ("densenet", "anynet", "regnet", "efficientnet"):
        chosen = {name: config for name, config in CASES.items() if name.startswith(family)}
        cases = {name: recorded(config, x) for name, config in chosen.items()}
        torch.save(cases, FOLDER / f"classy_vision_{family}.pt")
    names = [name for name in MODEL_REGISTRY if name.startswith(("regnet_", "efficientnet_"))]
    configs = {name: {"name": name} for name in sorted(names)}
    configs["densenet"] = {"name": "densenet", "num_blocks": [6, 12, 24, 16]}
    outlines = {name: outline(config) for name, config in configs.items()}
    (FOLDER / "classy_vision_convnets.json").write_text(json.dumps(outlines, indent=1) + "\n")
