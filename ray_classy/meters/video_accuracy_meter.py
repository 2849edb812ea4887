"""Top-k accuracy of videos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from ray_classy.meters.accuracy_meter import AccuracyMeter
from ray_classy.meters.classy_meter import register_meter
from ray_classy.meters.video_meter import VideoMeter
from ray_classy.registry import Key, Keys, construct, signature_keys


@register_meter("video_accuracy")
class VideoAccuracyMeter(VideoMeter):
    """The accuracy of the mean output over the clips of a video, as `top_{k}`; see `VideoMeter` and `AccuracyMeter`.

    Args:
        topk: the values of k, each at least 1 and less than the number of classes.
        clips_per_video_train: clips of each video in train phases, at least 1; 1 in a config that lacks it.
        clips_per_video_test: clips of each video in test phases, at least 1.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    def __init__(self, topk: list[int], clips_per_video_train: int, clips_per_video_test: int) -> None:
        super().__init__(clips_per_video_train, clips_per_video_test)
        self._accuracy_meter = AccuracyMeter(topk)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds the meter from its config: the constructor's arguments by name."""
        return construct(cls, {"clips_per_video_train": 1, **config})

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the constructor's arguments, of which `clips_per_video_train` is optional."""
        return {**signature_keys(cls), "clips_per_video_train": Key(int, 1)}

    @property
    def name(self) -> str:
        """The meter's name in logs and reports."""
        return "video_accuracy"

    @property
    def meter(self) -> AccuracyMeter:
        """The meter of the averages."""
        return self._accuracy_meter
