"""What users get wrong: one clear message, an exit code, and nothing left behind or destroyed."""

import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from ray_classy.storage import Storage
from ray_classy.trainer.run_folder import RunFolder
from tests.data.record import RECORDED

TYPOS = [
    ("num_epoch=1", "num_epoch: unknown key; did you mean 'num_epochs'?"),
    ("dataset.trian.name=digits", "dataset.trian: unknown key; did you mean 'train'?"),
    ("dataset.train.use_shufle=true", "dataset.train.use_shufle: unknown key; did you mean 'use_shuffle'?"),
    ("dataset.train.transforms=[{name: RandomCropp, size: 4}]", "unknown transform 'RandomCropp': did you mean"),
    ("dataset.test.name=digit", "unknown dataset 'digit': did you mean 'digits'?"),
    ("model.hidden_dim=[3]", "model.hidden_dim: unknown key; did you mean 'hidden_dims'"),
    ("model.hidden_dims=[a]", "model.hidden_dims"),
    ("model.heads=[{name: fully_conected}]", "did you mean 'fully_connected'?"),
    ("loss.name=CrossEntropy", "did you mean 'CrossEntropyLoss'"),
    ("meters.acuracy={}", "unknown meter 'acuracy': did you mean 'accuracy'"),
    ("meters.accuracy.topkk=[1]", "meters.accuracy.topkk: unknown key; did you mean 'topk'?"),
    ("optimizer.momentun=0.9", "optimizer.momentun: unknown key; did you mean 'momentum'?"),
    ("optimizer.param_schedulers.lr.name=cosin", "unknown param_scheduler 'cosin': did you mean 'cosine'?"),
    ("optimizer.param_schedulers.lr.end=0", "did you mean 'end_value'?"),
    ("hooks=[{name: checkpoints}]", "unknown hook 'checkpoints': did you mean 'checkpoint'?"),
    ("mixup={alfa: 1}", "mixup.alfa: unknown key; did you mean 'alpha'?"),
    ("amp_args={amp_typ: pytorch}", "did you mean 'amp_type'?"),
    ("distributed.bucket_cap=25", "did you mean 'bucket_cap_mb'?"),
    ("ray.num_worker=2", "ray.num_worker: unknown key; did you mean 'num_workers'"),
    ("ray.num_workers=two", "ray.num_workers"),
    ("ray.max_failure=2", "did you mean 'max_failures'"),
    ("ray.resources_per_worker={CPU: one}", "ray.resources_per_worker"),
    ("ray.num_to_keep=0", "ray.num_to_keep: must be at least 1, not 0; null keeps all checkpoints"),
    ("checkpoint_every=5", "checkpoint_every: expected a mapping, not 5; its keys are rounds, steps, minutes"),
    ("batch_size=3", "did you mean `dataset.train.batchsize_per_replica` or `dataset.test.batchsize_per_replica`?"),
    ("import=[x]", "did you mean 'imports'"),
    ("imports=[no_such_module_here]", "cannot import 'no_such_module_here'"),
    ("name=clasification_task", "did you mean 'classification_task'?"),
]


def refused(outcome, code, *told):
    assert outcome.code == code
    assert outcome.err.startswith("ray-classy: error: ")
    assert "Traceback" not in outcome.err
    for text in told:
        assert text in outcome.err
    return outcome


@pytest.mark.parametrize(("override", "told"), TYPOS)
def test_a_typo_in_any_section_is_a_config_error(local, override, told):
    refused(local(override), 2, told, "override")
    assert not os.path.exists("runs")


def test_all_mistakes_of_a_file_are_told_at_once_with_their_lines(local, config):
    text = Path(config).read_text().replace("hidden_dims", "hidden").replace("num_workers", "workers")
    Path(config).write_text(text)
    refused(local(), 2, "tiny.yaml:10: model.hidden: unknown key", "tiny.yaml:18: ray.workers: unknown key")


def test_json_carries_the_error(local):
    outcome = local("num_epoch=1", "--json")
    assert outcome.json["error"]["type"] == "ConfigError"
    assert "did you mean 'num_epochs'?" in outcome.json["error"]["message"]


def test_a_missing_file_names_the_nearest(ray_classy, config):
    refused(ray_classy("train", "tiny.yml"), 2, "tiny.yml: there is no such file; did you mean 'tiny.yaml'?")


def test_a_word_that_is_no_override(local):
    refused(local("num_epochs"), 2, "must read key.path=value")


def test_an_override_below_a_plain_value(local):
    refused(local("num_epochs.x=1"), 2, "num_epochs is 1, not a section")


@pytest.mark.parametrize("workers", ["0", "-1"])
def test_no_workers(ray_classy, config, workers):
    refused(ray_classy("train", config, "--num-workers", workers), 2, "ray")


