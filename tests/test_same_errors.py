"""What Classy Vision refuses is refused with an error that is also of the type that it raises."""

import pytest
import torch
from torch import nn

from ray_classy.dataset import build_dataset
from ray_classy.dataset.transforms import build_transform
from ray_classy.errors import RayClassyError
from ray_classy.heads import build_head
from ray_classy.hooks import build_hook
from ray_classy.losses import build_loss
from ray_classy.meters import build_meter
from ray_classy.models import ClassyModel, build_model
from ray_classy.optim import build_optimizer
from ray_classy.tasks import ClassificationTask
from tests.helpers import make_task

HEAD = {"name": "fully_connected", "unique_id": "a", "num_classes": 3, "in_plane": 8}
ROWS = {"batchsize_per_replica": 2, "use_shuffle": False, "num_samples": 4, "transforms": []}
RESNET = {"name": "resnet", "num_blocks": [1], "init_planes": 8}
MLP = {"name": "mlp", "input_dim": 3, "output_dim": 2, "hidden_dims": [2]}


def set_state(component, state):
    return lambda: component().set_classy_state(state)


def optimizer():
    built = build_optimizer({"name": "sgd", "lr": 0.1})
    built.set_param_groups([nn.Parameter(torch.zeros(2))])
    return built


def meter():
    return build_meter({"name": "accuracy", "topk": [1]})


def loss():
    return build_loss({"name": "barron", "alpha": 1.0, "size_average": True, "c": 1.0})


CASES = [
    (KeyError, lambda: build_loss({"name": "barron"})),
    (TypeError, lambda: build_loss({"name": "L1Loss", "a": 1})),
    (RuntimeError, lambda: loss()(torch.zeros(2, 3), torch.zeros(2, 4))),
    (KeyError, lambda: build_meter({"name": "accuracy"})),
    (KeyError, set_state(meter, {})),
    (AssertionError, set_state(meter, {**meter().get_classy_state(), "top_k": [2]})),
    (RuntimeError, lambda: build_meter({"name": "accuracy", "topk": [4]}).update(torch.zeros(2, 3), torch.zeros(2))),
    (KeyError, lambda: build_head({key: value for key, value in HEAD.items() if key != "in_plane"})),
    (AssertionError, lambda: build_head({**HEAD, "num_classes": "a"})),
    (TypeError, lambda: build_head({"name": "vision_transformer_head", "unique_id": "a", "in_plane": 2.0})),
    (TypeError, lambda: build_head({"name": "vision_transformer_head", "unique_id": "a"})),
    (RuntimeError, lambda: build_head(HEAD)(torch.zeros(2, 7, 1, 1))),
    (AssertionError, lambda: build_model({"name": "resnet"})),
    (AssertionError, lambda: build_model({"name": "resnet", "num_blocks": [1.0]})),
    (AssertionError, lambda: build_model({"name": "resnet", "num_blocks": [1], "init_planes": "a"})),
    (AssertionError, lambda: build_model({"name": "resnext", "num_blocks": [1], "base_width_and_cardinality": 4})),
    (AssertionError, lambda: build_model({"name": "resnet", "num_blocks": [1], "small_input": 5})),
    (AssertionError, lambda: build_model({"name": "resnet", "num_blocks": [1], "zero_init_bn_residuals": "a"})),
    (TypeError, lambda: build_model({"name": "resnet18", "num_blocks": [1]})),
    (AssertionError, lambda: build_model({"name": "densenet", "num_blocks": [1], "small_input": 3})),
    (KeyError, lambda: build_model({"name": "mlp"})),
    (KeyError, lambda: build_model({"name": "anynet"})),
    (KeyError, lambda: build_model({"name": "regnet"})),
    (TypeError, lambda: build_model({"name": "regnet_y_400mf", "foo": 1})),
    (KeyError, set_state(lambda: build_model(MLP), {})),
    (RuntimeError, set_state(lambda: build_model(RESNET), {"model": {"trunk": {}, "heads": {}}})),
    (KeyError, lambda: ClassyModel.from_checkpoint({})),
    (KeyError, lambda: build_optimizer({"name": "zero"})),
    (KeyError, set_state(optimizer, {})),
    (KeyError, lambda: build_hook({"name": "precise_bn"})),
    (TypeError, lambda: build_hook({"name": "checkpoint"})),
    (TypeError, lambda: build_hook({"name": "ema_model_weights", "decay": "a"})),
    (KeyError, lambda: build_dataset({"name": "synthetic_image", **ROWS, "crop_size": 8, "class_ratio": 0.5})),
    (FileNotFoundError, lambda: build_dataset({"name": "image_path", **ROWS, "image_folder": "no-such-folder"})),
    (TypeError, lambda: build_transform({"name": "lighting", "foo": 1})),
    (TypeError, lambda: build_transform({"name": "Resize"})),
    (KeyError, lambda: build_transform({"name": "apply_transform_to_key"})),
    (KeyError, set_state(ClassificationTask, {})),
]


@pytest.mark.parametrize(("error", "call"), CASES, ids=[f"{error.__name__}-{i}" for i, (error, _) in enumerate(CASES)])
def test_an_error_is_of_the_type_that_it_was(error, call):
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, RayClassyError) and str(caught.value)


def test_a_task_looks_at_a_loss_before_it_starts():
    task = ClassificationTask()
    task.check_inf_nan(torch.tensor(1.0))
    with pytest.raises(FloatingPointError):
        task.check_inf_nan(torch.tensor(float("nan")))


def test_a_content_without_a_state_of_a_task_is_refused():
    with pytest.raises(KeyError, match="has no `classy_state_dict`"):
        make_task()._set_checkpoint_dict({"classy_state_dict": 5}).prepare()
