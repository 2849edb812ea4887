import time

import pytest

from ray_classy.distributed import get_rank
from ray_classy.trainer.agreement import Agreement
from tests.helpers import run_ranks


def test_it_asks_at_once_and_then_by_the_speed_of_the_steps():
    asked = []
    agreement = Agreement(lambda: asked.append(1) or 0)
    agreement.after_step()
    assert len(asked) == 1
    for _ in range(99):
        agreement.after_step()
    assert len(asked) == 1
    agreement.after_step()
    assert len(asked) == 2


def test_slow_steps_are_asked_about_each():
    asked = []
    agreement = Agreement(lambda: asked.append(1) or 0)
    for _ in range(2):
        time.sleep(1.05)
        agreement.after_step()
    assert len(asked) == 2


def answers():
    """What a rank hears in 250 steps; only rank 0 has something to say, the third time it is asked."""
    asked = []
    agreement = Agreement(lambda: asked.append(1) or (7 if get_rank() == 0 and len(asked) == 3 else 0))
    return [step for step in range(250) if agreement.after_step() == 7]


@pytest.mark.parametrize("world_size", [1, 3])
def test_all_ranks_hear_the_answer_at_the_same_step(world_size):
    heard = run_ranks(world_size, answers)
    assert len(heard[0]) == 1 and heard == [heard[0]] * world_size


def test_a_fast_test_phase_says_nothing_about_the_steps_after_it():
    asked = []
    agreement = Agreement(lambda: asked.append(1) or 0)
    for _ in range(2):
        agreement.now()
    agreement.after_step()
    assert len(asked) == 3
