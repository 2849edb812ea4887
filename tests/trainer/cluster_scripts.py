"""What tests do on a cluster of their own: `python -m tests.trainer.cluster_scripts NAME DIR`."""

import json
import logging
import os
import pathlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

os.environ["RAY_AUTH_MODE"] = "disabled"

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig

from ray_classy.checkpoint import load_checkpoint
from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.parquet_rows import ParquetRows
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.trainer import LocalTrainer, RayTrainer
from tests.trainer.nodes import SETTINGS, started_cluster
from tests.trainer.ray_parts import At, Slow, TakeMemory, decode_id, digits_config, digits_task, id_task, recorded

os.environ.update(SETTINGS)


def killed_node(tmp_path):
    """A node is killed during a run; the run continues without it, to the same weights."""

    def trained(name, hooks):
        config = RunConfig(storage_path=str(tmp_path / "runs"), name=name, failure_config=FailureConfig(max_failures=2))
        return RayTrainer(ScalingConfig(num_workers=2), config).train(digits_task().set_hooks(hooks))

    marker = tmp_path / "marker"
    cluster = started_cluster()
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    try:
        calm = trained("calm", [])
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(trained, "disturbed", [At(2, 4, "wait", str(marker), rank=1)])
            while not (marker.exists() and marker.read_text()):
                assert not running.done(), running.result()
                time.sleep(0.1)
            cluster.remove_node(next(node for node in nodes if node.node_id == marker.read_text()), False)
            disturbed = running.result()
    finally:
        ray.shutdown()
        cluster.shutdown()
    first, second = (load_checkpoint(run.checkpoint)["classy_state_dict"]["base_model"] for run in (calm, disturbed))
    assert all(torch.equal(value, second["model"]["trunk"][name]) for name, value in first["model"]["trunk"].items())
    assert [line["metrics"] for line in calm.metrics_history] == [line["metrics"] for line in disturbed.metrics_history]


def elastic(tmp_path):
    """A run grows with the cluster, shrinks with it and grows back, and its updates are what they would have been."""
    plain = {
        "loss": {"name": "CrossEntropyLoss"},
        "mixup": None,
        "model": {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [32]},
        "num_epochs": 14,
    }

    def trained(name, workers, seconds):
        config = RunConfig(storage_path=str(tmp_path / "runs"), name=name, failure_config=FailureConfig(max_failures=3))
        scaling = ScalingConfig(num_workers=workers, elastic_resize_monitor_interval_s=1)
        return RayTrainer(scaling, config).train(digits_task(**plain).set_hooks([Slow(seconds)]))

    def logged(text, times):
        log, began = tmp_path / "runs" / "elastic" / "log.txt", time.monotonic()
        while not log.exists() or log.read_text().count(text) < times:
            assert not running.done(), running.result()
            assert time.monotonic() - began < 300, f"no {text!r} in {log.read_text() if log.exists() else 'the log'}"
            time.sleep(0.1)

    cluster = started_cluster()
    first = cluster.add_node(num_cpus=1)
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    try:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(trained, "elastic", (1, 2), 0.3)
            logged("run elastic on 1 process", 1)
            logged("the gradients of 2 steps are accumulated to updates of 100 rows", 1)
            cluster.add_node(num_cpus=1)
            logged("run elastic on 2 processes", 1)
            cluster.remove_node(first, False)
            logged("run elastic on 1 process\n", 2)
            cluster.add_node(num_cpus=1)
            logged("run elastic on 2 processes", 2)
            disturbed = running.result()
        calm = trained("calm", 2, 0)
    finally:
        ray.shutdown()
        cluster.shutdown()
    for one, other in zip(calm.metrics_history, disturbed.metrics_history, strict=True):
        assert one["where"] == other["where"] and one["num_updates"] == other["num_updates"]
        assert other["metrics"]["loss"] == pytest.approx(one["metrics"]["loss"], rel=5e-3)


