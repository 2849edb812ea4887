"""The driver of a job: `python -m ray_classy.cli.on_cluster train ...`, in the folder with the files that were sent."""

from __future__ import annotations

import sys

from ray_classy.cli.main import main
from ray_classy.user_code import set_up_worker

if __name__ == "__main__":
    set_up_worker()  # the modules that were sent are found as in the workers
    sys.exit(main())
