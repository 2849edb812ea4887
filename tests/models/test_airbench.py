import pytest
import torch

from ray_classy.errors import ComponentError
from ray_classy.generic.profiler import compute_flops, count_params
from ray_classy.models import build_model
from ray_classy.models.whitening import WhiteningConv2d

HEAD = {"name": "fully_connected", "unique_id": "c", "fork_block": "features", "num_classes": 10}


def network(widths, **options):
    head = {**HEAD, "in_plane": widths[-1]}
    return build_model({"name": "airbench", "widths": widths, "heads": [head], **options})


@pytest.mark.parametrize("residual", [False, True])
def test_the_network_has_the_layers_of_airbench(residual):
    with torch.device("meta"):
        model = network([64, 256, 256], residual=residual)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert frozen == (3 if residual else 2) * (64 + 256 + 256)
    convolutions = 24 * 64 * 9 + 64 * 64 * 9 + 64 * 256 * 9 + 3 * 256 * 256 * 9
    convolutions += (64 * 64 + 2 * 256 * 256) * 9 if residual else 0
    assert count_params(model) == convolutions + 2 * frozen + 24 + 2570


def test_features_are_scaled_maxima():
    model = network([4, 6], output_scale=0.5).eval()
    images = torch.rand(2, 3, 16, 16)
    seen = model.groups(model.activation(model.whitening(images)))
    assert torch.equal(model.forward(images), seen.amax((2, 3)) * 0.5) and model(images).shape == (2, 10)


def test_a_convolution_starts_as_the_identity_of_its_channels():
    weight = network([30]).groups[0].conv1.weight
    image = torch.rand(1, 24, 5, 5)
    assert torch.equal(torch.nn.functional.conv2d(image, weight[:24], padding=1), image)


def test_filters_whiten_the_patches_that_they_are_made_of():
    layer, images = WhiteningConv2d(eps=1e-9), torch.rand(8, 3, 9, 9).cumsum(-1)
    layer.whiten(*layer.moments(images))
    whitened = layer(images)[:, :12].transpose(0, 1).flatten(1).double()
    assert torch.allclose(whitened @ whitened.T / whitened.shape[1], torch.eye(12, dtype=torch.float64), atol=1e-3)
    assert torch.equal(layer.weight[12:], -layer.weight[:12]) and int(layer.num_patches) == 8 * 64


def test_filters_are_part_of_the_state_and_not_trained():
    model = network([4])
    model.whitening.whiten(*model.whitening.moments(torch.rand(2, 3, 8, 8)))
    other = network([4])
    assert not other.set_classy_state(model.get_classy_state())
    assert torch.equal(other.whitening.weight, model.whitening.weight)
    assert "whitening.weight" not in dict(model.named_parameters())


def test_the_flops_of_the_whitening_are_counted():
    layer = WhiteningConv2d()
    assert compute_flops(layer, (3, 32, 32)) == 24 * 12 * 31 * 31


@pytest.mark.parametrize("options", [{"widths": []}, {"widths": [0]}, {"batch_norm_momentum": 0.0}])
def test_impossible_arguments_are_refused(options):
    with pytest.raises(ComponentError, match="of airbench"):
        build_model({"name": "airbench", **options})
