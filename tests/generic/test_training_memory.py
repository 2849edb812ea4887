"""The memory of a training step is estimated from shapes."""

import torch
from torch import nn

from ray_classy.generic.training_memory import training_memory


def test_activations_and_parameters_are_counted_once():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    memory = training_memory(model, (100,))
    assert memory.fixed == 16 * (100 * 50 + 50 + 50 * 10 + 10)
    assert memory.per_row == int(1.25 * 4 * (100 + 50))  # the input, and the output of ReLU, which both layers save
    assert memory.rows_within(memory.fixed + 8 * memory.per_row) == 8


def test_less_memory_than_the_weights_need_fits_no_row():
    with torch.device("meta"):
        memory = training_memory(nn.Linear(100, 50), (100,))
    assert memory.rows_within(1000) == 0
