import copy

import pytest

from ray_classy.dataset import build_dataset
from ray_classy.dataset.transforms.mixup import MixupTransform
from ray_classy.errors import ComponentError, ConfigError
from ray_classy.hooks import CheckpointHook, ProgressBarHook
from ray_classy.tasks import (
    BatchNormSyncMode,
    BroadcastBuffersMode,
    ClassificationTask,
    ClassyTask,
    FineTuningTask,
    build_task,
    register_task,
)
from ray_classy.tasks.classy_task import TASK_REGISTRY
from ray_classy.tasks.sharding import strategy_of
from tests.helpers import train

DIGITS = {
    "name": "digits",
    "split": "test",
    "num_samples": 8,
    "batchsize_per_replica": 4,
    "use_shuffle": False,
    "transforms": [{"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": "ToTensor"}]}],
}
CONFIG = {
    "name": "classification_task",
    "num_epochs": 2,
    "dataset": {"train": {**DIGITS, "split": "train", "phases_per_epoch": 2}, "test": DIGITS},
    "model": {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [4]},
    "loss": {"name": "CrossEntropyLoss"},
    "meters": {"accuracy": {"topk": [1, 5]}},
    "optimizer": {"name": "sgd", "param_schedulers": {"lr": {"name": "step", "values": [0.1, 0.01, 0.001, 0.0001]}}},
    "use_gpu": False,
}


def test_config_is_trained():
    task = train(build_task(CONFIG))
    assert isinstance(task, ClassificationTask) and len(task.phases) == 8 and task.where == 1.0


@pytest.mark.parametrize("given", [{}, {"use_shuffle": None}])
def test_train_rows_are_shuffled_and_test_rows_are_not_unless_the_config_says_so(given):
    digits = {name: value for name, value in DIGITS.items() if name != "use_shuffle"}
    config = {**CONFIG, "dataset": {"train": {**digits, **given}, "test": {**digits, **given}}}
    task = build_task(config)
    assert task.datasets["train"].shuffle is True and task.datasets["test"].shuffle is False
    assert task.config["dataset"]["train"]["use_shuffle"] is True
    assert config["dataset"]["train"] == {**digits, **given}
    assert build_task(CONFIG).datasets["train"].shuffle is False


def test_a_dataset_by_itself_must_say_whether_it_is_shuffled():
    with pytest.raises(ComponentError, match="use_shuffle is missing"):
        build_dataset({"name": "digits", "split": "test", "batchsize_per_replica": 4})


def test_a_part_that_memory_cannot_hold_is_named():
    model = {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [10**14]}
    with pytest.raises(ConfigError, match=r"model: it takes more memory than there is .*allocate memory"):
        build_task({**CONFIG, "model": model})


@pytest.mark.parametrize("name", [{}, [], None, 3])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(ConfigError, match="name"):
        build_task({**CONFIG, "name": name})


def test_schedule_has_the_length_of_all_phases():
    rates = []
    task = build_task(CONFIG)
    on_epoch = task.optimizer.on_epoch

    def noting(where):
        on_epoch(where)
        rates.append(task.optimizer.options_view.lr)

    task.optimizer.on_epoch = noting
    train(task)
    assert rates == [0.01, 0.001, 0.0001, 0.0001]


def test_every_key_arrives():
    more = {
        "test_phase_period": 2,
        "seed": 9,
        "bn_weight_decay": True,
        "clip_grad_norm": 1.5,
        "simulated_global_batchsize": 8,
        "dataloader_mp_context": "fork",
        "checkpoint": "somewhere",
        "checkpoint_load_strict": False,
        "amp_args": {"amp_type": "pytorch", "dtype": "bfloat16"},
        "hooks": [{"name": "checkpoint", "checkpoint_folder": "x"}, {"name": "progress_bar"}],
        "mixup": {"alpha": 0.2, "num_classes": 10, "cutmix_alpha": 1.0, "mode": "elem"},
        "distributed": {"broadcast_buffers": "forward_pass", "bucket_cap_mb": 5, "fp16_grad_compress": True},
    }
    task = build_task({**CONFIG, **more})
    assert (task.test_phase_period, task.seed, task.bn_weight_decay, task.clip_grad_norm) == (2, 9, True, 1.5)
    assert (task.simulated_global_batchsize, task.dataloader_mp_context, task.checkpoint_path) == (
        8,
        "fork",
        "somewhere",
    )
    assert not task.checkpoint_load_strict and task.precision is not None and task.amp_args == more["amp_args"]
    assert [type(hook) for hook in task.hooks] == [ProgressBarHook, CheckpointHook]
    assert isinstance(task.mixup_transform, MixupTransform) and task.mixup_transform.mode == "elem"
    options = task.distributed_options
    assert (options.broadcast_buffers_mode, options.bucket_cap_mb) == (BroadcastBuffersMode.FORWARD_PASS, 5)
    assert options.batch_norm_sync_mode is BatchNormSyncMode.DISABLED and options.fp16_grad_compress


