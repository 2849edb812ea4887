import copy

import pytest

from ray_classy.errors import ComponentError
from ray_classy.optim import build_optimizer_schedulers
from ray_classy.optim.param_scheduler import (
    PARAM_SCHEDULER_REGISTRY,
    ClassyParamScheduler,
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    IntervalScaling,
    ParamScheduler,
    UpdateInterval,
    build_param_scheduler,
)
from ray_classy.registry import config_keys

CONFIGS = {
    "constant": {"value": 1},
    "linear": {"start_value": 0, "end_value": 1},
    "cosine": {"start_value": 0, "end_value": 1},
    "polynomial": {"base_value": 1, "power": 2},
    "multistep": {"values": [1, 2], "milestones": [1], "num_epochs": 2},
    "step": {"values": [1, 2], "num_epochs": 2},
    "step_with_fixed_gamma": {"base_value": 1, "num_decays": 1, "gamma": 0.1, "num_epochs": 2},
    "composite": {"schedulers": [{"name": "constant", "value": 1}], "lengths": [1.0]},
}
EPOCH_BY_DEFAULT = {"constant", "multistep", "step"}


def test_every_registered_scheduler_is_tested_here():
    assert CONFIGS.keys() <= set(PARAM_SCHEDULER_REGISTRY)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_default_interval(name):
    expected = UpdateInterval.EPOCH if name in EPOCH_BY_DEFAULT else UpdateInterval.STEP
    assert build_param_scheduler({"name": name, **CONFIGS[name]}).update_interval is expected


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("interval", list(UpdateInterval))
def test_the_config_chooses_the_interval(name, interval):
    config = {"name": name, **CONFIGS[name], "update_interval": interval.value}
    assert build_param_scheduler(config).update_interval is interval


@pytest.mark.parametrize("name", CONFIGS)
def test_the_keys_cover_the_config(name):
    keys = config_keys(PARAM_SCHEDULER_REGISTRY[name])
    assert keys.keys() >= {*CONFIGS[name], "update_interval"}
    assert "num_updates" not in keys


@pytest.mark.parametrize("name", CONFIGS)
def test_the_length_of_training_is_accepted_by_all_and_the_config_left_alone(name):
    config = {"name": name, "num_epochs": 2, **CONFIGS[name]}
    before = copy.deepcopy(config)
    assert build_param_scheduler(config)(0.0) is not None
    assert config == before


def test_an_unknown_interval_is_refused():
    with pytest.raises(ValueError, match="update_interval must be 'epoch' or 'step', not 'batch'"):
        build_param_scheduler({"name": "constant", "value": 1, "update_interval": "batch"})


def test_an_unknown_scheduler_is_a_key_error_with_a_suggestion():
    with pytest.raises(KeyError, match="'cosine'"):
        build_param_scheduler({"name": "cosin"})


def test_a_scheduler_that_needs_the_length_of_training_says_so():
    with pytest.raises(TypeError, match="'step' needs num_epochs"):
        build_param_scheduler({"name": "step", "values": [1]})


def test_a_composite_passes_the_length_of_training_on():
    part = {"name": "multistep", "values": [1, 2], "milestones": [3]}
    config = {"name": "composite", "schedulers": [part], "lengths": [1.0]}
    scheduler = build_optimizer_schedulers({"param_schedulers": {"lr": config}}, 4)["lr"]
    assert [scheduler(0.5), scheduler(0.75)] == [1, 2]


