"""A hook that keeps a run in Weights & Biases."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from ray_classy.errors import UnavailableError
from ray_classy.hooks.classy_hook import register_hook
from ray_classy.hooks.run_logger_hook import LoggedRun, RunLoggerHook

_SECONDS = 30.0  # for a server to answer
_STEP = "train_step"


@register_hook("wandb")
class WandbHook(RunLoggerHook):
    """Keeps a run in Weights & Biases: config, metrics of each phase, progress within phases, and the final metrics.

    Needs the extra `wandb`. A run that is resumed continues its run there. Its axis is `train_step`.

    Args:
        project: the name of the project.
        entity: the user or team; None takes that of the account.
        mode: "online", "offline" (files that `wandb sync` sends later) or "disabled"; None takes WANDB_MODE, else
            "online".
        group: of the run.
        tags: of the run.
        folder: in which `wandb` makes its folder; None takes WANDB_DIR, else the working directory.

    Raises:
        UnavailableError: the package wandb is not installed.
    """

    def __init__(
        self,
        project: str = "ray_classy",
        entity: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        folder: str | None = None,
    ) -> None:
        super().__init__()
        if importlib.util.find_spec("wandb") is None:
            raise UnavailableError("the hook wandb needs its package: pip install 'ray_classy[wandb]'")
        self.project = project
        self.entity = entity
        self.mode = mode
        self.group = group
        self.tags = list(tags or [])
        self.folder = folder
        self._run: Any = None

    def open(self, run: LoggedRun, id: str | None) -> str:
        """Opens the run with the id of the earlier start, or with a new one."""
        import wandb

        id = id or uuid.uuid4().hex[:12]
        run.keep(type(self).__name__, id)  # before anything is written under it
        settings = wandb.Settings(init_timeout=_SECONDS, console="off", silent=True)
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=run.name,
            id=id,
            resume="allow",
            mode=self.mode,
            group=self.group,
            tags=self.tags or None,
            dir=self.folder,
            config=dict(run.config),
            allow_val_change=True,
            settings=settings,
        )
        self._run.define_metric("*", step_metric=_STEP)
        return id

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Writes values."""
        self._run.log({**values, _STEP: step})

    def finish(self, status: str, final: Mapping[str, float]) -> None:
        """Puts the final metrics into the summary, and ends the run."""
        self._run.summary.update({**final, "status": status})
        self._run.finish(exit_code=0 if status == "finished" else 1)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the run, which belongs to this process."""
        return {**super().__getstate__(), "_run": None}
