"""The memory of a training step is estimated from shapes."""

import weakref

import pytest
import torch
import torchvision
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ray_classy.generic.training_memory import training_memory


def test_activations_and_parameters_are_counted_once():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    memory = training_memory(model, (100,))
    assert memory.fixed == 24 * (100 * 50 + 50 + 50 * 10 + 10)
    assert memory.per_row == int(1.25 * 4 * (100 + 50))  # the input, and the output of ReLU, which both layers save
    assert memory.rows_within(memory.fixed + 8 * memory.per_row) == 8


def test_less_memory_than_the_weights_need_fits_no_row():
    with torch.device("meta"):
        memory = training_memory(nn.Linear(100, 50), (100,))
    assert memory.rows_within(1000) == 0


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are made, while they live."""

    def __init__(self, own):
        super().__init__()
        self.own, self.living, self.now, self.peak = own, {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return made

    def count(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key in self.own or key in self.living:
            return

        def ended(_):
            self.now -= size
            del self.living[key]

        self.living[key] = weakref.ref(storage, ended)
        self.now += size
        self.peak = max(self.peak, self.now)


NETWORKS = {
    "resnet18": (lambda: torchvision.models.resnet18(), 64),
    "mobilenet_v3_small": (lambda: torchvision.models.mobilenet_v3_small(), 64),
    "vit": (lambda: torchvision.models.VisionTransformer(64, 16, 4, 4, 192, 768), 64),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rows", [2, 32])
def test_a_step_takes_no_more_than_the_estimate(name, rows):
    build, side = NETWORKS[name]
    with torch.device("meta"):
        model = build()
    estimate = training_memory(model, (3, side, side))
    weights = sum(one.numel() for one in model.parameters())
    live = LiveBytes({one.untyped_storage()._cdata for one in (*model.parameters(), *model.buffers())})
    with live:
        images, target = (
            torch.rand(rows, 3, side, side, device="meta"),
            torch.zeros(rows, dtype=torch.long, device="meta"),
        )
        nn.functional.cross_entropy(model(images), target).backward()
    adam, copies = 8 * weights, 4 * weights  # two averages; gradients that are sent to other ranks
    taken = 4 * weights + adam + copies + live.peak
    assert taken <= estimate.fixed + rows * estimate.per_row <= 2 * taken


def test_a_model_with_weights_is_not_moved():
    model = nn.Linear(100, 50)
    assert training_memory(model, (100,)).fixed == 24 * 5050
    assert model.weight.device.type == "cpu"
