import pytest
import torch

from ray_classy.errors import CheckpointError, ComponentError
from ray_classy.generic import util
from tests.helpers import equal_weights, make_task


def test_a_checkpoint_is_saved_and_loaded_under_the_old_names(tmp_path):
    task = make_task()
    util.save_checkpoint(str(tmp_path), util.get_checkpoint_dict(task, {"lr": 0.1}))
    content = util.load_checkpoint(str(tmp_path / util.CHECKPOINT_FILE))
    assert content["input_args"] == {"lr": 0.1}
    assert util.load_and_broadcast_checkpoint(str(tmp_path))["input_args"] == {"lr": 0.1}


def test_input_args_must_be_a_dict():
    with pytest.raises(ComponentError, match="input_args"):
        util.get_checkpoint_dict(make_task(), ["lr"])


def test_a_model_takes_up_the_weights_of_a_state():
    trained, fresh = make_task(), make_task()
    with torch.no_grad():
        next(trained.base_model.parameters()).add_(1)
    assert util.update_classy_model(fresh.base_model, trained.get_classy_state(), reset_heads=False)
    assert equal_weights(trained.base_model.state_dict(), fresh.base_model.state_dict())


def test_a_state_that_does_not_fit_is_an_error():
    with pytest.raises(CheckpointError):
        util.update_classy_state(make_task(), {})


def test_parameters_of_all_groups():
    task = make_task()
    task.prepare()
    assert len(list(util.master_params(task.optimizer))) == len(list(task.base_model.parameters()))
