"""An option is declared once; attribute, config key, check and config follow from it."""

import json

import pytest

from ray_classy.checkpoint import CheckpointEvery
from ray_classy.config import load_config
from ray_classy.errors import ComponentError, ConfigError
from ray_classy.tasks import ClassificationTask, FineTuningTask, build_task, register_task
from ray_classy.tasks.classy_task import TASK_REGISTRY
from ray_classy.tasks.option import from_section, option, options_of, section_keys, to_section
from ray_classy.tasks.precision import Precision
from ray_classy.tasks.replicas import BatchNormSyncMode, BroadcastBuffersMode, DistributedOptions
from tests.tasks.test_from_config import CONFIG


@pytest.mark.parametrize("value", ["a", 1, "true"])
def test_a_switch_is_true_false_or_none(value):
    with pytest.raises(ComponentError, match="use_gpu must be true, false or null"):
        ClassificationTask().set_use_gpu(value)
    with pytest.raises(ComponentError, match="test_only must be true or false"):
        ClassificationTask().set_test_only(value)


@pytest.fixture
def own_task():
    class Own(ClassificationTask):
        width: int = option(3, key="breadth")

        def set_breadth(self, breadth):
            self.width = breadth
            return self

    register_task("with_an_option")(Own)
    yield Own
    del TASK_REGISTRY._classes["with_an_option"]


def test_an_option_of_a_subclass_is_a_key_of_its_config(own_task):
    config = {**CONFIG, "name": "with_an_option"}
    assert build_task(config).width == 3 and build_task({**config, "breadth": 5}).width == 5
    with pytest.raises(ConfigError, match="breadth: expected an integer, not 'wide'"):
        build_task({**config, "breadth": "wide"})
    assert build_task(config).set_breadth(4).config["breadth"] == 4


@pytest.fixture
def own_config():
    """Registers a task class, and returns a config for it."""

    def register(cls):
        register_task("of_this_test")(cls)
        return {**CONFIG, "name": "of_this_test"}

    yield register
    TASK_REGISTRY._classes.pop("of_this_test", None)


def test_sections_are_passed_to_their_setters(own_config):
    class Own(ClassificationTask):
        def set_distributed_options(self, **options):
            return super().set_distributed_options(**{**options, "strategy": "zero"})

        def set_checkpoint_every(self, steps=None, **options):
            return super().set_checkpoint_every(steps=2 * (steps or 1), **options)

    task = build_task({**own_config(Own), "distributed": {"bucket_cap_mb": 5}, "checkpoint_every": {"steps": 3}})
    assert task.distributed_options == DistributedOptions(bucket_cap_mb=5, strategy="zero")
    assert task.checkpoint_every.steps == 6
    assert build_task({**CONFIG, "name": "of_this_test"}).distributed_options.strategy == "zero"


def test_an_option_without_a_value_is_not_passed_to_its_setter(own_config):
    class Own(ClassificationTask):
        def set_checkpoint(self, path):
            self.checkpoint_path = path.strip()
            return self

    config = own_config(Own)
    assert build_task(config).checkpoint_path is build_task({**config, "checkpoint": None}).checkpoint_path is None
    assert build_task({**config, "checkpoint": " a"}).checkpoint_path == "a"


def test_options_without_a_setter_are_assigned(own_config):
    class Own(ClassificationTask):
        width: int = option(3)
        precise: Precision = option(Precision("pytorch"))

    task = build_task({**own_config(Own), "width": 5, "precise": {"amp_type": "pytorch", "dtype": "bfloat16"}})
    assert task.width == 5 and task.precise.dtype == "bfloat16"


def test_a_type_that_cannot_be_resolved_allows_any_value(own_config):
    class Own(ClassificationTask):
        width = option(3)
        depth: "Unknown" = option(3)  # noqa: F821
        height: int = option(3)

    config = own_config(Own)
    task = build_task({**config, "width": "a", "depth": "b"})
    assert (task.width, task.depth) == ("a", "b")
    with pytest.raises(ConfigError, match="height: expected an integer"):
        build_task({**config, "height": "c"})


def test_a_plain_class_attribute_may_stand_for_an_option(own_config):
    class Own(ClassificationTask):
        use_gpu = None

    task = build_task({key: value for key, value in own_config(Own).items() if key != "use_gpu"})
    task.use_gpu_if_unset(False)
    task.prepare()
    assert task.use_gpu is False


