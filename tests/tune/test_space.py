"""Search nodes in a config: where they may stand, what they give."""

import collections

import numpy as np
import pytest
from ray import tune

from ray_classy.config import load_config
from ray_classy.errors import ConfigError
from ray_classy.tune.domains import DOMAINS
from ray_classy.tune.space import Space

LR = {"search": "loguniform", "lower": 1e-4, "upper": 1.0}


def refusal(config):
    with pytest.raises(ConfigError) as caught:
        Space(config)
    return str(caught.value)


def draws(config, count, seed=0):
    space = Space(config)
    return [space.draw(index, seed) for index in range(count)]


def test_a_node_is_found_at_any_depth():
    space = Space({"a": {"b": [{"c": LR}]}, "d": LR})
    assert [node.name for node in space.nodes] == ["a.b.0.c", "d"]


def test_a_trial_config_has_the_value_in_the_nodes_place():
    space = Space({"a": {"b": [{"c": LR}]}})
    assert space.trial_config({"a.b.0.c": 0.5}) == {"a": {"b": [{"c": 0.5}]}}


def test_the_given_config_is_not_written_to():
    config = {"a": {"b": [1, LR]}}
    trial = Space(config).trial_config({"a.b.1": 0.5})
    trial["a"]["b"][0] = 9
    assert config == {"a": {"b": [1, LR]}}


def test_the_tune_section_is_no_part_of_a_trials_config():
    assert Space({"a": LR, "tune": {"num_samples": 3}}).trial_config({"a": 1.0}) == {"a": 1.0}


def test_rays_objects_stand_where_mappings_may():
    config = {"a": tune.loguniform(1e-4, 1.0), "b": tune.choice([1, 2]), "c": tune.grid_search([5, 6])}
    assert [node.name for node in Space(config).nodes] == ["a", "b", "c"]


def test_objects_and_mappings_give_the_same_draws():
    objects = {"a": tune.loguniform(1e-4, 1.0), "b": tune.choice([1, 2]), "c": tune.randint(0, 9)}
    mappings = {
        "a": LR,
        "b": {"search": "choice", "categories": [1, 2]},
        "c": {"search": "randint", "lower": 0, "upper": 9},
    }
    assert draws(objects, 20) == draws(mappings, 20)


@pytest.mark.parametrize("kind", sorted(DOMAINS))
def test_every_domain_of_ray_can_be_drawn_from(kind):
    examples = {"lower": 2, "upper": 40, "q": 2, "mean": 1.0, "sd": 2.0, "categories": [1, 2], "values": [1, 2]}
    node = {"search": kind, **{key: examples[key] for key in DOMAINS[kind]}}
    values = [draw["a"] for draw in draws({"a": node}, 10)]
    assert len(set(values)) > 1 and all(type(value) in (int, float) for value in values)
    if "q" in DOMAINS[kind]:
        assert all(value % 2 == 0 for value in values)


def test_a_draw_depends_on_its_number_and_the_seed_alone():
    space = Space({"a": LR, "b": {"search": "uniform", "lower": 0, "upper": 1}})
    later = [space.draw(7, 3), space.draw(2, 3)]
    assert [space.draw(2, 3), space.draw(7, 3)] == later[::-1]
    assert space.draw(2, 3) != space.draw(2, 4) and space.draw(2, 3) != space.draw(3, 3)


def test_another_node_does_not_change_what_a_node_draws():
    alone = draws({"a": LR}, 5)
    beside = draws({"a": LR, "b": {"search": "uniform", "lower": 0, "upper": 1}}, 5)
    assert [draw["a"] for draw in alone] == [draw["a"] for draw in beside]


def test_every_combination_of_a_grid_comes_once_per_round():
    grid = {"search": "grid_search", "values": [1, 2, 3]}
    config = {"a": grid, "b": {"search": "grid_search", "values": ["x", "y"]}, "c": LR}
    assert Space(config).grid_size == 6
    counts = collections.Counter((draw["a"], draw["b"]) for draw in draws(config, 12))
    assert len(counts) == 6 and set(counts.values()) == {2}
    assert len({draw["c"] for draw in draws(config, 12)}) == 12


def test_whole_components_are_chosen_by_their_name():
    config = {"model": {"search": "choice", "categories": [{"name": "mlp", "x": 1}, {"name": "resnet"}]}}
    space = Space(config)
    assert space.trial_config({"model": "mlp"}) == {"model": {"name": "mlp", "x": 1}}
    assert {draw["model"] for draw in draws(config, 20)} == {"mlp", "resnet"}


def test_choices_without_a_name_of_their_own_get_distinct_labels():
    categories = [{"name": "mlp", "x": 1}, {"name": "mlp", "x": 2}, [1, 2], [1, 2]]
    node = Space({"a": {"search": "choice", "categories": categories}}).nodes[0]
    assert len(node.labels) == 4 and [node.value(label) for label in node.labels] == categories


def test_a_node_inside_a_choice_counts_only_where_that_was_chosen():
    mlp = {"name": "mlp", "dropout": {"search": "uniform", "lower": 0.0, "upper": 0.5}}
    space = Space({"model": {"search": "choice", "categories": [mlp, {"name": "resnet"}]}})
    params = {"model": "mlp", "model.dropout": 0.25}
    assert space.trial_config(params) == {"model": {"name": "mlp", "dropout": 0.25}}
    assert space.trial_config({**params, "model": "resnet"}) == {"model": {"name": "resnet"}}
    assert space.active({**params, "model": "resnet"}) == {"model": "resnet"}


