"""`ray-classy export`: a file beside, and how far it differs."""

import pytest

from ray_classy.cli.main import main
from tests.inference.conftest import result  # noqa: F401 (a fixture)


def test_the_file_has_the_name_of_the_run(result, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    assert main(["export", result.path]) == 0
    assert (tmp_path / "r.pt2").exists() and (tmp_path / "r.pt2.md").exists()
    assert "difference  " in capsys.readouterr().out
    assert main(["export", result.path]) == 1
    assert "'r.pt2' exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--format", "tflite"], "--format must be pt2, onnx, safetensors or timm"),
        (["--output", "a.bin"], "must end in .pt2"),
        (["--format", "timm", "--normalize"], "--normalize goes with --format pt2 and onnx"),
    ],
)
def test_a_mistake_is_one_line(result, words, text, capsys):  # noqa: F811
    assert main(["export", result.path, *words]) == 2
    assert text in capsys.readouterr().err
