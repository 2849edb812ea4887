"""The list of packages, of which `configs/` is one; everything else about the distribution stands in setup.cfg."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["ray_classy", "ray_classy.*"]), "ray_classy.recipes"])
