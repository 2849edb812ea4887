"""The command of a job: what the cluster runs in place of what was typed."""

import io
import shlex
import sys
from types import SimpleNamespace

import pytest

from ray_classy.cli.arguments import UsageError, parsed
from ray_classy.errors import ConfigError, RunFolderError


def value_of(words, flag):
    return words[words.index(flag) + 1]


def test_the_config_lies_in_the_working_directory_and_paths_are_absolute(project, job):
    found = job("train", "my.yaml", "num_epochs=3", "--checkpoint", "old", "--num-workers", "4")
    assert found.words[:3] == ["train", "my.yaml", "num_epochs=3"] and found.config_file == str(project / "my.yaml")
    assert f'dataset.train.image_folder="{project}/photos"' in found.words
    assert value_of(found.words, "--checkpoint") == str(project / "old")
    assert value_of(found.words, "--storage-path") == str(project / "runs")
    assert found.run == f"{project}/runs/{value_of(found.words, '--name')}"
    assert (found.code, found.imports) == (str(project), ["my_parts"])


def test_the_command_of_a_job_is_one_of_ray_classy(project, job):
    found = job("tune", "my.yaml", "a b=it's", "--num-samples", "3", "--storage-path", "s3://bucket/runs")
    exec_, python, m, module, *words = shlex.split(found.entrypoint)
    assert (exec_, python, m, module) == ("exec", "python", "-m", "ray_classy.cli.on_cluster")
    assert parsed(words).storage_path == "s3://bucket/runs" and "a b=it's" in parsed(words).words


def test_the_runtime_environment_is_the_jobs_and_not_given_once_more(project, job):
    found = job("train", "my.yaml")
    assert found.ray["runtime_env"] == {"pip": ["emoji"]} and "ray.runtime_env=null" in found.words


def test_the_same_command_has_the_same_name_also_on_more_workers(project, job):
    name = job("train", "my.yaml").name
    assert name.startswith("my-")
    assert (
        job("train", "my.yaml", "--num-workers", "8", "ray.max_failures=3", "--storage-path", "s3://b/c").name == name
    )
    assert job("train", "my.yaml", "num_epochs=3").name != name
    assert job("tune", "my.yaml").name != name
    assert job("train", "--images", "photos").name != job("train", "--images", "photos", "--model", "vgg11").name
    (project / "my.yaml").write_text((project / "my.yaml").read_text().replace("epochs: 2", "epochs: 9"))
    assert job("train", "my.yaml").name != name


def test_a_name_that_is_given_is_kept(project, job):
    found = job("train", "my.yaml", "--name", "a run", "--storage-path", "s3://b/runs?region=eu")
    assert (found.run, found.name) == ("s3://b/runs/a run?region=eu", "a run")
    assert job("train", "my.yaml", "ray.name=other").run == f"{project}/runs/other"


def test_recipes_and_own_data_are_chosen_on_the_cluster(project, job):
    assert job("train", "recipe:digits").words[1] == "recipe:digits"
    found = job("train", "--images", "photos", "--weights", "DEFAULT")
    assert value_of(found.words, "--images") == str(project / "photos")
    assert value_of(found.words, "--weights") == "DEFAULT"
    assert found.config_file is None and found.name.startswith("photos-")


def test_the_places_that_all_nodes_must_see_are_known(project, job):
    (project / "test").mkdir()
    found = job("train", "my.yaml", "dataset.test.image_folder=test", "dataset.test.name=image_path")
    assert sorted(found.places) == [f"{project}/{name}" for name in ("photos", "runs", "test")]
    assert job("evaluate", "runs/r").places == [f"{project}/runs/r"]
    [remark] = job("train", "my.yaml", "dataset.train.image_folder=fotos").remarks
    assert "dataset.train.image_folder: 'fotos' is a relative path; nothing is there" in remark
    assert job("train", "recipe:digits", "--storage-path", "s3://b/runs?a=/c").places == []


def test_secrets_that_a_cluster_shows_are_named(project, job):
    secret = "ray.runtime_env.env_vars={API_KEY: abc, OMP_NUM_THREADS: '1'}"
    assert job("train", "my.yaml", secret).secrets == ["ray.runtime_env.env_vars.API_KEY"]
    assert "abc" not in job("train", "my.yaml", secret).entrypoint
    assert job("train", "my.yaml", "--storage-path", "s3://KEY:SECRET@b/runs").secrets == ["the command line"]
    assert job("train", "my.yaml").secrets == []


def test_another_command_or_config_for_the_same_run_is_told_apart(project, job):
    first = job("train", "my.yaml", "--name", "r")
    assert job("train", "my.yaml", "--name", "r").metadata == first.metadata
    assert job("train", "my.yaml", "--name", "r", "--num-workers", "3").digest != first.digest
    (project / "my.yaml").write_text((project / "my.yaml").read_text().replace("epochs: 2", "epochs: 9"))
    assert job("train", "my.yaml", "--name", "r").digest != first.digest


def test_a_config_from_standard_input_is_sent(project, job, monkeypatch):
    text = (project / "my.yaml").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text), isatty=lambda: False))
    found = job("train", "-", "num_epochs=1")
    assert (found.words[1], found.config_file, found.config_text) == ("config.yaml", "config.yaml", text)
    assert found.imports == ["my_parts"] and found.code == str(project)


def test_a_run_that_is_not_seen_from_here_is_resumed_on_the_cluster(project, job):
    found = job("train", "--resume", "/shared/runs/r1", "num_epochs=9")
    assert found.words == ["train", "num_epochs=9", "--resume", "/shared/runs/r1"]
    assert (found.run, found.name) == ("/shared/runs/r1", "r1") and "not seen from here" in found.remarks[0]


def test_evaluate_and_predict_name_absolute_paths(project, job):
    found = job("predict", "runs/r", "photos", "image_column=x", "--output", "out.csv", "--num-workers", "2")
    assert found.words[:4] == ["predict", f"{project}/runs/r", f"{project}/photos", "image_column=x"]
    assert value_of(found.words, "--output") == f"{project}/out.csv" and found.run is None
    found = job("evaluate", "file:///no/such/r")
    assert found.words == ["evaluate", "file:///no/such/r"] and "not seen from here" in found.remarks[0]


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        (["train", "my.yaml", "--address", "auto"], UsageError, "a job runs on the cluster that it is submitted to"),
        (["train", "my.yaml", "ray.runtime_env.working_dir=."], UsageError, "a job has one already"),
        (["train", "my.yaml", "ray.runtime_env=emoji"], ConfigError, "ray.runtime_env: expected a mapping"),
        (["train", "--images", "photos", "ray.num_worker=2"], ConfigError, "num_workers"),
        (["train", "none.yaml"], ConfigError, "there is no such file"),
        (["train"], UsageError, "train needs a config file"),
        (["train", "my.yaml", "--name", "a/b"], RunFolderError, "'a/b' cannot be one"),
        (["evaluate"], UsageError, "evaluate takes a run or checkpoint"),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(project, job, words, error, text):
    with pytest.raises(error, match=text):
        job(*words)
