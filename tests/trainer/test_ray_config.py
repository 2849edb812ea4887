"""Ray's config objects for a run."""

import inspect

import pytest
from ray.train import CheckpointUploadMode, ScalingConfig
from ray.train.torch import TorchConfig

from ray_classy.config.ray_options import RayOptions
from ray_classy.errors import ComponentError, ResourceError
from ray_classy.ray_compat.train import config_fields
from ray_classy.trainer import RayTrainer, ray_config
from ray_classy.trainer.ray_config import CLASSES, OBJECTS, RaySettings, check_gpu_shares
from ray_classy.trainer.ray_outline import OUR_OWN
from tests.helpers import make_task

NOT_IN_EVERY_RAY = {"max_preemption_failures", "relax_collectives_on_preemption", "preemption_grace_s"}
SHARED = {"num_workers": 2, "use_gpu": True, "resources_per_worker": {"GPU": 0.5}}


def refused(**options):
    with pytest.raises(ComponentError, match=r"each of \d workers gets 0\.5 GPU.*NCCL.*ray\.backend: gloo"):
        check_gpu_shares(ScalingConfig(**{**SHARED, **options}), TorchConfig())


def test_workers_that_share_a_gpu_are_refused_where_they_communicate_over_nccl(tmp_path):
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


def test_the_trainers_arguments_come_before_the_section():
    assert RayTrainer(ScalingConfig(num_workers=1)).settings(SHARED).most_workers == 1


def test_waiting_for_resources_is_an_option_of_the_section_and_of_the_trainer():
    section = {"autoscaling": True, "wait_for_resources_s": 600.0}
    found = [
        trainer.settings(section) for trainer in (RayTrainer(), RayTrainer(autoscaling=False, wait_for_resources_s=5))
    ]
    assert [(one.autoscaling, one.wait_for_resources_s) for one in found] == [(True, 600.0), (False, 5)]
    assert (RayTrainer().settings({}).autoscaling, RayTrainer().settings({}).wait_for_resources_s) == (False, 60.0)


@pytest.mark.parametrize("mode", [None, "SYNC", "ASYNC", CheckpointUploadMode.SYNC])
def test_the_upload_mode_may_be_rays_own(mode):
    assert RayTrainer(checkpoint_upload_mode=mode).checkpoint_upload_mode == getattr(mode, "value", mode)


@pytest.mark.parametrize("mode", ["sync", "NO_UPLOAD", CheckpointUploadMode.NO_UPLOAD])
def test_other_upload_modes_are_refused(mode):
    with pytest.raises(ComponentError, match="'ASYNC' or 'SYNC'"):
        RayTrainer(checkpoint_upload_mode=mode)


def test_every_option_of_rays_classes_is_a_key_with_its_default():
    """The section is a list of our own, so that it costs no import of Ray: a Ray with other options fails here."""
    fields = {name: field for cls in CLASSES for name, field in config_fields(cls).items() if name not in OBJECTS}
    keys = RayOptions.keys()
    assert fields.keys() | set(OUR_OWN.values()) | NOT_IN_EVERY_RAY == keys.keys()
    assert {name: field.default for name, field in fields.items()} == {name: keys[name].default for name in fields}
    assert all(field.default is not inspect.Parameter.empty for field in fields.values())


def test_options_reach_rays_objects():
    section = RayOptions.of({"num_workers": [1, 2], "max_failures": 3, "num_to_keep": 2, "timeout_s": 60, "name": "r"})
    settings = RaySettings.of(section)
    assert settings.scaling.num_workers == (1, 2) and settings.elastic and settings.max_failures == 3
    assert settings.run_config.checkpoint_config.num_to_keep == 2 and settings.torch_config.timeout_s == 60
    assert settings.run_config.name == "r" and settings.upload_mode == "ASYNC"


def test_an_option_that_ray_refuses_is_one_error():
    with pytest.raises(ComponentError, match="Ray refuses the CheckpointConfig"):
        RaySettings.of(RayOptions.of({"num_to_keep": -1}))


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"address": "localhost"}, "address is 'localhost': the port is missing"),
        ({"object_store_memory": 1000}, "object_store_memory is 1000 bytes, but Ray needs at least"),
    ],
)
def test_options_of_the_connection_are_checked_before_it(option, text):
    with pytest.raises(ComponentError, match=text):
        RaySettings.of(RayOptions.of(option))


@pytest.mark.parametrize("value", ["0", "false", "False"])
def test_the_former_ray_train_is_refused_at_the_start(monkeypatch, value):
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", value)
    with pytest.raises(ResourceError, match=f"RAY_TRAIN_V2_ENABLED={value} selects .*: unset it"):
        RaySettings.of(RayOptions())


@pytest.mark.parametrize("name", sorted(NOT_IN_EVERY_RAY))
def test_an_option_that_this_ray_does_not_have_is_refused_by_its_name(monkeypatch, name):
    monkeypatch.setattr(ray_config, "config_fields", lambda cls: {})
    with pytest.raises(ComponentError, match=rf"Ray [\d.]+ has no option '{name}': .* install a newer Ray"):
        RaySettings.of(RayOptions.of({name: 1}))


@pytest.mark.parametrize("options", [{"ingest_memory": "2GiB"}, {"ingest_memory": 0}, {"ingest": "cluser"}])
def test_ingest_that_cannot_be_is_refused(options):
    with pytest.raises(ComponentError, match=r"ray\.ingest"):
        RaySettings.of(RayOptions(), **options)
