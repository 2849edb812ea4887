"""Sweeps on the shared cluster."""

import json
import logging
import math
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml
from ray import tune

from ray_classy.checkpoint import load_checkpoint
from ray_classy.errors import ConfigError, ResourceError, RunError, RunFolderError
from ray_classy.ray_compat.cluster import HEAD
from ray_classy.tasks import build_task
from ray_classy.tasks.task_config import checked
from ray_classy.trainer import LocalTrainer, RayTrainer
from ray_classy.tune import TaskTuner
from ray_classy.tune.folder import SweepFolder
from tests.tune.sweeps import LR, EndsAtFile, sweep_config

pytestmark = pytest.mark.ray


def run(folder, config, name="sweep", **options):
    trainer = options.pop("trainer", RayTrainer(storage_path=str(folder), name=name))
    return TaskTuner(config, trainer=trainer, progress=False, **options).fit()


def trunk(checkpoint):
    return load_checkpoint(checkpoint)["classy_state_dict"]["base_model"]["model"]["trunk"]


def log_of(result, name):
    with open(os.path.join(result.path, name, "log.txt")) as file:
        return file.read()


def starts_of(result, name):
    with open(os.path.join(result.path, name, "run.json")) as file:
        return len(json.load(file)["starts"])


@pytest.fixture(scope="module")
def random_sweep(ray_cluster, tmp_path_factory):
    return run(tmp_path_factory.mktemp("random"), sweep_config())


def test_every_trial_is_trained_to_its_end(random_sweep):
    assert [record.state for record in random_sweep.trials] == ["finished"] * 4
    assert [record.epoch for record in random_sweep.trials] == [3] * 4


def test_trials_have_short_names(random_sweep):
    assert [record.name for record in random_sweep.trials] == ["t0000", "t0001", "t0002", "t0003"]


def test_a_trials_config_is_a_plain_task_config(random_sweep):
    for record in random_sweep.trials:
        config = random_sweep.config_of(record)
        checked(config)
        assert config["optimizer"]["param_schedulers"]["lr"]["start_value"] == record.params[LR]
        assert config["tune"] == {}


def test_a_trial_ends_with_the_weights_of_an_ordinary_run(random_sweep, tmp_path):
    record = random_sweep.trials[1]
    alone = LocalTrainer(storage_path=str(tmp_path)).train(build_task(random_sweep.config_of(record)))
    ours, theirs = trunk(random_sweep.checkpoint_of(record)), trunk(alone.checkpoint)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert alone.metrics["test"]["accuracy"]["top_1"] == record.metrics["test.accuracy.top_1"]


def test_a_trial_has_the_files_of_a_run(random_sweep):
    folder = os.path.join(random_sweep.path, "t0002")
    names = set(os.listdir(folder))
    assert names >= {"config.yaml", "run.json", "metrics.jsonl", "log.txt", "trial.json", "reports.jsonl"}
    with open(os.path.join(folder, "metrics.jsonl")) as file:
        assert [json.loads(line)["phase_type"] for line in file] == ["train", "test"] * 3


def test_the_best_trial_has_the_best_metric(random_sweep):
    values = [record.metrics["test.accuracy.top_1"] for record in random_sweep.trials]
    assert random_sweep.best.metrics["test.accuracy.top_1"] == max(values)
    assert random_sweep.get_best_result().metrics["test.accuracy.top_1"] == max(values)


def test_the_best_config_is_written_down_as_a_plain_config(random_sweep):
    with open(os.path.join(random_sweep.path, "best.yaml")) as file:
        written = yaml.safe_load(file)
    assert written["optimizer"] == random_sweep.best_config["optimizer"]
    assert build_task(written).num_epochs == 3


def test_the_best_checkpoint_can_be_loaded(random_sweep):
    assert load_checkpoint(random_sweep.best_checkpoint)["classy_state_dict"]["train_phase_idx"] == 2


