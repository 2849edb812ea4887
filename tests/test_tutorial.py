"""The tutorial works from its first line to its last: its blocks run in their order, in an empty folder."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.test_docs import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"


def steps():
    """The Python and shell blocks in their order; packages are installed already."""
    found = re.findall(r"^```(python|bash)\n(.*?)^```$", TUTORIAL.read_text(), re.DOTALL | re.MULTILINE)
    return [(language, re.sub(r"^pip install .*\n", "", text, flags=re.MULTILINE)) for language, text in found]


def environment():
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    packages = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**kept, "PATH": os.pathsep.join(paths), "PYTHONPATH": os.pathsep.join(packages)}


def run(folder, *command):
    done = subprocess.run(
        command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(service, port):
    """Waits until the service answers, three minutes at most."""
    for _ in range(180):
        assert service.poll() is None, "the service has ended"
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).status
        except OSError:
            time.sleep(1)
    raise AssertionError("the service does not answer")


@pytest.mark.ray
@pytest.mark.full
def test_every_step_of_the_tutorial_works(tmp_path):
    said, service, port = [], None, free_port()
    try:
        for at, (language, text) in enumerate(steps()):
            if language == "python" and at == 0:
                tmp_path.joinpath("make_images.py").write_text(text)
            elif language == "python":
                said.append(run(tmp_path, sys.executable, "-c", text))
            elif text.startswith("ray-classy serve"):
                command = f"exec {text.strip()} --port {port}"
                service = subprocess.Popen(["bash", "-c", command], cwd=tmp_path, env=environment())
                wait_for(service, port)
            else:
                said.append(run(tmp_path, "bash", "-ec", text.replace(":8000", f":{port}")))
                if "curl" in text:
                    service.send_signal(signal.SIGINT)
                    service.wait(60)
    finally:
        if service is not None and service.poll() is None:
            service.kill()
    assert any('"prediction":"stripes"' in one.replace(" ", "") for one in said)
    assert "checks\n" in said
    assert tmp_path.joinpath("predictions.csv").is_file()
    assert tmp_path.joinpath("runs", "search", "best.yaml").is_file()