@pytest.mark.parametrize("cls", [ClassificationTask, FineTuningTask])
def test_every_option_has_a_key_and_a_setter(cls):
    for key, one in options_of(cls).items():
        assert key in cls.config_keys() and callable(getattr(cls, f"set_{one.name if one.is_section else key}"))


@pytest.mark.parametrize(("name", "value"), [
    ("num_epochs", -1), ("num_epochs", 0), ("num_epochs", 1e9), ("num_epochs", float("inf")),
    ("test_phase_period", 0), ("seed", -1), ("clip_grad_norm", 0.0), ("bn_weight_decay", 1),
    ("dataloader_mp_context", "thread"),
])  # fmt: skip
def test_an_impossible_value_is_refused_wherever_it_is_set(name, value, tmp_path):
    task = ClassificationTask()
    with pytest.raises(ComponentError, match=name):
        getattr(task, f"set_{name}")(value)
    with pytest.raises(ComponentError, match=name):
        setattr(task, name, value)
    with pytest.raises(ConfigError, match=f"config: {name}: "):
        build_task({**CONFIG, name: value})


def test_the_message_has_the_line_of_the_option(tmp_path):
    text = json.dumps({**CONFIG, "clip_grad_norm": -2.0}, indent=1)
    (tmp_path / "a.json").write_text(text)
    line = text[: text.index("clip_grad_norm")].count("\n") + 1
    with pytest.raises(
        ConfigError,
        match=rf"a.json:{line}: clip_grad_norm: must be a number above 0, or null \(None in Python\), not -2",
    ):
        build_task(load_config(str(tmp_path / "a.json")))


def test_sections_of_the_config_follow_their_setters():
    task = build_task({**CONFIG, "distributed": {"bucket_cap_mb": 5}})
    task.set_distributed_options(BroadcastBuffersMode.DISABLED, strategy="zero").set_checkpoint_every(steps=3)
    assert task.config["distributed"] == {"broadcast_buffers": "disabled", "strategy": "zero"}
    assert task.config["checkpoint_every"] == {"steps": 3}
    again = build_task(task.config)
    assert again.distributed_options == task.distributed_options and again.checkpoint_every == CheckpointEvery(steps=3)


def test_what_a_process_finds_out_is_not_in_the_config():
    task = build_task({**CONFIG, "use_gpu": None})
    task.use_gpu_if_unset(False)
    task.prepare()
    assert task.use_gpu is False and task.config["use_gpu"] is None


def test_defaults_are_not_shared():
    FineTuningTask().freeze.append("a")
    assert FineTuningTask().freeze == []
    first, second = FineTuningTask(), FineTuningTask()
    for task in (first, second):
        options_of(FineTuningTask)["freeze"].set_from(task, {})
    first.freeze.append("a")
    assert second.freeze == FineTuningTask().freeze == []


def test_keys_of_a_section_are_those_of_its_dataclass():
    keys = section_keys(DistributedOptions)
    assert list(keys)[:2] == ["broadcast_buffers", "batch_norm_sync_mode"] and keys["bucket_cap_mb"].default == 25
    assert keys["broadcast_buffers"].default == "before_eval"
    assert list(section_keys(Precision)) == ["amp_type", "dtype", "opt_level"]


def test_a_section_is_read_and_written():
    section = {"batch_norm_sync_mode": "pytorch", "find_unused_parameters": True}
    options = from_section(DistributedOptions, section)
    assert options.batch_norm_sync_mode is BatchNormSyncMode.PYTORCH and to_section(options) == section
    with pytest.raises(ComponentError, match="no key 'bucket'"):
        from_section(DistributedOptions, {"bucket": 1})


@pytest.mark.parametrize(("section", "match"), [
    ([5], "must be a mapping"), ({"batch_norm_sync_mode": None}, "batch_norm_sync_mode must be one of disabled"),
    ({"broadcast_buffers": "never"}, "must be one of disabled, forward_pass, before_eval, not 'never'"),
])  # fmt: skip
def test_a_section_that_cannot_be_read(section, match):
    with pytest.raises(ComponentError, match=match):
        from_section(DistributedOptions, section)
