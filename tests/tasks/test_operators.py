"""How many operators a train step runs: on a GPU each of them is a kernel that Python must launch in time."""

from collections import Counter

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ray_classy.hooks import ClassyHook
from ray_classy.trainer import LocalTrainer
from tests.helpers import Vectors, linear_model, make_task

BATCH = 4
FEW, MANY = 8, 72
"""Steps of two phases, whose difference is a multiple of the batches that a meter counts at a time."""


class Operators(TorchDispatchMode):
    """Counts the operators that compute something, in the thread that enters it."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "aten" and not func.is_view:
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


class Counted(ClassyHook):
    """Counts the operators of a phase."""

    on_start = on_step = on_end = ClassyHook._noop

    def __init__(self):
        super().__init__()
        self.operators = Operators()

    def on_phase_start(self, task):
        self.operators.__enter__()

    def on_phase_end(self, task):
        self.operators.__exit__(None, None, None)


def of_a_task(steps, folder):
    hook = Counted()
    task = make_task(train=BATCH * steps, test=None, batch=BATCH, hooks=[hook], momentum=0.9)
    LocalTrainer(str(folder / str(steps))).train(task)
    return hook.operators.counts


def by_hand(steps):
    rows, model, loss_of = Vectors(BATCH * steps), linear_model().train(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    losses, correct = [], torch.zeros(())
    batches = list(zip(rows.inputs.split(BATCH), torch.tensor(rows.targets).split(BATCH), strict=True))
    with Operators() as operators:
        for inputs, target in batches:
            optimizer.zero_grad()
            output = model(inputs)
            loss = loss_of(output, target)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            correct += (output.argmax(1) == target).sum()
    return operators.counts


def test_a_step_runs_no_more_of_them_than_a_loop_by_hand(tmp_path):
    ours = of_a_task(MANY, tmp_path)
    ours.subtract(of_a_task(FEW, tmp_path))
    theirs = by_hand(MANY)
    theirs.subtract(by_hand(FEW))
    steps = MANY - FEW
    assert ours["aten._fused_sgd_.default"] == theirs["aten._fused_sgd_.default"] == steps
    assert ours.total() <= theirs.total(), {name: (ours[name] - theirs[name]) / steps for name in ours | theirs}
