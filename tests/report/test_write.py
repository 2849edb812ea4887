"""Reports are written of runs, of several runs, and of sweeps."""

import json
import os
import pathlib
import shutil
import sys

import pytest

from ray_classy.cli.main import main
from ray_classy.errors import ComponentError, RunFolderError, UnavailableError
from ray_classy.report import page as pages
from ray_classy.report import write_report
from ray_classy.report.page import MOST_BYTES, script_json
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from tests.report.conftest import HOSTILE, config, image_folder


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def edit_json(path, **values):
    with open(path) as file:
        facts = json.load(file)
    with open(path, "w") as file:
        json.dump({**facts, **values}, file)


def body(html):
    """The page without its scripts."""
    return html[: html.index("<script>")]


def test_names_of_a_run_are_text_in_its_page_and_its_summary(hostile_run, tmp_path):
    written = write_report(hostile_run, str(tmp_path / "out.html"))
    html = read(written.html)
    assert len(html.encode()) < MOST_BYTES and written.notes == []
    assert not any(name in html for name in HOSTILE) and "&lt;script&gt;window.hacked=1;" in body(html)
    assert "\\u003cscript\\u003ewindow.hacked=1;" in html
    summary = read(written.markdown)
    assert (
        "<script>" not in summary
        and "&lt;script&gt;" in summary
        and "of 12 test images are classified right" in summary
    )


def test_the_command_writes_into_the_folder_of_the_run(recorded, capsys):
    run = recorded("finished")
    assert main(["report", run, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["html"] == f"{run}/report.html" and os.path.isfile(answer["markdown"]) and not answer["notes"]
    html = body(read(answer["html"]))
    assert "91.0\u00a0%" in html and "of 100 test images are classified right" in html
    assert f"train --resume {run} --local num_epochs=6" in html and "910 parameters" in html
    assert "chosen by its accuracy, top 1 (test), so the result is slightly optimistic" in html
    assert main(["report", run, "--rows", "0"]) == 0  # over the earlier one


def test_a_run_without_its_checkpoints_has_a_page_that_says_so(recorded):
    run = recorded("finished")
    for name in os.listdir(run):
        if name.startswith("epoch_"):
            shutil.rmtree(f"{run}/{name}")
    written = write_report(run)
    assert "The model is not evaluated" in written.notes[0] and "has no checkpoint" in written.notes[0]
    assert "best value of accuracy, top 1 (test)" in body(read(written.html))


def test_a_run_whose_images_are_gone_has_a_page_that_says_so(tmp_path):
    folder = image_folder(tmp_path / "images", "ab")
    run = LocalTrainer(str(tmp_path), "r").train(build_task(config(folder, 2))).path
    shutil.rmtree(folder)
    notes = write_report(run).notes
    assert len(notes) == 2 and all("images" in note for note in notes)


def test_only_a_part_of_many_rows_is_evaluated(recorded):
    html = body(read(write_report(recorded("finished"), most_rows=30).html))
    assert "30 test images (drawn from 100)" in html


def test_several_runs_are_compared(recorded, tmp_path):
    written = write_report([recorded("finished"), recorded("interrupted")], str(tmp_path / "both.html"))
    html = body(read(written.html))
    assert "2 runs side by side" in html and "(83.8\u00a0% to 95.2\u00a0%, 100 rows)" in html
    assert "| best accuracy, top 1 (test) | 0.9100 | 0.8100 -0.1000 |" in read(written.markdown)


def test_a_sweep_has_its_best_trial_first(recorded):
    written = write_report(recorded("sweep"))
    html, summary = body(read(written.html)), read(written.markdown)
    assert "of the best trial, t0000" in html and "Parallel coordinates" in html and "t0003" in html
    assert "tune --resume" in html and "train --resume" in html
    assert '"type":"log","tickvals"' in read(written.html)  # its learning rate is drawn by loguniform
    assert [line.split(" | ")[0] for line in summary.splitlines() if line.startswith("| t0")] == [
        f"| t000{number}" for number in range(4)
    ]


def test_a_finished_sweep_is_not_to_be_resumed(recorded):
    sweep = recorded("sweep")
    edit_json(f"{sweep}/run.json", status="finished")
    html = body(read(write_report(sweep).html))
    assert "tune --resume" not in html and "tune --extend" in html


@pytest.mark.parametrize("written", [False, True])
def test_the_best_config_is_offered_once_it_is_written(recorded, written):
    sweep = pathlib.Path(recorded("sweep"))
    (sweep / "best.yaml").unlink(missing_ok=True)
    if written:
        (sweep / "best.yaml").write_text("num_epochs: 1\n")
    assert ("/best.yaml" in body(read(write_report(str(sweep)).html))) is written


def test_a_job_has_the_command_and_not_the_files_of_ray(recorded):
    run = recorded("finished")
    sent = "/tmp/ray/session/runtime_resources/working_dir_files/_ray_pkg_1"
    command = [f"{sent}/ray_classy/cli/on_cluster.py", "train", "digits.yaml"]
    edit_json(f"{run}/run.json", starts=[{"command": command, "cwd": sent, "job": "digits-1"}])
    html = body(read(write_report(run, most_rows=0).html))
    assert "ray-classy train digits.yaml" in html and "digits-1" in html
    assert "on_cluster" not in html and "_ray_pkg_" not in html


def test_report_true_writes_one_at_the_end(tmp_path):
    task = build_task(config(image_folder(tmp_path / "images", "ab"), 2, report=True))
    result = LocalTrainer(str(tmp_path), "r").train(task)
    assert '<span class="state finished">' in read(f"{result.path}/report.html")
    assert os.path.isfile(f"{result.path}/report.md")


def test_a_report_that_cannot_be_written_does_not_fail_the_run(tmp_path, capsys):
    task = build_task(config(image_folder(tmp_path / "images", "ab"), 2, report=True))
    task.datasets["test"].on_phase_end = lambda: os.makedirs(f"{tmp_path}/r/report.html", exist_ok=True)
    result = LocalTrainer(str(tmp_path), "r").train(task)
    with open(f"{result.path}/run.json") as file:
        assert json.load(file)["status"] == "finished"
    assert "no report is written" in capsys.readouterr().err


def test_a_file_that_is_no_report_is_not_overwritten(recorded, tmp_path):
    (tmp_path / "mine.html").write_text("<p>mine")
    with pytest.raises(RunFolderError, match="is not a report"):
        write_report(recorded("finished"), str(tmp_path / "mine.html"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"output": "report.pdf"}, "written to a .html file"),
        ({"most_rows": -1}, "at least 0"),
        ({"runs": []}, "one run"),
    ],
)
def test_mistakes_are_named(recorded, arguments, text):
    with pytest.raises(ComponentError, match=text):
        write_report(**{"runs": recorded("finished"), **arguments})