def test_the_result_is_a_result_grid(random_sweep):
    assert isinstance(random_sweep, tune.ResultGrid)
    assert len(random_sweep) == 4 and random_sweep.num_terminated == 4 and random_sweep.num_errors == 0
    assert [result.config[LR] for result in random_sweep] == [record.params[LR] for record in random_sweep.trials]
    frame = random_sweep.get_dataframe()
    assert list(frame["epoch"]) == [3] * 4 and list(frame["trial_id"]) == ["t0000", "t0001", "t0002", "t0003"]
    assert len(random_sweep[0].metrics_dataframe) == 3 and random_sweep[0].checkpoint is not None


def test_only_the_latest_and_the_best_checkpoints_stay(random_sweep):
    for record in random_sweep.trials:
        names = [name for name in os.listdir(os.path.join(random_sweep.path, record.name)) if name.startswith("epoch")]
        assert 2 <= len(names) <= 3 and record.checkpoint in names


def test_the_table_has_a_row_for_each_trial(random_sweep):
    lines = random_sweep.table().splitlines()
    assert len(lines) == 5 and lines[1].startswith(random_sweep.best.name)


def test_a_taken_name_is_refused(random_sweep):
    with pytest.raises(RunFolderError, match="there is a run 'sweep'"):
        run(os.path.dirname(random_sweep.path), sweep_config())


def test_resuming_a_finished_sweep_runs_nothing(random_sweep):
    before = [starts_of(random_sweep, record.name) for record in random_sweep.trials]
    again = run(None, sweep_config(), name=None, resume=random_sweep.path)
    assert [starts_of(again, record.name) for record in again.trials] == before
    assert again.best.name == random_sweep.best.name


def test_another_space_is_refused_on_resume(random_sweep):
    other = sweep_config({"search": "loguniform", "lower": 1e-3, "upper": 2.0}, num_epochs=4)
    with pytest.raises(RunFolderError) as caught:
        run(None, other, name=None, resume=random_sweep.path)
    assert f"{LR}.upper: 1.0 -> 2.0" in str(caught.value) and "num_epochs: 3 -> 4" in str(caught.value)
    assert SweepFolder.existing(random_sweep.path).record.facts()["status"] == "finished"


def test_a_refused_resume_leaves_a_sweep_without_trials_as_it_is(ray_cluster, tmp_path):
    folder = SweepFolder.create(str(tmp_path), "sweep")
    folder.describe(None, config=sweep_config(), metric="test.accuracy.top_1", mode="max", total=4)
    folder.finish("interrupted")
    folder.release()
    with pytest.raises(RunFolderError, match="num_epochs: 3 -> 4"):
        run(None, sweep_config(num_epochs=4), name=None, resume=folder.path)
    assert folder.record.facts()["status"] == "interrupted"


def test_the_folder_of_a_run_is_no_sweep(random_sweep):
    with pytest.raises(RunFolderError, match="is a run, not a sweep"):
        run(None, sweep_config(), name=None, resume=os.path.join(random_sweep.path, "t0000"))


@pytest.mark.full
def test_extending_adds_the_trials_that_come_next_and_trains_the_best_longer(random_sweep, tmp_path):
    config = sweep_config(tune={"num_samples": 2})
    part = run(tmp_path, config)
    more = run(None, config, name=None, extend=part.path, num_samples=2, num_epochs=5, best=1)
    epochs = {record.name: record.epoch for record in more.trials}
    assert epochs.pop(part.best.name) == 5 and set(epochs.values()) == {3}
    assert "resuming from" in log_of(more, part.best.name)
    for ours, theirs in zip(more.trials, random_sweep.trials, strict=True):
        assert ours.params[LR] == theirs.params[LR]
        assert ours.name == part.best.name or ours.metrics == theirs.metrics


@pytest.mark.full
def test_the_best_is_trained_longer_where_the_number_of_epochs_is_searched(ray_cluster, tmp_path):
    config = sweep_config(0.1, {"num_samples": 1}, num_epochs={"search": "grid_search", "values": [1, 2]})
    result = run(tmp_path, config)
    longer = run(None, config, name=None, extend=result.path, num_epochs=3, best=1)
    epochs = [record.epoch for record in longer.trials]
    assert epochs.pop(result.best.index) == 3 and epochs == [3 - (result.best.index + 1)]
    assert [record.params for record in longer.trials] == [{"num_epochs": 1}, {"num_epochs": 2}]
    assert f"{longer.trials[result.best.index].epoch}/3" in longer.table()


