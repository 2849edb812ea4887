import threading
from concurrent.futures import ThreadPoolExecutor

from ray_classy.dataset.byte_budget import ByteBudget


def test_never_more_than_the_limit_is_held():
    budget, held, most, lock = ByteBudget(10), [0], [0], threading.Lock()

    def work(count):
        with budget.hold(count):
            with lock:
                held[0] += count
                most[0] = max(most[0], held[0])
            with lock:
                held[0] -= count

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [3, 4, 5, 10] * 20))
    assert most[0] <= 10


def test_one_that_needs_more_than_the_limit_is_let_in_alone():
    with ByteBudget(10).hold(100):
        pass


def test_an_error_gives_the_bytes_back():
    budget = ByteBudget(10)
    for _ in range(3):
        try:
            with budget.hold(8):
                raise ValueError
        except ValueError:
            pass
    with budget.hold(10):
        pass
