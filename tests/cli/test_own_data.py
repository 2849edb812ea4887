"""--images, --manifest, --parquet and --shards train on own data without a config."""

import io
import tarfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ray_classy.cli.own_choice import Facts, choose_batch, choose_model, network_of
from ray_classy.cli.own_fill import trials_at_once
from ray_classy.config.yaml_text import parse_yaml
from ray_classy.dataset.cpus import cpus_of_this_machine


def save(path, side=40, seed=0):
    pixels = np.random.default_rng([seed, *path.as_posix().encode()[-12:]]).integers(0, 255, (side, side, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ant", "bee"):
        for number in range(8):
            save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def chosen(ray_classy):
    """The config that a command would train, and what it prints."""

    def run(*words):
        outcome = ray_classy("train", *map(str, words), "--print-config", "--local")
        assert outcome.code == 0, outcome.err
        return parse_yaml(outcome.out, "config")[0], outcome.err

    return run


@pytest.fixture
def listed(photos):
    """A manifest, Parquet files and a shard of the photos, with columns of other names than the usual ones."""
    files = sorted(photos.rglob("*.png"))
    names = [file.parent.name for file in files]
    rows = [f"photos/{name}/{file.name},{name}" for file, name in zip(files, names, strict=True)]
    (photos.parent / "list.csv").write_text("\n".join(["filename,species", *rows]))
    (photos.parent / "bare.csv").write_text("\n".join(rows))
    table = pa.table({"id": range(16), "picture": [file.read_bytes() for file in files], "class": names})
    for side in ("train", "validation"):
        pq.write_table(table, photos.parent / f"{side}-00000-of-00001.parquet")
    with tarfile.open(photos.parent / "all.tar", "w") as tar:
        for number, (file, name) in enumerate(zip(files, names, strict=True)):
            tar.add(file, f"{number}.png")
            content = f'{{"class": "{name}", "by": 1}}'.encode()
            member = tarfile.TarInfo(f"{number}.json")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return photos.parent


def test_small_images_keep_their_size_and_get_a_small_network(photos, chosen):
    config, said = chosen("--images", "photos", "--split", "0.5")
    assert config["dataset"]["train"]["image_folder"] == "photos" and config["dataset"]["split"]["test"] == 0.5
    assert config["model"]["name"] == "resnet" and "40 x 40 pixels" in said
    assert config["dataset"]["train"]["batchsize_per_replica"] == 8
    assert "16 images of 2 classes; to train on: ant 4, bee 3" in said and "7 to train on, 9 for tests (56%)" in said


def test_a_model_brings_its_preprocessing(photos, chosen):
    config, said = chosen("--images", "photos", "--model", "vit_b_16")
    train = config["dataset"]["train"]["transforms"][0]["transforms"]
    assert {"name": "RandomResizedCrop", "size": 224, "interpolation": "bilinear"} in train
    assert {"name": "TrivialAugmentWide"} in train and "224 x 224 pixels" in said


@pytest.mark.full  # imports timm
def test_a_network_of_timm_is_found_by_its_name(photos, chosen):
    model = chosen("--images", "photos", "--model", "resnet18.a1_in1k", "--weights", "DEFAULT")[0]["model"]
    assert model == {"name": "timm", "model": "resnet18.a1_in1k", "pretrained": True}


def test_weights_shorten_the_training(photos, chosen):
    config, said = chosen("--images", "photos", "--weights", "DEFAULT")
    assert config["num_epochs"] == 30 and config["model"]["model"] == "resnet50"
    assert "from the weights DEFAULT" in said
    config, said = chosen("--images", "photos")
    assert config["num_epochs"] == 100 and "from scratch, as no --weights are given" in said


def test_a_folder_of_weights_names_its_network(tmp_path):
    (tmp_path / "config.json").write_text('{"architecture": "resnet10t", "num_classes": 1000}')
    facts = Facts(100, 2, 224, False, None, None)
    chosen = choose_model(None, str(tmp_path), facts)
    assert chosen == {"name": "timm", "model": "resnet10t", "pretrained": str(tmp_path)}


def test_what_the_user_sets_counts(photos, chosen):
    config, said = chosen("--images", "photos", "num_epochs=3", "dataset.train.batchsize_per_replica=4")
    assert config["num_epochs"] == 3 and config["dataset"]["train"]["batchsize_per_replica"] == 4
    assert "in batches of 4" in said and "3 epochs of 4 steps" in said


def test_folders_of_train_and_test_images_are_not_split(photos, chosen):
    for number in range(3):
        save(photos.parent / "sides" / "Train" / "ant" / f"{number}.png")
        save(photos.parent / "sides" / "Train" / "bee" / f"{number}.png")
        save(photos.parent / "sides" / "val" / "ant" / f"{number}.png", seed=1)
        save(photos.parent / "sides" / "test" / "ant" / f"{number}.png", seed=2)
    config, said = chosen("--images", "sides")
    assert config["dataset"]["split"] is None and config["dataset"]["test"]["image_folder"] == "sides/val"
    assert "6 to train on (sides/Train), 3 for tests (sides/val)" in said and "not read: test/" in said


def test_test_data_may_be_given(photos, chosen):
    config, _ = chosen("--images", "photos", "--test", "photos")
    assert config["dataset"]["split"] is None and config["dataset"]["test"]["image_folder"] == "photos"


@pytest.mark.parametrize(
    ("flag", "place", "keys"),
    [
        ("--manifest", "list.csv", {"manifest": "list.csv", "path_column": "filename", "label_column": "species"}),
        ("--manifest", "bare.csv", {"path_column": 0, "label_column": 1}),
        ("--parquet", "train-00000-of-00001.parquet", {"image_column": "picture", "label_column": "class"}),
        ("--shards", "all.tar", {"label_extension": "json", "label_field": "class"}),
    ],
)
def test_columns_are_found_by_their_names_and_types(listed, chosen, flag, place, keys):
    config, said = chosen(flag, place)
    assert keys.items() <= config["dataset"]["train"].items() and "16 images of 2 classes" in said


def test_files_of_train_and_test_rows_are_told_by_their_names(listed, chosen):
    dataset = chosen("--parquet", "*.parquet")[0]["dataset"]
    assert dataset["split"] is None
    assert [dataset[side]["files"] for side in ("train", "test")] == [
        ["train-00000-of-00001.parquet"],
        ["validation-00000-of-00001.parquet"],
    ]


def test_an_unclear_column_is_an_error_that_lists_them(listed, ray_classy):
    (listed / "two.csv").write_text("path,species,genus\nphotos/ant/0.png,a,b\n")
    outcome = ray_classy("train", "--manifest", "two.csv")
    assert outcome.code == 2 and "path, species, genus" in outcome.err and "label_column=NAME" in outcome.err


def test_oddities_are_said(photos, chosen):
    for number in range(8, 50):
        save(photos / "bee" / f"{number}.png", side=20)
    (photos / "ant" / "copy.png").write_bytes((photos / "bee" / "9.png").read_bytes())
    (photos / "ant" / "cut.png").write_bytes((photos / "bee" / "10.png").read_bytes()[:300])
    (photos / "cat").mkdir()
    save(photos / "cat" / "0.png")
    (photos / "notes.txt").write_text("")
    _, said = chosen("--images", "photos")
    assert "1 of 3 classes have fewer than 5 rows to train on: cat (1)" in said
    assert "cannot be decoded (photos/ant/cut.png: damaged or truncated image" in said
    assert "20 to 40 pixels wide" in said
    assert "bee has 41 rows to train on, cat 1" in said and "sampling={name: balanced}" in said


def test_weights_that_cannot_be_had_are_an_error_with_the_command_that_does_without(ray_classy, photos, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(photos.parent))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    outcome = ray_classy("train", "--images", "photos", "--weights", "DEFAULT", "--local", "num_epochs=1")
    assert "cannot be downloaded" in outcome.err
    assert "or train from scratch: ray-classy train --images photos --local num_epochs=1" in outcome.err


@pytest.mark.full
def test_it_trains_and_skips_a_damaged_image(ray_classy, photos):
    (photos / "ant" / "cut.png").write_bytes((photos / "ant" / "0.png").read_bytes()[:300])
    outcome = ray_classy("train", "--images", "photos", "--local", "--name", "r", "num_epochs=2")
    assert outcome.code == 0 and "5 are skipped (dataset." in outcome.err
    assert parse_yaml((photos.parent / "runs/r/config.yaml").read_text(), "c")[0]["model"]["init_planes"] == 32


def test_a_batch_fits_the_memory():
    facts = Facts(10_000, 2, 300, grey=False, on_gpu=True, memory=1 << 30, workers=2)
    network = network_of({"name": "torchvision", "model": "resnet50"}, 2)
    assert choose_batch(facts, network, 224) == (2, "which may not fit the memory: a smaller --model is safer")
    assert choose_batch(replace(facts, memory=5 << 30), network, 224) == (16, "which fit the memory")
    assert choose_batch(replace(facts, memory=1 << 36), network, 224) == (32, "")
    assert choose_batch(replace(facts, rows=200, workers=1), network, 224)[0] <= 8


def test_trials_share_the_memory():
    assert trials_at_once("train", {}) == 1
    assert trials_at_once("tune", {"tune": {"max_concurrent_trials": 1}}) == 1
    assert trials_at_once("tune", {}) == max(1, cpus_of_this_machine() // 2)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("my.yaml", "--images", "photos"), "'my.yaml' is one word too many"),
        (("my.yaml", "--model", "resnet18"), "--model goes with --images DIR"),
        (("--images", "photos", "--resume", "runs/a"), "leave out --images"),
        (("--images", "photos", "--manifest", "a.csv"), "take one of them"),
        (("--images", "photos", "--test", "photos", "--split", "0.1"), "use one of them"),
        (("--images", "photo", "--local"), "image_folder 'photo' does not exist"),
        (("--images", "photos/ant", "--local"), "has no class folders"),
        (("--images", ".", "--local"), "give './photos'"),
        (("--manifest", "none.csv"), "there is no manifest 'none.csv'"),
        (("--images", "photos", "--model", "resnet51"), "did you mean"),
        (("--images", "photos", "--weights", "none.pth", "--local"), "error: --weights none.pth: model: there is no"),
    ],
)
def test_a_mistake_is_one_line(ray_classy, photos, words, text):
    outcome = ray_classy("train", *words)
    assert outcome.code != 0 and text in outcome.err


def test_a_budget_of_no_time_is_refused(ray_classy, photos):
    assert "must be a time such as 1h" in ray_classy("tune", "--images", "photos", "--budget", "soon").err


def test_a_sweep_takes_the_same_data_and_a_budget(ray_classy, photos):
    outcome = ray_classy("tune", "--images", "photos", "--budget", "1h", "--print-config")
    config = parse_yaml(outcome.out, "config")[0]
    assert config["tune"]["time_budget_s"] == 3600 and config["tune"]["num_samples"] == -1
    assert config["dataset"]["train"]["image_folder"] == "photos" and "learning rate searched" in outcome.err


@pytest.mark.ray
@pytest.mark.full
def test_a_sweep_of_a_folder_ends_with_its_best_trial(ray_classy, photos, ray_cluster):
    words = ("--images", "photos", "--budget", "10m", "--num-samples", "2", "--json", "num_epochs=2")
    outcome = ray_classy("tune", *words)
    assert outcome.code == 0, outcome.err
    assert [trial["state"] for trial in outcome.json["trials"]] != ["failed"] * 2
    best = parse_yaml((photos.parent / outcome.json["best"]["config"]).read_text(), "best.yaml")[0]
    rate = best["optimizer"]["param_schedulers"]["lr"]["then"]["start_value"]
    assert 5e-5 <= rate <= 3e-3 and best["dataset"]["train"]["image_folder"].endswith("photos")
    assert ray_classy("predict", outcome.json["best"]["checkpoint"], "photos/ant/0.png").code == 0
