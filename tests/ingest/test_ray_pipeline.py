"""One execution of a pipeline, given to several ranks; without Ray."""

import threading

import pytest

from ray_classy.ingest.ray_pipeline import Pass


def blocks(*sizes):
    return iter([(f"block {number}", size) for number, size in enumerate(sizes)])


def test_every_rank_gets_every_block_and_the_next_is_made_when_it_is_needed():
    made = blocks(3, 2, 4)
    one = Pass(made, 9, 2)
    assert one.block(0, 0, 100) == (["block 0"], 3)
    assert one.block(1, 0, 100) == (["block 0"], 3) and not one._held
    assert [one.block(rank, number, 100) for number in (1, 2) for rank in (1, 0)] == [
        (["block 1"], 2),
        (["block 1"], 2),
        (["block 2"], 4),
        (["block 2"], 4),
    ]


def test_the_fastest_rank_waits_for_the_slowest():
    one = Pass(blocks(5, 5, 5), 15, 2)
    one.block(0, 0, 4)
    asked = threading.Thread(target=one.block, args=(0, 1, 4))
    asked.start()
    asked.join(0.05)
    assert asked.is_alive()
    one.block(1, 0, 4)
    asked.join(5)
    assert not asked.is_alive()


@pytest.mark.parametrize(
    ("sizes", "message"), [((3, 2), "fewer than 9 rows in this pass, only 5"), ((3, 6, 1), "more"), ((3, 7), "more")]
)
def test_another_number_of_rows_is_one_error_for_all_ranks(sizes, message):
    one = Pass(blocks(*sizes), 9, 2)
    for rank in range(2):
        answers = [one.block(rank, number, 100) for number in range(3)]
        assert message in answers[-1] and answers[0] == (["block 0"], 3)


def test_failure_of_the_pipeline_is_one_error():
    def failing():
        yield "block 0", 3
        raise ValueError("boom")

    one = Pass(failing(), 9, 1)
    one.block(0, 0, 100)
    assert "the pipeline of the RayDataset failed: boom" in one.block(0, 1, 100)
