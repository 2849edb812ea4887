"""The keys for the device on Ray workers, of which one is replaced."""

import pytest
import torch

from ray_classy.checkpoint import load_checkpoint
from tests.tasks.images import image_task
from tests.trainer.ray_parts import At
from tests.trainer.test_failures import on_ray

pytestmark = [pytest.mark.ray, pytest.mark.full]


def task(**options):
    return image_task(train=20, test=6, batch=4, batch_norm=False, epochs=3, **options)


def state(result):
    return load_checkpoint(result.checkpoint)["classy_state_dict"]


def weights(result):
    return list(state(result)["base_model"]["model"]["trunk"].values())


@pytest.fixture(scope="module")
def plain(ray_cluster, tmp_path_factory):
    return on_ray(tmp_path_factory.mktemp("runs"), "plain").train(task())


def test_what_was_found_to_fit_is_kept_when_a_worker_is_replaced(ray_cluster, tmp_path, plain):
    parts = task(most=3).set_batch("auto").set_memory_format("auto").set_gradient_checkpointing(True)
    parts.set_checkpoint_every(steps=1).set_hooks([At(2, 1, "kill", str(tmp_path / "marker"), rank=1)])
    replaced = on_ray(tmp_path, "replaced", failures=1).train(parts)
    assert (tmp_path / "marker").exists() and state(replaced)["chosen"]["rows"] == 3
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(weights(plain), weights(replaced), strict=True))


def test_a_compiled_model_trains_like_another_when_a_worker_is_replaced(ray_cluster, tmp_path, plain):
    compiled = task().set_compile({"backend": "aot_eager"}).set_checkpoint_every(steps=1)
    compiled.set_hooks([At(2, 1, "kill", str(tmp_path / "marker"), rank=1)])
    replaced = on_ray(tmp_path, "replaced", failures=1).train(compiled)
    assert (tmp_path / "marker").exists()
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(weights(plain), weights(replaced), strict=True))
