import json
import logging

import pytest
import torch

from ray_classy.display import rates_text
from ray_classy.errors import ComponentError
from ray_classy.tasks.log_every import LogEvery
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.progress import DelayedLoss
from ray_classy.trainer.progress_line import Figures
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.session import FolderSession
from tests.helpers import RecordingHook, make_task, run_ranks


def lines(path):
    return [json.loads(line) for line in (path / "steps.jsonl").read_text().splitlines()]


def test_steps_are_logged_at_their_interval(tmp_path, caplog):
    caplog.set_level(logging.INFO, "ray_classy")
    LocalTrainer(str(tmp_path), "r").train(make_task(epochs=2).set_log_every(steps=2))
    found = lines(tmp_path / "r")
    assert [(line["phase"], line["step"], line["train_step"]) for line in found] == [
        (1, 2, 2),
        (1, 4, 4),
        (1, 6, 6),
        (2, 2, 8),
        (2, 4, 10),
        (2, 6, 12),
    ]
    assert found[0]["lr"] == [0.1] and found[0]["steps"] == 6 and 0 <= found[0]["data_wait"] <= 1
    text = [record.getMessage() for record in caplog.records if "step 4/6" in record.getMessage()]
    assert (
        text[0].startswith("train 1/2  step 4/6  loss 1.") and "samples/s" in text[0] and text[0].endswith("33% done")
    )


def test_the_loss_is_the_mean_since_the_last_line(tmp_path):
    hook = RecordingHook(lambda task: list(task.losses))
    LocalTrainer(str(tmp_path), "r").train(make_task(hooks=[hook]).set_log_every(steps=3))
    losses = hook.seen("on_phase_end")[0]
    assert [line["loss"] for line in lines(tmp_path / "r")] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3])


def test_test_phases_are_logged_by_time(tmp_path):
    LocalTrainer(str(tmp_path), "r").train(make_task().set_log_every(seconds=1e-6))
    found = lines(tmp_path / "r")
    assert {line["phase_type"] for line in found} == {"train", "test"} and found[-1]["lr"] is None


def test_no_line_without_an_interval(tmp_path):
    LocalTrainer(str(tmp_path), "r").train(make_task().set_log_every(seconds=None))
    assert not (tmp_path / "r/steps.jsonl").exists()


def test_steps_that_are_made_again_are_logged_once(tmp_path):
    trainer = LocalTrainer(str(tmp_path), "r")
    trainer.train(make_task().set_log_every(steps=2))
    run = RunFolder(str(tmp_path / "r"))
    run.steps.add(Figures("train", 2, step=2, train_step=8))
    LocalTrainer(resume=run.path).train(make_task(epochs=2).set_log_every(steps=2))
    assert [line["train_step"] for line in run.steps.lines()] == [2, 4, 6, 8, 10, 12]


class Watching(Listener):
    watches = True

    def __init__(self):
        self.did, self.figures = [], []

    def working(self, what):
        self.did.append(what)

    def looked(self, figures):
        self.figures.append(figures)


def test_a_listener_that_watches_sees_each_phase_and_what_comes_before(tmp_path):
    from ray_classy.trainer.classy_trainer import run_loop

    run, watching = RunFolder.create(str(tmp_path), "r"), Watching()
    run.describe(None)
    run_loop(make_task(epochs=2).set_log_every(steps=6), FolderSession(run, listeners=[watching]))
    run.release()
    assert watching.did == [
        "reading the last checkpoint, if there is one",
        "preparing the model and the data",
        "writing the last checkpoint",
    ]
    assert [(one.phase_type, one.phase, one.phases) for one in watching.figures if not one.step] == [
        ("train", 1, 2),
        ("test", 1, 2),
        ("train", 2, 2),
        ("test", 2, 2),
    ]
    last = [one for one in watching.figures if one.step == 6][-1]
    assert last.epoch_left is not None and last.run_left == last.epoch_left


def _lines_on_two_ranks(path):
    from ray_classy.trainer import DistributedTrainer

    DistributedTrainer(path, "r").train(make_task().set_log_every(steps=1))


@pytest.mark.full
def test_the_primary_rank_alone_logs_the_speed_of_all(tmp_path):
    run_ranks(2, _lines_on_two_ranks, str(tmp_path))
    assert [line["step"] for line in lines(tmp_path / "r")] == [1, 2, 3]


@pytest.mark.parametrize("options", [{"seconds": 0}, {"seconds": True}, {"steps": 0}, {"steps": 1.5}])
def test_impossible_intervals(options):
    with pytest.raises(ComponentError, match=r"log_every\.s"):
        LogEvery(**options)


def test_a_loss_on_the_cpu_is_there_at_once():
    loss = DelayedLoss()
    loss.look(torch.tensor(0.5))
    assert loss.value == 0.5
    loss.look(None)
    assert loss.value == 0.5


def test_a_loss_that_is_no_number_is_none_in_a_file():
    assert Figures("train", 1, loss=float("nan")).record()["loss"] is None


def test_figures_are_one_line():
    figures = Figures("train", 3, 90, 400, 1000, 2400, 0.34, 0.5, [0.1, 0.01], 1234.4, 0.123, 3 << 30, 75, 7200)
    assert figures.line() == (
        "train 3/90  step 400/1000  loss 0.5000  lr 0.1, 0.01  1234 samples/s  data wait 12%  memory 3.0 GiB  "
        "epoch 75 s left  run 2.0 h left  34% done"
    )
    assert rates_text([0.1, 0.2, 0.3, 0.4]) == "0.1 to 0.4" and rates_text([0.1, 0.1]) == "0.1"
