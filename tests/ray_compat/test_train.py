"""Ray Train's controller: policies, callbacks, fields of its config classes."""

import contextlib
import pickle
from types import SimpleNamespace

import cloudpickle
import pytest
import ray.train
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError, WorkerHealthCheckTimeoutError
from ray.train.v2._internal.execution import context, failure_handling, scaling_policy
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from ray_classy.ray_compat import train

SCALING = ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1})


class Two:
    """Starts two workers, and notes what it is asked."""

    most = 2

    def __init__(self):
        self.asked = []

    def without_workers(self):
        self.asked.append("none run")
        return 2

    def with_workers(self, workers, group):
        self.asked.append((workers, group))


def running(workers, group):
    placed = SimpleNamespace(placement_group=SimpleNamespace(id=bytes.fromhex(group)))
    return SimpleNamespace(num_workers=workers, placement_group_handle=placed)


def test_a_scaling_policy_asks_who_decides():
    decider = Two()
    policy = train.scaling_policy(SCALING, decider)
    policy._coordinator_client = SimpleNamespace(maybe_send_resource_request=lambda *_: decider.asked.append("room"))
    start = policy.make_decision_for_non_running_worker_group()
    assert start == scaling_policy.ResizeDecision(num_workers=2, resources_per_worker={"CPU": 1.0})
    wait = policy.make_decision_for_running_worker_group(running(2, "ab"), None)
    assert wait == scaling_policy.NoopDecision()
    assert decider.asked == ["room", "none run", "room", (2, "ab")]


def test_a_failure_policy_asks_who_decides():
    asked = []

    def never(error, retries):
        asked.append(retries)
        return False

    error = WorkerGroupError("text", {0: ValueError()})
    policy = train.failure_policy(FailureConfig(max_failures=1), never)
    assert [policy.make_decision(error).name for _ in range(2)] == ["RAISE"] * 2 and asked == [True, False]
    always = train.failure_policy(FailureConfig(max_failures=0), lambda *_: True)
    assert always.make_decision(error).name == "RETRY"


def test_policies_travel_to_the_controller():
    for policy in (train.scaling_policy(SCALING, Two()), train.failure_policy(FailureConfig(), print)):
        assert pickle.loads(cloudpickle.dumps(policy)).__class__.__name__ == "Policy"


@pytest.mark.parametrize("name", ["ScalingPolicy", "NoopDecision", "ResizeDecision"])
def test_without_scaling_policies_ray_decides(hidden, name):
    hidden(scaling_policy, name)
    assert train.scaling_policy(SCALING, Two()) is None
    assert "may wait for resources without a message" in hidden.lines()[0]


@pytest.mark.parametrize("name", ["DefaultFailurePolicy", "FailureDecision"])
def test_without_failure_policies_ray_decides(hidden, name):
    hidden(failure_handling, name)
    assert train.failure_policy(FailureConfig(), print) is None
    assert "Ray decides what is tried again" in hidden.lines()[0]


def controller_arguments(monkeypatch, **options):
    """What the actor of a trainer's controller would be made of."""
    seen = {}
    monkeypatch.setattr(train, "controller_class", lambda: None)
    monkeypatch.setattr(TorchTrainer, "_initialize_and_run_controller", lambda self, **given: seen.update(given))
    with contextlib.suppress(AttributeError):  # there is no result
        train.trainer_class(**options)(print, scaling_config=SCALING).fit()
    return seen


@pytest.mark.ray
@pytest.mark.parametrize("keeps", [True, False])
def test_a_controller_gets_the_policies_and_the_callbacks(ray_cluster, monkeypatch, keeps):
    policies = {"scaling_policy": "ours", "failure_policy": None}
    seen = controller_arguments(monkeypatch, policies=policies, keeps_cleaner=keeps)
    assert seen["scaling_policy"] == "ours" and type(seen["failure_policy"]).__name__ == "DefaultFailurePolicy"
    assert any(isinstance(one, PlacementGroupCleanerCallback) for one in seen["callbacks"]) == keeps


def test_ctrl_c_is_handled_after_rays_handler_is_installed(monkeypatch):
    order = []
    monkeypatch.setattr(TorchTrainer, "_register_sigint_handler", lambda self, controller: order.append("ray"))
    trainer = train.trainer_class({}, True, lambda: order.append("we"))(print, scaling_config=SCALING)
    trainer._register_sigint_handler(None)
    assert order == ["ray", "we"]


@pytest.mark.parametrize(
    "name, says",
    [
        ("_initialize_and_run_controller", "Ray's own policies and cleaner are used"),
        ("_register_sigint_handler", "Ctrl-C ends a run at once"),
    ],
)
def test_a_trainer_without_the_methods_is_rays_own(hidden, name, says):
    hidden(TorchTrainer.__mro__[1], name)
    trainer = train.trainer_class({"scaling_policy": "ours"}, True, print)
    assert issubclass(trainer, TorchTrainer) and says in hidden.lines()[0]


