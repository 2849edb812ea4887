"""The rows that the recordings of the predecessor are trained on; they are computed, so that no file holds them."""

import math

import torch

CLASSES = 3


class Rows(torch.utils.data.Dataset):
    """`SIZE` samples of inputs in [-1, 1] and targets, the same on every machine.

    Args:
        shape: of one input.

    Attributes:
        inputs: of all rows, (SIZE, *shape).
    """

    SIZE = 4

    def __init__(self, shape):
        count = self.SIZE * math.prod(shape)
        numbers = torch.arange(count, dtype=torch.float64)
        self.inputs = torch.sin(0.37 * numbers + 0.0001 * numbers**2).float().reshape(self.SIZE, *shape)

    def __len__(self):
        return self.SIZE

    def __getitem__(self, index):
        return {"input": self.inputs[index], "target": torch.tensor(index % CLASSES)}
