import shlex
import subprocess

import pytest

from ray_classy.printable import printable, shell_word


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


@pytest.mark.parametrize("text", ["läufe", "a b", "it's", "it's \\ läufe", "a\nb", "\udce9 1", "\u202e1", "plain"])
def test_a_word_for_a_shell_means_itself_in_whatever_encoding_it_is_printed(text):
    words = [shell_word(text, [encoding]) for encoding in ("utf-8", "ascii", "latin-1")]
    command = ["bash", "-c", "printf '%s\\0' " + " ".join(words)]
    assert subprocess.run(command, capture_output=True).stdout == 3 * (text.encode(errors="surrogateescape") + b"\0")
    assert words[1].isascii() and all(word == printable(word) for word in words)


def test_a_word_that_can_be_printed_stays_readable():
    assert shell_word("runs/läufe") == shlex.quote("runs/läufe")
    assert shell_word("läufe", ["ascii"]) == r"$'l\303\244ufe'"
