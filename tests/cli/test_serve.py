"""`ray-classy serve`: mistakes are said before Ray is started; Ctrl-C ends it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from ray_classy.cli.main import main
from tests.inference.conftest import digits, result  # noqa: F401 (fixtures)

pytest.importorskip("starlette")
pytest.importorskip("fastapi")


@pytest.fixture
def taken():
    """A port in use."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "takes one word, a run, checkpoint or export"),
        (["r", "--port", "0"], "--port must be 1 to 65,535"),
        (["r", "--topk", "0"], "--topk must be at least 1"),
    ],
)
def test_a_mistake_is_one_line(words, text, capsys):
    assert main(["serve", *words]) == 2
    assert text in capsys.readouterr().err


def test_a_busy_port_is_named(taken, capsys):
    assert main(["serve", "no-run", "--port", str(taken)]) == 1
    assert f"port {taken} of 127.0.0.1 is in use: give another --port" in capsys.readouterr().err


def test_a_missing_run_is_named(capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert main(["serve", "no-run", "--port", str(port)]) == 1
    assert "no checkpoint at" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.full
def test_it_answers_until_it_is_interrupted(result, digits, tmp_path):  # noqa: F811
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    digits[0][0].save(tmp_path / "0.png")
    code = "import sys; from ray_classy.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "serve", result.path, "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    try:
        assert process.stdout is not None
        lines = []
        while not lines or "Ctrl-C stops it" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        url = f"http://127.0.0.1:{port}/predict"
        with urllib.request.urlopen(url, (tmp_path / "0.png").read_bytes(), timeout=60) as answer:
            assert json.loads(answer.read())["prediction"] in map(str, range(10))
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0]
        assert process.returncode == 0 and rest.strip() == "stopped", rest
        with pytest.raises(OSError):
            urllib.request.urlopen(url, timeout=5)
    finally:
        process.kill()
        time.sleep(0)
