"""The keys that are written down for a version of torchvision are those of its signatures."""

import pytest
import torchvision

from ray_classy.dataset.transforms.torchvision_keys import KEYS, VERSION
from ray_classy.dataset.transforms.torchvision_transforms import classes, keys_of
from ray_classy.registry import REQUIRED

pytestmark = pytest.mark.skipif(
    not torchvision.__version__.startswith(f"{VERSION}."), reason=f"the keys are those of torchvision {VERSION}"
)


def test_every_transform_is_there():
    assert KEYS.keys() == classes().keys()


@pytest.mark.parametrize("name", KEYS)
def test_the_keys_are_those_of_the_signature(name):
    keys = keys_of(classes()[name])
    assert list(KEYS[name]) == list(keys)
    for key, (annotation, default, _) in keys.items():
        plain = default if default is REQUIRED or default is None else getattr(default, "value", default)
        assert KEYS[name][key].annotation == annotation
        assert KEYS[name][key].default == plain or KEYS[name][key].default == str(plain)
