import math

import pytest
import torch

from ray_classy.errors import ComponentError
from ray_classy.models import VisionTransformer
from ray_classy.models.sincos2d import sincos2d

SIZES = {"image_size": 16, "patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 12}


def test_positions_are_sines_and_cosines_of_column_and_row():
    (found,) = sincos2d(3, 4, 8)[[6]]  # row 1, column 2
    angles = [2, 2e-4, 2, 2e-4, 1, 1e-4, 1, 1e-4]
    waves = [math.sin, math.sin, math.cos, math.cos] * 2
    expected = [wave(angle) for wave, angle in zip(waves, angles, strict=True)]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("classifier", ["token", "gap"])
def test_a_vision_transformer_has_fixed_positions_and_takes_weights_for_another_size(classifier):
    model, larger = (
        VisionTransformer(**{**SIZES, "image_size": size}, classifier=classifier, positions="sincos2d")
        for size in (16, 24)
    )
    assert "encoder.pos_embedding" not in model.state_dict() and model(torch.zeros(1, 3, 16, 16)).shape == (1, 8)
    assert not larger.set_classy_state(model.get_classy_state())
    assert torch.equal(larger.encoder.pos_embedding[-9:, 0], sincos2d(3, 3, 8))


@pytest.mark.parametrize(
    ("options", "told"), [({"positions": "none"}, "choose 'learned'"), ({"hidden_dim": 6}, "of 4")]
)
def test_impossible_positions_are_refused(options, told):
    with pytest.raises(ComponentError, match=told):
        VisionTransformer(**{**SIZES, "positions": "sincos2d", **options})
