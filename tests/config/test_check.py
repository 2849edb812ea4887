import copy

import pytest

from ray_classy.config import (
    Config,
    Mark,
    Problem,
    check_component,
    check_config,
    former_keys_used,
    load_config,
    problems_in,
    raise_problems,
)
from ray_classy.errors import ConfigError
from ray_classy.optim import ClassyOptimizer
from ray_classy.registry import Key
from ray_classy.tasks import TASK_REGISTRY

from .toys import ENGINES, MACHINE, WHEELS, machine

MOTOR = "power, fuel, gears, cooling, wheel, weight, turbo, label, rate_limit"


def lines(config, schema=MACHINE, **more):
    """The problems as `path: message`."""
    return [".".join(map(str, one.path)) + ": " + one.message for one in problems_in(config, schema, **more)]


def motor(**arguments):
    return lines({"name": "motor", **arguments}, ENGINES)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"speed": 3, "notes": object(), "lights": {"beam": 1}},
        {"wheels": [{"name": "round", "radius": 1}], "spares": {"a": {"name": "round", "radius": 2.5}}},
        {"gauges": {"round": {"radius": 1}}, "lights": None, "notes": None},
        {"engine": {"name": "motor", "wheel": {"name": "round", "radius": 1, "hub": {"name": "round", "radius": 2}}}},
        {"engine": {"name": "motor", "wheel": [{"name": "round", "radius": 1}], "weight": [[1, 2.5]]}},
        {"engine": {"name": "motor", "wheel": 2, "fuel": "DIESEL", "gears": [1, 2], "rate_limit": [1, 2]}},
        {"engine": {"name": "secret", "whatever": 1}},
        {"engine": {"name": "declared", "volume": 1, "options": {"depth": 2}}},
    ],
)
def test_a_good_config_passes(changes):
    assert check_config(machine(**changes), MACHINE) is None


def test_an_unknown_key_tells_the_nearest_and_all():
    assert motor(powr=1) == [f"powr: unknown key; did you mean 'power'? (motor takes {MOTOR})"]


def test_an_unknown_key_without_a_near_one_tells_all():
    assert motor(zzz=1) == [f"zzz: unknown key (motor takes {MOTOR})"]


@pytest.mark.parametrize(
    "key, known",
    [("lerning_rate", "lr"), ("wd", "weight_decay"), ("end", "end_value"), ("batch_size", "batchsize_per_replica")],
)
def test_short_forms_count_as_near(key, known):
    assert lines({key: 1}, {known: Key(int, 1)}) == [
        f"{key}: unknown key; did you mean '{known}'? (the config takes {known})"
    ]


@pytest.mark.parametrize("changes", [{"engine": {"name": "motor", "power:3": None}}, {"engine": {"name:motor": None}}])
def test_a_missing_space_after_a_colon_is_named(changes):
    with pytest.raises(ConfigError, match=r"; a space is missing after the colon$"):
        check_config(machine(**changes), MACHINE)


def test_a_key_of_another_section_is_sent_there():
    config = machine(power=1, lights={"beam": 1, "speed": 2}, engine={"name": "motor", "count": 1})
    assert sorted(line.split(" (")[0] for line in lines(config)) == [
        "engine.count: unknown key; it belongs under `lights`",
        "lights.speed: unknown key; it belongs at the top level",
        "power: unknown key; it belongs under `engine`",
    ]


def test_a_key_that_another_component_takes_is_said_to_be_its():
    [line] = lines(machine(engine={"name": "declared", "volume": 1, "power": 1}))
    assert line.startswith("engine.power: unknown key; of the toy_engines, motor takes it (declared takes ")


def test_a_short_form_of_a_key_of_another_section_is_found():
    assert lines(machine(rate=1))[0].startswith("rate: unknown key; did you mean `engine.rate_limit`? (")
    assert lines(machine(zzzz=1))[0].startswith("zzzz: unknown key (")


def test_a_name_is_sent_to_the_components_of_its_section():
    config = {"name": "classification_task", "dataset": {"name": "digits", "train": {"batchsize_per_replica": 1}}}
    found = [problem for problem in problems_in(config, TASK_REGISTRY) if problem.path == ("dataset", "name")]
    assert found[0].message.startswith("unknown key; it belongs under `dataset.train` or under `dataset.test` (")


