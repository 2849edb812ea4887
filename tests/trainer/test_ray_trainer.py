"""RayTrainer on the shared cluster."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.errors import ComponentError, ResourceError, RunError, RunFolderError, ShippingError
from ray_classy.models import build_model
from ray_classy.storage import Storage
from ray_classy.trainer import LocalTrainer, RayTrainer
from ray_classy.trainer.ray_fit import remove_any
from tests.helpers import on_python_path
from tests.trainer.ray_parts import (
    OVERRIDDEN,
    At,
    CountingTask,
    RecordModules,
    digits_task,
    id_task,
    recorded,
)

pytestmark = pytest.mark.ray

_HANDLER = signal.getsignal(signal.SIGINT)


def scaling(workers, cpus=1.0):
    from ray.train import ScalingConfig

    return ScalingConfig(num_workers=workers, resources_per_worker={"CPU": cpus})


def on_ray(tmp_path, workers=2, **options):
    return RayTrainer(scaling(workers), storage_path=str(tmp_path / "runs"), **options)


def weights(state):
    return {name: value for name, value in state["classy_state_dict"]["base_model"]["model"]["trunk"].items()}


def same_weights(first, second):
    first, second = weights(load_checkpoint(first)), weights(load_checkpoint(second))
    return all(torch.equal(first[name], second[name]) for name in first)


def timeless(lines):
    return [{k: v for k, v in line.items() if k not in ("seconds", "samples_per_second", "at")} for line in lines]


@pytest.fixture(scope="module")
def digits_run(ray_cluster, tmp_path_factory):
    """An undisturbed run on two workers, and the caller's task after it."""
    task = digits_task()
    return RayTrainer(scaling(2), storage_path=str(tmp_path_factory.mktemp("runs"))).train(task), task


def test_result_holds_metrics_history_checkpoint_and_path(digits_run):
    result, _ = digits_run
    assert set(result.metrics) == {"train", "test"}
    assert [line["phase_type"] for line in result.metrics_history] == ["train", "test"] * 3
    assert os.path.isfile(os.path.join(result.checkpoint, "checkpoint.torch"))
    assert result.checkpoint.startswith(result.path)


def test_the_callers_task_holds_the_final_state(digits_run):
    result, task = digits_run
    final = weights(load_checkpoint(result.checkpoint))
    assert all(torch.equal(final[name], value) for name, value in task.base_model.state_dict().items())
    assert task.where == 1.0 and task.done_training()


def test_the_run_folder_is_complete(digits_run):
    result, _ = digits_run
    assert {"config.yaml", "run.json", "metrics.jsonl", "log.txt"} <= set(os.listdir(result.path))
    with open(os.path.join(result.path, "run.json")) as file:
        run = json.load(file)
    assert run["status"] == "finished" and run["seed"] == 3 and "torch" in run["versions"]


def test_ray_keeps_the_metrics_of_both_phases_under_dotted_names(digits_run):
    result, _ = digits_run
    with open(os.path.join(result.path, "checkpoint_manager_snapshot.json")) as file:
        text = file.read()
    assert "train.loss" in text and "test.accuracy.top_1" in text


def test_the_checkpoint_has_the_random_state_of_every_rank_and_the_class_names(digits_run):
    result, _ = digits_run
    extra = load_checkpoint(result.checkpoint)["ray_classy"]
    assert len(extra["rng"]) == 2 and extra["classes"]["train"] == [str(digit) for digit in range(10)]


def test_evaluation_counts_the_same_on_any_number_of_workers(digits_run, tmp_path):
    result, _ = digits_run
    runs = [
        LocalTrainer(str(tmp_path / "local")).train(
            digits_task(test_only=True, num_epochs=1, checkpoint=result.checkpoint)
        )
    ]
    task = digits_task(test_only=True, num_epochs=1, checkpoint=result.checkpoint)
    runs += [on_ray(tmp_path, 3).train(task)]
    metrics = [run.metrics["test"] for run in runs] + [result.metrics["test"]]
    assert len({round(each["accuracy"]["top_1"] * 359, 6) for each in metrics}) == 1
    assert metrics[1]["loss"] == pytest.approx(metrics[0]["loss"], rel=1e-6)
    assert task.done_training() and task.meters[0].value == metrics[1]["accuracy"]


