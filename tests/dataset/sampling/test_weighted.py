import numpy as np
import pytest

from ray_classy.dataset import ManifestDataset, build_dataset
from ray_classy.dataset.sampling import WeightedSampling
from ray_classy.dataset.split import Split
from ray_classy.errors import DataError

WEIGHTS = [0, 0.5, 1, 2, 4.5, 0, 1, 1]


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("path,label,weight\n" + "".join(f"{i}.png,{i % 2},{w}\n" for i, w in enumerate(WEIGHTS)))
    return str(path)


def test_each_row_occurs_by_its_weight_rounded_down_or_up(manifest):
    dataset = ManifestDataset(2, True, manifest=manifest)
    shares = np.array(WEIGHTS) * 20 / sum(WEIGHTS)
    counts = np.array([WeightedSampling("weight", rows=20).counts(dataset, 0, epoch) for epoch in range(50)])
    assert (counts.sum(axis=1) == 20).all()
    assert (np.abs(counts - shares) < 1).all()
    assert np.abs(counts.mean(axis=0) - shares).max() < 0.1


def test_weights_follow_the_rows_of_a_split_and_a_subset(manifest):
    config = {
        "name": "manifest",
        "manifest": manifest,
        "batchsize_per_replica": 2,
        "use_shuffle": True,
        "sampling": {"name": "weighted", "column": "weight"},
    }
    dataset = Split(0.5, seed=1).take(build_dataset(config), "train")
    kept = [row["row"] for row in dataset.dataset.take(range(len(dataset)))]
    assert dataset.row_values("weight").tolist() == [WEIGHTS[row] for row in kept]
    part = build_dataset({**config, "num_samples": 3})
    numbers = np.concatenate(list(part.plan("train").batches()))
    assert len(numbers) == 3
    assert set(numbers % 8) <= {1, 2}


@pytest.mark.parametrize("values", [["1", "-2"], ["0", "0"], ["1", "much"], ["1", ""], ["1", "inf"]])
def test_weights_that_are_none_are_an_error(tmp_path, values):
    (tmp_path / "rows.csv").write_text("path,label,weight\n" + "".join(f"a.png,0,{value}\n" for value in values))
    dataset = ManifestDataset(2, True, manifest=str(tmp_path / "rows.csv"))
    with pytest.raises(DataError, match="weight"):
        WeightedSampling("weight").check(dataset)


def test_a_column_that_is_missing_is_an_error(manifest):
    with pytest.raises(DataError, match="did you mean 'weight'"):
        WeightedSampling("weights").check(ManifestDataset(2, True, manifest=manifest))
