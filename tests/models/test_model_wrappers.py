import copy
import pickle

import pytest
import torch
from torch import nn

from ray_classy.heads import IdentityHead
from ray_classy.models import (
    ClassyBlock,
    ClassyModel,
    ClassyModelHeadExecutorWrapper,
    ClassyModelWrapper,
)
from tests.helpers import equal_weights, make_task, run_ranks, train, weights
from tests.models.test_classy_model import TwoBlocks

X = torch.ones(2, 3)


class Bare(TwoBlocks):
    wrapper_cls = None


class Doubled(ClassyModelWrapper):
    def forward(self, x):
        return 2 * self.classy_model(x)


class InWrapper(TwoBlocks):
    wrapper_cls = Doubled


def test_a_model_is_made_in_the_wrapper_of_its_class():
    model = InWrapper()
    assert type(model) is Doubled and isinstance(model, InWrapper)
    assert torch.equal(model(X), 2 * model.classy_model.forward(X))
    assert model.eval() is model and model.to(torch.device("cpu")) is model
    assert type(copy.deepcopy(model)) is Doubled


def test_only_a_wrapper_that_executes_heads_runs_them():
    model = InWrapper()
    model.set_heads({"first": [IdentityHead("a")]})
    assert model(X).shape == (2, 2)

    class Executor(ClassyModelHeadExecutorWrapper):
        pass

    class InExecutor(TwoBlocks):
        wrapper_cls = Executor

    model = InExecutor()
    model.set_heads({"first": [IdentityHead("a")]})
    assert type(model) is Executor and model(X).shape == (2, 4)


class Halved(ClassyModelWrapper):
    def forward(self, x):
        return self.classy_model(x) / 2


class InHalved(ClassyModel):
    wrapper_cls = Halved

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        return self.linear(x)


def in_wrapper(epochs):
    return make_task(train=8, test=None, epochs=epochs).set_model(InHalved())


def trained_on_a_rank():
    task = train(in_wrapper(1))
    kinds = type(task.distributed_model).__name__, type(task.base_model).__name__
    return kinds, [float(value.double().sum()) for value in task.base_model.parameters()]


def test_a_model_in_a_wrapper_trains_and_resumes():
    first, whole, resumed = train(in_wrapper(1)), train(in_wrapper(2)), in_wrapper(2)
    resumed._set_checkpoint_dict({"classy_state_dict": first.get_classy_state()})
    train(resumed)
    assert type(resumed.base_model) is Halved
    assert equal_weights(weights(resumed), weights(whole)) and not equal_weights(weights(first), weights(whole))


@pytest.mark.full
def test_a_model_in_a_wrapper_trains_on_several_ranks():
    (kinds, one), (_, other) = run_ranks(2, trained_on_a_rank)
    assert kinds == ("DistributedDataParallel", "Halved") and one == other


def test_a_wrapper_stands_in_for_its_model():
    model = TwoBlocks()
    wrapper = ClassyModelHeadExecutorWrapper(model)
    assert isinstance(wrapper, ClassyModel) and isinstance(wrapper, ClassyModelWrapper)
    wrapper.note = 3
    assert model.note == 3 and torch.equal(wrapper(X), model(X))
    del wrapper.note
    assert not hasattr(model, "note")


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda w: pickle.loads(pickle.dumps(w))], ids=["deepcopy", "pickle"])
def test_a_copy_of_a_wrapper_is_one_of_its_own_model(clone):
    wrapper = Doubled(TwoBlocks())
    twin = clone(wrapper)
    assert type(twin) is Doubled and twin.classy_model is not wrapper.classy_model
    assert torch.equal(twin(X), wrapper(X))


def test_without_a_wrapper_class_a_call_leaves_the_heads_out():
    model = Bare()
    model.set_heads({"first": [IdentityHead("a")]})
    assert model(X).shape == (2, 2)
    assert model.execute_heads()["a"].shape == (2, 4)


def test_a_block_keeps_its_last_output_unless_told_otherwise(monkeypatch):
    block = ClassyBlock("a", nn.Linear(3, 2))
    assert block.output.numel() == 0 and torch.equal(block(X), block.output)
    monkeypatch.setenv("CLASSY_BLOCK_STATELESS", "1")
    block = ClassyBlock("a", nn.Linear(3, 2))
    block(X)
    assert block.output.numel() == 0 and list(block.state_dict()) == ["_module.weight", "_module.bias"]
