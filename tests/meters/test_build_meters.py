import pytest
import torch

from ray_classy.errors import ConfigError, UnknownComponentError
from ray_classy.meters import AccuracyMeter, ClassyMeter, build_meter, build_meters, register_meter


class Rows(ClassyMeter):
    """The least that a meter must be."""

    name = "rows"
    value = 0

    def update(self, model_output, target, **kwargs):
        self.value += len(target)

    def reset(self):
        self.value = 0

    def get_classy_state(self):
        return {"value": self.value}

    def set_classy_state(self, state):
        self.value = state["value"]


def test_a_meter_is_built_by_name():
    meter = build_meter({"name": "accuracy", "topk": [1, 5]})
    assert isinstance(meter, AccuracyMeter) and list(meter.value) == ["top_1", "top_5"]


def test_meters_are_built_from_a_mapping():
    assert [meter.name for meter in build_meters({"accuracy": {"topk": [1]}})] == ["accuracy"]


def test_no_meters_is_an_empty_list():
    assert build_meters({}) == []


def test_a_list_of_meters_says_what_was_expected():
    with pytest.raises(ConfigError, match="mapping"):
        build_meters([{"name": "accuracy"}])


def test_an_unknown_meter_is_a_key_error_with_a_suggestion():
    with pytest.raises(KeyError, match="'accuracy'"):
        build_meter({"name": "acuracy"})
    with pytest.raises(UnknownComponentError):
        build_meters({"nothing_like_it": {}})


def test_the_callers_config_is_not_written_to():
    config = {"accuracy": {"topk": [1]}}
    build_meters(config)
    assert config == {"accuracy": {"topk": [1]}}


def test_a_users_meter_needs_only_the_abstract_methods():
    register_meter("rows_for_test")(Rows)
    (meter,) = build_meters({"rows_for_test": None})
    meter.update(torch.zeros(3, 2), torch.zeros(3), is_train=True)
    meter.sync_state()
    assert repr(meter) == "rows_meter(value=3)"
