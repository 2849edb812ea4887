import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.parquet_rows import ParquetRows
from ray_classy.dataset.row_dataset import RowDataset, detached_rows
from ray_classy.dataset.rows import BlockRows, ItemRows
from ray_classy.errors import DataError


def table(begin, end):
    return pa.table({"value": list(range(begin, end)), "name": [str(i) for i in range(begin, end)]})


@pytest.fixture
def files(tmp_path):
    for number, (begin, end) in enumerate([(0, 3), (3, 3), (3, 7)]):
        pq.write_table(table(begin, end), tmp_path / f"{number}.parquet")
    return [str(tmp_path / f"{number}.parquet") for number in range(3)]


def all_rows(make):
    return {
        "items": lambda files: ItemRows(value=list(range(7)), name=[str(i) for i in range(7)]),
        "blocks": lambda files: BlockRows([3, 0, 4], lambda number: pq.read_table(files[number])),
        "parquet": lambda files: ParquetRows(files, ["value", "name"]),
    }[make]


@pytest.mark.parametrize("kind", ["items", "blocks", "parquet"])
def test_rows_are_taken_by_number(files, kind):
    rows = all_rows(kind)(files)
    assert len(rows) == 7
    assert rows.take([6, 0, 3]) == [{"value": i, "name": str(i)} for i in (6, 0, 3)]


def test_items_may_be_arrays():
    rows = ItemRows(
        number=np.arange(3), name=pa.array(["a", "b", "c"]), kind=pa.array(["x", "y", "x"]).dictionary_encode()
    )
    assert rows.take([2, 0]) == [{"number": 2, "name": "c", "kind": "x"}, {"number": 0, "name": "a", "kind": "x"}]
    assert rows.column("name") == ["a", "b", "c"] and rows.shared_tables()[0].num_rows == 3


@pytest.mark.parametrize("kind", ["items", "blocks", "parquet"])
def test_column(files, kind):
    assert list(all_rows(kind)(files).column("value")) == list(range(7))


def test_pickled_parquet_rows_carry_only_names(files):
    rows = ParquetRows(files, ["value"])
    rows.take([0])
    copied = pickle.loads(pickle.dumps(rows))
    assert copied._rows is None and copied.take([5]) == [{"value": 5}]


def test_lists_are_arrays():
    rows = BlockRows([2], lambda number: pa.table({"pixels": [[1, 2], [3, 4]]}))
    assert rows.take([1])[0]["pixels"].tolist() == [3, 4]


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_nested_lists_are_arrays(kind):
    values = np.arange(36, dtype=np.uint8).reshape(3, 2, 2, 3)
    column = pa.array(values.tolist(), kind(kind(kind(pa.uint8()))))
    rows = BlockRows([2], lambda number: pa.table({"image": column.slice(1)})).take([0, 1])
    assert all(row["image"].dtype == np.uint8 for row in rows)
    assert np.array_equal([row["image"] for row in rows], values[1:])


def test_lists_of_fixed_size_are_arrays_of_any_size():
    values = np.arange(2 * 700 * 600 * 3).astype(np.uint8).reshape(2, 700, 600, 3)
    column = pa.array(values.reshape(-1))
    for size in (3, 600, 700):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    rows = BlockRows([1], lambda number: pa.table({"image": column.slice(1)}))
    assert np.array_equal(rows.take([0])[0]["image"], values[1])


@pytest.mark.parametrize("value", [[[1, 2], [3]], [[1, None]], [None, [1]], [[]]])
def test_nested_lists_that_are_no_array_stay_lists(value):
    rows = BlockRows([1], lambda number: pa.table({"image": pa.array([value], pa.list_(pa.list_(pa.int32())))}))
    assert np.asarray(rows.take([0])[0]["image"], dtype=object).tolist() == value


def test_large_lists_that_are_no_array_are_refused():
    values = pa.array([[[1] * 100_000, [1] * 200_001]], pa.list_(pa.list_(pa.int32())))
    with pytest.raises(DataError, match="differ in length"):
        BlockRows([1], lambda number: pa.table({"image": values})).take([0])


@pytest.mark.parametrize("threads", [0, 2])
def test_fetched_rows_are_decoded_once(threads):
    decoded = []
    base = RowDataset(ItemRows(value=[1, 2, 3]), lambda row: decoded.append(row["row"]) or row["value"])
    base.threads = threads
    base.fetch([0, 2], ahead=True)
    base.fetch([2], ahead=True)
    assert [base[2], base[0], base[1]] == [3, 1, 2] and sorted(decoded) == [0, 1, 2]


def test_what_was_fetched_does_not_travel():
    base = RowDataset(ItemRows(value=[1, 2, 3]), abs)
    base.fetch([0])
    assert pickle.loads(pickle.dumps(base))._fetched == {}


def test_unused_rows_are_forgotten():
    base = RowDataset(ItemRows(value=[1]), abs)
    base.fetch([0])
    base.drop_fetched()
    assert base._fetched == {}


def test_there_is_a_thread_for_each_cpu_of_the_process(monkeypatch):
    base = RowDataset(ItemRows(value=[1]), abs)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    cpus = base.number_of_threads()
    assert cpus >= 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * cpus))
    assert base.number_of_threads() == 1
    base.threads = 5
    assert base.number_of_threads() == 5


def test_no_threads_if_none_are_wanted():
    base = RowDataset(ItemRows(value=[1]), abs)
    base.threads = 0
    assert base.pool() is None


def test_rows_say_where_they_are_and_what_they_take(files, monkeypatch):
    small = ParquetRows(files, ["value"])
    assert small.files() == files[:1] and len(small.shared_tables()) == len(files)
    assert small.shared_bytes() > 0 == small.disk_bytes()
    monkeypatch.setattr("ray_classy.dataset.parquet_rows.IN_MEMORY_BYTES", 0)
    assert small.shared_tables() is None and small.disk_bytes() > 0 == small.shared_bytes()
    assert ItemRows(path=["a.png", "b.png"]).files() == ["a.png"] and ItemRows(value=[1]).files() == []


def test_detached_rows_ship_their_number_alone():
    base = RowDataset(ItemRows(value=[b"x" * 1000] * 1000), dict)
    made = ClassyDataset(base, 4, False)
    with detached_rows(made):
        shipped = pickle.loads(pickle.dumps(made))
        assert len(pickle.dumps(made)) < 10_000 and len(shipped) == 1000
    assert made.dataset.rows.take([0]) == [{"value": b"x" * 1000}]


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="one length"):
        ItemRows(path=["a"], label=[1, 2])
