import copy
import importlib.util
import json
import math

import pytest
import torch
from sklearn import metrics as sklearn_metrics

from ray_classy.distributed import get_rank, get_world_size
from ray_classy.errors import CheckpointError, ComponentError, UnavailableError, UnknownComponentError
from ray_classy.meters import AccuracyMeter, NamedMeter, build_meter, build_meters, sync_meters
from tests.helpers import run_ranks

ROWS = torch.Generator().manual_seed(3)
SCORES = torch.randn(37, 3, generator=ROWS)
INDEX = torch.randint(0, 3, (37,), generator=ROWS)
HOT = (torch.rand(37, 3, generator=ROWS) < 0.4).float()
NAMES = ["cat", "dog", "eel"]

EVERY = {
    "f1": {"average": "macro", "per_class": True},
    "auroc": {},
    "average_precision": {"per_class": True},
    "calibration_error": {},
    "confusion_matrix": {},
    "mcc": {"name": "torchmetrics", "metric": "MatthewsCorrCoef"},
}


def made(several=False, **config):
    [meter] = build_meters(config)
    meter.set_classes(3, NAMES, several)
    return meter


def updated(meter, target=INDEX, output=SCORES, batch=10):
    for part, labels in zip(output.split(batch), target.split(batch), strict=True):
        meter.update(part, labels)
    return meter


def test_auroc_of_one_class_per_row_is_that_of_scikit_learn():
    expected = sklearn_metrics.roc_auc_score(INDEX, SCORES.softmax(1), multi_class="ovr", average="macro")
    assert updated(made(auroc={})).value == {"macro": pytest.approx(expected)}


def test_auroc_and_precision_of_several_classes_are_those_of_scikit_learn():
    expected = sklearn_metrics.roc_auc_score(HOT, SCORES, average=None)
    found = updated(made(several=True, auroc={"per_class": True}), HOT).value
    assert found == {"per_class": {name: pytest.approx(one) for name, one in zip(NAMES, expected, strict=True)}}
    mean = sklearn_metrics.average_precision_score(HOT, SCORES, average="macro")
    assert updated(made(several=True, average_precision={}), HOT).value == {"macro": pytest.approx(mean)}


def test_f1_has_an_average_and_a_value_for_each_class():
    expected = sklearn_metrics.f1_score(INDEX, SCORES.argmax(1), average=None)
    found = updated(made(f1=EVERY["f1"])).value
    assert found["macro"] == pytest.approx(expected.mean()) and list(found["per_class"]) == NAMES
    assert found["per_class"]["dog"] == pytest.approx(expected[1])


def test_confusion_matrices_are_lists():
    expected = sklearn_metrics.confusion_matrix(INDEX, SCORES.argmax(1)).tolist()
    assert updated(made(confusion_matrix={})).value == {"value": expected, "classes": NAMES}
    found = updated(made(several=True, confusion_matrix={}), HOT).value["value"]
    assert list(found) == NAMES and sum(map(sum, found["cat"])) == 37


@pytest.mark.parametrize("name", EVERY)
def test_values_have_their_form_before_any_update(name):
    empty, full = made(**{name: EVERY[name]}).value, updated(made(**{name: EVERY[name]})).value
    assert json.dumps(empty).count(":") == json.dumps(full).count(":") and empty.keys() == full.keys()
    assert "nan" not in json.dumps(empty).lower()


def test_rows_without_a_label_do_not_count():
    target = torch.where(torch.arange(37) < 20, INDEX, -1)
    assert updated(made(f1={}), target).value == updated(made(f1={}), INDEX[:20], SCORES[:20]).value
    hot = torch.where(torch.arange(37)[:, None] < 20, HOT, -100)
    one, other = (made(several=True, auroc={}) for _ in range(2))
    assert updated(one, hot).value == updated(other, HOT[:20], SCORES[:20]).value


def test_mixed_rows_count_for_their_larger_part():
    mixed = 0.7 * torch.nn.functional.one_hot(INDEX, 3) + 0.1
    assert updated(made(f1={}), mixed).value == updated(made(f1={})).value


def test_a_class_without_rows_has_no_value():
    found = updated(made(several=True, auroc={"per_class": True}), HOT * torch.tensor([0, 1, 1])).value
    assert found["per_class"]["cat"] in (0.0, None) and found["per_class"]["dog"] > 0


def test_a_state_is_restored_and_continued():
    meter = updated(made(**EVERY_F1), INDEX[:20], SCORES[:20])
    other = made(**EVERY_F1)
    other.set_classy_state(copy.deepcopy(meter.get_classy_state()))
    assert other.value == meter.value
    assert updated(other, INDEX[20:], SCORES[20:]).value == updated(made(**EVERY_F1)).value


