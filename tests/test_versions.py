"""The oldest releases that are supported: `make test-oldest` runs the tests on the ones that setup.cfg allows."""

import configparser
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]


def lower_bounds():
    """The lower bound of each requirement of the package and of the extras that the tests need."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    lines = [config["options"]["install_requires"], extras["optuna"], extras["safetensors"], extras["pb2"]]
    found = re.findall(r"^([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)", "\n".join(lines), re.MULTILINE)
    return {name: numbers(version) for name, version in found}


def numbers(version):
    """A version as numbers, without zeros at its end."""
    parts = [int(part) for part in version.split(".")]
    while parts and not parts[-1]:
        parts.pop()
    return parts


def test_the_oldest_releases_that_are_allowed_are_the_ones_that_are_tested():
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    ours = lower_bounds()
    assert {name: numbers(version) for name, version in pins if name in ours} == ours  # others are for pip's sake


def test_the_document_of_versions_has_the_oldest_torch_and_ray():
    text = (ROOT / "docs" / "versions.md").read_text()
    for name in ("torch", "torchvision", "ray"):
        assert re.search(rf"\| {name} +\| {'.'.join(map(str, lower_bounds()[name]))} ", text, re.IGNORECASE), name
