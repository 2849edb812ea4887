"""The image files that the words of a command name."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from ray_classy.dataset.folder_listing import Listing, list_folder, list_url
from ray_classy.dataset.image_formats import IMAGE_EXTENSIONS, is_image_file
from ray_classy.errors import DataError
from ray_classy.urls import expanded, is_url, shown


def images_in(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the paths and URLs of images, in the order of the words, and remarks on what is passed over.

    Args:
        words: files, folders (with those below them), patterns such as `photos/*.jpg`, and URLs of files and folders.

    Raises:
        DataError: a word leads to no image.
    """
    found: list[str] = []
    remarks = []
    for word in map(expanded, words):
        listing = None
        if is_url(word):
            if word.split("?")[0].lower().endswith(IMAGE_EXTENSIONS):
                found.append(word)
                continue
            listing = list_url(word, "the folder", IMAGE_EXTENSIONS)
        elif os.path.isdir(word):
            listing = list_folder(word, "the folder", IMAGE_EXTENSIONS, is_image_file)
        elif os.path.exists(word):
            found.append(word)
            continue
        paths = sorted(path for path in glob.glob(word, recursive=True) if os.path.isfile(path)) if not listing else []
        if listing is not None:
            paths = _images_of(listing)
            remarks += [f"{shown(word)}: {text}" for text in [listing.passed_over()] if text]
        if not paths:
            raise DataError(_nothing(word, listing))
        found += paths
    return found, remarks


def _images_of(listing: Listing) -> list[str]:
    below = (path for name in sorted(listing.folders) for path in listing.folders[name])
    return [*listing.loose, *below]


def _nothing(word: str, listing: Listing | None) -> str:
    if listing is not None:
        passed = listing.passed_over()
        return f"the folder {shown(word)!r} has no images{f' ({passed})' if passed else ''}"
    if glob.has_magic(word):
        return f"no file matches {word!r} (looked in {os.getcwd()})"
    return f"there is no file or folder {shown(word)!r} (looked in {os.getcwd()})"
