import pytest
import torch
from torchvision.models.vision_transformer import interpolate_embeddings

from ray_classy.models import build_model
from ray_classy.models.positions import fit_positions, resized_positions


def positions(tokens, width=4):
    return torch.randn(1, tokens, width)


@pytest.mark.parametrize("side", [3, 6])
def test_positions_are_resized_as_by_torchvision(side):
    given = positions(1 + 16)
    state = {"encoder.pos_embedding": given.clone()}
    expected = interpolate_embeddings(side * 2, 2, state)["encoder.pos_embedding"]
    torch.testing.assert_close(resized_positions(given, (1, 1 + side**2, 4), antialias=False), expected)


@pytest.mark.full
@pytest.mark.parametrize("side", [3, 6])
@pytest.mark.parametrize("before", [0, 1, 5])
def test_positions_are_resized_as_by_timm(side, before):
    from timm.layers import resample_abs_pos_embed

    given = positions(before + 16)
    expected = resample_abs_pos_embed(given, [side, side], num_prefix_tokens=before)
    torch.testing.assert_close(resized_positions(given, (1, before + side**2, 4), antialias=True), expected)


def test_the_position_of_a_class_token_that_the_model_lacks_is_left_out():
    given = positions(1 + 9)
    assert torch.equal(resized_positions(given, (1, 9, 4), antialias=True), given[:, 1:])


@pytest.mark.parametrize("shape", [(1, 9, 5), (9, 4), (1, 8, 4), (2, 17, 4), (1, 17, 4)])
def test_positions_that_cannot_be_resized_stay(shape):
    given = positions(9 if shape[1] == 17 else 17)
    assert resized_positions(given, shape, antialias=True) is given


@pytest.mark.parametrize("classifier", ["token", "gap"])
def test_a_vision_transformer_for_larger_images_gets_the_positions_of_a_smaller_one(classifier):
    sizes = {"patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 12}
    small, large = (
        build_model({"name": "vision_transformer", "image_size": size, "classifier": classifier, **sizes})
        for size in (16, 32)
    )
    state, resized = fit_positions(large, small.get_classy_state())
    tokens = classifier == "token"
    assert resized == {"encoder.pos_embedding": f"({4 + tokens}, 1, 8) to ({16 + tokens}, 1, 8)"}
    assert not large.set_classy_state(state)
