"""A 3D network trains on clips of real files, and its videos count once on any number of workers."""

import pytest

from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer, RayTrainer
from tests.videos import save_video


def settings(folder):
    """A task on dark and light videos in the layout of Kinetics: two clips of each to train on, three to test on."""
    for number in range(5):
        name = ("dark", "light")[number % 2]
        save_video(folder / "videos" / name / f"{number}.mp4", frames=12, first=26 * (number % 2))
    clips = {
        "name": "kinetics400",
        "video_dir": str(folder / "videos"),
        "metadata_file": str(folder / "metadata.json"),
        "frames_per_clip": 4,
        "batchsize_per_replica": 4,
        "transforms": {"video": [{"name": "video_default_no_augment", "size": 16}]},
    }
    return {
        "name": "classification_task",
        "num_epochs": 6,
        "test_phase_period": 6,
        "dataset": {
            "train": {**clips, "split": "train", "clips_per_video": 2},
            "test": {**clips, "split": "test", "clips_per_video": 3},
        },
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"video_accuracy": {"topk": [1], "clips_per_video_train": 1, "clips_per_video_test": 3}},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "model": {
            "name": "resnext3d",
            "input_key": "video",
            "input_planes": 3,
            "clip_crop_size": 16,
            "frames_per_clip": 4,
            "num_blocks": [1, 1],
            "stem_planes": 4,
            "stage_planes": 8,
            "width_per_group": 4,
            "skip_transformation_type": "postactivated_shortcut",
            "residual_transformation_type": "postactivated_bottleneck_transformation",
            "heads": [
                {
                    "name": "fully_convolutional_linear",
                    "unique_id": "head",
                    "fork_block": "pathway0-stage2-block0",
                    "num_classes": 2,
                    "in_plane": 16,
                    "pool_size": [2, 4, 6],
                    "activation_func": "softmax",
                    "use_dropout": False,
                }
            ],
        },
    }


def test_a_3d_network_learns_from_video_files(tmp_path):
    result = LocalTrainer(str(tmp_path / "runs")).train(build_task(settings(tmp_path)))
    assert result.metrics["test"]["video_accuracy"]["top_1"] == 1
    losses = [line["metrics"]["loss"] for line in result.metrics_history if line["phase_type"] == "train"]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.ray
@pytest.mark.full
def test_two_workers_train_on_video_files_and_count_each_video_once(ray_cluster, tmp_path):
    from ray.train import ScalingConfig

    result = RayTrainer(ScalingConfig(num_workers=2), storage_path=str(tmp_path / "runs")).train(
        build_task(settings(tmp_path))
    )
    assert result.metrics["test"]["video_accuracy"]["top_1"] == 1


@pytest.mark.ray
@pytest.mark.full
def test_two_workers_evaluate_videos_as_one_process_does(ray_cluster, tmp_path):
    from ray.train import ScalingConfig

    config = {**settings(tmp_path), "test_only": True, "num_epochs": 1}
    local = LocalTrainer(str(tmp_path / "local")).train(build_task(config)).metrics["test"]
    trainer = RayTrainer(ScalingConfig(num_workers=2), storage_path=str(tmp_path / "runs"))
    result = trainer.train(build_task(config)).metrics["test"]
    assert result["video_accuracy"] == local["video_accuracy"]
    assert result["loss"] == pytest.approx(local["loss"], rel=1e-5)
