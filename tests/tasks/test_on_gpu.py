"""What a task does on a GPU."""

import copy

import pytest
import torch

from ray_classy.dataset import build_dataset
from ray_classy.hooks import ClassyHook
from ray_classy.meters import AccuracyMeter
from ray_classy.models import build_model
from ray_classy.optim import build_optimizer
from ray_classy.tasks import ClassificationTask
from ray_classy.trainer import LocalTrainer
from tests.helpers import equal_weights, train, weights
from tests.trainer.test_row_resume import Ledger, Stopped, interrupted, small_task
from tests.trainer.test_whole_state import difference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

PRECISIONS = [None, {"amp_type": "pytorch", "dtype": "bfloat16"}, {"amp_type": "pytorch", "dtype": "float16"}]
TRANSFORMS = [
    {"name": "RandomAffine", "degrees": 10},
    {"name": "ToTensor"},
    {"name": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3},
]


class Watching(ClassyHook):
    """Makes whatever waits for the GPU an error, from the third step of each phase to its last but one."""

    on_start = on_end = ClassyHook._noop

    def on_phase_start(self, task):
        self.steps = 0

    def on_step(self, task):
        self.steps += 1
        inside = 3 <= self.steps < len(task.data_iterator) - 1
        torch.cuda.set_sync_debug_mode("error" if inside else "default")

    def on_phase_end(self, task):
        assert self.steps > 4


def digits_task(amp=None, epochs=2, hooks=()):
    """A small ResNet on digits, on whatever device there is."""
    task = ClassificationTask().set_num_epochs(epochs).set_seed(1)
    for phase_type in ("train", "test"):
        config = {"name": "digits", "split": phase_type, "image_mode": "RGB", "batchsize_per_replica": 64}
        transforms = [{"name": "apply_transform_to_key", "key": "input", "transforms": TRANSFORMS}]
        dataset = build_dataset({**config, "use_shuffle": phase_type == "train", "transforms": transforms})
        task.set_dataset(dataset, phase_type)
    head = {"name": "fully_connected", "unique_id": "head", "num_classes": 10, "in_plane": 32, "fork_block": "block1-0"}
    shape = {"small_input": True, "basic_layer": True, "num_blocks": [1, 1], "init_planes": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        task.set_model(build_model({"name": "resnet", **shape, "heads": [head]}))
    task.set_loss(torch.nn.CrossEntropyLoss()).set_meters([AccuracyMeter([1, 5])])
    task.set_optimizer(build_optimizer({"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True}))
    return task.set_amp_args(amp).set_hooks(list(hooks))


@pytest.fixture
def sync_is_an_error():
    yield Watching()
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("amp", PRECISIONS[:2], ids=["float32", "bfloat16"])
def test_no_step_waits_for_the_gpu(amp, sync_is_an_error):
    train(digits_task(amp, hooks=[sync_is_an_error]))


@pytest.mark.parametrize("amp", PRECISIONS, ids=["float32", "bfloat16", "float16"])
def test_it_learns_in_every_precision(amp):
    task = train(digits_task(amp, epochs=6))
    assert task.device.type == "cuda" and task.meters[0].value["top_1"] > 0.9


def gpu_task(hook=None, amp=PRECISIONS[2]):
    task = small_task(hook, dtype=torch.float32, batch_norm=True).set_use_gpu(None)
    return task.set_amp_args(amp).set_optimizer(build_optimizer({"name": "adamw", "lr": 0.01}))


@pytest.mark.parametrize("stop", [5, 13])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, stop):
    calm = gpu_task()
    LocalTrainer(str(tmp_path), "calm").train(calm)
    interrupted(str(tmp_path), gpu_task(Ledger(stop=stop)))
    resumed = gpu_task(Ledger())
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    states = [copy.deepcopy(task.get_classy_state()) for task in (calm, resumed)]
    for state in states:
        state.pop("hooks")
    assert difference(*states) is None and calm.device.type == "cuda"


def test_a_run_goes_on_on_the_cpu(tmp_path):
    interrupted(str(tmp_path), gpu_task(Ledger(stop=5), amp=None))
    resumed = gpu_task(amp=None).set_use_gpu(False)
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    calm = gpu_task(amp=None).set_use_gpu(False)
    LocalTrainer(str(tmp_path), "calm").train(calm)
    assert resumed.num_train_steps == calm.num_train_steps and resumed.device.type == "cpu"


def test_the_gpu_gives_the_same_weights_twice():
    one, other = (train(digits_task().set_deterministic(True)) for _ in range(2))
    assert equal_weights(weights(one), weights(other))


def test_checkpoints_change_nothing(tmp_path):
    task = gpu_task(Ledger(stop=9))
    with pytest.raises(Stopped):
        LocalTrainer(str(tmp_path), "r").train(task.set_checkpoint_every(steps=1, minutes=None))
    calm = gpu_task(Ledger(stop=9))
    with pytest.raises(Stopped):
        LocalTrainer(str(tmp_path), "calm").train(calm.set_checkpoint_every(steps=100, minutes=None))
    assert equal_weights(weights(task), weights(calm))
