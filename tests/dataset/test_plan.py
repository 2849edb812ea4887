import numpy as np
import pytest

from ray_classy.dataset.plan import PhasePlan

SIZES = (1, 2, 3, 7, 8, 16, 23, 64)


def plans(rows, batch, world_size, **options):
    return [PhasePlan(rows, batch, world_size, rank, **options) for rank in range(world_size)]


def rows_of(plan):
    """The weighted rows, without padding."""
    batches = zip(plan.batches(), (plan.share(step) for step in range(plan.num_steps)), strict=True)
    return [row for batch, share in batches for row in batch[: share.rows].tolist()]


@pytest.mark.parametrize("world_size", range(1, 9))
@pytest.mark.parametrize("train", [False, True])
def test_every_row_is_read_exactly_once(world_size, train):
    for rows in SIZES:
        for batch in (1, 2, 5):
            ranks = plans(rows, batch, world_size, train=train, shuffle=train)
            assert sorted(row for plan in ranks for row in rows_of(plan)) == list(range(rows))


@pytest.mark.parametrize("world_size", range(1, 9))
def test_ranks_that_read_a_test_phase_together_are_in_the_same_global_batch(world_size):
    for rows in SIZES:
        for batch in (1, 2, 5):
            ranks = plans(rows, batch, world_size, together=True)
            assert sorted(row for plan in ranks for row in rows_of(plan)) == list(range(rows))
            assert all(
                row // (batch * world_size) == step
                for plan in ranks
                for step, numbers in enumerate(plan.batches())
                for row in numbers
            )


@pytest.mark.parametrize("world_size", range(1, 9))
def test_ranks_make_the_same_train_steps(world_size):
    for rows in SIZES:
        for batch in (1, 3):
            ranks = plans(rows, batch, world_size, train=True)
            assert {plan.num_steps for plan in ranks} == {-(-rows // (batch * world_size))}
            assert all(len(list(plan.batches())) == plan.num_steps for plan in ranks)


@pytest.mark.parametrize("world_size", range(1, 9))
def test_shares_of_a_step_add_up(world_size):
    for rows in SIZES:
        ranks = plans(rows, 3, world_size, train=True)
        for step in range(ranks[0].num_steps):
            shares = [plan.share(step) for plan in ranks]
            assert {share.global_rows for share in shares} == {sum(share.rows for share in shares)}
            given = [share.rows for share in shares if share.rows]
            assert max(given) - min(given) <= 1
            assert min(given) >= min(2, shares[0].global_rows)


def test_step_is_the_same_global_batch_at_any_world_size():
    def global_batches(world_size):
        ranks = plans(22, 12 // world_size, world_size, train=True, shuffle=True, seed=3)
        return [
            np.concatenate([list(plan.batches())[step][: plan.share(step).rows] for plan in ranks]).tolist()
            for step in range(ranks[0].num_steps)
        ]

    assert global_batches(1) == global_batches(2) == global_batches(3) == global_batches(6)


def test_rank_without_a_row_gets_a_padding_row():
    ranks = plans(2, 1, 4, train=True)
    assert [plan.share(0).rows for plan in ranks].count(0) == 2
    assert all(set(batch) <= {0, 1} and len(batch) for plan in ranks for batch in plan.batches())


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_drop_last_leaves_out_the_short_batch(world_size):
    ranks = plans(20, 3, world_size, train=True, drop_last=True)
    assert all(plan.num_steps == 20 // (3 * world_size) for plan in ranks)
    assert all(len(batch) == 3 for plan in ranks for batch in plan.batches())


def test_drop_last_does_not_touch_test_phases():
    assert sum(len(rows_of(plan)) for plan in plans(20, 3, 2, drop_last=True)) == 20


def test_orders_differ_between_epochs_and_seeds():
    orders = {tuple(PhasePlan(30, 1, shuffle=True, seed=s, epoch=e).order) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def test_last_step_takes_a_row_from_the_step_before_rather_than_have_one():
    ranks = plans(9, 4, 2, train=True)
    assert [[plan.share(step).rows for plan in ranks] for step in range(2)] == [[4, 3], [2, 0]]
    assert [ranks[0].consumed(steps) for steps in range(3)] == [0, 7, 9]
    assert rows_of(ranks[0]) + rows_of(ranks[1]) == [0, 1, 2, 3, 7, 8, 4, 5, 6]


def test_batches_of_two_rows_go_to_ranks_in_twos_and_threes():
    assert [plan.share(1).rows for plan in plans(7, 2, 2, train=True)] == [3, 0]


@pytest.mark.parametrize(("rows", "batch", "parts", "fewest"), [(9, 2, 1, 1), (8, 1, 1, 1), (9, 4, 1, 2), (3, 4, 3, 1)])
def test_fewest_rows_of_a_batch(rows, batch, parts, fewest):
    assert PhasePlan(rows, batch, train=True, part=(0, parts)).fewest_rows == fewest


def test_order_depends_on_seed_and_epoch_alone():
    one, other = PhasePlan(30, 1, 1, 0, True, True, epoch=2), PhasePlan(30, 7, 4, 3, True, True, epoch=2)
    assert one.order.tolist() == other.order.tolist()


def test_without_shuffling_rows_come_in_their_order():
    assert PhasePlan(5, 2, train=True).order.tolist() == [0, 1, 2, 3, 4]


def test_parts_of_an_epoch_share_its_order():
    parts = [PhasePlan(11, 2, train=True, shuffle=True, part=(p, 3)) for p in range(3)]
    whole = PhasePlan(11, 2, train=True, shuffle=True).order.tolist()
    assert np.concatenate([part.order for part in parts]).tolist() == whole
    assert [part.rows_left for part in parts] == [3, 4, 4]


def test_start_continues_after_the_rows_consumed():
    whole = PhasePlan(20, 3, train=True, shuffle=True).order.tolist()
    for world_size in (1, 2, 4):
        ranks = plans(20, 3, world_size, train=True, shuffle=True, start=7)
        assert sorted(row for plan in ranks for row in rows_of(plan)) == sorted(whole[7:])


def test_nothing_is_left_at_the_end():
    assert PhasePlan(10, 3, train=True, start=10).num_steps == 0
