"""A small job: `python -m ray_classy.submit.request RUN JOB` asks the run of another job to stop, on the cluster."""

from __future__ import annotations

import sys

from ray_classy.config.code import is_run
from ray_classy.errors import RayClassyError
from ray_classy.storage import Storage
from ray_classy.trainer.run_record import RunRecord
from ray_classy.trainer.run_requests import Requests

NO_SUCH_RUN = 3
"""The exit code where the job does not train in the folder (yet)."""


def request_stop(run: str, job: str) -> bool:
    """Asks a run to write a checkpoint and to stop; returns whether that job trains it and was asked.

    A folder of the same name on another machine is not asked: its record names another job.

    Args:
        run: the folder or URL.
        job: the id of the job.
    """
    storage = Storage(run)
    try:
        if not is_run(storage):
            return False
        facts = RunRecord(storage).facts()
        starts = facts.get("starts") or [{}]
        if starts[-1].get("job") != job or facts.get("status") != "running":
            return False
        Requests(storage).stop()
    except (OSError, RayClassyError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(0 if request_stop(*sys.argv[1:3]) else NO_SUCH_RUN)
