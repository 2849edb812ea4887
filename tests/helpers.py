"""Small tasks for tests, and functions run on several ranks."""

import os
import pathlib
import socket
import traceback

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pyarrow import fs
from torch import nn

from ray_classy.dataset import ClassyDataset
from ray_classy.hooks import ClassyHook
from ray_classy.meters import AccuracyMeter
from ray_classy.models import ClassyModel
from ray_classy.optim import build_optimizer, build_optimizer_schedulers
from ray_classy.tasks import ClassificationTask
from ray_classy.trainer.classy_trainer import run_loop
from ray_classy.trainer.session import Session


class Vectors(torch.utils.data.Dataset):
    """Rows of `features` numbers of 4 classes; row i is a function of i alone."""

    def __init__(self, rows, features=6, classes=4, dtype=torch.float32):
        generator = torch.Generator().manual_seed(7)
        self.inputs = torch.randn(rows, features, generator=generator, dtype=torch.float64).to(dtype)
        self.targets = (self.inputs[:, :classes].argmax(1)).tolist()

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return {"input": self.inputs[index], "target": self.targets[index], "row": index}


def vectors(rows, batch=4, shuffle=False, transform=None, dtype=torch.float32, **attributes):
    dataset = ClassyDataset(Vectors(rows, dtype=dtype), batch, shuffle, transform)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def linear_model(dtype=torch.float32, seed=0, batch_norm=False, dropout=0.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(6, 8)]
        layers += [nn.BatchNorm1d(8)] if batch_norm else []
        layers += [nn.Dropout(dropout)] if dropout else []
        layers += [nn.ReLU(), nn.Linear(8, 4)]
        return ClassyModel.from_model(nn.Sequential(*layers).to(dtype), input_shape=(6,))


def sgd(lr=0.1, schedule=None, num_epochs=1, **options):
    config = {"name": "sgd", "lr": lr, **options}
    if schedule is not None:
        config["param_schedulers"] = {"lr": schedule}
    return build_optimizer(config), build_optimizer_schedulers(config, num_epochs)


def make_task(
    train=24,
    test=10,
    batch=4,
    epochs=1,
    cls=ClassificationTask,
    dtype=torch.float32,
    shuffle=False,
    lr=0.1,
    batch_norm=False,
    dropout=0.0,
    transform=None,
    hooks=(),
    schedule=None,
    **options,
):
    """A task of `train` and `test` rows of vectors; None leaves a dataset out."""
    optimizer, schedulers = sgd(lr, schedule, epochs, **options)
    task = cls()
    if train is not None:
        task.set_dataset(vectors(train, batch, shuffle, transform, dtype), "train")
    if test is not None:
        task.set_dataset(vectors(test, batch, False, None, dtype), "test")
    task.set_model(linear_model(dtype, batch_norm=batch_norm, dropout=dropout)).set_loss(nn.CrossEntropyLoss())
    task.set_optimizer(optimizer).set_optimizer_schedulers(schedulers).set_meters([AccuracyMeter([1, 2])])
    return task.set_num_epochs(epochs).set_hooks(list(hooks)).set_use_gpu(False)


def train(task):
    """Trains without a run folder, and returns the task."""
    run_loop(task, Session())
    return task


def weights(task):
    return {name: value.detach().clone() for name, value in task.base_model.state_dict().items()}


def equal_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class RecordingHook(ClassyHook):
    """Records each call as (point, look(task))."""

    def __init__(self, look=lambda task: None):
        super().__init__()
        self.look, self.calls = look, []

    def _note(self, point, task):
        self.calls.append((point, self.look(task)))

    def on_start(self, task):
        self._note("on_start", task)

    def on_phase_start(self, task):
        self._note("on_phase_start", task)

    def on_step(self, task):
        self._note("on_step", task)

    def on_phase_end(self, task):
        self._note("on_phase_end", task)

    def on_end(self, task):
        self._note("on_end", task)

    def seen(self, point):
        return [value for name, value in self.calls if name == point]


