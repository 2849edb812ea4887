import pytest
import torch
from timm.optim import Lamb as TimmLamb

from ray_classy.errors import ComponentError
from ray_classy.optim import Lamb, build_optimizer
from ray_classy.optim.lamb import LambOptimizer


def parameters():
    generator = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(*shape, generator=generator)) for shape in ((3, 4), (4,), (1,))] + [
        torch.nn.Parameter(torch.zeros(2))
    ]


def trained(optimizer, own, steps=4):
    generator = torch.Generator().manual_seed(2)
    for step in range(steps):
        for parameter in own:
            parameter.grad = torch.randn(parameter.shape, generator=generator) * 3**step
        optimizer.step()
    return own


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.0},
        {"weight_decay": 0.0, "always_adapt": True},
        {"max_grad_norm": None, "bias_correction": False, "betas": (0.5, 0.9), "eps": 1e-3},
        {"trust_clip": True, "lr": 0.5, "max_grad_norm": 0.1},
    ],
)
def test_each_update_is_timms(options):
    ours, theirs = parameters(), parameters()
    trained(LambOptimizer(ours, **options), ours)
    trained(TimmLamb(theirs, **options), theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_the_gradients_of_all_groups_are_clipped_together():
    ours, theirs = parameters(), parameters()
    groups = [
        [{"params": own[:2], "weight_decay": 0.1}, {"params": own[2:], "weight_decay": 0.0}] for own in (ours, theirs)
    ]
    trained(LambOptimizer(groups[0], lr=0.1), ours)
    trained(TimmLamb(groups[1], lr=0.1), theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_state_goes_on_bit_for_bit():
    def prepared():
        optimizer = Lamb(lr=0.1)
        own = parameters()
        optimizer.set_param_groups(own)
        return optimizer, own

    (whole, expected), (first, own) = prepared(), prepared()
    generator = torch.Generator().manual_seed(3)
    for step in range(4):
        if step == 2:
            before, values = first.get_classy_state(), [parameter.detach().clone() for parameter in own]
            first, own = prepared()
            first.set_classy_state(before)
            for parameter, value in zip(own, values, strict=True):
                parameter.data = value
        for one, other in zip(expected, own, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        whole.step(where=step / 4)
        first.step(where=step / 4)
    assert all(map(torch.equal, expected, own))


@pytest.mark.parametrize("wrong", [{"max_grad_norm": 0}, {"max_grad_norm": -1}, {"betas": [1, 0]}, {"trust_clip": 1}])
def test_impossible_arguments_are_refused_by_name(wrong):
    with pytest.raises(ComponentError, match=next(iter(wrong))):
        build_optimizer({"name": "lamb", **wrong})
