"""Trains a 3D CNN to recognise in which of four directions a square moves, on videos that the script generates.

    python examples/train_on_video.py           on two Ray workers
    python examples/train_on_video.py --local   in this process, without Ray

A single frame does not show the class. Needs `pip install 'ray_classy[video]'`.
Expected: more than 95 % test top-1 after about half a minute on two CPU cores.
"""

import pathlib
import sys
import tempfile

import av
import torch
from torch import nn

from ray_classy.dataset import VideoPathDataset
from ray_classy.dataset.transforms import ApplyTransformToKey, build_transforms
from ray_classy.meters import AccuracyMeter
from ray_classy.models import ClassyModel
from ray_classy.optim import AdamW
from ray_classy.optim.param_scheduler import CosineParamScheduler
from ray_classy.tasks import ClassificationTask
from ray_classy.trainer import LocalTrainer, RayTrainer

DIRECTIONS = {"down": (1, 0), "left": (0, -1), "right": (0, 1), "up": (-1, 0)}
SIDE = 32


def write_videos(folder: pathlib.Path, videos_per_class: int, seed: int) -> None:
    """Writes videos of 24 frames, one folder per class, in which a square moves 2 pixels per frame and wraps around."""
    generator = torch.Generator().manual_seed(seed)
    for name, direction in DIRECTIONS.items():
        (folder / name).mkdir(parents=True)
        for number in range(videos_per_class):
            dark, bright = torch.randint(0, 100, (3, 1, 1), generator=generator), 155
            frame = dark.expand(3, SIDE, SIDE).clone()
            frame[:, :12, :12] += bright
            start = torch.randint(0, SIDE, (2,), generator=generator).tolist()
            shifts = [[at + 2 * time * step for at, step in zip(start, direction, strict=True)] for time in range(24)]
            frames = torch.stack([frame.roll(shift, (1, 2)) for shift in shifts]).to(torch.uint8)
            write_video(folder / name / f"{number:03d}.mp4", frames)


def write_video(path: pathlib.Path, frames: torch.Tensor) -> None:
    """Writes frames, uint8 (T, 3, H, W), at 12 a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height, stream.width, stream.pix_fmt = frames.shape[2], frames.shape[3], "yuv420p"
        for pixels in frames.permute(0, 2, 3, 1).numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


class SmallVideoCNN(ClassyModel):
    """Stacks 3D convolutions and classifies the average of their features.

    Args:
        classes: number of classes.
        planes: output channels of each convolution; all but the first halve height and width.
    """

    def __init__(self, classes: int, planes: tuple[int, ...] = (16, 32, 32)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for index, width in enumerate(planes):
            stride = (1, 1 if index == 0 else 2, 1 if index == 0 else 2)
            layers += [nn.Conv3d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm3d(width), nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        self.output = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.features(x).mean((2, 3, 4)))


def build_task(folder: pathlib.Path) -> ClassificationTask:
    """Builds a task on the videos in `folder`, with one random clip per video in training and two even ones in test."""
    steps = [
        {"name": "ToDtype", "dtype": "float32", "scale": True},
        {"name": "Normalize", "mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]},
        {"name": "clip_to_tensor"},
    ]
    transform = ApplyTransformToKey(build_transforms(steps), key="input")
    clips = {"transform": transform, "frames_per_clip": 6}
    train = VideoPathDataset(8, True, video_folder=str(folder / "train"), **clips)
    test = VideoPathDataset(16, False, video_folder=str(folder / "test"), clips_per_video=2, **clips)
    return (
        ClassificationTask()
        .set_num_epochs(12)
        .set_test_phase_period(4)
        .set_dataset(train, "train")
        .set_dataset(test, "test")
        .set_model(SmallVideoCNN(classes=len(DIRECTIONS)))
        .set_loss(nn.CrossEntropyLoss())
        .set_meters([AccuracyMeter(topk=[1])])
        .set_optimizer(AdamW(weight_decay=0.01))
        .set_optimizer_schedulers({"lr": CosineParamScheduler(start_value=0.01, end_value=0.0)})
    )


def build_trainer(local: bool) -> LocalTrainer | RayTrainer:
    if local:
        return LocalTrainer()
    from ray.train import ScalingConfig

    return RayTrainer(scaling_config=ScalingConfig(num_workers=2))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        videos = pathlib.Path(name)
        write_videos(videos / "train", videos_per_class=48, seed=0)
        write_videos(videos / "test", videos_per_class=8, seed=1)
        result = build_trainer("--local" in sys.argv).train(build_task(videos))
    for line in result.metrics_history:
        print(line["phase_idx"], line["phase_type"], line["metrics"]["accuracy"]["top_1"])
    print(f"test top-1: {result.metrics['test']['accuracy']['top_1']:.4f}")
    print(f"run: {result.path}")
