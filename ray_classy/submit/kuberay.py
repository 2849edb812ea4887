"""A job as a manifest for KubeRay: a RayJob whose cluster exists for the run alone, and a ConfigMap with its files."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yaml

from ray_classy import __version__
from ray_classy.disk_errors import size_text
from ray_classy.errors import ConfigError, ShippingError
from ray_classy.submit.job import Job
from ray_classy.trainer.shipped_code import CodeFile
from ray_classy.urls import is_url

FOLDER = "/ray_classy"
"""Where the head's pod finds the files of a job."""
MOST_BYTES = 900_000
"""Of the files: Kubernetes takes objects of up to 1 MiB."""

_LONGEST_NAME = 40  # KubeRay takes 47, and the ConfigMap has a suffix
_NAMED = 3
_ATTEMPTS = 2
_OLDEST_RAY = "2.57.0"
_HEAD = {"cpu": "2", "memory": "8Gi"}
_INGEST = {"cpu": "8", "memory": "16Gi"}
_MOST_INGEST = 4
_COMMENT = """\
# {name}: made by `ray-classy submit --kuberay`; run it with: kubectl apply -f FILE
#
# Build the image from deploy/Dockerfile and push it to where your cluster pulls from. Adapt CPUs, memory and GPUs to
# your nodes, and the replicas of a sweep to the trials that run at once. The pods need access to the run's storage, as
# by a service account or a Secret in `envFrom`. A failed attempt is repeated {attempts} times, on a new cluster, and
# resumes from the last checkpoint; so does applying the file again after the RayJob was deleted.
"""


class _Text(str):
    """A text that YAML shows as a block of lines."""


class _Dumper(yaml.SafeDumper):
    """Writes lists below their key, and texts of several lines as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


_Dumper.add_representer(_Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|"))


def manifest(job: Job, files: Sequence[CodeFile], image: str | None = None) -> str:
    """The manifest of a job, in YAML.

    Args:
        job: the command.
        files: that it needs; see `package.files_of`.
        image: of all pods, with ray_classy and Ray; None is the name that docs/cluster.md gives to one of this version.

    Raises:
        ConfigError: the run's storage or a file of `ray.runtime_env` cannot be seen by the pods, or `ray.num_workers`
            is invalid.
        ShippingError: the files are too large for a ConfigMap; the message names the largest.
    """
    if job.run is not None and not is_url(job.run) and not job.ray.get("storage_path"):
        raise ConfigError(
            "the pods of a RayJob see no folder of this machine: give --storage-path a URL such as s3://bucket/runs or "
            "the path of a volume that you mount in all pods"
        )
    _check_size(files)
    _check_runtime_env(job.ray.get("runtime_env") or {})
    name = kubernetes_name(job.name)
    documents = [_files_of(name, job, files)] if files else []
    documents.append(_ray_job(name, job, files, image or f"ray-classy:{__version__}"))
    text = "---\n".join(yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=110) for one in documents)
    return (_COMMENT.format(name=name, attempts=_ATTEMPTS) + text).rstrip("\n")


def kubernetes_name(text: str) -> str:
    """A text as the name of an object of Kubernetes."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    name = name if name[:1].isalpha() else f"run-{name}"
    if len(name) > _LONGEST_NAME:  # what distinguishes names is at their end
        name = f"{name[: _LONGEST_NAME - 13].rstrip('-')}-{name[-12:].lstrip('-')}"
    return name


def _check_size(files: Sequence[CodeFile]) -> None:
    size = sum(file.size for file in files)
    if size > MOST_BYTES:
        largest = sorted(files, key=lambda file: -file.size)[:_NAMED]
        named = ", ".join(f"{file.name} ({size_text(file.size)})" for file in largest)
        raise ShippingError(
            f"the config and its modules have {size_text(size)}, and a ConfigMap of Kubernetes takes "
            f"{size_text(MOST_BYTES)}; the largest: {named}. Copy them into the image, or submit to a running cluster "
            f"with --address"
        )


def _check_runtime_env(env: Mapping[str, Any]) -> None:
    """Refuses files of this machine, which Ray's own client would send."""
    files = [(key, env.get(key)) for key in ("pip", "uv")]
    files += [("conda", env["conda"])] if str(env.get("conda")).endswith((".yaml", ".yml")) else []
    files += [("py_modules", place) for place in env.get("py_modules") or () if not is_url(place)]
    for key, value in files:
        if isinstance(value, str):
            raise ConfigError(
                f"ray.runtime_env.{key}: the pods do not see {value!r} of this machine: list the packages, or add them "
                f"to the image"
            )


