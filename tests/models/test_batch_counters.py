import torch
from torch import nn

from ray_classy.models import ClassyModel
from ray_classy.models.weights import load_weights, weights_of


def network():
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def wrapped():
    return ClassyModel.from_model(network(), input_shape=(3, 4, 4))


def test_counters_that_old_files_lack_are_not_missing():
    weights = {name: value for name, value in network().state_dict().items() if "num_batches" not in name}
    report = load_weights(wrapped(), weights_of(weights))
    assert report.lines()[1].startswith("  loaded       6 of 6 entries of Adapter") and not report.missing


def test_counters_of_a_layer_that_the_file_lacks_are_missing_with_it():
    weights = {name: value for name, value in network().state_dict().items() if name.startswith("0.")}
    report = load_weights(wrapped(), weights_of(weights), strict=False)
    assert len(report.missing) == 5


def test_counters_in_half_precision_become_integers():
    weights = {name: value.half() for name, value in network().state_dict().items()}
    for count, expected in ((9.0, 9), (float("inf"), 0)):
        model = wrapped()
        load_weights(model, weights_of({**weights, "1.num_batches_tracked": torch.tensor(count).half()}))
        assert model.model[1].num_batches_tracked.dtype == torch.int64
        assert model.model[1].num_batches_tracked == expected
