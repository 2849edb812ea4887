"""Runs the command line of `ray-classy` as `python -m ray_classy`."""

import sys

from ray_classy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
