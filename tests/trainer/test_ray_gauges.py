import json
import logging
import time
import urllib.request

import pytest

from ray_classy.trainer import RayTrainer
from tests.helpers import make_task
from tests.trainer.ray_parts import Slow

pytestmark = [pytest.mark.ray, pytest.mark.full]


def exported(ray, *texts, seconds=60):
    """The lines with these texts that Ray exports for Prometheus."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for node in ray.nodes():
            try:
                url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
                page = urllib.request.urlopen(url, timeout=5).read().decode()
            except OSError:
                continue
            if found := [
                line for line in page.splitlines() if all(text in line for text in texts) and not line.startswith("#")
            ]:
                return found
        time.sleep(1)
    return []


def test_a_run_on_ray_has_gauges_lines_of_steps_and_says_what_it_starts(ray_cluster, tmp_path, caplog):
    caplog.set_level(logging.INFO, "ray_classy")
    task = make_task(epochs=2, hooks=[Slow(1.0)]).set_log_every(steps=2)  # Ray exports what it finds from time to time
    RayTrainer(storage_path=str(tmp_path), name="gewählt").train(task)
    lines = [json.loads(line) for line in (tmp_path / "gewählt/steps.jsonl").read_text().splitlines()]
    assert [line["train_step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert "starting 1 worker" in caplog.text
    if not ray_cluster.nodes()[0].get("MetricsExportPort"):
        pytest.skip("this Ray exports no metrics")
    assert exported(ray_cluster, 'metric="test.accuracy.top_1"', 'run="gew')
