"""The config trains, with the components of this project."""

from pathlib import Path

from ray_classy.config import load_config
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer

CONFIG = Path(__file__).parent / "config.yaml"


def test_the_config_trains(tmp_path):
    task = build_task(load_config(str(CONFIG)))
    result = LocalTrainer(storage_path=str(tmp_path)).train(task)
    assert result.metrics["test"]["accuracy"]["top_1"] > 0.9
    assert len(task.hooks[1].state.norms) == 3
