import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.parquet_rows import ParquetRows
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.ingest.store_memory import format_bytes, shared_bytes, warn_if_too_large
from tests.helpers import vectors


def dataset(rows):
    return ClassyDataset(RowDataset(rows, dict), 4, False)


def test_of_items_the_columns_count():
    labels = np.zeros(100_000, dtype=np.int64)
    assert shared_bytes(dataset(ItemRows(path=["a" * 42] * 100_000, label=labels))) == 100_000 * (50 + 8)


def test_of_parquet_files_their_size_counts(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [b"x" * 1000] * 10}), file)
    assert shared_bytes(dataset(ParquetRows([str(file)], ["image"]))) == file.stat().st_size


def test_other_datasets_do_not_go_there():
    assert shared_bytes(vectors(10)) == shared_bytes(object()) == 0


def test_a_dataset_that_is_too_large_is_logged(caplog):
    large = dataset(ItemRows(label=np.zeros(1 << 20, dtype=np.int64)))
    with caplog.at_level(logging.WARNING):
        warn_if_too_large({"train": large}, 100 << 20)
        assert not caplog.records
        warn_if_too_large({"train": large, "test": vectors(5)}, 10 << 20)
    assert "about 8 MiB of Ray's shared memory (train 8 MiB), which has 10 MiB" in caplog.text


def test_units():
    assert [format_bytes(count) for count in (5, 2048, 3 << 20, 5 << 30)] == ["5 B", "2 KiB", "3 MiB", "5.0 GiB"]
