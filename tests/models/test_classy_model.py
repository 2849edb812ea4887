import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ray_classy.checkpoint import load_checkpoint, save_checkpoint
from ray_classy.errors import CheckpointError, ComponentError, UnknownComponentError
from ray_classy.heads import ClassyHead, FullyConnectedHead, IdentityHead, build_head
from ray_classy.models import MODEL_REGISTRY, ClassyModel, build_model, register_model
from ray_classy.models.classy_model import with_heads
from ray_classy.registry import REQUIRED, Keys, config_keys
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from tests.tasks.test_from_config import CONFIG


@register_model("test_two_blocks")
class TwoBlocks(ClassyModel):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.second = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


@register_model("test_own_from_config")
class OwnFromConfig(TwoBlocks):
    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "OwnFromConfig":
        assert config["name"] == "test_own_from_config"
        return cls(config.pop("breadth"))


class Recomputed(TwoBlocks):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(super().forward, x, use_reentrant=False)


def fc(unique_id: str, in_plane: int = 4, num_classes: int = 5) -> FullyConnectedHead:
    return FullyConnectedHead(unique_id, num_classes, in_plane=in_plane)


def with_two_heads(model: ClassyModel | None = None) -> ClassyModel:
    model = model or TwoBlocks()
    model.set_heads({"first": [fc("a")], "second": [fc("b", 2)]})
    return model


X = torch.ones(7, 3)


def test_without_heads_a_call_gives_the_trunks_output():
    model = TwoBlocks()
    assert torch.equal(model(X), model.second(model.first(X)))


def test_with_one_head_a_call_gives_its_output():
    model, head = TwoBlocks(), fc("a")
    model.set_heads({"first": [head]})
    assert torch.equal(model(X), head(model.first(X)))


def test_with_several_heads_a_call_gives_a_dict_by_id():
    outputs = with_two_heads()(X)
    assert {name: output.shape for name, output in outputs.items()} == {"a": (7, 5), "b": (7, 5)}


def test_several_heads_may_read_one_block():
    model = TwoBlocks()
    model.set_heads({"first": [fc("a"), IdentityHead("b")]})
    assert torch.equal(model(X)["b"], model.first(X))


def test_heads_are_trained_with_the_trunk():
    model = with_two_heads()
    sum(output.sum() for output in model(X).values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_extract_features_leaves_the_heads_out():
    assert with_two_heads().extract_features(X).shape == (7, 2)


def test_get_heads_groups_by_block():
    model, heads = TwoBlocks(), [fc("a"), fc("b")]
    model.set_heads({"first": heads})
    assert model.get_heads() == {"first": heads}


def test_set_heads_replaces_the_former_ones():
    model = with_two_heads()
    model.set_heads({"second": [IdentityHead("c")]})
    assert list(model.get_heads()) == ["second"]
    assert model(X).shape == (7, 2)


def test_clear_heads_leaves_no_trace():
    model = with_two_heads()
    model(X)
    model.clear_heads()
    assert model(X).shape == (7, 2)
    assert model.get_heads() == model.head_outputs == model.get_block_outputs() == {}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("error", [UnknownComponentError, KeyError])
def test_an_unknown_block_names_the_nearest(error):
    with pytest.raises(error, match="did you mean 'second'"):
        TwoBlocks().set_heads({"secnd": [fc("a")]})


def test_a_repeated_head_id_is_refused_and_the_heads_stay():
    model = with_two_heads()
    with pytest.raises(ValueError, match="unique_id 'c'"):
        model.set_heads({"first": [fc("c")], "second": [fc("c")]})
    assert set(model(X)) == {"a", "b"}


def test_an_ambiguous_block_name_asks_for_the_path():
    model = ClassyModel.from_model(nn.Sequential(nn.Sequential(nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3))))
    with pytest.raises(ValueError, match=r"model\.0\.0"):
        model.set_heads({"0": [fc("a", 3)]})
    model.set_heads({"model.0.0": [fc("a", 3)]})
    assert model(X).shape == (7, 5)


def test_attachable_block_names_are_the_unambiguous_ones():
    model = ClassyModel.from_model(nn.Sequential(nn.Sequential(nn.Linear(3, 3)), nn.ReLU()))
    assert model.attachable_block_names == ["model", "1"]
    assert with_two_heads().attachable_block_names == ["first", "second"]


def test_after_a_call_its_outputs_are_there_without_their_graph():
    model = with_two_heads()
    outputs = model(X)
    assert torch.equal(model.head_outputs["a"], outputs["a"])
    assert list(model.get_block_outputs()) == ["first", "second"]
    assert not any(t.requires_grad for t in (*model.head_outputs.values(), *model.get_block_outputs().values()))


