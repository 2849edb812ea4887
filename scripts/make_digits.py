"""Makes ray_classy/data/digits_{train,test}.parquet from the digits.csv.gz of a scikit-learn wheel.

    pip download --no-deps scikit-learn && unzip scikit_learn-*.whl sklearn/datasets/data/digits.csv.gz
    python scripts/make_digits.py sklearn/datasets/data/digits.csv.gz ray_classy/data

Every row of the csv is 64 grey values in 0..16 and the digit. A fifth of each class, drawn with a fixed seed, is the
test split. The source does not say who wrote which digit, so one writer's digits may be in both.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SEED = 0
TEST_SHARE = 0.2


def png(pixels: np.ndarray) -> bytes:
    """Encodes 8 x 8 values in 0..16 as a PNG image."""
    values = np.rint(pixels.reshape(8, 8) * 255 / 16).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def main(source: str, folder: str) -> None:
    rows = np.loadtxt(source, delimiter=",").astype(np.int64)
    labels = rows[:, 64]
    generator = np.random.default_rng(SEED)
    test = np.zeros(len(rows), dtype=bool)
    for digit in range(10):
        of_digit = generator.permutation(np.flatnonzero(labels == digit))
        test[of_digit[: round(len(of_digit) * TEST_SHARE)]] = True
    for split, chosen in (("train", ~test), ("test", test)):
        numbers = np.flatnonzero(chosen)
        table = pa.table(
            {
                "image": pa.array([png(rows[i, :64]) for i in numbers], pa.binary()),
                "label": pa.array(labels[numbers], pa.int64()),
            }
        )
        path = Path(folder) / f"digits_{split}.parquet"
        pq.write_table(table, path, compression="zstd", row_group_size=len(numbers))
        print(f"{path}: {len(numbers)} rows, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
