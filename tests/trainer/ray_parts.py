"""Tasks and parts for tests on Ray workers, importable there."""

import glob
import json
import os
import sys
import threading
import time

import torch
from torch import nn

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.hooks import ClassyHook
from ray_classy.losses import build_loss
from ray_classy.models import ClassyModel
from ray_classy.optim import build_optimizer
from ray_classy.tasks import ClassificationTask, build_task


def digits_config(**changes):
    """A small, fast task on the digits: random augmentation, dropout, mixup, momentum."""
    augment = [{"name": "RandomAffine", "degrees": 10, "translate": [0.1, 0.1]}, {"name": "ToTensor"}]
    config = {
        "name": "classification_task",
        "num_epochs": 3,
        "seed": 3,
        "dataset": {
            "train": {
                "name": "digits",
                "split": "train",
                "batchsize_per_replica": 50,
                "use_shuffle": True,
                "transforms": [{"name": "apply_transform_to_key", "key": "input", "transforms": augment}],
            },
            "test": {"name": "digits", "split": "test", "batchsize_per_replica": 100, "use_shuffle": False},
        },
        "model": {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [32], "dropout": 0.1},
        "loss": {"name": "soft_target_cross_entropy"},
        "mixup": {"alpha": 0.2, "num_classes": 10},
        "meters": {"accuracy": {"topk": [1]}},
        "optimizer": {
            "name": "sgd",
            "momentum": 0.9,
            "param_schedulers": {"lr": {"name": "cosine", "start_value": 0.1, "end_value": 0.0}},
        },
    }
    return {**config, **changes}


def digits_task(**changes):
    return build_task(digits_config(**changes))


def id_rows(count):
    """`count` rows whose input is their own number."""
    return ItemRows(id=list(range(count)), label=[number % 2 for number in range(count)])


def decode_id(row):
    return {"input": torch.tensor([float(row["id"])]), "target": row["label"], "id": row["id"]}


class IdDataset(ClassyDataset):
    """Rows that Ray Data can hold, whose samples say which row they are."""

    def __init__(self, count, batchsize_per_replica, shuffle=False):
        super().__init__(RowDataset(id_rows(count), decode_id), batchsize_per_replica, shuffle)


def id_task(folder, train_rows=101, test_rows=37, batch=8, epochs=2, cls=ClassificationTask):
    task = cls().set_num_epochs(epochs).set_model(Linear()).set_loss(build_loss({"name": "CrossEntropyLoss"}))
    task.set_optimizer(build_optimizer({"name": "sgd", "lr": 0.1}))
    task.set_dataset(IdDataset(train_rows, batch, shuffle=True), "train")
    return task.set_dataset(IdDataset(test_rows, batch), "test").set_hooks([RecordIds(str(folder))])


class Linear(ClassyModel):
    """One weight, so that gradients are easily followed."""

    def __init__(self, outputs=2):
        super().__init__()
        self.layer = nn.Linear(1, outputs)

    def forward(self, x):
        return self.layer(x / 100)


class RecordModules(ClassyHook):
    """Writes down which of some modules, whose import takes seconds, each rank has imported by the end of a run."""

    on_start = on_phase_start = on_step = on_phase_end = ClassyHook._noop

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_end(self, task):
        with open(os.path.join(self.folder, f"{os.getpid()}.json"), "w") as file:
            json.dump(sorted({"torchvision", "timm", "tensorboard"} & sys.modules.keys()), file)


class RecordIds(ClassyHook):
    """Writes down which rows each rank was given with a weight, phase by phase."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_step(self, task):
        rows = task.data_iterator.share.rows
        line = {
            "phase": task.phase_idx,
            "train": task.train,
            "step": task.num_train_steps,
            "ids": task.last_batch.sample["id"][:rows].tolist(),
        }
        with open(os.path.join(self.folder, f"{os.getpid()}.jsonl"), "a") as file:
            file.write(json.dumps(line) + "\n")


def recorded(folder, last_step=None):
    """Phase number to the sorted row numbers of all ranks, up to a train step after which work was lost."""
    phases = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name)) as file:
            for line in map(json.loads, file):
                if last_step is not None and line["step"] > last_step:
                    continue
                phases.setdefault(line["phase"], []).extend(line["ids"])
    return {phase: sorted(ids) for phase, ids in phases.items()}


class Slow(ClassyHook):
    """Makes each train step take so many seconds longer, of a run that has one until a file is there."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, seconds, until=None):
        super().__init__()
        self.seconds, self.until = seconds, until and str(until)

    def on_step(self, task):
        if task.train and not (self.until and os.path.exists(self.until)):
            time.sleep(self.seconds)


