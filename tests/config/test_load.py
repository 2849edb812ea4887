import copy
import io
import json
import math
import os
import pickle
import time

import pytest
import yaml

from ray_classy.config import Config, Mark, load_config
from ray_classy.config.yaml_text import parse_yaml, plain_value
from ray_classy.errors import ConfigError
from tests.data.record import RECORDED

DOCUMENTS = [
    {"a": 1, "b": -2, "c": 0, "d": 10**30},
    {"a": 0.1, "b": 1e-4, "c": 1e5, "d": -0.5, "e": 1.5e-300},
    {"a": True, "b": False, "c": None},
    {"a": "yes", "b": "1e-4", "c": "010", "d": "", "e": "null", "f": "~", "g": "2020-01-01"},
    {"a": [], "b": {}, "c": [[], {}, [1, [2.5]]]},
    {"a.b": 1, "1": 2, "true": 3, "": 4, "<<": 5, "key with spaces": 6},
    {"text": 'é "quoted" \\ / \n\t # no: comment', "other": "'single'"},
    {"name": "t", "dataset": {"train": {"transforms": [{"name": "x", "mean": [0.5, 0.5]}, {"name": "y"}]}}},
]


def written(tmp_path, text, name="c.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path):
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value).replace(str(path.parent) + "/", "")


def with_types(value):
    """The value with the type of everything in it, since 1 == 1.0 == True."""
    if isinstance(value, dict):
        return {key: with_types(item) for key, item in value.items()}
    return [with_types(item) for item in value] if isinstance(value, list) else (type(value), value)


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_and_yaml_give_the_same_values(tmp_path, document, indent):
    text = json.dumps(document, indent=indent)
    from_json = load_config(written(tmp_path, text, "c.json"))
    from_yaml = load_config(written(tmp_path, text, "c.yaml"))
    assert with_types(dict(from_json)) == with_types(dict(from_yaml)) == with_types(json.loads(text))


def test_block_yaml_equals_json(tmp_path):
    block = written(tmp_path, "name: t\nlist:\n- 1e-4\n- x: 010\n  y: ~\nempty:\n", "c.yml")
    flow = written(tmp_path, '{"name": "t", "list": [1e-4, {"x": "010", "y": null}], "empty": null}', "c.json")
    assert with_types(dict(load_config(block))) == with_types(dict(load_config(flow)))


@pytest.mark.parametrize(
    "text, value",
    [
        ("0", 0),
        ("-7", -7),
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("1e+5", 1e5),
        ("-0.5", -0.5),
        ("1.0", 1.0),
        ("true", True),
        ("TRUE", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
    ],
)
def test_plain_scalars_that_are_values(text, value):
    assert with_types(plain_value(text)) == with_types(value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "010",
            "0x10",
            "0o7",
            "0b1",
            "1_000",
            "1:30",
            ".5",
            "5.",
            "+1",
            "1e",
            "1.e5",
            "--1",
            "inf",
            "NaN",
            "Infinity",
        ),
        *("yes", "no", "on", "off", "Yes", "y", "n", "tRUE", "2020-01-01", "-", "="),
    ],
)
def test_plain_scalars_that_are_strings(text):
    assert parse_yaml(f"a: {text}" if text != "-" else "a: '-'", "f")[0] == {"a": text}


def test_not_a_number_is_written_as_in_yaml():
    assert math.isnan(plain_value(".nan"))


def test_quotes_make_a_string():
    assert parse_yaml("a: '1'\nb: \"true\"\nc: |-\n  2\n", "f")[0] == {"a": "1", "b": "true", "c": "2"}


def test_core_tags_are_obeyed():
    assert with_types(parse_yaml("a: !!str 1\nb: !!float 1\nc: !!int '3'", "f")[0]) == with_types(
        {"a": "1", "b": 1.0, "c": 3}
    )


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_keys_and_elements_are_marked_with_their_line(tmp_path, suffix):
    text = '{"a": 1,\n "dataset": {\n  "train":\n   {"transforms": [\n    {"name": "x"},\n    3]}}}'
    path = str(written(tmp_path, text, f"c.{suffix}"))
    config = load_config(path)
    assert config.file == path
    assert {key: mark.line for key, mark in config.marks.items()} == {
        (): 1,
        ("a",): 1,
        ("dataset",): 2,
        ("dataset", "train"): 3,
        ("dataset", "train", "transforms"): 4,
        ("dataset", "train", "transforms", 0): 5,
        ("dataset", "train", "transforms", 0, "name"): 5,
        ("dataset", "train", "transforms", 1): 6,
    }
    assert str(config.marks["dataset",]) == f"{path}:2"


def test_aliases_and_merge_keys_give_copies_of_their_own(tmp_path):
    path = written(tmp_path, "base: &b {x: 1, y: [2]}\nsame: *b\nmore:\n  <<: *b\n  x: 3\n")
    config = load_config(path)
    assert config == {"base": {"x": 1, "y": [2]}, "same": {"x": 1, "y": [2]}, "more": {"x": 3, "y": [2]}}
    assert config["base"]["y"] is not config["same"]["y"] is not config["more"]["y"]
    assert config.marks["more", "y"].line == 1
    assert config.marks["more", "x"].line == 5


