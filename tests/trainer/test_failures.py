"""What goes wrong around a run on the shared cluster, and what becomes of the run."""

import os
import signal
import threading
import time

import pytest
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig

from ray_classy.errors import ResourceError, RunError
from ray_classy.ray_compat.settings import START_TIMEOUT
from ray_classy.trainer import RayTrainer
from tests.helpers import actors_titled
from tests.trainer.ray_parts import Always, At, KillInWrite, digits_task, id_task
from tests.trainer.test_ray_trainer import same_weights, timeless

pytestmark = pytest.mark.ray


def on_ray(tmp_path, name, failures=0, workers=2, **options):
    config = RunConfig(
        name=name, storage_path=str(tmp_path / "runs"), failure_config=FailureConfig(max_failures=failures)
    )
    return RayTrainer(ScalingConfig(num_workers=workers), config, **options)


def when(path, do):
    """Does something as soon as there is a file."""

    def wait():
        while not path.exists():
            time.sleep(0.05)
        do()

    threading.Thread(target=wait, daemon=True).start()


@pytest.fixture
def with_controllers_actor(monkeypatch):
    """Ray's controller is an actor, as for a Ray client."""
    monkeypatch.setattr("ray_classy.ray_compat.train.controller_class", lambda: None)


def kill_controller():
    for pid in actors_titled("ray::TrainController"):
        os.kill(pid, signal.SIGKILL)


def free_cpus(ray):
    return ray.available_resources().get("CPU", 0.0)


@pytest.mark.full
def test_a_controller_that_is_killed_is_started_again(ray_cluster, with_controllers_actor, tmp_path):
    calm = on_ray(tmp_path, "calm").train(digits_task(checkpoint_every={"steps": 3}))
    marker = tmp_path / "marker"
    when(marker, kill_controller)
    task = digits_task(checkpoint_every={"steps": 3}).set_hooks([At(2, 8, "wait", str(marker))])
    disturbed = on_ray(tmp_path, "disturbed", failures=1).train(task)
    assert same_weights(calm.checkpoint, disturbed.checkpoint)
    assert timeless(calm.metrics_history) == timeless(disturbed.metrics_history)


@pytest.mark.full
def test_a_controller_that_is_killed_too_often_ends_the_run_and_frees_what_it_held(
    ray_cluster, with_controllers_actor, tmp_path
):
    before = free_cpus(ray_cluster)
    marker = tmp_path / "marker"
    when(marker, kill_controller)
    task = digits_task().set_hooks([At(2, 3, "wait", str(marker))])
    with pytest.raises(RunError, match=r"controller died.*Resume with --resume .*killed, or let runs recover by them"):
        on_ray(tmp_path, "killed").train(task)
    for _ in range(100):
        if free_cpus(ray_cluster) == before:
            return
        time.sleep(0.1)
    raise AssertionError(f"{before} CPUs were free before, {free_cpus(ray_cluster)} are now")


@pytest.mark.full
def test_an_exception_of_the_users_is_not_tried_for_ever(ray_cluster, tmp_path):
    task = digits_task(num_epochs=1).set_hooks([Always(5)])
    with pytest.raises(RunError) as raised:
        on_ray(tmp_path, "raised", failures=-1).train(task)
    text = str(raised.value)
    assert text.startswith("training failed on rank 1 of 2, after 5 train steps:\nTraceback")
    assert text.count("ValueError: the hook has had enough") == 1 and "in on_step" in text
    with open(tmp_path / "runs" / "raised" / "log.txt") as log:
        told = log.read()
    assert told.count("ValueError: the hook has had enough: resuming from the last checkpoint") == 1
    assert told.count("the same failed again on rank 1 of 2, after 5 train steps: giving up") == 1


@pytest.mark.full
def test_a_rank_that_never_comes_to_a_collective_is_named(ray_cluster, tmp_path):
    task = digits_task(num_epochs=1, ray={"timeout_s": 8}).set_hooks([At(0, 5, "wait", str(tmp_path / "m"), rank=1)])
    began = time.monotonic()
    with pytest.raises(RunError, match=r"rank 1 did not come to an exchange within the time-out \(ray.timeout_s\)"):
        on_ray(tmp_path, "stuck").train(task)
    assert time.monotonic() - began < 120


@pytest.mark.full
def test_a_run_that_is_killed_while_it_writes_a_checkpoint_has_the_one_before(ray_cluster, tmp_path):
    model = {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [3000, 3000]}
    marker, folder = tmp_path / "marker", tmp_path / "runs" / "disturbed"
    config = {"model": model, "num_epochs": 2, "checkpoint_every": {"steps": 5}}
    calm = on_ray(tmp_path, "calm").train(digits_task(**config))
    task = digits_task(**config).set_hooks([KillInWrite(str(folder), str(marker))])
    disturbed = on_ray(tmp_path, "disturbed", failures=1).train(task)
    assert marker.exists()
    assert same_weights(calm.checkpoint, disturbed.checkpoint)
    assert not list(folder.rglob("*.half"))


@pytest.mark.full
def test_checkpoints_are_kept_by_a_metric(ray_cluster, tmp_path):
    kept = CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="train.loss", checkpoint_score_order="max")
    config = RunConfig(name="kept", storage_path=str(tmp_path / "runs"), checkpoint_config=kept)
    result = RayTrainer(ScalingConfig(num_workers=2), config).train(digits_task())
    assert os.path.basename(result.best_checkpoint).startswith("epoch_0001")
    names = sorted(name for name in os.listdir(result.path) if name.startswith("epoch"))
    assert names == [os.path.basename(result.best_checkpoint), os.path.basename(result.checkpoint)]


@pytest.mark.full
def test_workers_that_do_not_come_back_in_time_end_the_run(ray_cluster, tmp_path, monkeypatch):
    """A worker is killed, and another takes its place in the cluster for good."""
    monkeypatch.setenv(START_TIMEOUT, "20")  # if Ray begins to start workers before the place is taken
    ray = ray_cluster
    marker = tmp_path / "marker"

    @ray.remote(num_cpus=1)
    class Holder:
        def ready(self):
            return True

    holders = []

    def hold():
        holders.extend(Holder.remote() for _ in range(int(free_cpus(ray)) + 2))

    when(marker, hold)
    task = id_task(tmp_path / "ids", epochs=2)
    (tmp_path / "ids").mkdir()
    task.set_hooks([*task.hooks, At(0, 3, "kill", str(marker))])
    trainer = on_ray(tmp_path, "held", failures=2, wait_for_resources_s=8)
    began = time.monotonic()
    with pytest.raises(ResourceError, match=r"^the run needs 2 workers x 1 CPU to resume, but there was no room"):
        trainer.train(task)
    assert time.monotonic() - began < 120
    for holder in holders:
        ray.kill(holder)
