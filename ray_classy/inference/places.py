"""Where a file is: the storage of its folder, and its name there."""

from __future__ import annotations

import os

from ray_classy.storage import Storage
from ray_classy.urls import expanded, is_url, parent, split_query


def place_of(path: str) -> tuple[Storage, str]:
    """Returns the storage of a file's folder, and the file's name in it.

    Args:
        path: of the file; local or a URL.
    """
    path = expanded(path)
    if is_url(path):
        return Storage(parent(path)), os.path.basename(split_query(path)[0])
    folder, name = os.path.split(path)
    return Storage(folder or "."), name