EVERY_F1 = {"f1": EVERY["f1"]}


def test_arguments_of_the_metric_for_several_classes_are_accepted():
    config = {"f1": {"threshold": 0.9}}
    assert updated(made(several=True, **config), HOT).value != updated(made(several=True, f1={}), HOT).value
    with pytest.raises(ComponentError, match="no argument 'threshold'"):
        made(**config)


def test_the_state_of_another_metric_is_refused():
    with pytest.raises(CheckpointError, match="use the meters of the run"):
        made(auroc={}).set_classy_state(made(f1={}).get_classy_state())


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"torchmetrics": {"metric": "F1Scor"}}, UnknownComponentError, "did you mean 'F1Score'"),
        ({"torchmetrics": {}}, ComponentError, "metric must be the name"),
        ({"f1": {"averag": "macro"}}, ComponentError, "no argument 'averag'; did you mean 'average'"),
        ({"f1": {"average": "medium"}}, ComponentError, "MulticlassF1Score.*medium"),
        ({"confusion_matrix": {"average": "macro"}}, ComponentError, "has no average"),
        ({"a": {"name": "f1", "per_class": 3}}, ComponentError, "per_class"),
    ],
)
def test_wrong_arguments_are_refused(config, error, message):
    with pytest.raises(error, match=message):
        build_meters(config)


def test_without_torchmetrics_one_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"pip install 'ray_classy\[metrics\]'"):
        build_meter({"name": "f1"})


def test_outputs_of_another_width_are_refused():
    with pytest.raises(ComponentError, match="for 3 classes, and the model has 2 outputs"):
        made(f1={}).update(SCORES[:, :2], INDEX)


# -- names of their own -----------------------------------------------------------------------------------------------


def test_a_meter_measures_the_target_before_the_slash():
    [meter] = build_meters({"colour/accuracy": {"topk": [1]}})
    meter.update({"colour": SCORES, "shape": SCORES[:, :2]}, {"colour": INDEX, "shape": INDEX % 2})
    plain = AccuracyMeter([1])
    plain.update(SCORES, INDEX)
    assert (meter.name, meter.value) == ("colour/accuracy", plain.value)
    again = NamedMeter("colour/accuracy", AccuracyMeter([1]))
    again.set_classy_state(meter.get_classy_state())
    assert again.value == meter.value


def test_a_target_that_is_not_there_is_named():
    [meter] = build_meters({"colour/accuracy": {"topk": [1]}})
    with pytest.raises(ComponentError, match="measures the head 'colour', and there is shape"):
        meter.update({"shape": SCORES}, {"shape": INDEX})


# -- several processes ------------------------------------------------------------------------------------------------


def of_ranks():
    """Measures each process's rows, of which the last of three has none; in the middle, a state is saved and loaded."""
    rank, size = get_rank(), get_world_size()
    found = {}
    for several, target in ((False, INDEX), (True, HOT)):
        meters = [
            made(several, **{name: options})
            for name, options in EVERY.items()
            if not several or name != "calibration_error"
        ]
        meters.append(NamedMeter("top", AccuracyMeter([1])))
        share = [*range(rank, 37, 2)] if rank < 2 and size > 1 else range(37 if size == 1 else 0)
        early = [row for row in share if row < 20]
        late = [row for row in share if row >= 20]
        for meter in meters:
            updated(meter, target[early], SCORES[early], 3) if early else None
        saved = [copy.deepcopy(meter) for meter in meters]
        sync_meters(saved)
        for meter, state in zip(meters, [one.get_classy_state() for one in saved], strict=True):
            meter.reset()
            meter.set_classy_state(state)
            updated(meter, target[late], SCORES[late], 4) if late else None
        sync_meters(meters)
        found[several] = {meter.name if meter.name != "torchmetrics" else "mcc": meter.value for meter in meters}
    return json.loads(json.dumps({str(key): value for key, value in found.items()}))


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=pytest.mark.full), 3])
def test_any_number_of_processes_measures_what_one_does(ranks):
    alone, answers = of_ranks(), run_ranks(ranks, of_ranks)
    assert all(answer == answers[0] for answer in answers)
    _assert_close(answers[0], alone)


def _assert_close(found, expected):
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
        for key in found:
            _assert_close(found[key], expected[key])
    elif isinstance(found, float):
        assert math.isclose(found, expected, rel_tol=1e-6)
    else:
        assert found == expected
