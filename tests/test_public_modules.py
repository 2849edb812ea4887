"""Classy Vision's modules that users import from are here under the same names."""

import importlib

import pytest

NAMES = {
    "dataset": "ClassyDataset build_dataset register_dataset",
    "generic.debug": "debug_info",
    "generic.distributed_util": "all_reduce_mean broadcast_object gather_from_all is_primary set_cuda_device_index",
    "generic.opts": "add_generic_args check_generic_args get_parser parse_train_arguments",
    "generic.pdb": "set_trace",
    "generic.perf_stats": "PerfMetric PerfStats PerfTimer",
    "generic.profiler": "compute_flops count_params",
    "generic.registry_utils": "import_all_modules import_all_packages_from_directory",
    "generic.util": "load_checkpoint recursive_copy_to_device update_classy_model",
    "generic.visualize": "image_map plot_learning_curves plot_losses plot_model visdom_connect visdom_connected",
    "heads.classy_head": "ClassyHead",
    "heads.fully_connected_head": "FullyConnectedHead",
    "heads.fully_convolutional_linear_head": "FullyConvolutionalLinear FullyConvolutionalLinearHead",
    "heads.identity_head": "IdentityHead",
    "heads.vision_transformer_head": "VisionTransformerHead",
    "hooks.checkpoint_hook": "CheckpointHook",
    "hooks.classy_hook": "ClassyHook ClassyHookFunctions ClassyHookState",
    "hooks.constants": "ClassyHookFunctions",
    "hooks.exponential_moving_average_model_hook": "ExponentialMovingAverageModelHook",
    "hooks.loss_lr_meter_logging_hook": "LossLrMeterLoggingHook",
    "hooks.model_tensorboard_hook": "ModelTensorboardHook",
    "hooks.output_csv_hook": "OutputCSVHook",
    "hooks.precise_batch_norm_hook": "PreciseBatchNormHook",
    "hooks.profiler_hook": "ProfilerHook",
    "hooks.progress_bar_hook": "ProgressBarHook",
    "hooks.tensorboard_plot_hook": "TensorboardPlotHook",
    "hooks.torchscript_hook": "TorchscriptHook",
    "hooks.visdom_hook": "VisdomHook",
    "losses.barron_loss": "BarronLoss",
    "losses.classy_loss": "ClassyLoss",
    "losses.label_smoothing_loss": "LabelSmoothingCrossEntropyLoss",
    "losses.multi_output_sum_loss": "MultiOutputSumLoss",
    "losses.soft_target_cross_entropy_loss": "SoftTargetCrossEntropyLoss",
    "losses.sum_arbitrary_loss": "SumArbitraryLoss",
    "meters.accuracy_meter": "AccuracyMeter",
    "meters.classy_meter": "ClassyMeter",
    "meters.precision_meter": "PrecisionAtKMeter",
    "meters.recall_meter": "RecallAtKMeter",
    "meters.video_accuracy_meter": "VideoAccuracyMeter",
    "meters.video_meter": "VideoMeter",
    "models.anynet": "AnyNet AnyNetParams",
    "models.classy_model": "ClassyModel",
    "models.densenet": "DenseNet",
    "models.efficientnet": "EfficientNet EfficientNetB0 EfficientNetParams MODEL_PARAMS",
    "models.mlp": "MLP",
    "models.regnet": "RegNet RegNetParams RegNetY8gf",
    "models.resnext": "ResNeXt",
    "models.squeeze_and_excitation_layer": "SqueezeAndExcitationLayer",
    "optim.adam": "Adam",
    "optim.adamw": "AdamW",
    "optim.adamw_mt": "AdamWMT",
    "optim.classy_optimizer": "ClassyOptimizer OptionsView",
    "optim.param_scheduler.classy_vision_param_scheduler": "ClassyParamScheduler UpdateInterval",
    "optim.param_scheduler.composite_scheduler": "CompositeParamScheduler IntervalScaling",
    "optim.param_scheduler.fvcore_schedulers": "ConstantParamScheduler MultiStepParamScheduler StepParamScheduler",
    "optim.rmsprop": "RMSProp",
    "optim.rmsprop_tf": "RMSPropTF",
    "optim.sgd": "SGD",
    "optim.zero": "ZeRO",
}


@pytest.mark.parametrize(("module", "names"), NAMES.items())
def test_the_names_are_there(module, names):
    imported = importlib.import_module(f"ray_classy.{module}")
    assert all(hasattr(imported, name) for name in names.split())
