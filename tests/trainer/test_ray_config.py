"""The `ray` section of a config."""

import pytest
from ray.train import CheckpointUploadMode, ScalingConfig
from ray.train.torch import TorchConfig

from ray_classy.config import problems_in
from ray_classy.errors import ComponentError
from ray_classy.trainer import RayTrainer
from ray_classy.trainer.ray_config import check_gpu_shares, ray_keys
from tests.helpers import make_task

SHARED = {"num_workers": 2, "use_gpu": True, "resources_per_worker": {"GPU": 0.5}}


def refused(**options):
    with pytest.raises(ComponentError, match=r"each of \d workers gets 0\.5 GPU.*NCCL.*ray\.backend: gloo"):
        check_gpu_shares(ScalingConfig(**{**SHARED, **options}), TorchConfig())


def test_workers_that_share_a_gpu_are_refused_where_they_talk_by_nccl(tmp_path):
    refused()
    refused(num_workers=(1, 3))
    with pytest.raises(ComponentError, match="NCCL"):
        RayTrainer(ScalingConfig(**SHARED), storage_path=str(tmp_path)).train(make_task())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "backend, options", [("gloo", {}), (None, {"num_workers": 1}), (None, {"resources_per_worker": None})]
)
def test_others_are_not(backend, options):
    check_gpu_shares(ScalingConfig(**{**SHARED, **options}), TorchConfig(backend=backend))


def test_what_counts_is_what_the_trainer_was_given():
    config = {"ray": SHARED}
    trainer = RayTrainer(ScalingConfig(num_workers=1))
    assert trainer.settings_of(config)[0].num_workers == 1


@pytest.mark.parametrize("mode", [None, "SYNC", "ASYNC", CheckpointUploadMode.SYNC])
def test_the_upload_mode_may_be_rays_own(mode):
    assert RayTrainer(checkpoint_upload_mode=mode).checkpoint_upload_mode == getattr(mode, "value", mode)


@pytest.mark.parametrize("mode", ["sync", "NO_UPLOAD", CheckpointUploadMode.NO_UPLOAD])
def test_other_upload_modes_are_refused(mode):
    with pytest.raises(ComponentError, match="'ASYNC' or 'SYNC'"):
        RayTrainer(checkpoint_upload_mode=mode)


@pytest.mark.parametrize("mode, wrong", [("ASYNC", 0), ("SYNC", 0), ("NO_UPLOAD", 1)])
def test_there_is_no_upload_mode_that_writes_nothing(mode, wrong):
    assert len(problems_in({"checkpoint_upload_mode": mode}, ray_keys(), ("ray",))) == wrong
