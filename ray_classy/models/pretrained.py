"""Pretrained weights that the config of a model names: where they are, and how they get onto this machine."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ray_classy.errors import CheckpointNotFoundError, UnavailableError

if TYPE_CHECKING:
    from ray_classy.models.weights import Weights

_TIMEOUT_S = 30.0
_HASH = re.compile(r"-([0-9a-f]{8,})\.")
"""The first digits of a file's SHA-256, in the names of PyTorch's files of weights."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights in a file that the user names.

    Attributes:
        name: what messages call them.
        path: what `read_weights` reads: a file, a folder, a run or a checkpoint, local or a URL.
    """

    name: str
    path: str

    def found(self) -> str | None:
        """Returns where the file is; None if it has to be downloaded."""
        return self.path

    def fetch(self) -> str:
        """Returns where the file is, and downloads it before if it is not on this machine.

        Raises:
            CheckpointNotFoundError: it cannot be downloaded; the message says where to put it.
        """
        return self.path

    def read(self) -> Weights:
        """Returns the weights, after `fetch`."""
        from ray_classy.models.weights import read_weights

        return read_weights(self.fetch())

    def note(self) -> str:
        """Returns a line for `check`."""
        return f"weights: {self.name}"


@dataclass(frozen=True)
class DownloadedWeights(PretrainedWeights):
    """Weights that are downloaded to `path`, unless a file is there.

    Attributes:
        url: of the file.
        key: of the config, which takes the path of a file too.
    """

    path: str = field(compare=False)  # other machines have another cache folder for the same weights
    url: str
    key: str

    def found(self) -> str | None:
        return self.path if os.path.exists(self.path) else None

    def fetch(self) -> str:
        if self.found() is None:
            _log.info("downloading %s to %s", self.url, self.path)
            try:
                _download(self.url, self.path)
            except (OSError, ValueError) as error:
                raise self._missing(error) from None
        return self.path

    def _missing(self, error: Exception) -> CheckpointNotFoundError:
        return CheckpointNotFoundError(
            f"the weights {self.name} are not on this machine and cannot be downloaded ({error}): get {self.url} and "
            f"put it at {self.path}, or give the path of a file of weights (`{self.key}: PATH`)"
        )

    def note(self) -> str:
        where = "are in" if self.found() else f"will be downloaded from {self.url} to"
        return f"weights: {self.name} {where} {self.path}"


@dataclass(frozen=True)
class HubWeights(DownloadedWeights):
    """Weights in a repository of the Hugging Face Hub, in the cache folder of the Hub.

    Attributes:
        repository: its name, with `@revision` behind it if that is not the main one.
        files: the names that the file may have there; the first that exists is taken.
    """

    repository: str
    files: tuple[str, ...]

    def found(self) -> str | None:
        from huggingface_hub import try_to_load_from_cache

        name, _, revision = self.repository.partition("@")
        for file in self.files:
            place = try_to_load_from_cache(name, file, revision=revision or None)
            if isinstance(place, str):
                return place
        return None

    def fetch(self) -> str:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        place = self.found()
        name, _, revision = self.repository.partition("@")
        error: Exception = CheckpointNotFoundError("it has no files of weights")
        for file in self.files if place is None else ():
            try:
                # One request shows at once whether the Hub can be reached; a download tries again for a minute.
                get_hf_file_metadata(hf_hub_url(name, file, revision=revision or None), timeout=_TIMEOUT_S)
                _log.info("downloading %s of %s", file, self.repository)
                return hf_hub_download(name, file, revision=revision or None)
            except EntryNotFoundError:
                continue
            except Exception as reason:  # of the client's HTTP library, whichever it uses
                error = CheckpointNotFoundError(next(iter(str(reason).splitlines()), type(reason).__name__))
                break
        if place is None:
            raise self._missing(error) from None
        return place

    def _missing(self, error: Exception) -> CheckpointNotFoundError:
        return CheckpointNotFoundError(
            f"the weights {self.name} are not on this machine and cannot be downloaded ({error}): get {self.url} and "
            f"give the path of the file (`{self.key}: PATH`), or put the Hub's cache folder of `hf download "
            f"{self.repository}` into {self.path}"
        )


def torch_cache(url: str) -> str:
    """Returns where PyTorch keeps a file that it has downloaded: `TORCH_HOME/hub/checkpoints`."""
    from torch.hub import get_dir

    return os.path.join(get_dir(), "checkpoints", url.rpartition("/")[2])


def require(package: str, extra: str) -> None:
    """Checks that a package is installed.

    Raises:
        UnavailableError: it is not; the message says how to install it.
    """
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise UnavailableError(f"{package} is not installed: pip install 'ray_classy[{extra}]'")


def _download(url: str, path: str) -> None:
    """Downloads a file, which appears under its name when it is complete and has the hash that its name says."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    handle, part = tempfile.mkstemp(dir=os.path.dirname(path), suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            shutil.copyfileobj(answer, file, 1 << 20)
        digits = _HASH.search(os.path.basename(path))
        with open(part, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if digits is not None and not found.startswith(digits[1]):
            raise ValueError(f"the file has SHA-256 {found[:16]}..., and its name says {digits[1]}")
        os.chmod(part, 0o644)
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)