class Bucket:
    """A bucket on a local S3-compatible server."""

    count = 0

    def __init__(self, port):
        Bucket.count += 1
        self.name, self.port = f"bucket-{Bucket.count}", port
        self.query = f"?scheme=http&endpoint_override=127.0.0.1:{port}"
        self.filesystem, _ = fs.FileSystem.from_uri(
            f"s3://key:secret@{self.name}{self.query}&allow_bucket_creation=true"
        )
        self.filesystem.create_dir(self.name)

    def url(self, path):
        """The URL of an object or folder."""
        return f"s3://key:secret@{self.name}/{path}{self.query}"

    def put(self, path, content):
        """Writes an object and returns its URL."""
        with self.filesystem.open_output_stream(f"{self.name}/{path}") as stream:
            stream.write(content)
        return self.url(path)

    def copy(self, local, path):
        """Copies a file or a folder into the bucket and returns its URL."""
        files = [file for file in pathlib.Path(local).rglob("*") if file.is_file()]
        for file in files:
            self.put(f"{path}/{file.relative_to(local)}", file.read_bytes())
        return self.url(path) if files else self.put(path, pathlib.Path(local).read_bytes())

    def remove(self, path):
        self.filesystem.delete_file(f"{self.name}/{path}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _serve(tasks, answers):
    """Runs the functions that it is sent, each as a rank of a process group of its own."""
    torch.set_num_threads(1)
    while True:
        rank, world_size, port, function, arguments = tasks.get()
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        try:
            dist.init_process_group("gloo", rank=rank, world_size=world_size)
            answer = function(*arguments)
            dist.barrier()
            dist.destroy_process_group()
            answers.put((rank, True, answer))
        except BaseException:
            answers.put((rank, False, traceback.format_exc()))
            return


class _Ranks:
    """Processes that serve one test after another, forked from one that has made the imports: these take seconds."""

    def __init__(self):
        self.processes = []

    def start(self, count):
        context = mp.get_context("forkserver")
        context.set_forkserver_preload([__name__, "torchvision"])
        if not self.processes:
            self.answers = context.Queue()
        while len(self.processes) < count:
            tasks = context.Queue()
            process = context.Process(target=_serve, args=(tasks, self.answers), daemon=True)
            process.start()
            self.processes.append((process, tasks))

    def stop(self):
        for process, _ in self.processes:
            process.kill()
            process.join()
        self.processes = []


_ranks = _Ranks()


def run_ranks(world_size, function, *arguments, seconds=120):
    """Runs `function(*arguments)` on each rank of a gloo group, and returns the answers by rank.

    The function is one of a module and returns plain values. If it fails on one rank, the others are killed.
    """
    _ranks.start(world_size)
    port = free_port()
    for rank in range(world_size):
        _ranks.processes[rank][1].put((rank, world_size, port, function, arguments))
    answers = {}
    try:
        while len(answers) < world_size:
            rank, fine, answer = _ranks.answers.get(timeout=seconds)
            if not fine:
                raise RuntimeError(f"rank {rank} failed:\n{answer}")
            answers[rank] = answer
    except BaseException:
        _ranks.stop()
        raise
    return [answers[rank] for rank in range(world_size)]


def on_python_path(*folders):
    """PYTHONPATH with these folders before what is on it."""
    return os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")]))


def actors_titled(title):
    """The processes of this cluster's live actors whose title begins so."""
    from ray._private.state import actors

    found = []
    for process in [actor["Pid"] for actor in actors().values() if actor["State"] == "ALIVE"]:
        try:
            command = pathlib.Path(f"/proc/{process}/cmdline").read_text()
        except OSError:  # it has just ended
            continue
        found += [process] if command.startswith(title) else []
    return found


def children(process):
    """All processes below one, and itself."""
    found = [process]
    for thread in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{thread}/children") as file:
            for child in file.read().split():
                found = [*children(int(child)), *found]
    return found
