import pytest

from ray_classy import load_model
from ray_classy.config.load import load_config
from ray_classy.dataset import build_dataset
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer

DIGITS = {"name": "digits", "split": "test", "batchsize_per_replica": 64, "use_shuffle": False}


@pytest.fixture(scope="session")
def result(tmp_path_factory):
    """A run of two epochs on digits."""
    config = {**load_config("configs/digits.yaml"), "num_epochs": 2}
    return LocalTrainer(storage_path=str(tmp_path_factory.mktemp("runs")), name="r").train(build_task(config))


@pytest.fixture(scope="session")
def model(result):
    """Its model."""
    return load_model(result.path)


@pytest.fixture(scope="session")
def digits():
    """The images of the test split, and their labels."""
    dataset = build_dataset(DIGITS)
    return [dataset.dataset[row]["input"] for row in range(len(dataset))], dataset.labels()


@pytest.fixture(scope="session")
def folder(tmp_path_factory, digits):
    """A folder with twenty images as files, and one that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(digits[0][:20]):
        image.save(folder / f"{number:02}.png")
    (folder / "20.png").write_bytes(b"no image")
    return folder
