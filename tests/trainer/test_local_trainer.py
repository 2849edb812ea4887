import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.errors import CheckpointError, CheckpointNotFoundError, RunFolderError, TaskError
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer, Result
from tests.helpers import RecordingHook, equal_weights, make_task, weights
from tests.trainer import resume_script


def history(path):
    """The lines of metrics, without what a clock says."""
    timed = ("seconds", "samples_per_second", "at")
    with open(os.path.join(path, "metrics.jsonl")) as file:
        return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in file]


def test_result(tmp_path):
    task = make_task(epochs=2)
    result = LocalTrainer(str(tmp_path), "r").train(task)
    assert isinstance(result, Result) and result.path == str(tmp_path / "r")
    assert result.checkpoint == str(tmp_path / "r" / "epoch_0002-step_000012")
    assert [line["phase_type"] for line in result.metrics_history] == ["train", "test"] * 2
    assert result.metrics["test"]["accuracy"] == task.meters[0].value
    assert result.metrics["train"].keys() == {"loss", "accuracy"}


def test_line_of_a_phase(tmp_path):
    line = LocalTrainer(str(tmp_path)).train(make_task(epochs=2)).metrics_history[2]
    expected = {"phase_idx": 2, "phase_type": "train", "epoch": 2, "where": 1.0, "num_updates": 48}
    assert {key: line[key] for key in expected} == expected
    assert line["seconds"] >= 0 and line["samples_per_second"] > 0 and "at" in line


def test_lines_appear_as_phases_end(tmp_path):
    seen = []
    hook = RecordingHook(lambda task: seen.append(len(history(tmp_path / "r")) if task.phase_idx > 0 else 0))
    LocalTrainer(str(tmp_path), "r").train(make_task(epochs=2, hooks=[hook]))
    assert seen[-1] == 4 and sorted(seen) == seen


def test_caller_holds_the_final_state(tmp_path):
    task = make_task()
    result = LocalTrainer(str(tmp_path)).train(task)
    other = make_task().set_checkpoint(result.checkpoint)
    other.prepare()
    assert equal_weights(weights(task), weights(other)) and task.where == 1.0


def test_test_only_from_a_checkpoint(tmp_path):
    trained = LocalTrainer(str(tmp_path)).train(make_task(epochs=2))
    task = make_task().set_test_only(True).set_checkpoint(trained.checkpoint)
    result = LocalTrainer(str(tmp_path)).train(task)
    assert result.metrics == {"test": trained.metrics["test"]} and result.checkpoint is None


def test_losses_of_the_test_phase_are_exact(tmp_path):
    results = [LocalTrainer(str(tmp_path)).train(make_task(test=10, batch=b).set_test_only(True)) for b in (1, 4, 10)]
    losses = [result.metrics["test"]["loss"] for result in results]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)


def test_training_can_go_on_from_a_checkpoint(tmp_path):
    first = LocalTrainer(str(tmp_path)).train(make_task(epochs=1, momentum=0.9))
    second = make_task(epochs=2, momentum=0.9).set_checkpoint(first.checkpoint)
    LocalTrainer(str(tmp_path)).train(second)
    straight = make_task(epochs=2, momentum=0.9)
    LocalTrainer(str(tmp_path)).train(straight)
    assert equal_weights(weights(second), weights(straight))


def test_same_seed_same_weights(tmp_path):
    tasks = [make_task(epochs=2, shuffle=True, dropout=0.5).set_seed(seed) for seed in (1, 1, 2)]
    for task in tasks:
        torch.rand(3)
        LocalTrainer(str(tmp_path)).train(task)
    one, same, other = map(weights, tasks)
    assert equal_weights(one, same) and not equal_weights(one, other)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("phase", [0, 1, 2, 5])
def test_interrupted_run_ends_as_one_that_was_not(tmp_path, phase):
    def interrupt(task):
        if task.phase_idx == phase and len(task.losses) == 2:
            raise Interrupted

    straight = resume_script.build(str(tmp_path), RecordingHook())
    LocalTrainer(str(tmp_path), "straight").train(straight)
    with pytest.raises(Interrupted):
        LocalTrainer(str(tmp_path), "cut").train(resume_script.build(str(tmp_path), RecordingHook(interrupt)))
    resumed = resume_script.build(str(tmp_path), RecordingHook())
    torch.rand(5)
    LocalTrainer(resume=str(tmp_path / "cut")).train(resumed)
    assert equal_weights(weights(straight), weights(resumed))
    assert history(tmp_path / "cut") == history(tmp_path / "straight")


def run_script(folder, resume=(), kill=None):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"KILL": kill} if kill else {})}
    command = [sys.executable, "-m", "tests.trainer.resume_script", str(folder), *resume]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.full
