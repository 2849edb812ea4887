import pytest
import torch

from ray_classy.errors import ComponentError, TaskError
from ray_classy.tasks import BatchNormSyncMode, ClassificationTask
from ray_classy.tasks.precision import Precision
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, make_task, train

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_bfloat16_trains_on_the_cpu():
    hook = RecordingHook(lambda task: task.last_batch and task.last_batch.output.dtype)
    task = make_task(train=64, batch=8, epochs=6, hooks=[hook]).set_amp_args(
        {"amp_type": "pytorch", "dtype": "bfloat16"}
    )
    first = RecordingHook(lambda task: task.losses.row_mean() if len(task.losses) else None)
    first.name = lambda: "first"
    train(task.set_hooks([hook, first]))
    assert set(hook.seen("on_step")) == {torch.bfloat16}
    assert first.seen("on_phase_end")[-2] < first.seen("on_phase_end")[0]
    assert task.base_model.model[0].weight.dtype is torch.float32


@pytest.mark.parametrize("arguments", [{}, {"dtype": "float16"}])
def test_float16_on_the_cpu_computes_in_float32_with_a_warning(arguments, caplog, tmp_path):
    hook = RecordingHook(lambda task: task.last_batch and task.last_batch.output.dtype)
    task = make_task(hooks=[hook]).set_amp_args({"amp_type": "pytorch", **arguments})
    LocalTrainer(str(tmp_path)).train(task)
    assert set(hook.seen("on_step")) == {torch.float32} and task.amp_grad_scaler is None
    assert [line for line in caplog.messages if "amp_args" in line] == [Precision("pytorch").remark(task.device)]


def test_a_run_with_float16_resumes_without_a_gpu():
    task = make_task().set_amp_args({"amp_type": "pytorch"})
    task.prepare()
    task.set_classy_state({**task.get_classy_state(), "amp": {"scale": 65536.0, "growth_factor": 2.0}})
    assert task.amp_grad_scaler is None


@pytest.mark.parametrize("arguments", [{"opt_level": "O1"}, {"amp_type": "apex"}, {"loss_scale": "dynamic"}, {}])
def test_apex_is_refused_with_the_way_on(arguments):
    with pytest.raises(RuntimeError, match=r'"amp_type": "pytorch"'):
        ClassificationTask().set_amp_args(arguments)


@pytest.mark.parametrize(
    "arguments", [{"dtype": "float8"}, {"opt_level": "O1"}, {"loss_scale": 1}, {"amp_type": "pytorch2"}]
)
def test_impossible_arguments(arguments):
    with pytest.raises(ComponentError, match="amp_args"):
        ClassificationTask().set_amp_args({"amp_type": "pytorch", **arguments})


def test_none_is_no_mixed_precision():
    assert ClassificationTask().set_amp_args({"amp_type": "pytorch"}).set_amp_args(None).precision is None


def test_bfloat16_needs_no_scaler():
    assert Precision("pytorch", "bfloat16").scaler(torch.device("cpu")) is None


def test_sync_batch_norm_on_several_processes_without_gpus_is_refused():
    task = make_task().set_distributed_options(batch_norm_sync_mode=BatchNormSyncMode.PYTORCH)
    with pytest.raises(TaskError, match=r"batch_norm_sync_mode.*GPU"):
        task.preflight(world_size=2, on_gpu=False)


def test_sync_batch_norm_on_one_cpu_process_has_nothing_to_do():
    task = make_task(batch_norm=True).set_distributed_options(batch_norm_sync_mode=BatchNormSyncMode.PYTORCH)
    assert train(task).where == 1.0


@without_gpu
def test_gpu_that_is_not_there():
    with pytest.raises(TaskError, match="use_gpu"):
        make_task().set_use_gpu(True).prepare()


def test_apex_batch_norm_is_refused():
    with pytest.raises(RuntimeError, match="'pytorch'"):
        ClassificationTask().set_distributed_options(batch_norm_sync_mode=BatchNormSyncMode.APEX)


def test_batch_norm_groups_are_refused():
    with pytest.raises(ValueError, match="batch_norm_sync_group_size 2"):
        ClassificationTask().set_distributed_options(batch_norm_sync_group_size=2)
