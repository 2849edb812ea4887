"""A run's relative paths mean the same from every working directory."""

import pytest

from ray_classy.cli.relative_paths import resolve_paths


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The folder in which a run was started, and another, which is the working directory now."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        (folder / "data").mkdir(parents=True)
    monkeypatch.chdir(new)
    return str(old), str(new)


def test_paths_that_are_there_become_absolute(folders):
    old, _ = folders
    train = {"name": "image_path", "image_folder": "data", "split": "data", "files": ["data/*.tar", "none/{0..9}.tar"]}
    config = {"dataset": {"train": train}, "checkpoint": "data", "ray": {"storage_path": "data"}}
    lines = resolve_paths(config, old)
    assert config["dataset"]["train"] == {
        "name": "image_path",
        "image_folder": f"{old}/data",
        "split": "data",
        "files": [f"{old}/data/*.tar", "none/{0..9}.tar"],
    }
    assert config["checkpoint"] == f"{old}/data" and config["ray"] == {"storage_path": "data"}
    assert lines[0] == f"dataset.train.image_folder is '{old}/data', as the run was started in '{old}'"


@pytest.mark.parametrize("path", ["/data", "s3://bucket/data", "~/data", "", "missing", None, 3])
def test_other_values_stay(folders, path):
    config = {"image_folder": path}
    assert resolve_paths(config, folders[0]) == [] and config == {"image_folder": path}


@pytest.mark.parametrize("folder", [None, 3, "relative", "/nowhere"])
def test_without_the_folder_of_the_start_paths_stay(folders, folder):
    config = {"image_folder": "data"}
    assert resolve_paths(config, folder) == [] and config == {"image_folder": "data"}


def test_from_the_same_folder_paths_stay(folders):
    config = {"image_folder": "data"}
    assert resolve_paths(config, folders[1]) == [] and config == {"image_folder": "data"}


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Overrides that train on few images in `data`; there is another folder, the working directory, with the same."""
    from PIL import Image

    for folder, shade in (("old", 0), ("new", 100)):
        for name in ("a/1", "a/2", "b/1", "b/2"):
            path = tmp_path / folder / "data" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), shade + ord(name[0])).save(path)
    transforms = "[{name: apply_transform_to_key, key: input, transforms: [{name: ToTensor}]}]"
    keys = "name: image_path, image_folder: data, batchsize_per_replica: 2, use_shuffle: false"
    data = f"{{{keys}, transforms: {transforms}}}"
    return f"dataset={{train: {data}, test: {data}}}", "model.output_dim=2", "model.input_dim=192", "meters={}"


def test_a_run_is_resumed_with_the_data_of_its_start(local, ray_classy, config, images, tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").rename(tmp_path / "old" / "tiny.yaml")
    monkeypatch.chdir(tmp_path / "old")
    assert local("--name", "r", "--storage-path", str(tmp_path / "runs"), *images).code == 0
    monkeypatch.chdir(tmp_path / "new")
    outcome = ray_classy("train", "--resume", str(tmp_path / "runs" / "r"), "--local", "num_epochs=2")
    assert outcome.code == 0 and f"image_folder is '{tmp_path}/old/data'" in outcome.err
    assert f"{tmp_path}/old/data" in (tmp_path / "runs/r/config.yaml").read_text()


def test_the_same_command_in_another_folder_is_another_config(local, config, images, tmp_path, monkeypatch):
    text = (tmp_path / "tiny.yaml").read_text()
    for folder in ("old", "new"):
        (tmp_path / folder / "tiny.yaml").write_text(text)
    monkeypatch.chdir(tmp_path / "old")
    assert local("--name", "r", "--storage-path", str(tmp_path / "runs"), *images).code == 0
    monkeypatch.chdir(tmp_path / "new")
    outcome = local("--name", "r", "--storage-path", str(tmp_path / "runs"), *images)
    assert outcome.code == 1 and "image_folder: /" in outcome.err and "old/data -> data" in outcome.err
