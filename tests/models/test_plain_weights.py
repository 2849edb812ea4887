"""Plain state dicts of torchvision's networks, and of this package's own, in built-in models."""

import pytest
import torch
import torchvision

from ray_classy.errors import CheckpointError
from ray_classy.models import build_model
from ray_classy.models.plain_weights import find_weights
from ray_classy.tasks import FineTuningTask
from tests.helpers import make_task

LAST = {"resnet18": "block3-1", "resnet34": "block3-2"}
SAME = {
    "resnet18": {"name": "resnet18"},
    "resnet34": {"name": "resnet34"},
    "resnet50": {"name": "resnet50"},
    "resnet101": {"name": "resnet101"},
    "resnet152": {"name": "resnet152"},
    "resnext50_32x4d": {"name": "resnext50_32x4d"},
    "resnext101_32x4d": {"name": "resnext101_32x4d"},
    "seresnet50": {"name": "resnet", "num_blocks": [3, 4, 6, 3], "use_se": True},
    "resnext101_32x8d": {"name": "resnext", "num_blocks": [3, 4, 23, 3], "base_width_and_cardinality": [8, 32]},
    "resnext101_64x4d": {"name": "resnext", "num_blocks": [3, 4, 23, 3], "base_width_and_cardinality": [4, 64]},
    "wide_resnet50_2": {"name": "resnext", "num_blocks": [3, 4, 6, 3], "base_width_and_cardinality": [128, 1]},
    "wide_resnet101_2": {"name": "resnext", "num_blocks": [3, 4, 23, 3], "base_width_and_cardinality": [128, 1]},
}


def ours(name, num_classes=1000, device=None):
    head = {"name": "fully_connected", "unique_id": "head", "num_classes": num_classes}
    head |= {"in_plane": 512 if name in LAST else 2048, "fork_block": LAST.get(name, "block3-2")}
    return build_model({**SAME[name], "heads": [head]}, device=device)


def theirs(name, device="cpu", library="torchvision"):
    """The network of torchvision or timm, whose batch norm is not that of a new network."""
    with torch.device(device):
        if library == "timm":
            model = pytest.importorskip("timm").create_model(name)
        else:
            model = getattr(torchvision.models, name)(weights=None)
    for entry, buffer in model.named_buffers():
        if "running" in entry and device == "cpu":
            buffer.uniform_(0.5, 1.5)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # the last weights of a block are zero in timm
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


def fine_tuned(content, model, path, **options):
    """The model after a fine-tuning task has loaded a file with this content."""
    torch.save(content, path)
    task = make_task(cls=FineTuningTask).set_model(model).set_pretrained_checkpoint(str(path))
    for option, value in options.items():
        getattr(task, f"set_{option}")(value)
    task.prepare()
    return task.base_model


@pytest.fixture(scope="module")
def resnet18():
    torch.manual_seed(1)
    return theirs("resnet18")


OF_TORCHVISION = [("torchvision", name) for name in SAME if hasattr(torchvision.models, name)]
MORE_OF_TIMM = ["seresnet50", "resnext50_32x4d", "resnext101_32x4d"]
OF_TIMM = [("timm", name) for name in [*(name for name in SAME if name.startswith("resnet")), *MORE_OF_TIMM]]


@pytest.mark.parametrize(
    ("library", "name"),
    [OF_TORCHVISION[0], *(pytest.param(*case, marks=pytest.mark.full) for case in [*OF_TORCHVISION[1:], *OF_TIMM])],
)
def test_weights_of_torchvision_and_timm_give_their_outputs(library, name, tmp_path):
    torch.manual_seed(0)
    model = theirs(name, library=library)
    loaded = fine_tuned(model.state_dict(), ours(name), tmp_path / "weights.pth").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        scale = expected.abs().max()
        torch.testing.assert_close(loaded(images) / scale, expected / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for _, name in OF_TORCHVISION])
def test_every_name_of_torchvision_is_known(name):
    model, weights = ours(name, device="meta"), theirs(name, "meta").state_dict()
    assert find_weights(model, weights).weights.keys() == model.state_dict().keys()


@pytest.mark.parametrize("suffix", ["pth", "pt", "safetensors"])
def test_a_resnet_loads_its_own_state_dict(suffix, tmp_path):
    model, other = ours("resnet18", 4), ours("resnet18", 4)
    path = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(model.state_dict(), path)
        task = make_task(cls=FineTuningTask).set_model(other).set_pretrained_checkpoint(str(path))
        task.prepare()
    else:
        fine_tuned(model.state_dict(), other, path)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())


