import pytest

from ray_classy.dataset.confined import confined
from ray_classy.errors import DataError


def test_a_path_below_the_root(tmp_path):
    assert confined("a/b.png", str(tmp_path)) == str(tmp_path / "a/b.png")
    assert confined(str(tmp_path / "b.png"), str(tmp_path)) == str(tmp_path / "b.png")
    assert confined("a b/c.png", "s3://bucket/x?region=eu") == "s3://bucket/x/a b/c.png?region=eu"


def test_no_path_is_followed_without_a_root():
    with pytest.raises(DataError, match=r"only the path 'a\.png'.*set root"):
        confined("a.png", None)


@pytest.mark.parametrize(
    "path", ["../x.png", "a/../../x.png", "/etc/passwd", "http://127.0.0.1/x", "file:///etc/passwd", "a\0.png"]
)
def test_paths_out_of_the_root_are_refused(tmp_path, path):
    with pytest.raises(DataError, match="root"):
        confined(path, str(tmp_path))


@pytest.mark.parametrize("path", ["../x.png", "a/../x.png", "/x.png", "http://127.0.0.1/x", "x?endpoint_override=evil"])
def test_urls_out_of_the_root_are_refused(path):
    with pytest.raises(DataError, match="root"):
        confined(path, "s3://bucket/below")


def test_links_are_resolved_first(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "root/a.png").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match=r"leads to .*secret"):
        confined("a.png", str(tmp_path / "root"))