def test_strategy_arrives():
    task = build_task({**CONFIG, "distributed": {"strategy": "fsdp"}})
    assert strategy_of(task) == task.distributed_options.strategy == "fsdp"


def test_default_strategy_is_ddp():
    assert strategy_of(build_task(CONFIG)) == "ddp"


@pytest.mark.parametrize("spelling", [
    {"use_sharded_ddp": True}, {"optimizer": {"name": "zero", "base_optimizer": CONFIG["optimizer"]}},
    {"use_sharded_ddp": True, "optimizer": {"name": "zero", "base_optimizer": CONFIG["optimizer"]}},
])  # fmt: skip
def test_old_spellings_of_the_strategy_zero(spelling):
    assert strategy_of(build_task({**CONFIG, **spelling})) == "zero"


def test_unknown_strategy_is_refused():
    with pytest.raises(
        ConfigError, match=r"distributed\.strategy: expected one of 'ddp', 'fsdp', 'zero', not 'sharded'"
    ):
        build_task({**CONFIG, "distributed": {"strategy": "sharded"}})


def test_two_spellings_of_two_strategies_are_refused():
    with pytest.raises(ConfigError, match=r"use_sharded_ddp: means distributed\.strategy: zero, which is 'fsdp'"):
        build_task({**CONFIG, "use_sharded_ddp": True, "distributed": {"strategy": "fsdp"}})


def test_option_of_ddp_with_another_strategy_is_refused():
    with pytest.raises(ConfigError, match="distributed: find_unused_parameters: an option of"):
        build_task({**CONFIG, "distributed": {"strategy": "fsdp", "find_unused_parameters": True}})


def test_config_is_not_written_to():
    before = copy.deepcopy(CONFIG)
    train(build_task(CONFIG))
    assert before == CONFIG


def test_test_only_needs_no_optimizer_and_no_train_dataset():
    config = {**CONFIG, "test_only": True, "num_epochs": 1, "dataset": {"test": DIGITS}}
    del config["optimizer"]
    assert list(build_task(config).datasets) == ["test"] and build_task(config).optimizer is None


def test_train_only():
    task = build_task({**CONFIG, "dataset": {"train": DIGITS}})
    assert train(task).phases == [{"train": True}] * 2


def test_fine_tuning_keys_arrive():
    more = {"name": "fine_tuning", "pretrained_checkpoint": "p", "reset_heads": True, "freeze_trunk": True}
    task = build_task({**CONFIG, **more, "pretrained_checkpoint_load_strict": False})
    assert isinstance(task, FineTuningTask) and task.pretrained_checkpoint_path == "p"
    assert (task.reset_heads, task.freeze_trunk, task.pretrained_checkpoint_load_strict) == (True, True, False)


def test_unknown_key_is_refused():
    with pytest.raises(ConfigError, match=r"num_epoch.*num_epochs"):
        build_task({**CONFIG, "num_epoch": 3})


def test_unknown_task():
    with pytest.raises(ConfigError, match="did you mean 'classification_task'"):
        build_task({**CONFIG, "name": "classification_tusk"})


def test_own_task_is_built_by_name():
    @register_task("only_here")
    class OnlyHere(ClassificationTask):
        pass

    assert isinstance(build_task({**CONFIG, "name": "only_here"}), OnlyHere)
    assert issubclass(OnlyHere, ClassyTask)
    del TASK_REGISTRY._classes["only_here"]


def test_repr_is_the_config():
    assert '"num_epochs": 2' in repr(build_task(CONFIG)) and "setters" in repr(ClassificationTask())


def test_task_with_a_config_of_its_own_needs_no_keys_of_ours():
    class Own(ClassificationTask):
        @classmethod
        def from_config(cls, config):
            return cls().set_num_epochs(config["epochs"])

    register_task("with_a_config_of_its_own")(Own)
    try:
        assert build_task({"name": "with_a_config_of_its_own", "epochs": 3, "test_only": True}).num_epochs == 3
    finally:
        del TASK_REGISTRY._classes["with_a_config_of_its_own"]


def test_task_that_passes_its_config_on_is_checked():
    class Own(ClassificationTask):
        @classmethod
        def from_config(cls, config):
            return super().from_config(config)

    register_task("that_passes_on")(Own)
    try:
        with pytest.raises(ConfigError, match=r"dataset\.train: missing"):
            build_task({**CONFIG, "name": "that_passes_on", "dataset": {}})
    finally:
        del TASK_REGISTRY._classes["that_passes_on"]


def test_config_follows_what_a_setter_changed():
    task = build_task(CONFIG)
    assert task.config == CONFIG
    task.set_num_epochs(7)
    assert task.config == {**CONFIG, "num_epochs": 7}


@pytest.mark.parametrize("change", ["model", "hook"])
def test_config_is_none_of_a_task_with_other_parts(change):
    task = build_task(CONFIG)
    if change == "model":
        task.set_model(build_task(CONFIG).base_model)
    else:
        task.hooks.append(ProgressBarHook())
    assert task.config is None
