import copy
import importlib.util
import os
import pickle
import subprocess
import sys
import textwrap
import threading

import pytest

from ray_classy.config.check import check_component
from ray_classy.hooks import RunLoggerHook, build_hook, build_hooks, run_logger_hook
from ray_classy.hooks.classy_hook import HOOK_REGISTRY
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.run_folder import RunFolder
from tests.helpers import RecordingHook, make_task, train


class Kept(RunLoggerHook):
    """Keeps what it is given; fails or hangs where it is told to."""

    def __init__(self, fails="", hangs=""):
        super().__init__()
        self.fails, self.hangs, self.calls = fails, hangs, []

    def _note(self, *call):
        if call[0] == self.hangs:
            threading.Event().wait()
        if call[0] == self.fails:
            raise ConnectionError("the server is away\nand more")
        self.calls.append(call)

    def open(self, run, id):
        self._note("open", run.name, id, dict(run.config))
        return id or "id-1"

    def write(self, values, step):
        self._note("write", dict(values), step)

    def finish(self, status, final):
        self._note("finish", status, dict(final))


def trained(tmp_path, hook, **options):
    task = make_task(hooks=[hook], **options).set_log_every(steps=3)
    resume = str(tmp_path / "runs/r") if (tmp_path / "runs/r").exists() else None
    return LocalTrainer(*(() if resume else (str(tmp_path / "runs"), "r")), resume=resume).train(task)


def test_a_run_is_opened_written_and_finished(tmp_path):
    hook = Kept()
    result = trained(tmp_path, hook)
    opened, *written, finished = hook.calls
    assert opened[:3] == ("open", "r", None) and finished[:2] == ("finish", "finished")
    assert [(sorted(values)[0].partition("/")[0], step) for _, values, step in written] == [
        ("step", 3),
        ("step", 6),
        ("train", 6),
        ("test", 6),
    ]
    assert {"step/loss", "step/lr", "step/samples_per_second", "step/data_wait"} <= set(written[0][1])
    final = {"train/loss", "train/accuracy.top_1", "test/loss", "test/accuracy.top_1"}
    assert final <= set(finished[2]) and finished[2]["test/loss"] == result.metrics["test"]["loss"]


def test_a_resumed_run_has_the_id_of_the_first_start(tmp_path):
    trained(tmp_path, Kept())
    hook = Kept()
    trained(tmp_path, hook, epochs=2)
    assert hook.calls[0][2] == "id-1"
    assert RunFolder(str(tmp_path / "runs/r")).record.facts()["loggers"] == {"Kept": "id-1"}


@pytest.mark.parametrize("method", ["open", "write", "finish"])
def test_a_logger_that_fails_is_one_warning(tmp_path, caplog, method):
    result = trained(tmp_path, Kept(fails=method))
    (warning,) = [record.getMessage() for record in caplog.records if "Kept" in record.getMessage()]
    assert warning == "Kept: ConnectionError: the server is away; the run continues without it" and result.metrics


@pytest.mark.parametrize("method", ["open", "write", "finish"])
def test_a_logger_that_hangs_delays_the_end_by_a_limited_time(tmp_path, caplog, monkeypatch, method):
    monkeypatch.setattr(run_logger_hook, "_END_SECONDS", 0.05)
    assert trained(tmp_path, Kept(hangs=method)).metrics
    assert "it has not taken the last values" in caplog.text


