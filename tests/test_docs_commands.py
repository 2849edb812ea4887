"""The commands of the documents do what they say: each is run in a folder that has what the pages name.

Parsed only, by `test_docs`: commands that need a store, another cluster, a GPU, a download or a model of timm,
and those that end when they are interrupted.
"""

import contextlib
import itertools
import os
import random
import shlex
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml
from PIL import Image

from ray_classy.cli.main import main
from ray_classy.config import dump_yaml
from tests.test_docs import PAGES, ROOT, commands, name

PARSED_ONLY = (
    "s3://",
    "--address",
    "--use-gpu",
    "--weights",
    "serve ",
    "submit ",
    "--budget",
    "RUN RUN",
    "--format timm",
)
ON_RAY = ("ray-classy tune", "--num-workers", "SWEEP", "/t0007")
WORDS = {
    "CONFIG": "given.yaml",
    "epoch_0016-step_000368": "last",
    "RUN": "runs/SWEEP",
    "t0007": "t0001",
    "--num-samples 8": "--num-samples 1",
    "num_epochs=64": "num_epochs=2",
    "num_epochs=32": "num_epochs=2",
    "--num-workers 8": "--num-workers 2",
    "--num-workers 4": "--num-workers 2",
    "new PROJECT": "new fresh_project",
    "--rows 2000": "--rows 30",
}
"""What stands for a placeholder, or for a number that would take long."""
SHORT = ["--local", "num_epochs=1"]
SHORT_SWEEP = ["--num-samples", "2", "num_epochs=4", "tune.scheduler.grace_period=4"]
SWEEP = {
    "num_epochs": 1,
    "optimizer": {"name": "sgd", "lr": {"search": "loguniform", "lower": 0.01, "upper": 0.1}},
    "ray": {"num_workers": 1},
    "tune": {"num_samples": 2},
}


def pages(on_ray):
    return [page for page in PAGES if page.name != "tutorial.md" and [*run_commands(page, on_ray)]]


def run_commands(page, on_ray):
    """The commands of a page that are run, with or without Ray."""
    for command in commands(page):
        command = command.partition("  #")[0].strip()
        if not any(part in command for part in PARSED_ONLY) and on_ray == any(part in command for part in ON_RAY):
            yield command


def image(size=16):
    return Image.frombytes("RGB", (size, size), random.randbytes(3 * size * size))


def folder_of_classes(folder, rows=8):
    for label, row in itertools.product(("cat", "dog"), range(rows)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        image().save(folder / label / f"{row}.jpg")


def tables(folder):
    """Manifests, Parquet files and shards of the images in DIR, by the names that the pages use."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(folder.glob("DIR/*/*.jpg"))
    labels = [file.parent.name for file in files]
    paths = [str(file.relative_to(folder)) for file in files]
    for table, column in (("train.csv", "label"), ("test.csv", "label"), ("rows.csv", "species")):
        lines = [f"path,{column}", *(f"{path},{label}" for path, label in zip(paths, labels, strict=True))]
        folder.joinpath(table).write_text("\n".join(lines))
    images = [file.read_bytes() for file in files]
    for table in ("data/0.parquet", "train/0.parquet", "test.parquet"):
        folder.joinpath(table).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"image": images, "label": labels}), folder / table)
    pq.write_table(pa.table({"photo": images, "label": labels, "key": paths}), folder / "rows.parquet")
    for shard in (*(f"train-{number:03}.tar" for number in range(13)), "test-0.tar", "test.tar"):
        with tarfile.open(folder / shard, "w") as archive:
            for row, file in enumerate(files[::5]):
                label = folder / "label"
                label.write_text(file.parent.name)
                archive.add(file, f"{row:04}.jpg")
                archive.add(label, f"{row:04}.cls")


def project(folder):
    """A project in Classy Vision's layout, beside packages of components."""
    folder.joinpath("PROJECT").mkdir()
    folder.joinpath("PROJECT", "train.py").write_text("from classy_vision.tasks import build_task\n")
    for package in ("datasets", "losses", "models"):
        folder.joinpath(package).mkdir()
        folder.joinpath(package, "__init__.py").touch()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder with data, configs, two runs, and exports of one."""
    folder = tmp_path_factory.mktemp("documents")
    for linked in ("configs", "examples"):
        shutil.copytree(ROOT / linked, folder / linked, ignore=shutil.ignore_patterns("__pycache__"))
    folder_of_classes(folder / "DIR")
    folder_of_classes(folder / "DIR2", rows=2)
    folder_of_classes(folder / "photos", rows=2)
    image().save(folder / "photo.jpg")
    tables(folder)
    project(folder)
    with contextlib.chdir(folder):
        with Path("my.yaml").open("w") as file, contextlib.redirect_stdout(file):
            assert main(["train", "--images", "DIR", "--print-config", "num_epochs=1"]) == 0
        config = yaml.safe_load(Path("my.yaml").read_text())
        config["dataset"]["train"]["image_folder"] = str(folder / "DIR")  # the same wherever a command runs
        config["model"].update(num_blocks=[1], init_planes=4)
        config["model"]["heads"][0].update(fork_block="block0-0", in_plane=4)
        config["hooks"] = [{"name": "early_stopping", "metric": "test.loss", "patience": 3}]
        Path("given.yaml").write_text(dump_yaml(config))
        for run in ("NAME", "OTHER"):
            assert main(["train", "given.yaml", "--local", "--name", run]) == 0
        for export in ("NAME.pt2", "NAME.onnx"):
            assert main(["export", "runs/NAME", "--format", export.split(".")[1], "--output", export]) == 0
        Path("sweep.yaml").write_text(dump_yaml({**config, **SWEEP}))
    return folder


@pytest.fixture
def folder(template, tmp_path, monkeypatch):
    """A working directory that begins as the template."""
    shutil.copytree(template, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def run(command, template, more):
    """Runs a command on fresh runs and exports, with its output in a file if it says so."""
    for shown, stand_in in WORDS.items():
        command = command.replace(shown, stand_in)
    command, _, output = command.partition(" > ")
    words = shlex.split(command)[1:]
    shutil.rmtree("runs")
    shutil.copytree(template / "runs", "runs", symlinks=True)
    for export in Path().glob("NAME.*"):
        export.unlink()
    for export in template.glob("NAME.*") if words[0] != "export" else ():
        shutil.copy(export, export.name)
    with Path(output.strip() or os.devnull).open("w") as file, contextlib.redirect_stdout(file):
        assert main([*words, *more]) == 0, command


@pytest.mark.full
@pytest.mark.parametrize("page", pages(on_ray=False), ids=name)
def test_commands_run(page, folder, template):
    for command in run_commands(page, on_ray=False):
        trains = command.startswith("ray-classy train")
        resumes = "--resume" in command or "--name" in command
        run(command, template, SHORT[: 1 if resumes or "--print" in command else 2] if trains else [])


@pytest.fixture(scope="module")
def sweep(template, ray_cluster):
    """The template with a sweep in it."""
    with contextlib.chdir(template):
        assert main(["tune", "sweep.yaml", "--name", "SWEEP"]) == 0
    return template


@pytest.mark.ray
@pytest.mark.full
@pytest.mark.parametrize("page", pages(on_ray=True), ids=name)
def test_commands_run_on_ray(page, sweep, folder):
    for command in run_commands(page, on_ray=True):
        if page.name == "sweeps.md":
            command = command.replace("runs/NAME", "runs/SWEEP")
        new = command.startswith("ray-classy tune configs/")
        run(command, sweep, SHORT_SWEEP if new else [])
