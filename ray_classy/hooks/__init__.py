"""Hooks: code that a task calls at five points of a run."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.hooks.checkpoint_hook import CheckpointHook
    from ray_classy.hooks.classy_hook import (
        HOOK_REGISTRY,
        ClassyHook,
        ClassyHookFunctions,
        ClassyHookState,
        build_hook,
        build_hooks,
        register_hook,
    )
    from ray_classy.hooks.early_stopping_hook import EarlyStoppingHook
    from ray_classy.hooks.exponential_moving_average_model_hook import ExponentialMovingAverageModelHook
    from ray_classy.hooks.lookahead_hook import LookaheadHook
    from ray_classy.hooks.loss_lr_meter_logging_hook import LossLrMeterLoggingHook
    from ray_classy.hooks.mlflow_hook import MLflowHook
    from ray_classy.hooks.model_complexity_hook import ModelComplexityHook
    from ray_classy.hooks.model_tensorboard_hook import ModelTensorboardHook
    from ray_classy.hooks.output_csv_hook import OutputCSVHook
    from ray_classy.hooks.precise_batch_norm_hook import PreciseBatchNormHook
    from ray_classy.hooks.profiler_hook import ProfilerHook
    from ray_classy.hooks.progress_bar_hook import ProgressBarHook
    from ray_classy.hooks.run_logger_hook import LoggedRun, RunLoggerHook
    from ray_classy.hooks.tensorboard_hook import TensorboardHook
    from ray_classy.hooks.tensorboard_plot_hook import TensorboardPlotHook
    from ray_classy.hooks.torchscript_hook import TorchscriptHook
    from ray_classy.hooks.visdom_hook import VisdomHook
    from ray_classy.hooks.wandb_hook import WandbHook
    from ray_classy.hooks.whitening_hook import WhiteningHook

__all__ = [
    "HOOK_REGISTRY",
    "CheckpointHook",
    "ClassyHook",
    "ClassyHookFunctions",
    "ClassyHookState",
    "EarlyStoppingHook",
    "ExponentialMovingAverageModelHook",
    "LoggedRun",
    "LookaheadHook",
    "LossLrMeterLoggingHook",
    "MLflowHook",
    "ModelComplexityHook",
    "ModelTensorboardHook",
    "OutputCSVHook",
    "PreciseBatchNormHook",
    "ProfilerHook",
    "ProgressBarHook",
    "RunLoggerHook",
    "TensorboardHook",
    "TensorboardPlotHook",
    "TorchscriptHook",
    "VisdomHook",
    "WandbHook",
    "WhiteningHook",
    "build_hook",
    "build_hooks",
    "register_hook",
]

__getattr__ = lazy_exports(__name__)
