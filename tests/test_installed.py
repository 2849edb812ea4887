"""A package installs with its recipes, as a wheel and editable; its page in an index has working links."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "ray_classy", "configs")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
CHECK = """
import sys, ray_classy
from ray_classy.cli.main import main
from ray_classy.config import load_config
assert ray_classy.__file__.startswith(sys.argv[1]), ray_classy.__file__
assert main(["recipes"]) == 0
assert load_config("recipe:sweeps/asha")["tune"]["num_samples"] == 18
print("heavy:", {"torch", "ray", "numpy"} & set(sys.modules))
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of what a distribution is built from; building writes beside it."""
    folder = tmp_path_factory.mktemp("sources")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture
def environment(tmp_path):
    """An environment without ray_classy, which sees the packages that it needs where this one has them."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    folder = tmp_path / "env" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (folder / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return tmp_path / "env"


def run(*command, cwd):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.full
@pytest.mark.parametrize("way", ["wheel", "editable"])
def test_an_install_lists_prints_and_checks_recipes(sources, environment, tmp_path, way):
    build = ("--no-deps", "--no-build-isolation", "--no-index")
    pip = (*PIP, "--python", environment / "bin" / "python")
    if way == "wheel":
        run(*pip, "wheel", *build, "--wheel-dir", tmp_path, sources, cwd=tmp_path)
        run(*pip, "install", *build, *tmp_path.glob("*.whl"), cwd=tmp_path)
    else:
        run(*pip, "install", *build, "--editable", sources, cwd=tmp_path)
    home = environment if way == "wheel" else sources
    program = environment / "bin" / "ray-classy"
    listed = run(environment / "bin" / "python", "-c", CHECK, home, cwd=tmp_path)
    assert "digits: Handwritten digits" in listed and listed.endswith("heavy: set()\n")
    assert run(program, "recipes", "digits", cwd=tmp_path) == ROOT.joinpath("configs", "digits.yaml").read_text()
    assert "num_epochs: 3" in run(program, "check", "recipe:digits", "--local", "num_epochs=3", cwd=tmp_path)


METADATA = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('.'))"


@pytest.mark.full
def test_the_page_of_an_index_links_into_the_repository(sources, tmp_path):
    folder = shutil.copytree(sources, tmp_path / "sources")
    settings = folder.joinpath("setup.cfg").read_text()
    folder.joinpath("setup.cfg").write_text(settings.replace("[metadata]\n", "[metadata]\nurl = https://host/us/it\n"))
    name = run(sys.executable, "-c", METADATA, cwd=folder).split()[-1]
    text = folder.joinpath(name, "METADATA").read_text()
    assert "](https://host/us/it/raw/main/docs/images/report.png)" in text
    assert "](https://host/us/it/blob/main/docs/tutorial.md)" in text and "](docs/" not in text
