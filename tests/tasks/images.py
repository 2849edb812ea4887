"""Small tasks on images, for tests of how a task uses its device."""

import torch
from torch import nn

from ray_classy.dataset import ClassyDataset
from ray_classy.models import ClassyModel
from tests.helpers import make_task


class Images(torch.utils.data.Dataset):
    """Images of 3 x 8 x 8 of 4 classes."""

    def __init__(self, rows):
        self.inputs = torch.randn(rows, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return {"input": self.inputs[index], "target": index % 4}


class Block(nn.Module):
    """A residual block."""

    def __init__(self, dropout, batch_norm):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return x + self.dropout(self.norm(self.conv(x)).relu())


class Limited(nn.Module):
    """Raises torch's error for a lack of memory above a number of rows; notes how many it was called with."""

    def __init__(self, most):
        super().__init__()
        self.most, self.seen = most, []

    def forward(self, x):
        self.seen.append(len(x))
        if self.most is not None and len(x) > self.most:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(x)} GiB.")
        return x


def image_task(train=24, test=8, batch=8, epochs=2, dropout=0.0, batch_norm=True, most=None, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = nn.Sequential(Block(dropout, batch_norm), Block(dropout, batch_norm))
        layers = (Limited(most), nn.Conv2d(3, 4, 3), blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
        model = ClassyModel.from_model(nn.Sequential(*layers))
    task = make_task(train, test, batch, epochs, **options).set_model(model)
    for kind, rows in (("train", train), ("test", test)):
        if rows is not None:
            task.set_dataset(ClassyDataset(Images(rows), batch, False), kind)
    return task


def rows_seen(task):
    return task.base_model.model[0].seen
