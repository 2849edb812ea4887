"""Records checkpoints of Classy Vision 0.7.0 that tests/models/test_predecessor.py loads and resumes.

Run it in an environment with `classy-vision==0.7.0`, from the root of the repository:

    python -m tests.data.record_predecessor [NAME ...]

For each network it trains a narrow variant for three epochs of one update (SGD with momentum) on the rows of
`tests.data.predecessor_rows` and writes two files to tests/data/predecessor:

NAME.torch    the checkpoint after the second epoch, as Classy Vision's CheckpointHook wrote it
NAME.json     `output`, the scores of that checkpoint, and `resumed`, those after the third epoch, in evaluation mode

A network is one function below, which returns the config of the model, and its line in NETWORKS. Its head is
`head(in_plane, fork_block)`; dropout must be 0. A file has less than 300 kB, so about 35,000 parameters.
"""

import json
import logging
import pathlib
import shutil
import sys
import tempfile

import torch

from tests.data.predecessor_rows import CLASSES, Rows

FOLDER = pathlib.Path(__file__).parent / "predecessor"


def head(in_plane, fork_block, name="fully_connected", **keys):
    """The config of a head."""
    return {
        "name": name,
        "unique_id": "head",
        "in_plane": in_plane,
        "num_classes": CLASSES,
        "fork_block": fork_block,
        **keys,
    }


def resnet():
    """ResNet-50's kind: bottlenecks."""
    return {"name": "resnet", "num_blocks": [2, 1], "init_planes": 8, "heads": [head(64, "block1-0")]}


def resnext():
    """ResNeXt's kind with squeeze and excitation, whose layers come in another order there."""
    return {
        "name": "resnext",
        "num_blocks": [2, 1],
        "init_planes": 8,
        "base_width_and_cardinality": [2, 4],
        "use_se": True,
        "heads": [head(64, "block1-0")],
    }


def mlp():
    """A multi-layer perceptron with batch norm."""
    return {
        "name": "mlp",
        "input_dim": 48,
        "output_dim": CLASSES,
        "hidden_dims": [12],
        "dropout": 0,
        "first_dropout": False,
        "use_batchnorm": True,
        "first_batchnorm": False,
    }


def densenet():
    """A narrow DenseNet."""
    blocks = {"num_blocks": [2, 2], "init_planes": 8, "growth_rate": 4, "expansion": 2}
    return {"name": "densenet", **blocks, "heads": [head(16, "trunk_output")]}


def regnet_y():
    """RegNetY's kind: bottlenecks with squeeze and excitation."""
    widths = {"depth": 4, "w_0": 8, "w_a": 4.0, "w_m": 2.0, "group_width": 4, "stem_width": 8}
    return {"name": "regnet", **widths, "use_se": True, "heads": [head(16, "trunk_output")]}


def efficientnet():
    """A narrow EfficientNet whose classes come from a head."""
    return {
        "name": "efficientnet",
        "model_params": {"width_coefficient": 0.05, "depth_coefficient": 0.4, "resolution": 32, "dropout_rate": 0.0},
        "bn_momentum": 0.01,
        "bn_epsilon": 1e-3,
        "width_divisor": 4,
        "min_width": None,
        "drop_connect_rate": 0.0,
        "use_se": True,
        "num_classes": CLASSES,
        "heads": [head(64, "trunk_output")],
    }


def vision_transformer():
    """A narrow vision transformer."""
    sizes = {"image_size": 16, "patch_size": 4, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 12}
    heads = [head(8, "trunk_output", "vision_transformer_head", hidden_dim=6)]
    return {"name": "vision_transformer", **sizes, "heads": heads}


def resnext3d():
    """I3D's kind: bottlenecks in space and time."""
    return {
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
        "heads": [head(16, "pathway0-stage2-block0", "fully_convolutional_linear")],
    }


NETWORKS = {  # the function, and the shape of its input
    "resnet": (resnet, (3, 32, 32)),
    "resnext": (resnext, (3, 32, 32)),
    "mlp": (mlp, (3, 4, 4)),
    "densenet": (densenet, (3, 32, 32)),
    "regnet_y": (regnet_y, (3, 32, 32)),
    "efficientnet": (efficientnet, (3, 32, 32)),
    "vision_transformer": (vision_transformer, (3, 16, 16)),
    "resnext3d": (resnext3d, (3, 4, 16, 16)),
}


def config(model):
    """The config of a task that trains a model; its dataset takes the place of the rows."""
    phase = {"name": "synthetic_image", "crop_size": 32, "class_ratio": 0.5, "num_samples": 4, "seed": 0}
    return {
        "name": "classification_task",
        "num_epochs": 3,
        "use_gpu": False,
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"accuracy": {"topk": [1]}},
        "model": model,
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
        "dataset": {
            "train": {**phase, "split": "train", "batchsize_per_replica": 4, "use_shuffle": False, "transforms": []}
        },
    }


def record(name, folder):
    """Trains a network with Classy Vision and writes its two files."""
    from classy_vision.dataset import ClassyDataset
    from classy_vision.hooks import CheckpointHook
    from classy_vision.tasks import build_task
    from classy_vision.trainer import LocalTrainer

    class OwnProcess(ClassyDataset):
        def iterator(self, *args, **kwargs):
            return super().iterator(*args, **{**kwargs, "num_workers": 0})

    network, shape = NETWORKS[name]
    torch.manual_seed(1)
    task = build_task(config(network()))
    task.set_dataset(OwnProcess(Rows(shape), Rows.SIZE, False, lambda row: row, Rows.SIZE), "train")
    task.set_dataloader_mp_context(None)
    with tempfile.TemporaryDirectory() as temporary:
        arguments = {"config": config(network()), "checkpoint_folder": "/checkpoints", "log_freq": 5}
        task.set_hooks([CheckpointHook(temporary, {**arguments, "input_shape": list(shape)})])
        LocalTrainer().train(task)
        path = pathlib.Path(temporary) / "model_phase-1_end.torch"
        outputs = {"output": scores(path, task, shape), "resumed": scores(None, task, shape)}
        (folder / f"{name}.json").write_text(json.dumps(outputs) + "\n")
        shutil.copyfile(path, folder / f"{name}.torch")
    logging.info("%s: %d bytes", name, (folder / f"{name}.torch").stat().st_size)


def scores(path, task, shape):
    """The scores of the task's model, or of a model of its config with the weights of a checkpoint."""
    from classy_vision.models import ClassyModel

    model = task.base_model if path is None else ClassyModel.from_checkpoint(torch.load(path, weights_only=True))
    with torch.no_grad():
        return model.eval()(Rows(shape).inputs).tolist()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or NETWORKS:
        record(name, FOLDER)
