import json
from pathlib import Path

import pytest
import torch
from torch import nn

from ray_classy.generic.profiler import (
    ClassyProfilerNotImplementedError,
    compute_activations,
    compute_complexity,
    compute_flops,
    count_params,
    profile,
    summarize_profiler_info,
)
from ray_classy.heads import FullyConnectedHead
from ray_classy.models import ClassyModel, build_model

COUNTS = json.loads((Path(__file__).parents[1] / "data" / "counts.json").read_text())
LARGE = {name for name, case in COUNTS.items() if case["input_shape"][-1] == 224}


class FromDict(nn.Linear):
    def forward(self, x):
        return super().forward(x["video"])


def test_count_params_includes_frozen_ones():
    assert count_params(nn.Linear(3, 2).requires_grad_(False)) == 8


def test_a_multiply_add_counts_as_one():
    assert compute_flops(nn.Linear(3, 2, bias=False), (3,)) == 6
    assert compute_flops(nn.Conv2d(3, 2, 3, padding=1), (3, 5, 5)) == 3 * 2 * 9 * 25


def test_heads_are_counted():
    model = ClassyModel.from_model(nn.Linear(3, 2))
    model.set_heads({"model": [FullyConnectedHead("a", 5, in_plane=2)]})
    assert compute_flops(model, (3,)) == 8 + 15


def test_an_input_key_wraps_the_input():
    assert compute_flops(FromDict(3, 2), (3,), input_key="video") == 8


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.full] * (name in LARGE)) for name in COUNTS])
def test_networks_on_the_meta_device_have_the_predecessors_counts(name):
    case = COUNTS[name]
    model = build_model(case["config"], device="meta")
    given = (case["input_shape"], case["input_key"])
    assert compute_flops(model, *given) == case["flops"]
    assert compute_activations(model, *given) == case["activations"]
    assert count_params(model) == case["parameters"]


class ByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1)

    def forward(self, x):
        return self.attention(query=x, key=x, value=x)[0]


def test_attention_whose_inputs_are_given_by_name_is_not_counted_wrongly():
    with pytest.raises(ClassyProfilerNotImplementedError, match="MultiheadAttention"):
        compute_flops(ByName(), (2, 4))


class OwnCounts(nn.Linear):
    def flops(self, x):
        return 100 * len(x)

    def activations(self, out, x):
        return 1000 * out.shape[1] + x.shape[1]


def test_a_module_says_itself_what_a_call_costs_each_time():
    layer = OwnCounts(3, 3)
    model = nn.Sequential(layer, layer)
    assert compute_flops(model, (3,)) == 200
    assert compute_activations(model, (3,)) == 6006


class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.weight


def test_an_unknown_module_is_named():
    with pytest.raises(ClassyProfilerNotImplementedError, match="Strange") as error:
        compute_flops(nn.Sequential(Strange()), (3,))
    assert isinstance(error.value.module, Strange)


def test_a_profile_is_summarized_as_a_table():
    assert "linear" in summarize_profiler_info(profile(nn.Linear(3, 2), 4, (3,)))


def test_modes_and_statistics_are_as_before():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2).eval(), nn.BatchNorm2d(2)).train()
    model[1].eval()
    statistics = model[2].running_mean.clone()
    compute_flops(model, (3, 4, 4))
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert torch.equal(model[2].running_mean, statistics) and model[2].num_batches_tracked == 0


def test_a_half_precision_model_gets_half_precision_input():
    assert compute_flops(nn.Linear(3, 2).to(torch.bfloat16), (3,)) == 8


def test_a_function_of_the_users_is_summed_over_calls():
    twice = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 4, 1), twice, twice)
    seen = []
    count = lambda module, inputs, output: seen.append((type(module), inputs[0].shape)) or output.numel()  # noqa: E731
    assert compute_complexity(model, count, (3, 2, 2)) == 3 * 16
    assert seen[0] == (nn.Conv2d, (1, 3, 2, 2))
    assert compute_complexity(model, count, (3, 2, 2), compute_unique=True) == 2 * 16
