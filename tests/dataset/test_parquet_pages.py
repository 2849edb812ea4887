import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_classy.dataset.parquet_pages import DATA, DATA_V2, DICTIONARY, BadPage, pages

COLUMNS = {
    "image": [{"bytes": os.urandom(90), "path": "p"}, {"bytes": None, "path": "q"}] * 150,
    "nested": [[{"a": 1, "b": "x"}] * 3, None, []] * 100,
    "list": [[1, 2, None], [3]] * 150,
    "number": [1.5, None] * 150,
    "flag": [True, False, None] * 100,
    "nothing": [None] * 300,
}


def chunks(path):
    """The metadata of each column chunk of a file, and its pages."""
    content, metadata = path.read_bytes(), pq.ParquetFile(path).metadata
    for number in range(metadata.num_row_groups):
        for at in range(metadata.num_columns):
            chunk = metadata.row_group(number).column(at)
            start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
            read_at = lambda position, size: content[position : position + size]  # noqa: E731
            yield chunk, list(pages(read_at, start, chunk.total_compressed_size, chunk.num_values))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_pages_add_up_to_what_the_footer_says(tmp_path, codec, version):
    path = tmp_path / "a.parquet"
    options = {"write_page_index": True, "write_page_checksum": True} if codec == "zstd" else {}
    pq.write_table(
        pa.table(COLUMNS), path, compression=codec, data_page_version=version, data_page_size=64, row_group_size=130,
        **options,
    )  # fmt: skip
    for chunk, found in chunks(path):
        assert sum(page.values for page in found if page.kind != DICTIONARY) == chunk.num_values
        headers = chunk.total_compressed_size - sum(page.packed for page in found)
        assert sum(page.unpacked for page in found) + headers == chunk.total_uncompressed_size
        assert {page.kind for page in found} <= {DICTIONARY, DATA if version == "1.0" else DATA_V2}


def test_a_header_with_a_long_statistic_is_read(tmp_path):
    pq.write_table(pa.table({"a": [b"x" * 4000] * 2}), tmp_path / "a.parquet", use_dictionary=False)
    ((_, found),) = chunks(tmp_path / "a.parquet")
    assert [page.values for page in found] == [2]


@pytest.mark.parametrize(
    "data",
    [b"", b"\x15", b"\x15\x00\x15", b"\x15\x00\x15\x02\x15\x02\x00", b"\x15\x00\x15\x01\x15\x02\x00", b"\x1c" * 99,
     b"\x15" + b"\xff" * 20, b"\x1d", b"\x19\xf5\xff\xff\xff\x0f"],
)  # fmt: skip
def test_a_damaged_header_is_an_error(data):
    with pytest.raises(BadPage):
        list(pages(lambda at, size: data[at : at + size], 0, 1000, 1))


def test_a_page_beyond_its_chunk_is_an_error():
    header = b"\x15\x00\x15\x64\x15\xc8\x01\x2c\x15\x02\x15\x00\x00\x00"
    assert [page.packed for page in pages(lambda at, size: header[at : at + size], 0, 114, 1)] == [100]
    with pytest.raises(BadPage, match="a page of 100 bytes goes beyond its column chunk"):
        list(pages(lambda at, size: header[at : at + size], 0, 113, 1))


def test_endless_empty_pages_are_an_error():
    header = b"\x15\x00\x15\x00\x15\x00\x2c\x15\x00\x15\x00\x00\x00"
    with pytest.raises(BadPage, match="more than 100,000 pages"):
        list(pages(lambda at, size: header[:size], 0, 1 << 30, 1))