def test_asha_stops_bad_trials(ray_cluster, tmp_path):
    scheduler = {"name": "asha", "grace_period": 1, "reduction_factor": 2}
    rates = {"search": "grid_search", "values": [0.1, 1e-6, 0.1, 1e-6, 1e-6, 1e-6]}
    result = run(tmp_path, sweep_config(rates, {"num_samples": 1, "scheduler": scheduler}, num_epochs=4))
    assert sum(record.epoch for record in result.trials) < 6 * 4
    stopped = [record for record in result.trials if record.state == "stopped"]
    assert stopped and all("by asha at epoch" in record.reason for record in stopped)
    assert result.best.params[LR] in (0.1, "0.1#2") and result.best.epoch == 4


@pytest.mark.full
def test_hyperband_goes_on_from_where_it_paused(ray_cluster, tmp_path):
    section = {"num_samples": 6, "scheduler": {"name": "hyperband", "max_t": 4, "reduction_factor": 2}}
    result = run(tmp_path, sweep_config(tune=section, num_epochs=4))
    assert not result.num_errors and max(record.epoch for record in result.trials) == 4
    resumed = [record.name for record in result.trials if "resuming from" in log_of(result, record.name)]
    assert resumed
    for name in resumed:
        with open(os.path.join(result.path, name, "reports.jsonl")) as file:
            epochs = [json.loads(line)["epoch"] for line in file]
        assert epochs == list(range(1, len(epochs) + 1))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.full)])
def test_pbt_clones_the_better_trial_and_mutates(ray_cluster, tmp_path, workers):
    section = {
        "num_samples": 1,
        "scheduler": {"name": "pbt", "perturbation_interval": 1, "quantile_fraction": 0.5, "resample_probability": 0.0},
    }
    epochs = 6
    if workers > 1:  # each perturbation starts a new group of workers, which takes a while
        section["scheduler"]["perturbation_interval"] = 2
    config = sweep_config(tune=section, num_epochs=epochs)
    config["hooks"] = [{"name": "say_state"}, {"name": "slow", "seconds": 0.1}]
    config["seed"] = 1
    config["tune"]["num_samples"] = 4
    config["model"]["dropout"] = {"search": "uniform", "lower": 0.0, "upper": 0.5}
    config["ray"] = {"num_workers": workers, "resources_per_worker": {"CPU": 2 / workers}}
    result = run(tmp_path, config)
    assert any(record.clones for record in result.trials) and not result.num_errors
    for record in result.trials:
        log = log_of(result, record.name)
        for clone in record.clones:
            match = re.search(rf"resumed from (epoch_(\d+)-step_\d+) of trial {clone.of}\n", log)
            log, epoch = log[match.end() :], int(match[2])
            # the weights are the other trial's at that epoch
            source = re.findall(rf"end of phase {2 * epoch - 1} weights (\S+)", log_of(result, clone.of))
            start = re.search(r"start where (\S+) weights (\S+)", log)
            assert start[2] in source
            # `where` goes on
            assert float(start[1]) == pytest.approx(epoch / epochs)
            # the learning rate in use is the mutated one, at that place of its schedule
            begun = re.search(r"phase \d+ where \S+ lr (\S+)", log)
            rate = clone.params[LR] / 2 * (1 + math.cos(math.pi * epoch / epochs))
            assert float(begun[1]) == pytest.approx(rate, rel=1e-5)
        # all values that it ended with are those of its last clone
        config = result.config_of(record)
        assert config["model"]["dropout"] == record.params["model.dropout"]
        assert config["optimizer"]["param_schedulers"]["lr"]["start_value"] == record.params[LR]


@pytest.fixture(scope="module")
def failing_sweep(ray_cluster, tmp_path_factory):
    ways = [[{"name": "dies", "phase": 2, "how": how}] for how in ("raise", "memory", "nan", "kill")]
    hooks = {"search": "grid_search", "values": [[], *ways]}
    return run(tmp_path_factory.mktemp("failing"), sweep_config(0.1, {"num_samples": 1}, hooks=hooks, num_epochs=2))


