import pytest
import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.models import build_model


def layers(**keys) -> list[type]:
    config = {"name": "mlp", "input_dim": 12, "output_dim": 2, "hidden_dims": [5, 4], **keys}
    return [type(layer) for layer in build_model(config).mlp]


def test_the_input_is_flattened():
    model = build_model({"name": "mlp", "input_dim": 12, "output_dim": 2, "hidden_dims": [5]})
    assert model(torch.zeros(7, 3, 2, 2)).shape == (7, 2)
    assert model.input_shape == (12,)


def test_plain_layers():
    assert layers() == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_no_hidden_layer_leaves_one_linear_map():
    assert layers(hidden_dims=[]) == [nn.Linear]


def test_dropout_and_batchnorm_also_on_the_input():
    found = layers(dropout=0.1, first_dropout=True, use_batchnorm=True, first_batchnorm=True, hidden_dims=[5])
    assert found == [nn.Dropout, nn.BatchNorm1d, nn.Linear, nn.BatchNorm1d, nn.Dropout, nn.ReLU, nn.Linear]


@pytest.mark.parametrize("keys", [{"first_batchnorm": True}, {"dropout": 1.5}, {"hidden_dims": [0]}])
def test_impossible_arguments_are_refused(keys):
    with pytest.raises(ComponentError):
        layers(**keys)
