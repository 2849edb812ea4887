"""What the tests of ingest do on a cluster of their own: `python -m tests.ingest.cluster_scripts NAME DIR`."""

import collections
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

os.environ["RAY_AUTH_MODE"] = "disabled"

import numpy as np
import pytest
import ray
import ray.data
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.util.placement_group import placement_group_table

from ray_classy.checkpoint import load_checkpoint
from ray_classy.ingest import RayDataset
from ray_classy.trainer import RayTrainer
from tests.trainer.nodes import SETTINGS, started_cluster
from tests.trainer.ray_parts import At, Slow, digits_config, id_task
from tests.trainer.ray_parts import digits_task as build

os.environ.update(SETTINGS)

PLAIN = {"mixup": None, "loss": {"name": "CrossEntropyLoss"}}
MIB = 1 << 20
NODE = "ray.io/node-id"  # a label that Ray gives to each node


class SeenOn:
    """Notes on which node and in which process each row is made; rows made on `slow` take a while."""

    def __init__(self, folder, inner, slow=None, pad=0, seconds=1.0):
        self.folder, self.inner, self.slow, self.pad, self.seconds = str(folder), inner, slow, pad, seconds
        self.driver = os.getpid()

    def __call__(self, sample):
        if os.getpid() != self.driver:  # the dry run
            node = ray.get_runtime_context().get_node_id()
            with open(os.path.join(self.folder, f"{node}-{os.getpid()}"), "ab") as file:
                file.write(b".")
            if self.slow is not None and os.path.exists(self.slow) and pathlib.Path(self.slow).read_text() == node:
                time.sleep(self.seconds)
        made = self.inner(sample)
        return {**made, "pad": torch.zeros(self.pad, dtype=torch.uint8)} if self.pad else made


def task_seen(folder, slow=None, pad=0, seconds=1.0, hooks=(), **changes):
    folder.mkdir(parents=True, exist_ok=True)
    task = build(**{**PLAIN, **changes})
    for dataset in task.datasets.values():
        dataset.transform = SeenOn(folder, dataset.transform, slow, pad, seconds)
    return task.set_hooks(list(hooks))


def rows_by_node(folder):
    counts = collections.Counter()
    for file in folder.iterdir():
        counts[file.name.partition("-")[0]] += file.stat().st_size
    return counts


@contextlib.contextmanager
def cluster_of(training=2, cpus=2, **node):
    """A cluster with a node for training workers, and one with CPUs alone."""
    cluster = started_cluster()
    train = cluster.add_node(num_cpus=training, resources={"train": training}, **node)
    other = cluster.add_node(num_cpus=cpus, **node)
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    try:
        yield cluster, train, other
    finally:
        ray.shutdown()
        cluster.shutdown()


def trained(tmp_path, name, task, workers=2, **options):
    each = {"CPU": 1, "train": 1}
    scaling = ScalingConfig(num_workers=workers, resources_per_worker=each, elastic_resize_monitor_interval_s=2)
    config = RunConfig(storage_path=str(tmp_path / "runs"), name=name, failure_config=FailureConfig(max_failures=2))
    return RayTrainer(scaling, config, **options).train(task)


def log_of(tmp_path, name):
    file = tmp_path / "runs" / name / "log.txt"
    return file.read_text() if file.exists() else ""


def equal(one, other):
    first, second = (
        load_checkpoint(run.checkpoint)["classy_state_dict"]["base_model"]["model"] for run in (one, other)
    )
    same = all(torch.equal(value, second["trunk"][name]) for name, value in first["trunk"].items())
    return same and [line["metrics"] for line in one.metrics_history] == [
        line["metrics"] for line in other.metrics_history
    ]


def waited_for(condition, what, running=None, seconds=300):
    began = time.monotonic()
    while not condition():
        assert running is None or not running.done(), running.result()
        assert time.monotonic() - began < seconds, f"no {what} within {seconds} s"
        time.sleep(0.1)


