"""The list of packages, of which `configs/` is one, the text for the package index, and links in the sdist; all else
is in setup.cfg.
"""

import re
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

FOLDER = Path(__file__).parent


def text_for_index() -> str:
    """README.md with links that work away from its repository: below `url` of setup.cfg, once that is set."""
    config = ConfigParser(interpolation=None)
    config.read(FOLDER / "setup.cfg")
    text, url = (FOLDER / "README.md").read_text(encoding="utf-8"), config.get("metadata", "url", fallback="")
    if not url:
        return text
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:)", rf"\1{url}/raw/main/", text)
    return re.sub(r"((?<!!)\[[^\[\]]*\]\()(?!https?:|#)", rf"\1{url}/blob/main/", text)


class SdistWithLinks(sdist):
    """An sdist that has the runs of the tests as they are: setuptools lists a folder once, under one of its links."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        runs = Path("tests", "data", "recorded")
        if (FOLDER / runs).is_dir():
            shutil.rmtree(Path(base_dir, runs))
            shutil.copytree(FOLDER / runs, Path(base_dir, runs), symlinks=True)


setup(
    cmdclass={"sdist": SdistWithLinks},
    packages=[*find_packages(include=["ray_classy", "ray_classy.*"]), "ray_classy.recipes"],
    long_description=text_for_index(),
)
