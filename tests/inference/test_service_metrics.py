"""The counts of a service in the text format of Prometheus."""

from ray_classy.inference.service_metrics import ServiceMetrics


def test_answers_and_batches_are_counted():
    metrics = ServiceMetrics()
    for status, seconds in ((200, 0.02), (200, 20), (415, 0.001)):
        metrics.answered(status, seconds)
    for images in (1, 3, 300):
        metrics.predicted(images)
    assert (metrics.images, metrics.batches) == (304, 3)
    lines = metrics.text().splitlines()
    assert {'ray_classy_answers_total{status="200"} 2', 'ray_classy_answers_total{status="415"} 1'} <= {*lines}
    assert {'ray_classy_batch_size_bucket{le="4"} 2', 'ray_classy_batch_size_bucket{le="+Inf"} 3'} <= {*lines}
    assert 'ray_classy_answer_seconds_bucket{le="10"} 2' in lines and "ray_classy_answer_seconds_count 3" in lines


def test_each_metric_has_a_type_before_its_samples():
    kinds = [line.split()[2:] for line in ServiceMetrics().text().splitlines() if line.startswith("# TYPE")]
    assert [kind for _, kind in kinds] == ["counter", "histogram", "histogram"]


def test_counts_reach_the_metrics_of_ray():
    seen = []

    class Exported:
        def __init__(self, kind, name, text, **options):
            self.name = name

        def inc(self, tags):
            seen.append((self.name, tags))

        def observe(self, value):
            seen.append((self.name, value))

    metrics = ServiceMetrics(Exported)
    metrics.answered(200, 0.5)
    metrics.predicted(2)
    assert seen == [
        ("ray_classy_answers", {"status": "200"}),
        ("ray_classy_answer_seconds", 0.5),
        ("ray_classy_batch_size", 2),
    ]
