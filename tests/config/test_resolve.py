import copy
import math
import random

import pytest
import yaml

from ray_classy.config import Config, check_config, dump_yaml, resolve
from ray_classy.config.yaml_text import parse_yaml
from ray_classy.errors import ConfigError
from ray_classy.registry import Key

from .test_load import DOCUMENTS, with_types
from .toys import ENGINES, MACHINE, machine


def read(text):
    return parse_yaml(text, "f.yaml")[0]


def test_defaults_are_filled_in_down_to_the_components():
    config = {"wheels": [{"radius": 1, "name": "round"}], "engine": {"name": "motor", "label": "a"}, "name": "car"}
    motor = {
        "name": "motor",
        "label": "a",
        "power": 1.5,
        "gears": [1.0, 2.0],
        "cooling": "air",
        "wheel": 1.0,
        "weight": None,
        "turbo": False,
        "rate_limit": None,
    }
    assert resolve(config, MACHINE) == {
        "name": "car",
        "wheels": [{"name": "round", "radius": 1, "spokes": 8, "hub": None}],
        "engine": motor,
        "speed": 1.0,
        "spares": {},
        "gauges": {},
        "lights": None,
        "notes": None,
    }


def test_the_order_is_name_then_given_then_defaults():
    resolved = resolve({"engine": {"power": 1, "name": "motor"}, "name": "car", "notes": 1}, MACHINE)
    assert list(resolved)[:4] == ["name", "engine", "notes", "speed"]
    assert list(resolved["engine"])[:3] == ["name", "power", "gears"]


def test_sections_and_unions_and_names_are_filled_in():
    config = machine(
        engine={"name": "motor", "wheel": [{"name": "round", "radius": 1}]},
        lights={"beam": 2},
        gauges={"round": {"radius": 3}},
        spares={"left": {"name": "round", "radius": 4}},
    )
    resolved = resolve(config, MACHINE)
    assert resolved["lights"] == {"beam": 2, "count": 2}
    assert resolved["gauges"] == {"round": {"radius": 3, "spokes": 8, "hub": None}}
    assert resolved["spares"]["left"]["spokes"] == resolved["engine"]["wheel"][0]["spokes"] == 8


def test_a_default_section_is_filled_in_too():
    assert resolve({"name": "declared", "volume": 1}, ENGINES)["options"] == {"depth": 3}


def test_unknown_keys_are_copied():
    assert resolve({"name": "secret", "x": [1]}, ENGINES, sections={"imports": Key(list[str], [])}) == {
        "name": "secret",
        "x": [1],
        "imports": [],
    }


def test_the_result_passes_the_check_and_resolves_to_itself():
    resolved = resolve(machine(wheels=[{"name": "round", "radius": 1}]), MACHINE)
    check_config(resolved, MACHINE)
    assert resolve(resolved, MACHINE) == resolved


def test_nothing_is_shared_with_the_config_or_the_schema():
    config = machine(notes=[{"a": 1}])
    before = copy.deepcopy(config)
    resolved = resolve(config, MACHINE)
    resolved["notes"][0]["a"] = 2
    resolved["spares"]["x"] = 1
    assert config == before
    assert MACHINE["spares"].default == {}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_written_yaml_reads_back_as_the_same_values(document):
    assert with_types(read(dump_yaml(document))) == with_types(document)


@pytest.mark.parametrize(
    "value",
    [
        *(1e-4, 1e-05, 1e16, 1e22, 1.0, -0.0, 5e-324, 123456789.125, math.inf, -math.inf, 0, -1, 10**25, True, None),
        *("1", "1e-4", "1E5", "-0.5", ".5", "1.", "010", "0x10", "1_000", "1:30", "2020-01-01", ".inf", ".nan", "nan"),
        *("true", "True", "yes", "no", "on", "y", "~", "null", "=", "<<"),
        *["", " ", "a: b", "# x", "a #b", "- a", "? a", "[1]", "{a: 1}", "*a", "&a", "!a", "%a", "@a", "`a", "'", '"'],
        *["a\nb", "a\n", "\n", "\ttab", "é", "日本", "🙂", "\x00", "\x7f", "\u2028", "\ufeff", "---", "...", "x" * 300],
        *[
            "a, b",
            "trailing ",
            "many words " * 40,
            "a:",
            ":a",
            "|",
            ">",
            "\\",
            "a\\nb",
            "0.1.2",
            "1e",
            "--",
            "\r\n",
            " a\n  b\n",
        ],
    ],
)
def test_any_scalar_survives_everywhere_in_a_document(value):
    document = {"a": value, "list": [value, [value]], "deep": {"b": [{"c": value}]}, str(value): 1}
    assert with_types(read(dump_yaml(document))) == with_types(document)


def test_random_text_survives():
    random_text = random.Random(0)
    alphabet = "abeE01.-+_:#,[]{}&*!|>'\"%@`~?= \n\t\\é\u2028"
    for _ in range(300):
        text = "".join(random_text.choices(alphabet, k=random_text.randint(0, 12)))
        document = {"a": text, "b": [text], text: {"c": text}}
        assert read(dump_yaml(document)) == document


def test_not_a_number_survives():
    assert math.isnan(read(dump_yaml({"a": math.nan}))["a"])


def test_strings_that_other_yaml_readers_take_for_values_are_quoted():
    document = {"a": "yes", "b": "010", "c": "1_000", "d": "2020-01-01"}
    assert yaml.safe_load(dump_yaml(document)) == document


def test_the_text_is_plain_to_read():
    document = {"name": "car", "engine": {"gears": (1, 2)}, "wheels": [{"name": "round", "radius": 1e-4}]}
    assert dump_yaml(document) == ("name: car\nengine:\n  gears: [1, 2]\nwheels:\n- name: round\n  radius: 0.0001\n")


def test_a_config_can_be_written_as_it_is():
    assert dump_yaml(Config({"a": Config({"b": 1})})) == "a:\n  b: 1\n"


def test_what_is_no_plain_value_cannot_be_written():
    with pytest.raises(ConfigError, match="cannot hold <class"):
        dump_yaml({"a": random.Random})


def test_repeated_objects_are_written_out():
    shared = {"x": [1]}
    assert "&" not in dump_yaml({"a": shared, "b": shared})
