import pytest
import torch
import torch.nn.functional as F

from ray_classy.errors import ComponentError
from ray_classy.heads import VisionTransformerHead, build_head

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def test_the_scores_start_at_zero():
    head = VisionTransformerHead("a", 4, 5)
    assert not head(X).any() and head.state_dict().keys() == {"layers.head.weight", "layers.head.bias"}


def test_a_hidden_layer_and_normalized_inputs():
    head = build_head(
        {
            "name": "vision_transformer_head",
            "unique_id": "a",
            "in_plane": 4,
            "num_classes": 5,
            "hidden_dim": 6,
            "normalize_inputs": "l2",
        }
    )
    torch.nn.init.normal_(head.layers.head.weight)
    hidden = head.layers.pre_logits(F.normalize(X)).tanh()
    torch.testing.assert_close(head(X), head.layers.head(hidden))


def test_the_hidden_layer_has_the_variance_of_its_width():
    hidden = VisionTransformerHead("a", 100, 1, 100).layers.pre_logits
    assert hidden.weight.std().item() == pytest.approx(0.1, rel=0.05) and not hidden.bias.any()


def test_without_classes_there_is_no_layer():
    assert VisionTransformerHead("a", 4, hidden_dim=6)(X) is X


@pytest.mark.parametrize("wrong", [{"in_plane": 0}, {"normalize_inputs": "l1"}, {"hidden_dim": 0}])
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(ComponentError, match=next(iter(wrong))):
        VisionTransformerHead("a", **{"in_plane": 4, "num_classes": 5, **wrong})


def test_features_of_another_width_are_refused():
    with pytest.raises(ComponentError, match="set in_plane to 4"):
        VisionTransformerHead("a", 5, 2)(X)
