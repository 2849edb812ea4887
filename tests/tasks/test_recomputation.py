import copy

import pytest
import torch

from ray_classy.errors import ComponentError
from ray_classy.models import build_model
from ray_classy.tasks.recomputation import RecomputedBlocks, blocks_of
from ray_classy.trainer import LocalTrainer
from tests.helpers import equal_weights, linear_model, make_task, train, weights
from tests.tasks.images import image_task


@pytest.mark.parametrize("batch_norm", [False, True])
def test_training_is_the_same_to_the_last_bit(batch_norm):
    one = image_task(dropout=0.3, batch_norm=batch_norm).set_gradient_checkpointing(True)
    assert equal_weights(weights(train(one)), weights(train(image_task(dropout=0.3, batch_norm=batch_norm))))


def test_activations_within_blocks_are_not_kept():
    def kept(recompute):
        model = image_task().base_model
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            blocks = RecomputedBlocks(model)
            with blocks.applied() if recompute else torch.enable_grad():
                model(torch.zeros(64, 3, 8, 8))
        return sum(sizes)

    assert kept(True) < 0.5 * kept(False)


def test_a_model_is_left_as_it_was():
    model = image_task().base_model
    blocks = RecomputedBlocks(model)
    with blocks.applied():
        model(torch.zeros(2, 3, 8, 8))
    assert all("forward" not in vars(block) for block in blocks.blocks)
    assert copy.deepcopy(model).state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("model", "block", "number"),
    [
        ({"name": "resnet18"}, "BasicBlock", 8),
        ({"name": "torchvision", "model": "vit_b_16"}, "EncoderBlock", 12),
        ({"name": "regnet_y_400mf"}, "ResBottleneckBlock", 16),
    ],
)
def test_blocks_are_those_of_the_paper(model, block, number):
    with torch.device("meta"):
        found = [type(one).__name__ for one in blocks_of(build_model(model))]
    assert found.count(block) == number and len(found) <= number + 2  # the stem may be one too


def test_a_model_without_blocks_is_refused_before_anything_is_started():
    with pytest.raises(ComponentError, match=r"gradient_checkpointing: .* has no blocks"):
        make_task().set_gradient_checkpointing(True).preflight()
    with pytest.raises(ComponentError, match="no blocks"):
        RecomputedBlocks(linear_model())


def test_a_run_resumes_without_it(tmp_path):
    run = LocalTrainer(str(tmp_path), "r").train(image_task(epochs=1).set_gradient_checkpointing(True))
    resumed = image_task(epochs=2)
    LocalTrainer(resume=run.path).train(resumed)
    assert equal_weights(weights(resumed), weights(train(image_task(epochs=2))))
