import json
import os
import shutil

import pytest

from ray_classy.trainer import LocalTrainer
from tests.helpers import make_task

LINE = {"phase_idx": 0, "epoch": 1, "phase_type": "train", "metrics": {"loss": 0.5}}


def test_metrics_are_lines(run):
    for phase_idx in range(3):
        run.metrics.add({**LINE, "phase_idx": phase_idx})
    assert [line["phase_idx"] for line in run.metrics.lines()] == [0, 1, 2]
    assert len(run.storage.read("metrics.jsonl").splitlines()) == 3


def test_a_long_line_is_read_back(run):
    run.metrics.add({**LINE, "metrics": {"confusion": [[0.123456] * 400] * 400}})
    assert len(run.metrics.lines()[0]["metrics"]["confusion"]) == 400


def test_line_that_was_cut_off_is_passed_over(run):
    run.metrics.add(LINE)
    run.storage.append("metrics.jsonl", '{"phase_idx": 1, "metr')
    assert run.metrics.lines() == [LINE]


def test_lines_of_phases_that_are_run_again_are_dropped(run):
    for epoch in (1, 2, 3):
        for phase_type in ("train", "test"):
            run.metrics.add({**LINE, "epoch": epoch, "phase_type": phase_type})
    run.storage.append("metrics.jsonl", '{"pha')
    run.metrics.keep_until(2, tested=False)
    kept = [(line["epoch"], line["phase_type"]) for line in run.metrics.lines()]
    assert kept == [(1, "train"), (1, "test"), (2, "train")]


def test_no_metrics_yet(run):
    run.metrics.keep_until(0, tested=False)
    assert run.metrics.lines() == [] and run.checkpoints.latest() is None


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff" + json.dumps(LINE).encode(),
        b"\0\0\0",
        b"[" * 10**5,
        b'{"phase_idx": ' + b"1" * 5000 + b"}",
        b"[]",
        b'"train"',
        b"null",
        b"{}",
        b'{"epoch": "1", "phase_type": "train", "metrics": {}}',
        b'{"epoch": 1, "phase_type": 3, "metrics": {}}',
        b'{"epoch": 1, "phase_type": "train", "metrics": []}',
        b'{"epoch": 1, "phase_type": "train", "metrics": {}, "train_phase": "x"}',
    ],
)
def test_a_line_that_cannot_be_read_is_kept_aside_and_nothing_else_is_lost(run, damage, caplog):
    lines = [{**LINE, "epoch": epoch} for epoch in (1, 2, 3)]
    good = [json.dumps(line).encode() for line in lines]
    run.storage.write("metrics.jsonl", b"\n".join([damage, good[0], damage, *good[1:], b""]))
    assert run.metrics.lines() == lines and "2 lines of" in caplog.text and "cannot be read" in caplog.text
    run.metrics.keep_until(2, tested=True)
    assert run.metrics.lines() == lines[:2]
    assert run.storage.read("metrics.jsonl.damaged") == damage + b"\n" + damage + b"\n"


def test_what_was_kept_aside_before_stays(run):
    for damage in (b"one\n", b"two\n"):
        run.storage.write("metrics.jsonl", damage)
        run.metrics.keep_until(1, tested=True)
    assert run.storage.read("metrics.jsonl.damaged") == b"one\n"
    assert run.storage.read("metrics.jsonl.damaged-2") == b"two\n"


def test_a_file_without_any_line_is_kept_aside(run):
    run.storage.write("metrics.jsonl", b"\x1f\x8b gzipped")
    run.metrics.keep_until(1, tested=True)
    assert run.metrics.lines() == [] and run.storage.read("metrics.jsonl.damaged") == b"\x1f\x8b gzipped"


def test_a_resumed_run_has_its_history_although_a_byte_of_it_was_damaged(tmp_path):
    path = LocalTrainer(str(tmp_path), "r").train(make_task(epochs=2)).path
    with open(f"{path}/metrics.jsonl", "r+b") as file:
        file.write(b"\xff")
    result = LocalTrainer(resume=path).train(make_task(epochs=3))
    assert [(line["epoch"], line["phase_type"]) for line in result.metrics_history] == [
        (1, "test"),
        (2, "train"),
        (2, "test"),
        (3, "train"),
        (3, "test"),
    ]
    with open(f"{path}/metrics.jsonl.damaged", "rb") as file:
        assert file.read().startswith(b'\xff"phase_idx": 0')


def test_metrics_that_are_a_link_are_not_written_through(tmp_path, capsys):
    path = LocalTrainer(str(tmp_path), "r").train(make_task(epochs=1)).path
    os.rename(f"{path}/metrics.jsonl", tmp_path / "mine")
    os.symlink(tmp_path / "mine", f"{path}/metrics.jsonl")
    before = (tmp_path / "mine").read_bytes()
    result = LocalTrainer(resume=path).train(make_task(epochs=2))
    assert (tmp_path / "mine").read_bytes() == before and len(result.metrics_history) == 4


def test_the_metrics_of_a_run_whose_checkpoints_are_gone_are_kept(tmp_path, caplog):
    first = LocalTrainer(str(tmp_path), "r").train(make_task(epochs=2))
    before = (tmp_path / "r" / "metrics.jsonl").read_bytes()
    for name in os.listdir(first.path):
        if name.startswith("epoch_"):
            shutil.rmtree(f"{first.path}/{name}")
    again = LocalTrainer(resume=first.path).train(make_task(epochs=3))
    assert len(again.metrics_history) == 6 and "its metrics so far are in metrics.jsonl.before" in caplog.text
    assert (tmp_path / "r" / "metrics.jsonl.before").read_bytes() == before
