from ray_classy.config.code import code_words
from ray_classy.config.document import Config
from ray_classy.printable import command_line
from ray_classy.trainer.run_spec import config_file_fact


def test_a_job_names_commands_and_files_of_the_machine_that_submitted_it(monkeypatch, tmp_path):
    config = Config({"imports": ["my_parts"]}, str(tmp_path / "my.yaml"), {})
    assert command_line("train", "my.yaml") == "ray-classy train my.yaml"
    monkeypatch.setenv("RAY_CLASSY_JOB", "j1")
    assert command_line("train", "my.yaml") == "ray-classy submit train my.yaml"
    monkeypatch.setenv("RAY_CLASSY_JOB_ADDRESS", "http://head:8265")
    assert command_line("tune", "my.yaml") == "ray-classy submit --address http://head:8265 tune my.yaml"
    assert command_line("ls", "runs") == "ray-classy ls runs"
    assert config_file_fact(config.file) == {"config_file": config.file}
    monkeypatch.setenv("RAY_CLASSY_CONFIG_FILE", "/home/me/project/my.yaml")
    assert config_file_fact(config.file) == {"config_file": "/home/me/project/my.yaml"}
    assert code_words(config, "s3://bucket/runs/r") == ["--code", "/home/me/project"]