def test_a_name_that_is_taken_by_a_run_with_another_config(local):
    local("--name", "one")
    before = Path("runs/one/run.json").read_text()
    refused(
        local("--name", "one", "optimizer.momentum=0.5", "model.hidden_dims=[8, 8]"),
        1,
        "there is a run 'one' in 'runs' already, with another config",
        "\n  optimizer.momentum: (nothing) -> 0.5\n",
        "\n  model.hidden_dims.1: (nothing) -> 8\n",
        "--resume",
    )
    assert Path("runs/one/run.json").read_text() == before


def test_a_name_that_is_taken_by_a_run_that_is_training(local):
    local("--name", "one")
    run = RunFolder.resume("runs/one")
    refused(
        local("--name", "one", "num_epochs=5"), 1, "num_epochs: 1 -> 5\nthe run ", f"in use by process {os.getpid()}"
    )
    run.release()


def test_a_storage_path_that_is_a_file(local, config):
    refused(local("--storage-path", config), 1, "is a file; give a folder")


def test_resuming_nothing(ray_classy, config):
    refused(
        ray_classy("train", "--resume", "runs/none"), 1, "'runs/none' is not a run folder: there is nothing of that"
    )


def test_a_sweep_is_not_resumed_as_a_run_nor_a_run_as_a_sweep(ray_classy):
    for command, name, other in (("train", "sweep", "tune"), ("tune", "finished", "train")):
        outcome = ray_classy(command, "--resume", str(RECORDED / name))
        refused(outcome, 1, f"resume it with ray-classy {other} --resume {RECORDED / name}")


@pytest.mark.parametrize("command", ["ls", "show", "train"])
def test_a_store_that_does_not_answer_is_one_short_error(ray_classy, config, monkeypatch, command):
    def fail(*_):
        raise OSError(
            "When getting information for key 'r/run.json' in bucket 'b': AWS Error NETWORK_CONNECTION during "
            "HeadObject operation: curlCode: 7, Couldn't connect to server; Details: Failed to connect to h port 9"
        )

    monkeypatch.setattr(Storage, "exists", fail)
    words = ["--resume", "s3://b/r", "--local"] if command == "train" else ["s3://b/r"]
    told = "'s3://b/r' cannot be read: Failed to connect to h port 9; check the address (endpoint_override"
    assert "AWS Error" not in refused(ray_classy(command, *words), 1, told).err


def test_a_checkpoint_with_nothing_left_to_train_is_said_to_be_so(local):
    local("--name", "one")
    assert local("--checkpoint", "runs/one").out.startswith("nothing was trained: the checkpoint has made all phases")


def test_resuming_with_the_config_of_another_model_changes_nothing(local):
    local("--name", "one")
    before = Path("runs/one/config.yaml").read_text()
    outcome = local("--resume", "runs/one", "model.hidden_dims=[9]", "num_epochs=2")
    refused(outcome, 1, "does not fit this MLP")
    assert Path("runs/one/config.yaml").read_text() == before


def test_a_checkpoint_that_is_not_there(local):
    refused(local("--checkpoint", "nowhere"), 1, "there is no checkpoint at")
    assert not os.path.exists("runs")


def test_a_checkpoint_cut_in_half(local):
    path = local("--name", "one", "--json").json["checkpoint"] + "/checkpoint.torch"
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])
    refused(local("--checkpoint", path), 1, path, "is damaged or not a checkpoint")
    refused(local("--resume", "runs/one", "num_epochs=2"), 1, "is damaged or not a checkpoint")


def test_a_checkpoint_of_another_model(local):
    local("--name", "one", "model.hidden_dims=[5]")
    refused(local("--checkpoint", "runs/one", "test_only=true"), 1, "does not fit this MLP")


def test_a_run_without_a_checkpoint_to_start_from(local):
    local("--name", "one", "test_only=true")
    refused(local("--checkpoint", "runs/one"), 1, "--checkpoint: the run 'runs/one' has no checkpoint yet")


def images(folder, classes, per_class=2):
    for index in range(classes):
        (folder / f"class_{index:02}").mkdir(parents=True)
        for number in range(per_class):
            Image.new("RGB", (8, 8), (index, number, 0)).save(folder / f"class_{index:02}" / f"{number}.png")


FOLDER = (
    "dataset={{train: {{name: image_path, image_folder: {0}, batchsize_per_replica: 4, use_shuffle: true, transforms: "
    "[{{name: apply_transform_to_key, transforms: [{{name: ToTensor}}]}}]}}}}"
)


def test_more_classes_than_outputs(local, tmp_path):
    images(tmp_path / "images", 12)
    outcome = local(FOLDER.format("images"), "model.input_dim=192")
    refused(outcome, 1, "the train dataset has 12 classes, but the model has 10 outputs", "to 12")


