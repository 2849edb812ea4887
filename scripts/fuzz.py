"""Feeds the package seeded mutations of what users give it and of what it reads back, and counts how each ends.

    python scripts/fuzz.py                                  5,000 inputs
    python scripts/fuzz.py --surface images --seed 7        one kind of input
    python scripts/fuzz.py --surface images --only 17       one input again; its files stay in fuzz-images-17

used        the input was read, and what was read is right
refused     it ended in one clear error
traceback   it ended in an exception that is a fault of ours
wrong       other data than was written was accepted under an intact manifest, or a command failed without an error
hang        it took longer than twenty seconds

The exit code is 1 if an input ended in one of the last three. Input number N of a surface is a function of the seed and
of N alone.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from random import Random
from typing import Any

from fuzz_surfaces import SURFACES, Fault

LIMIT_S = 20.0
FAULTS = ("traceback", "wrong", "hang")


class Hang(BaseException):
    """An input took too long."""


def outcome(surface: str, seed: int, number: int, root: pathlib.Path) -> tuple[str, str]:
    """How one input ends, and what to print of it."""
    rng = Random(f"{seed} {surface} {number}")
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{surface.replace(' ', '-')}-{number}-", dir=root))
    SURFACES[surface].make(folder, rng)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        return ("used" if SURFACES[surface].use(folder, rng) else "refused"), ""
    except Hang:
        return "hang", traceback.format_exc()
    except Fault as fault:
        return ("traceback" if "Traceback" in str(fault) else "wrong"), str(fault)
    except Exception:
        return "traceback", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


def _raise_hang(*_: Any) -> None:
    raise Hang


def _quiet() -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def main() -> int:
    """Runs the inputs, prints the table and every new kind of fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=5000, help="how many, of all surfaces together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--surface", choices=SURFACES, action="append", help="only this one; may be repeated")
    parser.add_argument("--only", type=int, help="the number of one input of the surface")
    arguments = parser.parse_args()
    names = arguments.surface or list(SURFACES)
    total = sum(SURFACES[name].share for name in names)
    signal.signal(signal.SIGALRM, _raise_hang)
    faulthandler.enable()
    _quiet()
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name in names:
            begin = time.monotonic()
            numbers = range(arguments.inputs * SURFACES[name].share // total)
            for number in numbers if arguments.only is None else [arguments.only]:
                faulthandler.dump_traceback_later(6 * LIMIT_S, exit=True)
                how, text = outcome(name, arguments.seed, number, pathlib.Path(folder))
                counts[name][how] += 1
                if how in FAULTS:
                    kind = "\n".join(text.strip().splitlines()[-3:])
                    seen[kind] += 1
                    if seen[kind] == 1:
                        print(
                            f"\n{how}: --surface '{name}' --seed {arguments.seed} --only {number}\n{text}", flush=True
                        )
            counts[name]["seconds"] = round(time.monotonic() - begin)
    faulthandler.cancel_dump_traceback_later()
    columns = ("used", "refused", *FAULTS, "seconds")
    print(f"{'surface':<12}" + "".join(f"{column:>10}" for column in columns))
    for name in names:
        print(f"{name:<12}" + "".join(f"{counts[name][column]:>10}" for column in columns))
    return int(any(counts[name][how] for name in names for how in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
