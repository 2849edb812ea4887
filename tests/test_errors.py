import pickle

import pytest

from ray_classy import errors

BUILTINS = {
    "ConfigError": [ValueError],
    "ArgumentNameError": [errors.ConfigError, errors.ComponentError, TypeError],
    "UnknownComponentError": [KeyError, AssertionError],
    "RegistrationError": [ValueError],
    "ComponentError": [ValueError, AssertionError],
    "UnsupportedOptionError": [errors.ComponentError, NotImplementedError],
    "ArgumentTypeError": [errors.ComponentError, TypeError],
    "ShapeError": [errors.ComponentError, RuntimeError],
    "FolderNotFoundError": [errors.ComponentError, FileNotFoundError],
    "UnavailableError": [RuntimeError, ImportError],
    "TaskError": [RuntimeError, AssertionError],
    "DataError": [ValueError, AssertionError],
    "DataNotFoundError": [errors.DataError, FileNotFoundError],
    "RowNumberError": [errors.DataError, IndexError],
    "ImageTooLargeError": [errors.DataError],
    "LoaderError": [RuntimeError],
    "CheckpointError": [RuntimeError, AssertionError],
    "DamagedCheckpointError": [errors.CheckpointError],
    "MissingStateError": [errors.CheckpointError, KeyError],
    "CheckpointNotFoundError": [errors.CheckpointError, FileNotFoundError],
    "UnsupportedFileError": [errors.CheckpointError],
    "UnsafeFileError": [errors.CheckpointError, pickle.UnpicklingError],
    "RunFolderError": [RuntimeError],
    "RecordError": [errors.RunFolderError, ValueError],
    "StorageError": [errors.RunFolderError, OSError],
    "ResourceError": [RuntimeError],
    "ShippingError": [TypeError],
    "RunError": [RuntimeError],
    "RunStopped": [RuntimeError],
    "WorkerDiedError": [RuntimeError],
}


@pytest.mark.parametrize("name", BUILTINS)
def test_error_is_caught_as_what_the_predecessor_raised(name):
    error = getattr(errors, name)
    assert all(issubclass(error, base) for base in [errors.RayClassyError, *BUILTINS[name]])


@pytest.mark.parametrize("name", BUILTINS)
def test_message_reads_as_it_was_written(name):
    assert str(getattr(errors, name)("say 'this'")) == "say 'this'"


@pytest.mark.parametrize("name", BUILTINS)
def test_error_travels_between_processes(name):
    error = pickle.loads(pickle.dumps(getattr(errors, name)("message")))
    assert type(error).__name__ == name and str(error) == "message"


def test_every_error_is_listed():
    found = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert found == {*BUILTINS, "RayClassyError", "RunTerminated"} and all(name in errors.__doc__ for name in found)


def test_a_terminated_run_is_a_stopped_one_with_an_exit_code():
    error = pickle.loads(pickle.dumps(errors.RunTerminated("message", 15)))
    assert isinstance(error, errors.RunStopped | SystemExit) and (error.code, str(error)) == (143, "message")
