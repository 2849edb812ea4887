import random
import subprocess
import sys

import numpy as np
import torch

from ray_classy.seeding import (
    derive_seed,
    get_rng_state,
    host_rng_kept,
    mix_parts,
    row_uniforms,
    seed_all,
    set_rng_state,
)
from ray_classy.tasks import build_task


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_seed_depends_on_every_part_and_their_order():
    seeds = {derive_seed(*parts) for parts in [(0,), (0, 0), (0, 1), (1, 0), (1, 2, 3), (3, 2, 1), (2**63,)]}
    assert len(seeds) == 7 and all(0 <= seed < 2**63 for seed in seeds)


def test_neighbouring_seeds_do_not_meet():
    assert len({derive_seed(a, b, c) for a in range(20) for b in range(20) for c in range(20)}) == 8000


def test_seed_is_the_same_in_another_process():
    code = "from ray_classy.seeding import derive_seed; print(derive_seed(1, 2, 3))"
    assert int(subprocess.check_output([sys.executable, "-c", code])) == derive_seed(1, 2, 3)


def test_numbers_of_rows_do_not_depend_on_their_neighbours():
    rows = np.array([5, 3, 2**40])
    whole = row_uniforms(1, 2, rows, 3, 4)
    assert whole.shape == (3, 4) and (whole >= 0).all() and (whole < 1).all()
    for row, numbers in zip(rows, whole, strict=True):
        assert row_uniforms(1, 2, np.array([row]), 3, 7)[0, :4].tolist() == numbers.tolist()


def test_numbers_of_rows_are_even_and_apart():
    drawn = [
        row_uniforms(*parts, np.arange(20_000), purpose, 2)
        for *parts, purpose in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    columns = np.concatenate(drawn, axis=1)
    assert np.abs(columns.mean(0) - 0.5).max() < 0.01 and np.abs(columns.std(0) - 12**-0.5).max() < 0.01
    assert np.abs(np.corrcoef(columns.T) - np.eye(8)).max() < 0.03
    assert np.abs(np.corrcoef(columns[1:, 0], columns[:-1, 0])[0, 1]) < 0.03


def test_seed_all_seeds_the_three_generators():
    seed_all(5)
    first = draw()
    seed_all(5)
    assert draw() == first
    seed_all(6)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_state_is_restored_after_a_checkpoint(tmp_path):
    seed_all(1)
    random.gauss(0, 1), np.random.randn()
    torch.save(get_rng_state(), tmp_path / "state")
    expected = draw(), random.gauss(0, 1), np.random.randn()
    seed_all(2)
    set_rng_state(torch.load(tmp_path / "state", weights_only=True))
    assert (draw(), random.gauss(0, 1), np.random.randn()) == expected


def test_generators_are_kept_even_by_a_failing_block():
    seed_all(1)
    expected = draw()
    seed_all(1)
    try:
        with host_rng_kept():
            seed_all(9)
            raise ValueError
    except ValueError:
        pass
    assert draw() == expected


CONFIG = {
    "name": "classification_task",
    "num_epochs": 1,
    "dataset": {"test": {"name": "digits", "split": "test", "batchsize_per_replica": 8, "use_shuffle": False}},
    "test_only": True,
    "model": {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [4]},
    "loss": {"name": "CrossEntropyLoss"},
}


def test_building_leaves_the_caller_generators_alone():
    seed_all(1)
    expected = draw()
    seed_all(1)
    build_task(CONFIG)
    assert draw() == expected


def test_weights_depend_on_the_seed_alone():
    def weight(seed):
        torch.rand(1)
        return next(build_task({**CONFIG, "seed": seed}).base_model.parameters())

    assert torch.equal(weight(3), weight(3)) and not torch.equal(weight(3), weight(4))


def test_deterministic_refuses_what_has_no_such_algorithm():
    code = """
import torch
from ray_classy.seeding import use_deterministic_algorithms
use_deterministic_algorithms()
try:
    torch.empty(3).put_(torch.tensor([0, 0]), torch.ones(2))
except RuntimeError as error:
    print("refused" if "deterministic" in str(error) else error)
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "refused"


def test_a_seed_is_the_same_where_its_first_integers_were_mixed_before():
    assert derive_seed(3, 2**64 - 1, after=mix_parts(1, -2)) == derive_seed(1, -2, 3, 2**64 - 1)
