import logging
import os
import pickle

import pytest

from ray_classy.dataset.shard_files import find_shards
from ray_classy.dataset.source_files import SourceFiles, find_files, names_within
from ray_classy.errors import DataError


@pytest.fixture
def files(tmp_path):
    for name in ("a.tar", "b.TAR", "c.txt", "deep/d.tar", "deep/er/e.tar", ".hidden/f.tar", "deep/_g.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    return tmp_path


PATTERNS = ["", "a.tar", "c.txt", "*.tar", "*", "**/*.tar", "deep/**/e.tar", "deep/*/*.tar", "[!b].tar", "[a-c].*"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_urls_stand_for_what_paths_stand_for(files, s3, pattern):
    root = s3.copy(files, "data")
    here = [
        os.path.relpath(file, files) for file in find_files(f"{files}/{pattern}", (".tar",)) if os.path.isfile(file)
    ]
    there = find_files(root.replace("/data?", f"/data/{pattern}?" if pattern else "/data?"), (".tar",))
    shortened = [url.partition("/data/")[2].partition("?scheme")[0] for url in there]
    assert shortened == here


def test_a_list_keeps_its_order(files):
    given = [str(files / "deep" / "d.tar"), str(files / "a.tar")]
    assert find_files(given, (".tar",)) == given


def test_no_file(tmp_path, s3):
    s3.put("data/a.txt", b"")
    for place in (str(tmp_path), s3.url("nowhere"), s3.url("data"), s3.url("data/*.tar")):
        with pytest.raises(DataError, match=r"no \.tar file at '(?!.*secret)"):
            find_files(place, (".tar",))


@pytest.fixture(params=["path", "url"])
def file(request, tmp_path, s3):
    """A function that writes a file and returns its path, and one that removes it."""

    def write(content):
        (tmp_path / "a").write_bytes(content)
        return str(tmp_path / "a") if request.param == "path" else s3.put("a", content)

    return write, (lambda: os.remove(tmp_path / "a")) if request.param == "path" else lambda: s3.remove("a")


def test_files_that_are_what_they_were(file):
    sources = SourceFiles([file[0](b"1")])
    sources.check()
    pickle.loads(pickle.dumps(sources)).check()


def test_a_file_of_another_size(file):
    sources = SourceFiles([file[0](b"1")])
    file[0](b"22")
    with pytest.raises(DataError, match=r"a.*' was changed since the run began: it had 1 bytes .* has 2 bytes"):
        sources.check()


def test_a_file_of_the_same_size(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    sources = SourceFiles([str(tmp_path / "a")])
    os.utime(tmp_path / "a", (1, 1))
    with pytest.raises(DataError, match="was changed"):
        sources.check()


def test_a_file_that_was_removed(file):
    sources = SourceFiles([file[0](b"1")])
    file[1]()
    with pytest.raises(DataError, match=r"a.*' was removed since the run began"):
        sources.check()


def test_a_file_that_never_was(tmp_path, s3):
    for place in (str(tmp_path / "a"), s3.url("a")):
        with pytest.raises(DataError, match="there is no file"):
            SourceFiles([place])


def test_what_is_not_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "folder.tar").mkdir()
    for path in (f"{tmp_path}/pipe.tar", f"{tmp_path}/folder.tar", "/dev/zero"):
        with pytest.raises(DataError, match="is not a file but a folder, pipe or device"):
            SourceFiles([path])


def test_a_store_is_asked_once_a_phase_by_one_of_the_ranks(s3, caplog):
    sources = SourceFiles([s3.put(f"{name}.tar", b"1") for name in "abc"])
    ranks = [pickle.loads(pickle.dumps(sources)) for _ in range(4)]
    phases = 3
    with caplog.at_level(logging.INFO, logger="werkzeug"):
        for ends in [False, True] * phases:
            for rank, files in enumerate(ranks):
                files.check_in_phase(rank, ends)
    requests = [record for record in caplog.records if "HEAD" in record.getMessage()]
    assert len(requests) == len(sources.stamps) * (phases + 1)


def test_after_a_phase_that_did_not_end_a_store_is_asked_again(s3):
    sources = SourceFiles([s3.put("a", b"1")])
    sources.check_in_phase(0, ends=True)
    sources.check_in_phase(0, ends=False)
    s3.put("a", b"22")
    with pytest.raises(DataError, match="was changed"):
        sources.check_in_phase(0, ends=False)


def test_local_files_are_checked_by_every_rank(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    sources = SourceFiles([str(tmp_path / "a")])
    (tmp_path / "a").write_bytes(b"22")
    for ends in (False, True):
        with pytest.raises(DataError, match="was changed"):
            sources.check_in_phase(3, ends)


@pytest.mark.parametrize("name", ["data[v2]/t.tar", "t[1].tar", "a*b.tar", "what?.tar", "a{0..1}.tar"])
def test_a_path_that_exists_is_no_glob(tmp_path, monkeypatch, name):
    for file in (name, "data2/t.tar", "t1.tar", "axb.tar", "whats.tar", "a0.tar", "a1.tar"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    for find in (lambda path: find_files(path, (".tar",)), find_shards):
        assert find(name) == [name] and find(str(tmp_path / name)) == [str(tmp_path / name)]


def test_the_part_of_a_glob_that_exists_is_no_glob(tmp_path):
    for file in ("data[v2]/a.tar", "data[v2]/b.tar", "data2/c.tar"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    assert find_files(f"{tmp_path}/data[v2]/*.tar", (".tar",)) == [f"{tmp_path}/data[v2]/{name}.tar" for name in "ab"]
    assert find_files(f"{tmp_path}/data[v2]", (".tar",)) == [f"{tmp_path}/data[v2]/{name}.tar" for name in "ab"]
    assert find_files(f"{tmp_path}/data[2]/*.tar", (".tar",)) == [f"{tmp_path}/data2/c.tar"]


def test_a_key_in_a_store_that_exists_is_no_glob(s3):
    s3.put("data[v2]/t.tar", b"")
    s3.put("data2/t.tar", b"")
    assert find_files(s3.url("data[v2]/t.tar"), (".tar",)) == [s3.url("data[v2]/t.tar")]


def test_hidden_folders_are_not_read(tmp_path):
    for file in (".cache/a.tar", "_temporary/b.tar", "c/d.tar"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_bytes(b"")
    assert find_files(str(tmp_path), (".tar",)) == [f"{tmp_path}/c/d.tar"]


@pytest.mark.parametrize("pattern", ["{0}", "{0}/", "{0}/*/*.tar", "{0}/a/t-{{00..01}}.tar", ["{0}/a", "{0}/b"]])
def test_names_of_found_files_do_not_depend_on_where_their_folder_is(tmp_path, pattern):
    for name in (
        "one/a/t-00.tar",
        "one/a/t-01.tar",
        "one/b/t-02.tar",
        "two/a/t-00.tar",
        "two/a/t-01.tar",
        "two/b/t-02.tar",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    given = [pattern] if isinstance(pattern, str) else pattern
    names = []
    for top in ("one", "two"):
        patterns = [one.format(tmp_path / top) for one in given]
        names.append(names_within(patterns if len(patterns) > 1 else patterns[0], find_shards(patterns)))
    assert names[0] == names[1]
    assert all(not name.startswith("/") and name.endswith(".tar") for name in names[0])


def test_names_of_urls_are_those_within_their_folder():
    files = ["s3://b/d/x/1.parquet?region=r", "s3://b/d/2.parquet?region=r"]
    assert names_within("s3://b/d?region=r", files) == ["x/1.parquet", "2.parquet"]
    assert names_within("s3://b/d/**/*.parquet?region=r", files) == ["x/1.parquet", "2.parquet"]
    assert names_within(files[0], files[:1]) == ["1.parquet"]
