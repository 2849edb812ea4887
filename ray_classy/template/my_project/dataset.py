"""A dataset. The arguments of its constructor are the keys of its config, `shuffle` being `use_shuffle`."""

import torch

from ray_classy.dataset import ClassyDataset, register_dataset


class StripedImages(torch.utils.data.Dataset):
    """Noisy grey images of 8 x 8 pixels with horizontal (0) or vertical (1) stripes."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.seed = rows, seed

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        lines = (torch.arange(8) % 2).float().expand(8, 8)
        target = index % 2
        image = (lines if target else lines.T) + 0.5 * torch.randn(8, 8, generator=generator)
        return {"input": image[None], "target": target, "id": index}


@register_dataset("stripes")
class StripesDataset(ClassyDataset):
    """Images with stripes, which need no files.

    Args:
        batchsize_per_replica, shuffle, transform, num_samples: see `ClassyDataset`.
        seed: at least 0; each seed gives other images.
    """

    classes = ["horizontal", "vertical"]

    def __init__(self, batchsize_per_replica, shuffle, transform=None, num_samples: int = 256, seed: int = 0) -> None:
        super().__init__(StripedImages(num_samples, seed), batchsize_per_replica, shuffle, transform, num_samples)
