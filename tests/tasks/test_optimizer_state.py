import torch

from tests.helpers import make_task, train


def loaded(state):
    task = make_task(momentum=0.9)
    task.prepare()
    task.set_classy_state(state)
    saved = task.optimizer.get_classy_state()["optim"]["state"]
    return [saved[number]["momentum_buffer"] for number in sorted(saved)]


def test_momentum_of_classy_vision_follows_the_order_of_its_model():
    state = train(make_task(momentum=0.9)).get_classy_state(deep_copy=True)
    expected = loaded(state)
    model, optimizer = state["base_model"]["model"], state["optimizer"]
    del optimizer["name"]  # which Classy Vision does not write
    model["trunk"] = dict(reversed(model["trunk"].items()))
    last = len(expected) - 1
    optimizer["optim"]["state"] = {last - number: entry for number, entry in optimizer["optim"]["state"].items()}
    assert all(map(torch.equal, loaded(state), expected))


def test_momentum_of_an_unknown_order_is_loaded_as_it_is():
    state = train(make_task(momentum=0.9)).get_classy_state(deep_copy=True)
    expected = loaded(state)
    del state["optimizer"]["name"]
    task = make_task(momentum=0.9).set_checkpoint_load_strict(False)
    task.prepare()
    state["base_model"]["model"]["trunk"].popitem()
    task.set_classy_state(state)
    saved = task.optimizer.get_classy_state()["optim"]["state"]
    assert torch.equal(saved[0]["momentum_buffer"], expected[0])
