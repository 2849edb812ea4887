"""What the driver of a job, which `ray-classy submit` has submitted, knows of the machine that submitted it."""

from __future__ import annotations

import os

SUBMITTED = ("train", "tune", "evaluate", "predict")
"""The commands that run as jobs."""
JOB_VARIABLE = "RAY_CLASSY_JOB"
"""Names the environment variable with the id of the job."""
ADDRESS_VARIABLE = "RAY_CLASSY_JOB_ADDRESS"
"""Names the one with the URL of the dashboard to which the job was submitted."""
CONFIG_VARIABLE = "RAY_CLASSY_CONFIG_FILE"
"""Names the one with the path that the config has on the machine that submitted the job."""


def job_id() -> str | None:
    """The job whose command this process runs; None outside of jobs."""
    return os.environ.get(JOB_VARIABLE) or None


def submitting_words(command: str) -> list[str]:
    """The words by which a printed command is submitted again, where this process runs a job; otherwise none."""
    if job_id() is None or command not in SUBMITTED:
        return []
    address = os.environ.get(ADDRESS_VARIABLE)
    return ["submit", *(["--address", address] if address else [])]


def submitted_config() -> str | None:
    """The path of the config where it was submitted, beside its modules; None if none was sent."""
    return (os.environ.get(CONFIG_VARIABLE) or None) if job_id() is not None else None
