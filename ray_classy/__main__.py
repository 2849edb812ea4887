"""`python -m ray_classy` is the program `ray-classy`."""

import sys

from ray_classy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
