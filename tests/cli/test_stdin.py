"""A config may come from standard input."""

import io
import pathlib


def given(monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_a_run_from_standard_input_can_be_resumed(ray_classy, config, monkeypatch):
    text = pathlib.Path(config).read_text()
    given(monkeypatch, text)
    assert ray_classy("train", "-", "--local", "--name", "r", "seed=3").code == 0
    assert ray_classy("train", "--resume", "runs/r", "--local", "num_epochs=2").code == 0


def test_check_reads_standard_input_and_names_its_lines(ray_classy, config, monkeypatch):
    text = pathlib.Path(config).read_text()
    given(monkeypatch, text)
    assert ray_classy("check", "-", "--local").code == 0
    given(monkeypatch, text.replace("hidden_dims", "hiden_dims"))
    outcome = ray_classy("check", "-", "--local")
    assert outcome.code == 2 and "<stdin>:10: model.hiden_dims: unknown key" in outcome.err
