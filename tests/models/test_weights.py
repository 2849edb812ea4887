"""The loader: what it looks for in a file, and what it says of it."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from ray_classy.errors import CheckpointError
from ray_classy.heads import FullyConnectedHead
from ray_classy.models import ClassyModel
from ray_classy.models.weights import load_weights, read_weights, weights_of
from ray_classy.tasks import FineTuningTask
from tests.helpers import make_task


def network(classes=4, aux=False):
    parts = OrderedDict(conv=nn.Linear(6, 8), norm=nn.BatchNorm1d(8), fc=nn.Linear(8, classes))
    if aux:
        parts["aux1"] = nn.Linear(8, classes)
    return nn.Sequential(parts)


def wrapped(classes=4, **options):
    """A model with its classifier in the trunk."""
    return ClassyModel.from_model(network(classes, **options), input_shape=(6,))


def ended(classes=4):
    """A model with a head."""
    model = ClassyModel.from_model(nn.Sequential(OrderedDict(conv=nn.Linear(6, 8), norm=nn.BatchNorm1d(8))))
    model.set_heads({"norm": [FullyConnectedHead("head", classes, in_plane=8)]})
    return model


def scaled(factor):
    return {name: value * factor for name, value in network().state_dict().items()}


def test_a_checkpoint_of_lightning(tmp_path):
    source = network()
    names = {f"model.backbone.{name}": value for name, value in source.state_dict().items()}
    content = {"epoch": 3, "pytorch-lightning_version": "2.5", "hyper_parameters": {"lr": 0.1}, "callbacks": {}}
    torch.save({**content, "state_dict": names, "optimizer_states": [], "lr_schedulers": []}, tmp_path / "last.ckpt")
    model = wrapped()
    report = load_weights(model, read_weights(str(tmp_path / "last.ckpt")))
    assert (
        report.lines()[0]
        == f"weights: {tmp_path}/last.ckpt, under the key state_dict, without the prefix model.backbone."
    )
    assert torch.equal(model.model.conv.weight, source.conv.weight)


@pytest.mark.parametrize(("key", "factor"), [(None, 1), ("model", 1), ("model_ema", 2), ("state.ema", 3)])
def test_the_key_chooses_between_weights_and_averages(key, factor):
    content = {"model_ema": scaled(2), "model": scaled(1), "state": {"ema": scaled(3)}}
    weights = weights_of(content, "w.pth", key)
    assert weights.undone[0] == f"under the key {key or 'model'}"
    expected = content["model"] if factor == 1 else content["model_ema"] if factor == 2 else content["state"]["ema"]
    assert weights.tensors["fc.weight"] is expected["fc.weight"]


def test_the_other_state_dicts_in_a_file_are_named():
    assert weights_of({"model_ema": scaled(2), "model": scaled(1)}).undone[1] == "not those under model_ema"


def test_a_key_that_the_file_does_not_have_names_those_that_it_has():
    with pytest.raises(
        CheckpointError, match=r"no state dict under the key ema, but model \(9 tensors\), model_ema \(9"
    ):
        weights_of({"model": scaled(1), "model_ema": scaled(2)}, key="ema")


def test_the_averages_in_a_checkpoint_of_a_run_are_chosen_by_the_key():
    model = ended()
    averages = {name: torch.full_like(value, 7) for name, value in model.named_parameters()}
    state = {"base_model": model.get_classy_state(), "hooks": {"ema_model_weights": {"ema_model_state": averages}}}
    other = ended()
    load_weights(other, weights_of({"classy_state_dict": state}, key="ema"))
    assert other.model.conv.weight.unique().tolist() == [7] and other._heads[0].fc.bias.unique().tolist() == [7]
    with pytest.raises(CheckpointError, match="no averages of weights: its run had no hook ema_model_weights"):
        weights_of({"classy_state_dict": {"base_model": model.get_classy_state()}}, key="ema")


@pytest.mark.parametrize("aux", [False, True])
def test_a_classifier_in_the_trunk_is_replaced(aux):
    model, source = wrapped(5, aux=aux), network(aux=aux)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = load_weights(model, weights_of(source.state_dict()), reset_heads=True)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert torch.equal(model.model.conv.weight, source.conv.weight)
    assert not any("fc" in name or "aux" in name for name in changed)
    assert set(report.reset) == {
        f"model.{part}.{name}" for part in ["fc", "aux1"][: 1 + aux] for name in ("weight", "bias")
    }


@pytest.mark.parametrize("model", [wrapped, ended])
def test_a_classifier_of_another_size_names_sizes_and_remedy(model):
    own = r"model\.fc\.weight" if model is wrapped else r"heads\[norm\]\[head\]\.fc\.weight"
    with pytest.raises(
        CheckpointError, match=rf"only the classifier .*{own}: \(4, 8\) in .*, \(5, 8\) in .*reset_heads: true"
    ):
        load_weights(model(5), weights_of(network().state_dict()))


def test_the_report_is_a_short_table():
    weights = {**network().state_dict(), "conv.weight": torch.ones(8, 5), "more": torch.ones(2)}
    del weights["norm.weight"]
    report = load_weights(ended(5), weights_of(weights, "w.pth"), reset_heads=True, strict=False)
    assert report.lines() == [
        "weights: w.pth",
        "  loaded       5 of 9 entries of Adapter: model.conv.bias (8,), model.norm.bias (8,), "
        "model.norm.running_mean (8,), ...",
        "  new          2 (reset_heads): heads[norm][head].fc.weight (5, 8), heads[norm][head].fc.bias (5,)",
        "  missing      1: model.norm.weight (8,)",
        "  other shape  1: model.conv.weight (8, 5) in the file, (8, 6) in the model",
        "  not used     3 of the file: fc.weight (4, 8), fc.bias (4,), more (2,)",
    ]


def test_nothing_that_fits_shows_names_of_both_sides():
    weights = {f"stages.{i}.weight": torch.ones(i + 1) for i in range(5)}
    told = (
        r"It has: stages\.0\.weight \(1,\), .*\.2\.weight \(3,\), \.\.\.; the model has: model\.conv\.weight \(8, 6\), "
    )
    with pytest.raises(CheckpointError, match=told):
        load_weights(wrapped(), weights_of(weights), strict=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_cast_to_the_type_of_the_model(dtype, tmp_path):
    source, model = network().to(dtype), wrapped()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    load_weights(model, read_weights(str(tmp_path / "w.pth")))
    assert model.model.conv.weight.dtype == torch.float32 and torch.equal(
        model.model.conv.weight, source.conv.weight.float()
    )


def test_the_key_is_a_key_of_the_task(tmp_path):
    torch.save({"model": scaled(1), "model_ema": scaled(2)}, tmp_path / "w.pth")
    task = make_task(cls=FineTuningTask).set_model(wrapped()).set_pretrained_checkpoint(str(tmp_path / "w.pth"))
    task.set_pretrained_checkpoint_key("model_ema").prepare()
    assert task.base_model.model.norm.weight.unique().tolist() == [2]
    assert task.weights_report.lines()[0].endswith("w.pth, under the key model_ema, not those under model")
    assert "pretrained_checkpoint_key" in FineTuningTask.config_keys()