def test_the_first_of_several_merged_sections_wins():
    assert parse_yaml("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}", "f")[0]["c"] == {"x": 1, "y": 2}


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_key_that_stands_twice_is_refused(tmp_path, suffix):
    path = written(tmp_path, '{"o": {"lr": 1,\n "lr": 1}}', f"c.{suffix}")
    assert (
        refusal(path) == f"c.{suffix}:2: o.lr: the key stands here a second time (first on line 1); keep one of the two"
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\n2: 3", 'c.yaml:2: the key 2 is no string; put it in quotes: "2"'),
        ("a: {true: 3}", 'c.yaml:1: a: the key true is no string; put it in quotes: "true"'),
        ("a:\n  b: !!set {x}", "c.yaml:2: a.b: unknown tag !!set; write plain values without tags"),
        ("a: !here x", "c.yaml:1: a: !here cannot stand before 'x'; write the plain value"),
        ("a: !!int x", "c.yaml:1: a: !!int cannot stand before 'x'; write the plain value"),
        ("a: &a [*a]", "c.yaml:1: a.0: the alias stands inside what it repeats; write the value out"),
        ("a: &a {<<: *a}", "c.yaml:1: a: a section cannot be merged into itself"),
        ("a: {<<: 3}", "c.yaml:1: a: `<<` merges a mapping or a list of them: `<<: *anchor`"),
        ("- 1", "c.yaml:1: a config is a mapping from keys to values, this is a list"),
        ("text", "c.yaml:1: a config is a mapping from keys to values, this is text"),
        ("# only this", "c.yaml:1: a config is a mapping from keys to values, this is empty"),
        ("\n", "c.yaml:1: the file is empty; a config is a mapping that begins with `name:`"),
    ],
)
def test_what_the_dialect_does_not_have_is_refused(tmp_path, text, message):
    assert refusal(written(tmp_path, text)) == message


@pytest.mark.parametrize(
    "text, place, remedy",
    [
        ("a: 1\nb: [1", "c.yaml:3:1", "that began on line 2 (check indentation, quotes and brackets"),
        ("a: @x", "c.yaml:1:4", "a special character in quotes"),
        ("a:\n\tb: 1", "c.yaml:2:1", "indent with spaces"),
        ("a: b: c", "c.yaml:1:5", "in quotes"),
        ("a: *x", "c.yaml:1:4", "an alias needs its anchor"),
        ("a: 1\n---\nb: 2", "c.yaml:2:1", "remove the second '---'"),
    ],
)
def test_broken_yaml_is_told_with_line_column_and_remedy(tmp_path, text, place, remedy):
    message = refusal(written(tmp_path, text))
    assert message.startswith(place + ":")
    assert remedy in message


def test_broken_json_is_told_with_line_column_and_remedy(tmp_path):
    message = refusal(written(tmp_path, '{"a": 1,\n "b": 2,}', "c.json"))
    assert message.startswith("c.json:2:")
    assert "trailing commas" in message


@pytest.mark.parametrize("levels", [65, 900, 100_000])
@pytest.mark.parametrize("name", ["c.json", "c.yaml"])
def test_endless_nesting_is_refused(tmp_path, name, levels):
    assert "nested too deeply" in refusal(written(tmp_path, '{"a": ' + "[" * levels + "]" * levels + "}", name))


@pytest.mark.parametrize("text", ["[", "{a: ", "- ", "? ", "&a [", "!!seq [", "'a': ["])
def test_endless_nesting_ends_no_process(tmp_path, text):
    refusal(written(tmp_path, text * 100_000))


@pytest.mark.parametrize("name", ["c.json", "c.yaml"])
@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 301, "1e999", "-1e400"])
def test_numbers_out_of_range_are_refused(tmp_path, name, number):
    assert refusal(written(tmp_path, f'{{"a":\n{number}}}', name)).startswith(f"{name}:2")


def test_aliases_that_explode_are_refused(tmp_path):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 9)]
    assert "use fewer aliases" in refusal(written(tmp_path, "\n".join(lines)))


def test_merges_that_explode_are_refused(tmp_path):
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 8)}], k{n}: {n}}}" for n in range(1, 60)]
    began = time.monotonic()
    assert load_config(written(tmp_path, "\n".join(lines)))["a59"]["x"] == 1
    lines = [f"a: &a {{{', '.join(f'k{n}: 1' for n in range(1000))}}}", f"b: {{<<: [{', '.join(['*a'] * 10_000)}]}}"]
    assert "use fewer aliases" in refusal(written(tmp_path, "\n".join(lines)))
    assert time.monotonic() - began < 10


def test_aliases_of_long_text_that_explode_are_refused(tmp_path):
    text = f"a: &a {'x' * 10**6}\nb: [{', '.join(['*a'] * 1000)}]"
    assert "use fewer" in refusal(written(tmp_path, text))


@pytest.mark.parametrize("name", ["c.json", "c.yaml"])
def test_as_many_values_as_a_file_has_are_read(tmp_path, name):
    classes = [f"c{n}" for n in range(110_000)]
    assert load_config(written(tmp_path, json.dumps({"classes": classes}), name))["classes"] == classes


