import pytest
import torch
from torch import nn

from ray_classy.errors import UnknownComponentError
from ray_classy.heads import build_head
from ray_classy.models import ClassyModel, build_model

_HEAD = {"name": "fully_connected", "unique_id": "head", "num_classes": 3}


def _on_meta(**config):
    return build_model(config, device="meta")


def test_a_resnets_layers_are_its_stem_its_blocks_and_its_head():
    model = _on_meta(name="resnet18", heads=[{**_HEAD, "fork_block": "block3-1", "in_plane": 512}])
    groups = model.layer_groups()
    assert len(groups) == 1 + 8 + 1
    assert all(name.startswith("initial_block.") for name in groups[0])
    assert all(name.startswith("blocks.1.block1-0.") for name in groups[3])
    assert groups[-1] == ["_heads.0.fc.weight", "_heads.0.fc.bias"]


def test_every_parameter_is_in_one_layer():
    model = _on_meta(name="resnet18")
    names = [name for names in model.layer_groups() for name in names]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("vit_b_16", 1 + 12),
        ("densenet", 1 + 4 + 1),
        ("regnet_y_400mf", 1 + 16),
        ("efficientnet_b0", 1 + 16 + 2),
        ("mlp", 3),
    ],
)
def test_layers_of_our_networks(name, layers):
    options = {
        "densenet": {"num_blocks": [2, 2]},
        "mlp": {"input_dim": 4, "output_dim": 2, "hidden_dims": [3, 3]},
    }
    assert len(_on_meta(name=name, **options.get(name, {})).layer_groups()) == layers


def test_layers_of_a_3d_network_are_its_blocks():
    model = _on_meta(
        name="resnext3d",
        input_planes=3,
        clip_crop_size=16,
        frames_per_clip=4,
        num_blocks=[2, 1],
        stage_planes=8,
        stem_planes=8,
        skip_transformation_type="postactivated_shortcut",
        residual_transformation_type="basic_transformation",
    )
    assert len(model.layer_groups()) == 1 + 3


def test_positions_and_class_token_belong_to_the_stem():
    model = _on_meta(name="vit_b_16")
    assert {model.layer_of(name) for name in ("class_token", "encoder.pos_embedding", "conv_proj.weight")} == {0}


def test_norms_belong_to_the_layer_before_them():
    model = ClassyModel.from_model(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)))
    assert [model.layer_of(name) for name, _ in model.named_parameters()] == [0, 0, 0, 0, 1, 1]


def test_new_heads_are_a_new_layer():
    model = ClassyModel.from_model(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 4)), input_shape=(2,))
    assert model.layer_of("model.1.weight") == 1
    head = {**_HEAD, "in_plane": 4}
    model.set_heads({"1": [build_head(head)]})
    assert model.layer_of("_heads.0.fc.weight") == 2
    model.clear_heads()
    with pytest.raises(UnknownComponentError, match="no parameter '_heads"):
        model.layer_of("_heads.0.fc.weight")


def test_an_unknown_parameter_is_an_error_with_the_nearest():
    model = ClassyModel.from_model(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(UnknownComponentError, match=r"did you mean 'model\.0\.weight'"):
        model.layer_of("model.0.weigth")


def test_layers_of_a_network_whose_parameters_are_its_own():
    class Own(ClassyModel):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return x * self.scale

    assert Own().layer_groups() == [["scale"]]
