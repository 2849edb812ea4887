from torch import nn

from ray_classy.hooks import ModelComplexityHook
from ray_classy.models import ClassyModel
from tests.helpers import make_task


def test_the_counts_of_the_model_are_summarized_in_millions():
    hook = ModelComplexityHook()
    hook.on_start(make_task())
    parameters = 6 * 8 + 8 + 8 * 4 + 4
    assert hook.get_summary() == {
        "FLOPS(M)": (parameters + 8) / 1e6,
        "num_activations(M)": 12 / 1e6,
        "num_parameters(M)": parameters / 1e6,
    }


def test_a_model_that_cannot_be_counted_is_a_line_in_the_log(caplog):
    task, hook = make_task(), ModelComplexityHook()
    task.set_model(ClassyModel.from_model(nn.LSTM(6, 4), input_shape=(6,)))
    hook.on_start(task)
    assert "LSTM are not known" in caplog.text and hook.get_summary()["num_parameters(M)"] > 0
