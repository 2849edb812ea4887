"""`ray-classy check`: what would be trained, without training it."""

import os
import resource
import sys

import pytest
import torch

from ray_classy.config import load_config
from ray_classy.models import ClassyModel, register_model
from ray_classy.registry import Registry
from ray_classy.user_code import UserCode


@pytest.fixture
def check(ray_classy, config):
    return lambda *words: ray_classy("check", config, *words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_it_says_that_mixed_precision_has_no_effect_on_a_cpu(check):
    assert "# amp_args has no effect without a GPU" in check("--local", "amp_args={amp_type: pytorch}").out
    assert "amp_args has" not in check("--local", "amp_args={amp_type: pytorch, dtype: bfloat16}").out


def test_it_shows_phases_steps_model_and_cluster(check):
    out = check("num_epochs=3", "test_phase_period=2").out
    assert "# phases: 3 train + 2 test" in out
    assert "# train: 96 rows, 2 steps of 32 x 2 workers per phase (the last: 32 rows)" in out
    assert "# test: 70 rows, 1 step of 64 x 2 workers per phase" in out
    assert "# model: 610 parameters, 618 FLOPs (multiply-adds) per sample of shape (1, 8, 8)" in out
    assert "# outputs: 10 for 10 classes" in out
    assert "# cluster: 2 workers x 1 CPU = 2 CPU, at a local Ray" in out


def test_rows_that_drop_last_leaves_out(check):
    out = check("dataset.train.drop_last=true", "--local", "dataset.train.num_samples=70").out
    assert "# train: 70 rows, 2 steps of 32 per phase (6 rows left out)" in out


def test_parts_of_an_epoch(check):
    out = check("dataset.train.phases_per_epoch=2", "--local").out
    assert "# phases: 2 train + 2 test" in out
    assert "# train: 96 rows in 2 phases per epoch, 2 steps of 32 per phase (the last: 16 rows)" in out


def test_its_output_is_a_config_that_checks(check, ray_classy, config, tmp_path):
    (tmp_path / "resolved.yaml").write_text(check().out)
    assert load_config("resolved.yaml")["optimizer"]["momentum"] == 0.0
    assert ray_classy("check", "resolved.yaml").code == 0


def test_it_makes_no_folder_and_starts_no_ray(check):
    import ray

    assert check().code == 0
    assert not os.path.exists("runs")
    assert not ray.is_initialized() or os.environ.get("PYTEST_XDIST_WORKER")


def test_former_keys_have_one_line_each(check):
    outcome = check("optimizer.num_epochs=3", "dataset.train.use_augmentation=true")
    assert "override 'optimizer.num_epochs=3': optimizer.num_epochs has no effect" in outcome.out


def test_it_shows_what_is_read_ahead(check):
    assert "# batches read ahead, train: 6 KiB of each worker's own memory" in check().out


def test_it_shows_the_copy_of_large_parquet_files(check, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_CLASSY_CACHE", str(tmp_path / "cache"))
    assert "# disk:" not in check().out
    monkeypatch.setattr("ray_classy.dataset.parquet_rows.IN_MEMORY_BYTES", 0)
    outcome = check()
    assert "# rows in Ray's object store: none\n" in outcome.out
    assert f"in {tmp_path / 'cache'} of each machine" in outcome.out


def test_it_says_who_makes_the_batches_and_in_which_memory(check):
    out = check().out
    assert "# rows in Ray's object store: about train " in out and "whatever the number of workers" in out

    auto = "by the workers, and by other nodes if training waits for data (ingest: auto); what other nodes have ready"
    assert f"# batches, train: made {auto}, 2 KiB a batch, takes at most 30% of the smallest node's object store" in out
    assert "# batches, test: made by the workers (ingest: worker)" in check("ray.ingest=worker").out
    assert "ready, 2 KiB a batch, takes at most 1 MiB, 256 batches for each" in check("ray.ingest_memory=1048576").out


def test_flops_that_cannot_be_counted_are_left_out(check, monkeypatch):
    monkeypatch.setattr("ray_classy.cli.describe_run.compute_flops", lambda *_: 1 / 0)
    assert "# model: 610 parameters\n" in check().out


def test_json_has_the_same_facts(check):
    data = check("--json").json
    assert data["phases"] == {"train": 1, "test": 1}
    assert data["model"]["parameters"] == 610
    assert data["transforms"]["test"] == {"rows": [], "batches": ["ToTensor"]}
    assert data["cluster"]["total"] == {"CPU": 2}


def test_it_shows_which_transforms_run_where(check):
    chain = "[{name: RandomResizedCrop, size: 8}, {name: RandomHorizontalFlip}, {name: ToTensor}]"
    out = check(f"dataset.train.transforms=[{{name: apply_transform_to_key, transforms: {chain}}}]").out
    assert (
        "# train transforms: row by row on the CPU: RandomResizedCrop; "
        "in batches on the training device: RandomHorizontalFlip, ToTensor\n"
    ) in out
    assert "# test transforms: row by row on the CPU: nothing; in batches on the training device: ToTensor\n" in out


def test_gpus_are_asked_for(check):
    assert check("--use-gpu", "--num-workers", "3", "--json").json["cluster"]["total"] == {"GPU": 3}


def test_a_model_is_built_without_memory_for_its_weights(check):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out = check("model={name: mlp, input_dim: 64, output_dim: 10, hidden_dims: [20000, 20000]}").out
    assert "401,520,010 parameters" in out  # which take 1.5 GiB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 800_000  # KiB


def test_a_model_on_other_machines_may_be_larger_than_this_one_holds(check):
    large = "model={name: mlp, input_dim: 64, output_dim: 10, hidden_dims: [1000000, 1000000]}"
    assert "1,000,076,000,010 parameters" in check(large, "--address", "head:6379").out
    assert "this machine has" in check(large).err


def test_a_model_that_needs_real_weights_is_built_on_the_cpu(check, monkeypatch):
    @register_model("weighing", bypass_checks=True)
    class Weighing(ClassyModel):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(64, 10)
            self.total = float(self.layer.weight.detach().sum())

        def forward(self, x):
            return self.layer(x.flatten(1))

    monkeypatch.delitem(Registry.all["model"]._classes, "weighing")
    monkeypatch.setitem(Registry.all["model"]._classes, "weighing", Weighing)
    assert "650 parameters, 650 FLOPs" in check("model={name: weighing}").out


def test_the_checkpoint_is_tried(check, local):
    local("--name", "one", "model.hidden_dims=[5]")
    outcome = check("--checkpoint", "runs/one")
    assert outcome.code == 1
    assert "does not fit this MLP" in outcome.err
    assert check("--checkpoint", "runs/one", "model.hidden_dims=[5]").code == 0


def test_a_run_of_that_name_is_told(check, local):
    local("--name", "one")
    assert "# resumes: runs/one" in check("--name", "one").out
    assert "there is a run 'one'" in check("--name", "one", "optimizer.momentum=0.5").err


def test_a_mistake_has_the_exit_code_of_train(check):
    outcome = check("dataset.train.use_shufle=true")
    assert outcome.code == 2
    assert outcome.out == ""
    assert "did you mean 'use_shuffle'?" in outcome.err


@pytest.mark.parametrize("key", ["ray.resources_per_worker", "ray.resources_per_worker --local"])
def test_resources_have_the_names_that_ray_gives_them(check, key):
    key, *flags = key.split()
    outcome = check(f"{key}={{cpu: 1}}", *flags)
    assert (
        outcome.code == 2 and "ray.resources_per_worker.cpu: 'cpu' is not a resource of Ray: write CPU" in outcome.err
    )


def test_nothing_is_trained_for_no_epoch(check):
    outcome = check("num_epochs=0")
    assert outcome.code == 2 and "num_epochs: must be a number above 0" in outcome.err


def test_a_batch_of_all_workers_that_drop_last_leaves_empty(check):
    outcome = check("dataset.train.drop_last=true", "--num-workers", "4")
    assert outcome.code == 1
    assert "tiny.yaml:4: dataset.train: a train phase of 96 rows has no full global batch of 128 (32 x 4" in outcome.err


def test_it_lists_the_code_that_nodes_of_a_cluster_get(check, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [one for one in sys.meta_path if not isinstance(one, UserCode)])
    (tmp_path / "sent_by_check").mkdir()
    (tmp_path / "sent_by_check" / "parts.py").write_text("x = 1\n")
    (tmp_path / "sent_by_check" / "key.pem").write_text("k")
    outcome = check("imports=[sent_by_check.parts]", "--json").json
    assert outcome["code"]["files"] == {"sent_by_check/parts.py": 6} and outcome["code"]["bytes"] == 6
    assert [os.path.basename(path) for path in outcome["code"]["left_out"]] == ["key.pem"]
    line = "# code that nodes of a cluster get: 1 file, 6 B: sent_by_check/parts.py (6 B)"
    assert line in check("imports=[sent_by_check.parts]").out
