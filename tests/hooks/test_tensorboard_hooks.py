import copy
import os
import pickle

import pytest

from ray_classy.errors import ComponentError, ConfigError, UnavailableError
from ray_classy.hooks import (
    ModelTensorboardHook,
    TensorboardPlotHook,
    build_hook,
    summary_writer,
    tensorboard_plot_hook,
)
from ray_classy.hooks.summary_writer import WriterPlan
from tests.helpers import make_task, run_ranks, train


class Writer:
    """Has the methods of a SummaryWriter, and keeps what it is given: by tag, (value, step)."""

    def __init__(self):
        self.scalars, self.histograms, self.texts, self.flushed = {}, {}, [], 0

    def add_scalar(self, tag, value, global_step=None, walltime=None):
        self.scalars.setdefault(tag, []).append((value, global_step))

    def add_histogram(self, tag, values, global_step=None):
        self.histograms.setdefault(tag, []).append(global_step)

    def add_text(self, tag, text):
        self.texts.append(tag)

    def flush(self):
        self.flushed += 1


def plotted(log_period=10, **options):
    hook = TensorboardPlotHook(Writer(), log_period)
    return hook, train(make_task(train=12, test=4, epochs=2, hooks=[hook], **options))


def steps(writer, tag):
    return [step for _, step in writer.scalars[tag]]


def test_each_phase_is_plotted_under_its_number():
    hook, task = plotted()
    for tag in ("Losses/train", "Losses/test", "Meters/train/accuracy/top_1", "Meters/test/accuracy/top_2"):
        assert steps(hook.tb_writer, tag) == [0, 1]
    assert hook.tb_writer.scalars["Losses/test"][-1][0] == pytest.approx(task.losses.row_mean())
    assert steps(hook.tb_writer, "Speed/train/im_per_sec") == [0, 1] and hook.tb_writer.flushed == 4
    assert set(map(tuple, hook.tb_writer.histograms.values())) == {(-1, 0, 1)} and hook.tb_writer.texts == ["Task"]


def test_steps_are_plotted_by_their_number_in_all_phases():
    hook, _ = plotted(2, schedule={"name": "linear", "start_value": 0.1, "end_value": 0.0})
    rates = hook.tb_writer.scalars["Learning Rate/train"]
    assert [step for _, step in rates] == [1, 3, 4, 6]
    assert [rate for rate, _ in rates] == pytest.approx([0.1, 0.2 / 3, 0.05, 0.1 / 6])
    assert steps(hook.tb_writer, "Speed/train/cumulative_sample_fetch_time") == [1, 3, 4, 6]
    assert hook.get_classy_state()["step_count"] == {"train": 6, "test": 2}


def _tags_of_a_rank():
    hook, _ = plotted()
    return sorted(hook.tb_writer.scalars)


def test_the_primary_rank_writes():
    primary, other = run_ranks(2, _tags_of_a_rank)
    assert "Losses/test" in primary and other == []


def test_another_rank_writes_nothing(monkeypatch):
    monkeypatch.setattr(tensorboard_plot_hook, "is_primary", lambda: False)
    assert plotted()[0].tb_writer.scalars == {}


@pytest.mark.parametrize(("log_period", "builtin"), [("2", TypeError), (1.5, TypeError), (0, ValueError)])
def test_impossible_log_period(log_period, builtin):
    with pytest.raises(ComponentError, match="log_period") as caught:
        TensorboardPlotHook(Writer(), log_period)
    assert isinstance(caught.value, builtin)


def test_without_the_package_a_config_is_refused(monkeypatch):
    monkeypatch.setattr(summary_writer, "tb_available", False)
    with pytest.raises(UnavailableError, match=r"ray_classy\[tensorboard\]"):
        build_hook({"name": "tensorboard_plot", "summary_writer": {}})


@pytest.mark.parametrize("name", ["tensorboard_plot", "model_tensorboard"])
def test_a_config_needs_the_arguments_of_the_writer(name):
    with pytest.raises(ConfigError, match="summary_writer is missing"):
        build_hook({"name": name})


def test_a_config_opens_no_file_until_the_run_starts(tmp_path):
    pytest.importorskip("tensorboard")
    config = {"name": "tensorboard_plot", "summary_writer": {"log_dir": str(tmp_path / "tb")}, "log_period": 3}
    hook = pickle.loads(pickle.dumps(build_hook(config)))
    assert hook.log_period == 3 and not (tmp_path / "tb").exists()


def test_real_event_files_can_be_read(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    hooks = [build_hook({"name": name, "summary_writer": {"log_dir": str(tmp_path)}}) for name in _BOTH]
    train(make_task(hooks=hooks))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("Losses/train")] == [0] and events.Graph().node
    assert isinstance(copy.deepcopy(hooks[0])._writer, WriterPlan)  # a copy has a file of its own


_BOTH = ("tensorboard_plot", "model_tensorboard")


def test_a_model_that_cannot_be_drawn_is_logged(caplog):
    train(make_task(hooks=[ModelTensorboardHook(Writer())]))
    assert "the graph of the model is not drawn: AttributeError" in caplog.text


def test_a_wrong_argument_of_the_writer_is_named():
    with pytest.raises(ConfigError, match="no argument 'logdir'; did you mean 'log_dir'"):
        build_hook({"name": "tensorboard_plot", "summary_writer": {"logdir": "x"}})


def test_a_copy_of_an_open_hook_keeps_its_arguments(tmp_path):
    hook = build_hook(
        {"name": "tensorboard_plot", "summary_writer": {"log_dir": str(tmp_path), "filename_suffix": ".x"}}
    )
    hook.tb_writer.close()
    again = pickle.loads(pickle.dumps(hook))
    again.tb_writer.close()
    assert all(name.endswith(".x") for name in os.listdir(tmp_path)) and len(os.listdir(tmp_path)) == 2