def test_a_length_in_the_schedulers_config_stays():
    config = {"name": "multistep", "values": [1, 2], "milestones": [1], "num_epochs": 2}
    assert build_optimizer_schedulers({"param_schedulers": {"lr": config}}, 100)["lr"](0.5) == 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"values": []}, "values"),
        ({"values": {"a": 1}}, "values"),
        ({"num_epochs": 0}, "num_epochs"),
        ({"num_epochs": None, "milestones": None}, "num_epochs"),
        ({"milestones": [1, 2]}, "needs 1 milestones"),
        ({"milestones": {}}, "milestones"),
        ({"milestones": [2]}, "below num_epochs"),
        ({"values": [1, 2, 3], "milestones": [2, 1], "num_epochs": 9}, "ascending"),
        ({"values": [1, 2, 3], "milestones": None}, "too short"),
    ],
)
def test_impossible_multisteps_are_refused(keys, message):
    with pytest.raises(ComponentError, match=message):
        build_param_scheduler({"name": "multistep", **CONFIGS["multistep"], **keys})


@pytest.mark.parametrize("keys", [{"gamma": 0}, {"base_value": "1"}, {"num_decays": 0}, {"num_decays": 1.5}])
def test_impossible_fixed_gammas_are_refused(keys):
    with pytest.raises(ComponentError, match=next(iter(keys))):
        build_param_scheduler({"name": "step_with_fixed_gamma", **CONFIGS["step_with_fixed_gamma"], **keys})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lengths": [0.5]}, "sum 1"),
        ({"lengths": [0.5, 0.5]}, "length for every"),
        ({"schedulers": [], "lengths": []}, "length for every"),
        ({"schedulers": None}, "schedulers"),
        ({"interval_scaling": ["rescaled", "fixed"]}, "interval_scaling"),
        ({"interval_scaling": ["scaled"]}, "'rescaled' or 'fixed'"),
    ],
)
def test_impossible_composites_are_refused(keys, message):
    with pytest.raises(ComponentError, match=message):
        build_param_scheduler({"name": "composite", **CONFIGS["composite"], **keys})


def test_a_composite_is_also_built_in_python():
    parts = [ConstantParamScheduler(1.0), CosineParamScheduler(1.0, 0.0)]
    scheduler = CompositeParamScheduler(parts, [0.5, 0.5], [IntervalScaling.FIXED, "rescaled"])
    assert [scheduler(0.25), scheduler(0.75)] == pytest.approx([1.0, 0.5])


def test_a_users_scheduler_reads_its_signature_and_may_want_the_length():
    class Halving(ClassyParamScheduler):
        def __init__(self, num_epochs: int) -> None:
            super().__init__(UpdateInterval.EPOCH)
            self.num_epochs = num_epochs

        def __call__(self, where):
            return 0.5 ** int(where * self.num_epochs)

    PARAM_SCHEDULER_REGISTRY.register("halving_for_test", bypass_checks=True)(Halving)
    config = {"param_schedulers": {"lr": {"name": "halving_for_test", "update_interval": "step"}}}
    scheduler = build_optimizer_schedulers(config, 4)["lr"]
    assert (scheduler(0.5), scheduler.update_interval) == (0.25, UpdateInterval.STEP)


def test_a_plain_scheduler_is_evaluated_every_step():
    class Square(ParamScheduler):
        def __call__(self, where):
            return where**2

    assert Square.from_config({"name": "square"}).update_interval is UpdateInterval.STEP


@pytest.mark.parametrize(
    ("config", "default", "interval"),
    [
        ({}, None, UpdateInterval.STEP),
        ({}, UpdateInterval.EPOCH, UpdateInterval.EPOCH),
        ({"update_interval": "Epoch"}, None, UpdateInterval.EPOCH),
        ({"update_interval": UpdateInterval.STEP}, UpdateInterval.EPOCH, UpdateInterval.STEP),
    ],
)
def test_the_interval_of_a_config(config, default, interval):
    assert UpdateInterval.from_config(config, default) is interval


def test_an_unknown_interval_is_a_value_error():
    with pytest.raises(ValueError, match="'epoch' or 'step', not 'batch'"):
        UpdateInterval.from_config({"update_interval": "batch"})


def test_a_scheduler_without_a_formula_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="__call__"):
        ClassyParamScheduler(UpdateInterval.EPOCH)(0.5)
