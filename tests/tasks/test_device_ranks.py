"""What the keys for the device do on two ranks, all of it done once."""

import pytest
import torch

from ray_classy.distributed import get_rank, get_world_size
from ray_classy.torch_compat import compiled_graphs
from tests.helpers import RecordingHook, make_task, run_ranks, train
from tests.tasks.images import image_task, rows_seen

pytestmark = pytest.mark.full


def outcome(task):
    return torch.cat([value.flatten().double() for value in task.base_model.state_dict().values()]).tolist()


def task(**options):
    return image_task(train=20, test=6, batch=8 // get_world_size(), batch_norm=False, epochs=3, **options)


def work():
    graphs = RecordingHook(lambda task: compiled_graphs())
    settings = {"train": 20, "test": 6, "batch": 8 // get_world_size(), "epochs": 3}
    compiled = train(make_task(**settings, hooks=[graphs]).set_compile({"backend": "aot_eager"}))
    most = train(task(most=3 - get_rank()).set_batch("auto"))
    return {
        "plain": outcome(train(task())),
        "compiled": (outcome(compiled), outcome(train(make_task(**settings)))),
        "graphs": graphs.seen("on_phase_end"),
        "recomputed": outcome(train(task().set_gradient_checkpointing(True))),
        "sharded": outcome(train(task().set_gradient_checkpointing(True).set_distributed_options(strategy="fsdp"))),
        "parts": outcome(train(task().set_batch(3))),
        "auto": (most.device_setup.part_rows, max(rows_seen(most)[-8:])),
        "format": train(task().set_memory_format("auto")).device_setup.chosen.memory_format,
    }


@pytest.fixture(scope="module")
def ranks():
    return run_ranks(2, work, seconds=300)


@pytest.mark.parametrize("what", ["recomputed", "sharded", "parts"])
def test_the_result_is_that_of_the_plain_training(ranks, what):
    assert ranks[0][what] == ranks[1][what] == pytest.approx(ranks[0]["plain"], abs=1e-5)


def test_nothing_is_compiled_again_when_the_replicas_are_wrapped_for_the_next_phase(ranks):
    for rank in ranks:
        assert len(set(rank["graphs"][1:])) == 1 and rank["graphs"][0] > 0
        assert rank["compiled"][0] == pytest.approx(rank["compiled"][1], abs=1e-5)


def test_all_ranks_use_the_smallest_number_of_rows_that_fits_on_one_of_them(ranks):
    assert [rank["auto"] for rank in ranks] == [(2, 2), (2, 2)]


def test_all_ranks_choose_the_same_format(ranks):
    assert ranks[0]["format"] == ranks[1]["format"]
