import pytest

from ray_classy.errors import TaskError
from ray_classy.tasks.phases import build_phases, ends_round, position
from tests.helpers import RecordingHook, make_task, train


def kinds(*arguments, **options):
    return "".join("T" if phase["train"] else "e" for phase in build_phases(*arguments, **options))


def test_a_slip_in_a_number_makes_no_endless_list():
    with pytest.raises(TaskError, match="1,000,000,000 train phases; a run has at most 1,000,000"):
        build_phases(1000, phases_per_epoch=10**6)


def test_train_and_test_phases_alternate():
    assert kinds(3) == "TeTeTe"


def test_test_phase_period():
    assert kinds(4, test_phase_period=2) == "TTeTTe"


def test_last_phase_is_a_test_phase():
    assert kinds(5, test_phase_period=3) == "TTTeTTe"


def test_phases_per_epoch():
    assert kinds(2, phases_per_epoch=2) == "TeTeTeTe"


@pytest.mark.parametrize(("epochs", "parts", "count"), [(0.5, 2, 1), (0.5, 3, 2), (1.1, 100, 110), (0.3, 10, 3)])
def test_part_of_an_epoch_is_rounded_up(epochs, parts, count):
    assert kinds(epochs, parts, has_test=False) == "T" * count


def test_train_only():
    assert kinds(2, has_test=False) == "TT"


def test_test_only():
    assert kinds(2, has_train=False, test_only=True) == "ee"


def test_test_only_wants_whole_epochs():
    with pytest.raises(TaskError, match=r"whole epochs.*0\.5"):
        kinds(0.5, test_only=True)


def test_test_only_wants_a_test_dataset():
    with pytest.raises(TaskError, match=r"dataset\.test"):
        kinds(1, test_only=True, has_test=False)


def test_training_wants_a_train_dataset():
    with pytest.raises(TaskError, match=r"dataset\.train"):
        kinds(1, has_train=False)


def test_rounds_end_with_their_test_phase():
    phases = build_phases(3, test_phase_period=2)
    assert [ends_round(phases, index) for index in range(len(phases))] == [True, False, True, False, True]


def test_task_runs_its_phases_in_order():
    hook = RecordingHook(lambda task: (task.phase_type, task.phase_idx, task.train_phase_idx, task.eval_phase_idx))
    train(make_task(train=8, test=4, epochs=3, hooks=[hook]).set_test_phase_period(2))
    assert hook.seen("on_phase_start") == [
        ("train", 0, 0, -1),
        ("train", 1, 1, -1),
        ("test", 2, 1, 0),
        ("train", 3, 2, 0),
        ("test", 4, 2, 1),
    ]


def test_parts_of_an_epoch_cover_it():
    rows = []
    hook = RecordingHook(lambda task: rows.extend(task.last_batch.sample["row"].tolist()) if task.last_batch else None)
    task = make_task(train=10, test=None, shuffle=True, hooks=[hook])
    task.datasets["train"].phases_per_epoch = 3
    train(task.set_dataset(task.datasets["train"], "train"))
    assert len(task.phases) == 3 and sorted(rows) == list(range(10))


@pytest.mark.parametrize(
    ("period", "train_phase_idx", "train", "expected"),
    [
        (1, -1, True, -1),
        (1, 0, True, 0),
        (1, 0, False, 1),
        (4, 0, False, 0),
        (4, 3, True, 3),
        (4, 3, False, 4),
        (4, 9, False, 9),
    ],
)
def test_position_in_phases_that_were_laid_out_otherwise_before(period, train_phase_idx, train, expected):
    phases = build_phases(8, test_phase_period=period)
    assert position(phases, train_phase_idx, train) == expected
