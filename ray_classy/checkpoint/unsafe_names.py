"""What a pickle may name only to run something.

Reading a file calls no function that the file names; an unknown name becomes a placeholder. A file that names one of
the functions below was probably made to attack whoever opens it, so it is refused.
"""

from __future__ import annotations

from ray_classy.errors import UnsafeFileError

_MODULES = """
asyncio bdb code codeop commands ctypes ftplib http.client http.server httplib importlib marshal multiprocessing nt os
pdb pickle _pickle pip posix profile pty pydoc requests runpy shutil smtplib socket ssl subprocess sys telnetlib
threading _thread timeit urllib.request urllib2 webbrowser winreg zipimport
"""
_BUILTINS = "__import__ breakpoint compile delattr eval exec execfile globals input open setattr"
_NAMES = "types.CodeType types.FunctionType operator.methodcaller"
_UNSAFE = (
    *(f"{name}." for name in (*_MODULES.split(), *_NAMES.split())),
    *(f"builtins.{name}." for name in _BUILTINS.split()),
)


def refuse_unsafe(name: str) -> None:
    """Refuses a class or function that only a harmful file needs.

    Args:
        name: its dotted name.

    Raises:
        UnsafeFileError: it is one.
    """
    if f"{name}.".startswith(_UNSAFE):
        raise UnsafeFileError(
            f"it asks to run {name}, which no weights need: it is made to do harm. Nothing of it was run; get the "
            f"weights from their publisher, best as .safetensors"
        )
