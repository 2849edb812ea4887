import threading

import pytest

from ray_classy.errors import ShippingError
from ray_classy.trainer.shipping import pickled
from tests.helpers import make_task, train


def test_what_does_not_travel_is_not_blamed():
    task = train(make_task())
    pickled(task)
    task.meters[0].lock = threading.Lock()
    with pytest.raises(ShippingError, match=r"task\.meters\[0\]\.lock cannot"):
        pickled(task)