def test_a_name_alone_where_a_component_may_be_missing_is_told_its_form():
    [problem] = problems_in({"it": "adam"}, {"it": Key(ClassyOptimizer | None)})
    assert problem.message == "expected an optimizer config or null, not 'adam'; write {name: adam}"


def test_a_key_of_an_absent_section_is_sent_there():
    assert lines(machine(beam=1))[0].startswith("beam: unknown key; it belongs under `lights` (")


def test_a_missing_key_stands_at_its_section():
    assert lines({"name": "car"}) == ["engine: missing; the config requires it: a toy_engine config"]
    assert lines(machine(lights={})) == ["lights.beam: missing; lights requires it: a number"]
    assert lines(machine(wheels=[{"name": "round"}])) == ["wheels.0.radius: missing; round requires it: a number"]


def test_an_unknown_component_tells_the_nearest():
    [line] = lines(machine(engine={"name": "moter"}))
    assert line.startswith("engine.name: unknown toy_engine 'moter': did you mean 'motor'?")
    [line] = lines(machine(gauges={"rond": {}}))
    assert line.startswith("gauges.rond: unknown toy_wheel 'rond': did you mean 'round'?")


@pytest.mark.parametrize(
    "engine, message",
    [
        ({}, "engine.name: missing; it chooses the toy_engine (declared, motor, secret)"),
        ({"name": None}, "engine.name: expected the name of a toy_engine, not null"),
        ({"name": ["motor"]}, 'engine.name: expected the name of a toy_engine, not ["motor"]'),
        (
            "motor",
            "engine: expected a toy_engine config, a mapping with a `name`, not 'motor'; write {name: motor}",
        ),
        ("bus", "engine: expected a toy_engine config, a mapping with a `name`, not 'bus'"),
        (["motor"], 'engine: expected a toy_engine config, a mapping with a `name`, not ["motor"]'),
        (None, "engine: expected a toy_engine config, a mapping with a `name`, not null"),
        (3, "engine: expected a toy_engine config, a mapping with a `name`, not 3"),
    ],
)
def test_what_is_no_component_config(engine, message):
    assert lines(machine(engine=engine)) == [message]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"wheels": {"name": "round"}}, 'wheels: expected a list of toy_wheel configs, not {"name": "round"}'),
        ({"wheels": None}, "wheels: expected a list of toy_wheel configs, not null"),
        ({"wheels": "round"}, "wheels: expected a list of toy_wheel configs, not 'round'; write [{name: round}]"),
        ({"wheels": "square"}, "wheels: expected a list of toy_wheel configs, not 'square'"),
        (
            {"gauges": "round"},
            "gauges: expected a mapping from toy_wheel names to their arguments, not 'round'; write {round: {}}",
        ),
        ({"spares": []}, "spares: expected a mapping from names to toy_wheel configs, not []"),
        ({"lights": "on"}, "lights: expected a mapping, not 'on'; its keys are beam, count"),
        ({"lights": [1]}, "lights: expected a mapping, not [1]; its keys are beam, count"),
        ({"gauges": ["round"]}, 'gauges: expected a mapping from toy_wheel names to their arguments, not ["round"]'),
        (
            {"gauges": {"round": None}},
            "gauges.round: expected a mapping of arguments, not null; write round: {} for none",
        ),
        ({"speed": "fast"}, "speed: expected a number, not 'fast'"),
        ({"speed": None}, "speed: expected a number, not null"),
    ],
)
def test_what_is_no_section(changes, message):
    assert lines(machine(**changes)) == [message]


@pytest.mark.parametrize("config", ["text", [1], None, 3])
def test_what_is_no_config_at_all(config):
    assert len(problems_in(config, MACHINE)) == len(problems_in(config, ENGINES)) == 1


