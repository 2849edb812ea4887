import copy
import pickle

import pytest
import torch

from ray_classy.config import check_config
from ray_classy.errors import CheckpointError, ComponentError, ConfigError
from ray_classy.optim import OPTIMIZER_REGISTRY, build_optimizer, build_optimizer_schedulers
from ray_classy.trainer import LocalTrainer
from tests.helpers import equal_weights, linear_model, make_task, run_ranks, train, weights
from tests.optim.test_trained_parameters import grouped
from tests.trainer.test_row_resume import Ledger, interrupted

LINEAR = {"name": "linear", "start_value": 0.2, "end_value": 0.0}
MUON = {"name": "Muon", "lr": 0.02, "param_schedulers": {"lr": LINEAR}}
ADAMW = {"name": "AdamW", "lr": 0.01, "weight_decay": 0.1}
BOTH = {
    "name": "by_pattern",
    "groups": [{"match": "*[34].weight", "lr_scale": 0.5}, {"ndim": 2, "optimizer": MUON}],
    "default": ADAMW,
}


def task_with(config, **options):
    task = make_task(batch_norm=True, **options)
    return task.set_optimizer(build_optimizer(config)).set_optimizer_schedulers(build_optimizer_schedulers(config, 1))


def test_each_parameter_belongs_to_the_first_entry_that_matches():
    optimizer, groups = grouped(BOTH)
    kinds = {name: "ns_steps" in group for name, group in groups.items()}
    assert [name for name, is_muon in kinds.items() if is_muon] == ["0.weight", "2.weight"]
    assert groups["4.weight"]["lr"] == 0.005 and groups["4.bias"]["lr"] == 0.01
    assert groups["1.weight"]["weight_decay"] == 0 and groups["2.bias"]["weight_decay"] == 0.1
    assert optimizer.type_name == "ByPattern(Muon, AdamW)"


def test_options_take_the_place_of_the_optimizers_own():
    config = {"name": "by_pattern", "groups": [{"ndim": [0, 1], "options": {"weight_decay": 0}}], "default": ADAMW}
    optimizer, groups = grouped(config, bn_weight_decay=True)
    assert {name: group["weight_decay"] for name, group in groups.items()} == {
        name: 0.1 if name.endswith("weight") and name != "1.weight" else 0 for name in groups
    }
    assert len(optimizer.optimizer._parts) == 1


def test_every_optimizer_makes_its_own_update():
    alone, both = (task_with(config) for config in (ADAMW, {**BOTH, "groups": BOTH["groups"][1:]}))
    train(alone), train(both)
    steps = both.optimizer.get_classy_state()["optim"]["state"].values()
    assert {frozenset(state) for state in steps} == {
        frozenset({"momentum_buffer"}),
        frozenset({"step", "exp_avg", "exp_avg_sq"}),
    }
    assert both.optimizer.options_view.lr != 0.02 and not equal_weights(weights(alone), weights(both))


def test_schedules_belong_to_their_optimizer():
    schedulers = build_optimizer_schedulers(BOTH, 2)
    assert list(schedulers) == ["groups.1.lr"]
    optimizer, groups = grouped(BOTH, schedulers=schedulers)
    optimizer.set_where(0.5)
    assert groups["0.weight"]["lr"] == pytest.approx(0.1) and groups["4.bias"]["lr"] == 0.01
    with pytest.raises(ComponentError, match=r"a schedule 'lr', .* groups\.1\.lr or default\.lr"):
        grouped(BOTH, schedulers={"lr": schedulers["groups.1.lr"]})
    wrong = {**MUON, "param_schedulers": {"momentun": LINEAR}}
    config = {**BOTH, "groups": [{"ndim": 2, "optimizer": wrong}]}
    with pytest.raises(ComponentError, match="Muon has no option 'momentun': did you mean 'momentum'"):
        grouped(config, schedulers=build_optimizer_schedulers(config, 1))


def test_layer_decay_is_for_all_or_for_one():
    _, groups = grouped({**BOTH, "layer_decay": 0.5})
    assert groups["0.weight"]["lr"] == pytest.approx(0.005) and groups["4.weight"]["lr"] == 0.005
    inner = [{"ndim": 2, "optimizer": {**MUON, "layer_decay": 0.1}}]
    _, groups = grouped({**BOTH, "groups": inner, "layer_decay": 0.5})
    assert groups["0.weight"]["lr"] == pytest.approx(2e-4) and groups["2.bias"]["lr"] == 0.005


@pytest.mark.parametrize("accumulate, clip", [(None, None), (8, 0.5)])
def test_a_run_that_is_interrupted_ends_as_one_that_was_not(tmp_path, accumulate, clip):
    def task(hook=None):
        made = task_with(BOTH, epochs=2, shuffle=True, hooks=[hook] if hook else [])
        return made.set_checkpoint_every(steps=2).set_simulated_global_batchsize(accumulate).set_clip_grad_norm(clip)

    whole, resumed = task(), task()
    LocalTrainer(str(tmp_path), "whole").train(whole)
    interrupted(str(tmp_path), task(Ledger(stop=9)))
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    assert equal_weights(weights(whole), weights(resumed))


