"""The `ray` section of a config."""

import pytest
from ray.train import ScalingConfig
from ray.train.torch import TorchConfig

from ray_classy.config import problems_in
from ray_classy.errors import ComponentError
from ray_classy.trainer import RayTrainer
from ray_classy.trainer.ray_config import ray_configs, ray_keys
from tests.helpers import make_task

SHARED = {"num_workers": 2, "use_gpu": True, "resources_per_worker": {"GPU": 0.5}}


def test_workers_that_share_a_gpu_are_refused_where_they_talk_by_nccl(tmp_path):
    with pytest.raises(ComponentError, match=r"each of 2 workers 0\.5 GPU.*NCCL.*ray\.backend: gloo"):
        ray_configs(SHARED)
    with pytest.raises(ComponentError, match="NCCL"):
        RayTrainer(ScalingConfig(**SHARED), storage_path=str(tmp_path)).train(make_task())
    assert list(tmp_path.iterdir()) == []


def test_elastic_workers_that_share_a_gpu_are_refused_too():
    with pytest.raises(ComponentError, match="each of 3 workers"):
        ray_configs({**SHARED, "num_workers": [1, 3]})


@pytest.mark.parametrize(
    "section",
    [{**SHARED, "backend": "gloo"}, {**SHARED, "num_workers": 1}, {"num_workers": 2, "use_gpu": True}],
    ids=["gloo", "one worker", "a GPU each"],
)
def test_others_are_not(section):
    assert ray_configs(section)["torch_config"] == TorchConfig(backend=section.get("backend"))


@pytest.mark.parametrize("mode, wrong", [("ASYNC", 0), ("SYNC", 0), ("NO_UPLOAD", 1)])
def test_there_is_no_upload_mode_that_writes_nothing(mode, wrong):
    assert len(problems_in({"checkpoint_upload_mode": mode}, ray_keys(), ("ray",))) == wrong
