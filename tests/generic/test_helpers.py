"""Command-line arguments, timers, debuggers and device helpers under the predecessor's names."""

import argparse
import inspect
import sys

import pytest
import torch

from ray_classy.errors import ComponentError
from ray_classy.generic import debug, distributed_util, opts, pdb
from ray_classy.generic.perf_stats import PerfMetric, PerfStats, PerfTimer
from tests.helpers import run_ranks


def test_arguments_have_the_predecessors_defaults(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "--config_file", "c.json", "--log_freq", "7", "--profiler"])
    args = vars(opts.parse_train_arguments())
    assert (args["config_file"], args["log_freq"], args["profiler"]) == ("c.json", 7, True)
    rest = ("checkpoint_folder", "checkpoint_period", "visdom_port", "image_backend", "distributed_backend")
    assert [args[name] for name in rest] == ["", 1, 8097, "PIL", "none"] and len(args) == 16


def test_a_parser_of_the_users_gets_the_arguments(monkeypatch):
    parser = argparse.ArgumentParser()
    parser.add_argument("--mine", type=int)
    monkeypatch.setattr(sys, "argv", ["train", "--config_file", "c.json", "--mine", "3"])
    assert opts.parse_train_arguments(opts.add_generic_args(parser)).mine == 3


def test_an_impossible_port(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "--config_file", "c.json", "--visdom_port", "-1"])
    with pytest.raises(ComponentError, match="visdom_port"):
        opts.parse_train_arguments()


def test_a_metric_is_averaged_and_smoothed():
    metric = PerfMetric()
    assert metric.get_avg() == 0
    for value in (1.0, 2.0, 4.0):
        metric.update(value)
    assert metric.get_avg() == pytest.approx(7 / 3) and metric.smoothed_value == pytest.approx(1.39)


def test_timers_are_averaged_by_name():
    stats = PerfStats(use_cuda_events=False)
    for name in ("read", "step", "read"):
        with PerfTimer(name, stats):
            pass
    assert [line.split(":")[0].strip() for line in stats.report_str().splitlines()[1:]] == ["read", "step"]
    assert stats._host_stats["read"].num_updates == 2 and not stats.use_cuda_events()


def test_a_timer_without_statistics_does_nothing():
    with PerfTimer("read", None) as timer:
        pass
    assert timer.skip and timer.elapsed == 0 and "Timer" in PerfStats().report_str()


def test_an_error_without_a_terminal_is_printed(capsys):
    debug.debug_info(ValueError, ValueError("wrong"), None)
    assert "ValueError: wrong" in capsys.readouterr().err


def test_the_debugger_has_no_arguments():
    assert not inspect.signature(pdb.set_trace).parameters


def test_the_index_of_the_device_is_kept():
    before = distributed_util.get_cuda_device_index()
    distributed_util.set_cpu_device()
    assert (before, distributed_util.get_cuda_device_index()) == (0, -1)
    distributed_util._cuda_device_index = 0


def _reduced():
    tensor = torch.ones(2)
    mean = distributed_util.all_reduce_op(tensor, torch.distributed.ReduceOp.SUM, lambda total: total / 2)
    moved, place = distributed_util.convert_to_distributed_tensor(tensor)
    model = distributed_util.init_distributed_data_parallel_model(torch.nn.Linear(1, 1))
    back = distributed_util.convert_to_normal_tensor(moved, place)
    sent = distributed_util.broadcast_object({"rank": distributed_util.get_rank()}, 0, use_disk=False)
    return tensor.tolist(), mean.tolist(), back.tolist(), place, sent, type(model).__name__


def test_tensors_are_reduced_in_place():
    expected = ([2.0, 2.0], [1.0, 1.0], [2.0, 2.0], "cpu", {"rank": 0}, "DistributedDataParallel")
    assert run_ranks(2, _reduced) == [expected] * 2


def test_in_one_process_tensors_stay():
    tensor = torch.ones(2)
    assert distributed_util.all_reduce_op(tensor, None, lambda total: total / 2) is tensor
