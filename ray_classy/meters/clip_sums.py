"""Sums of a model's outputs over the clips of videos, until all clips of a video are there."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import torch

from ray_classy.distributed import gather_objects, is_primary
from ray_classy.errors import DataError


class _Video(NamedTuple):
    """What is known of a video whose clips are not all there.

    Attributes:
        total: the sum of the outputs of its clips, float64, shape (C,).
        target: the target of its first clip.
        clips: the number of its clips.
    """

    total: torch.Tensor
    target: torch.Tensor
    clips: int


class Averages(NamedTuple):
    """Videos with the mean output of their clips.

    Attributes:
        mean: float64, shape (V, C).
        target: of the first clip of each, shape (V, ...).
        mixed: whether clips of one video had different targets, a bool scalar.
    """

    mean: torch.Tensor
    target: torch.Tensor
    mixed: torch.Tensor


class ClipSums:
    """Sums outputs by video.

    Sums are float64: with outputs of single precision, the order in which clips are added does not change the result
    beyond the last bits of double precision, so that neither batches nor processes have an influence on a ranking.

    Args:
        clips_per_video: the number of clips after which a video is complete.
    """

    def __init__(self, clips_per_video: int) -> None:
        self._clips_per_video = clips_per_video
        self._videos: dict[Any, _Video] = {}
        self._complete: set[Any] = set()

    def add(self, output: torch.Tensor, target: torch.Tensor, videos: list[Any]) -> Averages:
        """Adds clips, without waiting for the device, and returns the videos that are complete with them.

        Args:
            output: shape (N, C).
            target: shape (N, ...).
            videos: names the video of each clip.

        Raises:
            DataError: a video has more clips than it should.
        """
        places = {video: place for place, video in enumerate(dict.fromkeys(videos))}
        firsts = {video: row for row, video in reversed(list(enumerate(videos)))}
        clips = Counter(videos)
        index = torch.tensor([places[video] for video in videos], dtype=torch.int64).to(
            output.device, non_blocking=True
        )
        first = torch.tensor([firsts[video] for video in places], dtype=torch.int64).to(
            output.device, non_blocking=True
        )
        totals = torch.zeros(len(places), output.shape[1], dtype=torch.float64, device=output.device)
        totals.index_add_(0, index, output.double())
        targets = target[first]
        mixed = (target != targets[index]).any()
        complete: list[_Video] = []
        for video, place in places.items():
            mixed = mixed | self._add(video, _Video(totals[place], targets[place], clips[video]))
            if self._videos[video].clips > self._clips_per_video or video in self._complete:
                raise DataError(
                    f"video {video!r} has more than {self._clips_per_video} clips, which the meter expects of each: "
                    f"give the dataset the same number, and each video a name of its own"
                )
            if self._videos[video].clips == self._clips_per_video:
                complete.append(self._videos.pop(video))
                self._complete.add(video)
        return _averages(complete, mixed)

    def _add(self, video: Any, part: _Video) -> torch.Tensor:
        """Adds clips of a video; returns whether their target differs from that of the clips before."""
        known = self._videos.get(video)
        if known is None:
            self._videos[video] = part
            return torch.zeros((), dtype=torch.bool, device=part.target.device)
        total = known.total.to(part.total.device) + part.total
        self._videos[video] = _Video(total, known.target, known.clips + part.clips)
        return (known.target != part.target.to(known.target.device)).any().to(part.target.device)

    def gathered(self) -> Averages:
        """Returns, on the first process, the averages of the videos that no process has completed; then none is left.

        Every process must call it; the others get no videos. A video that has clips left over on another process than
        the one that completed it counts as mixed.
        """
        parts = {name: (video.total.cpu(), video.target.cpu(), video.clips) for name, video in self._videos.items()}
        self._videos = {}
        mixed = torch.zeros((), dtype=torch.bool)
        seen: set[Any] = set()
        for process, complete in gather_objects((parts, self._complete)):
            mixed = mixed | bool(seen & complete)
            seen |= complete
            for name, part in process.items() if is_primary() else ():
                mixed = mixed | self._add(name, _Video(*part))
        mixed = mixed | bool(seen & self._videos.keys())
        self._complete = set()
        videos, self._videos = list(self._videos.values()), {}
        return _averages(videos, mixed)


def _averages(videos: list[_Video], mixed: torch.Tensor) -> Averages:
    if not videos:
        return Averages(torch.zeros(0, 0), torch.zeros(0), mixed)
    mean = torch.stack([video.total / video.clips for video in videos])
    return Averages(mean, torch.stack([video.target for video in videos]), mixed)
