import copy
import io
import pickle

import pytest
import torch

from ray_classy.errors import CheckpointError, ComponentError, TaskError
from ray_classy.optim import (
    SGD,
    Adam,
    AdamW,
    AdamWMT,
    ClassyOptimizer,
    RMSProp,
    RMSPropTF,
    build_optimizer_schedulers,
)
from ray_classy.optim.param_scheduler import (
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    UpdateInterval,
)
from tests.helpers import make_task, train


def parameters(count=2):
    return [torch.nn.Parameter(torch.ones(3)) for _ in range(count)]


def prepared(optimizer=None, groups=None, **options):
    optimizer = optimizer or SGD(momentum=0.9)
    optimizer.set_param_groups(parameters() if groups is None else groups, **options)
    return optimizer


def stepped(optimizer, where=0.0):
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step(where=where)
    return optimizer


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# --- parameter groups


@pytest.mark.parametrize("form", [list, iter, lambda p: {"params": p}, lambda p: [{"params": iter(p)}]])
def test_parameters_come_in_every_form(form):
    assert len(prepared(groups=form(parameters())).param_groups[0]["params"]) == 2


@pytest.mark.parametrize("wrong", [[], [{"lr": 1}], ["weight"], 3, torch.ones(2)])
def test_what_is_no_parameter_is_refused(wrong):
    with pytest.raises(ComponentError):
        SGD().set_param_groups(wrong)


@pytest.mark.parametrize(("option", "value"), [("lr", "0.1"), ("lr_scale", True), ("momentum", None)])
def test_a_value_that_is_no_number_is_refused(option, value):
    with pytest.raises(ComponentError, match=f"{option} of a parameter group must be a number") as error:
        SGD().set_param_groups([{"params": parameters(), option: value}])
    assert isinstance(error.value, TypeError)


def test_options_of_a_group_and_of_all_groups():
    groups = [{"params": parameters(), "lr": 0.5}, {"params": parameters(), "momentum": 0.25}]
    optimizer = prepared(groups=groups, momentum=0.75)
    assert [(group["lr"], group["momentum"]) for group in optimizer.param_groups] == [(0.5, 0.75), (0.1, 0.75)]


def test_the_callers_groups_are_not_written_to():
    group = {"params": parameters(), "lr": LinearParamScheduler(1.0, 0.0)}
    before = dict(group)
    stepped(prepared(groups=[group]), where=0.5)
    assert group == before


def test_a_scheduled_option_that_torch_does_not_know_is_refused():
    with pytest.raises(ComponentError, match="'momentun': did you mean 'momentum'"):
        prepared(momentun=ConstantParamScheduler(0.9))


def test_the_view_merges_groups_that_agree():
    groups = [{"params": parameters(), "weight_decay": decay} for decay in (0.1, 0.0, 0.1)]
    view = prepared(groups=groups).options_view
    assert (view.lr, view.weight_decay) == (0.1, [0.1, 0.0])


def test_the_view_follows_the_optimizer():
    optimizer = prepared(lr=LinearParamScheduler(1.0, 0.0))
    view = copy.deepcopy(optimizer).options_view, optimizer.options_view
    stepped(optimizer, 0.5)
    assert [one.lr for one in view] == [1.0, 0.5]


def test_an_option_of_some_groups_only():
    assert prepared(groups=[{"params": parameters(), "tag": 1}, {"params": parameters()}]).options_view.tag == 1


def test_an_option_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'learning_rate': it has lr, momentum"):
        _ = prepared().options_view.learning_rate


# --- schedules


def test_schedules_are_evaluated_at_zero_first():
    assert prepared(lr=LinearParamScheduler(3.0, 0.0)).options_view.lr == 3.0


def test_step_schedules_follow_steps_only():
    optimizer = prepared(lr=LinearParamScheduler(1.0, 0.0))
    optimizer.on_epoch(0.5)
    assert optimizer.options_view.lr == 1.0
    assert stepped(optimizer, 0.25).options_view.lr == 0.75


def test_epoch_schedules_follow_epochs_only():
    optimizer = prepared(lr=LinearParamScheduler(1.0, 0.0, UpdateInterval.EPOCH))
    assert stepped(optimizer, 0.25).options_view.lr == 1.0
    optimizer.on_epoch(where=0.5)
    assert optimizer.options_view.lr == 0.5


def test_the_end_of_training_changes_nothing():
    optimizer = prepared(lr=ConstantParamScheduler(1.0))
    optimizer.on_epoch(1.0)
    assert optimizer.options_view.lr == 1.0