def _files_of(name: str, job: Job, files: Sequence[CodeFile]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    binary: dict[str, str] = {}
    for key, file in _keyed(files):
        content = _content(job, file)
        try:
            text = content.decode()
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(content).decode()
        else:
            data[key] = _Text(text)
    found: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-files"}}
    return {**found, **({"data": data} if data else {}), **({"binaryData": binary} if binary else {})}


def _keyed(files: Sequence[CodeFile]) -> Iterator[tuple[str, CodeFile]]:
    """The files with keys as a ConfigMap takes them, which have no slashes."""
    for number, file in enumerate(files):
        yield f"{number:03d}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', file.name)}"[:253], file


def _content(job: Job, file: CodeFile) -> bytes:
    if job.config_text is not None and file.source == job.config_file:
        return job.config_text
    with open(file.source, "rb") as opened:
        return opened.read()


def _ray_job(name: str, job: Job, files: Sequence[CodeFile], image: str) -> dict[str, Any]:
    runtime_env = job.ray.get("runtime_env")
    spec: dict[str, Any] = {
        "entrypoint": f"ray-classy {shlex.join(_words(job))}",
        "backoffLimit": _ATTEMPTS,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 3600,
        **({"runtimeEnvYAML": _Text(yaml.safe_dump(runtime_env, sort_keys=False))} if runtime_env else {}),
        "rayClusterSpec": {
            "rayVersion": _ray_version(),
            "authOptions": {"mode": "token"},
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},
                "template": {"spec": _head(name, image, files)},
            },
            "workerGroupSpecs": _groups(job, image),
        },
    }
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": name}, "spec": spec}


def _words(job: Job) -> list[str]:
    """The words of the command, with the config where the pods find it."""
    if job.config_file is None:
        return job.words
    return [job.words[0], f"{FOLDER}/{job.words[1]}", *job.words[2:]]


def _head(name: str, image: str, files: Sequence[CodeFile]) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "ray-head", "image": image, "resources": _resources(_HEAD)}
    if not files:
        return {"containers": [container]}
    container["volumeMounts"] = [{"name": "files", "mountPath": FOLDER, "readOnly": True}]
    items = [{"key": key, "path": file.name} for key, file in _keyed(files)]
    volume = {"name": "files", "configMap": {"name": f"{name}-files", "items": items}}
    return {"containers": [container], "volumes": [volume]}


def _groups(job: Job, image: str) -> list[dict[str, Any]]:
    """A group of one pod per worker; beside GPUs, a group of CPUs that decode images."""
    workers = job.ray.get("num_workers") or 1
    least, most = workers if isinstance(workers, list | tuple) and len(workers) == 2 else (workers, workers)
    each = job.ray.get("resources_per_worker") or {}
    if not (isinstance(least, int) and isinstance(most, int) and 1 <= least <= most and isinstance(each, dict)):
        raise ConfigError(f"ray.num_workers: expected a number of at least 1, or [least, most], not {workers!r}")
    gpus = each.get("GPU", 1 if job.ray.get("use_gpu") else 0)
    cpus = max(each.get("CPU", 0), 8 if gpus else 2)
    resources = {"cpu": f"{cpus:g}", "memory": "32Gi" if gpus else "8Gi"}
    if gpus:
        resources["nvidia.com/gpu"] = f"{max(1, round(gpus)):d}"
    groups = [_group("training", image, (most, least, most), resources)]
    if gpus:
        groups.append(_group("ingest", image, (1, 0, _MOST_INGEST), _INGEST))
    return groups


def _group(name: str, image: str, replicas: tuple[int, int, int], resources: dict[str, str]) -> dict[str, Any]:
    wanted, least, most = replicas
    return {
        "groupName": name,
        "replicas": wanted,
        "minReplicas": least,
        "maxReplicas": most,
        "rayStartParams": {},
        "template": {
            "spec": {"containers": [{"name": "ray-worker", "image": image, "resources": _resources(resources)}]}
        },
    }


def _resources(each: dict[str, str]) -> dict[str, dict[str, str]]:
    """Requests and limits are the same: Ray takes a pod's limits for what its node has."""
    return {"requests": dict(each), "limits": dict(each)}


def _ray_version() -> str:
    try:
        return version("ray")
    except PackageNotFoundError:
        return _OLDEST_RAY
