"""The hook that plotted to a visdom server, which names its successor."""

from __future__ import annotations

from ray_classy.errors import UnavailableError
from ray_classy.hooks.classy_hook import ClassyHook, register_hook


@register_hook("visdom")
class VisdomHook(ClassyHook):
    """Is refused: the hook `tensorboard_plot` draws the same curves, and visdom is no longer maintained.

    Args:
        server, port, env, title_suffix: as in Classy Vision.

    Raises:
        UnavailableError: always.
    """

    on_start = on_phase_start = on_step = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, server: str, port: int | str, env: str = "main", title_suffix: str = "") -> None:
        raise UnavailableError(
            "the hook visdom (VisdomHook) is not available, because visdom is no longer maintained: use the hook "
            "tensorboard_plot (TensorboardPlotHook), or leave it out"
        )
