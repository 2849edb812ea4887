"""Environment variables that Ray reads, by the names that Ray 2.60 gives them.

A Ray that does not know one of them ignores it and behaves by its own default, which is stated beside each.
"""

from __future__ import annotations

import json
import os

from ray_classy.errors import ResourceError

TRAIN = {
    # Serves start-up time: Ray takes one report per poll, and sees the end of a run at a poll. Default: 2 seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Workers keep the driver's working directory, against which a config's relative paths are resolved. Default:
    # a folder of the session (the worker changes back to the driver's directory itself, where it exists).
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Serves start-up time. Default: metrics for Prometheus are collected.
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Ray's controller runs in the driver, whose handlers of log records Ray would close for its own. Default: "1".
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    # Default: progress bars between the lines of the log.
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
"""For the driver of a run, whose workers inherit them."""

LOCAL = {
    # Serves start-up time: the nodes of a cluster in this process are not preempted. Default: an actor polls.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Serves start-up time: the workers of a run have an environment of their own, for which Ray starts others. Default:
    # a process is started beforehand for each CPU.
    "RAY_prestart_worker_first_driver": "0",
    # Serves start-up time: the steps of a Ray Data pipeline, a sort for instance, follow one another in the same
    # processes. Default: a process that has nothing to do for a second ends, and each step starts others.
    "RAY_idle_worker_killing_time_threshold_ms": "20000",
    # Default: usage statistics are sent.
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""For a cluster that is started for one run."""

TUNE = {
    # Trials write their own metrics. Default: Tune writes CSV, JSON and TensorBoard files as well.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A round without the metric is no error. Default: Tune ends the sweep.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Serves exact resume: the sweep's own files are the state. Default: Tune also writes its state every 10 seconds.
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",
    # The sweep itself says what it waits for. Default: a warning after 60 seconds.
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
    # Failures are in the sweep's table. Default: each traceback is printed.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # The first Ctrl-C says that the sweep stops, the second ends it. Default: Tune's own handler comes first.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Default: Tune's own table.
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""For the driver of a sweep."""

STOP_SECONDS = "RAY_JOB_STOP_WAIT_TIME_S"
"""How long after SIGTERM a job that Ray stops is killed."""

JOB = {
    # Serves exact resume: a run that gets SIGTERM writes a checkpoint. Default: 3 seconds.
    STOP_SECONDS: "30",
}
"""For a submitted job."""

JOB_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Where Ray's client of the job server looks for the address of the dashboard, before any that it is given."""

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
"""How long Ray Train waits for the workers of a group to start."""

SETUP_HOOK = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
"""Names a function, "module.function", that each worker process calls when it starts.

Ray's public `worker_process_setup_hook` sets it in the runtime environment of a job, but for Ray clients. A Ray that
does not know it does not call the function: workers then find only what the job and the trainer tell them.
"""

LEAST_OBJECT_STORE_MEMORY = 75 << 20
"""The bytes below which Ray refuses to start its store of shared objects."""

_PENDING_TRIALS = "TUNE_MAX_PENDING_TRIALS_PG"
_TRAIN_V2 = "RAY_TRAIN_V2_ENABLED"
_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def pending_trials(count: int) -> dict[str, str]:
    """The setting by which Tune prepares that many trials ahead.

    Serves freed resources: with the default of Tune (about the number of CPUs, at least 16) trials that cannot run yet
    hold placement groups.
    """
    return {_PENDING_TRIALS: str(count)}


def code_is_shipped() -> bool:
    """Whether this process is a submitted job, whose code Ray has already distributed as its working directory.

    On a Ray that does not say so, the code is distributed once more.
    """
    job = json.loads(os.environ.get(_JOB_CONFIG) or "{}")
    return "working_dir" in (job.get("runtime_env") or {})


def check_train() -> None:
    """Refuses an environment that selects the former Ray Train, which is read when Ray Train is imported.

    Raises:
        ResourceError: the variable is set to it.
    """
    value = os.environ.get(_TRAIN_V2, "1")
    if value.strip().lower() in ("0", "false"):
        raise ResourceError(f"{_TRAIN_V2}={value} selects a Ray Train that ray_classy does not run on: unset it")
