import io
import os
import resource
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_classy.dataset import parquet_budget, parquet_source
from ray_classy.dataset.manifest import ManifestDataset
from ray_classy.dataset.parquet import ParquetDataset
from ray_classy.dataset.parquet_source import ParquetSource, opened_parquet
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
    monkeypatch.setattr(parquet_source, "_SPARE_ROWS", 1000)
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
    source = ParquetSource(
        "a", file.tell(), opened, lambda start, size: file.getvalue()[start : start + size], False, pq.ParquetFile
    )
    file.count = 0
    tables = parquet_budget.tables(source, ["image"])
    first = next(tables)
    assert 100_000 < file.count < 300_000
    assert pa.concat_tables([first, *tables]) == images


def table_of(path, *columns):
    with opened_parquet(str(path)) as source:
        return pa.concat_tables(parquet_budget.tables(source, columns))


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_a_page_that_unpacks_to_much_more_than_its_bytes_is_refused_before(tmp_path, monkeypatch, codec, dictionary):
    monkeypatch.setattr(parquet_budget, "SPARE_BYTES", 1 << 20)
    pq.write_table(
        pa.table({"image": [bytes(1 << 26)], "label": ["x"]}),
        tmp_path / "a.parquet",
        compression=codec,
        use_dictionary=dictionary,
    )
    message, grown = peak_grows(lambda: table_of(tmp_path / "a.parquet", "image"))
    assert "has a page of" in message and "that unpacks to 64 MiB" in message and grown < 40


def test_one_large_value_is_repeated_a_few_times_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_budget, "SPARE_BYTES", 24 << 20)
    file = write(tmp_path / "a.parquet", image=repeated(bytes(20 << 20), 64))
    message, grown = peak_grows(lambda: table_of(file, "image"))
    assert "a.parquet unpacks to" in message and grown < 200


def test_a_footer_that_lies_is_found_by_the_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_budget, "SPARE_BYTES", 1 << 10)
    file = write(tmp_path / "a.parquet", image=[bytes(range(256)) * 256])
    with opened_parquet(file) as source:
        (chunk,) = parquet_budget._chunks(source, ["image"])
        names = ("num_values", "total_compressed_size", "data_page_offset", "dictionary_page_offset")
        names += ("physical_type", "has_dictionary_page")
        lying = types.SimpleNamespace(**{name: getattr(chunk.meta, name) for name in names})
        lying.total_uncompressed_size = 100
        monkeypatch.setattr(parquet_budget, "_PAGE_TIMES", 1 << 20)
        with pytest.raises(DataError, match="unpacks to"):
            parquet_budget._check_pages(source, chunk._replace(meta=lying))


def test_null_texts_of_a_large_fixed_size_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_budget, "SPARE_BYTES", 1 << 20)
    file = write(tmp_path / "a.parquet", image=[b"i"] * 9, label=pa.nulls(9, pa.binary(1 << 20)))
    with pytest.raises(DataError, match=r"a\.parquet unpacks to 9 MiB"):
        ParquetDataset(2, False, files=file)


def test_a_column_with_a_dot_in_its_name_is_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_budget, "SPARE_BYTES", 1 << 20)
    file = write(tmp_path / "a.parquet", **{"my.image": repeated(bytes(1 << 20), 50)})
    with pytest.raises(DataError, match=r"a\.parquet unpacks to"):
        table_of(file, "my.image")


def test_labels_in_any_encoding_are_read(tmp_path):
    for encoding in ("PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"):
        labels = pa.table({"image": [b"i"] * 40, "label": [f"name {row % 4}" for row in range(40)]})
        options = {"use_dictionary": False, "column_encoding": {"label": encoding}}
        pq.write_table(labels, tmp_path / "a.parquet", **options)
        assert ParquetDataset(2, False, files=str(tmp_path / "a.parquet")).labels().tolist() == [0, 1, 2, 3] * 10
