"""The list of packages, of which `configs/` is one, and the text for the package index; all else is in setup.cfg."""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

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


setup(
    packages=[*find_packages(include=["ray_classy", "ray_classy.*"]), "ray_classy.recipes"],
    long_description=text_for_index(),
)
