"""`ray-classy submit`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.job_command import job_of
from ray_classy.cli.output import Answer, command_line
from ray_classy.display import aligned, duration, print_line
from ray_classy.errors import RunFolderError
from ray_classy.printable import printable, printable_lines
from ray_classy.ray_compat import settings
from ray_classy.redact import redacted
from ray_classy.submit.cluster import Cluster
from ray_classy.submit.follow import exit_code, follow, is_active
from ray_classy.submit.job import Job
from ray_classy.submit.kuberay import manifest
from ray_classy.submit.package import files_of, staged
from ray_classy.submit.stop import stop
from ray_classy.trainer.interrupts import interrupted
from ray_classy.urls import shown
from ray_classy.user_code import SETUP_FUNCTION

_GRACE = 120.0
_ERROR = "ray-classy: error: "
_LONGEST_MESSAGE = 300
_SIGNAL = 128
_ACTIONS = ("attach", "status", "stop")


def submit(arguments: argparse.Namespace) -> Answer:
    """Submits a command to a cluster and follows its log; or looks after a job that was submitted.

    Raises:
        UsageError: there is no command, or there are options that do not go together.
        UnavailableError: the extra `cluster` is not installed.
        ResourceError: the cluster does not answer, or does not take the job.
        RunFolderError: another job trains the run.
        ShippingError: the files that the command needs are too large.
        RunError: the job died before its command began.
        KeyboardInterrupt: the user stopped following; the message has the command that attaches again.
    """
    _check(arguments)
    if arguments.kuberay:
        return _manifest(job_of(arguments.job), arguments.image)
    job = job_of(arguments.job) if arguments.job is not None else None  # mistakes in it are reported at once
    cluster = Cluster(arguments.address)
    if arguments.status is not None:
        return _status(cluster, arguments.status)
    if arguments.stop is not None:
        return _stopped(cluster, arguments)
    if job is None:
        identity = cluster.find(arguments.attach).submission_id
    else:
        identity = _running(cluster, job)
        if identity is not None:
            print_line(f"the job {identity} runs this command already: nothing is submitted")
        else:
            identity = _submitted(cluster, job)
        if arguments.detach:
            return _detached(cluster, identity)
    return _followed(cluster, identity)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.job is None and arguments.words:
        raise UsageError(f"submit runs train, tune, evaluate and predict, not {arguments.words[0]!r}")
    given = [name for name in _ACTIONS if getattr(arguments, name) is not None]
    given += ["a command"] if arguments.job is not None else []
    if not given:
        raise UsageError(
            "submit takes a command, such as: ray-classy submit --address http://HEAD:8265 train my.yaml; or --attach "
            "JOB, --status or --stop JOB"
        )
    if len(given) > 1:
        raise UsageError(f"submit does one thing at a time, not {' and '.join(given)}")
    if arguments.address == "":
        raise UsageError("--address is empty: give it a value, or leave it out")
    if arguments.follow and arguments.detach:
        raise UsageError("--follow and --detach are given: take one of them")
    if arguments.grace is not None and (arguments.stop is None or not 0 <= arguments.grace < float("inf")):
        raise UsageError("--grace is a number of seconds, at least 0, and goes with --stop")
    if arguments.image is not None and not arguments.kuberay:
        raise UsageError("--image goes with --kuberay")
    if arguments.kuberay and (arguments.job is None or arguments.address is not None):
        raise UsageError("--kuberay takes a command and no --address: ray-classy submit --kuberay train ... > job.yaml")
    if arguments.kuberay and arguments.json:
        raise UsageError("--kuberay prints YAML: leave out --json")


# -- submitting -------------------------------------------------------------------------------------------------------


def _running(cluster: Cluster, job: Job) -> str | None:
    """The job that already runs this command.

    Raises:
        RunFolderError: a job trains the run by another command, and the run's lock would refuse this one.
    """
    if job.run is None:
        return None
    first = next((one for one in cluster.jobs() if one.metadata.get("run") == job.run and is_active(one)), None)
    if first is None:
        return None
    identity = str(first.submission_id)
    if first.metadata.get("digest") != job.digest:
        raise RunFolderError(
            f"the job {identity} trains {shown(job.run)} already, by another command or config. To follow it: "
            f"{_command(cluster, '--attach', identity)}; to run this command instead, stop the job first: "
            f"{_command(cluster, '--stop', identity)}; for a run of its own, give another --name"
        )
    return identity


def _submitted(cluster: Cluster, job: Job) -> str:
    _remark(job, "nodes", "everyone who can open the dashboard reads it")
    env = dict(job.ray.get("runtime_env") or {})
    with staged(job) as package:
        for line in package.lines():
            print_line(line)
        variables = {**settings.JOB, settings.SETUP_HOOK: SETUP_FUNCTION, **(env.get("env_vars") or {})}
        identity = cluster.submit(job, {**env, "working_dir": package.folder, "env_vars": variables})
    if job.run is not None:
        print_line(f"the {'sweep' if job.words[0] == 'tune' else 'run'} is {shown(job.run)}, on the cluster")
    print_line(f"submitted the job {identity} to {cluster.address}")
    try:
        first = _running(cluster, job) or identity
    except RunFolderError:
        cluster.withdraw(identity)
        raise
    if first != identity:  # submitted in the same moment
        print_line(f"the job {first} runs this command already: {identity} is withdrawn")
        cluster.withdraw(identity)
    return first


def _remark(job: Job, machines: str, readers: str) -> None:
    """Prints what the user should know of a job before it is sent."""
    for remark in job.remarks:
        print_line(remark)
    if job.places:
        print_line(f"all {machines} must see {', '.join(map(shown, job.places))}")
    for place in job.secrets:
        print_line(f"warning: {place} holds a secret, and {readers}: let the {machines} have credentials of their own")


def _manifest(job: Job, image: str | None) -> Answer:
    text = manifest(job, files_of(job)[0], image)
    _remark(job, "pods", "it is in the manifest")
    return Answer(text, public=True)  # with secrets masked, the modules in it would not be those of the user


def _detached(cluster: Cluster, identity: str) -> Answer:
    commands = {"follow its log": "--attach", "stop it": "--stop"}
    lines = [f"job:   {identity}"]
    for what, flag in commands.items():
        lines += ["", f"{what}:", f"  {_command(cluster, flag, identity)}"]
    return Answer("\n".join(lines), {"job": identity, "address": cluster.address, "status": "submitted"})


def _command(cluster: Cluster, flag: str, identity: str) -> str:
    return command_line("submit", "--address", cluster.address, flag, identity)


def _followed(cluster: Cluster, identity: str) -> Answer:
    try:
        info = follow(cluster, identity, _write)
    except KeyboardInterrupt as error:
        print_line(f"the job {identity} goes on; to stop it: {_command(cluster, '--stop', identity)}")
        raise interrupted(error, f"attach again with: {_command(cluster, '--attach', identity)}") from None
    code = exit_code(info)
    ended = "succeeded" if code == 0 else f"ended with exit code {code}"
    return Answer(f"the job {identity} {ended}", {**_facts(info), "exit_code": code}, exit_code=code)


def _write(text: str) -> None:
    sys.stdout.write(printable_lines(redacted(text).replace("\t", " ")))
    sys.stdout.flush()


# -- looking after jobs -----------------------------------------------------------------------------------------------


def _status(cluster: Cluster, name: str) -> Answer:
    if name:
        info = cluster.find(name)
        facts = _facts(info)
        return Answer("\n".join(printable(f"{key + ':':<10} {value}") for key, value in facts.items()), facts)
    jobs = [_facts(info) for info in cluster.jobs()]
    header = ["job", "state", "command", "started", "time", "run"]
    rows = [[printable(job.get(key) or "") for key in header] for job in jobs]
    text = aligned([header, *rows]) if rows else f"the cluster at {cluster.address} has no job of ray_classy"
    return Answer(text, {"address": cluster.address, "jobs": jobs})


def _facts(info: Any) -> dict[str, Any]:
    metadata: Mapping[str, str] = info.metadata or {}
    return dict(_facts_of(info, metadata))


def _facts_of(info: Any, metadata: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    yield "job", info.submission_id
    interrupted_by_signal = info.status == "FAILED" and (info.driver_exit_code or 0) > _SIGNAL
    yield "state", "interrupted" if interrupted_by_signal else str(getattr(info.status, "value", info.status)).lower()
    yield "command", metadata.get("command")
    if metadata.get("run"):
        yield "run", shown(metadata["run"])
    if info.start_time:
        yield "started", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.start_time / 1000))
        yield "time", duration((info.end_time or 1000 * time.time()) / 1000 - info.start_time / 1000)
    if info.driver_exit_code is not None:
        yield "exit_code", info.driver_exit_code
    if info.message and info.status != "SUCCEEDED":
        lines = info.message.strip().splitlines()
        yield "message", next((line for line in lines if line.startswith(_ERROR)), lines[0])[:_LONGEST_MESSAGE]


def _stopped(cluster: Cluster, arguments: argparse.Namespace) -> Answer:
    info = cluster.find(arguments.stop)
    if not is_active(info):
        return Answer(f"the job {info.submission_id} has ended already", _facts(info))
    try:
        ended = stop(cluster, info, _GRACE if arguments.grace is None else arguments.grace)
    except KeyboardInterrupt as error:
        command = _command(cluster, "--stop", info.submission_id)
        raise interrupted(error, f"the job may still be running; stop it with: {command}") from None
    text = f"the job {info.submission_id} has stopped"
    if info.metadata.get("run"):
        text += "; the command that started it resumes it"
    return Answer(text, _facts(ended))
