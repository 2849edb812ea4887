"""The names of the methods of hooks."""

from enum import Enum, auto


class ClassyHookFunctions(Enum):
    """The methods of a hook that `ClassyTask.run_hooks` can be given; a task itself calls five of them.

    `on_forward` and `on_loss_and_meter` are names of Classy Vision's, for tasks that call such methods of their hooks.
    """

    on_start = auto()
    on_phase_start = auto()
    on_forward = auto()
    on_loss_and_meter = auto()
    on_step = auto()
    on_phase_end = auto()
    on_end = auto()
