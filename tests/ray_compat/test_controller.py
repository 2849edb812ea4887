"""Ray Train's controller in a thread of this process."""

import logging
import os
import pickle
import signal
import threading
import time

import pytest
import ray
import ray.train
from ray.runtime_context import RuntimeContext
from ray.train import RunConfig, ScalingConfig
from ray.train.v2._internal.execution.controller import TrainController

from ray_classy.ray_compat import controller, settings, train
from ray_classy.trainer.ray_connection import environment
from tests.helpers import actors_titled


def trained(tmp_path, loop, when_started=None, **options):
    trainer = train.trainer_class({}, keeps_cleaner=False, when_started=when_started)
    config = RunConfig(name="run", storage_path=str(tmp_path / "runs"))
    scaling = ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}, **options)
    with environment(settings.TRAIN):
        return trainer(loop, scaling_config=scaling, run_config=config).fit()


def free_cpus():
    return ray.available_resources().get("CPU", 0.0)


@pytest.mark.ray
def test_no_process_is_started_for_the_controller(ray_cluster, tmp_path):
    def loop():
        return os.getppid(), ray.train.get_context().get_world_size()

    found = []
    result = trained(tmp_path, loop, when_started=lambda: found.append(threading.active_count()))
    assert result.error is None and result.return_value[1] == 1
    assert found and not list(actors_titled("ray::TrainController"))


@pytest.mark.ray
def test_an_exception_of_a_worker_is_raised(ray_cluster, tmp_path):
    def loop():
        raise ValueError("the loop has had enough")

    with pytest.raises(ray.train.TrainingFailedError, match="the loop has had enough"):
        trained(tmp_path, loop)


@pytest.fixture
def interruptible():
    """Ctrl-C raises a KeyboardInterrupt, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.ray
def test_an_interrupt_ends_the_workers_and_frees_their_place(ray_cluster, interruptible, tmp_path):
    before, marker = free_cpus(), tmp_path / "marker"

    def loop():
        marker.touch()
        time.sleep(90)

    def interrupt():
        while not marker.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, loop, when_started=threading.Thread(target=interrupt, daemon=True).start)
    deadline = time.monotonic() + 30
    while free_cpus() != before:
        assert time.monotonic() < deadline, f"{before} CPUs were free before, {free_cpus()} are now"
        time.sleep(0.1)
    assert time.monotonic() - began < 90


@pytest.mark.ray
def test_a_run_whose_state_ray_tracks_has_the_actor(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
    assert controller.controller_class() is None


@pytest.mark.parametrize(
    ("owner", "name"),
    [(TrainController, name) for name in ("_step", "run", "get_result", "worker_group_cls")]
    + [(RuntimeContext, "current_actor")],
)
def test_a_controller_without_the_methods_stays_an_actor(hidden, owner, name):
    hidden(owner, name)
    assert controller.controller_class() is None and "starts a process for its controller" in hidden.lines()[0]


def test_the_controllers_lines_are_dropped_in_its_thread_alone(monkeypatch):
    monkeypatch.setattr(logging.getLogger("ray"), "level", logging.ERROR)
    logging.getLogger("ray").manager._clear_cache()
    record = logging.LogRecord("ray.train", logging.ERROR, "", 0, "text", (), None)
    assert controller._drop_controllers_lines(record)
    dropped = []

    def in_thread():
        controller._thread.controls = True
        dropped.append(not controller._drop_controllers_lines(record))

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert dropped == [True]


def test_workers_are_told_that_there_is_no_actor():
    absent = pickle.loads(pickle.dumps(controller._NoActor()))
    with pytest.raises(RuntimeError, match="set RAY_TRAIN_ENABLE_STATE_TRACKING=1"):
        absent.get_all_reported_checkpoints.remote()


def test_the_actor_that_watches_for_preemption_is_started_once():
    from ray.train.v2._internal.callbacks import preemption_callback

    controller._start_watchers_once()
    made = preemption_callback.ray.remote(num_cpus=0, max_restarts=-1)(preemption_callback.PreemptionWatcher)
    assert made._default_options["max_restarts"] == 0 and made._default_options["num_cpus"] == 0
