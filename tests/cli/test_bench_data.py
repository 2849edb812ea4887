import json

from ray_classy.cli.main import main


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
