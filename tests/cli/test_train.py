"""`ray-classy train --local`: results, resuming, evaluating."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from ray_classy.cli.main import main
from ray_classy.cli.output import json_text
from ray_classy.cli.train import _is_example
from ray_classy.hooks import ClassyHook
from ray_classy.registry import Registry
from ray_classy.trainer.run_spec import RunSpec
from ray_classy.user_code import UserCode


def test_the_summary_shows_metrics_places_and_commands(local, tmp_path):
    outcome = local("--name", "one")
    assert outcome.code == 0
    for line in (
        "test.accuracy.top_1",
        "runs/one/metrics.jsonl",
        "runs/one/epoch_0001-step_000003",
        "ray-classy train --resume runs/one --local num_epochs=2",
        "ray-classy evaluate runs/one\n",
        "ray-classy train --images DIR",
    ):
        assert line in outcome.out
    assert (tmp_path / "runs/one/metrics.jsonl").exists()


@pytest.mark.parametrize("name", ["image_path", "video_path", "synthetic_video", "of_the_user"])
def test_own_images_are_suggested_after_runs_on_example_images_alone(name):
    assert _is_example(RunSpec(config={"dataset": {"train": {"name": "digits"}}}))
    assert not _is_example(RunSpec(config={"dataset": {"train": {"name": name}}}))


def test_json_is_one_object_with_the_last_metrics(local, tmp_path):
    outcome = local("--name", "one", "--json")
    result = outcome.json
    assert set(result["metrics"]) == {"train", "test"}
    assert set(result["metrics"]["test"]["accuracy"]) == {"top_1", "top_3"}
    assert result["run_dir"] == str(tmp_path / "runs/one")
    assert result["checkpoint"] == str(tmp_path / "runs/one/epoch_0001-step_000003")
    assert (result["name"], result["status"], result["config"]) == ("one", "finished", "tiny.yaml")


def test_json_keeps_what_others_print_off_standard_output(config, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "loud.py").write_text("import os\nprint('hello')\nos.system('echo hello')\n")
    assert main(["train", config, "--local", "--json", "imports=[loud]"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["status"] == "finished"
    assert err.count("hello") == 2


def test_json_has_null_for_what_is_no_number():
    assert json_text({"loss": float("nan"), "more": [float("inf"), 1.5]}) == '{"loss": null, "more": [null, 1.5]}'


def test_a_run_that_stopped_early_says_why_and_how_to_go_on(local, ray_classy):
    hook = "hooks=[{name: early_stopping, metric: test.loss, patience: 1, min_delta: 1000}]"
    outcome = local(hook, "num_epochs=4", "--name", "one")
    assert "the run stopped early: test.loss has not improved for 1 phase; its best is" in outcome.out
    assert "ray-classy train --resume runs/one --local hooks.0.patience=2" in outcome.out
    assert "runs/one: finished (stopped early: test.loss has not improved" in ray_classy("ls", "runs/one").out
    again = ray_classy("train", "--resume", "runs/one", "--local", "--json").json
    assert not again["trained"] and again["stopped_early"].startswith("test.loss has not improved")
    more = ray_classy("train", "--resume", "runs/one", "--local", "--json", "hooks.0.patience=3").json
    assert more["trained"] and more["stopped_early"] is None


def test_overrides_and_flags_win_over_the_file(local, tmp_path):
    local("model.hidden_dims=[5]", "--name", "one", "--storage-path", "elsewhere")
    kept = yaml.safe_load((tmp_path / "elsewhere/one/config.yaml").read_text())
    assert kept["model"]["hidden_dims"] == [5]


def test_a_name_that_looks_like_a_number_stays_text(local, tmp_path):
    assert local("--name", "007").code == 0
    assert (tmp_path / "runs/007/run.json").exists()


def test_a_hook_that_logs_is_added_when_there_is_none(local, tmp_path):
    local("--name", "one", "hooks=[{name: progress_bar}]")
    hooks = yaml.safe_load((tmp_path / "runs/one/config.yaml").read_text())["hooks"]
    assert [hook["name"] for hook in hooks] == ["progress_bar", "loss_lr_meter_logging"]


def test_a_hook_that_logs_is_not_added_twice(local, tmp_path):
    local("--name", "one", "hooks=[{name: loss_lr_meter_logging, log_freq: 2}]")
    hooks = yaml.safe_load((tmp_path / "runs/one/config.yaml").read_text())["hooks"]
    assert hooks == [{"name": "loss_lr_meter_logging", "log_freq": 2}]


def test_resuming_goes_on_with_the_runs_own_config(local, ray_classy):
    local("--name", "one", "model.hidden_dims=[5]")
    outcome = ray_classy("train", "--resume", "runs/one", "--local", "--json", "num_epochs=3")
    assert outcome.json["checkpoint"].endswith("epoch_0003-step_000009")
    assert len(Path("runs/one/metrics.jsonl").read_text().splitlines()) == 6


def test_resuming_a_finished_run_trains_nothing(local, ray_classy):
    local("--name", "one")
    before = Path("runs/one/run.json").read_text()
    outcome = ray_classy("train", "--resume", "runs/one", "--local")
    assert outcome.code == 0
    assert "the run one is already finished; nothing was trained" in outcome.out
    assert "runs/one/epoch_0001-step_000003" in outcome.out
    assert Path("runs/one/run.json").read_text() == before


def test_the_same_command_goes_on_with_the_run_that_it_began(local, caplog):
    local("--name", "calm", "num_epochs=3")
    local("--name", "one", "num_epochs=3")
    run = Path("runs/one")
    for newest in sorted(run.glob("epoch_*"))[1:]:  # as if it had been killed in the second epoch
        shutil.rmtree(newest)
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    assert local("--name", "one", "num_epochs=3").code == 0
    assert re.search("resuming from .*/runs/one/epoch_0001-step_000003", caplog.text)
    lines = [Path(f"runs/{name}/metrics.jsonl").read_text().splitlines() for name in ("one", "calm")]
    one, calm = ([json.loads(line)["metrics"] for line in found] for found in lines)
    assert one == calm


def test_the_same_command_goes_on_where_the_data_give_the_number_of_classes(local, tmp_path):
    text = (tmp_path / "tiny.yaml").read_text()
    heads = "{name: fully_connected, unique_id: a, in_plane: 32, fork_block: block1-0}"
    model = "small_input: true, basic_layer: true, num_blocks: [1, 1], init_planes: 16"
    text = text.replace("  name: mlp\n  input_dim: 64\n  output_dim: 10\n  hidden_dims: [8]\n", "")
    text = text.replace("model:", f"model: {{name: resnet, {model}, heads: [{heads}]}}")
    (tmp_path / "tiny.yaml").write_text(text.replace("name: digits", "name: digits, image_mode: RGB"))
    assert local("--name", "one").code == 0
    assert "is already finished" in local("--name", "one").out


def test_the_same_command_goes_on_when_the_run_that_it_began_from_is_another_by_now(local):
    local("--name", "first")
    begin = ("--name", "one", "--checkpoint", "runs/first", "num_epochs=2")
    assert local(*begin).code == 0
    local("--name", "more", "num_epochs=2")
    shutil.rmtree("runs/first")
    assert "is already finished" in local(*begin).out


def test_a_run_that_was_gone_on_with_otherwise_is_not_that_of_the_first_command(local, ray_classy):
    local("--name", "one")
    ray_classy("train", "--resume", "runs/one", "--local", "num_epochs=2")
    outcome = local("--name", "one")
    assert outcome.code == 1 and "there is a run 'one'" in outcome.err and "--resume" in outcome.err


def test_a_run_that_was_resumed_as_it_is_stays_that_of_the_first_command(local, ray_classy):
    local("--name", "one")
    facts = json.loads(Path("runs/one/run.json").read_text())
    Path("runs/one/run.json").write_text(json.dumps({**facts, "status": "failed"}))
    assert ray_classy("train", "--resume", "runs/one", "--local").code == 0
    assert "is already finished" in local("--name", "one").out


def test_the_name_of_a_run_that_died_before_it_began_is_free(local, tmp_path):
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    assert "is being started by another process" in local("--name", "one").err
    os.utime(folder, (0, 0))
    assert local("--name", "one").code == 0


def test_the_name_of_a_sweep_is_taken(local, tmp_path):
    folder = tmp_path / "runs" / "sweep"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"kind": "sweep"}))
    (folder / "config.yaml").write_text("seed: 1\n")
    assert "there is a run 'sweep'" in local("--name", "sweep").err


def test_the_same_command_says_that_its_run_is_finished(local):
    local("--name", "one")
    before = Path("runs/one/run.json").read_text()
    outcome = local("--name", "one")
    assert outcome.code == 0 and "the run one is already finished; nothing was trained" in outcome.out
    assert Path("runs/one/run.json").read_text() == before


def test_resuming_finds_the_modules_beside_the_first_config(local, ray_classy, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "own_module_of_a_project.py").write_text("")
    (folder / "c.yaml").write_text((tmp_path / "tiny.yaml").read_text() + "imports: [own_module_of_a_project]\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert ray_classy("train", "project/c.yaml", "--local", "--name", "one").code == 0
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(folder)])
    monkeypatch.delitem(sys.modules, "own_module_of_a_project")
    assert ray_classy("train", "--resume", "runs/one", "--local", "num_epochs=2").code == 0


def test_a_file_run_json_of_another_program_is_no_record(config, ray_classy, tmp_path):
    (tmp_path / "run.json").write_text('{"starts": 3, "status": ["x"]}')
    (tmp_path / "beside_a_foreign_file.py").write_text("")
    assert ray_classy("train", config, "--local", "imports=[beside_a_foreign_file]").code == 0
    (tmp_path / "run.json").write_text("{}")
    assert "its run.json is not the record of a run" in ray_classy("train", "--resume", ".", "--local").err


@pytest.fixture
def foreign_run(config, ray_classy, tmp_path, monkeypatch):
    """A run with a module in its folder, and a record that names that folder."""
    (tmp_path / "planted_module.py").write_text("")
    (tmp_path / "c.yaml").write_text((tmp_path / "tiny.yaml").read_text() + "imports: [planted_module]\n")
    assert ray_classy("train", "c.yaml", "--local", "--name", "one").code == 0
    monkeypatch.delitem(sys.modules, "planted_module")
    monkeypatch.setattr(sys, "meta_path", [one for one in sys.meta_path if not isinstance(one, UserCode)])
    run = tmp_path / "runs/one"
    os.rename(tmp_path / "planted_module.py", run / "planted_module.py")
    (run / "run.json").write_text((run / "run.json").read_text().replace(str(tmp_path / "c.yaml"), f"{run}/c.yaml"))
    yield run
    sys.modules.pop("planted_module", None)


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--resume", "runs/one", "--local", "num_epochs=2"),
        ("check", "--resume", "runs/one"),
        ("check", "runs/one/config.yaml"),
        ("bench-data", "runs/one/config.yaml"),
        ("check", "--resume", "runs/one", "--code", "runs/one"),
    ],
)
def test_no_code_is_run_from_the_folder_of_a_run(ray_classy, foreign_run, words):
    (foreign_run / "planted_module.py").write_text("import os\nos.mkdir('planted')\n")
    outcome = ray_classy(*words)
    assert outcome.code == 2 and "--code" in outcome.err and not os.path.exists("planted")


def test_code_names_the_folder_of_the_modules(ray_classy, foreign_run, tmp_path):
    (tmp_path / "mine").mkdir()
    os.rename(foreign_run / "planted_module.py", tmp_path / "mine/planted_module.py")
    assert ray_classy("train", "--resume", "runs/one", "--local", "num_epochs=2", "--code", "mine").code == 0


@pytest.mark.parametrize("checkpoint", ["runs/one", "runs/one/epoch_0001-step_000003"])
def test_test_only_evaluates_the_checkpoint_once(local, checkpoint):
    trained = local("--name", "one", "--json").json
    evaluated = local("test_only=true", "--checkpoint", checkpoint, "num_epochs=1", "--json").json
    assert evaluated["metrics"] == {"test": trained["metrics"]["test"]}


def test_test_only_on_the_command_line_makes_one_pass(local, ray_classy):
    local("--name", "one", "num_epochs=2")
    outcome = ray_classy(
        "train", "runs/one/config.yaml", "--local", "test_only=true", "--checkpoint", "runs/one", "--name", "two"
    )
    assert outcome.code == 0
    assert len(Path("runs/two/metrics.jsonl").read_text().splitlines()) == 1


def test_evaluating_in_a_runs_own_folder_is_refused(local, ray_classy):
    local("--name", "one")
    before = Path("runs/one/config.yaml").read_text()
    outcome = ray_classy("train", "--resume", "runs/one", "--local", "test_only=true")
    assert outcome.code == 2
    assert "test_only=true --checkpoint runs/one" in outcome.err
    assert Path("runs/one/config.yaml").read_text() == before


class _Interrupting(ClassyHook):
    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def on_step(self, task):
        if task.train_phase_idx == 1:
            raise KeyboardInterrupt


@pytest.fixture
def interrupting(monkeypatch):
    hooks = Registry.all["hook"]
    monkeypatch.setitem(hooks._classes, "interrupting", _Interrupting)


def test_an_interrupted_run_says_how_to_go_on(local, interrupting, ray_classy):
    outcome = local("--name", "one", "num_epochs=2", "hooks=[{name: interrupting}]")
    assert outcome.code == 130
    command = "ray-classy train --resume runs/one --local"
    assert outcome.err.endswith(f"ray-classy: interrupted; resume with: {command}\n")
    assert ray_classy(*command.split()[1:], "hooks=[]").code == 0


def test_json_of_an_interrupted_run_is_an_error(local, interrupting):
    outcome = local("--name", "one", "num_epochs=2", "hooks=[{name: interrupting}]", "--json")
    assert outcome.json["error"]["type"] == "KeyboardInterrupt"


def test_a_loss_that_is_no_number_is_told_without_a_traceback(local):
    outcome = local("optimizer.param_schedulers=null", "optimizer.lr=1e38", "num_epochs=3")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith("ray-classy: error: the loss is nan in step")


def test_quiet_prints_the_result_alone(local):
    outcome = local("--quiet", "--name", "q")
    assert outcome.code == 0 and outcome.err == "" and "test.accuracy.top_1" in outcome.out
    assert "train 1" in Path("runs/q/log.txt").read_text()
