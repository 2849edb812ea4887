import os

import pytest

from ray_classy.config import Config
from ray_classy.config.code import code_folder, code_words, may_name_code


@pytest.fixture
def run(tmp_path):
    """The folder of a run."""
    (tmp_path / "run" / "inner").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text('{"starts": [], "versions": {"ray_classy": "1"}}')
    return tmp_path / "run"


def test_modules_are_looked_for_beside_the_config(tmp_path):
    assert code_folder(Config(file=str(tmp_path / "c.yaml"))) == str(tmp_path)
    assert code_folder(Config()) is None and code_folder(Config(file="s3://bucket/c.yaml")) is None


@pytest.mark.parametrize("inner", ["c.yaml", "inner/c.yaml"])
def test_no_module_is_looked_for_in_the_folder_of_a_run(run, inner):
    assert code_folder(Config(file=str(run / inner))) is None


@pytest.mark.parametrize("text", ["{}", '{"starts": 3, "versions": {"node": "20"}}', "[1]", "// no JSON"])
def test_a_file_of_another_program_forbids_no_code(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    assert code_folder(Config(file=str(tmp_path / "c.yaml"))) == str(tmp_path)


def test_a_project_far_below_a_run_has_code(run):
    assert code_folder(Config(file=str(run / "a" / "b" / "c" / "c.yaml"))) == str(run / "a" / "b" / "c")


def test_only_a_folder_of_this_user_is_named_by_a_run_of_this_user(tmp_path, run):
    assert may_name_code(str(run), str(tmp_path / "c.yaml"))
    assert not may_name_code("s3://bucket/run", str(tmp_path / "c.yaml"))
    assert not may_name_code(str(run), str(tmp_path / "gone" / "c.yaml"))
    assert not may_name_code(str(run), "https://host/c.yaml")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("foreign", ["run", "code"])
def test_folders_of_others_name_no_code(tmp_path, run, foreign):
    (tmp_path / "code").mkdir()
    os.chown(tmp_path / foreign, 12345, 12345)
    assert not may_name_code(str(run), str(tmp_path / "code" / "c.yaml"))


def test_a_folder_in_which_everybody_may_write_has_no_code(tmp_path, run):
    (tmp_path / "code").mkdir()
    (tmp_path / "code").chmod(0o777)
    assert not may_name_code(str(run), str(tmp_path / "code" / "c.yaml"))


def test_a_run_in_a_store_is_resumed_with_the_folder_of_its_modules(tmp_path, run):
    config = Config({"imports": ["m"]}, str(tmp_path / "c.yaml"))
    assert code_words(config, "s3://bucket/run") == ["--code", str(tmp_path)]
    assert code_words(config, str(run)) == [] and code_words(Config(file="c.yaml"), "s3://bucket/run") == []
