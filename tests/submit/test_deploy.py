"""The files in `deploy/`: their form, and the commands in them."""

import json
import pathlib
import re
import shlex

import jsonschema
import pytest
import ray
import yaml

from ray_classy.cli.arguments import parsed

DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_cluster_files_have_the_form_that_ray_up_checks(name):
    schema = json.loads((pathlib.Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((DEPLOY / f"{name}.yaml").read_text())
    jsonschema.validate(cluster, schema)
    kinds = cluster["available_node_types"]
    assert set(kinds) == {"head", "training", "ingest"} and cluster["head_node_type"] == "head"
    assert all("ray start" in cluster[f"{node}_start_ray_commands"][1] for node in ("head", "worker"))


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: path.name)
def test_the_commands_in_comments_parse(path):
    text = re.sub(r"\\\n#\s+", "", path.read_text())
    commands = re.findall(r"^#\s+ray-classy (.*)$", text, re.MULTILINE)
    assert [parsed(shlex.split(command)).command for command in commands] == ["submit"] * len(commands)
    assert commands or path.name == "rayjob.yaml"


def test_the_image_is_built_from_files_that_exist():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[2:-1]]
    assert copied and all((DEPLOY.parent / name).exists() for name in copied)
    for line in lines:
        for command in re.findall(r"ray-classy ([^&]+)", line) if line.startswith("RUN") else ():
            assert parsed(shlex.split(command)).command
