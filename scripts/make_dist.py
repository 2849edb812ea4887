"""Builds the sdist, and from it the wheel, into dist/; with --test also runs the tests of the sdist against the wheel.

    python scripts/make_dist.py
    python scripts/make_dist.py --test -m "not ray and not full" tests/losses

The tests run outside this folder, in a new environment into which only the wheel is installed; the packages that it
needs are those of the environment of this script. What follows --test are arguments of pytest.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

from setuptools import build_meta

ROOT = Path(__file__).parents[1]


def make_sdist(folder: Path) -> Path:
    """Builds the sdist of this source tree into a folder; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        return folder / build_meta.build_sdist(str(folder))
    finally:
        os.chdir(before)


def make_wheel(sdist: Path, folder: Path) -> Path:
    """Builds the wheel of an sdist into a folder; returns its path."""
    build = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", "-q", *build, sdist)
    return max(folder.glob("*.whl"), key=lambda wheel: wheel.stat().st_mtime)


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpacks an sdist into a folder; returns the folder of its files."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


def test(sdist: Path, wheel: Path, arguments: list[str]) -> int:
    """Runs the tests of an sdist against an installed wheel; returns the exit code of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        sources = unpack(sdist, Path(folder))
        shutil.rmtree(sources / "ray_classy")  # else pytest would import this one; it passes over an empty folder
        (sources / "ray_classy").mkdir()
        environment = Path(folder, "environment")
        run(sys.executable, "-m", "venv", "--without-pip", environment)
        python = environment / "bin" / "python"
        pip = (sys.executable, "-m", "pip", "--python", python)
        run(*pip, "install", "-q", "--no-deps", "--no-index", wheel, env=clean)
        packages = environment / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
        (packages / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        where = "import ray_classy; print('testing', ray_classy.__file__, flush=True)"
        subprocess.run([python, "-c", where], cwd=sources, env=clean, check=True)
        return subprocess.run([python, "-m", "pytest", *arguments], cwd=sources, env=clean).returncode


def run(*command: object, env: dict[str, str] | None = None) -> None:
    subprocess.run([str(word) for word in command], check=True, env=env)


def main(words: list[str]) -> int:
    """Builds the files, and tests them if the first word is --test."""
    sdist = make_sdist(ROOT / "dist")
    wheel = make_wheel(sdist, ROOT / "dist")
    print(sdist, wheel, sep="\n", flush=True)
    return test(sdist, wheel, words[1:]) if words[:1] == ["--test"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
