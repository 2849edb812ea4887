"""A `~` at the start of a path is the home folder, wherever a path enters."""

import numpy as np
import pytest
from PIL import Image

from ray_classy.checkpoint import load_checkpoint, save_checkpoint
from ray_classy.config import load_config
from ray_classy.dataset import build_dataset
from ray_classy.storage import Storage
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.run_folder import RunFolder
from tests.helpers import make_task


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The home folder; the working directory, which is another one, must stay empty."""
    (tmp_path / "home").mkdir()
    (tmp_path / "cwd").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "cwd")
    yield tmp_path / "home"
    assert not list((tmp_path / "cwd").iterdir())


def test_runs_of_python(home):
    run = LocalTrainer(storage_path="~/runs", name="r").train(make_task(epochs=1))
    assert run.path == f"{home}/runs/r" and RunFolder.existing("~/runs/r").path == run.path
    LocalTrainer(resume="~/runs/r").train(make_task(epochs=1))


def test_checkpoints(home):
    save_checkpoint("~/c", {"classy_state_dict": {}})
    assert load_checkpoint("~/c") == load_checkpoint("~/c/checkpoint.torch") == {"classy_state_dict": {}}
    assert Storage("~/c").names() == ["checkpoint.torch"]


def test_configs(home):
    (home / "c.yaml").write_text("a: 1")
    assert load_config("~/c.yaml") == {"a": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"name": "image_path", "image_folder": "~/images"},
        {"name": "image_path", "image_files": ["~/images/a/1.png"]},
        {"name": "manifest", "manifest": "~/m.csv"},
        {"name": "manifest", "manifest": ["~/m.csv"], "root": "~"},
        {"name": "parquet", "files": "~/p.parquet"},
        {"name": "parquet", "files": ["~/*.parquet"], "root": "~/images"},
    ],
)
def test_data(home, options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (home / "images" / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(home / "images/a/1.png")
    (home / "m.csv").write_text("path,label\nimages/a/1.png,0\n")
    image = {"bytes": (home / "images/a/1.png").read_bytes(), "path": None}
    pq.write_table(pa.table({"image": [image], "label": [0]}), home / "p.parquet")
    dataset = build_dataset({**options, "batchsize_per_replica": 1, "use_shuffle": False})
    assert dataset[0]["input"] is not None