def test_keys_that_are_no_strings_are_told():
    assert lines(machine(lights={"beam": 1, 3: 1})) == ["lights.3: unknown key (lights takes beam, count)"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"power": "1e-3"}, "power: expected a number, not '1e-3'; write 0.001 without quotes"),
        ({"power": True}, "power: expected a number, not true"),
        ({"fuel": "wood"}, "fuel: expected one of 'petrol', 'diesel', not 'wood'"),
        ({"gears": [1, 2, 3]}, "gears: expected a list of 2 numbers, not [1, 2, 3]"),
        ({"cooling": "oil"}, "cooling: expected one of 'air', 'water', not 'oil'"),
        ({"turbo": "yes"}, "turbo: expected true or false, not 'yes'; write true"),
        ({"turbo": 1}, "turbo: expected true or false, not 1"),
        ({"label": 1}, "label: expected a string, not 1"),
        ({"weight": "x"}, "weight: expected a number or a (nested) list of numbers or null, not 'x'"),
        ({"rate_limit": [1.5]}, "rate_limit: expected a number, a list of integers or null, not [1.5]"),
        (
            {"wheel": "x"},
            "wheel: expected a toy_wheel config, a number or a list of toy_wheel configs, not 'x'",
        ),
        ({"wheel": {"name": "round"}}, "wheel.radius: missing; round requires it: a number"),
        ({"wheel": [{"name": "round", "radius": "x"}]}, "wheel.0.radius: expected a number, not 'x'"),
    ],
)
def test_a_wrong_value_tells_what_was_expected(arguments, message):
    assert motor(**arguments) == [message]


def test_all_problems_are_told_in_the_order_of_lines(tmp_path):
    path = tmp_path / "car.yaml"
    path.write_text(
        "name: car\nspeed: fast\nwheels:\n- name: round\n  radius: 1\n- name: rond\nengine:\n  name: motor\n  powr: 2\n"
    )
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(path), MACHINE)
    told = str(caught.value).replace(str(tmp_path) + "/", "").splitlines()
    assert told[0] == "car.yaml:2: speed: expected a number, not 'fast'"
    assert told[1].startswith("car.yaml:6: wheels.1.name: unknown toy_wheel 'rond': did you mean 'round'?")
    assert told[2] == f"car.yaml:9: engine.powr: unknown key; did you mean 'power'? (motor takes {MOTOR})"
    assert len(told) == 3


def test_a_missing_key_has_the_line_of_its_section(tmp_path):
    path = tmp_path / "car.json"
    path.write_text('{"name": "car",\n "engine":\n  {"name": "declared"}}')
    with pytest.raises(ConfigError, match=r"car.json:2: engine.volume: missing; declared requires it: an integer"):
        check_config(load_config(path), MACHINE)


def test_an_override_is_named_as_the_origin():
    config = Config(machine(speed="x"), "f.yaml", {("speed",): Mark("override 'speed=x'")})
    with pytest.raises(ConfigError, match=r"^override 'speed=x': speed: expected a number, not 'x'$"):
        check_config(config, MACHINE)


def test_without_a_file_the_message_says_config():
    with pytest.raises(ConfigError, match=r"^config: speed: expected a number"):
        check_config(machine(speed="x"), MACHINE)
    with pytest.raises(ConfigError, match=r"^config: this is wrong$"):
        raise_problems([Problem((), "this is wrong")], {})


def test_no_problems_raise_nothing():
    assert raise_problems([], {}) is None


def test_a_component_is_checked_where_it_stands():
    [problem] = check_component(WHEELS, {"name": "round", "radius": "x"}, ("wheels", 3))
    assert problem == Problem(("wheels", 3, "radius"), "expected a number, not 'x'")


def test_shared_sections_may_stand_beside_a_components_keys():
    shared = {"imports": Key(list[str], [])}
    assert lines({"name": "motor", "imports": ["a"]}, ENGINES, sections=shared) == []
    assert lines({"name": "secret", "imports": 3, "x": 1}, ENGINES, sections=shared) == [
        "imports: expected a list of strings, not 3"
    ]
    assert "motor takes power" in lines({"name": "motor", "x": 1}, ENGINES, sections=shared)[0]


def test_former_keys_are_accepted_and_listed():
    config = machine(wheels=[{"name": "round", "radius": 1, "colour": "red"}])
    assert lines(config) == []
    assert former_keys_used(config, MACHINE) == [(("wheels", 0, "colour"), "Round")]


def test_a_class_that_takes_anything_is_given_anything():
    assert lines({"name": "spare", "x": 1}, WHEELS) == []


def test_declared_keys_are_checked():
    assert lines({"name": "declared", "volume": 1, "options": {"depth": "x"}}, ENGINES) == [
        "options.depth: expected an integer, not 'x'"
    ]


def test_the_config_stays_as_it_is():
    config = machine(wheels=[{"name": "round", "radius": "x", "colour": 1}], gauges={"round": {"radius": 1}}, bad=1)
    before = copy.deepcopy(config)
    problems_in(config, MACHINE)
    assert config == before