def test_a_sweep_is_not_compared_with_runs(recorded):
    with pytest.raises(RunFolderError, match="is a sweep"):
        write_report([recorded("sweep"), recorded("finished")])


def test_a_missing_package_is_named_with_the_command_that_installs_it(recorded, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    pages.plotly_script.cache_clear()
    with pytest.raises(UnavailableError, match=r"pip install 'ray_classy\[report\]'"):
        write_report(recorded("finished"))


def test_data_in_a_script_cannot_end_it():
    text = script_json({"</script><!--": ["\u2028", float("nan"), 1 / 3]})
    assert "<" not in text and json.loads(text) == {"</script><!--": ["\u2028", None, 0.333333]}


def test_a_page_that_would_be_too_large_has_no_pictures(recorded, monkeypatch):
    monkeypatch.setattr(pages, "MOST_BYTES", len(pages.plotly_script().encode()) + 60_000)
    written = write_report(recorded("finished"))
    assert "15 MB" in written.notes[-1] and '"pictures":[]' in read(written.html)


@pytest.mark.full
def test_a_run_in_a_store_has_its_report_beside_it(recorded, s3):
    url = s3.copy(recorded("finished"), "runs/finished")
    assert "runs/finished/report.html" in write_report(url).html
    with s3.filesystem.open_input_stream(f"{s3.name}/runs/finished/report.html") as stream:
        html = stream.read().decode()
    assert "of 100 test images are classified right" in html and "secret" not in body(html)
