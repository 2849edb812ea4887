"""Runs the command line of `ray-classy` as `python -m ray_classy`."""

import os
import sys

# Python searches the working directory first, where a file may have the name of any module; `ray-classy` does not.
if sys.path and sys.path[0] == os.getcwd() and not os.path.isdir("ray_classy"):
    del sys.path[0]

from ray_classy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