def out_of_memory(tmp_path):
    """A worker that takes too much memory is killed by Ray, and the run resumes from the last checkpoint."""
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    memory = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    total, available = memory["MemTotal"], memory["MemAvailable"]
    limit = (total - available) / total + 6 * 2**20 / total  # 6 GiB more than is taken now
    if limit > 0.9:
        print("too little memory is free to try")
        return
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
        _system_config={"memory_usage_threshold": limit, "memory_monitor_refresh_ms": 100},
    )

    def trained(name, hooks):
        config = RunConfig(storage_path=str(tmp_path / "runs"), name=name, failure_config=FailureConfig(max_failures=1))
        task = digits_task(num_epochs=2, checkpoint_every={"steps": 5}).set_hooks(hooks)
        return RayTrainer(ScalingConfig(num_workers=2), config).train(task)

    try:
        disturbed = trained("disturbed", [TakeMemory(12, str(tmp_path / "marker"))])
        calm = trained("calm", [])
    finally:
        ray.shutdown()
    log = (tmp_path / "runs" / "disturbed" / "log.txt").read_text()
    assert "resuming from the last checkpoint" in log and "memory" in log.lower(), log
    assert [line["metrics"] for line in calm.metrics_history] == [line["metrics"] for line in disturbed.metrics_history]


