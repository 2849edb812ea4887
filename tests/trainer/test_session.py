import json
import time
import weakref
from pathlib import Path

import pytest
import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.errors import DataError, RunStopped
from ray_classy.hooks import ClassyHook
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.classy_trainer import run_loop
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.run_checkpoints import RunCheckpoints
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.session import FolderSession
from tests.helpers import RecordingHook, make_task


class Reporting(FolderSession, Listener):
    def __init__(self, run):
        super().__init__(run, listeners=[self])
        self.reports = []

    def reported(self, metrics, checkpoint, written):
        self.reports.append((metrics, checkpoint))


@pytest.fixture
def run(tmp_path):
    made = RunFolder.create(str(tmp_path), "r")
    made.describe(None)
    yield made
    made.release()


def test_one_report_per_round(run):
    session = Reporting(run)
    run_loop(make_task(epochs=4).set_test_phase_period(2), session)
    assert [set(metrics) & {"train", "test"} for metrics, _ in session.reports] == [
        {"train"}, {"train", "test"}, {"train"}, {"train", "test"}
    ]  # fmt: skip
    assert [metrics["phase_idx"] for metrics, _ in session.reports] == [0, 2, 3, 5]
    assert all(checkpoint is not None for _, checkpoint in session.reports)


def test_reports_are_plain_numbers(run):
    session = Reporting(run)
    run_loop(make_task(), session)
    values = session.reports[0][0]["test"]
    assert type(values["loss"]) is float and type(values["accuracy"]["top_1"]) is float


def test_content_of_a_checkpoint(run):
    run_loop(make_task().set_seed(5), FolderSession(run))
    content = load_checkpoint(run.checkpoints.latest())
    assert content.keys() == {"classy_state_dict", "input_args", "ray_classy"}
    assert content["ray_classy"]["seed"] == 5 and len(content["ray_classy"]["rng"]) == 1
    assert content["classy_state_dict"].keys() >= {"base_model", "optimizer", "meters", "hooks", "losses", "loss"}


def test_checkpoint_opens_without_trust(run):
    run_loop(make_task(momentum=0.9), FolderSession(run))
    torch.load(f"{run.checkpoints.latest()}/checkpoint.torch", weights_only=True)


def test_a_session_that_waits_goes_on_when_the_checkpoint_is_there(run):
    class Looking(ClassyHook):
        on_start = on_phase_end = on_end = ClassyHook._noop

        def on_phase_start(self, task):
            seen.append(run.checkpoints.names())

        on_step = on_phase_start

    seen, slow = [], run.checkpoints.write
    run.checkpoints.write = lambda *given: (time.sleep(0.2), slow(*given))
    task = make_task(epochs=2, hooks=[Looking()]).set_checkpoint_every(steps=3, minutes=None)
    run_loop(task, FolderSession(run, waits=True))
    assert seen[3] == [] and seen[4] == ["epoch_0000-step_000003"] and seen[-1][0] == "epoch_0001-step_000006"


def test_interrupted_round_leaves_no_metrics(run):
    run_loop(make_task(epochs=1), FolderSession(run))
    run.metrics.add({"phase_idx": 2, "epoch": 2, "phase_type": "train", "metrics": {}})
    session = Reporting(run)
    run_loop(make_task(epochs=2), session)
    assert [line["phase_idx"] for line in run.metrics.lines()] == [0, 1, 2, 3] and len(session.reports) == 1


def test_a_round_that_was_stopped_before_its_test_phase_is_reported_as_a_whole(run):
    class Stopping(ClassyHook):
        on_start = on_step = on_phase_start = on_end = ClassyHook._noop

        def on_phase_end(self, task):
            session.ask_to_stop()

    session = FolderSession(run)
    with pytest.raises(RunStopped):
        run_loop(make_task(hooks=[Stopping()]), session)
    resumed = Reporting(run)
    run_loop(make_task(), resumed)
    assert resumed.began == (0, "epoch_0001-step_000006")
    assert resumed.reports[0][0].keys() >= {"train", "test"}
    manifest = json.loads(Path(run.path, "epoch_0001-step_000006", "manifest.json").read_text())
    assert manifest["metrics"].keys() == {"train", "test"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "c", "x"], r"only then: \['d'\]; only now: \['x'\]"),
        (["a", "b", "c"], r"only then: \['d'\]\."),
        (["b", "a", "c", "d"], "the order differs"),
    ],
)
def test_a_run_does_not_go_on_with_other_classes(run, names, message):
    task = make_task()
    task.datasets["train"].classes = ["a", "b", "c", "d"]
    run_loop(task, FolderSession(run))
    again = make_task(epochs=2)
    again.datasets["train"].classes = names
    with pytest.raises(
        DataError, match=f"the train dataset does not have the classes that the checkpoint .*epoch_0001.*: {message}"
    ):
        FolderSession(run).start(again)


def test_a_run_goes_on_with_the_same_classes_or_unknown_ones(run):
    task = make_task()
    task.datasets["train"].classes = ["a", "b", "c", "d"]
    run_loop(task, FolderSession(run))
    for names in (("a", "b", "c", "d"), None):
        again = make_task(epochs=2)
        again.datasets["train"].classes = names
        FolderSession(run).start(again)


@pytest.mark.parametrize("deterministic", [False, True])
def test_by_the_clock_no_checkpoint_is_due_where_the_bits_matter(run, deterministic):
    task = make_task().set_checkpoint_every(minutes=1e-9).set_deterministic(deterministic)
    session = FolderSession(run)
    session.start(task)
    assert bool(session._asked()) is not deterministic


def test_a_resumed_run_releases_what_it_read(tmp_path, monkeypatch):
    path = LocalTrainer(str(tmp_path), "r").train(make_task()).path
    read, alive = [], []
    load = RunCheckpoints.load_latest

    def noted(folder, check):
        latest = load(folder, check)
        read.extend(map(weakref.ref, latest[1]["classy_state_dict"]["base_model"]["model"]["trunk"].values()))
        return latest

    monkeypatch.setattr(RunCheckpoints, "load_latest", noted)
    hook = RecordingHook(lambda task: alive.append(sum(one() is not None for one in read)))
    LocalTrainer(resume=path).train(make_task(epochs=2, hooks=[hook]))
    assert read and set(alive) == {0}


def parts_of_an_epoch(epochs=1.5):
    task = make_task(train=24, epochs=epochs)
    task.datasets["train"].phases_per_epoch = 2
    return task.set_dataset(task.datasets["train"], "train")


def test_an_epoch_is_a_pass_over_the_data_however_many_phases_it_has(tmp_path):
    result = LocalTrainer(str(tmp_path)).train(parts_of_an_epoch())
    lines = [(line["epoch"], line["train_phase"]) for line in result.metrics_history if line["phase_type"] == "train"]
    assert lines == [(0.5, 1), (1, 2), (1.5, 3)]
    manifest = json.loads(Path(result.checkpoint, "manifest.json").read_text())
    assert (manifest["epoch"], manifest["train_phase"]) == (1.5, 3)


def test_a_run_with_lines_that_call_train_phases_epochs_resumes(tmp_path):
    path = Path(LocalTrainer(str(tmp_path), "r").train(parts_of_an_epoch(1)).path)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["epoch"] = line.pop("train_phase")
    lines.append({**lines[-1], "epoch": 9})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    history = LocalTrainer(resume=str(path)).train(parts_of_an_epoch()).metrics_history
    assert [line["phase_idx"] for line in history] == list(range(6))
