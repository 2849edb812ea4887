import pytest
import torch

from ray_classy.errors import ComponentError
from ray_classy.optim import OPTIMIZER_REGISTRY, build_optimizer
from ray_classy.trainer import LocalTrainer
from tests.helpers import make_task, train, weights

BOTH = ["sgd", "adam", "adamw"]


def trained(name, epochs=1, **options):
    task = make_task(epochs=epochs).set_optimizer(build_optimizer({"name": name, "lr": 0.01, **options}))
    return train(task)


CASES = [*((name, key) for name in BOTH for key in ("foreach", "fused")), ("rmsprop", "foreach")]


@pytest.mark.parametrize(("name", "key"), CASES)
def test_the_implementation_is_torchs_and_the_update_the_same(name, key):
    task, plain = trained(name, **{key: True}), trained(name)
    assert task.optimizer.param_groups[0][key] is True and not plain.optimizer.param_groups[0][key]
    for parameter, value in weights(plain).items():
        torch.testing.assert_close(weights(task)[parameter], value)


def test_what_cannot_be_chosen():
    with pytest.raises(ComponentError, match="foreach and fused are two ways"):
        build_optimizer({"name": "sgd", "foreach": True, "fused": True})
    with pytest.raises(ComponentError, match="fused must be true, false or null"):
        build_optimizer({"name": "sgd", "fused": "yes"})
    assert not {"foreach", "fused"} & OPTIMIZER_REGISTRY.find("adamw_mt").config_keys().keys()


def test_a_model_without_memory_is_tried_without_fused_kernels():
    optimizer = build_optimizer({"name": "adamw", "fused": True})
    optimizer.set_param_groups([torch.nn.Parameter(torch.zeros(2, device="meta"))])
    assert not optimizer.param_groups[0]["fused"]


def test_a_run_resumes_with_another_implementation(tmp_path):
    def task(epochs, **options):
        one = make_task(epochs=epochs)
        return one.set_optimizer(build_optimizer({"name": "sgd", "lr": 0.1, "momentum": 0.5, **options}))

    run = LocalTrainer(str(tmp_path), "r").train(task(1, fused=True))
    resumed = task(2, foreach=True)
    LocalTrainer(resume=run.path).train(resumed)
    group = resumed.optimizer.param_groups[0]
    assert group["foreach"] is True and not group["fused"]
    for name, value in weights(train(task(2))).items():
        torch.testing.assert_close(weights(resumed)[name], value)
