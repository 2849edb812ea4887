import pytest

from ray_classy.dataset.shard_files import ShardFiles, expand_braces


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("s-{000..002}.tar", ["s-000.tar", "s-001.tar", "s-002.tar"]),
        ("s-{9..11}", ["s-9", "s-10", "s-11"]),
        ("s-{09..11}", ["s-09", "s-10", "s-11"]),
        ("{b,a}-{0..1}", ["b-0", "b-1", "a-0", "a-1"]),
        ("{one}", ["{one}"]),
    ],
)
def test_braces_are_expanded(pattern, names):
    assert expand_braces(pattern) == names


def test_more_files_than_are_kept_open(tmp_path):
    files = ShardFiles()
    paths = [tmp_path / str(number) for number in range(100)]
    for number, path in enumerate(paths):
        path.write_bytes(b"abc" + bytes([number]))
    assert [files.read(str(path), 3, 1)[0] for path in paths * 2] == list(range(100)) * 2
    assert files._open.cache_info().currsize < 100
