import signal
from types import SimpleNamespace

import pytest

from ray_classy.trainer.retention import Retention
from ray_classy.tune.folder import SweepFolder, TrialRecord
from ray_classy.tune.section import Stop
from ray_classy.tune.watch import Watch

NAMES = [f"epoch_000{epoch}-step_0000{epoch}0" for epoch in (1, 2, 3)]
TRIAL = SimpleNamespace(trial_id="t0000", config={"lr": 0.1})


class SilentTable:
    def print_line(self, line):
        pass

    def params(self, params):
        return ""

    def reported(self, record, where):
        pass

    def draw(self, statuses):
        pass

    def ended(self, record):
        pass


@pytest.fixture
def watch(tmp_path):
    retention = Retention(1, "test.loss", "min")
    records = {"t0000": TrialRecord("t0000", 0, {"lr": 0.1})}
    folder = SweepFolder(str(tmp_path))
    return Watch(folder, records, SilentTable(), retention, None, False, None, lambda result: "", Stop({}, None))


def write(watch, number, loss):
    run = watch._folder.trial_run("t0000")
    content = {"input_args": None, "classy_state_dict": {}}
    run.checkpoints.write(NAMES[number], content, {"metrics": {"test": {"loss": loss}}})
    return run


def report(watch, number, loss):
    """Writes the checkpoint of an epoch, and reports it."""
    run = write(watch, number, loss)
    watch.on_trial_result(1, [], TRIAL, {"epoch": number + 1, "checkpoint": NAMES[number], "test.loss": loss})
    return run


def test_the_manifest_of_a_checkpoint_is_read_at_its_report_only(watch):
    run = report(watch, 0, 0.1)
    run.storage.write(f"{NAMES[0]}/manifest.json", b"{}")
    report(watch, 1, 0.2)
    report(watch, 2, 0.3)
    assert run.checkpoints.names() == [NAMES[0], NAMES[2]] and run.checkpoints.best().endswith(NAMES[0])


def test_the_manifests_of_a_trial_that_starts_again_are_read_again(watch):
    run = report(watch, 0, 0.1)
    write(watch, 0, 0.9)
    watch.on_trial_start(1, [], TRIAL)
    report(watch, 1, 0.2)
    assert run.checkpoints.best().endswith(NAMES[1])


def restoring(of, epoch, **params):
    """A trial that Ray Tune starts from another one's checkpoint, or from its own."""
    metrics = {"trial": of, "epoch": epoch, "checkpoint": NAMES[epoch - 1]}
    config = {**TRIAL.config, **params}
    return SimpleNamespace(trial_id="t0000", config=config, latest_checkpoint_result=SimpleNamespace(metrics=metrics))


def clones(watch):
    return [(clone.of, clone.epoch, clone.done) for clone in watch._folder.trials()[0].clones]


def test_a_state_of_another_trial_is_recorded_also_where_the_parameters_stay_the_same(watch):
    watch.begin(watch._records["t0000"])
    watch.on_trial_start(1, [], restoring("t0001", 1, lr=0.2))
    report(watch, 1, 0.2)
    watch.on_trial_start(1, [], restoring("t0001", 2, lr=0.2))
    assert clones(watch) == [("t0001", 1, True), ("t0001", 2, False)]


def test_a_trial_that_goes_on_or_starts_again_from_the_same_state_adopts_nothing_new(watch):
    watch.begin(watch._records["t0000"])
    watch.on_trial_start(1, [], restoring("t0000", 1))
    watch.on_trial_start(1, [], restoring("t0001", 1))
    watch.on_trial_start(1, [], restoring("t0001", 1))  # its process had died before it reported
    assert clones(watch) == [("t0001", 1, False)]


@pytest.fixture
def stops():
    """How often Ray Tune was stopped, as a list."""
    numbers = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGUSR1, before)


def test_trials_that_run_are_asked_to_stop_and_then_ray_tune_is(watch, stops):
    no_process = SimpleNamespace(ray_actor=None)
    trials = [
        SimpleNamespace(trial_id=f"t000{number}", status=status, temporary_state=no_process)
        for number, status in enumerate(["RUNNING", "PENDING", "PAUSED"])
    ]
    watch.on_step_begin(1, trials)
    assert watch.stop() and not stops
    watch.on_step_end(1, trials)
    asked = [watch._folder.trial_run(trial.trial_id).requests.stop_requested() for trial in trials]
    watch.on_experiment_end(trials)
    assert asked == [True, False, False] and len(stops) == 1


def test_no_trial_is_asked_before_the_loop_of_ray_tune(watch):
    assert not watch.stop()


def test_a_trial_that_stopped_on_request_has_not_ended(watch):
    answer = {"epoch": 0, "test.loss": float("nan"), "done": True, "interrupted": "at a checkpoint"}
    trial = SimpleNamespace(**vars(TRIAL), last_result=answer)
    watch._records["t0000"].epoch = 2
    watch.on_trial_result(1, [], trial, answer)
    watch.on_trial_complete(1, [], trial)
    assert watch._records["t0000"] == TrialRecord("t0000", 0, {"lr": 0.1}, epoch=2)


def test_a_trial_that_stopped_early_is_finished_with_the_reason(watch):
    last = {"epoch": 2, "where": 0.5, "done": True, "stopped_early": "test.loss has not improved"}
    watch.on_trial_complete(1, [], SimpleNamespace(**vars(TRIAL), last_result=last))
    record = watch._records["t0000"]
    assert (record.state, record.reason) == ("finished", "test.loss has not improved")
