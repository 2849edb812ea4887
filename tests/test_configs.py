"""Every file in configs/ is a config without mistakes, and its header tells the command that runs it."""

import io
import itertools
import re
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ray_classy.config import apply_overrides, load_config
from ray_classy.config.recipe_files import HEAD_KEYS, recipe_head
from ray_classy.tasks import build_task
from ray_classy.tasks.task_config import checked
from tests.dataset.test_classy_cifar import write as write_cifar
from tests.helpers import train

CONFIGS = sorted(Path(__file__).parent.parent.joinpath("configs").glob("*.yaml"))
HEAVY = {path.stem for path in CONFIGS if path.stem.startswith(("cifar10_", "imagenet_", "own_folder", "video"))}
"""Recipes whose networks take seconds for a step."""
ALL = [pytest.param(path, id=path.stem, marks=[pytest.mark.full] * (path.stem in HEAVY)) for path in CONFIGS]
OUTPUTS = {"digits": 10, "cifar10": 10, "imagenet": 1000, "multi": 4, "two": None}
SWEEPS = sorted(Path(__file__).parent.parent.joinpath("configs", "sweeps").glob("*.*"))
SWEEPS = [path for path in SWEEPS if path.stem != "own_folder"]  # which needs images: tests/cli/test_own_data.py
LABELS = [("red", "disc"), ("blue", "disc"), ("blue", "square")]
"""Two labels of a row: of one kind in the first recipe for several labels, of two in the second."""
MODES = ["RGB", "L", "RGBA", "P", "1", "LA"]


def header(path):
    lines = path.read_text().splitlines()
    return [line.removeprefix("#").strip() for line in lines[: lines.index("")]]


