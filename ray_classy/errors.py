"""All errors that ray_classy raises for mistakes of the user and for failures outside its own code.

    RayClassyError
    ├── ConfigError              (ValueError, KeyError, AssertionError)  a config has mistakes
    ├── UnknownComponentError    (KeyError, AssertionError)  no component is registered under that name
    ├── RegistrationError        (ValueError)        a component cannot be registered
    ├── ComponentError           (ValueError, AssertionError)  an argument of a component is invalid
    │   ├── UnsupportedOptionError  (NotImplementedError)  a choice that it does not know
    │   ├── ArgumentNameError    (ConfigError, TypeError)  it is missing, or there is none of its name
    │   ├── ArgumentTypeError    (TypeError)         it has another type
    │   ├── ShapeError           (RuntimeError)      a tensor has another shape than it takes
    │   └── FolderNotFoundError  (FileNotFoundError) it names a folder that does not exist
    ├── UnavailableError         (RuntimeError, ImportError)  a component needs a package, or has a successor
    ├── TaskError                (RuntimeError, AssertionError)  a task is incomplete or used out of order
    ├── DataError                (ValueError, AssertionError)  a dataset or one of its rows cannot be used
    │   ├── DataNotFoundError    (FileNotFoundError) it is in a file or folder that does not exist
    │   ├── RowNumberError       (IndexError)        a dataset has no row of that number
    │   └── ImageTooLargeError   an image has more pixels than are decoded
    ├── LoaderError              (RuntimeError)      a loader gives fewer batches than it should
    ├── CheckpointError          (RuntimeError, AssertionError)  a checkpoint cannot be read or does not fit
    │   ├── CheckpointNotFoundError  (FileNotFoundError)  the path has no checkpoint
    │   ├── MissingStateError    (KeyError)          a state lacks an entry
    │   ├── DamagedCheckpointError   its content is not what was written
    │   ├── UnsupportedFileError     a file of weights is a program or a pickled model
    │   └── UnsafeFileError      (pickle.UnpicklingError)  a file of weights would run code elsewhere
    ├── RunFolderError           (RuntimeError)      a run folder exists, is in use or cannot be written
    │   ├── RecordError          (ValueError)        a file in it is damaged
    │   └── StorageError         (OSError)           a file cannot be read or written: a full disk, a store ...
    ├── ResourceError            (RuntimeError)      the cluster lacks resources of the run
    ├── ShippingError            (TypeError)         a part of a task cannot be sent to the workers
    └── RunError                 (RuntimeError)      training failed on a worker; carries the worker's traceback
        ├── RunStopped           (RuntimeError)      the run stopped on request, after a checkpoint
        │   └── RunTerminated        (SystemExit)        the request was a SIGTERM or SIGHUP
        └── WorkerDiedError      (RuntimeError)      the process of a worker died

Each also derives from the built-in exception that Classy Vision raises in the same situation, so existing `except`
clauses still match.
"""

from __future__ import annotations

import pickle

from ray_classy.redact import redacted


class RayClassyError(Exception):
    """Base class of all errors of this package; their messages hold no secrets."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return redacted("\n".join(str(argument) for argument in self.args))


class ConfigError(RayClassyError, ValueError, KeyError, AssertionError):
    """A config has mistakes; the message lists all of them, each with file and line."""


class UnknownComponentError(RayClassyError, KeyError, AssertionError):
    """No component of this kind is registered under this name."""


class RegistrationError(RayClassyError, ValueError):
    """A component cannot be registered: the name is taken or the class has the wrong base."""


class ComponentError(RayClassyError, ValueError, AssertionError):
    """An argument of a component has an invalid value."""


class UnsupportedOptionError(ComponentError, NotImplementedError):
    """An argument of a component is none of its choices."""


class ArgumentTypeError(ComponentError, TypeError):
    """An argument of a component has the wrong type."""


class ArgumentNameError(ConfigError, ComponentError, TypeError):
    """A component lacks an argument that it requires, or is given one that it does not take."""


class ShapeError(ComponentError, RuntimeError):
    """A tensor has another shape than a component takes."""


class FolderNotFoundError(ComponentError, FileNotFoundError):
    """An argument of a component names a folder that does not exist."""


class UnavailableError(RayClassyError, RuntimeError, ImportError):
    """A component cannot be used here: a package is not installed, or another component took its place."""


class TaskError(RayClassyError, RuntimeError, AssertionError):
    """A task lacks a part that a method needs, or its methods are called out of order."""


class DataError(RayClassyError, ValueError, AssertionError):
    """A dataset, or a row of it, cannot be used."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A dataset's file or folder does not exist."""


class RowNumberError(DataError, IndexError):
    """A dataset has no row of that number."""


class ImageTooLargeError(DataError):
    """An image has more pixels than are decoded; none of them was unpacked."""


class LoaderError(RayClassyError, RuntimeError):
    """A loader gives fewer batches than it should."""


class CheckpointError(RayClassyError, RuntimeError, AssertionError):
    """A checkpoint cannot be read, or does not fit the task."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """The path has no checkpoint."""


class MissingStateError(CheckpointError, KeyError):
    """A state lacks an entry that every state of its kind has."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint's file has other content than was written, or is not a checkpoint; an earlier one may be intact."""


class UnsupportedFileError(CheckpointError):
    """A file of weights is of a kind that is not read: a TorchScript program, or a pickled model."""


class UnsafeFileError(CheckpointError, pickle.UnpicklingError):
    """A file of weights names functions that run commands or code; nothing of it was run."""


class RunFolderError(RayClassyError, RuntimeError):
    """A run folder exists already, is in use by another process, or cannot be written."""


class RecordError(RunFolderError, ValueError):
    """A file that is read back, such as `run.json`, is damaged; the message names it and says what is wrong."""


class StorageError(RunFolderError, OSError):
    """A file cannot be read or written: the disk is full, a permission is missing, or the store fails."""


class ResourceError(RayClassyError, RuntimeError):
    """The cluster lacks resources that the run needs."""


class ShippingError(RayClassyError, TypeError):
    """A part of a task cannot be sent to the workers."""


class RunError(RayClassyError, RuntimeError):
    """Training failed; the message has the traceback of the worker that failed first."""


class RunStopped(RunError):
    """The run stopped on request, after writing a checkpoint, which the message names."""


class RunTerminated(RunStopped, SystemExit):
    """The run stopped because of SIGTERM or SIGHUP; a script that does not catch it exits with 143 or 129.

    Attributes:
        number: of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number
        self.code = 128 + number

    def __reduce__(self) -> tuple[type[RunTerminated], tuple[str, int]]:
        return RunTerminated, (str(self), self.number)


class WorkerDiedError(RunError):
    """The process of a worker died: it was killed, or its node was lost. A restart may succeed."""
