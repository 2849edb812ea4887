"""docs/commands.md has the commands and options of the parser."""

import sys

from ray_classy.cli.commands import COMMANDS
from tests.test_docs import ROOT

sys.path.append(str(ROOT / "scripts"))
from write_commands import PAGE, READ_ON, page


def test_the_page_is_that_of_the_parser():
    assert PAGE.read_text() == page(), "docs/commands.md is not that of the parser: run `make docs`, and commit it"


def test_each_command_names_the_page_to_read_on():
    assert READ_ON.keys() == COMMANDS.keys()
