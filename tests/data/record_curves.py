"""Records the runs of Classy Vision that tests/tasks/test_curves.py repeats.

    cd /a/folder/elsewhere && PYTHON_WITH_CLASSY_VISION_0_7_0 .../tests/data/record_curves.py

`curve` runs one of three configs with either package: the same rows in the same order, starting from the same weights.
It is called here with Classy Vision, and writes tests/data/curves: curves.json (the loss and the learning rate of each
train step) and NAME_start.torch (what the task's checkpoint holds before the first step; `resnext_middle.torch` after
two of its four epochs).
"""

import copy
import importlib
import json
import math
import pathlib

import torch

CURVES = pathlib.Path(__file__).parent / "curves"
HEAD = {"name": "fully_connected", "unique_id": "head", "num_classes": 4, "fork_block": "block1-0", "in_plane": 32}
RESNEXT = {
    "name": "resnext",
    "num_blocks": [1, 1],
    "init_planes": 8,
    "reduction": 2,
    "base_width_and_cardinality": [2, 2],
    "use_se": True,
    "se_reduction_ratio": 4,
    "zero_init_bn_residuals": True,
    "heads": [HEAD],
}
STEPS = {"name": "step", "values": [0.1, 0.01]}
WARM_UP = {"name": "linear", "start_value": 0.0, "end_value": 0.02}
COSINE = {"name": "cosine", "start_value": 0.02, "end_value": 0.0}
CONFIGS = {
    "resnext": {
        "name": "classification_task",
        "num_epochs": 4,
        "model": RESNEXT,
        "optimizer": {
            "name": "sgd",
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.01,
            "param_schedulers": {"lr": STEPS},
        },
    },
    "mlp": {
        "name": "classification_task",
        "num_epochs": 4,
        "model": {"name": "mlp", "input_dim": 192, "output_dim": 4, "hidden_dims": [8]},
        "simulated_global_batchsize": 16,
        "clip_grad_norm": 1.0,
        "optimizer": {
            "name": "adamw",
            "weight_decay": 0.1,
            "param_schedulers": {
                "lr": {
                    "name": "composite",
                    "schedulers": [WARM_UP, COSINE],
                    "lengths": [0.25, 0.75],
                    "interval_scaling": ["rescaled", "rescaled"],
                    "update_interval": "step",
                }
            },
        },
    },
    "frozen": {
        "name": "fine_tuning",
        "num_epochs": 2,
        "model": RESNEXT,
        "freeze_trunk": True,
        "reset_heads": True,
        "optimizer": {"name": "rmsprop", "lr": 0.01, "momentum": 0.5, "eps": 0.01},
    },
}
LAMS = [0.3, 0.9, 0.5, 0.75, 0.1, 0.6, 0.45, 0.8]
"""The coefficients of mixup, in turn: drawn numbers would depend on the version of torch."""
ROWS, BATCH = 32, 8


class Images(torch.utils.data.Dataset):
    """Images of 8 x 8 pixels that a formula makes of the number of the row."""

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        pixels = torch.arange(192, dtype=torch.float64)
        image = (pixels * (0.7 + 0.3 * (index % 4)) + index * index).sin() + 0.3 * (pixels * pixels + 7 * index).cos()
        return {"input": image.float().view(3, 8, 8), "target": index % 4}


def fill(module):
    """Sets the parameters of a module to values that a formula makes."""
    with torch.no_grad():
        for parameter in module.parameters():
            numbers = torch.arange(parameter.numel(), dtype=torch.float64)
            scale = 1 / math.sqrt(parameter[0].numel() if parameter.ndim > 1 else 16)
            parameter.copy_(((numbers * numbers + 1).sin() * scale).view(parameter.shape))


def build(package, name, mixup):
    """Builds the task of a config; `mixup` is added to the second one."""
    tasks, datasets, hooks = (importlib.import_module(f"{package}.{part}") for part in ("tasks", "dataset", "hooks"))

    class Ordered(datasets.ClassyDataset):
        def iterator(self, *args, **kwargs):
            return super().iterator(*args, **{**kwargs, "num_workers": 0, "multiprocessing_context": None})

    class Recorder(hooks.ClassyHook):
        on_start = on_phase_start = on_phase_end = on_end = hooks.ClassyHook._noop

        def on_step(self, task):
            task.curve.append([float(task.last_batch.loss), task.optimizer.options_view.lr])

    config = copy.deepcopy(CONFIGS[name])
    train = Ordered(Images(), BATCH, False, None, ROWS)
    losses, models, optim = (importlib.import_module(f"{package}.{part}") for part in ("losses", "models", "optim"))
    task = {"classification_task": tasks.ClassificationTask, "fine_tuning": tasks.FineTuningTask}[config["name"]]()
    config["optimizer"]["num_epochs"] = config["num_epochs"]
    task.set_num_epochs(config["num_epochs"]).set_dataset(train, "train").set_use_gpu(False)
    task.set_model(models.build_model(config["model"])).set_hooks([Recorder()])
    task.set_optimizer(optim.build_optimizer(config["optimizer"]))
    task.set_optimizer_schedulers(optim.build_optimizer_schedulers(config["optimizer"]))
    loss = {"name": "soft_target_cross_entropy" if name == "mlp" else "CrossEntropyLoss"}
    task.set_loss(losses.build_loss(loss))
    if name == "mlp":
        task.set_simulated_global_batchsize(config["simulated_global_batchsize"]).set_mixup_transform(mixup)
        task.set_clip_grad_norm(config["clip_grad_norm"])
    if name == "frozen":
        task.set_freeze_trunk(True).set_reset_heads(True)
    task.curve = []
    return task


def run(task, phases=None):
    """Trains to the end, or for a number of phases."""
    task.on_start()
    while not task.done_training() and phases != 0:
        task.on_phase_start()
        try:
            while True:
                task.step()
        except StopIteration:
            task.on_phase_end()
        phases = None if phases is None else phases - 1
    return task.curve


def saved(task):
    """What a checkpoint of the task holds."""
    return {"input_args": None, "classy_state_dict": copy.deepcopy(task.get_classy_state())}


def record():
    """Writes the files."""
    from classy_vision.dataset.transforms.mixup import MixupTransform

    lams = iter(LAMS * 4)
    torch.distributions.Beta.sample = lambda self, shape=(): torch.full(shape, next(lams))
    curves = {}
    for name in ("resnext", "mlp"):
        task = build("classy_vision", name, MixupTransform(1.0, 4, label_smoothing=0.1))
        fill(task.base_model)
        task.prepare()
        torch.save(saved(task), CURVES / f"{name}_start.torch")
        if name == "resnext":
            run(task, 2)
            torch.save(saved(task), CURVES / "resnext_middle.torch")
        curves[name] = run(task)
    task = build("classy_vision", "frozen", None)
    fill(task.base_model)
    task._set_pretrained_checkpoint_dict(torch.load(CURVES / "resnext_middle.torch", weights_only=False))
    task.prepare()
    curves["frozen"] = run(task)
    lines = ",\n".join(f'"{name}": {json.dumps(curve)}' for name, curve in curves.items())
    (CURVES / "curves.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    record()
