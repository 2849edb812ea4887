"""The figures of an evaluation, against those of scikit-learn and of formulas written out."""

import numpy as np
import pytest

from ray_classy.inference.evaluated_rows import EvaluatedRows
from ray_classy.inference.report import interval_of_share, report_of

CLASSES = ["ant", "bee", "cat", "dog"]


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, 300)  # no dogs
    logits = generator.normal(size=(300, 4)) + 1.5 * np.eye(4)[label]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return EvaluatedRows(np.arange(300), label, scores.astype(np.float32))


@pytest.fixture(scope="module")
def report(rows):
    return report_of(rows, CLASSES)


def test_the_scores_of_the_classes_are_those_of_scikit_learn(rows, report):
    from sklearn.metrics import precision_recall_fscore_support

    expected = precision_recall_fscore_support(rows.label, rows.prediction, labels=range(4), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [one[name] for one in report.per_class()] == pytest.approx(values)


def test_the_confusion_matrix_is_that_of_scikit_learn(rows, report):
    from sklearn.metrics import confusion_matrix

    assert np.array_equal(report.confusion, confusion_matrix(rows.label, rows.prediction, labels=range(4)))


def test_classes_without_rows_do_not_count_in_the_mean(rows, report):
    f1 = [one["f1"] for one in report.per_class()]
    assert report.averages()["macro"]["f1"] == pytest.approx(np.mean(f1[:3]))


def test_the_loss_is_the_cross_entropy(rows, report):
    expected = -np.log(rows.scores[np.arange(300), rows.label].astype(float)).mean()
    assert report.loss == pytest.approx(expected)


def test_the_calibration_error_is_that_of_its_formula(rows, report):
    confidence, right = rows.scores.max(axis=1), rows.prediction == rows.label
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert report.calibration_error == pytest.approx(error, abs=1e-6)


def test_the_interval_of_the_accuracy_is_about_that_of_the_normal_distribution(report):
    low, high = report.intervals["accuracy"]
    half = 1.96 * np.sqrt(report.accuracy * (1 - report.accuracy) / 300)
    assert low == pytest.approx(report.accuracy - half, abs=0.01)
    assert high == pytest.approx(report.accuracy + half, abs=0.01)


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"), [(57, 57, 0.9369, 1.0), (0, 10, 0.0, 0.2775), (9, 10, 0.5958, 0.9821)]
)
def test_the_interval_of_a_share_is_wilsons(right, rows, low, high):
    assert interval_of_share(right, rows) == pytest.approx((low, high), abs=1e-4)


def test_the_intervals_are_the_same_each_time(rows, report):
    assert report_of(rows, CLASSES).intervals == report.intervals


def test_the_most_frequent_confusions_come_first(report):
    counts = [count for _, _, count in report.confused(5)]
    assert counts == sorted(counts, reverse=True) and len(counts) == 5


def test_the_order_of_the_pieces_does_not_matter(rows):
    pieces = [
        EvaluatedRows(rows.number[at], rows.label[at], rows.scores[at]) for at in (slice(100, 300), slice(0, 100))
    ]
    together = EvaluatedRows.together(pieces)
    assert np.array_equal(together.scores, rows.scores) and np.array_equal(together.label, rows.label)
