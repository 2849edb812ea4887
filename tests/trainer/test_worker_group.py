import pytest

from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.worker_group import release


@pytest.mark.parametrize("content", [b"", b"\xff", b"a" * 100, b"../../x", b"nothing of the kind"])
def test_a_note_that_names_no_placement_group_is_removed(tmp_path, content):
    (tmp_path / "placement_group").write_bytes(content)
    assert release(RunFolder(str(tmp_path))) and not release(RunFolder(str(tmp_path)))
