from types import SimpleNamespace

import pytest

from ray_classy.trainer.retention import Retention
from ray_classy.tune.folder import SweepFolder, TrialRecord
from ray_classy.tune.watch import Watch

NAMES = [f"epoch_000{epoch}-step_0000{epoch}0" for epoch in (1, 2, 3)]
TRIAL = SimpleNamespace(trial_id="t0000", config={"lr": 0.1})


class SilentTable:
    def reported(self, record, where):
        pass


@pytest.fixture
def watch(tmp_path):
    retention = Retention(1, "test.loss", "min")
    records = {"t0000": TrialRecord("t0000", 0, {"lr": 0.1})}
    folder = SweepFolder(str(tmp_path))
    return Watch(folder, records, SilentTable(), retention, None, False, None, lambda result: "")


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
