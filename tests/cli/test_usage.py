"""The command line itself: help, unknown words, start-up."""

import subprocess
import sys

import pytest

from ray_classy import __version__
from ray_classy.cli.arguments import parsed
from ray_classy.cli.main import main


def program(*words, **options):
    return subprocess.run([sys.executable, "-m", "ray_classy", *words], capture_output=True, text=True, **options)


def test_version_is_printed_by_the_module_as_a_program():
    finished = program("--version")
    assert (finished.returncode, finished.stdout) == (0, f"ray-classy {__version__}\n")


def test_start_up_imports_neither_torch_nor_ray():
    code = (
        "import sys, ray_classy.cli.main as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'ray', 'yaml', 'numpy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_an_error_of_the_program_is_one_message_and_exit_code_2(tmp_path):
    finished = program("train", "no.yaml", "--local", cwd=tmp_path)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.startswith("ray-classy: error: no.yaml: there is no such file")
    assert "Traceback" not in finished.stderr


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert all(command in capsys.readouterr().out for command in ("train",))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "COMMAND"),
        (["trian"], "there is no command 'trian': did you mean 'train'? The commands are train, check, tune"),
        (["my run.yaml"], "there is no command 'my run.yaml': write ray-classy train 'my run.yaml'; the commands are"),
        (["train", "c.yaml", "--num_epochs", "3"], "without dashes, as in num_epochs=VALUE"),
        (["train", "c.yaml", "--lr=0.1"], "without dashes, as in lr=0.1"),
        (["bench-data", "c.yaml", "--local"], "bench-data has none; it is one of train and check"),
        (["check", "c.yaml", "--num-samples", "3"], "check has none; it is one of tune"),
        (["tune", "c.yaml", "--best", "3"], "--best chooses the trials that --extend trains longer"),
        (["show", "--lr=0.1"], "see ray-classy show --help"),
        (["tune", "c.yaml", "--local"], "a sweep runs on Ray, which starts on this machine without --address"),
        (["train"], "train needs a config file"),
        (["train", "a=b"], "train needs a config file"),
        (["train", "c.yaml", "--num-worker", "2"], "did you mean '--num-workers'?"),
        (["train", "c.yaml", "--num-workers", "two"], "invalid int value: 'two'"),
        (["train", "c.yaml", "--local", "--num-workers", "2"], "leave out --num-workers, or leave out --local"),
        (["train", "c.yaml", "--local", "--address", "h:1"], "leave out --address"),
        (["train", "--resume", "r", "--name", "n"], "leave out --name"),
        (["train", "c.yaml", "--storage-path", ""], "--storage-path is empty"),
    ],
)
def test_a_wrong_command_line_says_what_to_write(ray_classy, words, told):
    outcome = ray_classy(*words)
    assert outcome.code == 2
    assert outcome.err.startswith("ray-classy: error: ")
    assert told in outcome.err


def test_words_and_flags_may_stand_in_any_order():
    arguments = parsed(["train", "--num-workers", "3", "c.yaml", "a=1", "--json", "b=-2"])
    assert (arguments.words, arguments.num_workers, arguments.json) == (["c.yaml", "a=1", "b=-2"], 3, True)


def test_a_usage_error_is_an_object_with_json(ray_classy):
    outcome = ray_classy("train", "--json")
    assert outcome.json["error"]["type"] == "UsageError"
    assert "train needs a config file" in outcome.err


def test_verbose_adds_the_traceback(ray_classy):
    assert "Traceback" in ray_classy("train", "no.yaml", "--verbose").err
