import pytest
import torch

from ray_classy.errors import ComponentError, TaskError
from ray_classy.tasks import ClassificationTask
from ray_classy.torch_compat import compiled_graphs
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, equal_weights, make_task, train, weights

EAGER = {"backend": "eager"}


unknown_backend = pytest.param({"backend": "no"}, marks=pytest.mark.full)


@pytest.mark.parametrize("value", ["yes", {"backends": "eager"}, unknown_backend, {"mode": "fast"}, {"dynamic": 1.5}])
def test_impossible_values(value):
    with pytest.raises(ComponentError, match="compile"):
        ClassificationTask().set_compile(value)


def test_true_is_torchs_default():
    task = ClassificationTask().set_compile(True)
    assert (task.compilation.backend, task.compilation.mode) == ("inductor", "default")


@pytest.mark.full
def test_a_compiled_task_trains_as_it_does_otherwise_under_the_same_names_and_compiles_in_the_first_phases_only(caplog):
    graphs = RecordingHook(lambda task: compiled_graphs())
    before = compiled_graphs()
    compiled = train(make_task(epochs=3, batch_norm=True, hooks=[graphs]).set_compile(EAGER))
    assert equal_weights(weights(compiled), weights(train(make_task(epochs=3, batch_norm=True))))
    seen = graphs.seen("on_phase_end")
    assert seen[0] > before and set(seen[2:]) == {seen[1]}
    assert not [line for line in caplog.messages if "compiled again" in line]


@pytest.mark.full
def test_a_run_that_is_resumed_compiles_no_more_than_one_that_was_not(tmp_path):
    def trained(epochs, **place):
        graphs = RecordingHook(lambda task: compiled_graphs())
        before = compiled_graphs()
        task = make_task(epochs=epochs, batch_norm=True, shuffle=True, hooks=[graphs]).set_compile(EAGER)
        return LocalTrainer(**place).train(task), task, [count - before for count in graphs.seen("on_phase_end")]

    first, _, counts = trained(2, storage_path=str(tmp_path), name="r")
    _, resumed, again = trained(4, resume=first.path)
    assert len(set(counts[1:])) == len(set(again[1:])) == 1  # each kind of phase is compiled once
    assert again[-1] <= counts[-1]
    assert equal_weights(weights(resumed), weights(train(make_task(epochs=4, batch_norm=True, shuffle=True))))


@pytest.mark.full
def test_with_mixed_precision_and_averaged_weights():
    from ray_classy.hooks import build_hook

    def trained(compile):
        average = build_hook({"name": "ema_model_weights", "decay": 0.9})
        task = make_task(epochs=3, hooks=[average]).set_amp_args({"amp_type": "pytorch", "dtype": "bfloat16"})
        return weights(train(task.set_compile(compile)))

    assert equal_weights(trained(EAGER), trained(False))


@pytest.mark.full
def test_heads_are_compiled_with_the_trunk():
    from ray_classy.heads import build_head

    task = make_task(epochs=2)
    task.base_model.set_heads({"2": [build_head({"name": "fully_connected", "unique_id": "h", "in_plane": 4,
                                                  "num_classes": 4})]})  # fmt: skip
    train(task.set_compile({"backend": "eager", "fullgraph": True}))


@pytest.mark.full
def test_a_model_that_cannot_be_compiled_is_one_error_that_names_the_key():
    task = make_task().set_compile({"backend": "eager", "fullgraph": True})
    task.base_model.model.register_forward_hook(lambda *_: torch._dynamo.graph_break())
    with pytest.raises(TaskError, match=r"compile: the model or the loss cannot be compiled.*leave compile out"):
        train(task)


@pytest.mark.full
def test_inductor():
    compiled = train(make_task(epochs=1).set_compile(True))
    for name, value in weights(train(make_task(epochs=1))).items():
        torch.testing.assert_close(weights(compiled)[name], value)
