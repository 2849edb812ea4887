import csv

import pytest
import torch

from ray_classy.errors import ComponentError, DamagedCheckpointError
from ray_classy.hooks import OutputCSVHook, build_hook
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, Vectors, make_task, run_ranks, train


def lines(folder, name="predictions.csv", delimiter="\t"):
    with open(folder / name, newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def hook(folder, **options):
    return OutputCSVHook(str(folder), "row", **options)


def test_every_evaluated_row_has_a_line(tmp_path):
    outputs = RecordingHook(lambda task: task.last_batch and not task.train and task.last_batch.output.argmax(1))
    train(make_task(test=10, epochs=2, hooks=[hook(tmp_path / "new"), outputs]))
    header, *rows = lines(tmp_path / "new")
    predicted = torch.cat([part for part in outputs.seen("on_step") if part is not False]).tolist()
    assert header == ["sample_id", "prediction", "target"]
    targets = Vectors(10).targets * 2
    assert rows == [[str(n % 10), str(p), str(t)] for n, p, t in zip(range(20), predicted, targets, strict=True)]


def _evaluate(folder):
    train(make_task(test=11, batch=2, hooks=[OutputCSVHook(folder, "row")]).set_test_only(True))


@pytest.mark.parametrize("ranks", [2, 3])
def test_several_ranks_write_each_row_once_into_one_file(tmp_path, ranks):
    _evaluate(str(tmp_path / "one"))
    run_ranks(ranks, _evaluate, str(tmp_path / "many"))
    assert lines(tmp_path / "many") == lines(tmp_path / "one")


def one_hot(sample):
    return {**sample, "target": torch.nn.functional.one_hot(torch.tensor(sample["target"]), 4).float()}


def test_of_a_one_hot_target_the_class_is_written(tmp_path):
    task = make_task(test=None, hooks=[hook(tmp_path, delimiter=",")]).set_test_only(True)
    task.set_dataset(make_task(train=6, transform=one_hot).datasets["train"], "test").set_meters([])
    train(task)
    assert [row[2] for row in lines(tmp_path, delimiter=",")[1:]] == [str(target) for target in Vectors(6).targets]


def test_lines_are_appended_to_an_earlier_file(tmp_path):
    for _ in range(2):
        _evaluate(str(tmp_path))
    assert len(lines(tmp_path)) == 1 + 2 * 11


def test_a_resumed_run_writes_each_phase_once(tmp_path):
    def task(epochs, *hooks):
        return make_task(test=4, epochs=epochs, hooks=[hook(tmp_path), *hooks])

    run = LocalTrainer(str(tmp_path), "r").train(task(1))
    with open(tmp_path / "predictions.csv", "a") as file:
        file.write("0\t1\t1\n")  # of a phase after the checkpoint
    LocalTrainer(resume=run.path).train(task(3))
    assert [row[0] for row in lines(tmp_path)[1:]] == [*"0123"] * 3
    assert lines(tmp_path, "predictions.superseded.csv") == [["0", "1", "1"]]


def test_samples_without_an_id_are_left_out_with_a_warning(tmp_path, caplog):
    train(make_task(hooks=[OutputCSVHook(str(tmp_path))]))
    assert len(lines(tmp_path)) == 1 and "samples have no 'id'" in caplog.text


@pytest.mark.parametrize("wrong", [{"folder": 5}, {"folder": "a", "delimiter": ""}], ids=str)
def test_impossible_arguments(wrong):
    with pytest.raises(ComponentError, match=next(reversed(wrong))):
        build_hook({"name": "output_csv", **wrong})


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ComponentError, match=r"predictions\.csv"):
        train(make_task(hooks=[hook(tmp_path / "file")]))


def test_a_damaged_state():
    with pytest.raises(DamagedCheckpointError, match="-1"):
        OutputCSVHook("a").set_classy_state({"size": -1})
