"""Manifests for KubeRay; their form was compared with KubeRay's own definitions by hand."""

import pathlib
import shlex

import pytest
import yaml

from ray_classy.cli.arguments import parsed
from ray_classy.errors import ConfigError, ShippingError
from ray_classy.submit import kuberay
from ray_classy.submit.kuberay import kubernetes_name, manifest
from ray_classy.submit.package import files_of

STORE = ("--storage-path", "s3://bucket/runs")


def documents(job, image=None):
    return list(yaml.safe_load_all(manifest(job, files_of(job)[0], image)))


def test_a_ray_job_runs_the_command_with_the_config_that_it_is_given(project, job):
    files, ray_job = documents(job("train", "my.yaml", *STORE), "registry/image:1")
    assert (ray_job["apiVersion"], ray_job["kind"]) == ("ray.io/v1", "RayJob")
    words = shlex.split(ray_job["spec"]["entrypoint"])
    arguments = parsed(words[1:])
    assert words[0] == "ray-classy" and arguments.words[0] == "/ray_classy/my.yaml"
    assert arguments.storage_path == "s3://bucket/runs" and arguments.name
    head = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    [volume], [container] = head["volumes"], head["containers"]
    assert container["image"] == "registry/image:1" and container["volumeMounts"][0]["mountPath"] == "/ray_classy"
    assert volume["configMap"]["name"] == files["metadata"]["name"]
    found = {item["path"]: files["data"][item["key"]] for item in volume["configMap"]["items"]}
    assert found == {name: (project / name).read_text() for name in ("my.yaml", "my_parts.py", "my_layers.py")}
    assert yaml.safe_load(ray_job["spec"]["runtimeEnvYAML"]) == {"pip": ["emoji"]}


def test_there_is_a_pod_for_each_worker_and_beside_gpus_some_of_cpus(project, job):
    [ray_job] = documents(job("train", "recipe:digits", "--use-gpu", "ray.num_workers=[2, 8]", *STORE))
    training, ingest = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert [training[key] for key in ("minReplicas", "replicas", "maxReplicas")] == [2, 8, 8]
    assert training["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in ingest["template"]["spec"]["containers"][0]["resources"]["limits"]
    [ray_job] = documents(job("evaluate", "file:///bucket/runs/r"))
    assert [group["groupName"] for group in ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]] == ["training"]


def test_files_that_are_no_text_travel_too(project, job):
    (project / "my_parts").mkdir()
    (project / "my_parts.py").rename(project / "my_parts" / "__init__.py")
    (project / "my_parts" / "mean.bin").write_bytes(b"\xff\x00")
    files, _ = documents(job("train", "my.yaml", *STORE))
    assert list(files["binaryData"].values()) == ["/wA="]


def test_a_folder_of_this_machine_is_refused_and_one_that_is_given_is_not(project, job):
    with pytest.raises(ConfigError, match="the pods of a RayJob see no folder of this machine"):
        documents(job("train", "recipe:digits"))
    assert documents(job("train", "recipe:digits", "--storage-path", "/shared/runs"))


@pytest.mark.parametrize("env", ["{pip: needed.txt}", "{conda: env.yml}", "{py_modules: [more]}"])
def test_files_of_the_runtime_environment_are_refused(project, job, env):
    with pytest.raises(ConfigError, match=r"the pods do not see '.*' of this machine"):
        documents(job("train", "my.yaml", *STORE, f"ray.runtime_env={env}"))
    assert documents(job("train", "my.yaml", *STORE, "ray.runtime_env={conda: base, pip: [emoji]}"))


def test_files_that_a_config_map_cannot_hold_are_refused_by_name(project, job, monkeypatch):
    monkeypatch.setattr(kuberay, "MOST_BYTES", 10)
    with pytest.raises(ShippingError, match=r"the largest: my\.yaml"):
        documents(job("train", "my.yaml", *STORE))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My_run.v2", "my-run-v2"),
        ("20260102-a", "run-20260102-a"),
        ("x" * 60 + "-12345678", "x" * 27 + "-xxx-12345678"),
    ],
)
def test_names_are_those_of_kubernetes(text, name):
    assert kubernetes_name(text) == name and len(name) <= 47


def test_the_manifests_that_come_with_the_package_have_this_form(project, job):
    folder = pathlib.Path(__file__).parents[2] / "deploy" / "kuberay"
    [shown] = yaml.safe_load_all((folder / "rayjob.yaml").read_text())
    words = shlex.split(shown["spec"]["entrypoint"])
    assert words[0] == "ray-classy" and parsed(words[1:]).command == "train"
    [made] = documents(job(*words[1:]), "REGISTRY/ray-classy:0.1.0")
    shown["spec"]["rayClusterSpec"]["rayVersion"] = made["spec"]["rayClusterSpec"]["rayVersion"]
    assert shown == made
    cluster = yaml.safe_load((folder / "raycluster.yaml").read_text())
    groups = cluster["spec"]["workerGroupSpecs"]
    assert cluster["kind"] == "RayCluster" and [group["groupName"] for group in groups] == ["training", "ingest"]
