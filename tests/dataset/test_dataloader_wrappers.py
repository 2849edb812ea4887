import copy

import pytest
import torch

from ray_classy.dataset import (
    DataloaderAsyncGPUWrapper,
    DataloaderLimitWrapper,
    DataloaderSkipNoneWrapper,
    DataloaderWrapper,
)
from ray_classy.errors import ComponentError, LoaderError
from tests.helpers import make_task, train, vectors


class Loader:
    """Gives the items of a list."""

    def __init__(self, items):
        self.items, self.attribute = items, 1

    def __iter__(self):
        return iter(self.items)


def test_attributes_are_those_of_the_loader():
    loader = Loader([1])
    wrapper = DataloaderLimitWrapper(loader, 3)
    wrapper.attribute, wrapper.limit = 2, 4
    assert (loader.attribute, wrapper.attribute, wrapper.limit) == (2, 2, 4) and not hasattr(loader, "limit")
    with pytest.raises(AttributeError, match="missing"):
        _ = wrapper.missing


def test_base_class_is_abstract():
    with pytest.raises(TypeError, match="__next__"):
        DataloaderWrapper(Loader([1]))


def test_limit_wraps_around_and_begins_anew():
    wrapper = DataloaderLimitWrapper(Loader([1, 2, 3]), 5)
    assert len(wrapper) == 5 and list(wrapper) == list(wrapper) == [1, 2, 3, 1, 2]


@pytest.mark.parametrize(("items", "wrap_around"), [([1, 2], False), ([], True), ([], False)])
def test_limit_that_is_not_reached(items, wrap_around):
    with pytest.raises(LoaderError, match="loader") as caught:
        list(DataloaderLimitWrapper(Loader(items), 3, wrap_around))
    assert isinstance(caught.value, RuntimeError)


def test_limit_without_wrapping_around():
    assert list(DataloaderLimitWrapper(Loader([1, 2, 3]), 2, wrap_around=False)) == [1, 2]


@pytest.mark.parametrize("limit", [-1, "a", 1.5, None])
def test_impossible_limits_are_refused(limit):
    with pytest.raises(ComponentError, match="limit must be an integer of at least 0"):
        DataloaderLimitWrapper(Loader([1]), limit)


def test_none_is_skipped():
    wrapper = DataloaderSkipNoneWrapper(Loader([None, 1, None, 2, None]))
    assert list(wrapper) == list(wrapper) == [1, 2] and not list(DataloaderSkipNoneWrapper(Loader([None])))


def test_wrappers_nest_and_copy():
    wrapper = DataloaderLimitWrapper(DataloaderSkipNoneWrapper(Loader([None, 1, 2])), 3)
    assert list(copy.deepcopy(wrapper)) == [1, 2, 1] and wrapper.attribute == 1


def test_first_batch_without_iter():
    assert next(DataloaderLimitWrapper(Loader([1]), 1)) == next(DataloaderSkipNoneWrapper(Loader([1]))) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_copies_to_the_gpu_need_one():
    with pytest.raises(ComponentError, match="needs a GPU"):
        DataloaderAsyncGPUWrapper(Loader([1]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_are_copied_to_the_gpu():
    batches = [{"input": torch.full((4,), number).pin_memory()} for number in range(5)]
    wrapper = DataloaderAsyncGPUWrapper(Loader(batches))
    for _ in range(2):
        seen = [batch["input"] for batch in wrapper]
        assert [one.tolist() for one in seen] == [[number] * 4 for number in range(5)]
        assert all(one.is_cuda for one in seen)


def test_task_trains_on_wrapped_loaders():
    task = make_task(train=10, test=6, epochs=2)
    dataset = task.datasets["train"]
    own = type(dataset).iterator
    dataset.iterator = lambda **options: DataloaderLimitWrapper(own(dataset, **options), 5)
    assert len(train(task).losses) == 2 and task.num_train_steps == 10


def test_loader_of_ours_is_wrapped():
    loader = vectors(10).iterator()
    assert isinstance(loader, torch.utils.data.DataLoader)
    wrapper = DataloaderLimitWrapper(loader, 5)
    assert [len(batch["target"]) for batch in wrapper] == [4, 4, 2, 4, 4]
    wrapper.device = torch.device("cpu")
    assert loader.device == torch.device("cpu")