def test_values_that_a_logger_cannot_take_in_time_are_one_warning(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(run_logger_hook, "_END_SECONDS", 0.05)
    monkeypatch.setattr(run_logger_hook, "_MOST_WAITING", 1)
    assert trained(tmp_path, Kept(hangs="open")).metrics
    assert caplog.text.count("1 values wait to be written, and the latest are lost") == 1


def test_a_run_that_fails_is_finished_as_failed(tmp_path):
    hook = Kept()
    with pytest.raises(ZeroDivisionError):
        LocalTrainer(str(tmp_path / "runs"), "r").train(make_task(hooks=[RecordingHook(lambda task: 1 / 0), hook]))
    assert hook.calls[-1][:2] == ("finish", "failed")


def test_a_run_without_a_folder_is_logged_too():
    hook = Kept()
    train(make_task(hooks=[hook]))
    assert [call[0] for call in hook.calls] == ["open", "write", "write", "finish"]


@pytest.mark.parametrize(
    "config",
    [
        {"name": "tensorboard", "log_dir": "t"},
        {"name": "mlflow", "experiment": "e"},
        {"name": "wandb", "mode": "offline"},
    ],
)
def test_hooks_are_sent_to_workers_and_copied(config):
    if importlib.util.find_spec(config["name"]) is None:
        pytest.skip("not installed")
    hook = pickle.loads(pickle.dumps(copy.deepcopy(build_hook(config))))
    assert {"name": config["name"], **{name: getattr(hook, name) for name in config if name != "name"}} == config


def test_a_mode_that_wandb_does_not_have_is_a_mistake_in_the_config():
    (problem,) = check_component(HOOK_REGISTRY, {"name": "wandb", "mode": "ofline"})
    assert problem.path == ("mode",) and "'offline'" in problem.message


def test_tensorboard_continues_its_curves_in_the_folder_of_the_run(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for epochs in (1, 2):
        trained(tmp_path, build_hook({"name": "tensorboard"}), epochs=epochs)
    events = EventAccumulator(str(tmp_path / "runs/r/tensorboard")).Reload()
    assert [event.step for event in events.Scalars("step/loss")] == [3, 6, 9, 12]
    assert [event.step for event in events.Scalars("test/accuracy.top_1")] == [6, 12]
    final = [event.value for event in events.Scalars("final/test/accuracy.top_1")]
    assert final[-1] == events.Scalars("test/accuracy.top_1")[-1].value
    assert "_hparams_/session_start_info" in events.summary_metadata


SCRIPT = """
import os, signal, sys, time
from ray_classy.hooks import ClassyHook, build_hooks
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, make_task

class Kill(RecordingHook):
    def on_phase_start(self, task):
        if task.train_phase_idx == 1 and sys.argv[1] == "kill":
            while any(hook._thread._jobs.unfinished_tasks for hook in task.hooks[1:]):
                time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)

hooks = build_hooks([
    {"name": "mlflow", "tracking_uri": "sqlite:///m.db"}, {"name": "wandb", "mode": "offline"},
])
task = make_task(epochs=2, hooks=[Kill(), *hooks]).set_log_every(steps=3)
place = ("runs", "r") if not os.path.exists("runs/r") else ()
LocalTrainer(*place, resume=None if place else "runs/r").train(task)
"""


@pytest.mark.full
def test_a_run_that_is_killed_and_resumed_is_one_run_in_mlflow_and_wandb(tmp_path):
    pytest.importorskip("wandb")
    mlflow = pytest.importorskip("mlflow")
    (tmp_path / "s.py").write_text(textwrap.dedent(SCRIPT))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")])),
    }
    for what, code in (("kill", -9), ("resume", 0)):
        assert subprocess.run([sys.executable, "s.py", what], cwd=tmp_path, env=environment).returncode == code
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/m.db")
    (run,) = client.search_runs([client.get_experiment_by_name("ray_classy").experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "r" and "test/accuracy.top_1" in run.data.metrics
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "test/loss")] == [6, 12]
    ids = {name.rpartition("-")[2] for name in os.listdir(tmp_path / "wandb") if name.startswith("offline-run")}
    assert ids == {RunFolder(str(tmp_path / "runs/r")).record.facts()["loggers"]["WandbHook"]}


@pytest.mark.full
def test_mlflow_has_the_config_within_its_limits(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    from ray_classy.hooks import LoggedRun

    uri, id = f"sqlite:///{tmp_path}/m.db", None
    for config in ({"a" * 300: "b" * 600, "lr": 0.1}, {"a" * 300: "b" * 600, "lr": 0.2, "wd": 1}):
        hook = build_hook({"name": "mlflow", "tracking_uri": uri})
        id = hook.open(LoggedRun("r", None, config), id)
    data = mlflow.MlflowClient(uri).get_run(id).data
    assert data.params == {"a" * 250: "b" * 500, "lr": "0.1", "wd": "1"} and data.tags["lr"] == "0.2"


def test_several_loggers_keep_their_ids(tmp_path):
    pytest.importorskip("tensorboard")
    hooks = [Kept(), *build_hooks([{"name": "tensorboard", "log_dir": str(tmp_path / "t")}])]
    LocalTrainer(str(tmp_path / "runs"), "r").train(make_task(hooks=hooks))
    kept = RunFolder(str(tmp_path / "runs/r")).record.facts()["loggers"]
    assert kept == {"Kept": "id-1", "TensorboardHook": str(tmp_path / "t")}
