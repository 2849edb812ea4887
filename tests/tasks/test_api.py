"""Every public name of the task API, as users of the predecessor know it."""

import importlib
import inspect

import pytest

import ray_classy.tasks as tasks
from ray_classy.dataset.transforms.mixup import MixupTransform
from ray_classy.tasks import BatchNormSyncMode, BroadcastBuffersMode, ClassificationTask, ClassyTask, FineTuningTask
from ray_classy.tasks.precision import AmpType
from tests.helpers import linear_model, make_task, sgd, vectors

METHODS = {
    "advance_phase": [],
    "build_dataloader_from_dataset": ["dataset", "kwargs"],
    "build_dataloaders_for_current_phase": [],
    "create_data_iterators": [],
    "done_training": [],
    "eval_step": [],
    "from_config": ["config", "draft"],
    "get_batchsize_per_replica": [],
    "get_classy_state": ["deep_copy"],
    "get_global_batchsize": [],
    "get_total_test_phases": [],
    "get_total_training_phases": [],
    "init_distributed_data_parallel_model": [],
    "on_end": [],
    "on_phase_end": [],
    "on_phase_start": [],
    "on_start": [],
    "prepare": [],
    "run_optimizer": ["loss"],
    "set_amp_args": ["amp_args"],
    "set_checkpoint": ["checkpoint_path"],
    "set_checkpoint_load_strict": ["checkpoint_load_strict"],
    "set_classy_state": ["state"],
    "set_clip_grad_norm": ["clip_grad_norm"],
    "set_dataloader_mp_context": ["dataloader_mp_context"],
    "set_dataset": ["dataset", "phase_type"],
    "set_distributed_options": [
        "broadcast_buffers_mode",
        "batch_norm_sync_mode",
        "batch_norm_sync_group_size",
        "find_unused_parameters",
        "bucket_cap_mb",
        "fp16_grad_compress",
        "strategy",
    ],
    "set_hooks": ["hooks"],
    "set_loss": ["loss"],
    "set_meters": ["meters"],
    "set_mixup_transform": ["mixup_transform"],
    "set_image_size": ["image_size"],
    "set_model": ["model"],
    "set_num_epochs": ["num_epochs"],
    "set_optimizer": ["optimizer"],
    "set_simulated_global_batchsize": ["simulated_global_batchsize"],
    "set_test_only": ["test_only"],
    "set_test_phase_period": ["test_phase_period"],
    "synchronize_losses": [],
    "train_step": [],
    # not in the reference, but public in the predecessor
    "compute_model": ["sample"],
    "compute_loss": ["model_output", "sample"],
    "update_meters": ["model_output", "sample"],
    "prepare_optimizer": ["optimizer", "model", "loss"],
    "log_phase_end": ["tag"],
    "check_inf_nan": ["loss"],
    "set_optimizer_schedulers": ["schedulers"],
    "set_bn_weight_decay": ["bn_weight_decay"],
    "set_use_gpu": ["use_gpu"],
    "set_checkpoint_every": ["rounds", "steps", "minutes"],
    "set_log_every": ["seconds", "steps"],
    "set_deterministic": ["deterministic"],
    "set_compile": ["compile"],
    "set_memory_format": ["memory_format"],
    "set_batch": ["batch"],
    "set_gradient_checkpointing": ["gradient_checkpointing"],
    "set_tf32": ["tf32"],
    "set_cudnn_benchmark": ["cudnn_benchmark"],
    "step": [],
    "run_hooks": ["local_variables", "hook_function"],
}
PROPERTIES = ["checkpoint", "eval_phase_idx", "loss", "model", "num_batches_per_phase", "phase_type", "where"]
DEFAULTS = {
    "datasets": {},
    "meters": [],
    "num_epochs": 1,
    "test_phase_period": 1,
    "train_phases_per_epoch": 0,
    "test_only": False,
    "base_model": None,
    "base_loss": None,
    "optimizer": None,
    "optimizer_schedulers": {},
    "checkpoint": None,
    "checkpoint_dict": None,
    "checkpoint_path": None,
    "phases": [],
    "hooks": [],
    "train": True,
    "distributed_model": None,
    "distributed_loss": None,
    "phase_idx": -1,
    "train_phase_idx": -1,
    "eval_phase_idx": -1,
    "num_updates": 0,
    "dataloader": None,
    "data_iterator": None,
    "losses": [],
    "perf_log": [],
    "last_batch": None,
    "clip_grad_norm": None,
    "simulated_global_batchsize": None,
    "optimizer_period": 1,
    "mixup_transform": None,
    "amp_args": None,
    "amp_type": None,
    "amp_grad_scaler": None,
    "batch_norm_sync_mode": BatchNormSyncMode.DISABLED,
    "broadcast_buffers_mode": BroadcastBuffersMode.BEFORE_EVAL,
    "checkpoint_load_strict": True,
    "ddp_bucket_cap_mb": 25,
    "find_unused_parameters": False,
    "fp16_grad_compress": False,
    "use_sharded_ddp": False,
    "use_gpu": None,
    "bn_weight_decay": False,
    "dataloader_mp_context": "spawn",
    "model": None,
    "loss": None,
    "where": 0.0,
    "phase_type": "train",
}
SETTERS = {
    "set_amp_args": (None,),
    "set_bn_weight_decay": (True,),
    "set_checkpoint": ("somewhere",),
    "set_checkpoint_load_strict": (False,),
    "set_clip_grad_norm": (1.0,),
    "set_dataloader_mp_context": (None,),
    "set_dataset": (vectors(4), "test"),
    "set_distributed_options": (),
    "set_hooks": ([],),
    "set_loss": (linear_model(),),
    "set_meters": ([],),
    "set_mixup_transform": (MixupTransform(1.0),),
    "set_model": (linear_model(),),
    "set_num_epochs": (0.5,),
    "set_optimizer": (sgd()[0],),
    "set_optimizer_schedulers": ({},),
    "set_seed": (3,),
    "set_simulated_global_batchsize": (8,),
    "set_test_only": (True,),
    "set_test_phase_period": (2,),
    "set_use_gpu": (False,),
    "set_use_sharded_ddp": (True,),
    "set_checkpoint_every": (1, 100, None),
    "set_log_every": (10.0, 100),
    "set_deterministic": (False,),
    "set_compile": ({"mode": "max-autotune"},),
    "set_memory_format": ("channels_last",),
    "set_batch": ("auto",),
    "set_image_size": (None,),
    "set_gradient_checkpointing": (True,),
    "set_tf32": (True,),
    "set_cudnn_benchmark": (True,),
    "set_test_time_augmentation": (True, 1),
}
ABSTRACT = {
    "from_config", "where", "done_training", "get_classy_state", "set_classy_state", "prepare", "train_step",
    "eval_step", "on_start", "on_phase_start", "on_phase_end", "on_end",
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_method_with_its_arguments(name):
    parameters = [p for p in inspect.signature(getattr(ClassificationTask, name)).parameters if p != "self"]
    assert parameters == METHODS[name]


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    assert isinstance(inspect.getattr_static(ClassificationTask, name), property)


@pytest.mark.parametrize("name", DEFAULTS)
def test_attribute_with_its_default(name):
    assert getattr(ClassificationTask(), name) == DEFAULTS[name]


@pytest.mark.parametrize("name", SETTERS)
def test_setter_returns_the_task(name):
    task = ClassificationTask()
    assert getattr(task, name)(*SETTERS[name]) is task


def test_every_setter_is_tried():
    setters = {name for name in dir(ClassificationTask) if name.startswith("set_")}
    assert setters == {*SETTERS, "set_classy_state", "set_evaluation_state"}


@pytest.mark.parametrize("name", ["pretrained_checkpoint", "pretrained_checkpoint_load_strict", "reset_heads"])
def test_setter_of_fine_tuning_returns_the_task(name):
    task = FineTuningTask()
    argument = "checkpoint_path" if name == "pretrained_checkpoint" else name
    assert getattr(task, f"set_{name}")(**{argument: True}) is task
    assert task.set_freeze_trunk(True) is task and task._set_pretrained_checkpoint_dict({}) is task


def test_public_names_of_the_module():
    assert {"ClassyTask", "ClassificationTask", "FineTuningTask", "build_task", "register_task"} <= set(tasks.__all__)
    assert tasks.TASK_REGISTRY["classification_task"] is ClassificationTask
    assert tasks.TASK_REGISTRY["fine_tuning"] is FineTuningTask


def test_abstract_members():
    assert ClassyTask.__abstractmethods__ == ABSTRACT
    arguments = inspect.signature(ClassyTask.prepare).parameters
    assert list(arguments)[1:] == ["num_dataloader_workers", "dataloader_mp_context"]


@pytest.mark.parametrize(("module", "name"), [
    ("classification_task", "BroadcastBuffersMode"), ("classification_task", "BatchNormSyncMode"),
    ("classification_task", "LastBatchInfo"), ("classification_task", "AmpType"),
    ("classification_task", "ClassificationTask"), ("classy_task", "ClassyTask"),
    ("fine_tuning_task", "FineTuningTask"),
])  # fmt: skip
def test_name_in_its_module(module, name):
    assert hasattr(importlib.import_module(f"ray_classy.tasks.{module}"), name)


def test_members_of_the_enums():
    assert [mode.name for mode in BroadcastBuffersMode] == ["DISABLED", "FORWARD_PASS", "BEFORE_EVAL"]
    assert [mode.name for mode in BatchNormSyncMode] == ["DISABLED", "PYTORCH", "APEX"]


def test_defaults_of_the_distributed_options():
    parameters = inspect.signature(ClassificationTask.set_distributed_options).parameters
    values = [p.default for p in parameters.values()][1:]
    assert values == [BroadcastBuffersMode.BEFORE_EVAL, BatchNormSyncMode.DISABLED, 0, False, 25, False, "ddp"]


def test_fields_of_the_distributed_options_are_attributes():
    task = ClassificationTask().set_distributed_options(bucket_cap_mb=3, find_unused_parameters=True)
    task.fp16_grad_compress = True
    assert (task.ddp_bucket_cap_mb, task.find_unused_parameters) == (3, True)
    assert task.distributed_options.fp16_grad_compress and task.distributed_options.bucket_cap_mb == 3


def test_the_kind_of_mixed_precision():
    task = ClassificationTask().set_amp_args({"amp_type": "pytorch", "dtype": "bfloat16"})
    assert task.amp_type is AmpType.PYTORCH and task.amp_grad_scaler is None


def test_module_is_wrapped_as_a_model():
    task = make_task()
    assert task.set_model(linear_model().model).base_model.get_heads() == {}


def test_last_batch_info_fields():
    assert tasks.LastBatchInfo._fields == ("loss", "output", "target", "sample", "step_data")