class KillInWrite(ClassyHook):
    """Kills the process of rank 0 while a checkpoint is half written, once."""

    on_step = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, folder, marker):
        super().__init__()
        self.folder, self.marker = folder, marker

    def on_start(self, task):
        from ray_classy.distributed import is_primary

        if is_primary() and not os.path.exists(self.marker):
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while True:
            if glob.glob(os.path.join(self.folder, "epoch_*", "checkpoint.torch.*.half")):
                with open(self.marker, "w"):
                    os.kill(os.getpid(), 9)
            time.sleep(0.001)


class TakeMemory(ClassyHook):
    """Takes memory without end at one step of rank 1, once."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, steps, marker):
        super().__init__()
        self.steps, self.marker = steps, marker

    def on_step(self, task):
        from ray_classy.distributed import get_rank

        if get_rank() != 1 or task.num_train_steps != self.steps or os.path.exists(self.marker):
            return
        with open(self.marker, "w"):
            taken = []
        for _ in range(200):
            taken.append(torch.ones(25 << 20))  # 100 MiB
            time.sleep(0.1)


class Always(ClassyHook):
    """Fails on rank 1 after so many steps, every time."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_step(self, task):
        from ray_classy.distributed import get_rank

        if get_rank() == 1 and task.num_train_steps == self.steps:
            raise ValueError("the hook has had enough")


class At(ClassyHook):
    """Does something to the process of one rank, or of each (None), at one step of a phase, once."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, phase, step, action, marker, rank=0):
        super().__init__()
        self.phase, self.step, self.action, self.marker, self.rank = phase, step, action, marker, rank

    def on_step(self, task):
        from ray_classy.distributed import get_rank

        if (task.phase_idx, task.steps_in_phase) != (self.phase, self.step) or self.rank not in (None, get_rank()):
            return
        marker = self.marker if self.rank is not None else f"{self.marker}.{get_rank()}"
        if os.path.exists(marker):
            return
        import ray

        with open(marker, "w") as file:
            file.write(ray.get_runtime_context().get_node_id())
        if self.action == "kill":
            os.kill(os.getpid(), 9)
        elif self.action == "raise":
            raise ValueError("the hook had enough")
        elif self.action == "nan":
            with torch.no_grad():
                for parameter in task.base_model.parameters():
                    parameter.fill_(float("nan"))
        elif self.action == "wait":
            time.sleep(600)
        elif self.action == "hold":
            while os.path.exists(os.path.join(os.path.dirname(marker), "hold")):
                time.sleep(0.1)


OVERRIDDEN = (
    "train_step",
    "eval_step",
    "compute_model",
    "compute_loss",
    "run_optimizer",
    "update_meters",
    "build_dataloaders_for_current_phase",
    "build_dataloader_from_dataset",
    "create_data_iterators",
    "advance_phase",
    "prepare",
    "prepare_optimizer",
    "init_distributed_data_parallel_model",
    "synchronize_losses",
    "done_training",
    "on_start",
    "on_phase_start",
    "on_phase_end",
    "on_end",
    "get_classy_state",
    "set_classy_state",
    "get_batchsize_per_replica",
    "get_global_batchsize",
    "check_inf_nan",
    "log_phase_end",
    "step",
)


class CountingTask(ClassificationTask):
    """Counts the calls of each documented method in a file per process."""

    folder = ""


def _counting(name):
    def method(self, *args, **kwargs):
        with open(os.path.join(self.folder, f"{name}-{os.getpid()}"), "a") as file:
            file.write("x")
        return getattr(super(CountingTask, self), name)(*args, **kwargs)

    return method


for _name in OVERRIDDEN:
    setattr(CountingTask, _name, _counting(_name))
