"""A dataset that a trial streams, by its name in a config; importable in trials."""

import pyarrow.parquet
import ray.data

from ray_classy.dataset import register_dataset
from ray_classy.dataset.digits import DATA_FOLDER
from ray_classy.dataset.transforms import ApplyTransformToKey, build_transform
from ray_classy.ingest import RayDataset


@register_dataset("streamed_digits")
class StreamedDigits(RayDataset):
    """The digits of a split, read by Ray Data beside the training."""

    def __init__(self, batchsize_per_replica, shuffle, transform=None, num_samples=None, split: str = "train"):
        file = DATA_FOLDER / f"digits_{split}.parquet"
        rows = ray.data.read_parquet(str(file))
        transform = transform or ApplyTransformToKey(build_transform({"name": "ToTensor"}), key="input")
        super().__init__(
            rows,
            batchsize_per_replica,
            False,
            transform,
            num_samples,
            stream=True,
            image_mode="L",
            classes=DIGITS,
            num_rows=pyarrow.parquet.read_metadata(file).num_rows,
        )


DIGITS = [str(digit) for digit in range(10)]