def test_execute_heads_runs_on_the_last_calls_blocks():
    model = with_two_heads()
    outputs = model(X)
    assert torch.equal(model.execute_heads()["b"], outputs["b"])


def test_the_graph_dies_with_the_output():
    class Saved:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor
            saved.append(weakref.ref(self))

    saved: list[weakref.ref] = []
    model = with_two_heads()
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda box: box.tensor):
        outputs = model(X)
    assert saved and all(reference() is not None for reference in saved)
    del outputs
    gc.collect()
    assert not any(reference() for reference in saved)


def test_a_recomputed_block_is_not_remembered():
    model = with_two_heads(Recomputed())
    sum(output.sum() for output in model(X).values()).backward()
    assert not model.get_block_outputs()["first"].requires_grad


def test_execute_heads_before_a_call_says_to_call():
    with pytest.raises(ComponentError, match="call the model first"):
        with_two_heads().execute_heads()


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_is_independent_and_gives_the_same(clone):
    model = with_two_heads()
    expected = model(X)["a"].detach().clone()
    twin = clone(model)
    with torch.no_grad():
        model.first.weight.zero_()
    assert torch.equal(twin(X)["a"], expected)
    twin.clear_heads()
    assert twin(X).shape == (7, 2)
    assert set(model(X)) == {"a", "b"}


def test_a_locally_defined_model_survives_cloudpickle():
    cloudpickle = pytest.importorskip("cloudpickle")

    class Local(TwoBlocks):
        pass

    model = with_two_heads(Local())
    assert torch.equal(cloudpickle.loads(cloudpickle.dumps(model))(X)["a"], model(X)["a"])


def test_a_model_with_heads_is_compiled_without_a_graph_break():
    model = with_two_heads()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(X)["a"], model(X)["a"])


def test_a_model_can_be_built_on_the_meta_device():
    with torch.device("meta"):
        model = with_two_heads()
        assert model(torch.empty(7, 3))["a"].device.type == "meta"


def test_trunk_keys_are_the_same_with_and_without_heads():
    plain = TwoBlocks().get_classy_state()
    state = with_two_heads().get_classy_state()["model"]
    assert list(state["trunk"]) == list(plain["model"]["trunk"]) == list(TwoBlocks().state_dict())
    assert plain["model"]["heads"] == {}


def test_the_state_holds_heads_by_block_and_id():
    heads = with_two_heads().get_classy_state()["model"]["heads"]
    assert {block: list(states) for block, states in heads.items()} == {"first": ["a"], "second": ["b"]}
    assert list(heads["first"]["a"]) == ["fc.weight", "fc.bias"]


def test_a_state_goes_through_a_file(tmp_path):
    model, other = with_two_heads(), with_two_heads()
    torch.save(model.get_classy_state(), tmp_path / "state")
    assert not other.set_classy_state(torch.load(tmp_path / "state", weights_only=True))
    assert torch.equal(other(X)["b"], model(X)["b"])


def test_deep_copy_separates_the_state_from_the_model():
    model = TwoBlocks()
    shared, own = model.get_classy_state(), model.get_classy_state(deep_copy=True)
    with torch.no_grad():
        model.first.bias.fill_(9)
    assert (shared["model"]["trunk"]["first.bias"] == 9).all()
    assert (own["model"]["trunk"]["first.bias"] != 9).all()


def test_a_state_that_does_not_fit_lists_every_kind_and_changes_nothing():
    model = TwoBlocks()
    before = model.get_classy_state(deep_copy=True)
    state = TwoBlocks(width=6).get_classy_state()
    state["model"]["trunk"]["third"] = state["model"]["trunk"].pop("second.bias")
    with pytest.raises(CheckpointError) as error:
        model.set_classy_state(state)
    assert "1 missing from the state (second.bias)" in str(error.value)
    assert "1 unknown to the model (third)" in str(error.value)
    assert "3 of another shape (first.weight: (6, 3) in the state, (4, 3) in the model" in str(error.value)
    assert all(torch.equal(v, before["model"]["trunk"][k]) for k, v in model.state_dict().items())


def test_loading_what_fits_returns_and_logs_the_rest(caplog):
    model, state = TwoBlocks(), TwoBlocks(width=6).get_classy_state()
    state["model"]["trunk"]["second.bias"].fill_(9)
    mismatch = model.set_classy_state(state, strict=False)
    assert list(mismatch.reshaped) == ["first.weight", "first.bias", "second.weight"]
    assert (model.second.bias == 9).all()
    assert "3 of another shape" in caplog.text


