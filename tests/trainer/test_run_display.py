import io
import logging
import os
import pty
import subprocess
import sys
import time

import pytest
from rich.console import Console

from ray_classy.display import quiet
from ray_classy.hooks import build_hooks
from ray_classy.storage import Storage
from ray_classy.trainer import heartbeat, run_display
from ray_classy.trainer.logs import PROGRESS, log_to_stderr, tail_log
from ray_classy.trainer.progress_file import PROGRESS_FILE, ProgressFile, read_progress, remove_progress
from ray_classy.trainer.progress_line import Figures
from ray_classy.trainer.run_display import RunDisplay, RunLines, show_run
from ray_classy.trainer.run_folder import RunFolder
from tests.helpers import make_task

FIGURES = Figures("train", 3, 90, 400, 1000, 2400, 0.34, 0.5, [0.1], 1234.4, 0.123, 3 << 30, 75.0, 7200.0)


class Screen:
    """In place of a `LiveDisplay`: keeps what is drawn."""

    def __init__(self):
        self.drawn = []

    def draw(self, render):
        console = Console(file=io.StringIO(), width=100)
        console.print(render(100, 30))
        self.drawn.append(console.file.getvalue())

    def close(self):
        self.drawn.append("")


@pytest.fixture
def display(monkeypatch):
    monkeypatch.setattr(run_display, "_SECONDS_BETWEEN_UPDATES", 0.01)
    shown = RunDisplay(Screen())
    yield shown
    shown.close()


def drawn(display, text, seconds=10):
    """What is drawn, once it has a text in it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        last = next(iter(display._display.drawn[-1:]), "")
        if text in last:
            return last
        time.sleep(0.01)
    raise AssertionError(f"{text!r} is not drawn, but {display._display.drawn[-1:]}")


def test_what_comes_before_the_first_step_is_shown_as_what_it_is(display):
    display.working("reading \x1b[31m a checkpoint")
    assert "reading \\x1b[31m a checkpoint ... 0 s" in drawn(display, "reading")


def test_a_phase_is_shown_with_all_its_figures(display):
    display.looked(FIGURES)
    text = drawn(display, "step 400/1000")
    for part in ("train 3/90", "34% of the run", "loss 0.5000", "lr 0.1", "1234 samples/s", "data wait 12%",
                 "memory 3.0 GiB", "epoch 75 s left", "run 2.0 h left"):  # fmt: skip
        assert part in text
    assert "no news" not in text
    display._since -= 100
    assert "no news for 2 min" in drawn(display, "no news")


def test_a_run_on_ray_is_shown_from_its_folder(display, tmp_path, monkeypatch):
    monkeypatch.setitem(run_display.SECONDS_BETWEEN_WRITES, True, 0.01)
    run, file = RunFolder(str(tmp_path)), ProgressFile()
    with display.following(run):
        file._storage = run.storage
        file.starting(type("Session", (), {"run": run}))
        file.working("preparing the model and the data")
        drawn(display, "preparing the model")
        file.looked(FIGURES)
        drawn(display, "train 3/90")


def test_a_file_of_progress_is_read_back_and_a_damaged_one_is_none(tmp_path):
    storage = Storage(str(tmp_path))
    assert read_progress(storage) is None
    for content in (b"", b"[]", b'{"phase_type": 3}', b'{"phase_type": "\\u001b[2J", "phase": 1}', b"[" * 10**5):
        storage.write(PROGRESS_FILE, content)
        assert read_progress(storage) is None
    remove_progress(storage)
    remove_progress(storage)
    assert not storage.exists(PROGRESS_FILE)


@pytest.mark.parametrize("why", ["no terminal", "logging", "progress_bar", "quiet"])
def test_nothing_is_displayed_where_it_would_disturb(monkeypatch, why):
    monkeypatch.setattr(run_display, "on_terminal", lambda: why != "no terminal")
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()] if why == "logging" else [])
    hooks = build_hooks([{"name": "progress_bar"}] if why == "progress_bar" else [])
    with quiet(why == "quiet"), show_run(make_task(hooks=hooks)) as view:
        assert not view.displayed


def test_a_bar_of_a_worker_is_not_seen_and_the_display_is(monkeypatch):
    monkeypatch.setattr(run_display, "on_terminal", lambda: True)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with show_run(make_task(hooks=build_hooks([{"name": "progress_bar"}])), here=False) as view:
        assert view.displayed


def test_without_a_display_what_takes_long_is_a_line_until_the_workers_have_theirs(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "ray_classy")
    monkeypatch.setattr(heartbeat, "_SHORTEST_SECONDS", 0.02)
    lines = RunLines(0.02)
    lines.working("starting a local Ray", line=True)
    lines.working("copying")
    until = time.monotonic() + 10
    while "copying: 0 s so far" not in caplog.text and time.monotonic() < until:
        time.sleep(0.01)
    lines.heard()
    assert caplog.messages[0] == "starting a local Ray" and "copying: 0 s so far" in caplog.messages
    assert lines._heartbeat._over.is_set()


def test_lines_of_progress_are_hidden_where_it_is_displayed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with log_to_stderr(displayed=True):
        logging.getLogger("ray_classy").info(FIGURES.line(), extra=PROGRESS)
        logging.getLogger("ray_classy").info("kept")
    run = RunFolder(str(tmp_path))
    with tail_log(run, seconds=0.01, displayed=True):
        run.log(f"10:11:12  {FIGURES.line()}")
        run.log("10:11:12  preparing the model and the data: 45 s so far")
        run.log("10:11:12  train 3  1000 steps")
    assert [line[10:] for line in capsys.readouterr().err.splitlines()] == ["kept", "train 3  1000 steps"]


def test_quiet_prints_errors_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    run = RunFolder(str(tmp_path))
    with quiet(), log_to_stderr(), tail_log(run, seconds=0.01):
        logging.getLogger("ray_classy").warning("a warning")
        logging.getLogger("ray_classy").error("an error")
        run.log("a line")
    assert capsys.readouterr().err[10:] == "an error\n"


CONFIG = """
import sys
from ray_classy.trainer import LocalTrainer
from tests.helpers import make_task
import time

class Slow:
    def __call__(self, row):
        time.sleep(0.002)
        return row

LocalTrainer(sys.argv[1], "r").train(make_task(train=1200, epochs=1, transform=Slow()).set_log_every(seconds=1))
print("done")
"""


@pytest.mark.full
def test_a_terminal_shows_the_run_and_is_left_clean(tmp_path):
    (tmp_path / "s.py").write_text(CONFIG)
    primary, secondary = pty.openpty()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path]),
        "TERM": "xterm",
        "COLUMNS": "100",
    }
    child = subprocess.Popen([sys.executable, "s.py", str(tmp_path / "runs")], cwd=tmp_path, env=environment,
                             stdout=secondary, stderr=secondary, close_fds=True)  # fmt: skip
    os.close(secondary)
    output = b""
    while True:
        try:
            output += os.read(primary, 65536)
        except OSError:
            break
    assert child.wait() == 0
    text = output.decode()
    assert "step " in text and "samples/s" in text and "checking the data" in text
    assert "  train 1/1  step" not in text  # the lines of the log are hidden
    assert "train 1/1  step" in (tmp_path / "runs/r/log.txt").read_text() and text.rstrip().endswith("done")
    assert text.count("\x1b[?25h") >= 1  # the cursor is back
