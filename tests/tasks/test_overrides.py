"""A subclass that overrides a documented method is obeyed by the trainer."""

import pytest
import torch
from torch import nn

from ray_classy.tasks import ClassificationTask, ClassyTask, LastBatchInfo
from ray_classy.trainer import LocalTrainer
from tests.helpers import make_task, train, vectors, weights


class CallsBase(ClassificationTask):
    """Notes which of its methods are called, and does what they do."""

    def __init__(self):
        super().__init__()
        self.called = []


def _noting(name):
    def method(self, *arguments, **options):
        self.called.append(name)
        return getattr(super(CallsEverything, self), name)(*arguments, **options)

    return method


OBEYED = [
    "prepare", "prepare_optimizer", "init_distributed_data_parallel_model", "on_start", "on_phase_start",
    "advance_phase", "build_dataloaders_for_current_phase", "build_dataloader_from_dataset", "create_data_iterators",
    "step", "train_step", "eval_step", "compute_model", "compute_loss", "update_meters", "run_optimizer",
    "on_phase_end", "synchronize_losses", "check_inf_nan", "log_phase_end", "on_end", "done_training",
    "get_classy_state", "get_global_batchsize",
]  # fmt: skip
CallsEverything = type("CallsEverything", (CallsBase,), {name: _noting(name) for name in OBEYED})


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    task = make_task(train=8, test=4, cls=CallsEverything)
    LocalTrainer(str(tmp_path_factory.mktemp("runs"))).train(task)
    return task.called


@pytest.mark.parametrize("name", OBEYED)
def test_method_is_called(called, name):
    assert name in called


def test_train_step_and_eval_step():
    class Own(ClassificationTask):
        def train_step(self):
            next(self.data_iterator)
            self.num_updates += self.get_global_batchsize()

        def eval_step(self):
            next(self.data_iterator)

    task = make_task(train=8, test=4, cls=Own)
    before = weights(task)
    train(task)
    assert task.num_updates == 8 and len(task.losses) == 0 and task.where == 1.0
    assert all(torch.equal(before[name], value) for name, value in weights(task).items())


def test_train_step_in_the_manner_of_the_predecessor():
    class Own(ClassificationTask):
        def train_step(self):
            self.last_batch = None
            sample = next(self.data_iterator)
            with torch.enable_grad():
                output = self.compute_model(sample)
                loss = self.compute_loss(output, sample)
                self.losses.append(loss.data.cpu().item())
                self.update_meters(output, sample)
            self.run_optimizer(loss)
            self.num_updates += self.get_global_batchsize()
            self.last_batch = LastBatchInfo(loss, output, sample["target"], sample, {"sample_fetch_time": 0.0})

    options = dict(epochs=2, schedule={"name": "linear", "start_value": 0.2, "end_value": 0.0})
    own, ours = train(make_task(cls=Own, **options)), train(make_task(**options))
    own_weights, our_weights = weights(own), weights(ours)
    assert all(torch.equal(own_weights[name], our_weights[name]) for name in our_weights)
    assert own.losses == ours.losses and own.where == 1.0


def test_predecessor_train_step_accumulates():
    class Own(ClassificationTask):
        def train_step(self):
            sample = next(self.data_iterator)
            self.run_optimizer(self.compute_loss(self.compute_model(sample), sample))
            self.num_updates += self.get_global_batchsize()

    own = train(make_task(cls=Own).set_simulated_global_batchsize(8))
    ours = train(make_task().set_simulated_global_batchsize(8))
    assert all(torch.equal(weights(own)[name], value) for name, value in weights(ours).items())


def test_compute_model():
    class Own(ClassificationTask):
        def compute_model(self, sample):
            return self.model(sample["input"]) * 0

    assert train(make_task(cls=Own)).losses[0] == pytest.approx(torch.log(torch.tensor(4.0)).item())


def test_compute_loss():
    class Own(ClassificationTask):
        def compute_loss(self, model_output, sample):
            return super().compute_loss(model_output, sample) * 0 + 3

    assert set(train(make_task(cls=Own)).losses) == {3.0}


def test_run_optimizer():
    class Own(ClassificationTask):
        def run_optimizer(self, loss):
            pass

    task = make_task(cls=Own)
    before = weights(task)
    assert all(torch.equal(before[name], value) for name, value in weights(train(task)).items())


def test_update_meters():
    class Own(ClassificationTask):
        def update_meters(self, model_output, sample):
            for meter in self.meters:
                meter.update(nn.functional.one_hot(sample["target"], 4).float(), sample["target"])

    assert train(make_task(cls=Own)).meters[0].value == {"top_1": 1.0, "top_2": 1.0}


def test_build_dataloaders_for_current_phase():
    class Own(ClassificationTask):
        def build_dataloaders_for_current_phase(self):
            self.dataloader = [self.datasets[self.phase_type].dataset[i] for i in range(1)]

        def create_data_iterators(self):
            rows = [{"input": row["input"][None], "target": torch.tensor([row["target"]])} for row in self.dataloader]
            self.data_iterator = _Counted(rows)

    assert len(train(make_task(cls=Own)).losses) == 1


class _Counted:
    def __init__(self, rows):
        self.rows, self.length = iter(rows), len(rows)

    def __len__(self):
        return self.length

    def __next__(self):
        return next(self.rows)