def test_trials_that_fail_do_not_end_the_sweep(failing_sweep):
    assert [record.state for record in failing_sweep.trials] == ["finished", *["failed"] * 4]
    assert failing_sweep.best.name == "t0000" and failing_sweep.num_errors == 4


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (1, "ValueError: the hook had enough"),
        (2, "OutOfMemoryError: no memory left"),
        (3, "FloatingPointError: the loss is nan in step 0 of train phase 1"),
        (4, "died"),
    ],
)
def test_the_reason_of_a_failure_is_recorded(failing_sweep, index, reason):
    assert reason in failing_sweep.trials[index].reason
    assert reason in str(failing_sweep[index].error)


def test_the_traceback_is_in_the_trials_log(failing_sweep):
    assert "Traceback" in log_of(failing_sweep, "t0001") and "sweeps.py" in log_of(failing_sweep, "t0001")


def test_a_killed_trial_is_tried_again_and_ends_with_the_same_weights(ray_cluster, tmp_path):
    marker = str(tmp_path / "marker")
    hooks = [[], [{"name": "dies", "phase": 2, "how": "kill", "marker": marker}]]
    ray_section = {"max_failures": 1, "resources_per_worker": {"CPU": 2}}
    config = sweep_config(0.1, {"num_samples": 1}, hooks={"search": "grid_search", "values": hooks}, ray=ray_section)
    result = run(tmp_path, config)
    assert os.path.exists(marker)
    assert [(record.state, record.reason) for record in result.trials] == [("finished", None)] * 2
    theirs, ours = (trunk(result.checkpoint_of(record)) for record in result.trials)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.full
def test_if_all_trials_fail_the_first_reason_is_told(ray_cluster, tmp_path):
    hooks = [{"name": "dies", "phase": 0, "how": "raise"}]
    with pytest.raises(RunError, match="all 2 trials failed; t0000: ValueError: the hook had enough"):
        run(tmp_path, sweep_config(tune={"num_samples": 2}, hooks=hooks))


def test_a_trial_leaves_nothing_behind_for_the_next_in_its_process(ray_cluster, tmp_path):
    hooks = {"search": "grid_search", "values": [[], [{"name": "leaves_a_mess"}], [{"name": "say_state"}]]}
    config = sweep_config(0.1, {"num_samples": 1, "max_concurrent_trials": 1}, hooks=hooks, num_epochs=1)
    first, mess, last = run(tmp_path, config).trials
    assert mess.ended and last.metrics == first.metrics


class Raises(tune.Callback):
    def on_trial_result(self, iteration, trials, trial, result, **info):
        raise KeyError("nobody home")


@pytest.fixture(scope="module")
def sweep_of_objects(ray_cluster, tmp_path_factory):
    """A sweep given by Ray's own config objects, and what was logged."""
    folder, logged = tmp_path_factory.mktemp("objects"), []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())
    logging.getLogger("ray_classy").addHandler(handler)
    config = sweep_config(num_epochs=3)
    del config["tune"]
    chosen = tune.TuneConfig(metric="test.loss", mode="min", num_samples=2, scheduler=tune.schedulers.FIFOScheduler())
    run_config = tune.RunConfig(name="own", storage_path=str(folder), stop={"epoch": 2}, callbacks=[Raises()])
    result = TaskTuner(config, tune_config=chosen, run_config=run_config, progress=False).fit()
    logging.getLogger("ray_classy").removeHandler(handler)
    return result, folder, logged


def test_rays_own_config_objects_are_taken(sweep_of_objects):
    result, folder, _ = sweep_of_objects
    assert result.path == str(folder / "own") and len(result) == 2
    assert result.best.metrics["test.loss"] == min(record.metrics["test.loss"] for record in result.trials)


def test_a_threshold_ends_a_trial(sweep_of_objects):
    for record in sweep_of_objects[0].trials:
        assert (record.state, record.epoch, record.reason) == ("stopped", 2, "epoch reached 2")


