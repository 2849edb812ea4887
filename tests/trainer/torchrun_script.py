"""What each process of a torchrun does: python -m torch.distributed.run ... torchrun_script.py STORAGE [slow]."""

import json
import os
import sys
import time

import torch

from ray_classy.distributed import get_rank
from ray_classy.trainer import DistributedTrainer
from tests.helpers import RecordingHook, make_task


def build(folder, batch):
    task = make_task(train=22, test=9, batch=batch, epochs=2, dtype=torch.float64, momentum=0.9, shuffle=True)
    return task.set_hooks([RecordingHook()])


if __name__ == "__main__":
    folder = sys.argv[1]
    ranks = []
    task = build(folder, 3)
    task.hooks[0].look = lambda task: ranks.append(get_rank())
    if "slow" in sys.argv:
        task.hooks[0].look = lambda task: time.sleep(0.3)
    try:
        result = DistributedTrainer(folder, "run").train(task)
    except SystemExit as stopped:
        with open(f"{folder}/exit{os.environ['RANK']}", "w") as file:
            file.write(str(stopped.code))
        raise
    weights = torch.cat([value.flatten() for value in task.base_model.state_dict().values()]).tolist()
    with open(f"{folder}/rank{ranks[0]}.json", "w") as file:
        json.dump({"weights": weights, "metrics": result.metrics, "checkpoint": result.checkpoint}, file)
