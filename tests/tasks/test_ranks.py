"""The same training on 2 and on 3 ranks as in one process. All that the ranks do is done once, in `work`."""

import os

import pytest
import torch
from torch import nn

from ray_classy.distributed import get_world_size
from ray_classy.errors import RunFolderError
from ray_classy.hooks import CheckpointHook
from ray_classy.tasks import BroadcastBuffersMode, FineTuningTask
from ray_classy.trainer import DistributedTrainer
from tests.helpers import RecordingHook, make_task, run_ranks, train

DOUBLE = torch.float64
GLOBAL_BATCH = 6


class ScaledLoss(nn.Module):
    """A loss that learns."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=DOUBLE))

    def forward(self, output, target):
        return nn.functional.cross_entropy(output * self.scale, target)


def weighted(settings):
    task = make_task(
        **{**settings, "transform": lambda row: {**row, "target": -1 if row["row"] < 9 else row["target"]}}
    )
    classes = torch.tensor([0.1, 1, 3, 8], dtype=DOUBLE)
    return task.set_loss(nn.CrossEntropyLoss(classes, ignore_index=-1)).set_simulated_global_batchsize(2 * GLOBAL_BATCH)


def options(rows):
    # 6, 1 or 4 rows in the last global batch of 6, whatever the number of ranks
    batch = GLOBAL_BATCH // get_world_size()
    return dict(train=rows, test=17, batch=batch, dtype=DOUBLE, momentum=0.9, epochs=2, shuffle=True)


def flat(task):
    return torch.cat([value.flatten().double() for value in task.base_model.state_dict().values()]).tolist()


def outcome(task):
    return {
        "weights": flat(task),
        "losses": list(task.losses),
        "loss": task.losses.row_mean(),
        "meter": task.meters[0].value,
        "counts": task.meters[0]._total.tolist(),
        "where": task.where,
        "num_updates": task.num_updates,
    }


def buffers(mode):
    task = make_task(train=12, test=6, batch=2, batch_norm=True).set_distributed_options(broadcast_buffers_mode=mode)
    after_step = []
    hook = RecordingHook(lambda task: task.train and after_step.append(task.base_model.model[1].running_mean.tolist()))
    train(task.set_hooks([hook]))
    return {"test": task.base_model.model[1].running_mean.tolist(), "train": after_step[-1]}


def work(folder):
    done = {}
    for rows in (12, 7, 10):
        done[f"rows {rows}"] = outcome(train(make_task(**options(rows))))
    done["accumulated"] = outcome(train(make_task(**options(22)).set_simulated_global_batchsize(2 * GLOBAL_BATCH)))
    done["clipped"] = outcome(train(make_task(**options(10)).set_clip_grad_norm(0.1)))
    done["own loss"] = outcome(train(make_task(**options(10)).set_loss(ScaledLoss())))
    done["weighted"] = outcome(train(weighted(options(22))))
    done["batch norm"] = outcome(train(make_task(**options(13), batch_norm=True)))  # steps of 6, 5 and 2 rows
    done["few test rows"] = outcome(train(make_task(**{**options(12), "test": 1})))
    tested = make_task(**{**options(12), "test": 1}).set_test_only(True)
    result = DistributedTrainer(folder, "tested").train(tested)
    done["test only"] = {**outcome(tested), "metrics": result.metrics}
    done["fp16 gradients"] = outcome(
        train(make_task(train=12, batch=2).set_distributed_options(fp16_grad_compress=True))
    )
    for mode in BroadcastBuffersMode:
        done[mode.name] = buffers(mode)
    hook = CheckpointHook(os.path.join(folder, "published"))
    kept = make_task(**options(10), dropout=0.5, hooks=[hook])
    result = DistributedTrainer(folder, "kept").train(kept)
    done["kept"] = {**outcome(kept), "checkpoint": result.checkpoint, "history": result.metrics_history}
    again = make_task(**{**options(10), "epochs": 1}, dropout=0.5)
    DistributedTrainer(folder, "again").train(again)
    resumed = make_task(**options(10), dropout=0.5)
    DistributedTrainer(resume=os.path.join(folder, "again")).train(resumed)
    done["resumed"] = outcome(resumed)
    done["whole and resumed"] = [flat(whole_or_resumed) for whole_or_resumed in _whole_and_resumed()]
    pretrained = make_task(**options(10), cls=FineTuningTask).set_checkpoint(os.path.join(folder, "kept", "nothing"))
    for name, run in {"missing": lambda: pretrained.prepare(), "taken": lambda: _taken(folder)}.items():
        try:
            run()
        except (RuntimeError, RunFolderError) as error:
            done[name] = type(error).__name__
    return done


def _whole_and_resumed():
    """In float32, where the order in which ranks are added up shows; resumed after the first phase."""
    kept = []
    keep = RecordingHook(lambda task: task.phase_idx == 0 and kept.append(task.get_classy_state(deep_copy=True)))
    many = dict(train=96, test=None, shuffle=True, momentum=0.9, batch_norm=True, epochs=3)
    whole = train(make_task(**many, hooks=[keep]))
    resumed = make_task(**many)._set_checkpoint_dict({"classy_state_dict": kept[-1]})
    return whole, train(resumed)


def _taken(folder):
    DistributedTrainer(folder, "kept").train(make_task())


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    answers = run_ranks(request.param, work, str(folder))
    for answer in answers:
        answer["folder"] = str(folder)
    return answers


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return {
        **{f"rows {rows}": outcome(train(make_task(**options(rows)))) for rows in (12, 7, 10)},
        "accumulated": outcome(train(make_task(**options(22)).set_simulated_global_batchsize(2 * GLOBAL_BATCH))),
        "clipped": outcome(train(make_task(**options(10)).set_clip_grad_norm(0.1))),
        "own loss": outcome(train(make_task(**options(10)).set_loss(ScaledLoss()))),
        "few test rows": outcome(train(make_task(**{**options(12), "test": 1}))),
        "weighted": outcome(train(weighted(options(22)))),
    }


@pytest.mark.parametrize(
    "what", ["rows 12", "rows 7", "rows 10", "accumulated", "clipped", "own loss", "few test rows", "weighted"]
)
def test_same_weights_as_in_one_process(ranks, alone, what):
    for answer in ranks:
        assert answer[what]["weights"] == pytest.approx(alone[what]["weights"], rel=0, abs=1e-12)
        assert answer[what]["num_updates"] == alone[what]["num_updates"] and answer[what]["where"] == 1.0


@pytest.mark.parametrize("what", ["rows 12", "rows 7", "rows 10", "few test rows", "weighted"])
def test_every_row_is_evaluated_once(ranks, alone, what):
    for answer in ranks:
        assert answer[what]["counts"] == alone[what]["counts"]
        assert answer[what]["meter"] == alone[what]["meter"]


def test_no_rank_meets_batch_norm_with_one_row(ranks):
    assert all(answer["batch norm"]["where"] == 1.0 for answer in ranks)


def test_losses_are_those_of_all_ranks(ranks):
    assert all(answer["rows 7"]["losses"] == ranks[0]["rows 7"]["losses"] for answer in ranks)


def test_test_only_with_a_rank_without_rows(ranks):
    for answer in ranks:
        assert answer["test only"]["counts"][-1] == 1.0 and answer["test only"]["where"] == 1.0
        assert answer["test only"]["metrics"] == ranks[0]["test only"]["metrics"]


def test_compressed_gradients_keep_the_ranks_equal(ranks):
    assert all(answer["fp16 gradients"]["weights"] == ranks[0]["fp16 gradients"]["weights"] for answer in ranks)


@pytest.mark.parametrize(("mode", "in_train", "in_test"), [
    ("DISABLED", False, False), ("BEFORE_EVAL", False, True), ("FORWARD_PASS", False, True)
])  # fmt: skip
def test_buffers_agree(ranks, mode, in_train, in_test):
    first, second = ranks[0][mode], ranks[1][mode]
    assert (first["train"] == second["train"]) is in_train
    assert (first["test"] == second["test"]) is in_test


def test_run_is_written_once_and_read_by_all(ranks):
    for answer in ranks:
        assert answer["kept"]["checkpoint"] == ranks[0]["kept"]["checkpoint"] is not None
        assert [line["phase_idx"] for line in answer["kept"]["history"]] == [0, 1, 2, 3]
        assert answer["kept"]["weights"] == ranks[0]["kept"]["weights"]


def test_generators_of_every_rank_are_kept(ranks):
    content = torch.load(os.path.join(ranks[0]["folder"], "published", "checkpoint.torch"), weights_only=True)
    assert len(content["ray_classy"]["rng"]) == len(ranks) == content["ray_classy"]["world_size"]


@pytest.mark.parametrize("what", ["rows 12", "rows 7", "rows 10", "few test rows", "weighted"])
def test_loss_of_a_test_phase_is_the_mean_over_its_rows(ranks, alone, what):
    assert all(answer[what]["loss"] == pytest.approx(alone[what]["loss"], abs=1e-6) for answer in ranks)


def test_resumed_ranks_end_where_the_others_did(ranks):
    for answer in ranks:
        assert answer["resumed"]["weights"] == answer["kept"]["weights"]


def test_resumed_ranks_add_up_in_the_same_order(ranks):
    for answer in ranks:
        whole, resumed = answer["whole and resumed"]
        assert whole == resumed


def test_all_ranks_raise_what_the_primary_found(ranks):
    assert all(answer["missing"] == "CheckpointNotFoundError" for answer in ranks)
    assert all(answer["taken"] == "RunFolderError" for answer in ranks)
