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
    task, plain = trained(name, **{key: True}), trained(name, **{key: False})
    assert task.optimizer.param_groups[0][key] is True and not plain.optimizer.param_groups[0][key]
    for parameter, value in weights(plain).items():
        torch.testing.assert_close(weights(task)[parameter], value)


@pytest.mark.parametrize("name", [*BOTH, "SGD", "Adam", "AdamW", "Adagrad"])
def test_a_cpu_computes_fused_updates_unless_the_config_says_how(name):
    def of(**options):
        return trained(name, **options).optimizer.param_groups[0]["fused"]

    assert of() and not of(fused=False) and not of(foreach=False) and not of(foreach=True)


@pytest.mark.parametrize("options", [{}, {"dtype": torch.bfloat16}, {"dtype": torch.complex64}])
def test_parameters_of_other_types_are_left_to_torch(options):
    optimizer = build_optimizer({"name": "sgd"})
    optimizer.set_param_groups([torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2, **options))])
    assert bool(optimizer.param_groups[0]["fused"]) is (not options)


def test_differentiable_updates_are_not_fused():
    def groups(**options):
        optimizer = build_optimizer({"name": "SGD", "differentiable": True, **options})
        optimizer.set_param_groups([torch.nn.Parameter(torch.zeros(2))])
        return optimizer.param_groups

    assert not groups()[0]["fused"] and groups(foreach=True)[0]["foreach"] is True
    with pytest.raises(ComponentError, match="fused kernels are not differentiable"):
        groups(fused=True)


@pytest.mark.parametrize("name", ["sgd", "SGD"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_a_parameter_whose_first_gradient_comes_later_starts_as_with_plain_updates(name, nesterov):
    def updated(fused):
        parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
        options = {"lr": 0.1, "momentum": 0.9, "nesterov": nesterov}
        optimizer = build_optimizer({"name": name, "fused": fused, **options})
        optimizer.set_param_groups(parameters)
        for given in ([0], [0, 1], [1], [0, 1]):
            for index, parameter in enumerate(parameters):
                parameter.grad = torch.full((3,), 0.5) if index in given else None
            optimizer.step(where=0.0)
        state = optimizer.get_classy_state()["optim"]["state"]
        return [*parameters, *(state[index]["momentum_buffer"] for index in range(2))]

    for fused, plain in zip(updated(True), updated(False), strict=True):
        torch.testing.assert_close(fused, plain)


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
