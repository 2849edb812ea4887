import pytest
import torch

from ray_classy.errors import RegistrationError, UnknownComponentError
from ray_classy.hooks import HOOK_REGISTRY, ClassyHook, ClassyHookFunctions, ClassyHookState, build_hook, register_hook
from tests.helpers import RecordingHook, make_task, train


def test_five_points():
    points = {"on_start", "on_phase_start", "on_step", "on_phase_end", "on_end"}
    assert ClassyHook.__abstractmethods__ == points
    assert {member.name for member in ClassyHookFunctions} == {*points, "on_forward", "on_loss_and_meter"}


def test_point_without_work():
    class Idle(ClassyHook):
        on_start = on_phase_start = on_step = on_phase_end = on_end = ClassyHook._noop

    train(make_task(hooks=[Idle()]))


def test_name_is_that_of_the_class():
    assert RecordingHook().name() == RecordingHook.name() == "RecordingHook"


def test_state_is_kept_and_updated():
    state = ClassyHookState()
    state.a, state.b = 1, [2]
    kept = {"b": [3]}
    state.set_classy_state(kept)
    kept["b"].append(4)
    assert state.get_classy_state() == {"a": 1, "b": [3]}


def test_state_of_a_class_with_defaults():
    class Counted(ClassyHookState):
        count: int = 0

    state = Counted()
    state.set_classy_state({"count": 3})
    assert state.count == 3


@pytest.mark.parametrize("kept", [None, [1, 2], torch.ones(2), 3])
def test_hook_may_keep_any_plain_value(kept):
    class Keeps(RecordingHook):
        def get_classy_state(self):
            return kept

        def set_classy_state(self, state):
            self.restored = state

    state = train(make_task(hooks=[Keeps()])).get_classy_state()
    again = make_task(hooks=[hook := Keeps()])
    again.prepare()
    again.check_state(state)
    again.set_classy_state(state)
    assert hook.restored is kept
    train(make_task()).set_classy_state(state)  # without the hook


def test_hook_without_a_state_restores_nothing():
    RecordingHook().set_classy_state(None)


def test_own_hook_is_built_by_name():
    @register_hook("only_here")
    class OnlyHere(RecordingHook):
        def __init__(self, size: int = 1):
            super().__init__()
            self.size = size

    assert build_hook({"name": "only_here", "size": 2}).size == 2
    del HOOK_REGISTRY._classes["only_here"]


def test_unknown_hook():
    with pytest.raises(UnknownComponentError, match="progress_bar"):
        build_hook({"name": "progress"})


def test_taken_name():
    with pytest.raises(RegistrationError, match="progress_bar"):
        register_hook("progress_bar")(RecordingHook)
