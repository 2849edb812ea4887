"""`ray-classy tune`: what it refuses before anything is started."""

import json

import pytest
import yaml

from ray_classy.cli.tune import _longer
from tests.tune.sweeps import LR, sweep_config


def line_of(text):
    """The number of a line of the config, from 1."""
    with open("sweep.yaml") as file:
        return 1 + file.read().splitlines().index(text)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Writes a sweep's config with some changes, and returns its path; the working directory is its folder."""
    monkeypatch.chdir(tmp_path)

    def write(*args, **changes):
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep_config(*args, **changes), sort_keys=False))
        return "sweep.yaml"

    return write


@pytest.fixture
def refused(ray_classy, tmp_path):
    """Runs the program, which must fail, and returns what it says."""

    def run(*words, code=2):
        done = ray_classy("tune", *words)
        assert done.code == code, done.err
        assert "Traceback" not in done.err and not (tmp_path / "runs").exists()
        return done.err

    return run


def test_a_config_without_search_nodes(sweep, refused):
    assert "nothing is searched" in refused(sweep(0.1))


def test_bounds_the_wrong_way_round_have_their_line(sweep, refused):
    err = refused(sweep({"search": "loguniform", "lower": 1.0, "upper": 0.1}))
    line = line_of("        lower: 1.0")
    assert f"sweep.yaml:{line}: {LR}.lower: lower is 1.0 and upper is 0.1; lower must be below upper" in err


def test_a_bound_that_is_no_possible_value(sweep, refused):
    err = refused(sweep(seed={"search": "randint", "lower": -3, "upper": 2}))
    line = line_of("  lower: -3")
    assert f"sweep.yaml:{line}: seed: must be an integer of at least 0, not -3" in err


def test_a_choice_that_is_no_component(sweep, refused):
    err = refused(
        sweep(loss={"search": "choice", "categories": [{"name": "CrossEntropyLoss"}, {"name": "CrossEntropy"}]})
    )
    line = line_of("  - name: CrossEntropy")
    assert f"sweep.yaml:{line}: loss.name: unknown loss 'CrossEntropy'" in err


def test_a_typo_inside_a_choice_has_its_line(sweep, refused):
    good = {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [8]}
    err = refused(sweep(model={"search": "choice", "categories": [good, {**good, "hiden_dims": [4]}]}))
    line = line_of("    hiden_dims:")
    assert f"sweep.yaml:{line}: model.hiden_dims: unknown key; did you mean 'hidden_dims'" in err


def test_what_only_building_shows_is_told_with_its_values(sweep, refused):
    good = {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [8]}
    err = refused(sweep(model={"search": "choice", "categories": [good, {**good, "input_dim": 60}]}))
    assert "the model cannot take rows of the train dataset" in err and "with model" in err


def test_a_metric_that_is_not_reported(sweep, refused):
    err = refused(sweep(tune={"metric": "test.acuracy.top_1"}))
    line = line_of("  metric: test.acuracy.top_1")
    assert f"sweep.yaml:{line}: tune.metric: no metric named 'test.acuracy.top_1' is reported: did you mean" in err
    assert "train.loss, train.accuracy.top_1, test.loss, test.accuracy.top_1" in err


def test_a_search_node_on_structure_of_the_sweep(sweep, refused):
    err = refused(sweep(tune={"num_samples": {"search": "randint", "lower": 1, "upper": 4}}))
    assert "tune configures the sweep itself" in err


def test_a_typo_in_the_tune_section(sweep, refused):
    err = refused(sweep(tune={"num_sample": 3}))
    assert "tune.num_sample: unknown key; did you mean 'num_samples'" in err


def test_an_unknown_scheduler(sweep, refused):
    err = refused(sweep(tune={"scheduler": {"name": "ahsa"}}))
    assert "tune.scheduler.name: unknown scheduler 'ahsa': did you mean 'asha'" in err


