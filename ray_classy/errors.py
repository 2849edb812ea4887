"""Every error that ray_classy raises for a mistake or a misfortune outside its own code.

    RayClassyError
    ├── ConfigError              (ValueError, KeyError, AssertionError)  a config says something it must not
    ├── UnknownComponentError    (KeyError, AssertionError)  no component is registered under that name
    ├── RegistrationError        (ValueError)        a name or class cannot be registered
    ├── ComponentError           (ValueError, AssertionError)  an argument of a component is impossible
    ├── TaskError                (RuntimeError, AssertionError)  a task lacks a part, or is used out of order
    ├── DataError                (ValueError)        a dataset or one of its rows cannot be used
    ├── CheckpointError          (RuntimeError, AssertionError)  a checkpoint cannot be read or does not fit
    │   └── CheckpointNotFoundError  (FileNotFoundError)  there is none at that path
    ├── RunFolderError           (RuntimeError)      a run folder exists, is held or cannot be written
    │   └── StorageError         (OSError)           a file cannot be written: a full disk, a permission, a store
    ├── ResourceError            (RuntimeError)      the cluster has not what the run needs
    ├── ShippingError            (TypeError)         a part of a task cannot travel to the workers
    └── RunError                 (RuntimeError)      training failed on a worker; carries the worker's traceback
        ├── RunStopped           (RuntimeError)      the run was asked to stop, and did after a checkpoint
        └── WorkerDiedError      (RuntimeError)      a worker's process died under it

Each also derives from the builtin that Classy Vision raised in the same place, so `except` clauses written for it
go on working.
"""

from __future__ import annotations


class RayClassyError(Exception):
    """Base of all errors of this package."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return "\n".join(str(argument) for argument in self.args)


class ConfigError(RayClassyError, ValueError, KeyError, AssertionError):
    """A config says something it must not: the message lists every problem found in it."""


class UnknownComponentError(RayClassyError, KeyError, AssertionError):
    """No component of that kind is registered under that name."""


class RegistrationError(RayClassyError, ValueError):
    """A component cannot be registered: the name is taken or the class has the wrong base."""


class ComponentError(RayClassyError, ValueError, AssertionError):
    """An argument of a component has an impossible value."""


class TaskError(RayClassyError, RuntimeError, AssertionError):
    """A task lacks a part that the call needs, or is used out of order."""


class DataError(RayClassyError, ValueError):
    """A dataset, or a row of it, cannot be used."""


class CheckpointError(RayClassyError, RuntimeError, AssertionError):
    """A checkpoint cannot be read, or does not fit the task."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """There is no checkpoint at that path."""


class RunFolderError(RayClassyError, RuntimeError):
    """A run folder exists already, is held by another run, or cannot be written."""


class StorageError(RunFolderError, OSError):
    """A file cannot be written: the disk is full, a permission is missing, or the store fails."""


class ResourceError(RayClassyError, RuntimeError):
    """The cluster does not have what the run needs."""


class ShippingError(RayClassyError, TypeError):
    """A part of a task cannot be sent to the workers."""


class RunError(RayClassyError, RuntimeError):
    """Training failed; the message carries the traceback of the worker that failed first."""


class RunStopped(RunError):
    """The run was asked to stop, and did after a checkpoint; the message names it."""


class WorkerDiedError(RunError):
    """A worker's process died: it was killed, or its node was lost; trying again may help."""
