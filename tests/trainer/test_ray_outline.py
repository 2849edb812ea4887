"""What is told of a run on Ray without importing Ray."""

import dataclasses

import pytest

from ray_classy.config.ray_options import RayOptions
from ray_classy.errors import ComponentError
from ray_classy.trainer.ray_config import RaySettings
from ray_classy.trainer.ray_outline import RayOutline, is_outlined

PLAIN = [
    {},
    {"num_workers": 4},
    {"address": "auto", "ingest": {"train": "cluster"}, "ingest_memory": 1 << 30, "checkpoint_upload_mode": "SYNC"},
    {"num_workers": 2, "storage_path": "runs", "name": "r", "num_to_keep": 2, "autoscaling": True},
]
FACTS = ("num_workers", "most_workers", "elastic", "use_gpu", "worker_resources")


@pytest.mark.parametrize("given", PLAIN)
def test_an_outline_says_what_rays_own_objects_say(given):
    section = RayOptions.of(given)
    outline, settings = RayOutline.of_section(section), RaySettings.of(section)
    assert is_outlined(section)
    assert [getattr(outline, name) for name in FACTS] == [getattr(settings, name) for name in FACTS]
    for field in dataclasses.fields(RayOutline):
        assert getattr(outline, field.name) == getattr(settings, field.name)


@pytest.mark.parametrize(
    "given",
    [
        {"num_workers": -1},
        {"num_workers": [1, 2]},
        {"use_gpu": True},
        {"max_failures": 3},
        {"accelerator_type": "A100"},
    ],
)
def test_ray_is_asked_about_the_options_that_it_may_refuse(given):
    assert not is_outlined(RayOptions.of(given))


@pytest.mark.parametrize("given", [{"num_workers": 0}, {"address": "localhost"}, {"object_store_memory": 1000}])
def test_an_outline_refuses_what_the_settings_refuse(given):
    texts = []
    for make in (RayOutline.of_section, RaySettings.of):
        with pytest.raises(ComponentError) as refused:
            make(RayOptions.of(given))
        texts.append(str(refused.value))
    assert texts[0] == texts[1]