def test_killed_run_ends_as_one_that_was_not(tmp_path):
    """Killed twice: inside the first train phase, and inside a test phase."""
    straight = resume_script.build(str(tmp_path), RecordingHook())
    LocalTrainer(str(tmp_path), "straight").train(straight)
    run = str(tmp_path / "run")
    for kill, resume in (("0,2", ()), ("5,3", (run,))):
        assert run_script(tmp_path, resume, kill).returncode == -signal.SIGKILL
        with open(os.path.join(run, "metrics.jsonl"), "a") as file:
            file.write('{"phase_idx": ')  # what a kill amid a write leaves
    done = run_script(tmp_path, (run,))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "imported:"  # nothing that the task does not use
    theirs = load_checkpoint(newest(run))["classy_state_dict"]["base_model"]["model"]["trunk"]
    assert all(torch.equal(theirs[name], value) for name, value in straight.base_model.state_dict().items())
    assert history(run) == history(tmp_path / "straight")
    assert len(facts(run)["starts"]) == 3


def facts(run):
    with open(os.path.join(run, "run.json")) as file:
        return json.load(file)


def newest(run):
    """The newest checkpoint of a run."""
    return os.path.join(run, max(name for name in os.listdir(run) if name.startswith("epoch_")))


def test_finished_run_is_resumed_to_nothing(tmp_path):
    task = make_task()
    path = LocalTrainer(str(tmp_path)).train(task).path
    again = make_task()
    result = LocalTrainer(resume=path).train(again)
    assert len(result.metrics_history) == 2 and equal_weights(weights(task), weights(again))


def test_resumed_run_can_be_longer(tmp_path):
    path = LocalTrainer(str(tmp_path)).train(make_task(epochs=1)).path
    assert len(LocalTrainer(resume=path).train(make_task(epochs=3)).metrics_history) == 6


def test_resumed_run_takes_new_options(tmp_path):
    path = LocalTrainer(str(tmp_path)).train(make_task(epochs=1, lr=0.1)).path
    task = make_task(epochs=2, lr=0.01)
    LocalTrainer(resume=path).train(task)
    assert task.optimizer.options_view.lr == 0.01


def test_damaged_checkpoint_stops_the_resumed_run(tmp_path):
    result = LocalTrainer(str(tmp_path)).train(make_task())
    file = os.path.join(result.checkpoint, "checkpoint.torch")
    os.truncate(file, os.path.getsize(file) // 2)
    with pytest.raises(CheckpointError, match="damaged"):
        LocalTrainer(resume=result.path).train(make_task(epochs=2))
    assert len(history(result.path)) == 2


def test_checkpoint_of_another_model_is_refused_before_anything_is_made(tmp_path):
    checkpoint = LocalTrainer(str(tmp_path)).train(make_task(batch_norm=True)).checkpoint
    with pytest.raises(CheckpointError, match="does not fit"):
        LocalTrainer(str(tmp_path), "other").train(make_task().set_checkpoint(checkpoint))
    assert not (tmp_path / "other").exists()


def test_missing_checkpoint_does_not_train_from_scratch(tmp_path):
    with pytest.raises(CheckpointNotFoundError):
        LocalTrainer(str(tmp_path)).train(make_task().set_checkpoint("nothing"))
    assert list(tmp_path.iterdir()) == []


def test_run_of_a_name_is_made_once(tmp_path):
    LocalTrainer(str(tmp_path), "r").train(make_task())
    with pytest.raises(RunFolderError, match=r"run 'r' .* already.*--resume"):
        LocalTrainer(str(tmp_path), "r").train(make_task())


def test_failure_is_written_down_and_the_folder_let_go(tmp_path):
    def fail(task):
        if len(task.losses) == 2:
            raise ValueError("on purpose")

    with pytest.raises(ValueError):
        LocalTrainer(str(tmp_path), "r").train(make_task(hooks=[RecordingHook(fail)]))
    written = facts(tmp_path / "r")
    assert (written["status"], written["error"]) == ("failed", "ValueError: on purpose")
    LocalTrainer(resume=str(tmp_path / "r")).train(make_task())


def test_what_is_no_task(tmp_path):
    with pytest.raises(TaskError, match="dict"):
        LocalTrainer(str(tmp_path)).train({"name": "classification_task"})


CONFIG = {
    "name": "classification_task",
    "num_epochs": 1,
    "seed": 4,
    "dataset": {
        kind: {
            "name": "digits",
            "split": kind,
            "num_samples": 64,
            "batchsize_per_replica": 32,
            "use_shuffle": False,
            "transforms": [{"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": "ToTensor"}]}],
        }
        for kind in ("train", "test")
    },
    "model": {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [4]},
    "loss": {"name": "CrossEntropyLoss"},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "use_gpu": False,
}


def test_task_of_a_config_leaves_its_config(tmp_path):
    result = LocalTrainer(str(tmp_path)).train(build_task(CONFIG))
    with open(os.path.join(result.path, "config.yaml")) as file:
        text = file.read()
    assert "num_epochs: 1" in text and "momentum: 0.0" in text
    written = facts(result.path)
    assert (
        written["seed"] == 4 and written["status"] == "finished" and {"torch", "python"} <= written["versions"].keys()
    )


def test_class_names_are_in_the_checkpoint(tmp_path):
    result = LocalTrainer(str(tmp_path)).train(build_task(CONFIG))
    extra = load_checkpoint(result.checkpoint)["ray_classy"]
    assert extra["classes"]["train"] == [str(digit) for digit in range(10)] and extra["seed"] == 4
