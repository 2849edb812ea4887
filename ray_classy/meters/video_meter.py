"""The base class of meters that average a model's outputs over the clips of a video."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from ray_classy.errors import CheckpointError, ComponentError, DamagedCheckpointError
from ray_classy.meters.clip_sums import ClipSums
from ray_classy.meters.summed_meter import SummedMeter
from ray_classy.meters.top_k_meter import MissingEntryError, TopKMeter, check_one_output

_log = logging.getLogger(__name__)


class VideoMeter(SummedMeter):
    """Averages the outputs of a video's clips, and measures the averages with another meter.

    In test phases whose samples have an entry `video`, which names the video of each clip, the clips of a video may be
    in any batches and on any processes: each video counts once, at the end of the phase at the latest, by the clips
    that there are. Otherwise each `clips_per_video` rows of a batch, one after the other, are the clips of a video, and
    a batch whose size is no multiple of that is skipped with a line in the log.

    Args:
        clips_per_video_train: clips of each video in train phases, at least 1.
        clips_per_video_test: clips of each video in test phases, at least 1.

    Raises:
        ComponentError: one is not such an integer.
    """

    sample_keys = ("video",)

    def __init__(self, clips_per_video_train: int, clips_per_video_test: int) -> None:
        for name, clips in (("train", clips_per_video_train), ("test", clips_per_video_test)):
            if type(clips) is not int or clips < 1:
                raise ComponentError(f"clips_per_video_{name} must be an integer of at least 1, not {clips!r}")
        self._clips_per_video_train = clips_per_video_train
        self._clips_per_video_test = clips_per_video_test
        self._unfinished = ClipSums(clips_per_video_test)
        self._mixed: torch.Tensor | None = None  # whether clips of one video had different targets

    @property
    @abstractmethod
    def meter(self) -> TopKMeter:
        """The meter that measures the averages."""

    @property
    def value(self) -> dict[str, float]:
        """The value of the inner meter, over the videos whose clips are all there.

        Raises:
            ComponentError: the clips of a video had different targets.
        """
        self._check_targets()
        return self.meter.value

    def update(  # type: ignore[override]  # the phase decides what is a video
        self,
        model_output: torch.Tensor,
        target: torch.Tensor,
        is_train: bool,
        video: Sequence[Any] | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        """Counts one batch of clips.

        Args:
            model_output: scores of shape (N, C).
            target: class indices of shape (N,) or (N, 1), or values per class of shape (N, C).
            is_train: whether this is a train phase.
            video: names the video of each clip: N strings, or N numbers, whose fetch from a GPU waits for it.

        Raises:
            ComponentError: the shapes do not match, or the clips of a video have different targets. Of targets on a
                GPU, `value` raises it, because this method does not wait for the device.
        """
        check_one_output(self.name, model_output)
        self.meter._check_shapes(model_output.shape, target.shape)
        clips = self._clips_per_video_train if is_train else self._clips_per_video_test
        if clips == 1:
            self.meter.update(model_output, target)
        elif video is not None and not is_train:
            names = video.tolist() if isinstance(video, torch.Tensor) else list(video)
            self._measure(*self._unfinished.add(model_output, target, names))
        elif len(target) % clips:
            _log.info("%s skips a batch of %d clips: no multiple of %d per video", self.name, len(target), clips)
        elif len(target):
            mean = model_output.double().reshape(-1, clips, model_output.shape[1]).mean(1)
            targets = target.reshape(-1, clips, *target.shape[1:])
            self._measure(mean, targets[:, 0], (targets != targets[:, :1]).any())
        if self._mixed is not None and self._mixed.device.type == "cpu":
            self._check_targets()

    def _measure(self, mean: torch.Tensor, target: torch.Tensor, mixed: torch.Tensor) -> None:
        self._mixed = mixed if self._mixed is None else self._mixed.to(mixed.device) | mixed
        if len(mean):
            self.meter.update(mean, target)

    def _check_targets(self) -> None:
        if self._mixed is not None and bool(self._mixed):
            raise ComponentError(
                f"meter {self.name!r}: the clips of a video have different targets, or there are too many. Without an "
                f"entry `video` in the samples, the clips of a video must follow each other in a batch, "
                f"clips_per_video of them each"
            )

    def reset(self) -> None:
        """Resets all counts to 0."""
        self.meter.reset()
        self._unfinished = ClipSums(self._clips_per_video_test)
        self._mixed = None

    def unsynced_counts(self) -> torch.Tensor:
        """Returns the inner meter's counts, and whether targets were mixed up.

        The videos whose clips are on several processes, or incomplete, count on the first process.
        """
        if self._clips_per_video_test > 1:
            self._measure(*self._unfinished.gathered())
        counts = self.meter.unsynced_counts()
        mixed = counts.new_zeros(1) if self._mixed is None else self._mixed.to(counts).reshape(1)
        return torch.cat([counts, mixed])

    def add_synced_counts(self, counts: torch.Tensor) -> None:
        """Adds the sum of all processes' `unsynced_counts`, which restart at 0."""
        self.meter.add_synced_counts(counts[:-1])
        self._mixed = counts[-1] > 0

    def validate(self, model_output_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> None:
        """Raises a ComponentError if the meter cannot measure outputs and targets of these shapes."""
        self.meter.validate(model_output_shape, target_shape)

    def get_classy_state(self) -> dict[str, Any]:
        """Returns the inner meter's state and the numbers of clips; clips of unfinished videos are not part of it."""
        return {
            "meter_state": self.meter.get_classy_state(),
            "name": self.name,
            "clips_per_video_train": self._clips_per_video_train,
            "clips_per_video_test": self._clips_per_video_test,
        }

    def set_classy_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_classy_state` returned.

        Raises:
            DamagedCheckpointError: the inner meter's state is missing or damaged.
            CheckpointError: the state belongs to another meter, or has other numbers of clips or values of k.
        """
        if "name" not in state:
            raise MissingEntryError(f"the checkpoint's state of meter {self.name!r} lacks its name")
        for key, ours in list(self.get_classy_state().items())[1:]:
            if type(state.get(key)) is not type(ours) or state[key] != ours:
                raise CheckpointError(
                    f"the checkpoint's meter has {key} {state.get(key)!r}, this one {ours!r}: use the meters of the "
                    f"run that wrote the checkpoint"
                )
        if not isinstance(state.get("meter_state"), dict):
            raise DamagedCheckpointError(f"the checkpoint's state of meter {self.name!r} is damaged: no meter_state")
        self.meter.set_classy_state(state["meter_state"])
