"""Small sweeps for tests, and what trials leave word of; importable in trials."""

import logging
import os
import signal
import subprocess
import time

import torch
from ray import tune

from ray_classy.hooks import ClassyHook, register_hook
from ray_classy.optim import ClassyOptimizer

LR = "optimizer.param_schedulers.lr.start_value"
_log = logging.getLogger("ray_classy.tests")


def sweep_config(search=None, tune=None, **changes):
    """A sweep of a small network on a part of the digits, over the learning rate unless said otherwise."""
    config = {
        "name": "classification_task",
        "num_epochs": 3,
        "seed": 5,
        "imports": ["tests.tune.sweeps"],
        "dataset": {
            "train": {
                "name": "digits",
                "split": "train",
                "batchsize_per_replica": 32,
                "use_shuffle": True,
                "num_samples": 320,
            },
            "test": {
                "name": "digits",
                "split": "test",
                "batchsize_per_replica": 100,
                "use_shuffle": False,
                "num_samples": 200,
            },
        },
        "model": {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [32], "dropout": 0.1},
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"accuracy": {"topk": [1]}},
        "hooks": [{"name": "say_state"}],
        "optimizer": {
            "name": "sgd",
            "momentum": 0.9,
            "param_schedulers": {
                "lr": {
                    "name": "cosine",
                    "start_value": search or {"search": "loguniform", "lower": 1e-3, "upper": 1.0},
                    "end_value": 0.0,
                }
            },
        },
        # Two trials at a time on the tests' cluster: starting more processes on two cores takes longer.
        "ray": {"resources_per_worker": {"CPU": 2}},
        "tune": {"metric": "test.accuracy.top_1", "num_samples": 4, **(tune or {})},
    }
    return {**config, **changes}


def weight_sum(state):
    """A number that tells weights apart."""
    return sum(value.double().sum().item() for value in state.values() if value.is_floating_point())


@register_hook("say_state")
class SayState(ClassyHook):
    """Logs where a trial starts, with which weights and learning rate, and the weights at each phase's end."""

    on_step = on_end = ClassyHook._noop

    def on_start(self, task):
        _log.info("start where %r weights %r", task.where, weight_sum(task.base_model.state_dict()))

    def on_phase_start(self, task):
        if task.train:
            _log.info("phase %d where %r lr %r", task.phase_idx, task.where, task.optimizer.options_view.lr)

    def on_phase_end(self, task):
        _log.info("end of phase %d weights %r", task.phase_idx, weight_sum(task.base_model.state_dict()))


@register_hook("dies")
class Dies(ClassyHook):
    """Kills or fails the trial's process in one phase; once, if it is given a marker."""

    on_start = on_step = on_end = on_phase_end = ClassyHook._noop

    def __init__(self, phase: int, how: str, marker: str | None = None):
        super().__init__()
        self.phase, self.how, self.marker = phase, how, marker

    def on_phase_start(self, task):
        if task.phase_idx != self.phase or (self.marker and os.path.exists(self.marker)):
            return
        if self.marker:
            open(self.marker, "w").close()
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "raise":
            raise ValueError("the hook had enough")
        elif self.how == "nan":
            with torch.no_grad():
                for parameter in task.base_model.parameters():
                    parameter.fill_(float("nan"))
        elif self.how == "memory":
            raise torch.OutOfMemoryError("no memory left")


@register_hook("slow")
class Slow(ClassyHook):
    """Makes every phase last a while."""

    on_start = on_step = on_end = on_phase_end = ClassyHook._noop

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def on_phase_start(self, task):
        time.sleep(self.seconds)


@register_hook("slow_steps")
class SlowSteps(ClassyHook):
    """Makes each train step last a while as long as a file is there."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, file: str, seconds: float):
        super().__init__()
        self.file, self.seconds = file, seconds

    def on_step(self, task):
        if task.train and os.path.exists(self.file):
            time.sleep(self.seconds)


@register_hook("leaves_word")
class LeavesWord(ClassyHook):
    """Makes a file at the end of a train step, counted over all epochs."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, file: str, step: int):
        super().__init__()
        self.file, self.left = file, step

    def on_step(self, task):
        self.left -= task.train
        if self.left == 0:
            open(self.file, "w").close()


class EndsAtFile(tune.Stopper):
    """Ends a sweep once a file is there."""

    def __init__(self, file: str):
        self.file = file

    def __call__(self, trial_id, result):
        return False

    def stop_all(self):
        return os.path.exists(self.file)


@register_hook("ends_a_child")
class EndsAChild(ClassyHook):
    """Starts a process and tells it to end."""

    on_step = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def on_start(self, task):
        child = subprocess.Popen(["sleep", "60"])
        child.terminate()
        child.wait(10)


@register_hook("leaves_a_mess")
class LeavesAMess(ClassyHook):
    """Changes what belongs to the whole process."""

    on_step = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def on_start(self, task):
        from ray_classy.optim import OPTIMIZER_REGISTRY

        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        os.environ["LEFT_BY_A_TRIAL"] = "1"
        os.chdir("/")
        OPTIMIZER_REGISTRY.register("adam", bypass_checks=True)(ClassyOptimizer)
