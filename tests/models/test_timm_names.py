"""Weights of timm for networks that are here under other names."""

import pytest
import torch

from ray_classy.models import MODEL_REGISTRY, build_model
from ray_classy.models.timm_names import of_efficientnet, of_regnet
from tests.models.predecessor import assert_loads

timm = pytest.importorskip("timm")
REGNETS = sorted({name for name in MODEL_REGISTRY if name.startswith(("regnet_y", "regnet_x"))} - {"regnet_y_256gf"})
NUMBERS = {"depth": 13, "w_0": 24, "w_a": 36.44, "w_m": 2.49, "group_width": 8}


@pytest.mark.parametrize(("name", "gated"), [("regnety_002", True), ("regnetx_002", False)])
def test_a_regnet_of_timm_gives_its_outputs(name, gated):
    head = {
        "name": "fully_connected",
        "unique_id": "a",
        "in_plane": 368,
        "num_classes": 3,
        "fork_block": "trunk_output",
    }
    config = {"name": "regnet", **NUMBERS, "use_se": gated, "heads": [head]}
    assert_loads(build_model(config), timm.create_model(name, num_classes=3), torch.randn(2, 3, 32, 32))


def test_an_efficientnet_of_timm_gives_its_outputs():
    theirs = timm.create_model("efficientnet_b0", num_classes=3)
    config = {"name": "efficientnet", "model_name": "B0", "num_classes": 3, "bn_epsilon": 1e-5}
    assert_loads(build_model(config), theirs, torch.randn(2, 3, 32, 32))


@pytest.mark.full
@pytest.mark.parametrize("name", REGNETS)
def test_all_named_regnets_have_timms_shapes(name):
    letter, size = name.removeprefix("regnet_")[0], name.partition("_")[2].partition("_")[2]
    flops = float(size.removesuffix("gf")) * 10 if size.endswith("gf") else float(size.removesuffix("mf")) / 100
    with torch.device("meta"):
        theirs = timm.create_model(f"regnet{letter}_{round(flops):03}", num_classes=0).state_dict()
        own = build_model({"name": name}).state_dict()
    assert {key: value.shape for key, value in of_regnet(theirs).items()} == {k: v.shape for k, v in own.items()}


@pytest.mark.full
@pytest.mark.parametrize("number", range(8))
def test_all_named_efficientnets_have_timms_shapes(number):
    with torch.device("meta"):
        theirs = timm.create_model(f"efficientnet_b{number}").state_dict()
        own = build_model({"name": f"efficientnet_b{number}"}).state_dict()
    assert {key: value.shape for key, value in of_efficientnet(theirs).items()} == {k: v.shape for k, v in own.items()}
