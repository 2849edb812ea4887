import torch
from torch import nn

from ray_classy.generic.profiler import compute_flops, count_params
from ray_classy.heads import FullyConnectedHead
from ray_classy.models import ClassyModel, build_model


class FromDict(nn.Linear):
    def forward(self, x):
        return super().forward(x["video"])


def test_count_params_includes_frozen_ones():
    assert count_params(nn.Linear(3, 2).requires_grad_(False)) == 8


def test_a_multiply_add_counts_as_one():
    assert compute_flops(nn.Linear(3, 2), (3,)) == 6
    assert compute_flops(nn.Conv2d(3, 2, 3, padding=1), (3, 5, 5)) == 3 * 2 * 9 * 25


def test_heads_are_counted():
    model = ClassyModel.from_model(nn.Linear(3, 2))
    model.set_heads({"model": [FullyConnectedHead("a", 5, in_plane=2)]})
    assert compute_flops(model, (3,)) == 6 + 10


def test_an_input_key_wraps_the_input():
    assert compute_flops(FromDict(3, 2), (3,), input_key="video") == 6


def test_resnet50_on_the_meta_device():
    with torch.device("meta"):
        model = build_model({"name": "resnet50"})
    assert compute_flops(model) == 4_087_136_256
    assert count_params(model) == 23_508_032


def test_modes_and_statistics_are_as_before():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2).eval(), nn.BatchNorm2d(2)).train()
    model[1].eval()
    statistics = model[2].running_mean.clone()
    compute_flops(model, (3, 4, 4))
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert torch.equal(model[2].running_mean, statistics) and model[2].num_batches_tracked == 0


def test_a_half_precision_model_gets_half_precision_input():
    assert compute_flops(nn.Linear(3, 2).to(torch.bfloat16), (3,)) == 6
