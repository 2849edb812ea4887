"""Follows paths that data name, only within a folder that the user names."""

from __future__ import annotations

import os

from ray_classy.errors import DataError
from ray_classy.urls import is_url, joined, shown


def confined(path: str, root: str | None) -> str:
    """Returns the path or URL of a file that a row refers to.

    Args:
        path: as the row has it; a relative one starts at the root.
        root: a folder or URL; None follows no path.

    Raises:
        DataError: there is no root, or the file is outside of it once links are resolved.
    """
    if root is None:
        raise DataError(
            f"the row has no bytes, only the path {shown(path)!r}: paths within data are followed only below a folder "
            f"that you name; set root to it"
        )
    if is_url(path) or "\0" in path:
        raise DataError(f"the row's path {shown(path)!r} is not a path below root, {shown(root)!r}; correct it")
    if is_url(root):
        if path.startswith("/") or ".." in path.split("/") or "?" in path:
            raise DataError(f"the row's path {path!r} leads out of root, {shown(root)!r}; correct it")
        return joined(root, path)
    folder, file = os.path.realpath(root), os.path.realpath(os.path.join(root, path))
    if os.path.commonpath([folder, file]) != folder:
        raise DataError(f"the row's path {path!r} leads to {file!r}, out of root, {root!r}; correct it")
    return file