def test_a_wrong_argument_of_a_scheduler(sweep, refused):
    assert "tune.scheduler.grace_period: expected an integer" in refused(
        sweep(tune={"scheduler": {"name": "asha", "grace_period": 0.5}})
    )


def test_a_grace_period_longer_than_a_trial(sweep, refused):
    err = refused(sweep(tune={"scheduler": {"name": "asha", "grace_period": 5}}))
    assert "tune.scheduler: grace_period 5 is more than the 3 epochs of a trial" in err


def test_pbt_of_what_may_not_change(sweep, refused):
    section = {"scheduler": {"name": "pbt", "hyperparam_mutations": ["model.hidden_dims.0"]}}
    model = {"name": "mlp", "input_dim": 64, "output_dim": 10}
    config = sweep(tune=section, model={**model, "hidden_dims": [{"search": "randint", "lower": 4, "upper": 9}]})
    assert "'model.hidden_dims.0' cannot change during a trial" in refused(config)


def test_pbt_does_not_change_the_length_of_a_trial(sweep, refused):
    length = {"search": "qrandn", "mean": 3, "sd": 1, "q": 1}
    named = {"scheduler": {"name": "pbt", "hyperparam_mutations": ["num_epochs"]}}
    assert "'num_epochs' cannot change during a trial" in refused(sweep(tune=named, num_epochs=length))
    config = sweep(0.1, {"scheduler": {"name": "pbt"}}, num_epochs=length)
    assert "no searched value may change during a trial" in refused(config)


def test_grids_for_optuna(sweep, refused):
    pytest.importorskip("optuna")
    config = sweep({"search": "grid_search", "values": [0.1, 0.2]}, {"search_alg": {"name": "optuna"}})
    assert "tune.search_alg: optuna does not support grids" in refused(config)


def test_trials_of_an_elastic_number_of_workers(sweep, refused):
    assert "ray.num_workers: trials of a sweep have a fixed number" in refused(sweep(ray={"num_workers": [1, 2]}))


def test_resuming_what_is_no_sweep(sweep, refused):
    assert "is not a run folder" in refused(sweep(), "--resume", "nowhere", code=1)


def test_extending_by_nothing(sweep, refused):
    assert "--extend adds trials" in refused("--extend", "runs/x")


@pytest.mark.parametrize("value", ["many", "0", "-1", "inf", "nan"])
def test_extending_to_what_is_not_a_number_of_epochs(refused, value):
    assert f"num_epochs must be a positive number, not {value!r}" in refused(
        "--extend", "runs/x", f"num_epochs={value}"
    )


def test_extending_with_other_values(sweep, refused):
    assert "leave out 'optimizer.name=adam'" in refused("--extend", "runs/x", "optimizer.name=adam")


def test_extending_and_resuming(sweep, refused):
    assert "use one of them" in refused("--extend", "runs/x", "--resume", "runs/x")


def test_training_a_config_with_search_nodes_names_the_command(ray_classy, sweep):
    done = ray_classy("train", sweep(), "--local")
    assert done.code == 2 and "ray-classy tune sweep.yaml" in done.err


def test_checking_a_sweep_tells_what_is_searched(ray_classy, sweep):
    done = ray_classy("check", sweep())
    assert done.code == 0
    assert f"# searched: {LR}: loguniform from 0.001 to 1.0" in done.out
    assert "# trials: 4 of 3 epochs, fifo, by test.accuracy.top_1 (max)" in done.out


def test_checking_a_sweep_finds_its_mistakes(ray_classy, sweep):
    assert ray_classy("check", sweep(tune={"metric": "nothing"})).code == 2


def test_errors_are_json_too(ray_classy, sweep):
    done = ray_classy("tune", sweep(0.1), "--json")
    assert json.loads(done.out)["error"]["type"] == "ConfigError"


def test_a_trial_that_was_ended_is_trained_to_its_end_and_another_one_longer():
    assert _longer(1, 100) == ("train it to its end, 100 epochs", [])
    assert _longer(4, 4) == ("train it longer", ["num_epochs=8"])