def test_it_is_copied_and_pickled_with_its_state():
    task = train(task_with(BOTH))
    for other in (copy.deepcopy(task.optimizer), pickle.loads(pickle.dumps(task.optimizer))):
        joined = other.optimizer
        assert all(part.state is joined.state for part in joined._parts)
        assert [id(g) for part in joined._parts for g in part.param_groups] == [id(g) for g in joined.param_groups]
        assert len(joined.state) == len(task.optimizer.optimizer.state)


def test_a_checkpoint_of_other_optimizers_is_refused():
    state = train(task_with(BOTH)).optimizer.get_classy_state()
    other = task_with({**BOTH, "default": {"name": "SGD"}})
    other.prepare()
    with pytest.raises(CheckpointError, match=r"is ByPattern\(Muon, AdamW\), this one is ByPattern\(Muon, SGD\)"):
        other.optimizer.set_classy_state(state)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"groups": [{"match": "*9.weight"}]}, r"groups\.0: '\*9\.weight' matches no trained parameter"),
        ({"groups": [{"match": ["*0.weight", "2.weigth"]}]}, "did you mean '.*2.weight'"),
        ({"groups": [{"ndim": 4}]}, "matches no trained parameter with 4 dimensions"),
        ({"groups": [{"match": "*"}, {"ndim": 2}]}, r"groups\.1: all .* belong to entries before it"),
        ({"groups": [{"ndim": 2, "optimizer": ADAMW}], "default": None}, r"no entry matches 5 of 8 parameters \(model"),
        ({"groups": [{"ndim": 2}], "default": None}, r"groups\.0 has no `optimizer`, and there is no `default`"),
        ({"groups": [{"optimizer": ADAMW}]}, "needs `match`, a pattern"),
        ({"groups": [{"ndim": 2, "options": {"weight_dekay": 0}}]}, "did you mean 'weight_decay'"),
        ({"groups": [{"ndim": 2, "options": {"weight_decay": "0"}}]}, r"weight_decay: expected a number .*, not '0'"),
        ({"groups": [{"ndim": 2, "lr_scale": -1}]}, r"groups\.0\.lr_scale must be"),
        ({"groups": [{"ndim": 2, "lr": 1}]}, "unknown key 'lr'"),
        ({"groups": []}, "needs groups, a list"),
        ({"groups": [{"ndim": 2, "optimizer": {"name": "zero", "base_optimizer": ADAMW}}]}, "other than zero"),
    ],
)
def test_mistakes_are_named_with_their_place(change, message):
    with pytest.raises(ComponentError, match=message):
        grouped({**BOTH, **change})


def test_a_config_is_checked_down_to_the_options_of_each_optimizer():
    check_config(BOTH, OPTIMIZER_REGISTRY)
    for wrong, message in (
        (
            {"groups": [{"ndim": 2, "optimizer": {**MUON, "momentun": 0.9}}]},
            r"groups\.0\.optimizer\.momentun: .*'momentum'",
        ),
        ({"groups": [{"mach": "*"}]}, r"groups\.0\.mach: unknown key; did you mean 'match'"),
        ({"default": {"name": "AdaW"}}, r"default\.name: unknown optimizer 'AdaW': did you mean 'adamw'"),
        ({"param_schedulers": {}}, r"param_schedulers: unknown key.*groups\.1\.optimizer"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_config({**BOTH, **wrong}, OPTIMIZER_REGISTRY)


def test_parameters_without_names_are_refused():
    with pytest.raises(ComponentError, match="needs the names of the parameters"):
        build_optimizer(BOTH).set_param_groups(linear_model().parameters())


ADAGRAD = {"name": "Adagrad", "lr": 0.1}
LAMB = {"name": "by_pattern", "groups": [{"ndim": 2, "optimizer": {"name": "lamb"}}], "default": ADAGRAD}


def trained_on_ranks(config, strategy):
    task = task_with(config, batch=2, test=None, dtype=torch.float64).set_distributed_options(strategy=strategy)
    train(task)
    state = task.optimizer.get_classy_state()
    return {name: value.tolist() for name, value in weights(task).items()}, len(state["optim"]["state"])


def refused_by_fsdp(config):
    with pytest.raises(ComponentError, match=r"needs whole parameters, and distributed\.strategy 'fsdp'"):
        train(task_with(config).set_distributed_options(strategy="fsdp"))
    return True


@pytest.mark.full
@pytest.mark.parametrize("config", [BOTH, LAMB, ADAGRAD, {"name": "lamb"}, {"name": "Adafactor"}])
def test_zero_trains_as_ddp_does(config):
    (sharded, states), (whole, wanted) = (run_ranks(2, trained_on_ranks, config, way)[1] for way in ("zero", "ddp"))
    assert states == wanted == 6
    for name, value in whole.items():
        torch.testing.assert_close(torch.tensor(sharded[name]), torch.tensor(value), rtol=1e-9, atol=1e-12)


@pytest.mark.full
def test_fsdp_refuses_optimizers_that_need_whole_parameters():
    assert run_ranks(2, refused_by_fsdp, BOTH) == [True, True]
