"""What holds for every plan: each row exactly once, and the same number of train steps on every rank."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_classy.dataset.plan import PhasePlan

rows = st.integers(1, 300)
batch_sizes = st.integers(1, 40)
world_sizes = st.integers(1, 8)
seeds = st.integers(0, 2**32)

settings.register_profile("plan", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("plan")


def plans(world_size, **options):
    return [PhasePlan(world_size=world_size, rank=rank, **options) for rank in range(world_size)]


def consumed(plan):
    """The rows of a rank, without padding."""
    batches = [batch[: plan.share(step).rows] for step, batch in enumerate(plan.batches())]
    return np.concatenate(batches) if batches else np.empty(0, dtype=np.int64)


@given(rows, batch_sizes, world_sizes, seeds, st.integers(0, 5), st.booleans())
def test_every_row_is_trained_on_once_per_epoch(num_rows, batch_size, world_size, seed, epoch, shuffle):
    options = {"num_rows": num_rows, "batch_size": batch_size, "seed": seed, "epoch": epoch, "shuffle": shuffle}
    ranks = plans(world_size, train=True, **options)
    assert sorted(np.concatenate([consumed(plan) for plan in ranks])) == list(range(num_rows))


@given(rows, batch_sizes, world_sizes, seeds)
def test_every_row_is_evaluated_once(num_rows, batch_size, world_size, seed):
    ranks = plans(world_size, num_rows=num_rows, batch_size=batch_size, seed=seed, shuffle=True)
    assert sorted(np.concatenate([consumed(plan) for plan in ranks])) == list(range(num_rows))


@given(rows, batch_sizes, world_sizes)
def test_all_ranks_make_the_same_number_of_train_steps(num_rows, batch_size, world_size):
    ranks = plans(world_size, num_rows=num_rows, batch_size=batch_size, train=True)
    steps = {len(list(plan.batches())) for plan in ranks} | {plan.num_steps for plan in ranks}
    assert steps == {-(-num_rows // (batch_size * world_size))}


@given(rows, batch_sizes, world_sizes)
def test_no_train_batch_is_empty_or_too_large(num_rows, batch_size, world_size):
    for plan in plans(world_size, num_rows=num_rows, batch_size=batch_size, train=True):
        assert all(1 <= len(batch) <= (batch_size if batch_size > 2 else batch_size + 1) for batch in plan.batches())


@given(rows, st.integers(2, 40), world_sizes, st.integers(1, 4))
def test_no_rank_trains_on_one_row_where_that_can_be_avoided(num_rows, batch_size, world_size, parts):
    options = {"num_rows": num_rows, "batch_size": batch_size, "train": True}
    for part in range(parts):
        ranks = plans(world_size, part=(part, parts), **options)
        shares = [plan.share(step).rows for plan in ranks for step in range(plan.num_steps)]
        size = batch_size * world_size
        avoidable = size >= 3 and ranks[0].rows_left > 1
        assert not avoidable or 1 not in shares
        assert ranks[0].fewest_rows == min((rows for rows in shares if rows), default=0)


@given(rows, st.integers(2, 40), world_sizes, world_sizes, st.data())
def test_no_rank_trains_on_one_row_after_a_resume(num_rows, batch_size, before, after, data):
    options = {"num_rows": num_rows, "batch_size": batch_size, "train": True}
    first = PhasePlan(world_size=before, **options)
    steps = data.draw(st.integers(0, max(0, first.num_steps - 1)))
    rest = plans(after, start=first.consumed(steps), **options)
    small = min(before, after) * batch_size < 3 or num_rows == 1
    assert small or all(plan.share(step).rows != 1 for plan in rest for step in range(plan.num_steps))


@given(rows, batch_sizes, world_sizes, st.data())
def test_a_phase_that_is_resumed_makes_the_steps_that_were_left(num_rows, batch_size, world_size, data):
    options = {"num_rows": num_rows, "batch_size": batch_size, "world_size": world_size, "train": True}
    whole = PhasePlan(**options)
    steps = data.draw(st.integers(0, whole.num_steps))
    rest = PhasePlan(start=whole.consumed(steps), **options)
    left = [whole.global_rows(step) for step in range(steps, whole.num_steps)]
    assert [rest.global_rows(step) for step in range(rest.num_steps)] == left


@given(rows, batch_sizes, world_sizes)
def test_the_shares_of_a_step_add_up_to_its_rows(num_rows, batch_size, world_size):
    ranks = plans(world_size, num_rows=num_rows, batch_size=batch_size, train=True)
    for step in range(ranks[0].num_steps):
        shares = [plan.share(step) for plan in ranks]
        assert {share.global_rows for share in shares} == {sum(share.rows for share in shares)}


@given(rows, batch_sizes, world_sizes, world_sizes, st.data())
def test_what_is_left_of_an_epoch_is_trained_once_on_any_other_number_of_ranks(
    num_rows, batch_size, before, after, data
):
    options = {"num_rows": num_rows, "batch_size": batch_size, "seed": 3, "epoch": 1, "shuffle": True, "train": True}
    steps = data.draw(st.integers(0, plans(before, **options)[0].num_steps))
    first = [
        row
        for plan in plans(before, **options)
        for step, batch in enumerate(plan.batches())
        if step < steps
        for row in batch[: plan.share(step).rows]
    ]
    rest = plans(after, start=plans(before, **options)[0].consumed(steps), **options)
    second = [row for plan in rest for row in consumed(plan)]
    assert sorted([*first, *second]) == list(range(num_rows))


@given(rows, batch_sizes, world_sizes, st.integers(1, 6), seeds)
def test_the_parts_of_an_epoch_are_the_epoch(num_rows, batch_size, world_size, parts, seed):
    options = {"num_rows": num_rows, "batch_size": batch_size, "seed": seed, "shuffle": True, "train": True}
    seen = [
        row
        for part in range(parts)
        for plan in plans(world_size, part=(part, parts), **options)
        for row in consumed(plan)
    ]
    assert sorted(seen) == list(range(num_rows))


@given(st.integers(20, 300), seeds)
def test_every_epoch_has_another_order_and_the_same_seed_the_same(num_rows, seed):
    orders = [PhasePlan(num_rows, 8, shuffle=True, seed=seed, epoch=epoch).order for epoch in (0, 1, 0)]
    assert not np.array_equal(orders[0], orders[1]) and np.array_equal(orders[0], orders[2])


def test_a_shuffle_is_full_also_of_rows_sorted_by_class():
    # Of rows sorted into ten classes, the mean position of each class is that of a uniform permutation.
    num_rows, classes, epochs = 1000, 10, 40
    positions = np.zeros((epochs, classes))
    for epoch in range(epochs):
        place = np.empty(num_rows)
        place[PhasePlan(num_rows, 8, shuffle=True, seed=1, epoch=epoch).order] = np.arange(num_rows)
        positions[epoch] = place.reshape(classes, -1).mean(1)
    spread = num_rows / np.sqrt(12 * num_rows / classes)  # of the mean of that many uniform positions
    middle = positions.mean(0) - (num_rows - 1) / 2
    assert np.abs(middle).max() < 4 * spread / np.sqrt(epochs)
    assert 0.8 < positions.std(0).mean() / spread < 1.2
