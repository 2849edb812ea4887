"""`ray-classy predict`: one line for an image, a file for many."""

import json
import re

import pytest

from ray_classy.cli.main import main
from tests.inference.conftest import digits, folder, result  # noqa: F401 (fixtures)


def test_an_image_is_one_line(result, folder, capsys):  # noqa: F811
    assert main(["predict", result.path, str(folder / "03.png"), "--topk", "2"]) == 0
    assert re.fullmatch(r"\S+03\.png  \d [\d.]+%  \d [\d.]+%\n", capsys.readouterr().out)


def test_a_bad_image_says_why(result, folder, capsys):  # noqa: F811
    assert main(["predict", result.path, str(folder / "20.png")]) == 0
    assert "20.png  not predicted: " in capsys.readouterr().out


def test_many_images_go_to_a_file(result, folder, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "p.csv"
    assert main(["predict", result.path, str(folder), "--output", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 22
    assert "1 image cannot be decoded" in capsys.readouterr().out


def test_json_has_the_scores(result, folder, capsys):  # noqa: F811
    assert main(["predict", result.path, str(folder / "03.png"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["topk"][0] == {"label": row["prediction"], "score": row["score"]}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["RUN"], "predict takes a run or checkpoint, and files"),
        (["RUN", "nothing.png"], "there is no file or folder 'nothing.png'"),
        (["RUN", "README.md", "--topk", "0"], "--topk must be at least 1, not 0"),
        (["norun", "README.md"], "there is no checkpoint at"),
    ],
)
def test_a_mistake_is_one_line(result, words, text, capsys):  # noqa: F811
    assert main(["predict", *[result.path if word == "RUN" else word for word in words]]) != 0
    assert text in capsys.readouterr().err
