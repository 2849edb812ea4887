import pickle

import numpy as np
import pytest

from ray_classy.dataset import ManifestDataset
from ray_classy.dataset.sampling import BalancedSampling, build_sampling
from ray_classy.dataset.split import Split
from ray_classy.errors import ComponentError, DataError


class Rows:
    """A dataset whose rows are only labels."""

    classes = None

    def __init__(self, labels):
        self.dataset = np.array(labels)

    def __len__(self):
        return len(self.dataset)

    def labels(self):
        return self.dataset


LABELS = np.random.default_rng(0).permutation(np.repeat([0, 2, 5, 6], [100, 40, 7, 1]))
ROWS = Rows(LABELS)


def by_class(counts, labels=LABELS):
    return {int(label): counts[labels == label] for label in np.unique(labels)}


@pytest.mark.parametrize("rows", [None, 3, 10, 1001])
def test_each_class_has_its_equal_share_and_each_row_of_a_class_too(rows):
    sampling = BalancedSampling(rows=rows)
    for epoch in range(4):
        counts = by_class(sampling.counts(ROWS, 7, epoch))
        sizes = [one.sum() for one in counts.values()]
        assert sum(sizes) == (rows or len(LABELS))
        assert max(sizes) - min(sizes) <= 1
        assert all(one.max() - one.min() <= 1 for one in counts.values())


@pytest.mark.parametrize("power", [0, 0.5])
def test_rows_of_a_class_are_used_equally_often_over_all_epochs(power):
    sampling = BalancedSampling(power=power, rows=90)
    used = np.zeros(len(LABELS), int)
    for epoch in range(9):
        used += sampling.counts(ROWS, 0, epoch)
        assert all(one.max() - one.min() <= 1 for one in by_class(used).values())


def test_power_gives_shares_between_equal_and_natural_ones():
    sizes = np.array([100, 40, 7, 1])
    for power in (0.5, 1):
        shares = 148 * sizes**power / (sizes**power).sum()
        counts = [one.sum() for one in by_class(BalancedSampling(power=power).counts(ROWS, 0, 0)).values()]
        assert (np.abs(counts - shares) < 1).all()
    assert BalancedSampling(power=1).counts(ROWS, 0, 0).tolist() == [1] * 148


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    one, other = BalancedSampling(), pickle.loads(pickle.dumps(BalancedSampling()))
    other.counts(ROWS, 9, 9)
    assert np.array_equal(one.order(ROWS, 1, 3), other.order(ROWS, 1, 3))
    assert not np.array_equal(one.order(ROWS, 1, 3), one.order(ROWS, 2, 3))
    assert not np.array_equal(one.order(ROWS, 1, 3), one.order(ROWS, 1, 4))


def test_rows_that_are_used_again_have_other_numbers():
    numbers = BalancedSampling().order(ROWS, 0, 0)
    assert len(set(numbers.tolist())) == 148
    rare = numbers[LABELS[numbers % 148] == 6]
    assert sorted(rare // 148) == list(range(37))


def test_rows_without_a_class_are_left_out():
    labels = np.array([-1, 0, -100, 0, 1])
    assert BalancedSampling().counts(Rows(labels), 0, 0)[labels < 0].sum() == 0


@pytest.mark.parametrize("labels", [[], [-1, -1], [[0, 1], [1, 1]], [0.5, 1.5]])
def test_rows_that_do_not_have_one_class_each_are_an_error(labels):
    with pytest.raises(DataError, match="balanced sampling needs"):
        BalancedSampling().check(Rows(labels))


def test_of_several_targets_the_named_one_is_balanced(tmp_path):
    rows = [f"{number}.png,{'red' if number < 3 else 'blue'},{number % 2},a|b" for number in range(30)]
    (tmp_path / "rows.csv").write_text("path,colour,shape,tags\n" + "\n".join(rows))
    several = {"colour": "colour", "shape": "shape"}
    dataset = ManifestDataset(2, True, manifest=str(tmp_path / "rows.csv"), targets=several)
    counts = BalancedSampling(target="colour").counts(dataset, 0, 0)
    assert counts[:3].sum() == 15 == counts[3:].sum()
    assert "15 of each of 2 classes; rows x times that each is used: red 3 x 5" in BalancedSampling(
        target="colour"
    ).remark(dataset)
    for target in (None, "size"):
        with pytest.raises(DataError, match=r"set sampling\.target to one of them, colour, shape"):
            BalancedSampling(target=target).check(dataset)
    tagged = ManifestDataset(
        2, True, manifest=str(tmp_path / "rows.csv"), label_column="tags", label_separator="|", classes=["a", "b"]
    )
    with pytest.raises(DataError, match="these rows have several labels"):
        BalancedSampling().check(tagged)
    with pytest.raises(DataError, match="needs rows with one class each"):
        Split(0.5, stratify=True).take(tagged, "train")


@pytest.mark.parametrize("wrong", [{"power": -1}, {"power": "a"}, {"rows": 0}])
def test_arguments_out_of_range_are_errors(wrong):
    with pytest.raises(ComponentError):
        build_sampling({"name": "balanced", **wrong})


def test_it_says_how_often_rows_are_used():
    text = BalancedSampling().remark(ROWS)
    assert text == (
        "an epoch has 148 rows, 37 of each of 4 classes; rows x times that each is used: 6 1 x 37, 5 7 x 5.3, "
        "2 40 x 0.93, 0 100 x 0.37"
    )
