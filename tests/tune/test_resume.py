"""A driver that is killed, and the sweep that goes on."""

import functools
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from ray_classy.checkpoint import load_checkpoint
from tests.helpers import on_python_path
from tests.tune.sweeps import sweep_config

pytestmark = pytest.mark.ray


def program(*words, **options):
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": on_python_path(os.getcwd())}
    command = [sys.executable, "-m", "ray_classy", "tune", *words]
    # Where the tests themselves run in the background of a script, Ctrl-C is ignored, and would stay so.
    heeds = {"preexec_fn": functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **heeds, **options)


def finished(*words, folder):
    process = program(*words, "--json", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


def states(folder):
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        file = os.path.join(folder, name, "trial.json")
        if os.path.exists(file):
            with open(file) as opened:
                found[name] = json.load(opened)["state"]
    return found


def starts(folder, name):
    with open(os.path.join(folder, name, "run.json")) as file:
        return len(json.load(file)["starts"])


def wait_for(sweep, file, text, process):
    """Waits until a text is in a file of one of the first trials."""
    until = time.monotonic() + 240
    files = [sweep / name / file for name in ("t0000", "t0001")]
    while not any(file.exists() and text in file.read_text() for file in files):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)


def write(folder, trials=6, workers=1, scheduler=None, **changes):
    file = folder / "sweep.yaml"
    config = sweep_config(tune={"num_samples": trials, "scheduler": scheduler or {"name": "fifo"}}, **changes)
    config["ray"] = {"storage_path": str(folder / "runs"), "num_workers": workers}
    file.write_text(yaml.safe_dump(config))
    return str(file)