def test_the_step_uses_the_value_at_its_position():
    optimizer = stepped(prepared(SGD(), lr=LinearParamScheduler(1.0, 0.0)), 0.75)
    assert optimizer.param_groups[0]["params"][0].tolist() == [0.75] * 3


def test_any_option_may_follow_a_schedule():
    optimizer = stepped(prepared(weight_decay=CosineParamScheduler(0.0, 1.0)), 0.5)
    assert optimizer.options_view.weight_decay == pytest.approx(0.5)


def test_a_position_sets_the_schedules_of_both_intervals():
    schedules = {"lr": LinearParamScheduler(1.0, 0.0), "momentum": MultiStepParamScheduler([0.5, 0.75], 2)}
    optimizer = prepared(**schedules)
    optimizer.set_where(0.5)
    assert (optimizer.options_view.lr, optimizer.options_view.momentum) == (0.5, 0.75)


def test_a_position_past_the_end_is_the_last_one():
    optimizer = prepared(lr=ConstantParamScheduler(1.0), momentum=MultiStepParamScheduler([0.5, 0.75], 2))
    optimizer.set_where(1.5)
    assert optimizer.options_view.momentum == 0.75


@pytest.mark.parametrize("where", [None, -0.1, 1.0, 2, float("nan")])
def test_a_step_needs_a_position_in_training(where):
    with pytest.raises(TaskError, match=f"not {where}"):
        prepared().step(where=where)


def test_a_closure_is_called_and_its_loss_returned():
    assert prepared().step(closure=lambda: 7, where=0.0) == 7


@pytest.mark.parametrize(
    "use",
    [
        lambda optimizer: optimizer.step(where=0.0),
        lambda optimizer: optimizer.zero_grad(),
        lambda optimizer: optimizer.options_view.lr,
        lambda optimizer: optimizer.get_classy_state(),
        lambda optimizer: optimizer.set_where(0.0),
    ],
)
def test_use_before_it_has_parameters_says_what_to_call(use):
    with pytest.raises(RuntimeError, match="set_param_groups"):
        use(SGD())


def test_gradients_are_dropped():
    optimizer = stepped(prepared())
    optimizer.zero_grad()
    assert optimizer.param_groups[0]["params"][0].grad is None


def test_schedulers_are_built_from_a_config_with_the_length_of_training():
    config = {"name": "sgd", "param_schedulers": {"lr": {"name": "multistep", "values": [1, 2], "milestones": [3]}}}
    before = copy.deepcopy(config)
    schedulers = build_optimizer_schedulers(config, num_epochs=4)
    assert [schedulers["lr"](where) for where in (0.5, 0.75)] == [1, 2] and config == before


def test_the_length_may_stand_in_the_optimizers_config():
    config = {"name": "sgd", "num_epochs": 4, "param_schedulers": {"lr": {"name": "step", "values": [1, 2]}}}
    assert build_optimizer_schedulers(config)["lr"](0.5) == 2


def test_no_schedulers_is_an_empty_mapping():
    assert build_optimizer_schedulers({"name": "sgd"}) == {}


# --- state


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(momentum=0.9),
        Adam,
        AdamWMT,
        lambda: RMSProp(momentum=0.9),
        lambda: RMSPropTF(momentum=0.9, centered=True),
    ],
)
def test_training_continues_from_a_file_as_if_never_interrupted(make):
    straight = stepped(stepped(stepped(prepared(make()))))
    first = stepped(stepped(prepared(make())))
    groups = [parameter.detach().clone() for parameter in first.param_groups[0]["params"]]
    second = prepared(make(), groups=[torch.nn.Parameter(tensor) for tensor in groups])
    second.set_classy_state(saved(first.get_classy_state()))
    stepped(second)
    for ours, theirs in zip(second.param_groups[0]["params"], straight.param_groups[0]["params"], strict=True):
        assert torch.equal(ours, theirs)


def test_options_are_restored_and_schedules_go_on():
    state = saved(stepped(prepared(SGD(lr=0.5, momentum=0.9))).get_classy_state())
    optimizer = prepared(SGD(lr=0.25, momentum=0.5), weight_decay=LinearParamScheduler(0.75, 0.0))
    optimizer.set_classy_state(state)
    view = optimizer.options_view
    assert (view.lr, view.momentum, view.weight_decay) == (0.5, 0.9, 0.0)
    assert stepped(optimizer, 0.5).options_view.weight_decay == 0.375


