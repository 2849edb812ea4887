"""Runs that an earlier version recorded (tests/data/record.py) are resumed, shown and loaded."""

import json
import shutil

import pytest

from ray_classy.cli.main import main
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from tests.data.record import RECORDED, STRATEGIES, config
from tests.helpers import train


@pytest.fixture
def recorded(tmp_path):
    """Copies a recorded run, and returns its path."""
    return lambda name: str(shutil.copytree(RECORDED / name, tmp_path / name, symlinks=True))


def answer(capsys, *words):
    """What the program prints with --json."""
    capsys.readouterr()
    code = main([*words, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


def history(run):
    with open(f"{run}/metrics.jsonl") as file:
        return [json.loads(line) for line in file]


def test_an_interrupted_run_is_resumed_inside_its_epoch_to_the_result_of_an_uninterrupted_one(recorded, capsys):
    run, calm = recorded("interrupted"), recorded("finished")
    before = answer(capsys, "ls", run)
    assert before["status"] == "interrupted" and 0 < before["checkpoints"][-1]["in_phase"]["rows"] < 1437
    assert answer(capsys, "train", "--resume", run, "--local")["status"] == "finished"
    for one, other in zip(history(run), history(calm), strict=True):
        assert one["num_updates"] == other["num_updates"] and one["where"] == other["where"]
        # The recorded runs end each epoch (1437 rows in batches of 4) with a step of one row, today's with one of two.
        assert one["metrics"]["loss"] == pytest.approx(other["metrics"]["loss"], rel=5e-3)
        assert one["metrics"]["accuracy"]["top_1"] == pytest.approx(other["metrics"]["accuracy"]["top_1"], abs=0.01)


def test_a_run_is_resumed_in_python(recorded):
    values = config(3, 1437, 4, 0.05, ray={"num_to_keep": 2})
    result = LocalTrainer(resume=recorded("interrupted")).train(build_task(values))
    assert result.metrics["test"]["accuracy"]["top_1"] == pytest.approx(0.89, abs=0.02)


def test_a_finished_run_is_shown_and_has_nothing_left_to_train(recorded, capsys):
    run = recorded("finished")
    assert answer(capsys, "train", "--resume", run, "--local")["trained"] is False
    listed = answer(capsys, "ls", run)
    assert listed["status"] == "finished" and [entry["epoch"] for entry in listed["checkpoints"]] == [2, 3]
    assert [entry["best"] for entry in listed["checkpoints"]].count(True) <= 1
    shown = answer(capsys, "show", run)
    assert shown["manifest"]["step"] == 1080 and shown["parts"]["base_model"]["numbers"] == 64 * 12 + 12 + 12 * 10 + 10


def test_a_finished_run_is_trained_on(recorded, capsys):
    run = recorded("finished")
    assert answer(capsys, "train", "--resume", run, "--local", "num_epochs=4")["checkpoint"].endswith("step_001440")
    assert [line["epoch"] for line in history(run)] == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.ray
def test_a_killed_sweep_is_resumed_to_the_result_of_an_uninterrupted_one(recorded, capsys, ray_cluster):
    sweep = recorded("sweep")
    trials = answer(capsys, "tune", "--resume", sweep)["trials"]
    calm = json.loads((RECORDED / "sweep.json").read_text())
    for trial, other in zip(trials, calm, strict=True):
        assert [trial[key] for key in ("trial", "params", "state")] == [other[k] for k in ("trial", "params", "state")]
        for phase_type in ("train", "test"):
            loss = other["metrics"][f"{phase_type}.loss"]
            assert trial["metrics"][f"{phase_type}.loss"] == pytest.approx(
                loss, rel=0.1
            )  # as above, at larger learning rates


def test_a_trial_of_a_killed_sweep_is_shown(recorded, capsys):
    sweep = recorded("sweep")
    assert answer(capsys, "ls", f"{sweep}/t0000")["checkpoints"][-1]["step"] == 2160
    assert answer(capsys, "show", f"{sweep}/t0000")["manifest"]["epoch"] == 6


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_checkpoint_of_two_ranks_is_loaded_by_one_process_without_its_strategy(recorded, capsys, strategy):
    run = recorded(strategy)
    shown = answer(capsys, "show", run)
    assert shown["manifest"]["world_size"] == 2
    evaluated = train(build_task({**config(1, 320, 32, 0.1), "test_only": True, "checkpoint": run}))
    recorded_loss = shown["manifest"]["metrics"]["test"]["loss"]
    assert evaluated.losses.row_mean() == pytest.approx(recorded_loss, rel=1e-4)
    trained_on = answer(capsys, "train", "--resume", run, "--local", "num_epochs=3", "distributed.strategy=ddp")
    assert trained_on["checkpoint"].endswith("epoch_0003-step_000040")