def test_nodes_of_one_place_in_two_choices_have_two_names():
    def of(name):
        return {"name": name, "width": {"search": "uniform", "lower": 0.0, "upper": 0.5}}

    space = Space({"model": {"search": "choice", "categories": [of("a"), of("b")]}})
    assert len({node.name for node in space.nodes}) == 3
    params = space.draw(0, 0) | {"model": "b"}
    assert space.trial_config(params)["model"] == {"name": "b", "width": params["model.width@b"]}


def test_a_function_sees_the_trials_config():
    config = {"lr": tune.choice([2.0]), "decay": tune.sample_from(lambda spec: spec.config["lr"] * 3)}
    assert Space(config).draw(0, 0) == {"lr": 2.0, "decay": 6.0}


def test_a_function_may_use_attributes():
    config = {"o": {"lr": tune.choice([2.0])}, "decay": tune.sample_from(lambda spec: spec.config.o.lr * 3)}
    assert Space(config).draw(0, 0)["decay"] == 6.0


def test_a_function_that_fails_is_told():
    with pytest.raises(ConfigError, match="cannot draw the values of trial 0: KeyError: 'b'"):
        Space({"a": tune.sample_from(lambda spec: spec.config["b"])}).draw(0, 0)


def test_a_range_of_rays_inside_a_choice():
    space = Space({"a": tune.choice([tune.uniform(0.0, 1.0), 3])})
    params = space.draw(0, 0)
    label = next(label for label in space.nodes[0].labels if label != 3)
    assert isinstance(label, str)
    assert space.trial_config({**params, "a": label}) == {"a": params[space.nodes[1].name]}


def test_labels_are_plain_values():
    space = Space({"a": tune.grid_search(np.arange(2))})
    node = space.nodes[0]
    assert space.described() == {"a": {"search": "grid_search", "values": [0, 1]}}
    assert [type(label) for label in node.labels] == [int, int]


def test_other_values_are_set_by_their_path():
    assert Space({"a": LR, "num_epochs": 1}).trial_config({"a": 1.0, "num_epochs": 4})["num_epochs"] == 4


def test_variants_show_every_choice_and_both_ends_of_every_range():
    config = {"a": LR, "b": {"search": "choice", "categories": ["x", "y", "z"]}}
    variants = list(Space(config).variants())
    assert {variant["a"] for variant in variants} == {1e-4, 1.0}
    assert {variant["b"] for variant in variants} == {"x", "y", "z"}


def test_the_upper_end_of_integers_is_not_given():
    variants = list(Space({"a": {"search": "randint", "lower": 1, "upper": 4}}).variants())
    assert {variant["a"] for variant in variants} == {1, 3}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"search": "loguniform", "lower": 1.0, "upper": 0.1}, "a.lower: lower is 1.0 and upper is 0.1"),
        ({"search": "loguniform", "lower": 0.0, "upper": 0.1}, "needs a lower bound above 0"),
        ({"search": "logunifrom", "lower": 0.1, "upper": 1.0}, "did you mean 'loguniform'"),
        ({"search": "uniform", "lower": 0.1}, "a.upper: missing"),
        ({"search": "uniform", "low": 0.1, "upper": 1.0}, "a.low: unknown key; did you mean 'lower'"),
        ({"search": "uniform", "lower": "0.1", "upper": 1.0}, "a.lower: expected a number"),
        ({"search": "randint", "lower": 0.5, "upper": 2}, "a.lower: expected an integer"),
        ({"search": "choice", "categories": []}, "a.categories: is empty"),
        ({"search": "quniform", "lower": 0.0, "upper": 1.0, "q": 0.0}, "a.q: must be above 0"),
        ({"search": "quniform", "lower": 0.05, "upper": 1.0, "q": 0.1}, "a: "),
    ],
)
def test_a_wrong_node_is_refused(node, message):
    assert message in refusal({"a": node})


def test_all_wrong_nodes_are_told_at_once():
    wrong = {"search": "uniform", "lower": 2, "upper": 1}
    text = refusal({"a": wrong, "b": {"c": wrong}})
    assert "a.lower" in text and "b.c.lower" in text


@pytest.mark.parametrize("path", ["tune", "ray", "imports"])
def test_structure_of_the_sweep_cannot_be_searched(path):
    assert "configures the sweep itself" in refusal({path: {"num_workers": LR}})


def test_a_grid_inside_a_choice_is_refused():
    inner = {"name": "mlp", "x": {"search": "grid_search", "values": [1, 2]}}
    assert "a grid inside a choice" in refusal({"model": {"search": "choice", "categories": [inner, {"name": "r"}]}})


def test_errors_carry_the_line_of_the_node(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("a:\n  search: uniform\n  lower: 2\n  upper: 1\n")
    assert refusal(load_config(file)).startswith(f"{file}:3: a.lower")


def test_a_value_that_came_out_of_a_node_has_the_nodes_line(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("a: 1\nb:\n  search: choice\n  categories:\n    - {name: x}\n    - {name: y,\n       z: 1}\n")
    trial = Space(load_config(file)).trial_config({"b": "y"})
    assert trial.marks[("b", "z")].line == 7 and trial.marks[("b",)].line == 6


def test_a_described_space_is_the_same_space():
    config = {
        "a": tune.qloguniform(1e-3, 1.0, 1e-3),
        "b": tune.choice([1, "x"]),
        "c": tune.grid_search([1, 2]),
        "d": tune.randn(0.0, 2.0),
        "e": [tune.lograndint(1, 100)],
    }
    described = Space(config).described()
    assert draws(described, 10) == draws(config, 10)