def test_build_dataloader_from_dataset():
    class Own(ClassificationTask):
        def build_dataloader_from_dataset(self, dataset, **kwargs):
            return super().build_dataloader_from_dataset(vectors(8, 2), **kwargs)

    assert len(train(make_task(cls=Own)).losses) == 4


def test_plain_dataloader():
    class Own(ClassificationTask):
        def build_dataloader_from_dataset(self, dataset, **kwargs):
            return torch.utils.data.DataLoader(dataset, batch_size=3)

    task = train(make_task(train=9, test=6, cls=Own))
    assert len(task.losses) == 2 and task.where == 1.0


def test_advance_phase():
    class Own(ClassificationTask):
        def advance_phase(self):
            super().advance_phase()
            self.seen = [*getattr(self, "seen", []), self.phase_idx]

    assert train(make_task(cls=Own)).seen == [0, 1]


def test_synchronize_losses():
    class Own(ClassificationTask):
        def synchronize_losses(self):
            self.losses.append(7.0)

    assert train(make_task(cls=Own)).losses[-1] == 7.0


def test_prepare_optimizer():
    class Own(ClassificationTask):
        def prepare_optimizer(self, optimizer, model, loss=None):
            optimizer.set_param_groups(list(model.parameters())[-2:])

    task = make_task(cls=Own)
    before = weights(task)
    changed = [name for name, value in weights(train(task)).items() if not torch.equal(before[name], value)]
    assert changed == list(before)[-2:]


def test_init_distributed_data_parallel_model():
    class Own(ClassificationTask):
        def init_distributed_data_parallel_model(self):
            self.distributed_model = nn.Sequential(self.base_model, nn.Identity())

    task = make_task(cls=Own)
    task.prepare()
    assert isinstance(task.model, nn.Sequential)
    train(task)


def test_done_training():
    class Own(ClassificationTask):
        def done_training(self):
            return self.phase_idx >= 0

    assert train(make_task(epochs=5, cls=Own)).phase_idx == 0


def test_get_batchsize_per_replica_and_global_batchsize():
    class Own(ClassificationTask):
        def get_batchsize_per_replica(self):
            return 100

        def get_global_batchsize(self):
            return self.get_batchsize_per_replica() * 2

    task = train(make_task(train=8, cls=Own))
    assert task.num_updates == 2 * 200 and task.where == 1.0


def test_state_of_a_subclass_is_kept(tmp_path):
    class Own(ClassificationTask):
        extra = 0

        def on_phase_end(self):
            super().on_phase_end()
            self.extra += 1

        def get_classy_state(self, deep_copy=False):
            return {**super().get_classy_state(deep_copy), "extra": self.extra}

        def set_classy_state(self, state):
            super().set_classy_state(state)
            self.extra = state["extra"]

    run = LocalTrainer(str(tmp_path), "r").train(make_task(cls=Own)).path
    task = make_task(epochs=2, cls=Own)
    LocalTrainer(resume=run).train(task)
    assert task.extra == 4


class Countdown(ClassyTask):
    """The least that a task must be."""

    def __init__(self):
        super().__init__()
        self.phases_done = self.steps = 0

    @classmethod
    def from_config(cls, config):
        return cls()

    @property
    def where(self):
        return self.phases_done / 2

    def done_training(self):
        return self.phases_done == 2

    def get_classy_state(self, deep_copy=False):
        return {"phases_done": self.phases_done}

    def set_classy_state(self, state):
        self.phases_done = state["phases_done"]

    def prepare(self, num_dataloader_workers=0, dataloader_mp_context=None):
        pass

    def train_step(self):
        if self.steps % 4 == 3:
            self.steps += 1
            raise StopIteration
        self.steps += 1

    eval_step = train_step

    def on_start(self):
        pass

    on_phase_start = on_end = on_start

    def on_phase_end(self):
        self.phases_done += 1


def test_least_task_is_trained(tmp_path):
    task = Countdown()
    result = LocalTrainer(str(tmp_path)).train(task)
    assert task.steps == 8 and len(result.metrics_history) == 2 and result.checkpoint is not None


def test_advance_phase_and_iterators_in_the_manner_of_the_predecessor():
    class Own(ClassificationTask):
        def advance_phase(self):
            for meter in self.meters:
                meter.reset()
            self.losses = []
            self.phase_idx += 1
            self.train = self.phases[self.phase_idx]["train"]
            self.train_phase_idx += self.train
            self.build_dataloaders_for_current_phase()
            self.create_data_iterators()
            self._set_model_train_mode()

        def create_data_iterators(self):
            del self.data_iterator
            self.data_iterator = iter(self.dataloader)

    own, ours = train(make_task(cls=Own)), train(make_task())
    assert own.losses == ours.losses and own.where == 1.0


def test_run_optimizer_in_the_manner_of_the_predecessor():
    class Own(ClassificationTask):
        def run_optimizer(self, loss):
            self.check_inf_nan(loss)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step(where=self.where)

    own, ours = train(make_task(cls=Own)), train(make_task())
    assert all(torch.equal(weights(own)[name], value) for name, value in weights(ours).items())


def test_use_gpu_is_known_when_training_begins():
    task = make_task().set_use_gpu(None)
    task.prepare()
    assert task.use_gpu is torch.cuda.is_available()