def test_an_empty_image_folder_is_told_with_its_line(local, tmp_path):
    (tmp_path / "images").mkdir()
    refused(local(FOLDER.format("images"), "model.input_dim=192"), 2, "dataset.train: no images in 'images'")


def test_what_a_constructor_refuses_has_the_line_of_the_file(local, config):
    text = Path(config).read_text().replace("batchsize_per_replica: 32", "batchsize_per_replica: 0")
    Path(config).write_text(text)
    refused(local(), 2, "tiny.yaml:4: dataset.train: batchsize_per_replica must be an integer of at least 1, not 0")


def test_an_input_that_the_model_cannot_take(local):
    refused(local("model.input_dim=63"), 1, "the model cannot take rows of the train dataset (input (2, 1, 8, 8)")


def test_a_label_out_of_range(local, tmp_path):
    rows = {"image": [[[0] * 8] * 8] * 4, "label": [0, 3, 10, 2]}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "rows.parquet")
    keys = "name: parquet, files: rows.parquet, batchsize_per_replica: 2, use_shuffle: false, image_mode: L"
    outcome = local("dataset={train: {" + keys + "}}")
    refused(outcome, 1, "row 2 of the train dataset has label 10", "[0, 10)")


def test_a_batch_larger_than_the_dataset_with_drop_last(local):
    outcome = local("dataset.train.drop_last=true", "dataset.train.batchsize_per_replica=97")
    refused(outcome, 1, "96 rows", "97", "drop_last")


def test_a_batch_larger_than_the_dataset_without_drop_last_trains(local):
    assert local("dataset.train.batchsize_per_replica=97").code == 0


def test_a_schedule_for_an_option_that_the_optimizer_lacks(local):
    schedule = "optimizer.param_schedulers.momentums={name: constant, value: 1}"
    refused(local(schedule), 1, "momentums")


def test_a_simulated_batch_that_is_no_multiple(local):
    refused(local("simulated_global_batchsize=33"), 1, "simulated_global_batchsize 33 is not a multiple")


def test_a_file_that_may_not_be_written(local, tmp_path):
    (tmp_path / "taken").write_text("")
    refused(local("--storage-path", "taken/runs"), 1, "taken/runs", "Not a directory")


def test_ls_says_why_a_run_failed(local, ray_classy):
    local("--name", "one", "optimizer.param_schedulers.lr.start_value=1e30")
    assert "one: failed (FloatingPointError: the loss is nan" in ray_classy("ls", "runs/one").out


def test_more_rows_than_the_dataset_has_are_located(local):
    refused(local("dataset.train.num_samples=10000000"), 1, "tiny.yaml:4: dataset.train: num_samples is 10000000, but")


def test_what_does_not_fit_the_model_or_the_metrics_is_located(local):
    groups = "optimizer={name: by_pattern, groups: [{ndim: 4}], default: {name: AdamW}}"
    refused(local(groups), 1, "optimizer: groups.0: it matches no trained parameter with 4 dimensions")
    hooks = "hooks=[{name: early_stopping, metric: test.acuracy.top_1, patience: 1}]"
    refused(local(hooks), 1, "hooks.0: early_stopping: no metric named 'test.acuracy.top_1' is reported: did you mean")


def test_a_text_file_is_no_checkpoint(local, config):
    refused(local("--checkpoint", config), 1, "is damaged or not a checkpoint (it is not a file that torch.save wrote)")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["check", "--local"], "a sweep runs on Ray: leave out --local"),
        (["bench-data"], "is a search node, and bench-data"),
    ],
)
def test_a_sweep_where_it_cannot_be(ray_classy, config, words, told):
    command, *flags = words
    refused(ray_classy(command, config, "num_epochs={search: choice, categories: [1, 2]}", *flags), 2, told)


@pytest.mark.parametrize(
    ("override", "code", "told"),
    [
        ("model.hidden_dims=[1000000000000]", 1, "parameters, which take"),
        ("model.hidden_dims=[9223372036854775808]", 2, "is too large: integers go from"),
        (
            "dataset.train.transforms=[{name: Resize, size: 1000000}]",
            2,
            "size of Resize is 1000000, and must be at most",
        ),
        ("dataset.train.transforms=[{name: Normalize, mean: [0], std: [1]}]", 1, "row 0 of the train dataset"),
    ],
)
def test_a_number_that_no_part_can_take_is_one_error(ray_classy, config, override, code, told):
    refused(ray_classy("check", config, "--local", override), code, told)


def test_a_model_that_memory_cannot_hold_is_one_error(local):
    refused(local("model.hidden_dims=[1000000000000]"), 2, "model: it takes more memory than there is")