def test_every_row_is_trained_once_per_epoch_and_evaluated_once_by_workers_that_import_what_they_use(
    ray_cluster, tmp_path
):
    folder, modules = tmp_path / "ids", tmp_path / "modules"
    folder.mkdir()
    modules.mkdir()
    task = id_task(folder)
    task.hooks.append(RecordModules(str(modules)))
    on_ray(tmp_path, 3).train(task)
    assert [json.loads(file.read_text()) for file in modules.iterdir()] == [[]] * 3
    phases = recorded(folder)
    assert phases[0] == phases[2] == list(range(101))
    assert phases[1] == phases[3] == list(range(37))


@pytest.mark.full
def test_more_workers_than_rows(ray_cluster, tmp_path):
    folder = tmp_path / "ids"
    folder.mkdir()
    on_ray(tmp_path, 3).train(id_task(folder, train_rows=2, test_rows=1, epochs=1))
    assert recorded(folder) == {0: [0, 1], 1: [0]}


@pytest.mark.full
def test_a_task_changed_after_from_config_is_trained_as_it_is(ray_cluster, tmp_path):
    other = build_model({"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [7]})
    task = digits_task().set_num_epochs(1).set_model(other)
    result = on_ray(tmp_path).train(task)
    shapes = {tuple(value.shape) for value in weights(load_checkpoint(result.checkpoint)).values()}
    assert (7, 64) in shapes and len(result.metrics_history) == 2


@pytest.mark.full
def test_every_documented_method_of_a_subclass_is_obeyed_on_the_workers(ray_cluster, tmp_path):
    ids, calls = tmp_path / "ids", tmp_path / "calls"
    ids.mkdir(), calls.mkdir()
    task = id_task(ids, epochs=1, cls=CountingTask)
    task.folder = str(calls)
    on_ray(tmp_path).train(task)
    by_method = {}
    for name in os.listdir(calls):
        method, _, pid = name.rpartition("-")
        if int(pid) != os.getpid():
            by_method.setdefault(method, []).append(pid)
    once_only = {"get_classy_state"}  # the primary rank writes the checkpoint
    never = {"set_classy_state"}  # nothing to restore
    assert {m for m in OVERRIDDEN if m not in by_method} == never
    assert all(len(pids) == 2 for method, pids in by_method.items() if method not in once_only)


def test_a_part_that_does_not_pickle_is_named_by_its_path(ray_cluster, tmp_path):
    task = digits_task()
    task.meters[0].lock = threading.Lock()
    with pytest.raises(ShippingError, match=r"task\.meters\[0\]\.lock"):
        on_ray(tmp_path).train(task)


def test_an_error_in_user_code_comes_back_with_its_traceback(ray_cluster, tmp_path):
    task = digits_task().set_hooks([At(0, 2, "raise", str(tmp_path / "marker"), rank=1)])
    with pytest.raises(RunError, match="rank 1") as caught:
        on_ray(tmp_path).train(task)
    assert "the hook had enough" in str(caught.value) and "on_step" in str(caught.value)


@pytest.mark.full
def test_a_loss_that_is_not_a_number_stops_the_run_before_a_checkpoint(ray_cluster, tmp_path):
    task = digits_task().set_hooks([At(2, 3, "nan", str(tmp_path / "marker"))])
    with pytest.raises(FloatingPointError, match="step 3 of train phase 1"):
        on_ray(tmp_path, name="nan").train(task)
    assert [name for name in os.listdir(tmp_path / "runs" / "nan") if name.startswith("epoch")] == [
        "epoch_0001-step_000015"
    ]


def test_a_killed_worker_is_replaced_and_the_weights_are_the_same(digits_run, tmp_path):
    from ray.train import FailureConfig, RunConfig

    result, _ = digits_run
    task = digits_task().set_hooks([At(2, 4, "kill", str(tmp_path / "marker"), rank=1)])
    config = RunConfig(storage_path=str(tmp_path / "runs"), failure_config=FailureConfig(max_failures=1))
    again = RayTrainer(scaling(2), config).train(task)
    assert same_weights(result.checkpoint, again.checkpoint)
    assert timeless(result.metrics_history) == timeless(again.metrics_history)


@pytest.mark.full
@pytest.mark.parametrize("phase, step, rank", [(2, 11, 1), (4, 7, None)], ids=["one", "all"])
def test_workers_that_are_killed_inside_an_epoch_go_on_at_the_row(digits_run, tmp_path, phase, step, rank):
    from ray.train import FailureConfig, RunConfig

    result, _ = digits_run
    task = digits_task().set_hooks([At(phase, step, "kill", str(tmp_path / "marker"), rank=rank)])
    task.set_checkpoint_every(steps=3, minutes=None)
    config = RunConfig(storage_path=str(tmp_path / "runs"), failure_config=FailureConfig(max_failures=2))
    again = RayTrainer(scaling(2), config).train(task)
    with open(f"{again.path}/log.txt") as log:
        assert "resuming from" in log.read()
    assert same_weights(result.checkpoint, again.checkpoint)
    assert timeless(result.metrics_history) == timeless(again.metrics_history)


@pytest.mark.full
@pytest.mark.parametrize("first, second", [(2, 3), (3, 2)])
def test_a_run_goes_on_inside_an_epoch_on_another_number_of_workers(ray_cluster, tmp_path, first, second):
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        folder.mkdir()
    task = id_task(folders[0], batch=24 // first).set_checkpoint_every(steps=2, minutes=None)
    task.set_hooks([*task.hooks, At(2, 3, "raise", str(tmp_path / "marker"))])
    with pytest.raises(RunError, match="the hook had enough"):
        RayTrainer(scaling(first, 0.5), storage_path=str(tmp_path), name="run").train(task)
    last = max(name for name in os.listdir(tmp_path / "run") if name.startswith("epoch_0001-"))
    task = id_task(folders[1], batch=24 // second)
    RayTrainer(scaling(second, 0.5), resume=str(tmp_path / "run")).train(task)
    before, after = recorded(folders[0], int(last.rpartition("_")[2])), recorded(folders[1])
    assert sorted(before.get(2, []) + after[2]) == list(range(101)) and after[3] == list(range(37))


DRIVER = """
import sys
from tests.trainer.ray_parts import At, digits_task
from ray.train import ScalingConfig
from ray_classy.trainer import RayTrainer
storage, resume = sys.argv[1], sys.argv[2:]
task = digits_task().set_hooks([At(2, 4, "wait", storage + "/marker")])
options = dict(resume=resume[0]) if resume else dict(storage_path=storage, name="run")
RayTrainer(ScalingConfig(num_workers=2), **options).train(task)
"""


def kill_driver(script, tmp_path, *arguments):
    """SIGKILLs a driver while its workers stand still in a phase; returns the run folder."""
    environment = {**os.environ, "PYTHONPATH": on_python_path(os.getcwd())}
    command = [sys.executable, "-c", script, *arguments]
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for _ in range(1200):
        if (tmp_path / "marker").exists():
            break
        assert driver.poll() is None, driver.stderr.read().decode()
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    driver.stderr.close()
    return tmp_path / "run"


@pytest.mark.full
def test_a_run_whose_driver_was_killed_is_resumed_to_equal_weights(digits_run, tmp_path):
    result, _ = digits_run
    run = kill_driver(DRIVER, tmp_path, str(tmp_path))
    again = RayTrainer(scaling(2), resume=str(run)).train(digits_task())
    assert same_weights(result.checkpoint, again.checkpoint)
    assert timeless(result.metrics_history) == timeless(again.metrics_history)


@pytest.mark.full
def test_a_run_without_a_checkpoint_is_resumed_from_its_beginning(digits_run, tmp_path):
    result, _ = digits_run
    task = digits_task().set_hooks([At(0, 4, "raise", str(tmp_path / "marker"))])
    with pytest.raises(RunError, match="the hook had enough"):
        on_ray(tmp_path, name="r").train(task)
    again = RayTrainer(scaling(2), resume=str(tmp_path / "runs" / "r")).train(digits_task())
    assert same_weights(result.checkpoint, again.checkpoint)


STOPPED_DRIVER = """
import os, signal, sys, threading, time
from tests.trainer.ray_parts import At, digits_task
from ray.train import ScalingConfig
from ray_classy.errors import RunStopped
from ray_classy.trainer import RayTrainer
storage = sys.argv[1]
def interrupt():
    while not os.path.exists(storage + "/marker"):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
    os.remove(storage + "/hold")
threading.Thread(target=interrupt, daemon=True).start()
open(storage + "/hold", "w").close()
task = digits_task().set_hooks([At(2, 4, "hold", storage + "/marker")])
try:
    RayTrainer(ScalingConfig(num_workers=2), storage_path=storage, name="run").train(task)
except RunStopped as stopped:
    sys.exit(f"stopped: {stopped}")
"""


@pytest.mark.full
def test_an_interrupted_driver_leaves_a_checkpoint_of_where_it_is(digits_run, tmp_path):
    result, _ = digits_run
    command = [sys.executable, "-c", STOPPED_DRIVER, str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": on_python_path(os.getcwd())}, capture_output=True, text=True
    )
    assert done.returncode == 1 and "stopped: the run was stopped; its state is in" in done.stderr, done.stderr
    last = max(name for name in os.listdir(tmp_path / "run") if name.startswith("epoch_"))
    assert "epoch_0001-step_000015" < last <= "epoch_0002-step_000030"
    again = RayTrainer(scaling(2), resume=str(tmp_path / "run")).train(digits_task())
    assert same_weights(result.checkpoint, again.checkpoint)
    assert timeless(result.metrics_history) == timeless(again.metrics_history)


@pytest.mark.full
def test_what_a_run_put_into_shared_memory_is_freed_at_its_end(ray_cluster, tmp_path):
    def held():
        return ray_cluster.cluster_resources()["object_store_memory"] - free_memory()

    def free_memory():
        return ray_cluster.available_resources()["object_store_memory"]

    gc.collect()
    gc.disable()  # it would free what is part of a cycle, some time
    try:
        before = held()
        on_ray(tmp_path).train(digits_task(num_epochs=1))
        assert any(held() <= before or time.sleep(0.2) for _ in range(50))
    finally:
        gc.enable()


@pytest.mark.full
def test_a_run_is_resumed_whatever_ray_has_left_in_its_folder(ray_cluster, tmp_path):
    def trained(epochs, **place):
        task = digits_task(num_epochs=epochs, ray={"num_to_keep": 1})
        return RayTrainer(scaling(1), **place).train(task)

    run = trained(2, storage_path=str(tmp_path), name="r").path  # Ray has a list of checkpoints; the first was removed
    assert trained(3, resume=run).checkpoint.endswith("epoch_0003-step_000087")
    (tmp_path / "r" / "checkpoint_manager_snapshot.json").write_text("{")
    (tmp_path / "own.txt").write_text("of the user")
    (tmp_path / "r" / ".validate_storage_marker").unlink()
    (tmp_path / "r" / ".validate_storage_marker").symlink_to(tmp_path / "own.txt")
    assert [line["epoch"] for line in trained(4, resume=run).metrics_history] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert len(list((tmp_path / "r").glob("epoch_*"))) == 1
    assert (tmp_path / "own.txt").read_text() == "of the user"


def test_what_ray_left_is_removed_whatever_it_is(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path.parent)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "file", "link", "dangling", "missing"):
        remove_any(Storage(str(tmp_path)), name)
    assert os.listdir(tmp_path) == [] and tmp_path.parent.exists()


@pytest.mark.full
@pytest.mark.parametrize(
    "section",
    [
        {
            "num_workers": 2,
            "num_to_keep": 1,
            "checkpoint_score_attribute": "test.loss",
            "checkpoint_score_order": "min",
            "checkpoint_upload_mode": "SYNC",
            "max_failures": 1,
            "resources_per_worker": {"CPU": 0.5},
            "placement_strategy": "SPREAD",
            "label_selector": {"ray.io/node-id": "!another"},
            "init_method": "tcp",
            "backend": "gloo",
            "timeout_s": 60,
            "controller_failure_limit": 2,
        },
        {
            "num_workers": [1, 2],
            "elastic_resize_monitor_interval_s": 1.0,
            "max_preemption_failures": 1,
            "relax_collectives_on_preemption": True,
            "preemption_grace_s": 1.0,
            "wait_for_resources_s": 30.0,
        },
    ],
    ids=["fixed", "elastic"],
)
def test_a_run_is_resumed_with_each_key_of_the_ray_section(ray_cluster, tmp_path, section):
    def trained(epochs, **place):
        return RayTrainer(**place).train(digits_task(num_epochs=epochs, ray=section))

    run = trained(1, storage_path=str(tmp_path), name="r").path
    again = trained(3, resume=run)
    assert [line["epoch"] for line in again.metrics_history] == [1, 1, 2, 2, 3, 3]


@pytest.mark.full
def test_a_run_folder_in_a_store_is_resumed(ray_cluster, tmp_path, s3):
    storage = s3.url("runs")
    first = RayTrainer(scaling(1), storage_path=storage, name="r").train(digits_task(num_epochs=1))
    again = RayTrainer(scaling(1), resume=s3.url("runs/r")).train(digits_task(num_epochs=2))
    assert len(again.metrics_history) == 4 and again.metrics_history[:2] == first.metrics_history
    assert load_checkpoint(again.checkpoint)["classy_state_dict"]["train_phase_idx"] == 1


def test_a_name_that_exists_is_refused_and_nothing_is_touched(digits_run):
    result, _ = digits_run
    before = sorted(os.listdir(result.path))
    storage, name = os.path.split(result.path)
    with pytest.raises(RunFolderError, match="--resume"):
        RayTrainer(scaling(2), storage_path=storage, name=name).train(digits_task())
    assert sorted(os.listdir(result.path)) == before


def test_more_workers_than_the_cluster_has_room_for_are_refused_with_the_arithmetic(ray_cluster, tmp_path):
    began = time.monotonic()
    with pytest.raises(ResourceError, match=r"64 workers x 1 CPU = 64 CPU, but the cluster has 4 CPU"):
        on_ray(tmp_path, 64).train(digits_task())
    assert time.monotonic() - began < 10


def test_resources_that_others_hold_are_waited_for_and_then_given_up(ray_cluster, tmp_path):
    @ray_cluster.remote(num_cpus=3)
    class Holder:
        def ready(self):
            return True

    holder = Holder.remote()
    ray_cluster.get(holder.ready.remote())
    try:
        with pytest.raises(ResourceError, match=r"no room within 1 s: only 1 CPU is free"):
            on_ray(tmp_path, wait_for_resources_s=1).train(digits_task())
    finally:
        ray_cluster.kill(holder)
        time.sleep(1)


def test_zero_workers_points_to_the_local_trainer(tmp_path):
    with pytest.raises(ComponentError, match="LocalTrainer"):
        on_ray(tmp_path, 0).train(digits_task())


def test_ray_is_left_connected_and_the_interrupt_handler_as_it_was(digits_run, ray_cluster):
    assert ray_cluster.is_initialized()
    assert signal.getsignal(signal.SIGINT) is _HANDLER