def test_a_head_that_the_state_lacks_is_a_mismatch():
    with pytest.raises(CheckpointError, match=r"heads\[first\]\[a\]\.fc\.weight"):
        with_two_heads().set_classy_state(TwoBlocks().get_classy_state())


def test_load_head_states_leaves_the_trunk_alone():
    model, other = with_two_heads(), with_two_heads()
    other.load_head_states(model.get_classy_state())
    assert torch.equal(other.get_heads()["first"][0].fc.weight, model.get_heads()["first"][0].fc.weight)
    assert not torch.equal(other.first.weight, model.first.weight)


def test_something_else_than_a_state_is_refused():
    with pytest.raises(CheckpointError, match="expected"):
        TwoBlocks().set_classy_state({"trunk": {}})


def test_build_model_attaches_heads_and_leaves_the_config_alone():
    head = {"name": "fully_connected", "unique_id": "a", "in_plane": 4, "num_classes": 5, "fork_block": "first"}
    config = {"name": "test_two_blocks", "heads": [head, {**head, "unique_id": "b"}]}
    before = copy.deepcopy(config)
    assert set(build_model(config)(X)) == {"a", "b"}
    assert config == before


def test_a_head_without_a_fork_block_is_told_the_blocks():
    config = {"name": "test_two_blocks", "heads": [{"name": "identity", "unique_id": "a"}]}
    with pytest.raises(ComponentError, match="has first, second"):
        build_model(config)


def test_a_from_config_of_ones_own_gets_the_name_and_is_not_checked():
    config = {"name": "test_own_from_config", "breadth": 6}
    assert build_model(config).first.out_features == 6
    assert "breadth" in config
    assert config_keys(OwnFromConfig) is None


def test_config_keys_are_the_signature_and_the_heads():
    keys: Keys = config_keys(TwoBlocks)
    assert list(keys) == ["width", "heads"]
    assert keys["heads"][:2] == (list[ClassyHead] | None, None) == with_heads({})["heads"][:2]


def test_head_config_keys_include_the_fork_block():
    keys = config_keys(FullyConnectedHead)
    assert keys["fork_block"][:2] == (str, REQUIRED)
    assert keys["in_plane"].default is REQUIRED and keys["num_classes"].default is None


def test_from_model_adapts_any_module():
    module = nn.Linear(3, 2)
    model = ClassyModel.from_model(module, input_shape=(3,))
    assert torch.equal(model(X), module(X))
    assert model.input_shape == (3,)
    assert list(model.get_classy_state()["model"]["trunk"]) == ["model.weight", "model.bias"]


def test_from_checkpoint_builds_and_loads():
    model = build_model({"name": "test_two_blocks", "width": 6})
    arguments = {"config": {"model": {"name": "test_two_blocks", "width": 6}}}
    saved = {"input_args": arguments, "classy_state_dict": {"base_model": model.get_classy_state()}}
    assert torch.equal(ClassyModel.from_checkpoint(saved)(X), model(X))


@pytest.mark.parametrize("read", [load_checkpoint, str])
def test_from_checkpoint_of_a_run(read, tmp_path):
    task = build_task({**CONFIG, "num_epochs": 1})
    path = LocalTrainer(str(tmp_path)).train(task).checkpoint
    model = ClassyModel.from_checkpoint(read(path))
    assert all(map(torch.equal, model.state_dict().values(), task.base_model.state_dict().values()))


def test_from_checkpoint_takes_the_config_from_the_manifest(tmp_path):
    model = build_model({"name": "test_two_blocks", "width": 6})
    content = {"input_args": None, "classy_state_dict": {"base_model": model.get_classy_state()}}
    save_checkpoint(str(tmp_path), content, facts={"config": {"model": {"name": "test_two_blocks", "width": 6}}})
    for path in (str(tmp_path), str(tmp_path / "checkpoint.torch")):
        assert torch.equal(ClassyModel.from_checkpoint(path)(X), model(X))


def test_a_checkpoint_without_a_config_is_refused():
    with pytest.raises(CheckpointError, match="set_classy_state"):
        ClassyModel.from_checkpoint({"input_args": None, "classy_state_dict": {}})


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(UnknownComponentError, match="resnet50"):
        build_model({"name": "resnet_50"})
    assert "resnet50" in MODEL_REGISTRY


def test_any_head_can_be_attached_from_a_config():
    assert build_head({"name": "identity", "unique_id": "a", "fork_block": "first"}).unique_id == "a"
