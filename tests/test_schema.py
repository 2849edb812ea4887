"""The JSON schema and the page of components are those of the constructors; configs are valid, and mistakes are not."""

import json
import re
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from ray_classy.cli.list import KINDS as ALL_KINDS
from ray_classy.cli.schema import task_schema
from ray_classy.config import apply_overrides, load_config
from ray_classy.config.check import component_keys
from ray_classy.registry import Registry
from tests.test_configs import CONFIGS as RECIPES
from tests.test_configs import SWEEPS, command
from tests.test_moved_configs import CONFIGS as MOVED
from tests.test_moved_configs import KINDS

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from write_schema import OF_RAY, PAGE, SCHEMA, page

STALE = "is not that of the constructors: run `make docs`, and commit what it writes"


@pytest.fixture(scope="module")
def schema():
    """The schema of this package's components, without those that other tests have registered."""
    with pytest.MonkeyPatch.context() as patch:
        for registry in Registry.all.values():
            own = {name: cls for name, cls in registry._classes.items() if cls.__module__.startswith("ray_classy.")}
            patch.setattr(registry, "_classes", own)
        return task_schema()


@pytest.fixture(scope="module")
def mistake(schema):
    """Returns where the most relevant mistake in a config is; None if it has none."""
    from jsonschema.exceptions import best_match

    def find(config):
        error = best_match(Draft202012Validator(schema).iter_errors(json.loads(json.dumps(config))))
        return error and error.json_path.removeprefix("$.")

    return find


@pytest.fixture
def config():
    return load_config("recipe:digits")


@pytest.mark.full
def test_the_schema_is_one(schema):
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", RECIPES + SWEEPS, ids=lambda path: path.stem)
def test_a_recipe_is_valid_with_the_overrides_in_its_head(mistake, path):
    assert mistake(apply_overrides(load_config(path), command(path)[3:])) is None


@pytest.mark.parametrize("path", RECIPES + SWEEPS, ids=lambda path: path.stem)
def test_a_recipe_names_the_schema_for_editors(path):
    [file] = re.findall(r"^# yaml-language-server: \$schema=(.+)$", path.read_text(), re.MULTILINE)
    assert path.parent.joinpath(file).resolve() == SCHEMA


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.full] * (name not in KINDS)) for name in MOVED])
def test_a_config_of_classy_vision_is_valid(mistake, name):
    assert mistake(MOVED[name]) is None


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("num_epochs='3'", "num_epochs"),
        ("optimizer.weight_dekay=1", "optimizer"),
        ("optimizer.name=sgdd", "optimizer.name"),
        ("optimizer.param_schedulers.lr.name=cosin", "optimizer.param_schedulers.lr.name"),
        ("dataset.train.transforms.0.transforms.0.degrees=x", "dataset.train.transforms[0].transforms[0].degrees"),
        ("dataset.trian={}", "dataset"),
        ("meters={acuracy: {}}", "meters.acuracy"),
        ("meters={colour/accuracy: {top: 1}}", "meters['colour/accuracy']"),
        ("meters={mine: {name: accurac}}", "meters.mine.name"),
        ("dataset.split={tset: 0.2}", "dataset.split"),
        ("dataset.train.sampling={name: balance}", "dataset.train.sampling.name"),
        ("loss=CrossEntropyLoss", "loss"),
        ("model.heads.0.num_classes=ten", "model.heads[0].num_classes"),
        ("ray.num_worker=2", "ray"),
        ("ray.num_workers={search: randint, lower: 1, upper: 2}", "ray.num_workers"),
        ("optimizer.lr={search: uniform, lower: 1}", "optimizer.lr"),
        ("model={search: choice, categories: [{name: resne}]}", "model.categories[0].name"),
        ("tune.scheduler={name: asha, grace: 1}", "tune.scheduler"),
    ],
)
def test_a_mistake_is_found_where_it_is(mistake, config, override, where):
    assert mistake(apply_overrides(config, [override])) == where


@pytest.mark.parametrize(
    "overrides",
    [
        ["imports=[mine]", "model={name: mine, size: 3}", "meters={mine: {size: 3}}"],
        ["optimizer.lr={grid_search: [1, 2]}", "num_epochs={search: randint, lower: 1, upper: 3}"],
        ["model.num_classes=10", "hooks=null", "optimizer.lr=1"],
        ["dataset.split={test: 0.2}", "dataset.test={transforms: []}", "dataset.train.sampling={name: balanced}"],
    ],
)
def test_what_a_config_may_have_is_valid(mistake, config, overrides):
    assert mistake({**apply_overrides(config, overrides), "x-anchors": {"a": 1}}) is None


def ours():
    """The components of this package, and their titles in the schema."""
    for kind in ALL_KINDS.keys() - set(OF_RAY):
        for name, cls in Registry.all[kind].items():
            if cls.__module__.startswith("ray_classy."):
                yield f"{kind}.{name}", cls


def test_every_key_says_what_it_means(schema):
    keys = {f"{title}.{name}": key.doc for title, cls in ours() for name, key in (component_keys(cls) or {}).items()}
    assert [name for name, doc in keys.items() if not doc] == []


def of_ours(schema):
    """The definitions of these components, without what depends on other packages' versions."""
    titles = {title for title, _ in ours()}

    def pruned(value):
        if isinstance(value, list):
            return [pruned(one) for one in value]
        if not isinstance(value, dict):
            return value
        kept = {key: pruned(one) for key, one in value.items() if key != "tune"}
        refers = {key: (one.get("$ref") if isinstance(one, dict) else None) or "" for key, one in kept.items()}
        return {key: one for key, one in kept.items() if "." not in refers[key] or refers[key][8:] in titles}

    return {title: pruned(one) for title, one in schema["$defs"].items() if title in titles}


def test_the_schema_beside_the_recipes_is_up_to_date(schema):
    assert of_ours(json.loads(SCHEMA.read_text())) == of_ours(json.loads(json.dumps(schema))), f"{SCHEMA} {STALE}"


def test_the_page_of_components_is_up_to_date(schema):
    assert PAGE.read_text() == page(), f"{PAGE} {STALE}"
