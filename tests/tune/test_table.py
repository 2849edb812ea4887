"""The table of a sweep, and its plain lines."""

import math
import sys

import pytest

from ray_classy.tune.folder import FAILED, FINISHED, NOT_STARTED, STOPPED, TrialRecord
from ray_classy.tune.space import Space
from ray_classy.tune.table import Table

CONFIG = {
    "optimizer": {"lr": {"search": "loguniform", "lower": 1e-4, "upper": 1.0}},
    "model": {
        "search": "choice",
        "categories": [{"name": "a", "x": {"search": "uniform", "lower": 0.0, "upper": 1.0}}, "b"],
    },
}


def record(index, value=None, state=FINISHED, **more):
    metrics = {} if value is None else {"test.top_1": value}
    params = {"optimizer.lr": 0.012345, "model": "b", "model.x": 0.5}
    return TrialRecord(f"t{index:04d}", index, params, state, epoch=4, metrics=metrics, seconds=3.0, **more)


@pytest.fixture
def records():
    return {r.name: r for r in (record(0, 0.5), record(1, 0.9), record(2, state=FAILED, reason="ValueError: no"))}


@pytest.fixture
def table(records):
    return Table(Space(CONFIG), "test.top_1", "max", 4, 5, records)


def test_trials_come_from_the_best_to_the_worst(table, records):
    assert [one.name for one in table.best(records.values())] == ["t0001", "t0000", "t0002"]


def test_what_is_no_number_is_never_the_best(table):
    assert table.best([record(0, math.nan), record(1, 0.9), record(2, math.inf)])[0].name == "t0001"


def test_a_smaller_loss_is_better(records):
    table = Table(Space(CONFIG), "test.top_1", "min", 4, 5, records)
    assert [one.name for one in table.best(records.values())] == ["t0000", "t0001", "t0002"]


def test_a_row_shows_the_parameters_that_count(table, records):
    head, *rows = table.rows(records.values())
    assert head == ["trial", "lr", "model", "x", "test.top_1", "epoch", "state", "time"]
    assert rows[0] == ["t0000", "0.0123", "b", "", "0.5000", "4/4", "finished", "3 s"]


def test_a_trial_that_the_budget_left_out_is_not_started(table):
    record = TrialRecord("t0003", 3, {"optimizer.lr": 0.1, "model": "b"}, NOT_STARTED, reason="the budget is spent")
    assert table.rows([record])[1] == ["t0003", "0.1", "b", "", "", "", "not started", ""]


def test_the_end_of_a_trial_is_one_line(table, records, capsys):
    table.ended(records["t0002"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "3/5  t0002" in lines[0] and lines[0].endswith("failed  (ValueError: no)")


def test_nothing_is_shown_unless_asked_for(records, capsys):
    table = Table(Space(CONFIG), "test.top_1", "max", 4, 5, records, shown=False)
    table.ended(records["t0001"])
    table.draw({})
    assert capsys.readouterr().err == ""


def test_columns_are_aligned(table, records):
    lines = table.text(records.values()).splitlines()
    assert len({line.index("finished") for line in lines if "finished" in line}) == 1


def use_terminal(monkeypatch, columns):
    """Makes standard error a terminal."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))


def test_on_a_terminal_the_table_is_updated_in_place(records, monkeypatch, capsys):
    use_terminal(monkeypatch, 80)
    monkeypatch.setattr("ray_classy.tune.table._SECONDS_BETWEEN_UPDATES", 0.0)
    table = Table(Space(CONFIG), "test.top_1", "max", 4, 5, records)
    records["t0003"] = record(3, 0.7, "running")
    table.reported(records["t0003"], 0.75)
    table.draw({"t0003": "RUNNING"})
    first = capsys.readouterr().err
    assert "t0003" in first.splitlines()[1] and "1 s left" in first and "3 of 5 trials done, 1 running" in first
    table.draw({"t0003": "PAUSED"})
    second = capsys.readouterr().err
    assert second.count("\x1b[1A") == len(first.splitlines()) - 1 and "paused" in second
    print("a warning", file=sys.stderr)
    table.finish()
    _, _, rest = capsys.readouterr().err.partition("a warning")
    assert "t0003" in rest and rest.endswith("\x1b[?25h\r" + "\x1b[1A\x1b[2K" * 6)


def test_a_narrow_terminal_shortens_parameters_first(records, monkeypatch, capsys):
    use_terminal(monkeypatch, 58)
    table = Table(Space(CONFIG), "test.top_1", "max", 4, 5, records)
    for one in records.values():
        one.params["optimizer.lr"] = "a very long label of a choice"
    table.draw({})
    shown = capsys.readouterr().err
    assert all(word in shown for word in ("t0001", "a v", "0.9000", "4/4", "finished", "3 s"))
    table.finish()


def test_a_stopped_trial_with_a_reason_is_still_ranked(table):
    stopped = record(4, 0.95, STOPPED, reason="by asha at epoch 1")
    assert table.best([stopped, record(1, 0.9)])[0] is stopped
