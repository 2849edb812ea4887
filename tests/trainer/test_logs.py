import io
import logging
import sys

from ray_classy.trainer.logs import log_to_folder, log_to_stderr, tail_log
from ray_classy.trainer.run_folder import RunFolder

_log = logging.getLogger("ray_classy.test")


def test_lines_go_into_the_run(tmp_path):
    run = RunFolder(str(tmp_path))
    with log_to_folder(run):
        _log.info("inside")
        _log.debug("too fine")
    _log.info("outside")
    text = (tmp_path / "log.txt").read_text()
    assert text.endswith("  inside\n") and text.count("\n") == 1


def test_level_is_put_back(tmp_path):
    before = logging.getLogger("ray_classy").level
    with log_to_folder(RunFolder(str(tmp_path))):
        pass
    assert logging.getLogger("ray_classy").level == before


def test_log_that_cannot_be_written_is_told_once_until_it_can(tmp_path, capsys):
    folder = tmp_path / "gone"
    with log_to_folder(RunFolder(str(folder))):
        for _ in range(3):
            _log.info("lost")
        folder.mkdir()
        _log.info("kept")
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot write {folder}/log.txt" in line and "No such file" in line
    assert (folder / "log.txt").read_text().endswith("  kept\n")


def test_lines_go_to_standard_error(monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with log_to_stderr():
        _log.info("hello")
    assert capsys.readouterr().err.endswith("  hello\n")


def test_program_with_logging_of_its_own_is_left_alone(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    with log_to_stderr():
        _log.info("hello")
    assert stream.getvalue() == ""


def test_appended_lines_are_printed(tmp_path, capsys):
    run = RunFolder(str(tmp_path))
    run.log("before")
    with tail_log(run, seconds=0.01):
        run.log("during")
    assert capsys.readouterr().err == "during\n"
