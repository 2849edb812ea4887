import pathlib
import re

import pytest

import ray_classy
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from tests.tasks.line_task import LineTask


def test_a_direct_subclass_trains_with_metrics_and_checkpoints(tmp_path):
    task = LineTask()
    result = LocalTrainer(str(tmp_path)).train(task)
    assert task.weight.item() == pytest.approx(2, abs=0.05) and result.checkpoint is not None
    assert [line["metrics"]["loss"] for line in result.metrics_history][1] < 0.01


def test_a_direct_subclass_resumes_where_it_was_interrupted(tmp_path):
    with pytest.raises(ZeroDivisionError):
        LocalTrainer(str(tmp_path), "r").train(LineTask(fail_at=15))
    resumed, straight = LineTask(), LineTask()
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    LocalTrainer(str(tmp_path), "s").train(straight)
    assert (resumed.weight, resumed.bias) == (straight.weight, straight.bias) and resumed.loaded_checkpoint


def test_a_direct_subclass_keeps_the_config_that_it_was_built_from():
    config = {"name": "fit_a_line", "lr": 0.1}
    assert build_task(config).config == config and LineTask().config is None


def test_the_dry_run_of_a_direct_subclass_tries_nothing():
    assert LineTask().preflight() == {} and LineTask().planned_phases() == LineTask().reported_metrics() == []


@pytest.mark.parametrize("pattern", [
    r"\btask\._[a-z]", r"isinstance\(task, (ClassificationTask|FineTuningTask)", r"getattr\((self\.)?task, ",
])  # fmt: skip
def test_only_tasks_look_behind_the_interface(pattern):
    package = pathlib.Path(ray_classy.__file__).parent
    files = [file.relative_to(package) for file in package.rglob("*.py")]
    others = [file for file in files if file.parts[0] not in ("tasks", "hooks")]
    assert len(others) > 100
    assert [str(file) for file in others if re.search(pattern, (package / file).read_text())] == []