def test_the_implementation_of_the_update_is_not_restored():
    state = prepared(AdamW()).get_classy_state()
    state["optim"]["param_groups"][0]["fused"] = False
    optimizer = prepared(AdamW())
    optimizer.set_classy_state(state)
    assert optimizer.options_view.fused is True


def test_a_task_keeps_its_own_options():
    state = train(make_task(lr=0.5, weight_decay=0.1)).get_classy_state(deep_copy=True)
    task = make_task(lr=0.25)
    task.prepare()
    task.set_classy_state(state)
    assert (task.optimizer.options_view.lr, task.optimizer.options_view.weight_decay) == (0.25, 0.0)


def test_resuming_does_not_tie_the_optimizer_to_the_callers_state():
    state = stepped(prepared()).get_classy_state()
    before = state["optim"]["state"][0]["momentum_buffer"].clone()
    optimizer = prepared()
    optimizer.set_classy_state(state)
    stepped(optimizer)
    assert torch.equal(state["optim"]["state"][0]["momentum_buffer"], before)


def test_the_state_of_another_optimizer_is_refused():
    with pytest.raises(CheckpointError, match="is Adam, this one is SGD"):
        prepared().set_classy_state(prepared(Adam()).get_classy_state())


def test_a_state_without_a_name_is_compared_by_structure():
    state = stepped(prepared()).get_classy_state()
    del state["name"]
    optimizer = prepared()
    optimizer.set_classy_state(state)
    assert "momentum_buffer" in optimizer.get_classy_state()["optim"]["state"][0]


@pytest.mark.parametrize("groups", [[{"params": parameters(1)}, {"params": parameters(1)}], parameters(3)])
def test_other_groups_are_refused_with_both_shown(groups):
    with pytest.raises(CheckpointError, match=r"groups of \[(1, 1|3)\] parameters, this one of \[2\]"):
        prepared().set_classy_state(prepared(groups=groups).get_classy_state())


def test_buffers_of_another_shape_are_refused():
    state = stepped(prepared()).get_classy_state()
    state["optim"]["state"][0]["momentum_buffer"] = torch.zeros(7, 7)
    with pytest.raises(CheckpointError, match=r"momentum_buffer of shape \(7, 7\) for parameter 0"):
        prepared().set_classy_state(state)


def test_a_state_of_something_else_is_refused():
    with pytest.raises(CheckpointError, match="no 'optim'"):
        prepared().set_classy_state({"model": {}})


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_before_and_after_it_has_parameters(duplicate):
    optimizer = duplicate(prepared(duplicate(SGD(momentum=0.9)), lr=LinearParamScheduler(1.0, 0.0)))
    assert stepped(optimizer, 0.5).options_view.lr == 0.5


def test_a_users_optimizer_needs_only_prepare():
    class Plain(ClassyOptimizer):
        def prepare(self, param_groups):
            self.optimizer = torch.optim.Adagrad(param_groups)

    optimizer = stepped(prepared(Plain.from_config({"name": "plain", "num_epochs": 3})))
    assert optimizer.options_view.lr == 0.01


def restored(cls):
    """What an optimizer of a class has after a step and its restored state, as a task restores it."""
    task = train(make_task().set_optimizer(cls()))
    state = task.get_classy_state(deep_copy=True)
    again = make_task().set_optimizer(cls())
    again.prepare()
    again.check_state(state)
    again.set_classy_state(state)
    return again.optimizer


class Factored(ClassyOptimizer):
    def prepare(self, param_groups):
        self.optimizer = torch.optim.Adafactor(param_groups)


class OtherAdam(Adam):
    def prepare(self, param_groups):
        self.optimizer = torch.optim.Adagrad(param_groups)


class SharedStep(ClassyOptimizer):
    def prepare(self, param_groups):
        self.optimizer = torch.optim.Adagrad(param_groups)
        self.optimizer.state["shared"] = 3


class OwnForm(SGD):
    def get_classy_state(self):
        return {"my": [1]}

    def set_classy_state(self, state):
        self.mine = state["my"]


def test_states_of_users_optimizers_are_restored():
    assert "row_var" in restored(Factored).optimizer.state_dict()["state"][0]
    assert "sum" in restored(OtherAdam).optimizer.state_dict()["state"][0]
    assert restored(SharedStep).optimizer.state_dict()["state"]["shared"] == 3
    assert restored(OwnForm).mine == [1]
