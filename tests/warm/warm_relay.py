"""The process that Ray starts for a worker or an agent; it has the real one forked, and lives and dies with it.

Ray starts `python default_worker.py ...`, or `python setup_worker.py default_worker.py ...` where there is a runtime
environment. This process does not become that script: it asks a template (`warm_template.py`) to fork itself and run it
with this process's arguments, environment, folder, files and signals. What this process is sent, the worker is sent;
when one of the two ends, the other ends as well, in the same way. Agents, which are scripts too, start so as well.

The template has imported packages that are installed, but nothing of Ray, ray_classy or a user. It is started by the
first process that needs it, and ends with the tests.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import time

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
FIRST = "WARM_TEMPLATE"
CONTEXT = "--serialized-runtime-env-context="
_PREPARED = "/ray/_private/workers/setup_worker.py"
_WORKER = "/ray/_private/workers/default_worker.py"
_AGENTS = (
    "/ray/dashboard/agent.py",
    "/ray/dashboard/dashboard.py",
    "/ray/_private/runtime_env/agent/main.py",
    "/ray/_private/log_monitor.py",
    "/ray/autoscaler/_private/monitor.py",
)


def relay(words):
    """Becomes the relay of a process of Ray, if these are the words of its command; returns if they are not."""
    words = words[2:] if words[1:2] == ["-u"] else words[1:]
    if not words or not words[0].endswith((_PREPARED, _WORKER, *_AGENTS)):
        return
    prepared = worker_of(words[1:]) if words[0].endswith(_PREPARED) else (words, {})
    if prepared is None:
        return
    with connection(os.path.join(os.environ["WARM_WORKERS"], "template")) as template:
        os._exit(follow(template, *prepared))


def worker_of(words):
    """The command of a worker and the variables that its runtime environment sets; None if it needs more than these."""
    context, command = {}, []
    for word in words:
        if word.startswith(CONTEXT):
            context = json.loads(word.removeprefix(CONTEXT) or "{}")
        elif word.startswith("--language="):
            if word != "--language=PYTHON":
                return None
        else:
            command.append(word)
    others = {name: value for name, value in context.items() if value and name not in ("env_vars", "py_executable")}
    variables = context.get("env_vars") or {}
    if not command or others or context.get("py_executable", sys.executable) != sys.executable:
        return None
    return command, variables


def connection(place):
    """A connection to the template, which is started if it does not run."""
    client = socket.socket(socket.AF_UNIX)
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            client.connect(place)
        except OSError:
            _start_template(place)
            client.connect(place)
    return client


def _start_template(place):
    import subprocess

    with socket.socket(socket.AF_UNIX) as listener, open(f"{place}.log", "a") as log:
        if os.path.exists(place):
            os.remove(place)
        listener.bind(place)
        listener.listen(64)
        command = [sys.executable, os.path.join(os.path.dirname(__file__), "warm_template.py")]
        subprocess.Popen(
            [*command, str(listener.fileno()), place, os.environ["WARM_OWNER"]],
            env={FIRST: "1", **os.environ},  # see `warm_template.become`
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            preexec_fn=_unblock,
        )


def _unblock():
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in FORWARDED:
        signal.signal(number, signal.SIG_DFL)


def follow(template, command, variables):
    """Has a worker forked, sends it the signals that this process gets, and returns the status with which it ends."""
    ignored = [int(number) for number in FORWARDED if signal.getsignal(number) == signal.SIG_IGN]
    request = {
        "command": command,
        "environment": dict(os.environ),
        "variables": variables,
        "folder": os.getcwd(),
        "parent": os.getppid(),
        "ignored": ignored,
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "mask": _mask(),
    }
    for number in FORWARDED:
        if number not in ignored:
            signal.signal(number, lambda number, frame: template.sendall(bytes([number])))
    text = json.dumps(request).encode()
    socket.send_fds(template, [len(text).to_bytes(4, "big")], [0, 1, 2])
    template.sendall(text)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # the files are the worker's alone: whoever reads from them waits for their end
        os.dup2(nowhere, descriptor)
    answer = template.recv(4)
    status = int.from_bytes(answer, "big") if len(answer) == 4 else 1 << 8
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
        time.sleep(10)
    return os.waitstatus_to_exitcode(status)


def _mask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
