"""Lists of classes, matched by name."""

import numpy as np
import pytest

from ray_classy.dataset.class_match import alike, check_class_names, class_map, mapped, numbers_of, yaml_list
from ray_classy.errors import DataError


def test_names_that_are_integers_stand_for_them():
    assert numbers_of(["0", "1", "10", "2"]) == {0: 0, 1: 1, 10: 2, 2: 3}
    assert numbers_of(["007", "8"]) == {7: 0, 8: 1}


@pytest.mark.parametrize("names", [[], ["1", "cat"], ["1", "01"], ["1.5"], ["٣"], ["9" * 30]])
def test_other_names_stand_for_no_integers(names):
    assert numbers_of(names) is None


def test_names_are_matched_with_equal_names_in_another_order():
    assert class_map(["b", "a", "c"], ["a", "b", "c"]) == {0: 1, 1: 0}


def test_a_part_of_the_classes_is_matched_unless_all_are_needed():
    assert class_map(["b"], ["a", "b"]) == {0: 1}
    with pytest.raises(DataError, match=r"only there: \['a'\]$"):
        class_map(["b"], ["a", "b"], whole=True)


def test_integers_are_matched_with_the_names_that_are_those_integers():
    names = ["0", "1", "10", "2"]
    assert class_map(None, names, np.array([10, 0, -1])) == {0: 0, 1: 1, 10: 2, 2: 3}
    assert class_map(names, None) == {0: 0, 1: 1, 2: 10, 3: 2}


@pytest.mark.parametrize("turn", [False, True])
def test_integers_are_not_matched_with_other_names(turn):
    own, known = (None, ["ant", "bee"]) if turn else (["ant", "bee"], None)
    with pytest.raises(DataError, match="nothing says which number is which class"):
        class_map(own, known, np.array([0, 1]))


def test_integers_without_a_name_are_listed():
    with pytest.raises(DataError, match="named 1, 2 there, and 0, 7 only here"):
        class_map(None, ["1", "2"], np.array([7, 1, 0]))


@pytest.mark.parametrize(("one", "other"), [("Cat", "cat"), ("cat ", "cat"), ("caf\u00e9", "cafe\u0301")])
def test_names_that_look_the_same_are_shown_by_their_characters(one, other):
    with pytest.raises(DataError, match="differ in case, spaces or the encoding of accents only"):
        class_map([one], [other])


def test_targets_without_a_counterpart_stay():
    assert mapped(np.array([2, 0, -100, 1]), {0: 5, 2: 0}).tolist() == [0, 5, -100, 1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "a"], r"the class 'a' is there twice \(entries 0 and 2\)"),
        (["a", " a"], "' a' and 'a' differ in spaces only"),
        (["a", 0], "entry 1: 0 is not the name of a class .*write '0' in quotes"),
        (["a", True], "write 'True' in quotes"),
        (["a", None], "None is not the name"),
        (["a", " "], "' ' is not the name"),
    ],
)
def test_names_that_cannot_be_those_of_classes(names, message):
    with pytest.raises(DataError, match=message):
        check_class_names(names, "`classes`")


def test_names_that_differ_in_case_are_allowed_and_found():
    check_class_names(["a", "A"], "`classes`")
    assert alike(["a", "b", "A"]) == [("a", "A")]


def test_names_are_written_as_a_config_has_them():
    names = ["cat", "10", "no", "a b", "caf\u00e9"]
    assert yaml_list(names) == "[cat, '10', 'no', 'a b', caf\u00e9]" and yaml_list([*names, "x"]).endswith(", ...]")
