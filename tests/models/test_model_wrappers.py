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
from tests.models.test_classy_model import TwoBlocks

X = torch.ones(2, 3)


class Bare(TwoBlocks):
    wrapper_cls = None


class Doubled(ClassyModelWrapper):
    def forward(self, x):
        return 2 * self.classy_model(x)


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
