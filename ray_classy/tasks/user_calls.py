"""The user's code within a task: which parts are the user's, and calls of them, which must not end the phase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ray_classy.errors import TaskError

if TYPE_CHECKING:
    from ray_classy.hooks import ClassyHook
    from ray_classy.tasks.classy_task import ClassyTask


def is_ours(value: Any) -> bool:
    """Whether a function, a class or the class of an object is of this package, and not the user's."""
    return str(value.__module__).startswith("ray_classy.")


def call(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function within a step.

    Args:
        what: names the code in the message ("the model").
        function: is called with `arguments`.

    Raises:
        TaskError: it raised StopIteration, which would end the phase on this rank alone.
    """
    try:
        return function(*arguments)
    except StopIteration as error:
        raise _phase_would_end(f"{what} raised StopIteration") from error


def call_hooks(hooks: Sequence[ClassyHook], point: str, task: ClassyTask) -> None:
    """Implements `ClassyTask.call_hooks`."""
    for hook in hooks:
        try:
            getattr(hook, point)(task)
        except StopIteration as error:
            raise _phase_would_end(f"the hook {hook.name()} raised StopIteration in {point}") from error


def _phase_would_end(what: str) -> TaskError:
    return TaskError(
        f"{what}, which means that the data of the phase has ended: catch it there, or use next(iterator, default)"
    )
