import io
import os
import subprocess
import sys

import pytest

from ray_classy.cli.streams import LenientStream


def run(shell, **environment):
    command = ["bash", "-o", "pipefail", "-c", shell.replace("ray-classy", f"{sys.executable} -m ray_classy")]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_what_the_encoding_lacks_is_escaped():
    stream = LenientStream(io.TextIOWrapper(bytes_ := io.BytesIO(), "ascii"))
    stream.write("läufe \udcff\n")
    stream.flush()
    assert bytes_.getvalue() == b"l\\xe4ufe \\udcff\n"


def test_a_closed_pipe_ends_nothing():
    reading, writing = os.pipe()
    with open(writing, "w") as file:
        stream = LenientStream(file)
        os.close(reading)
        for _ in range(2):
            stream.write("x\n")
            stream.flush()
        assert isinstance(stream.error, BrokenPipeError)
        stream.detach()


@pytest.mark.parametrize(
    "shell",
    [
        "ray-classy list >&-",
        "ray-classy list >&- 2>&-",
        "ray-classy list model 2>&1 | head -1",
        "ray-classy --help | head -1",
        "ray-classy ls no_such_run 2>&- >&-; test $? = 1",
        "ray-classy list läufe; test $? = 2 -o $? = 1",
    ],
)
@pytest.mark.full
def test_a_command_whose_output_cannot_be_written_succeeds_nevertheless(shell):
    done = run(shell, LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.full
def test_a_lost_answer_is_named():
    done = run("ray-classy list > /dev/full")
    assert done.returncode == 1 and "standard output cannot be written: No space left on device" in done.stderr