def test_a_callback_that_raises_is_told_once_and_left_out(sweep_of_objects):
    told = [line for line in sweep_of_objects[2] if "the callback Raises raised KeyError in on_trial_result" in line]
    assert len(told) == 1


def test_a_task_of_another_name_is_a_choice_too(ray_cluster, tmp_path):
    name = {"search": "grid_search", "values": ["classification_task", "fine_tuning"]}
    with pytest.raises(ConfigError, match="with name fine_tuning: a fine-tuning task needs weights"):
        run(tmp_path, sweep_config(0.1, {"num_samples": 1}, name=name))


def test_optuna_chooses_parameters(ray_cluster, tmp_path):
    pytest.importorskip("optuna")
    config = sweep_config(tune={"num_samples": 4, "search_alg": {"name": "optuna"}}, num_epochs=1)
    first = run(tmp_path, config)
    assert len({record.params[LR] for record in first.trials}) == 4


def test_more_than_the_cluster_has_is_refused(ray_cluster, tmp_path):
    with pytest.raises(ResourceError, match="a trial needs 1 worker x 64 CPU, but the cluster has 4 CPU on 1 node"):
        run(tmp_path, sweep_config(tune={"resources_per_trial": {"CPU": 64}}))
    assert not os.path.exists(tmp_path / "sweep")


def held(cluster, groups):
    """The placement groups that hold something, other than those given."""
    table = cluster.util.placement_group_table().items()
    return [group for identity, group in table if identity not in groups and group["state"] != "REMOVED"]


@pytest.mark.full
@pytest.mark.parametrize("in_thread", [False, True])
def test_a_sweep_that_ends_early_leaves_its_trials_at_their_step(ray_cluster, tmp_path, in_thread):
    slow, word = str(tmp_path / "slow"), str(tmp_path / "word")
    open(slow, "w").close()
    hooks = [
        {"name": "slow_steps", "file": slow, "seconds": 0.5},
        {"name": "leaves_word", "file": word, "step": 14},
        {"name": "say_state"},
    ]
    config = sweep_config(tune={"num_samples": 1}, hooks=hooks)
    options = {"run_config": tune.RunConfig(stop=EndsAtFile(word))}
    if in_thread:
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(run, tmp_path, config, **options).result(120)
    else:
        result = run(tmp_path, config, **options)
    assert [(trial.state, trial.reason) for trial in result.trials] == [("stopped", "by EndsAtFile")]
    checkpoints = sorted(name for name in os.listdir(f"{result.path}/t0000") if name.startswith("epoch_"))
    assert 14 <= int(checkpoints[-1][-6:]) < 20
    os.remove(slow)
    longer = run(tmp_path, config, extend=result.path, num_epochs=3, trainer=RayTrainer())
    assert longer.trials[0].epoch == 3 and starts_of(longer, "t0000") == 2
    calm = run(tmp_path, config, name="calm")
    ours, theirs = (trunk(f"{sweep.path}/t0000/last") for sweep in (longer, calm))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.full
def test_stopped_trials_of_several_workers_free_them_at_once(ray_cluster, tmp_path):
    scheduler = {"name": "asha", "grace_period": 1, "reduction_factor": 2}
    config = sweep_config({"search": "grid_search", "values": [0.1, 1e-6]}, {"num_samples": 1, "scheduler": scheduler})
    config = {**config, "num_epochs": 4, "ray": {"num_workers": 2}}
    config["hooks"] = [{"name": "say_state"}, {"name": "slow", "seconds": 0.5}]
    config["tune"]["max_concurrent_trials"] = 1
    groups, before = ray_cluster.util.placement_group_table().keys(), ray_cluster.available_resources()
    result = run(tmp_path, config)
    good, bad = result.trials
    assert good.state == "finished" and bad.state == "stopped" and bad.epoch < 4
    assert "run t0000 on 2 processes" in log_of(result, "t0000")
    for _ in range(100):
        free, left = ray_cluster.available_resources(), held(ray_cluster, groups)
        if not left and all(free.get(name, 0) >= before.get(name, 0) for name in ("CPU", HEAD)):
            return
        time.sleep(0.1)
    raise AssertionError(f"free before {before}, and now {free}; held: {left}")


