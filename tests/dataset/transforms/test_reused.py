import gc
import threading

import pytest
import torch

from ray_classy.dataset.transforms.reused import empty

SHAPE = (1024, 1024)


def test_memory_is_taken_again_when_nobody_holds_it():
    first = empty(SHAPE, torch.float32)
    place = first.data_ptr()
    del first
    gc.collect()
    assert empty(SHAPE, torch.float32).data_ptr() == place


@pytest.mark.parametrize("hold", [lambda t: t, lambda t: t[3:5], lambda t: t.numpy(), lambda t: t.detach()])
def test_memory_in_use_is_not(hold):
    first = empty(SHAPE, torch.float32)
    place, held = first.data_ptr(), hold(first)
    del first
    assert all(other.data_ptr() != place for other in [empty(SHAPE, torch.float32) for _ in range(6)])
    assert held is not None


def test_memory_that_a_backward_pass_needs_is_not():
    weight = torch.ones(SHAPE, requires_grad=True)
    product = (weight * empty(SHAPE, torch.float32).fill_(3)).sum()
    for _ in range(6):
        empty(SHAPE, torch.float32).fill_(5)
    product.backward()
    assert bool((weight.grad == 3).all())


def test_tensors_are_apart():
    made = [empty(SHAPE, torch.float32).fill_(number) for number in range(8)]
    assert [one.mean().item() for one in made] == list(range(8))


def test_threads_share_no_memory():
    found = []

    def work(number):
        for _ in range(20):
            mine = empty(SHAPE, torch.float32).fill_(number)
            found.append(bool((mine == number).all()))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(found) == 60 and all(found)


def test_small_and_other_types():
    assert empty((3, 4), torch.float64).shape == (3, 4)
    assert empty((2, 600_000), torch.float64).dtype == torch.float64
