import pytest
import torch

from ray_classy.errors import ComponentError
from ray_classy.generic import util
from tests.helpers import equal_weights, make_task


def test_a_checkpoint_is_saved_and_loaded_under_the_old_names(tmp_path):
    task = make_task()
    util.save_checkpoint(str(tmp_path), util.get_checkpoint_dict(task, {"lr": 0.1}))
    content = util.load_checkpoint(str(tmp_path / util.CHECKPOINT_FILE))
    assert content["input_args"] == {"lr": 0.1}
    assert util.load_and_broadcast_checkpoint(str(tmp_path))["input_args"] == {"lr": 0.1}


@pytest.mark.parametrize("load", [util.load_checkpoint, util.load_and_broadcast_checkpoint])
def test_a_missing_checkpoint_is_none_with_a_warning(tmp_path, load, caplog):
    assert load(str(tmp_path)) is None and load(str(tmp_path / "no_checkpoint")) is None
    assert caplog.text.count("no checkpoint at") == 2


def test_input_args_must_be_a_dict():
    with pytest.raises(ComponentError, match="input_args"):
        util.get_checkpoint_dict(make_task(), ["lr"])


def test_a_file_of_any_plain_content_is_loaded(tmp_path):
    path = util.save_checkpoint(checkpoint_folder=str(tmp_path), state={"a": [1]}, checkpoint_file="any.torch")
    assert util.load_checkpoint(checkpoint_path=path, device="meta") == {"a": [1]}


def test_a_model_loads_the_state_of_another():
    trained, fresh = make_task().base_model, make_task().base_model
    with torch.no_grad():
        next(trained.parameters()).add_(1)
    assert util.update_classy_model(fresh, trained.get_classy_state(), reset_heads=False)
    assert equal_weights(trained.state_dict(), fresh.state_dict())


def test_a_state_that_does_not_fit_is_logged(caplog):
    assert not util.update_classy_state(make_task(), {})
    assert not util.update_classy_model(make_task().base_model, {}, reset_heads=False)
    assert "could not load the state of the task" in caplog.text and "of the model" in caplog.text


def test_parameters_of_all_groups():
    task = make_task()
    task.prepare()
    assert len(list(util.master_params(task.optimizer))) == len(list(task.base_model.parameters()))
