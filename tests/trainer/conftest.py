import pytest
from pyarrow import fs

from ray_classy.trainer.run_folder import RunFolder


@pytest.fixture(params=["local", "arrow"])
def run(request, tmp_path):
    """The folder of a run that has begun, on the local disk and behind a file system of pyarrow."""
    filesystem = fs.LocalFileSystem() if request.param == "arrow" else None
    made = RunFolder.create(str(tmp_path), "r", filesystem)
    made.describe("name: x\n", seed=3)
    yield made
    made.release()
