"""A training that tests kill: python resume_script.py STORAGE [RESUME]; KILL names the phase and the step.

Random augmentation, dropout, mixup, momentum and a schedule: all that draws or remembers is in it.
"""

import os
import random
import signal
import sys

import torch
from torch import nn

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.transforms.mixup import MixupTransform
from ray_classy.hooks import CheckpointHook
from ray_classy.models import ClassyModel
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, Vectors, make_task


def augment(sample):
    noise = torch.randn(6) * 0.1 + random.random() * 0.1
    return {**sample, "input": (sample["input"] + noise).reshape(1, 2, 3)}


def shape(sample):
    return {**sample, "input": sample["input"].reshape(1, 2, 3)}


def build(folder, hook):
    hooks = [hook, CheckpointHook(os.path.join(folder, "published"))]
    task = make_task(
        epochs=4, momentum=0.9, hooks=hooks, schedule={"name": "cosine", "start_value": 0.2, "end_value": 0}
    )
    task.set_dataset(ClassyDataset(Vectors(22), 4, True, augment), "train")
    task.set_dataset(ClassyDataset(Vectors(10), 4, False, shape), "test")
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 4)]
    task.set_model(ClassyModel.from_model(nn.Sequential(*layers), (1, 2, 3)))
    return task.set_mixup_transform(MixupTransform(0.5, num_classes=4, cutmix_alpha=1.0)).set_seed(11)


def main(folder, resume=None):
    torch.set_num_threads(1)
    phase, step = (int(number) for number in os.environ.get("KILL", "-1,-1").split(","))

    def kill(task):
        if task.phase_idx == phase and len(task.losses) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    task = build(folder, RecordingHook(kill))
    LocalTrainer(folder, "run", resume).train(task)
    print("imported:", *sorted({"torchvision", "ray", "timm", "tensorboard"} & sys.modules.keys()))


if __name__ == "__main__":
    main(*sys.argv[1:])
