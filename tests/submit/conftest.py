"""What the tests of jobs share."""

import sys

import pytest

from ray_classy.cli.arguments import parsed
from ray_classy.cli.job_command import job_of
from ray_classy.user_code import UserCode

CONFIG = """
name: classification_task
imports: [my_parts]
num_epochs: 2
dataset: {train: {name: image_path, image_folder: photos, batchsize_per_replica: 2}}
ray: {num_workers: 2, runtime_env: {pip: [emoji]}}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with a config, a module and a folder of images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, UserCode)])
    (tmp_path / "my.yaml").write_text(CONFIG)
    (tmp_path / "my_parts.py").write_text("import my_layers\n")
    (tmp_path / "my_layers.py").write_text("x = 1\n")
    (tmp_path / "photos").mkdir()
    return tmp_path


@pytest.fixture
def job():
    """Makes the job of a command line."""
    return lambda *words: job_of(parsed(words))
