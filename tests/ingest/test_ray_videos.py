"""Videos in Ray Data's hands: blocks of paths, from which every rank decodes its own clips."""

import pytest

from ray_classy.errors import DataError
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer, RayTrainer
from tests.videos import save_video

pytestmark = pytest.mark.ray


def scaling(workers):
    from ray.train import ScalingConfig

    return ScalingConfig(num_workers=workers)


def config(folder, **dataset):
    for number in range(5):
        save_video(folder / ("early", "late")[number % 2] / f"{number}.mp4", frames=20, first=20 * (number % 2))
    common = {
        "name": "video_path",
        "video_folder": str(folder),
        "frames_per_clip": 4,
        "clips_per_video": 3,
        "batchsize_per_replica": 4,
        "transforms": [
            {
                "name": "apply_transform_to_key",
                "key": "input",
                "transforms": [{"name": "RandomCrop", "size": [8, 8]}, {"name": "clip_to_tensor"}],
            }
        ],
        **dataset,
    }
    return {
        "name": "classification_task",
        "num_epochs": 1,
        "dataset": {"train": {**common, "use_shuffle": True}, "test": {**common, "use_shuffle": False}},
        "model": {"name": "mlp", "input_dim": 768, "output_dim": 2, "hidden_dims": [8]},
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"accuracy": {"topk": [1]}},
        "optimizer": {"name": "sgd", "lr": 0.05},
    }


def logged(result):
    return [(line["metrics"]["loss"], line["metrics"]["accuracy"]["top_1"]) for line in result.metrics_history]


def test_a_worker_trains_on_the_clips_that_this_process_does(ray_cluster, tmp_path):
    settings = {**config(tmp_path / "videos"), "num_epochs": 2}
    local = LocalTrainer(str(tmp_path / "local")).train(build_task(settings))
    settings["dataset"]["train"]["num_workers"] = 2  # threads on a shard
    result = RayTrainer(scaling(1), storage_path=str(tmp_path / "runs")).train(build_task(settings))
    assert logged(result) == logged(local)


@pytest.mark.full
def test_other_cpus_decode_the_clips_that_this_process_does(ray_cluster, tmp_path):
    task = config(tmp_path / "videos")
    local = LocalTrainer(str(tmp_path / "local")).train(build_task(task))
    trainer = RayTrainer(scaling(1), storage_path=str(tmp_path / "runs"), name="run", ingest="cluster")
    assert logged(trainer.train(build_task(task))) == logged(local)
    assert "batches are made by 3 CPUs" in (tmp_path / "runs" / "run" / "log.txt").read_text()


def test_two_workers_evaluate_every_clip_once(ray_cluster, tmp_path):
    settings = {**config(tmp_path / "videos"), "test_only": True}
    local = LocalTrainer(str(tmp_path / "local")).train(build_task(settings)).metrics["test"]
    result = RayTrainer(scaling(2), storage_path=str(tmp_path / "runs")).train(build_task(settings)).metrics["test"]
    assert result["loss"] == pytest.approx(local["loss"], rel=1e-6) and result["accuracy"] == local["accuracy"]


def test_a_broken_video_stops_the_run_with_its_path(ray_cluster, tmp_path):
    settings = config(tmp_path / "videos")
    (tmp_path / "videos" / "late" / "9.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"late/9\.mp4"):
        RayTrainer(scaling(2), storage_path=str(tmp_path / "runs")).train(build_task(settings))


def test_broken_videos_are_skipped_and_counted_if_the_config_says_so(ray_cluster, tmp_path):
    settings = config(tmp_path / "videos", max_bad_rows=3, num_workers=1)
    (tmp_path / "videos" / "late" / "9.mp4").write_bytes(b"")
    result = RayTrainer(scaling(2), storage_path=str(tmp_path / "runs")).train(build_task(settings))
    assert [line["bad_rows"] for line in result.metrics_history] == [3, 3]
