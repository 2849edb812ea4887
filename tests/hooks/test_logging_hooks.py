import io
import logging
import sys

import pytest

from ray_classy.errors import ComponentError
from ray_classy.hooks import LossLrMeterLoggingHook, ProgressBarHook, build_hook, build_hooks
from tests.helpers import make_task, train


def lines(caplog, hook, **options):
    with caplog.at_level(logging.INFO, "ray_classy"):
        train(make_task(train=16, test=4, hooks=[hook], **options))
    return [record.getMessage() for record in caplog.records if "loss" in record.getMessage()]


def test_one_line_per_phase(caplog):
    first, second = lines(caplog, LossLrMeterLoggingHook())
    assert first.startswith("train 1  4 steps  loss 1.") and "accuracy.top_1 0." in first and "lr 0.1" in first
    assert second.startswith("test 1  1 steps") and "lr" not in second and second.endswith("100% done")


def test_lines_between(caplog):
    found = lines(caplog, LossLrMeterLoggingHook(log_freq=2))
    assert [line.split("  ")[1] for line in found] == ["step 2/4", "step 4/4", "4 steps", "1 steps"]


def test_the_line_of_an_epoch_has_the_learning_rate_of_its_last_update(caplog):
    found = lines(caplog, LossLrMeterLoggingHook(), epochs=2, schedule={"name": "step", "values": [0.1, 0.01]})
    assert [line.partition("lr ")[2].split()[0] for line in found if line.startswith("train")] == ["0.1", "0.01"]


@pytest.mark.parametrize("log_freq", [0, -1, 1.5, True])
def test_impossible_log_freq(log_freq):
    with pytest.raises(ComponentError, match="log_freq"):
        LossLrMeterLoggingHook(log_freq)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_fills_up_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    train(make_task(train=16, test=4, hooks=[ProgressBarHook()]))
    assert "4/4\n" in sys.stderr.getvalue() and "1/1\n" in sys.stderr.getvalue()


def test_no_bar_elsewhere(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    train(make_task(train=16, hooks=[ProgressBarHook()]))
    assert sys.stderr.getvalue() == ""


def test_built_from_configs():
    hooks = build_hooks([{"name": "progress_bar"}, {"name": "loss_lr_meter_logging", "log_freq": 3}])
    assert [hook.name() for hook in hooks] == ["ProgressBarHook", "LossLrMeterLoggingHook"] and hooks[1].log_freq == 3


def test_config_is_not_written_to():
    config = {"name": "progress_bar"}
    build_hook(config)
    assert config == {"name": "progress_bar"}
