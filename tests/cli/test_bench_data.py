import json

import pytest

from ray_classy.cli.main import main


@pytest.mark.full
def test_speeds_are_told_beside_a_dataloader_with_what_holds_them_up(capsys):
    assert main(["bench-data", "configs/digits.yaml", "--rows", "128"]) == 0
    told = capsys.readouterr().out
    assert "train: 1,438 rows; rows per second of" in told and "feed / DataLoader" in told
    assert "the slowest step is" in told


def test_json_has_the_figures(capsys):
    assert main(["bench-data", "configs/digits.yaml", "--rows", "64", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["train"]["feed"] > 0 and data["train"]["bottleneck"] in data["train"]["steps"]


def test_without_a_config_it_says_what_it_needs(capsys):
    assert main(["bench-data"]) == 2
    assert "bench-data needs a config file: ray-classy bench-data CONFIG [key=value ...]\n" in capsys.readouterr().err


def test_a_mistake_in_the_config_is_told(capsys):
    assert main(["bench-data", "configs/digits.yaml", "dataset.train.batchsize=3"]) == 2
    assert "dataset.train.batchsize" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.ray
def test_other_cpus_of_a_cluster_are_tried(ray_cluster, capsys):
    assert main(["bench-data", "configs/digits.yaml", "--rows", "100"]) == 0
    told = capsys.readouterr().out
    assert told.count("all steps, by 2 CPUs on 1 node that the training workers leave") == 2
    assert told.count("ray.ingest: ") == 2
