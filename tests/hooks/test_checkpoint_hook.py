import os

import pytest

from ray_classy.checkpoint import load_checkpoint
from ray_classy.errors import ComponentError, DamagedCheckpointError
from ray_classy.hooks import CheckpointHook, build_hook
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.classy_trainer import ClassyTrainer
from tests.helpers import make_task


def run(tmp_path, hook, epochs=4, **options):
    LocalTrainer(str(tmp_path), "r").train(make_task(train=8, test=4, epochs=epochs, hooks=[hook], **options))
    return sorted(path.name for path in tmp_path.glob("r/epoch_*"))


def test_every_round_is_kept(tmp_path):
    assert len(run(tmp_path, CheckpointHook(str(tmp_path / "out")))) == 4


def test_period_and_always_the_last(tmp_path):
    kept = run(tmp_path, CheckpointHook(str(tmp_path / "out"), checkpoint_period=3))
    assert kept == ["epoch_0003-step_000006", "epoch_0004-step_000008"]


def test_latest_is_published(tmp_path):
    hook = CheckpointHook(str(tmp_path / "new" / "out"), {"mine": 1})
    run(tmp_path, hook)
    content = load_checkpoint(str(tmp_path / "new" / "out"))
    assert content["classy_state_dict"]["phase_idx"] == 7 and content["input_args"] == {"mine": 1}
    assert sorted(os.listdir(tmp_path / "new" / "out")) == ["checkpoint.torch", "manifest.json"]


def test_a_damaged_copy_is_noticed(tmp_path):
    run(tmp_path, CheckpointHook(str(tmp_path / "out")), epochs=1)
    file = tmp_path / "out" / "checkpoint.torch"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedCheckpointError, match="its bytes are not those that were written"):
        load_checkpoint(str(tmp_path / "out"))


def test_a_manifest_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(ComponentError, match=r"has a manifest\.json that is not a checkpoint's"):
        run(tmp_path, CheckpointHook(str(tmp_path)), epochs=1)
    assert (tmp_path / "manifest.json").read_text() == '{"name": "an app"}'


def test_test_phases_can_set_the_cadence(tmp_path):
    hook = CheckpointHook(str(tmp_path / "out"), phase_types=["test"], checkpoint_period=2)
    assert [name[:10] for name in run(tmp_path, hook)] == ["epoch_0002", "epoch_0004"]


def test_cadence_goes_on_after_a_restart(tmp_path):
    run(tmp_path, CheckpointHook(str(tmp_path / "out"), checkpoint_period=3), epochs=2)
    task = make_task(train=8, test=4, epochs=7, hooks=[CheckpointHook(str(tmp_path / "out"), checkpoint_period=3)])
    LocalTrainer(resume=str(tmp_path / "r")).train(task)
    assert [name[6:10] for name in sorted(os.listdir(tmp_path / "r")) if name[:5] == "epoch"] == [
        "0002", "0003", "0006", "0007"
    ]  # fmt: skip


def test_nothing_is_kept_of_an_evaluation(tmp_path):
    task = make_task(hooks=[CheckpointHook(str(tmp_path / "out"))]).set_test_only(True)
    result = LocalTrainer(str(tmp_path), "r").train(task)
    assert result.checkpoint is None and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [{"checkpoint_folder": ""}, {"checkpoint_period": 0}, {"phase_types": ["trian"]}, {"phase_types": []}],
)
def test_impossible_arguments(arguments):
    with pytest.raises(ComponentError):
        CheckpointHook(**{"checkpoint_folder": "out", **arguments})


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ComponentError, match="is a file"):
        run(tmp_path, CheckpointHook(str(tmp_path / "out")))


def test_built_from_a_config():
    config = {"name": "checkpoint", "checkpoint_folder": "out", "input_args": {"a": 1}, "phase_types": ["test"]}
    hook = build_hook(config)
    assert (hook.checkpoint_folder, hook.input_args, hook.phase_types) == ("out", {"a": 1}, ["test"])


def test_without_a_run_folder_the_hook_itself_writes(tmp_path):
    task = make_task(train=8, test=4, epochs=3, hooks=[CheckpointHook(str(tmp_path), {"mine": 1}, ["train"], 2)])
    ClassyTrainer().train(task)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.torch", "model_phase-2_end.torch"]
    content = load_checkpoint(str(tmp_path / CheckpointHook.get_checkpoint_name(2)))
    assert content["classy_state_dict"]["phase_idx"] == 2 and content["input_args"] == {"mine": 1}


def test_without_a_run_folder_the_folder_must_exist(tmp_path):
    hook = CheckpointHook(str(tmp_path / "new"))
    with pytest.raises(FileNotFoundError, match="new"):
        hook.on_start(make_task())
