import io
import os
import resource

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_classy.dataset import parquet_budget
from ray_classy.dataset.manifest import ManifestDataset
from ray_classy.dataset.parquet import ParquetDataset
from ray_classy.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_CLASSY_CACHE", str(tmp_path / "cache"))


def repeated(value, times):
    """A column that repeats one value, without taking its memory."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([value]))


def write(file, **columns):
    pq.write_table(pa.table(columns), file, compression="zstd", store_schema=False)
    return str(file)


def peak_grows(function):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError) as caught:
        function()
    return str(caught.value), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def test_one_image_repeated_to_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_budget, "SPARE_BYTES", 32 << 20)
    file = write(tmp_path / "a.parquet", image=repeated(bytes(1_000_000), 6800), label=repeated("x", 6800))
    message, grown = peak_grows(lambda: ParquetDataset(2, False, files=file)[0])
    assert "a.parquet unpacks to" in message and "MiB or more" in message and grown < 300


def test_one_label_repeated_to_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_budget, "SPARE_BYTES", 32 << 20)
    file = write(tmp_path / "a.parquet", image=repeated(b"i", 6800), label=repeated("x" * 1_000_000, 6800))
    message, grown = peak_grows(lambda: ParquetDataset(2, False, files=file))
    assert "a.parquet unpacks to" in message and grown < 100


def test_one_path_repeated_to_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_budget, "SPARE_BYTES", 32 << 20)
    file = write(tmp_path / "a.parquet", path=repeated("x" * 1_000_000, 6800), label=repeated("x", 6800))
    message, grown = peak_grows(lambda: ManifestDataset(2, False, manifest=file))
    assert "a.parquet unpacks to" in message and grown < 100


def test_millions_of_rows_in_some_bytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_budget, "_SPARE_ROWS", 1000)
    file = write(tmp_path / "a.parquet", image=repeated(b"i", 100_000), label=repeated("x", 100_000))
    for build in (lambda: ParquetDataset(2, False, files=file), lambda: ManifestDataset(2, False, manifest=file)):
        with pytest.raises(DataError, match=r"a\.parquet claims 100,000 rows in [\d,]+ bytes"):
            build()


def test_a_list_of_millions_of_equal_values_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_budget, "SPARE_BYTES", 1 << 20)
    values = pa.ListArray.from_arrays(
        [0, 1000], pa.ListArray.from_arrays(range(0, 1_001_000, 1000), np.zeros(10**6, "u1"))
    )
    file = write(tmp_path / "a.parquet", image=values, label=["x"])
    with pytest.raises(DataError, match=r"a\.parquet unpacks to"):
        ParquetDataset(2, False, files=file)[0]


def test_repeated_images_of_some_megabytes_are_read(tmp_path):
    file = write(tmp_path / "a.parquet", image=repeated(b"i" * 10_000, 500), label=repeated("x", 500))
    dataset = ParquetDataset(2, False, files=file)
    assert dataset.dataset.rows.take([499]) == [{"image": b"i" * 10_000, "label": "x"}]


def test_small_files_that_unpack_to_much_are_read_from_a_copy(tmp_path, monkeypatch):
    monkeypatch.setattr("ray_classy.dataset.parquet_rows.IN_MEMORY_BYTES", 10_000)
    images = [bytes([number]) * 5000 for number in range(20)]
    file = write(tmp_path / "a.parquet", image=images, label=[str(number) for number in range(20)])
    rows = ParquetDataset(2, False, files=file).dataset.rows
    assert rows.bytes < 10_000 and rows.are_large
    assert rows.take([7])[0]["image"] == images[7]


def test_pixels_of_wide_integers_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_budget, "SPARE_BYTES", 0)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 100, 100))
    file = write(
        tmp_path / "a.parquet", image=pa.array(pixels.tolist(), pa.list_(pa.list_(pa.int64()))), label=[0] * 20
    )
    assert np.array_equal(np.asarray(ParquetDataset(2, False, files=file, image_mode="L")[7]["input"]), pixels[7])


class Counted(io.BytesIO):
    """A file that counts the bytes that are read from it."""

    count = 0

    def read(self, size=-1):
        self.count += size
        return super().read(size)


def test_row_groups_of_a_store_are_read_one_after_the_other(monkeypatch):
    monkeypatch.setattr(parquet_budget, "_PIECE_BYTES", 1)
    file = Counted()
    images = pa.table({"image": [os.urandom(100_000) for _ in range(20)]})
    pq.write_table(images, file, row_group_size=1)
    opened = pq.ParquetFile(pa.PythonFile(file, "r"), pre_buffer=True)
    file.count = 0
    tables = parquet_budget.tables("a", opened, ["image"])
    first = next(tables)
    assert 100_000 < file.count < 300_000
    assert pa.concat_tables([first, *tables]) == images
