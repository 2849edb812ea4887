"""Parts of reports: pictures, confusions, importance, curves, words."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ray_classy.report.curves import events_of, learning_figures
from ray_classy.report.first_batches import normalization
from ray_classy.report.importance import importances
from ray_classy.report.markdown import plain
from ray_classy.report.mistakes import confused_pairs
from ray_classy.report.pictures import Album, image_of
from ray_classy.report.run_source import read_run
from ray_classy.report.sweep_figures import Trial, last_words, sweep_figures
from ray_classy.report.words import metric_name, number, percent, setting, shortened, worker_time
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from tests.report.conftest import config, image_folder


def test_an_album_takes_so_many_pictures_and_bytes():
    image = Image.new("RGB", (300, 200))
    few = Album(most=2)
    assert [few.add(image) for _ in range(3)] == [0, 1, None]
    small = Album(most_bytes=len(few.sources[0]))
    assert [small.add(image) for _ in range(2)] == [0, None] and few.sources[0].startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (torch.zeros(3, 5, 7), (7, 5)),
        (torch.zeros(1, 5, 7), (7, 5)),
        (torch.zeros(3, 4, 5, 7), (7, 5)),  # a clip, channels first
        (torch.zeros(4, 5, 7, 3, dtype=torch.uint8), (7, 5)),  # a clip, channels last
        ({"video": torch.zeros(3, 4, 5, 7)}, (7, 5)),
        (np.zeros((5, 7)), (7, 5)),
        (torch.zeros(6, 5, 7), None),
        ("no image", None),
    ],
)
def test_images_are_made_of_what_networks_take(value, size):
    image = image_of(value)
    assert (None if image is None else image.size) == size


def test_a_value_outside_the_range_is_stretched():
    pixels = np.asarray(image_of(torch.tensor([[[-2.0, 0.0, 2.0]]])))
    assert pixels.tolist() == [[0, 128, 255]]


def test_of_many_classes_the_fifty_most_confused_pairs_remain():
    confusion = np.arange(60 * 60).reshape(60, 60)
    pairs = confused_pairs(confusion)
    assert len(pairs) == 50 and pairs[0] == (59, 58) and all(true != predicted for true, predicted in pairs)
    assert confused_pairs(np.array([[5, 0], [2, 5]])) == [(1, 0)]


def test_the_parameter_that_decides_is_the_important_one():
    random = np.random.default_rng(0)
    params = [
        {"lr": 10 ** random.uniform(-4, 0), "wd": random.uniform(), "net": random.choice(["a", "b"])} for _ in range(40)
    ]
    values = [-((np.log10(one["lr"]) + 2) ** 2) for one in params]  # best in the middle
    first, *others = importances(params, values)
    assert first.name == "lr" and first.share > 0.6 and all(one.share < 0.3 for one in others)
    assert importances(params[:5], values[:5]) == [] and importances([{"a": 1}] * 9, list(range(9))) == []


def test_parameters_have_the_shortest_names_that_differ():
    names = ["optimizer.lr", "schedule.lr", "transforms.0.degrees", "transforms.1.p", "transforms.2.p"]
    names.append("optimizer.param_schedulers.lr.then.start_value")
    short = ["optimizer.lr", "schedule.lr", "degrees", "1.p", "2.p", "lr.then.start_value"]
    assert list(last_words(names).values()) == short


@pytest.mark.parametrize(("values", "kind"), [([0.001, 0.01, 0.1], "log"), ([0.02, 5, 10, 15], "linear")])
def test_a_parameter_has_the_axis_on_which_its_values_are_spread(values, kind):
    trials = [Trial(f"t{number}", {"lr": value}, number, "finished") for number, value in enumerate(values)]
    _, (dots,) = sweep_figures(trials, "test.loss", "min", [])
    assert dots.layout["xaxis"].get("type", "linear") == kind


def test_a_parameter_that_is_searched_on_a_logarithmic_scale_has_such_an_axis():
    trials = [Trial(name, {"lr": value}, 0.5, "finished", [1, 2], [0.4, 0.5]) for name, value in (("a", 3), ("b", 5))]
    (curves, parallel), (dots,) = sweep_figures(trials, "test.loss", "min", [], {"lr"})
    assert dots.layout["xaxis"]["type"] == "log" and dots.layout["xaxis"]["ticktext"] == ["3", "5"]
    assert [note["text"] for note in parallel.layout["annotations"] if note["x"] == 0] == ["3", "5"]
    assert curves.layout["xaxis"]["dtick"] == 1


def test_the_curves_within_epochs_are_drawn_where_there_are_any(recorded):
    run = recorded("finished")
    before = {one.title: len(one.traces) for one in learning_figures([read_run(run)])}
    steps = [
        {
            "phase_type": "train",
            "where": where / 10,
            "loss": 2.0,
            "lr": [0.1],
            "samples_per_second": 9,
            "data_wait": 0.5,
        }
        for where in range(10)
    ]
    with open(f"{run}/steps.jsonl", "w") as file:
        file.writelines(f"{json.dumps(step)}\n" for step in steps)
    after = {one.title: len(one.traces) for one in learning_figures([read_run(run)])}
    assert before == {"Loss": 2, "Accuracy, top 1": 2, "Learning rate": 1, "Images per second": 2}
    assert after == {**before, "Loss": 3, "Images per second": 3, "Data wait": 1}


def test_a_learning_rate_that_warms_up_is_drawn(recorded):
    run = read_run(recorded("finished"))
    then = {"name": "linear", "start_value": 1.0, "end_value": 0.0}
    warmup = {"name": "warmup", "epochs": run.epochs / 2, "then": then}
    run.config["optimizer"] = {"name": "sgd", "param_schedulers": {"lr": warmup}}
    (rates,) = [one.traces[0]["y"] for one in learning_figures([run]) if one.title == "Learning rate"]
    assert rates[0] == 0 and rates[-1] < 0.01 and max(rates) > 0.9


def test_the_learning_rate_of_a_run_that_was_made_longer_is_the_one_that_was_used(tmp_path):
    def trained(epochs, **place):
        optimizer = {"name": "sgd", "param_schedulers": {"lr": {"name": "step", "values": [0.1, 0.01]}}}
        more = {"num_epochs": epochs, "optimizer": optimizer, "log_every": {"steps": 1}}
        run = LocalTrainer(**place).train(build_task(config(str(tmp_path / "images"), 2, **more))).path
        figures = {figure.title: figure.traces[0] for figure in learning_figures([read_run(run)])}
        return run, figures["Learning rate"], figures["Loss"]

    image_folder(tmp_path / "images", "ab", each=8)
    run, rate, _ = trained(2, storage_path=str(tmp_path), name="r")
    assert (len(rate["x"]), rate["y"][0], rate["y"][-1]) == (401, 0.1, 0.01)
    _, rate, loss = trained(4, resume=run)
    assert (rate["x"], rate["y"]) == ([0, 1, 2, 3, 4], [0.1, 0.1, 0.01, 0.01, 0.01])
    assert loss["x"] == [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]


def test_restarts_and_changes_of_the_number_of_workers_are_marked(recorded):
    run = recorded("finished")
    with open(f"{run}/run.json") as file:
        facts = json.load(file)
    resumes = [{"checkpoint": "epoch_0002-step_000720", "at": "2026-11-27T18:53:00+0000"}]
    facts["starts"].append({**facts["starts"][0], "resumes": resumes})
    with open(f"{run}/run.json", "w") as file:
        json.dump(facts, file)
    with open(f"{run}/metrics.jsonl") as file:
        lines = [json.loads(line) for line in file]
    with open(f"{run}/metrics.jsonl", "w") as file:
        file.writelines(f"{json.dumps({**line, 'world_size': 2 if line['epoch'] > 2 else 4})}\n" for line in lines)
    source = read_run(run)
    assert events_of(source) == [(2.0, "4 → 2 workers"), (2.0, "resumed")]
    assert source.seconds == pytest.approx(sum(line["seconds"] * (2 if line["epoch"] > 2 else 4) for line in lines))


def test_the_normalization_of_a_transform_is_found():
    from ray_classy.dataset.transforms import build_transforms

    transform = build_transforms(
        [{"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": "imagenet_augment"}]}]
    )
    mean, std = normalization(transform)
    assert list(mean) == [0.485, 0.456, 0.406] and list(std) == [0.229, 0.224, 0.225]
    assert normalization(build_transforms([{"name": "tuple_to_map", "list_of_map_keys": ["input", "target"]}])) is None


def test_words():
    assert (percent(0.934), number(0.5), number(1437), number(None)) == ("93.4\u00a0%", "0.5000", "1,437", "–")
    assert (setting(None), setting(True), setting(1e-4), setting("a")) == ("null", "true", "0.0001", "a")
    assert (worker_time(1.2), worker_time(30), worker_time(600), worker_time(7200)) == (
        "1 worker-second",
        "30 worker-seconds",
        "10 worker-minutes",
        "2.0 worker-hours",
    )
    assert metric_name("test.accuracy.top_1") == "accuracy, top 1 (test)" and shortened("x" * 99).endswith("x" * 79)


def test_markdown_has_no_markup_of_the_users():
    assert plain("a|b_<i>\n#[x](y)`") == r"a\|b\_&lt;i&gt; \#\[x\](y)\`"