def killed(config, folder, name, moment):
    """Starts a sweep and kills its driver once `moment(states)` says so."""
    process = program(config, "--name", name, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    sweep = folder / "runs" / name
    until = time.monotonic() + 120
    while not moment(states(sweep)):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return str(sweep)


def outcome(answer):
    return [(trial["trial"], trial["params"], trial["metrics"], trial["state"]) for trial in answer["trials"]]


@pytest.mark.full
def test_a_sweep_whose_driver_was_killed_ends_like_one_that_was_not(tmp_path):
    config = write(tmp_path, 5, hooks=[{"name": "say_state"}, {"name": "slow", "seconds": 0.2}])
    calm = finished(config, "--name", "calm", folder=tmp_path)
    sweep = killed(config, tmp_path, "killed", lambda found: sum(found[name] != "running" for name in found) >= 2)
    over = [name for name, state in states(sweep).items() if state != "running"]
    assert 2 <= len(over) < 5
    again = finished("--resume", sweep, folder=tmp_path)
    assert outcome(again) == outcome(calm)
    assert again["best"]["metrics"] == calm["best"]["metrics"]
    assert {starts(sweep, name) for name in over} == {1}, "a trial that had ended ran again"
    assert all(state == "finished" for state in states(sweep).values())


@pytest.mark.full
@pytest.mark.parametrize("scheduler", ["asha", "hyperband"])
def test_a_sweep_with_a_scheduler_goes_on_without_running_ended_trials_again(tmp_path, scheduler):
    hooks = [{"name": "say_state"}, {"name": "slow", "seconds": 0.2}]
    config = write(tmp_path, 4, hooks=hooks, num_epochs=4, scheduler={"name": scheduler})
    sweep = killed(config, tmp_path, "killed", lambda found: any(state != "running" for state in found.values()))
    before = {name: starts(sweep, name) for name, state in states(sweep).items() if state != "running"}
    again = finished("--resume", sweep, folder=tmp_path)
    assert len(again["trials"]) == 4 and all(trial["state"] in ("finished", "stopped") for trial in again["trials"])
    assert before == {name: starts(sweep, name) for name in before}


@pytest.mark.full
def test_ctrl_c_ends_the_sweep_and_tells_how_to_go_on(tmp_path):
    config = write(tmp_path, hooks=[{"name": "slow", "seconds": 0.5}])
    process = program(config, "--name", "stopped", cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    sweep = tmp_path / "runs" / "stopped"
    wait_for(sweep, "reports.jsonl", "{", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted; resume with: ray-classy tune --resume runs/stopped" in err
    assert "running" in states(sweep).values()


def record(folder, name):
    with open(folder / name / "run.json") as file:
        return json.load(file)


def checkpoints(folder, name):
    return sorted(entry for entry in os.listdir(folder / name) if entry.startswith("epoch_"))


def last_weights(folder, name):
    content = load_checkpoint(str(folder / name / checkpoints(folder, name)[-1]))
    return content["classy_state_dict"]["base_model"]["model"]["trunk"]


def stopped_in_its_second_epoch(folder, config, number, whom):
    """Stops a sweep, of which the steps are slow, and returns its folder and the seconds that it took to end."""
    (folder / "slow").touch()
    process = program(config, "--name", "stopped", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    sweep = folder / "runs" / "stopped"
    wait_for(sweep, "log.txt", "phase 2 ", process)
    time.sleep(1)
    os.killpg(process.pid, number) if whom == "group" else process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "interrupted; resume with: ray-classy tune --resume runs/stopped" in err
    (folder / "slow").unlink()
    return sweep, time.monotonic() - began


@pytest.mark.full
@pytest.mark.parametrize(
    ("number", "whom", "workers"),
    [(signal.SIGTERM, "group", 1), (signal.SIGHUP, "driver", 2)],
)
def test_a_stopped_sweep_is_resumed_at_the_step_and_ends_like_one_that_was_not(tmp_path, number, whom, workers):
    slow = {"name": "slow_steps", "file": str(tmp_path / "slow"), "seconds": 0.6 * workers}
    config = write(tmp_path, hooks=[{"name": "say_state"}, slow], trials=4 - workers, workers=workers)
    calm = finished(config, "--name", "calm", folder=tmp_path)
    sweep, seconds = stopped_in_its_second_epoch(tmp_path, config, number, whom)
    assert seconds < 15  # on a busy machine
    begun = [name for name in states(sweep) if (sweep / name / "run.json").exists()]
    assert len(begun) == (2 if workers == 1 else 1) and set(states(sweep).values()) == {"running"}
    assert {record(sweep, name)["status"] for name in begun} == {"interrupted"} == {record(sweep, ".")["status"]}
    steps = [int(checkpoints(sweep, name)[-1][-6:]) for name in begun]
    assert any(10 // workers < step < 20 // workers for step in steps), steps
    again = finished("--resume", str(sweep), folder=tmp_path)
    assert outcome(again) == outcome(calm)
    for name in states(sweep):
        ours, theirs = (last_weights(folder, name) for folder in (sweep, tmp_path / "runs" / "calm"))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert {name: starts(sweep, name) for name in begun} == dict.fromkeys(begun, 2)


@pytest.mark.full
@pytest.mark.parametrize("scheduler", ["median_stopping", "pbt"])
def test_a_scheduler_does_not_take_a_trial_that_was_stopped_for_a_complete_one(tmp_path, scheduler):
    slow = {"name": "slow_steps", "file": str(tmp_path / "slow"), "seconds": 0.3}
    config = write(tmp_path, 4, hooks=[{"name": "say_state"}, slow], num_epochs=4, scheduler={"name": scheduler})
    sweep, _ = stopped_in_its_second_epoch(tmp_path, config, signal.SIGTERM, "driver")
    running = [name for name, state in states(sweep).items() if state == "running"]
    begun = [name for name in running if (sweep / name / "run.json").exists()]
    assert begun and {record(sweep, name)["status"] for name in begun} == {"interrupted"}
    again = finished("--resume", str(sweep), folder=tmp_path)
    assert len(again["trials"]) == 4 and all(trial["state"] in ("finished", "stopped") for trial in again["trials"])
    assert all(trial["epoch"] == 4 for trial in again["trials"] if trial["state"] == "finished")


@pytest.mark.full
def test_a_trial_that_reaches_no_step_does_not_hold_a_stopped_sweep_up(tmp_path):
    config = write(tmp_path, hooks=[{"name": "say_state"}, {"name": "slow", "seconds": 60}], trials=1)
    process = program(config, "--name", "stopped", cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    sweep = tmp_path / "runs" / "stopped"
    wait_for(sweep, "log.txt", "phase 0", process)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and time.monotonic() - began < 12
    assert "t0000 came to the end of no step in time: it resumes from its last checkpoint" in err
    assert states(sweep) == {"t0000": "running"} and record(sweep, "t0000")["status"] == "interrupted"
    assert not (sweep / "t0000" / "stop").exists()


@pytest.mark.full
def test_the_second_interrupt_ends_the_sweep_at_once(tmp_path):
    hooks = [{"name": "ends_a_child"}, {"name": "say_state"}, {"name": "slow", "seconds": 60}]
    config = write(tmp_path, hooks=hooks)
    process = program(config, "--name", "stopped", cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(tmp_path / "runs" / "stopped", "log.txt", "phase 0", process)  # the trial has ended a process of its own
    for _ in range(2):
        time.sleep(3)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "press Ctrl-C again" in err
    assert "interrupted; resume with: ray-classy tune --resume runs/stopped" in err
