import pytest

from ray_classy.printable import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain läufe 数", "plain läufe 数"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x9b", "\\x1b[2J\\x9b"),
        ("\udce9.jpg", "\\udce9.jpg"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        (None, "None"),
    ],
)
def test_what_could_deceive_a_reader_is_escaped(text, expected):
    assert printable(text) == expected
