"""The files that a job gets: this package with its recipes, the config, and the modules that the config names."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import ray_classy
from ray_classy.config.recipe_files import recipes_folder
from ray_classy.disk_errors import size_text
from ray_classy.errors import ShippingError
from ray_classy.submit.job import Job
from ray_classy.trainer.shipped_code import MOST_BYTES, CodeFile, UsersModules, staged_code, users_modules
from ray_classy.user_code import add_user_code, is_installed, place_of, reached, user_module

_MOST_NAMED = 12


class Package(NamedTuple):
    """What a job gets.

    Attributes:
        folder: the job's working directory; empty if nothing is staged.
        files: the config and the user's modules.
        left_out: files within the modules that are not sent, with the reason.
        package_size: the bytes of ray_classy.
    """

    folder: str
    files: list[CodeFile]
    left_out: dict[str, str]
    package_size: int

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return self.package_size + sum(file.size for file in self.files)

    def lines(self) -> Iterator[str]:
        """What is sent, for people."""
        named = [f"{file.name} ({size_text(file.size)})" for file in self.files[:_MOST_NAMED]]
        more = len(self.files) - _MOST_NAMED
        named += [f"{more} more {'file' if more == 1 else 'files'}"] if more > 0 else []
        own = f"ray_classy {ray_classy.__version__} ({size_text(self.package_size)})"
        yield f"sends {size_text(self.size)}: {', '.join([own, *named])}"
        yield from (f"does not send {path}: {reason}" for path, reason in list(self.left_out.items())[:_MOST_NAMED])


def files_of(job: Job) -> tuple[list[CodeFile], dict[str, str]]:
    """The config and the user's modules that a job needs; and the files of these that are left out, with the reason.

    Raises:
        ShippingError: they are too large; the message names the largest.
    """
    modules = modules_of(job)
    modules.check()
    config = [] if job.config_file is None else [_config(job, job.config_file)]
    if config and config[0].size > MOST_BYTES:
        raise ShippingError(
            f"the config {config[0].source} has {size_text(config[0].size)}, and at most {size_text(MOST_BYTES)} are "
            f"sent: put it where all nodes of the cluster see it, and give its URL"
        )
    return [*config, *modules.files], modules.left_out


def modules_of(job: Job) -> UsersModules:
    """The user's modules that a job needs, without importing them.

    Raises:
        ShippingError: one has the name of another module, which would be imported instead.
    """
    if not job.imports:
        return UsersModules({}, [], {})
    for name in job.imports:
        place = place_of(name.partition(".")[0])
        folder = job.code if job.code is not None and user_module(job.code, name) is not None else None
        if folder is None and place is not None and not is_installed(place):
            folder = os.path.dirname(place)
        if folder is not None:
            add_user_code(folder, reached([name], functools.partial(user_module, folder)))
    return users_modules()


def _config(job: Job, file: str) -> CodeFile:
    size = len(job.config_text) if job.config_text is not None else os.path.getsize(file)
    return CodeFile(os.path.basename(file), file, size)


@contextlib.contextmanager
def staged(job: Job) -> Iterator[Package]:
    """The files of a job in a folder, which is removed after the block.

    Raises:
        ShippingError: they are too large, or a module has the name of another.
    """
    files, left_out = files_of(job)
    with staged_code() as package:
        folder = os.path.dirname(package)
        if not os.path.isdir(os.path.join(package, "recipes")):
            shutil.copytree(recipes_folder(), os.path.join(package, "recipes"))
        everything = _size_of(package)
        if job.config_text is not None and job.config_file is not None:
            with open(os.path.join(folder, job.config_file), "wb") as written:
                written.write(job.config_text)
        elif job.config_file is not None:
            shutil.copyfile(job.config_file, os.path.join(folder, os.path.basename(job.config_file)))
        modules = sum(file.size for file in files) - (files[0].size if job.config_file is not None else 0)
        yield Package(folder, files, left_out, everything - modules)


def _size_of(folder: str) -> int:
    return sum(os.path.getsize(os.path.join(place, name)) for place, _, names in os.walk(folder) for name in names)
