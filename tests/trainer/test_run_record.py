import pytest

from ray_classy.errors import RecordError
from ray_classy.storage import Storage
from ray_classy.trainer.run_record import RunRecord


def test_what_is_run_is_written_down(run):
    run.finish("finished")
    facts = run.record.facts()
    assert (
        facts["seed"] == 3 and facts["status"] == "finished" and facts["name"] == "r" and facts["starts"][0]["command"]
    )
    assert run.storage.read("config.yaml") == b"name: x\n"


def test_every_start_is_noted(run):
    run.describe(None)
    assert len(run.record.facts()["starts"]) == 2 and run.record.facts()["seed"] == 3


def test_error_of_an_earlier_start_is_forgotten(run):
    run.finish("failed", error="no room")
    run.describe(None)
    assert run.record.facts()["status"] == "running" and not {"error", "ended"} & run.record.facts().keys()


def test_a_config_that_no_file_can_give_is_none(run):
    run.describe("a: {1: 2}\n")
    assert run.record.config_facts()["config"] is None and len(run.record.config_facts()["config_sha256"]) == 64


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b'{"status": "run', "not JSON"),
        (b"[" * 10**5, "levels deep"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "a list in place of an object"),
        (b'{"status": ["running"]}', "status is damaged: it must be text or null, not a list"),
        (b'{"config_file": 3}', "config_file is damaged: it must be text or null, not 3"),
        (b'{"starts": {}}', "starts is damaged"),
        (b'{"given": "x"}', "given is damaged"),
        (b'{"total": 1e999}', "total is damaged"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "digits"),
    ],
)
def test_a_damaged_record_is_one_error(run, content, why):
    run.storage.write("run.json", content)
    with pytest.raises(RecordError, match=rf"r/run\.json.*{why}"):
        run.record.facts()


@pytest.mark.parametrize("packed", [False, True])
def test_the_commit_of_the_working_directory_is_recorded(tmp_path, monkeypatch, packed):
    commit, git = "0123456789" * 4, tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs" if packed else git / "refs/heads/main").write_text(
        f"{commit} refs/heads/main"[: 58 if packed else 40]
    )
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    record = RunRecord(Storage(str(tmp_path / "r")))
    record.begin(None, None)
    record.resumed("epoch_0001-step_000006")
    (start,) = record.facts()["starts"]
    assert (start["commit"], start["resumed_from"]) == (commit, "epoch_0001-step_000006")