def command(path):
    """The words of the first command in the header."""
    return shlex.split(next(line for line in header(path) if line.startswith("ray-classy ")))


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """The data behind the capital letters in a command: three classes, images of mixed sizes and modes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for folder in ("DIR", "DIR2"):
        for label, name in enumerate(("cat", "dog", "owl")):
            (tmp_path / folder / name).mkdir(parents=True)
            for index, mode in enumerate(MODES):
                size = rng.integers(9, 90, 2)
                pixels = rng.integers(0, 80 * (label + 1), (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(tmp_path / folder / name / f"{index}.png")
    for name in ("FILES", "FILES2"):
        files = sorted(tmp_path.glob(f"{name.replace('FILES', 'DIR')}/*/*.png"))
        labels = [("cat", "dog", "owl").index(file.parent.name) for file in files]
        table = pa.table({"image": [file.read_bytes() for file in files], "label": labels})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        paths = [str(file.relative_to(tmp_path)) for file in files]
        lines = [f"{path},{file.parent.name}" for path, file in zip(paths, files, strict=True)]
        (tmp_path / f"{name.replace('FILES', 'MANIFEST')}.csv").write_text("\n".join(["path,label", *lines]))
        for place, columns, label in (("TAGS", "label", "{}|{}"), ("PAIRS", "colour,shape", "{},{}")):
            several = [f"{path},{label.format(*LABELS[number % 3])}" for number, path in enumerate(paths)]
            listed = tmp_path / f"{name.replace('FILES', place)}.csv"
            listed.write_text("\n".join([f"path,{columns}", *several]))
        with tarfile.open(tmp_path / f"{name.replace('FILES', 'SHARDS')}.tar", "w") as tar:
            for number, (file, label) in enumerate(zip(files, labels, strict=True)):
                tar.add(file, f"{number}.png")
                content = tarfile.TarInfo(f"{number}.cls")
                content.size = 1
                tar.addfile(content, io.BytesIO(str(label).encode()))
    write_cifar(tmp_path)
    endings = {"DIR": "", "FILES": ".parquet", "MANIFEST": ".csv", "SHARDS": ".tar", "TAGS": ".csv", "PAIRS": ".csv"}
    places = {f"{name}{two}": tmp_path / f"{name}{two}{end}" for name, end in endings.items() for two in ("", "2")}
    return {**places, "TRAIN": places["DIR"], "VAL": places["DIR2"], "CIFAR": tmp_path}


@pytest.fixture
def own_videos(tmp_path):
    """Three classes with a video each."""
    from tests.videos import save_video

    places = {name: tmp_path / f"videos-{name}" for name in ("DIR", "DIR2")}
    for folder, name in itertools.product(places.values(), ("cat", "dog", "owl")):
        save_video(folder / name / "1.mp4", size=(64, 80))
    return places


def filled(words, places):
    return [re.sub(r"=([A-Z]+\d?)$", lambda found: f"={places[found[1]]}", word) for word in words]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_header_names_the_command_and_what_to_expect(path):
    assert command(path)[:3] == ["ray-classy", "train", f"recipe:{path.stem}"]
    assert set(recipe_head(path.read_text())) == {"what", *HEAD_KEYS}


def filled_recipe(path, request):
    """The config of the command in the head, with the data that it asks for."""
    places = request.getfixturevalue("own_videos" if path.stem == "video" else "own_data")
    words = [word for word in command(path)[3:] if word != "model.weights=DEFAULT"]  # which are downloaded
    config = apply_overrides(load_config(f"recipe:{path.stem}"), filled(words, places))
    return apply_overrides(config, ["amp_args=null"])  # which is slow on a CPU without bfloat16


@pytest.mark.parametrize("path", ALL)
def test_the_command_in_the_header_passes_the_check(path, request):
    trials = build_task(checked(filled_recipe(path, request))).preflight(world_size=2)
    assert trials["train"].outputs == trials["test"].outputs == OUTPUTS.get(path.stem.partition("_")[0], 3)


@pytest.mark.parametrize("path", ALL)
def test_a_recipe_makes_a_train_step_and_a_test_step(path, request):
    small = {"num_epochs": 1, "test_phase_period": 1}
    for kind, rows in (("train", 3 if path.stem == "video" else 4), ("test", 2)):
        small |= {f"dataset.{kind}.batchsize_per_replica": rows, f"dataset.{kind}.num_samples": rows}
    config = apply_overrides(filled_recipe(path, request), [f"{key}={value}" for key, value in small.items()])
    config["hooks"] = [hook for hook in config["hooks"] if hook["name"] != "loss_lr_meter_logging"]
    task = train(build_task(checked(config)).set_use_gpu(False))
    assert task.num_train_steps == 1 and len(task.losses) == 1


def test_image_folder_trains_on_any_number_of_classes(own_data, tmp_path, run_local):
    config = load_config(CONFIGS[0].parent / "image_folder.yaml")
    folders = [f"dataset.train.image_folder={own_data['DIR']}", f"dataset.test.image_folder={own_data['DIR2']}"]
    result = run_local(apply_overrides(config, [*folders, "num_epochs=1", "model.init_planes=4", HEAD]))
    assert 0 <= result.metrics["test"]["accuracy"]["top_1"] <= 1


def test_parquet_trains_on_integer_labels(own_data, run_local):
    config = load_config(CONFIGS[0].parent / "parquet.yaml")
    files = [f"dataset.train.files={own_data['FILES']}", f"dataset.test.files={own_data['FILES2']}"]
    result = run_local(apply_overrides(config, [*files, "num_epochs=1", "model.init_planes=4", HEAD]))
    assert 0 <= result.metrics["test"]["accuracy"]["top_1"] <= 1


HEAD = "model.heads.0.in_plane=32"


@pytest.fixture
def run_local(tmp_path):
    from ray_classy.trainer import LocalTrainer

    return lambda config: LocalTrainer(storage_path=str(tmp_path / "runs")).train(build_task(config))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweep_has_no_mistakes(path):
    from ray_classy.tune import TaskTuner
    from ray_classy.tune.plan import Plan

    plan = Plan(TaskTuner(load_config(path)))
    assert plan.tune_config.metric == "test.accuracy.top_1" and 8 <= plan.total <= 20


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_header_of_a_sweep_tells_its_command_and_what_to_expect(path):
    assert command(path) == ["ray-classy", "tune", f"recipe:sweeps/{path.stem}"]
    assert set(recipe_head(path.read_text())) == {"what", *HEAD_KEYS}
