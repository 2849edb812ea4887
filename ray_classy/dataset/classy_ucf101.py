"""UCF101 (Soomro et al., UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild, 2012)."""

from __future__ import annotations

import os

from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.folder_video_dataset import SplitVideoDataset


@register_dataset("ucf101")
class UCF101Dataset(SplitVideoDataset):
    """Clips of UCF101: `splits_dir` has `trainlist01.txt` and `testlist01.txt` of each fold, a video per line.

    The arguments are those of `SplitVideoDataset`.
    """

    def listed(self, splits_dir: str, fold: int, train: bool) -> frozenset[str]:
        """Returns the videos that the file of the split lists, as class/file."""
        name = f"{'train' if train else 'test'}list{fold:02d}.txt"
        with open(os.path.join(splits_dir, name), encoding="utf-8", errors="replace") as file:
            return frozenset(line.split()[0] for line in file if line.strip())
