import copy

import pytest

from ray_classy.config import Config, Mark, apply_overrides, mark_of
from ray_classy.errors import ConfigError


def base():
    marks = {("optimizer",): Mark("f.yaml", 3), ("optimizer", "lr"): Mark("f.yaml", 4), ("list", 0): Mark("f.yaml", 6)}
    return Config({"optimizer": {"name": "sgd", "lr": 0.1}, "list": [{"size": 1}, 2], "none": None}, "f.yaml", marks)


def refusal(*overrides):
    with pytest.raises(ConfigError) as caught:
        apply_overrides(base(), overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-3", 1e-3),
        ("[1, 2]", [1, 2]),
        ("{name: sgd, lr: 1}", {"name": "sgd", "lr": 1}),
        ("word", "word"),
        ("yes", "yes"),
        ("true", True),
        ("", None),
        ("'1'", "1"),
        ("a=b", "a=b"),
        ("set #2", "set #2"),
        ("#2", "#2"),
        ("[a #1, '#2', \"x # y\"]", ["a #1", "#2", "x # y"]),
        ("{a: b #c}", {"a": "b #c"}),
        ("'a # b'", "a # b"),
        ("a: b", "a: b"),
        ("- a", "- a"),
        ("*a", "*a"),
        ("&a b", "&a b"),
        ("!a b", "!a b"),
        ("@a", "@a"),
        ("%a", "%a"),
        ("|", "|"),
        ("---", "---"),
        ("? a", "? a"),
        ("it's", "it's"),
        (" a ", " a "),
        (" 0.5 ", 0.5),
        (" [1] ", [1]),
        ("a\nb", "a\nb"),
        ("data-{000..010}.tar", "data-{000..010}.tar"),
        ("[&a 1, *a]", [1, 1]),
        ("\ue000#", "\ue000#"),
        ("'\ue000#'", "\ue000#"),
    ],
)
def test_the_value_is_all_that_follows_the_sign(text, value):
    assert apply_overrides(base(), [f"optimizer.lr={text}"])["optimizer"]["lr"] == value


def test_a_list_element_is_named_by_its_number():
    assert apply_overrides(base(), ["list.0.size=5", "list.1=7"])["list"] == [{"size": 5}, 7]


def test_missing_and_empty_sections_are_created():
    config = apply_overrides(base(), ["mixup.alpha=0.2", "none.deep.er=1"])
    assert config["mixup"] == {"alpha": 0.2}
    assert config["none"] == {"deep": {"er": 1}}


def test_later_overrides_see_earlier_ones():
    assert apply_overrides(base(), ["a=[{b: 1}]", "a.0.b=2"])["a"] == [{"b": 2}]


def test_the_given_config_stays_as_it_is():
    config = base()
    before = copy.deepcopy(config)
    apply_overrides(config, ["optimizer.lr=1", "list.0.size=2", "new.x=1"])
    assert config == before
    assert config.marks == before.marks


def test_the_origin_is_the_override():
    config = apply_overrides(base(), ["optimizer={name: adam}"])
    assert str(mark_of(config, ("optimizer", "name"))) == "override 'optimizer={name: adam}'"
    assert ("optimizer", "lr") not in config.marks
    assert config.marks["list", 0] == Mark("f.yaml", 6)


def test_a_section_made_on_the_way_has_that_origin_too():
    config = apply_overrides(base(), ["mixup.mode=elem"])
    assert str(mark_of(config, ("mixup", "alpha"))) == "override 'mixup.mode=elem'"
    assert mark_of(config, ("optimizer", "momentum")) == Mark("f.yaml", 3)


def test_a_plain_dict_can_be_overridden_too():
    config = apply_overrides({"a": 1}, ["a=2"])
    assert (config, config.file) == ({"a": 2}, None)


def test_a_position_behind_the_end_is_refused():
    assert refusal("list.2=1") == "override 'list.2=1': list is a list with positions 0 to 1; '2' is none of them"


def test_a_word_is_no_position():
    assert "'size' is none of them" in refusal("list.size=1")


def test_a_scalar_cannot_be_entered():
    assert refusal("optimizer.lr.x=1") == (
        "override 'optimizer.lr.x=1': optimizer.lr is 0.1, not a section, so it has no 'x'; "
        "set the whole: optimizer.lr={x: ...}"
    )


@pytest.mark.parametrize("text", ["optimizer.lr", "=3", ""])
def test_an_override_without_key_or_value_shows_an_example(text):
    assert refusal(text).endswith("must read key.path=value, for example optimizer.lr=0.01")


def test_an_empty_part_of_the_path_is_refused():
    assert "empty part" in refusal("optimizer..lr=1")


@pytest.mark.parametrize("text", ["[1", "[v2]/a", "{a}.tar", "[1] #", "'a' b", '"a'])
def test_a_value_that_is_no_yaml_is_refused_with_a_remedy(text):
    message = refusal(f"optimizer.lr={text}")
    assert message.startswith(f"override {f'optimizer.lr={text}'!r}: not YAML: ")
    assert message.endswith("""must be quoted for YAML: 'key="[..."')""")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1e999", "1e999 is out of range: numbers go up to 1.8e308"),
        ("[1e999]", "0: 1e999 is out of range"),
        ("{a: 1, a: 2}", "a: the key stands here a second time; keep one of the two"),
        ("{a: !b c}", "a: !b cannot stand before 'c'; write the plain value"),
        ("{<<: 1}", "`<<` merges a mapping or a list of them"),
    ],
)
def test_a_value_that_cannot_be_has_no_position_and_no_hint_about_brackets(text, told):
    message = refusal(f"lr={text}")
    assert message.startswith(f"override {f'lr={text}'!r}: {told}") and "must be quoted" not in message


def test_a_key_for_anchors_is_refused_with_the_reason():
    assert "override 'x-lr=1': " in refusal("x-lr=1") and "has its own copy by now" in refusal("x-lr=1")


@pytest.mark.parametrize("text", ["9" * 5000, "1e999", "-1e999", "[1e999]"])
def test_numbers_out_of_range_are_refused(text):
    assert "override" in refusal(f"optimizer.lr={text}")


@pytest.mark.parametrize("text", ["${HOME}/a", "[a, '${x.y}']", "{a: {b: '${}'}}"])
def test_a_variable_that_nothing_replaces_is_refused(text):
    assert "is not replaced by a variable" in refusal(f"a={text}")


def test_a_name_that_is_not_in_utf_8_is_refused():
    assert "has the byte 0xE9, which is not UTF-8" in refusal("a=caf\udce9")


def test_a_long_path_and_a_long_position_are_refused():
    assert "nested too deeply" in refusal("a." * 10**4 + "b=1")
    assert "is none of them" in refusal(f"list.{'9' * 5000}=1")


def test_a_long_override_is_shown_in_part():
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"seed": 1}, ["seed=" + "[" * 100_000])
    assert len(str(caught.value)) < 1000
