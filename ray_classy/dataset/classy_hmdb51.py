"""HMDB-51 (Kuehne et al., HMDB: A Large Video Database for Human Motion Recognition, 2011)."""

from __future__ import annotations

import os

from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.folder_video_dataset import SplitVideoDataset

_SUFFIX = "_test_split{}.txt"


@register_dataset("hmdb51")
class HMDB51Dataset(SplitVideoDataset):
    """Clips of HMDB-51: `splits_dir` has files `<class>_test_split<fold>.txt`, whose lines mark videos with 1 or 2.

    The arguments are those of `SplitVideoDataset`.
    """

    def listed(self, splits_dir: str, fold: int, train: bool) -> frozenset[str]:
        """Returns the videos that are marked with 1, to train on, or with 2, to test on, as class/file."""
        suffix, mark = _SUFFIX.format(fold), "1" if train else "2"
        videos: set[str] = set()
        for entry in os.scandir(splits_dir):
            if entry.name.endswith(suffix):
                with open(entry.path, encoding="utf-8", errors="replace") as file:
                    words = [line.split() for line in file]
                name = entry.name.removesuffix(suffix)
                videos.update(f"{name}/{line[0]}" for line in words if len(line) == 2 and line[1] == mark)
        return frozenset(videos)
