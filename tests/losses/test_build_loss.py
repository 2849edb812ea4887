import pytest
import torch
from torch import nn

from ray_classy.errors import CheckpointError, ComponentError, UnknownComponentError
from ray_classy.losses import (
    LOSS_REGISTRY,
    ClassyLoss,
    SoftTargetCrossEntropyLoss,
    build_loss,
    get_loss_state,
    has_learned_parameters,
    register_loss,
    set_loss_state,
)
from ray_classy.registry import config_keys


class LearnedScale(ClassyLoss):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, output, target):
        return (self.scale * (output - target)).mean()


def test_a_registered_name_builds_its_class():
    assert isinstance(build_loss({"name": "soft_target_cross_entropy"}), SoftTargetCrossEntropyLoss)


@pytest.mark.parametrize(
    "name", ["CrossEntropyLoss", "MSELoss", "BCEWithLogitsLoss", "KLDivLoss", "CTCLoss", "TripletMarginLoss"]
)
def test_a_class_name_of_torch_builds_that_class(name):
    assert type(build_loss({"name": name})) is getattr(nn, name)


def test_every_public_loss_of_torch_is_known():
    public = {name for name in vars(nn) if name.endswith("Loss")} - {"AdaptiveLogSoftmaxWithLoss"}
    assert public <= set(LOSS_REGISTRY.names())


def test_torchs_private_bases_are_not_losses():
    with pytest.raises(UnknownComponentError):
        build_loss({"name": "_WeightedLoss"})


def test_lists_become_float_tensors_for_torchs_tensor_arguments():
    assert build_loss({"name": "CrossEntropyLoss", "weight": [1, 2]}).weight.dtype == torch.float32
    assert build_loss({"name": "BCEWithLogitsLoss", "pos_weight": [1, 3]}).pos_weight.tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    "value", [2.0, "2", [], ["a"], [1.0, None], {"a": 1}, [1.0, -1.0], [float("nan"), 1.0], [10**400]]
)
@pytest.mark.parametrize("name", ["weight", "pos_weight"])
def test_weights_that_are_no_numbers(name, value):
    kind = "CrossEntropyLoss" if name == "weight" else "BCEWithLogitsLoss"
    with pytest.raises(ComponentError, match=f"{name} must be a list of .*numbers"):
        build_loss({"name": kind, name: value})


@pytest.mark.skipif(not hasattr(nn, "LinearCrossEntropyLoss"), reason="torch is older")
def test_what_a_loss_of_torch_learns_is_its_state():
    one, other = (build_loss({"name": "LinearCrossEntropyLoss", "in_features": 3, "num_classes": 2}) for _ in range(2))
    set_loss_state(other, get_loss_state(one))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_other_keys_reach_torchs_constructor():
    assert build_loss({"name": "CrossEntropyLoss", "ignore_index": 7}).ignore_index == 7


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownComponentError, match="'CrossEntropyLoss'"):
        build_loss({"name": "crossentropyloss"})


def test_a_missing_name_is_an_assertion_error_as_before():
    with pytest.raises(AssertionError, match="needs a `name`"):
        build_loss({})


def test_the_callers_config_is_not_written_to():
    config = {"name": "CrossEntropyLoss", "weight": [1.0, 2.0]}
    build_loss(config)
    assert config == {"name": "CrossEntropyLoss", "weight": [1.0, 2.0]}


def test_the_keys_of_torchs_losses_are_their_signature():
    assert {"weight", "ignore_index", "reduction", "size_average"} <= config_keys(nn.CrossEntropyLoss).keys()


def test_a_users_loss_is_built_from_its_signature():
    register_loss("learned_scale_for_test")(LearnedScale)
    assert build_loss({"name": "learned_scale_for_test", "scale": 2.0}).scale.item() == 2.0


def test_state_round_trips():
    loss = LearnedScale(1.0)
    loss.set_classy_state(LearnedScale(3.0).get_classy_state())
    assert loss.scale.item() == 3.0


def test_a_state_that_does_not_fit_is_a_checkpoint_error():
    with pytest.raises(CheckpointError, match="LearnedScale"):
        LearnedScale().set_classy_state({"other": torch.zeros(1)})


def test_only_parameters_that_train_count_as_learned():
    assert LearnedScale().has_learned_parameters()
    assert not has_learned_parameters(nn.CrossEntropyLoss(weight=torch.ones(2)))


def test_class_weights_are_options_and_no_state():
    loss = nn.CrossEntropyLoss(weight=torch.ones(2))
    assert get_loss_state(loss) == {}
    set_loss_state(loss, {})
    assert loss.weight.tolist() == [1.0, 1.0]


def test_a_plain_module_that_learns_has_state():
    loss, other = nn.Linear(1, 1), nn.Linear(1, 1)
    set_loss_state(loss, get_loss_state(other))
    assert torch.equal(loss.weight, other.weight)


def test_a_plain_module_that_remembers_has_state():
    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))
            self.register_buffer("weights", torch.ones(2), persistent=False)

    loss, other = Remembering(), Remembering()
    other.seen += 3
    assert get_loss_state(other).keys() == {"seen"}
    set_loss_state(loss, get_loss_state(other))
    assert loss.seen.item() == 3
    set_loss_state(loss, {})  # of a checkpoint in which it had none
