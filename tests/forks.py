"""Programs in forks of one process that has imported torch, where each would import it for two seconds."""

import contextlib
import json
import subprocess
import sys

PARENT = """
import json, os, signal, sys, torch, traceback
for line in sys.stdin:
    printed, prints = os.pipe()
    if os.fork() == 0:
        signal.alarm(120)
        os.dup2(prints, 1)
        status = 0
        try:
            exec(json.loads(line), {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        os._exit(status)
    os.close(prints)
    with open(printed) as file:
        text = file.read()
    print(json.dumps([os.wait()[1], text]), flush=True)
"""


@contextlib.contextmanager
def forks():
    """Yields a function that runs a program in a fork and returns what it printed; the program must succeed."""
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:

        def printed_by(program: str) -> str:
            parent.stdin.write(json.dumps(program) + "\n")
            parent.stdin.flush()
            status, text = json.loads(parent.stdout.readline())
            assert status == 0, text
            return text.strip()

        yield printed_by
