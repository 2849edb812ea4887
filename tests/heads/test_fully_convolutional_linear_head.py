import pytest
import torch

from ray_classy.errors import ComponentError
from ray_classy.heads import FullyConvolutionalLinearHead, build_head

X = torch.randn(2, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0))


def head(**arguments):
    return build_head(
        {"name": "fully_convolutional_linear", "unique_id": "a", "in_plane": 4, "num_classes": 5, **arguments}
    )


def linear(made, features):
    return made.head_fcl.projection(features.permute(0, 2, 3, 4, 1))


def test_train_mode_returns_the_scores_of_all_positions():
    made = head(pool_size=[1, 2, 2])
    assert made(X).shape == (2, 2 * 2 * 2 * 5)
    pooled = torch.nn.functional.avg_pool3d(X, (1, 2, 2), stride=1)
    torch.testing.assert_close(made(X), linear(made, pooled).flatten(1))


@pytest.mark.parametrize(
    ("activation", "function"),
    [("softmax", lambda scores: scores.softmax(4)), ("sigmoid", torch.sigmoid), ("identity", lambda scores: scores)],
)
def test_evaluation_averages_the_activation_over_positions(activation, function):
    made = head(pool_size=[2, 1, 1], activation_func=activation).eval()
    pooled = X.mean(2, keepdim=True)
    torch.testing.assert_close(made(X), function(linear(made, pooled)).mean((1, 2, 3)))


def test_all_positions_are_pooled_without_a_size():
    made = FullyConvolutionalLinearHead("a", 5, 4, None, "softmax").eval()
    assert made(X).sum(1).allclose(torch.ones(2)) and made(X[:, :, :1]).shape == (2, 5)


def test_names_of_parameters_and_dropout():
    assert head().state_dict().keys() == {"head_fcl.projection.weight", "head_fcl.projection.bias"}
    assert head(use_dropout=True, dropout_ratio=0.3).dropout.p == 0.3


def test_an_unknown_activation_is_not_implemented_as_before():
    with pytest.raises(NotImplementedError, match="'tanh'"):
        head(activation_func="tanh")


@pytest.mark.parametrize(
    "wrong", [{"pool_size": [1, 2]}, {"pool_size": 3}, {"pool_size": [0, 1, 1]}, {"num_classes": None}]
)
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(AssertionError, match=next(iter(wrong))):
        head(**wrong)


def test_a_missing_width_is_an_assertion_error_as_before():
    with pytest.raises(AssertionError, match="has no `in_plane`"):
        build_head({"name": "fully_convolutional_linear", "unique_id": "a", "num_classes": 5})


@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 5, 2, 3, 3), (2, 4, 2, 1, 3)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ComponentError, match=r"takes features of shape \(N, 4, T, H, W\)"):
        head(pool_size=[1, 2, 2])(torch.zeros(shape))