@pytest.mark.ray
def test_a_ray_with_another_cleaner_keeps_it(ray_cluster, hidden, monkeypatch):
    from ray.train.v2._internal.callbacks import placement_group_callback

    hidden(placement_group_callback, "PlacementGroupCleanerCallback")
    assert controller_arguments(monkeypatch, policies={}, keeps_cleaner=False)["callbacks"]
    assert len(hidden.lines()) == 1


@pytest.mark.parametrize("info", [None, object()])
def test_preemption_is_read_from_the_workers_context(monkeypatch, info):
    found = SimpleNamespace(preemption_context=SimpleNamespace(preemption_info=info))
    monkeypatch.setattr(context, "get_train_context", lambda: found)
    assert train.preemption_is_near() is (info is not None)


def test_the_context_of_a_worker_has_a_place_for_preemption(monkeypatch, hidden):
    from ray.train.v2._internal.execution.preemption import PreemptionContext

    assert "preemption_context" in context.TrainContext.__dataclass_fields__
    monkeypatch.setattr(context, "get_train_context", lambda: SimpleNamespace(preemption_context=PreemptionContext()))
    assert not train.preemption_is_near() and hidden.lines() == []


@pytest.mark.parametrize("info", [None, object()])
def test_ray_2_57_gives_the_preemption_of_a_worker_by_a_method(monkeypatch, info):
    found = SimpleNamespace(preemption_context=SimpleNamespace(get=lambda: info))
    monkeypatch.setattr(context, "get_train_context", lambda: found)
    assert train.preemption_is_near() is (info is not None)


def test_a_ray_that_does_not_announce_preemption(hidden, monkeypatch):
    monkeypatch.setattr(context, "get_train_context", SimpleNamespace)
    assert not train.preemption_is_near()
    hidden(context, "get_train_context")
    assert not train.preemption_is_near()
    assert len(hidden.lines()) == 2


def test_a_checkpoint_lies_in_the_folder_that_ray_names(monkeypatch):
    storage = SimpleNamespace(experiment_fs_path="/runs/a", storage_filesystem=None)
    monkeypatch.setattr(ray.train, "get_context", lambda: SimpleNamespace(get_storage=lambda: storage))
    assert train.checkpoint_in_run("epoch_1").path == "/runs/a/epoch_1"
    assert hasattr(ray.train.get_context(), "get_storage")


def test_a_ray_that_does_not_name_the_folder_gets_no_checkpoint(hidden, monkeypatch):
    monkeypatch.setattr(ray.train, "get_context", SimpleNamespace)
    assert train.checkpoint_in_run("epoch_1") is None and len(hidden.lines()) == 1


def test_failures_of_processes_are_told_from_those_of_code(hidden):
    late, ill = WorkerGroupStartupTimeoutError(2), WorkerHealthCheckTimeoutError("text")
    assert train.is_start_timeout(late) and not train.is_start_timeout(ill) and not train.is_start_timeout(None)
    assert train.is_process_failure(ill) and train.is_process_failure(ray.exceptions.ActorDiedError())
    assert not train.is_process_failure(ValueError())
    from ray.train.v2._internal import exceptions

    hidden(exceptions, "RayTrainError")
    hidden(exceptions, "WorkerGroupStartupTimeoutError")
    assert not train.is_start_timeout(late) and not train.is_process_failure(ill)
    assert train.is_process_failure(ray.exceptions.ActorDiedError()) and len(hidden.lines()) == 2
    assert ControllerError(late).controller_failure is late


@pytest.mark.parametrize(
    "options, each",
    [
        ({}, {"CPU": 1}),
        ({"use_gpu": True}, {"GPU": 1}),
        ({"use_gpu": True, "resources_per_worker": {"GPU": 0.3, "CPU": 0}}, {"GPU": 0.3}),
        ({"num_workers": (2, 5), "resources_per_worker": {"CPU": 0.1, "host": 2}}, {"CPU": 0.1, "host": 2}),
    ],
)
def test_what_each_worker_gets(options, each):
    assert train.resources_per_worker(ScalingConfig(**{"num_workers": 3, **options})) == each


@pytest.mark.parametrize(
    "cls, has, lacks",
    [
        (ScalingConfig, {"num_workers", "use_gpu"}, {"trainer_resources"}),
        (RunConfig, {"name", "storage_path"}, {"verbose", "stop", "sync_config"}),
        (FailureConfig, {"max_failures"}, {"fail_fast"}),
        (CheckpointConfig, {"num_to_keep"}, {"checkpoint_frequency", "checkpoint_at_end"}),
    ],
)
def test_fields_that_ray_refuses_are_left_out(cls, has, lacks):
    fields = train.config_fields(cls)
    assert has <= fields.keys() and not lacks & fields.keys()
    cls(**{name: parameter.default for name, parameter in fields.items()})


def test_a_name_that_ray_made_is_no_given_name():
    assert train.given_name(RunConfig()) is None
    assert train.given_name(RunConfig(name="mine")) == "mine"


def test_the_snapshot_has_the_name_that_ray_gives_it():
    from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

    assert train.SNAPSHOT_FILE == CHECKPOINT_MANAGER_SNAPSHOT_FILENAME
