import pytest
import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.heads import ClassyHead, FullyConnectedHead, IdentityHead, build_head, register_head

X = torch.randn(2, 4, 3, 3)


@register_head("test_named_by_class")
class NamedByClass(ClassyHead):
    pass


def test_the_unique_id_falls_back_to_the_class_name():
    assert NamedByClass().unique_id == "NamedByClass"


def test_identity_changes_nothing():
    assert IdentityHead("a")(X) is X


def test_identity_keeps_the_number_of_classes():
    assert (IdentityHead(None, 3).unique_id, IdentityHead(None, 3).num_classes) == ("IdentityHead", 3)


def test_fully_connected_pools_and_maps():
    head = FullyConnectedHead("a", 5, in_plane=4)
    assert torch.allclose(head(X), head.fc(nn.functional.adaptive_avg_pool2d(X, 1).flatten(1)), atol=1e-6)


def test_fully_connected_takes_vectors_and_videos():
    head = FullyConnectedHead("a", 5, in_plane=4)
    assert head(torch.zeros(2, 4)).shape == head(torch.zeros(2, 4, 2, 3, 3)).shape == (2, 5)


def test_without_classes_the_output_is_the_pooled_features():
    assert torch.allclose(FullyConnectedHead("a", in_plane=4)(X), X.mean((2, 3)))


def test_l2_scales_the_features_to_unit_length():
    assert torch.allclose(FullyConnectedHead("a", in_plane=4, normalize_inputs="l2")(X).norm(dim=1), torch.ones(2))


def test_conv_planes_put_a_convolution_first():
    head = FullyConnectedHead("a", 5, in_plane=4, conv_planes=6, activation="silu")
    assert [type(layer) for layer in (head.conv, head.bn, head.activation)] == [nn.Conv2d, nn.BatchNorm2d, nn.SiLU]
    assert {"conv.weight", "bn.running_mean", "fc.weight", "fc.bias"} <= head.state_dict().keys()
    torch.testing.assert_close(head(X), head.fc(head.activation(head.bn(head.conv(X))).mean((2, 3))))


def test_arguments_by_position_and_an_activation_of_the_users():
    head = FullyConnectedHead("a", 5, 4, 6, nn.Tanh(), True, "l2")
    assert type(head.activation) is nn.Tanh and not head.fc.bias.any() and head.normalize_inputs == "l2"


def test_zero_init_bias():
    assert not FullyConnectedHead("a", 5, in_plane=4, zero_init_bias=True).fc.bias.any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_plane": 0},
        {"in_plane": 1.0},
        {"num_classes": "a"},
        {"in_plane": None},
        {"conv_planes": 3, "activation": None},
        {"activation": "tanh"},
        {"normalize_inputs": "l1"},
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ComponentError):
        FullyConnectedHead("a", **{"num_classes": 5, "in_plane": 4, **arguments})


def test_build_head_passes_over_the_fork_block_and_leaves_the_config_alone():
    config = {"name": "fully_connected", "unique_id": "a", "in_plane": 4, "num_classes": 5, "fork_block": "b"}
    before = dict(config)
    assert build_head(config).fc.out_features == 5
    assert config == before


@pytest.mark.parametrize("config", [{"name": "identity"}, {"unique_id": "a"}, {"name": "no_such", "unique_id": "a"}])
def test_an_incomplete_head_config_is_refused(config):
    with pytest.raises(AssertionError):
        build_head(config)
