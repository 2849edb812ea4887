"""Stops a job. A run writes a checkpoint before: Ray's own stop leaves it some seconds."""

from __future__ import annotations

import shlex
from typing import Any

from ray_classy.display import duration, print_line
from ray_classy.errors import ResourceError
from ray_classy.ray_compat import settings
from ray_classy.submit.cluster import Cluster, wait_for_end
from ray_classy.submit.follow import is_active
from ray_classy.submit.request import NO_SUCH_RUN, request_stop

_REQUEST = "ray_classy.submit.request"
_REQUEST_SECONDS = 60.0
_TERM_SECONDS = float(settings.JOB[settings.STOP_SECONDS])
_SECONDS_TO_END = _TERM_SECONDS + 15
"""Until SIGKILL, and for Ray to note it."""


def stop(cluster: Cluster, info: Any, grace: float) -> Any:
    """Stops a job and waits until it has ended; returns its details.

    A run is asked to stop, and has the grace period, if there is any, for a checkpoint. Every other job gets SIGTERM,
    and so does a run that goes on.

    Args:
        cluster: where it runs.
        info: Ray's `JobDetails` of the job.
        grace: seconds.

    Raises:
        ResourceError: the job does not end.
    """
    identity = info.submission_id
    run = (info.metadata or {}).get("run")
    trains = info.status == "RUNNING" and info.metadata.get("command") == "train"
    if trains and run and grace > 0 and _asked(cluster, info, run):
        print_line(f"the run {run} was asked to stop; it has {duration(grace)} for a checkpoint")
        info = wait_for_end(cluster, identity, grace)
        if is_active(info):
            print_line(f"the run has not stopped within {duration(grace)}")
    if is_active(info):
        print_line(f"Ray stops the job {identity}, and kills it if it has not ended within {duration(_TERM_SECONDS)}")
        cluster.stop(identity)
        info = wait_for_end(cluster, identity, _SECONDS_TO_END)
    if is_active(info):
        raise ResourceError(f"the job {identity} has not ended within {duration(_SECONDS_TO_END)} of Ray's stop")
    return info


def _asked(cluster: Cluster, info: Any, run: str) -> bool:
    """Asks a run to stop, from here or, where its folder is not seen from here, from the cluster."""
    if request_stop(run, info.submission_id):
        return True
    print_line(f"no run of the job is seen from here in {run}: a small job on the cluster asks it to stop")
    env = info.runtime_env or {}
    kept = {key: value for key, value in env.items() if key in ("working_dir", "env_vars")}
    command = f"exec {shlex.join(['python', '-m', _REQUEST, run, info.submission_id])}"
    code = cluster.run_small(command, kept, _REQUEST_SECONDS)
    if code == NO_SUCH_RUN:
        print_line("the job does not train yet")
    elif code != 0:
        ended = f"has not ended within {duration(_REQUEST_SECONDS)}" if code is None else f"ended with exit code {code}"
        print_line(f"the small job {ended}")
    return code == 0
