"""The sdist has what its tests and documents need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = (
    "Makefile",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "configs/digits.yaml",
    "configs/sweeps/asha.yaml",
    "deploy/aws.yaml",
    "docs/conf.py",
    "docs/images/report.png",
    "docs/index.md",
    "examples/my_model.yaml",
    "ray_classy/py.typed",
    "scripts/write_schema.py",
    "tests/data/recorded/finished/epoch_0003-step_001080/checkpoint.torch",
    "tests/data/recorded/finished/last/checkpoint.torch",
)


@pytest.mark.full
def test_the_tests_of_the_sdist_can_be_collected(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from make_dist import make_sdist, unpack

    sources = unpack(make_sdist(tmp_path / "dist"), tmp_path)
    assert [name for name in NEEDED if not sources.joinpath(name).is_file()] == []
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not ray and not full"]
    done = subprocess.run(collect, cwd=sources, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
