import threading
import time
from collections import OrderedDict

import pytest
import torch

from ray_classy.errors import CheckpointError
from ray_classy.hooks import ClassyHook
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.checkpoint_writer import CheckpointWriter, host_copy
from tests.helpers import make_task


def test_a_copy_does_not_follow_the_state():
    state = {"weights": OrderedDict(w=torch.ones(3)), "steps": [torch.zeros(1), 7], "pair": (torch.zeros(2), "x")}
    copied = host_copy(state)
    for tensor in (state["weights"]["w"], state["steps"][0], state["pair"][0]):
        tensor.fill_(5)
    assert copied["weights"]["w"].tolist() == [1, 1, 1] and copied["steps"][0].tolist() == [0]
    assert type(copied["weights"]) is OrderedDict and copied["pair"][0].tolist() == [0, 0]


def test_tensors_that_are_one_stay_one():
    tied = torch.ones(4)
    copied = host_copy({"a": tied.detach(), "b": tied.detach(), "c": torch.empty(0), "d": torch.empty(0)})
    assert copied["a"].data_ptr() == copied["b"].data_ptr() != tied.data_ptr()


def test_training_does_not_wait_and_writes_keep_their_order():
    writer, go, done = CheckpointWriter(), threading.Event(), []
    writer.begin(lambda: (go.wait(10), done.append(1)))
    assert done == []
    threading.Timer(0.1, go.set).start()
    writer.begin(lambda: done.append(2))
    writer.close()
    assert done == [1, 2]


def test_an_error_is_raised_at_the_next_call_and_once():
    writer = CheckpointWriter()
    writer.begin(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writer.begin(lambda: None)
    writer.wait()
    writer.close()


def test_a_look_raises_what_went_wrong_and_does_not_wait_for_the_rest():
    writer, go = CheckpointWriter(), threading.Event()
    writer.begin(lambda: (go.wait(10), 1 / 0))
    writer.check()
    go.set()
    while not writer.last().done():
        time.sleep(0.001)
    with pytest.raises(ZeroDivisionError):
        writer.check()
    writer.close()


class Strange(ClassyHook):
    on_start = on_phase_start = on_step = on_phase_end = on_end = ClassyHook._noop

    def get_classy_state(self):
        return {"object": object()}


def test_a_state_that_cannot_be_kept_ends_the_run(tmp_path):
    with pytest.raises(CheckpointError, match="hooks"):
        LocalTrainer(str(tmp_path), "r").train(make_task(epochs=3, hooks=[Strange()]))