def nodes_change(tmp_path):
    """Rows are made on CPU nodes alone; one that joins is used, those that are lost cost neither rows nor a restart."""
    seen, over = tmp_path / "seen", tmp_path / "over"
    with cluster_of() as (cluster, train, other), ThreadPoolExecutor(1) as pool:
        task = task_seen(seen, hooks=[Slow(1.5, until=over)], num_epochs=5)
        running = pool.submit(trained, tmp_path, "disturbed", task, ingest="cluster")
        waited_for(lambda: rows_by_node(seen)[other.node_id] > 100, "row on the CPU node", running)
        late = log_of(tmp_path, "disturbed").count("this worker makes it")  # on a busy machine
        assert rows_by_node(seen)[train.node_id] <= late * 50
        joined = cluster.add_node(num_cpus=2)
        waited_for(lambda: rows_by_node(seen)[joined.node_id] > 100, "row on the node that joined", running)
        cluster.remove_node(other, False)
        made = rows_by_node(seen)[joined.node_id]
        waited_for(lambda: rows_by_node(seen)[joined.node_id] > made + 200, "row on the node that is left", running)
        cluster.remove_node(joined, False)
        over.touch()
        disturbed = running.result()
        print(rows_by_node(seen), log_of(tmp_path, "disturbed"))
        assert log_of(tmp_path, "disturbed").count("run disturbed on 2 processes") == 1
        calm = trained(tmp_path, "calm", task_seen(tmp_path / "calm", num_epochs=5), ingest="worker")
    assert equal(calm, disturbed)


