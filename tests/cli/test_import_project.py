"""`ray-classy import`: what a project that was written for Classy Vision needs to run here."""

import json
import os

import pytest

SCRIPT = """\
import classy_vision.hooks as hooks
from classy_vision.losses import ClassyLoss, register_loss
from classy_vision.optim import SGD, NoSuchThing
from classy_vision.nowhere import thing

MODULE = "classy_vision.models"  # of classy_vision


@register_loss("my_loss")
class MyLoss(ClassyLoss):
    pass
"""
CONFIG = {
    "name": "classification_task",
    "num_epochs": 1,
    "loss": {"name": "my_loss", "anything": 1},
    "dataset": {"train": {"name": "digits", "split": "train", "batchsize_per_replica": 8, "use_shuffle": True}},
    "model": {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [8], "hiden": 1},
    "optimizer": {"name": "sgd", "lr": 0.1},
}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "losses").mkdir()
    (tmp_path / "losses" / "mine.py").write_text(SCRIPT)
    (tmp_path / "losses" / "other.py").write_text("x = 1\n")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG, indent=1))
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "installed.py").write_text("import classy_vision\n")
    return tmp_path


def test_it_lists_what_it_would_change_and_changes_nothing(project, ray_classy):
    told = ray_classy("import", str(project))
    assert told.code == 0 and (project / "losses" / "mine.py").read_text() == SCRIPT
    assert "  1: import classy_vision.hooks as hooks  ->  import ray_classy.hooks as hooks\n" in told.out
    assert "1 of 4 files would be changed; nothing was written: add --write to do so" in told.out
    assert "installed.py" not in told.out and "other.py" not in told.out


def test_what_is_missing_here_is_named(project, ray_classy):
    out = ray_classy("import", str(project)).out
    assert "  3: ray_classy.optim has no NoSuchThing" in out
    assert "  4: there is no module ray_classy.nowhere" in out


def test_mistakes_of_configs_are_named_but_not_components_of_the_project(project, ray_classy):
    lines = ray_classy("import", str(project), "--json").json["files"][str(project / "config.json")]
    (line,) = lines
    assert "model.hiden: unknown key" in line["text"]
    assert '"hiden"' in (project / "config.json").read_text().splitlines()[line["line"] - 1]


def test_write_renames_imports_and_strings_but_no_comments(project, ray_classy):
    file = project / "losses" / "mine.py"
    file.write_bytes(SCRIPT.replace("\n", "\r\n").encode())
    file.chmod(0o755)
    assert "changed 1 of 4 files" in ray_classy("import", str(project), "--write").out
    after = file.read_bytes().decode()
    assert 'MODULE = "ray_classy.models"  # of classy_vision\r\n' in after
    assert after.replace("ray_classy", "classy_vision") == SCRIPT.replace("\n", "\r\n")
    assert os.stat(file).st_mode & 0o777 == 0o755
    assert "none of 4 files needs the import renamed" in ray_classy("import", str(project)).out


def test_lines_after_a_form_feed_are_renamed(project, ray_classy):
    file = project / "losses" / "other.py"
    file.write_text("x = 1\n\x0c\ny = 2  # a\x0cb\nimport classy_vision.losses\nz = f'{x} classy_vision'\n")
    assert "  4: import classy_vision.losses  ->" in ray_classy("import", str(project), "--write").out
    after = "x = 1\n\x0c\ny = 2  # a\x0cb\nimport ray_classy.losses\nz = f'{x} ray_classy'\n"
    assert file.read_text() == after


def test_the_command_that_trains_with_the_projects_components_is_printed(project, ray_classy):
    told = ray_classy("import", str(project))
    assert f"  ray-classy train {project}/config.json --code {project} 'imports=[losses]'" in told.out


def test_a_name_that_is_no_text_is_a_mistake_of_the_config(project, ray_classy):
    (project / "config.json").write_text(json.dumps({**CONFIG, "loss": {"name": {"a": 1}}}))
    assert "loss" in ray_classy("import", str(project)).out


def test_a_file_that_is_no_python_is_left_alone(project, ray_classy):
    (project / "old.py").write_text("import classy_vision\nprint 'two'\n")
    out = ray_classy("import", str(project), "--write").out
    assert "rename classy_vision by hand" in out
    assert (project / "old.py").read_text() == "import classy_vision\nprint 'two'\n"


def test_a_folder_is_needed(tmp_path, ray_classy):
    told = ray_classy("import", str(tmp_path / "nowhere"))
    assert told.code == 2 and "is no folder" in told.err