PREFIXES = [
    "module.",
    "model.",
    "backbone.",
    "_orig_mod.",
    "module._orig_mod.",
    "encoder_q.",
    "module.encoder_q.",
    "a.b.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_that_all_names_share_is_undone(prefix, resnet18):
    model = ours("resnet18", device="meta")
    found = find_weights(model, {prefix + name: value for name, value in resnet18.state_dict().items()})
    assert found.weights.keys() == model.state_dict().keys()


@pytest.mark.parametrize("inside", ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."])
def test_wrappers_inside_a_name_are_undone(inside, resnet18):
    model = ours("resnet18", device="meta")
    weights = {name.replace("layer1.", f"layer1.{inside}"): value for name, value in resnet18.state_dict().items()}
    assert find_weights(model, weights).weights.keys() == model.state_dict().keys()


def test_the_encoder_that_moco_trains_is_meant(resnet18):
    both = {f"module.encoder_{side}.{name}": v for side in "qk" for name, v in resnet18.state_dict().items()}
    found = find_weights(ours("resnet18", device="meta"), both)
    assert found.prefix == "module.encoder_q." and "module.encoder_k.conv1.weight" in found.others


def test_two_parts_of_a_file_that_fit_alike_are_refused(resnet18):
    both = {f"{side}.{name}": value for side in ("left", "right") for name, value in resnet18.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"2 parts of the file fit the model alike.*'left\.', 'right\.'"):
        find_weights(ours("resnet18", device="meta"), both)


KEYS = ["state_dict", "model", "model_state_dict", "model_ema", "net", "classy_state_dict", "anything"]


@pytest.mark.parametrize("key", KEYS)
def test_a_nested_state_dict_is_found(key, resnet18, tmp_path):
    content = {"epoch": 3, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}}, key: resnet18.state_dict()}
    loaded = fine_tuned(content, ours("resnet18"), tmp_path / "weights.pt")
    assert torch.equal(loaded.initial_block[0].weight, resnet18.conv1.weight)


def test_averages_count_only_without_weights(resnet18, tmp_path):
    averages = {name: value * 0 for name, value in resnet18.state_dict().items()}
    content = {"model_ema": averages, "model": resnet18.state_dict()}
    loaded = fine_tuned(content, ours("resnet18"), tmp_path / "weights.pt")
    assert torch.equal(loaded.initial_block[0].weight, resnet18.conv1.weight)


def test_other_classes_need_reset_heads(resnet18, tmp_path):
    with pytest.raises(CheckpointError, match=r"only the classifier .*\(1000, 512\).*\(4, 512\).*reset_heads: true"):
        fine_tuned(resnet18.state_dict(), ours("resnet18", 4), tmp_path / "weights.pt")
    model = ours("resnet18", 4)
    head = model.get_heads()["block3-1"][0].fc.weight.clone()
    loaded = fine_tuned(resnet18.state_dict(), model, tmp_path / "weights.pt", reset_heads=True)
    assert torch.equal(loaded.initial_block[0].weight, resnet18.conv1.weight)
    assert torch.equal(loaded.get_heads()["block3-1"][0].fc.weight, head)


@pytest.mark.parametrize("reset_heads", [True, False])
@pytest.mark.parametrize("strict", [True, False])
def test_weights_of_which_nothing_fits_are_refused(reset_heads, strict, tmp_path):
    options = {"reset_heads": reset_heads, "pretrained_checkpoint_load_strict": strict}
    for weights in ({"stages.0.weight": torch.ones(3)}, {"bn1.num_batches_tracked": torch.tensor(3)}):
        with pytest.raises(CheckpointError, match=r"weights\.pt: nothing in it fits this ResNet18. It has: .*; the "):
            fine_tuned(weights, ours("resnet18", 4), tmp_path / "weights.pt", **options)


def test_the_key_that_lets_a_part_load_is_named(resnet18, tmp_path):
    weights = {name: value for name, value in resnet18.state_dict().items() if "layer4" not in name}
    with pytest.raises(CheckpointError, match=r"strict=False \(pretrained_checkpoint_load_strict: false\)"):
        fine_tuned(weights, ours("resnet18"), tmp_path / "weights.pt")


def test_the_log_says_what_was_loaded(resnet18, tmp_path, caplog):
    caplog.set_level("INFO")
    weights = {f"backbone.{name}": v for name, v in resnet18.state_dict().items() if "layer4" not in name}
    fine_tuned(weights, ours("resnet18"), tmp_path / "weights.pt", pretrained_checkpoint_load_strict=False)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("ray_classy.tasks")]
    assert said[0].endswith("weights.pt, without the prefix backbone.")
    assert said[1].startswith("  loaded       92 of 122 entries of ResNet18: initial_block.0.weight (64, 3, 7, 7), ")
    assert said[2].startswith("  missing      30: blocks.3.block3-0.conv1.weight (512, 256, 3, 3), ")


def test_a_checkpoint_whose_trunk_has_names_of_torchvision_is_fine_tuned(resnet18, tmp_path):
    trunk = {f"_feature_blocks.{name}": v for name, v in resnet18.state_dict().items() if "fc." not in name}
    content = {"classy_state_dict": {"base_model": {"model": {"trunk": trunk, "heads": {}}}}}
    loaded = fine_tuned(content, ours("resnet18", 4), tmp_path / "weights.pt", reset_heads=True)
    assert torch.equal(loaded.initial_block[0].weight, resnet18.conv1.weight)


def test_weights_of_another_kind_of_numbers_are_refused(resnet18, tmp_path):
    weights = {name: value.int() if name == "fc.weight" else value for name, value in resnet18.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"fc\.weight: int32 in the file, float32 in the model"):
        fine_tuned(weights, ours("resnet18"), tmp_path / "weights.pt")