def test_top_level_keys_for_anchors_are_ignored(tmp_path):
    text = "x-sgd: &sgd {name: sgd, lr: 0.1}\noptimizer: {<<: *sgd, lr: 0.2}\nmodel: {x-y: 1}\n"
    assert load_config(written(tmp_path, text)) == {"optimizer": {"name": "sgd", "lr": 0.2}, "model": {"x-y": 1}}


@pytest.mark.parametrize("text", ['{"a":\n["x${HOME}"]}', '{\n"a": "${model.dim}"}', '{"a":\n{"${x}": 1}}'])
@pytest.mark.parametrize("name", ["c.json", "c.yaml"])
def test_a_variable_that_nothing_replaces_is_refused(tmp_path, name, text):
    message = refusal(written(tmp_path, text, name))
    assert message.startswith(f"{name}:2: a") and "on the command line, where the shell replaces variables" in message


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', '{"\\udce9": 1}'])
@pytest.mark.parametrize("name", ["c.json", "c.yaml"])
def test_text_that_is_not_unicode_is_refused(tmp_path, name, text):
    refusal(written(tmp_path, text, name))


def test_a_config_is_read_from_standard_input(monkeypatch):
    for text in ('{"a":\t[1],\n"b": 2}', "a: [1]\nb: 2\n", "{a: [1], \nb: 2}"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        config = load_config("-")
        assert config == {"a": [1], "b": 2} and str(config.marks["b",]) == "<stdin>:2"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(ConfigError, match="<stdin>:1: the file is empty"):
        load_config("-")


def test_a_config_is_read_from_a_store(s3):
    config = load_config(s3.put("c.yaml", b"a: 1"))
    assert config == {"a": 1} and "secret" not in str(config.marks["a",])
    with pytest.raises(ConfigError, match=r"c.json.*there is no such file"):
        load_config(s3.url("c.json"))
    with pytest.raises(ConfigError, match="use a local path, or a URL"):
        load_config("nope://c.yaml")


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    assert "not a regular file" in refusal(tmp_path / "pipe.yaml")
    assert "not a regular file" in refusal(tmp_path / "zero.yaml")


def test_a_file_that_is_too_large_is_refused(tmp_path):
    with (tmp_path / "c.yaml").open("wb") as file:
        file.truncate(2**30)
    assert "at most 64 MiB" in refusal(tmp_path / "c.yaml")


def test_a_missing_file_names_its_neighbours(tmp_path):
    written(tmp_path, "a: 1", "digits.yaml")
    assert refusal(tmp_path / "digit.yaml").endswith("no such file; did you mean 'digits.yaml'?")
    assert refusal(tmp_path / "digits.json").endswith("did you mean 'digits.yaml'?")
    assert refusal(tmp_path / "zzz.json").endswith("config files there: digits.yaml")
    assert "there is no folder" in refusal(tmp_path / "sub" / "digits.yaml")


def test_an_unknown_suffix_names_the_known_ones(tmp_path):
    assert (
        refusal(tmp_path / "a.toml")
        == "a.toml: the name of a config file ends in .json, .yaml or .yml, and this name ends in '.toml'"
    )


def test_a_folder_and_binary_files_are_refused(tmp_path):
    (tmp_path / "f.yaml").mkdir()
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    assert "it is a folder" in refusal(tmp_path / "f.yaml")
    assert "UTF-8" in refusal(tmp_path / "b.json")


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "b.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert load_config(tmp_path / "b.json") == {"a": 1}


def test_a_config_survives_copying_and_pickling():
    config = Config({"a": [1]}, "f.yaml", {("a",): Mark("f.yaml", 1)})
    for twin in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config
        assert (twin.file, twin.marks) == (config.file, config.marks)


def test_the_values_do_not_depend_on_the_c_parser(tmp_path):
    """PyYAML may come without its C extension."""
    from ray_classy.config import yaml_text

    class PureLoader(yaml.SafeLoader):
        yaml_implicit_resolvers = yaml_text._ConfigLoader.yaml_implicit_resolvers

    text = "a: 1e-4\nb: [yes, 010, ~, '1']\nc: &c {<<: {x: 1}}\nd: *c\ne:\n"
    node = PureLoader(text).get_single_node()
    assert yaml_text._Construct("f", 99, 99).value(node, ()) == parse_yaml(text, "f")[0]


def test_a_name_without_an_ending_is_told_what_may_be_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.yaml").write_text("name: x")
    (tmp_path / "empty").mkdir()
    for name, told in (
        ("configs/digits", "; did you mean 'configs/digits.yaml'?"),
        ("configs", "; it is a folder, with the configs digits.yaml"),
        ("empty", "; it is a folder"),
        ("nowhere/x", "; there is no folder 'nowhere' either"),
        (
            str(RECORDED / "finished"),
            f"; it is the folder of a run: to resume it, give --resume {RECORDED / 'finished'}",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(name)
        assert str(caught.value).endswith(f"and this name has no such ending{told}")