def preempted(tmp_path):
    """A node is about to be taken away: a checkpoint is written in time, and the run goes on elsewhere from there."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    cluster = started_cluster()
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    config = RunConfig(storage_path=str(tmp_path / "runs"), name="run", failure_config=FailureConfig(max_failures=1))
    task = digits_task(num_epochs=2, checkpoint_every={"minutes": None}).set_hooks([Slow(1.0)])
    folder = tmp_path / "runs" / "run"
    try:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(RayTrainer(ScalingConfig(num_workers=2), config).train, task)
            while not (folder / "log.txt").exists():
                assert not running.done(), running.result()
                time.sleep(0.1)
            time.sleep(3)
            reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
            deadline = int((time.time() + 8) * 1000)
            assert GcsClient(cluster.address).drain_node(nodes[0].node_id, reason, "spot", deadline)[0]
            while not list(folder.glob("epoch_0000-step_*/checkpoint.torch")):
                assert not running.done(), running.result()
                time.sleep(0.1)
            cluster.add_node(num_cpus=1)
            cluster.remove_node(nodes[0], False)
            result = running.result()
    finally:
        ray.shutdown()
        cluster.shutdown()
    log = (folder / "log.txt").read_text()
    assert "about to be taken away: writing a checkpoint" in log and "resuming from" in log
    assert [line["epoch"] for line in result.metrics_history] == [1, 1, 2, 2]


def stopped(tmp_path):
    """Everything of Ray is stopped under a run, and the same command ends it as if nothing had been.

    `ray stop` spares no cluster of the machine: this is for a process in a namespace of its own.
    """
    config, program = tmp_path / "task.json", str(pathlib.Path(sys.executable).with_name("ray"))
    config.write_text(json.dumps(digits_config(num_epochs=12, checkpoint_every={"steps": 3})))
    address = "127.0.0.1:6397"
    start = [program, "start", "--head", "--port=6397", "--num-cpus=2", "--include-dashboard=false"]
    train = [
        sys.executable,
        "-m",
        "ray_classy",
        "train",
        str(config),
        "--num-workers=2",
        "--address",
        address,
        "--name",
    ]

    subprocess.run(start, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*train, "calm"], cwd=tmp_path, check=True)
    running = subprocess.Popen([*train, "run"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    runs = tmp_path / "runs"
    while not list(runs.glob("run/epoch_*/checkpoint.torch")):
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.05)
    subprocess.run([program, "stop"], check=True, stdout=subprocess.DEVNULL)
    began = time.monotonic()
    told = running.communicate(timeout=180)[1]
    print(f"ended by itself after {time.monotonic() - began:.0f} s with {running.returncode}: {told}")
    assert running.returncode
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*train, "run"], cwd=tmp_path, check=True)
    calm, run = (sorted(runs.glob(f"{name}/epoch_0012-*"))[-1] for name in ("calm", "run"))
    first, second = (load_checkpoint(str(path))["classy_state_dict"]["base_model"] for path in (calm, run))
    assert all(torch.equal(value, second["model"]["trunk"][name]) for name, value in first["model"]["trunk"].items())
    lines = [(runs / name / "metrics.jsonl").read_text().splitlines() for name in ("calm", "run")]
    metrics = [[json.loads(line)["metrics"] for line in found] for found in lines]
    assert metrics[0] == metrics[1] and len(metrics[0]) == len(lines[1])


def world_sizes(tmp_path):
    """Each row is trained and evaluated once, and the metrics are those of one process, at larger world sizes."""
    alone = LocalTrainer(str(tmp_path / "local")).train(digits_task(test_only=True, num_epochs=1)).metrics["test"]
    ray.init("local", num_cpus=8, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        (ids := tmp_path / "ids").mkdir()
        rows = id_task(ids, train_rows=101, test_rows=37, epochs=1)
        RayTrainer(ScalingConfig(num_workers=8), storage_path=str(tmp_path / "runs")).train(rows)
        assert recorded(ids) == {0: list(range(101)), 1: list(range(37))}
        task = digits_task(test_only=True, num_epochs=1)
        run = RayTrainer(ScalingConfig(num_workers=3), storage_path=str(tmp_path / "runs")).train(task)
        assert run.metrics["test"]["accuracy"] == alone["accuracy"]
        assert run.metrics["test"]["loss"] == pytest.approx(alone["loss"], rel=1e-6)
    finally:
        ray.shutdown()


def sweep_on_killed_node(tmp_path):
    """A node is killed under a sweep; its trials go on elsewhere, to what they give on a calm cluster."""
    from ray_classy.tune import TaskTuner
    from tests.tune.sweeps import sweep_config

    def swept(name, hooks):
        section = {"max_failures": 2, "storage_path": str(tmp_path / "runs"), "name": name}
        return TaskTuner(sweep_config(hooks=hooks, ray=section), progress=False).fit()

    cluster = started_cluster(num_cpus=1)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    try:
        calm = swept("calm", [{"name": "slow", "seconds": 0.01}])
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(swept, "disturbed", [{"name": "slow", "seconds": 1.0}])
            while not list((tmp_path / "runs" / "disturbed").glob("t*/reports.jsonl")):
                assert not running.done(), running.result()
                time.sleep(0.1)
            cluster.remove_node(nodes[0], False)
            disturbed = running.result()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert [record.state for record in disturbed.trials] == ["finished"] * 4
    assert [record.metrics for record in disturbed.trials] == [record.metrics for record in calm.trials]


def small_store(tmp_path):
    """Datasets larger than Ray's shared memory: Parquet files do not need it; for others the run says so."""
    os.environ["RAY_CLASSY_CACHE"] = str(tmp_path / "cache")
    ids, blobs = list(range(120)), [os.urandom(1 << 20) for _ in range(120)]
    labels = [number % 2 for number in ids]
    for part in range(0, 120, 20):
        rows = slice(part, part + 20)
        table = pa.table({"id": ids[rows], "label": labels[rows], "blob": blobs[rows]})
        pq.write_table(table, tmp_path / f"{part:03}.parquet")
    sources = {
        "parquet": ParquetRows(sorted(map(str, tmp_path.glob("*.parquet"))), ["id", "label", "blob"]),
        "memory": ItemRows(id=ids, label=labels, blob=blobs),
    }
    ray.init(
        "local",
        num_cpus=2,
        object_store_memory=80 << 20,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )
    told = []
    logging.getLogger("ray_classy").addHandler(handler := logging.Handler())
    handler.emit = lambda record: told.append(record.getMessage())
    try:
        for name, rows in sources.items():
            (tmp_path / name).mkdir()
            dataset = ClassyDataset(RowDataset(rows, decode_id), 8, True)
            task = id_task(tmp_path / name, epochs=1).set_dataset(dataset, "train")
            RayTrainer(ScalingConfig(num_workers=2), storage_path=str(tmp_path / "runs")).train(task)
            assert recorded(tmp_path / name) == {0: ids, 1: list(range(37))}
            assert any("of Ray's shared memory" in line for line in told) == (name == "memory"), told
    finally:
        ray.shutdown()
    assert any("take about 120 MiB of Ray's shared memory" in line for line in told), told
    assert len(list((tmp_path / "cache").rglob("*.arrow"))) == 6


if __name__ == "__main__":
    {
        "elastic": elastic,
        "killed_node": killed_node,
        "out_of_memory": out_of_memory,
        "preempted": preempted,
        "sweep_on_killed_node": sweep_on_killed_node,
        "small_store": small_store,
        "stopped": stopped,
        "world_sizes": world_sizes,
    }[sys.argv[1]](pathlib.Path(sys.argv[2]))