@pytest.mark.full
def test_extending_an_asha_sweep_trains_the_best_to_the_end(ray_cluster, tmp_path):
    scheduler = {"name": "asha", "grace_period": 1, "reduction_factor": 2}
    config = sweep_config(tune={"num_samples": 3, "scheduler": scheduler}, num_epochs=2)
    result = run(tmp_path, config)
    longer = run(None, config, name=None, extend=result.path, num_epochs=5, best=2)
    assert sorted(record.epoch for record in longer.trials)[1:] == [5, 5]


@pytest.mark.full
def test_optuna_goes_on_with_new_points_and_unfinished_trials(ray_cluster, tmp_path):
    pytest.importorskip("optuna")
    config = sweep_config(tune={"num_samples": 4, "search_alg": {"name": "optuna"}}, num_epochs=2)
    first = run(tmp_path, config)
    record = first.trials[1]  # as if the driver had been killed under it
    record.state, record.epoch = "running", 1
    first._folder.write_trial(record)
    again = run(None, config, name=None, resume=first.path)
    assert [one.state for one in again.trials] == ["finished"] * 4
    more = run(None, config, name=None, extend=first.path, num_samples=4)
    assert [one.params for one in more.trials[:4]] == [one.params for one in first.trials]
    assert len({one.params[LR] for one in more.trials}) == 8


@pytest.mark.full
def test_pb2_goes_through(ray_cluster, tmp_path):
    pytest.importorskip("sklearn")
    section = {"num_samples": 4, "scheduler": {"name": "pb2", "perturbation_interval": 1}}
    result = run(tmp_path, sweep_config(tune=section, num_epochs=5))
    assert [record.state for record in result.trials] == ["finished"] * 4
    low, high = 1e-3, 1.0
    assert all(low <= clone.params[LR] <= high for record in result.trials for clone in record.clones)


@pytest.mark.full
def test_a_trial_whose_worker_is_killed_is_tried_again(ray_cluster, tmp_path):
    marker = str(tmp_path / "marker")
    hooks = [{"name": "say_state"}, {"name": "dies", "phase": 2, "how": "kill", "marker": marker}]
    section = {"num_workers": 2, "max_failures": 1}
    result = run(tmp_path, sweep_config(tune={"num_samples": 1}, hooks=hooks, ray=section, num_epochs=2))
    assert os.path.exists(marker) and result.trials[0].state == "finished"
    assert "resuming from" in log_of(result, "t0000")


@pytest.mark.full
def test_an_error_of_a_user_on_workers_is_not_tried_again(ray_cluster, tmp_path):
    hooks = [{"name": "dies", "phase": 2, "how": "raise"}]
    config = sweep_config(tune={"num_samples": 1}, hooks=hooks, ray={"num_workers": 2, "max_failures": 3})
    with pytest.raises(RunError, match="the hook had enough"):
        run(tmp_path, config)


@pytest.mark.full
def test_checkpoints_that_were_the_best_stay_when_a_sweep_goes_on(ray_cluster, tmp_path):
    config = sweep_config(0.1, {"num_samples": 1}, num_epochs=1, seed={"search": "grid_search", "values": [1]})
    result = run(tmp_path, config)
    folder = os.path.join(result.path, "t0000")
    manifest = os.path.join(result.best_checkpoint, "manifest.json")
    with open(manifest) as file:
        facts = json.load(file)
    facts["metrics"]["test"]["accuracy"]["top_1"] = 1.0  # as if the first epoch had been the best there can be
    with open(manifest, "w") as file:
        json.dump(facts, file)
    run(None, config, name=None, extend=result.path, num_epochs=6)
    epochs = sorted(int(name[6:10]) for name in os.listdir(folder) if name.startswith("epoch"))
    assert {1, 6} <= set(epochs) and len(epochs) <= 3, "the two best ones and the newest are kept"
    assert os.readlink(os.path.join(folder, "best")).startswith("epoch_0001")
    assert os.readlink(os.path.join(folder, "last")).startswith("epoch_0006")