def slow_node(tmp_path):
    """A node that takes a minute for what takes others milliseconds stalls no run, whatever little memory there is."""
    seen, slow = tmp_path / "seen", tmp_path / "slow"
    with cluster_of(object_store_memory=80 * MIB) as (cluster, _, other):
        joined = cluster.add_node(num_cpus=1, object_store_memory=80 * MIB)
        slow.write_text(joined.node_id)
        task = task_seen(seen, str(slow), pad=8 * MIB // 50, num_epochs=2)
        run = trained(tmp_path, "run", task, ingest="cluster", ingest_memory=17 * MIB)
        print(rows_by_node(seen), log_of(tmp_path, "run"))
        assert rows_by_node(seen)[other.node_id] > 10 * rows_by_node(seen)[joined.node_id]
        calm = trained(tmp_path, "calm", task_seen(tmp_path / "calm", num_epochs=2), ingest="worker")
    assert equal(calm, run)


def auto(tmp_path):
    """With `auto`, only workers that cannot keep up hand their batches over; of a killed run nothing stays behind."""
    seen, slow = tmp_path / "seen", tmp_path / "slow"
    with cluster_of() as (cluster, train, other):
        slow.write_text(train.node_id)
        task = task_seen(seen, str(slow), seconds=0.1, dataset=smaller(4))
        run = trained(tmp_path, "run", task, workers=1, ingest={"train": "auto", "test": "worker"})
        log = log_of(tmp_path, "run")
        print(log, rows_by_node(seen))
        assert log.count("other CPUs make them from now on") == 1 and rows_by_node(seen)[other.node_id]
        slow.unlink()
        task = task_seen(tmp_path / "calm", hooks=[Slow(0.2)], dataset=smaller(4))
        calm = trained(tmp_path, "calm", task, 1, ingest={"train": "auto", "test": "worker"})
        log, rows = log_of(tmp_path, "calm"), rows_by_node(tmp_path / "calm")
        print(log, rows)
        assert log.count("the workers make their batches themselves: they keep up with training") == 1
        assert rows[train.node_id] and not rows[other.node_id]
        assert equal(calm, run)
        leaves_nothing_behind(tmp_path, cluster.address, other)


def elastic(tmp_path):
    """A run that grows, and then loses its first node, is fed by the CPU node throughout, and learns the same."""
    seen, over = tmp_path / "seen", tmp_path / "over"
    small = {"model": {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [32]}, "num_epochs": 8}
    small["optimizer"] = {"name": "sgd", "lr": 0.05, "momentum": 0.9}  # the same whenever it is asked for
    small["dataset"] = digits_config()["dataset"]
    small["dataset"]["train"]["num_samples"] = 400  # whole updates on one worker and on two

    def logged(text, times, running):
        waited_for(lambda: log_of(tmp_path, "elastic").count(text) >= times, text, running)

    with cluster_of(training=1) as (cluster, train, other), ThreadPoolExecutor(1) as pool:
        task = task_seen(seen, hooks=[Slow(2.0, until=over)], **small)
        running = pool.submit(trained, tmp_path, "elastic", task, workers=(1, 2), ingest="cluster")
        logged("run elastic on 1 process", 1, running)
        cluster.add_node(num_cpus=1, resources={"train": 1})
        logged("run elastic on 2 processes", 1, running)
        cluster.remove_node(train, False)
        logged("run elastic on 1 process\n", 2, running)
        over.touch()
        elastic_run = running.result()
        counts = rows_by_node(seen)
        print(counts, log_of(tmp_path, "elastic"))
        assert counts[other.node_id] > 10 * (sum(counts.values()) - counts[other.node_id])  # (late batches)
        cluster.add_node(num_cpus=1, resources={"train": 1})
        calm = trained(tmp_path, "calm", task_seen(tmp_path / "calm", **small), ingest="worker")
    for one, two in zip(calm.metrics_history, elastic_run.metrics_history, strict=True):
        assert two["metrics"]["loss"] == pytest.approx(one["metrics"]["loss"], rel=1e-4)


def full_store(tmp_path):
    """What others hold in the object store makes no row wait for ever; batches are spilled, or made by the worker."""
    with cluster_of(object_store_memory=80 * MIB) as (_, train, other):
        held = [fill.options(label_selector={NODE: node.node_id}).remote(12) for node in (train, other) for _ in "12"]
        held = [block for blocks in ray.get(held) for block in blocks]  # 240 MiB in 160
        seen = tmp_path / "seen"
        run = trained(tmp_path, "run", task_seen(seen, pad=4 * MIB // 50), ingest="cluster")
        print(rows_by_node(seen), log_of(tmp_path, "run"))
        assert rows_by_node(seen)[other.node_id] and len(held) == 48
        del held
        calm = trained(tmp_path, "calm", task_seen(tmp_path / "calm"), ingest="worker")
    assert equal(calm, run)


@ray.remote(num_cpus=0)
def fill(blocks):
    return [ray.put(np.full(5 * MIB, number, np.uint8)) for number in range(blocks)]


def streams(tmp_path):
    """A pipeline whose blocks cross nodes: a worker is killed in its second epoch, then its CPU node is lost."""
    with cluster_of() as (cluster, _, other), ThreadPoolExecutor(1) as pool:
        killed, lost = At(2, 3, "kill", str(tmp_path / "killed"), rank=1), Holds(4, 3, "hold", str(tmp_path / "lost"))
        (tmp_path / "hold").touch()
        running = pool.submit(trained, tmp_path, "disturbed", streamed(tmp_path / "rows", [killed, lost]))
        try:
            waited_for((tmp_path / "lost").exists, "third epoch", running)
            cluster.remove_node(other, False)
            cluster.add_node(num_cpus=2)
        finally:
            (tmp_path / "hold").unlink()
        disturbed = running.result()
        print(log_of(tmp_path, "disturbed"))
        assert log_of(tmp_path, "disturbed").count("on 2 processes") >= 2
        calm = trained(tmp_path, "calm", streamed(tmp_path / "calm_rows", []))
    assert equal(calm, disturbed)


class Holds(At):
    """The second hook of its kind, under a name of its own."""


def streamed(folder, hooks):
    """A task over a pipeline of 300 numbered rows, in three epochs."""
    folder.mkdir()
    torch.manual_seed(0)
    task = id_task(folder, epochs=3)
    for phase_type, count in (("train", 300), ("test", 60)):
        rows = ray.data.range(count, override_num_blocks=12).map(numbered)
        rows = RayDataset(rows, 8, False, red, stream=True, num_rows=count, id_column="id")
        task.set_dataset(rows, phase_type)
    return task.set_hooks(hooks)


def numbered(row):
    time.sleep(0.01)
    return {"id": row["id"], "image": np.full((1, 1, 3), row["id"] % 256, np.uint8), "label": row["id"] % 2}


def red(sample):
    return {**sample, "input": torch.tensor([float(np.asarray(sample["input"])[0, 0, 0])])}


def smaller(batch):
    dataset = digits_config()["dataset"]
    for section in dataset.values():
        section.update(batchsize_per_replica=batch, num_samples=100)
    return dataset


def leaves_nothing_behind(tmp_path, address, other):
    """A run whose driver is killed."""
    seen = tmp_path / "killed"
    program = "import sys, tests.ingest.cluster_scripts as scripts; scripts.endless(*sys.argv[1:])"
    driver = subprocess.Popen([sys.executable, "-c", program, address, str(tmp_path)], start_new_session=True)
    waited_for(lambda: seen.exists() and rows_by_node(seen)[other.node_id] > 100, "row on the CPU node")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    waited_for(lambda: is_free("CPU") and is_free("object_store_memory"), "free resource", seconds=60)
    rows = rows_by_node(seen)
    time.sleep(2)
    assert rows_by_node(seen) == rows
    assert all(group["state"] == "REMOVED" for group in placement_group_table().values())


def is_free(name):
    return ray.available_resources().get(name) == ray.cluster_resources()[name]


def endless(address, folder):
    ray.init(address, logging_level="ERROR", log_to_driver=False)
    folder = pathlib.Path(folder)
    trained(folder, "killed", task_seen(folder / "killed", num_epochs=1000), ingest="cluster")


SCRIPTS = (auto, elastic, full_store, nodes_change, slow_node, streams)

if __name__ == "__main__":
    {script.__name__: script for script in SCRIPTS}[sys.argv[1]](pathlib.Path(sys.argv[2]))
