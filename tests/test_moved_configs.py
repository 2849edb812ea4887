"""Configs of the kinds that Classy Vision came with are built, checked and trained; only their paths of data differ."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ray_classy.models import build_model
from ray_classy.tasks import build_task
from ray_classy.tasks.build import build_checked_task, draft_task
from ray_classy.tasks.draft import Draft
from ray_classy.tasks.task_config import checked
from ray_classy.trainer import LocalTrainer, RayTrainer
from tests.videos import save_video

NORMALIZE = {"name": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CROPS = {
    "train": [{"name": "RandomResizedCrop", "size": 224}, {"name": "RandomHorizontalFlip"}],
    "test": [{"name": "Resize", "size": 256}, {"name": "CenterCrop", "size": 224}],
}
TOP = {"accuracy": {"topk": [1, 5]}}


def _sgd(schedule, **options):
    momentum = {"weight_decay": 1e-4, "momentum": 0.9, "nesterov": True}
    return {"name": "sgd", "param_schedulers": {"lr": schedule}, **momentum, **options}


def _warm_up(then, start, top, share, update_interval="epoch", scaling="rescaled"):
    """The composite schedule of the large configs: a linear warm-up, and another schedule."""
    return {
        "name": "composite",
        "schedulers": [{"name": "linear", "start_value": start, "end_value": top}, then],
        "interval_scaling": ["rescaled", scaling],
        "update_interval": update_interval,
        "lengths": [share, round(1 - share, 4)],
    }


def _image_path(kind, crops=CROPS, more=()):
    transforms = [*crops[kind], *more, {"name": "ToTensor"}, NORMALIZE]
    return {
        "name": "image_path",
        "image_folder": f"/path/of/{kind}",
        "batchsize_per_replica": 32,
        "num_samples": None,
        "use_shuffle": kind == "train",
        "transforms": [{"name": "apply_transform_to_key", "transforms": transforms, "key": "input"}],
    }


def _imagenet(model, schedule=None, loss=None, crops=CROPS, more=(), **options):
    then = {"name": "multistep", "num_epochs": 90, "values": [0.4, 0.04, 0.004, 0.0004], "milestones": [30, 60, 80]}
    return {
        "name": "classification_task",
        "num_epochs": 90,
        "loss": loss or {"name": "CrossEntropyLoss"},
        "dataset": {kind: _image_path(kind, crops, more if kind == "train" else ()) for kind in ("train", "test")},
        "meters": TOP,
        "model": model,
        "optimizer": _sgd(schedule or _warm_up(then, 0.1, 0.4, 0.0556, scaling="fixed")),
        **options,
    }


def _head(block, planes, classes=1000, **options):
    common = {"unique_id": "default_head", "fork_block": block, "in_plane": planes, "num_classes": classes}
    return {"heads": [{"name": "fully_connected", **common, **options}]}


def _resnet(blocks, name="resnet", **options):
    head = _head(f"block3-{blocks[-1] - 1}", 2048)
    return {"name": name, "num_blocks": blocks, "small_input": False, "zero_init_bn_residuals": True, **options, **head}


def _network3d(kind, blocks, frames, basis, bottleneck, classes, crop, in_plane, **options):
    block = f"pathway0-stage4-block{blocks[-1] - 1}"
    head = {
        "name": "fully_convolutional_linear",
        "unique_id": "default_head",
        "pool_size": [max(1, frames // 8 if kind == "r3d" else frames), crop // 32, crop // 32],
        "activation_func": "softmax",
        "num_classes": classes,
        "fork_block": f"{block}-relu" if bottleneck == "preactivated" else block,
        "in_plane": in_plane,
        "use_dropout": True,
    }
    residual = "basic_transformation" if bottleneck is None else f"{bottleneck}_bottleneck_transformation"
    return {
        "name": "resnext3d",
        "frames_per_clip": frames,
        "input_planes": 3,
        "clip_crop_size": crop,
        "skip_transformation_type": f"{bottleneck or 'postactivated'}_shortcut",
        "residual_transformation_type": residual,
        "num_blocks": blocks,
        "stem_name": "resnext3d_stem",
        "stem_planes": 64,
        "stem_temporal_kernel": 3 if kind == "r3d" else 1,
        "stage_temporal_kernel_basis": basis,
        "temporal_conv_1x1": [kind == "i3d"] * 4,
        "stage_temporal_stride": [1, 2, 2, 2] if kind == "r3d" else [1, 1, 1, 1],
        "stage_spatial_stride": [1, 2, 2, 2],
        "num_groups": 1,
        "width_per_group": 64,
        "num_classes": classes,
        "heads": [head],
        **options,
    }


def _i3d(bottleneck):
    basis = [[3], [3, 1], [3, 1], [1, 3]]
    options = {"input_key": "video", "stage_planes": 256, "stem_maxpool": True, "zero_init_residual_transform": True}
    return _network3d("i3d", [3, 4, 6, 3], 8, basis, bottleneck, 400, 224, 2048, **options)


def _r2d(bottleneck, blocks):
    options = {"input_key": None, "stage_planes": 256, "stem_maxpool": True, "zero_init_residual_transform": True}
    return _network3d("r2d", blocks, 1, [[1], [1], [1], [1]], bottleneck, 1000, 224, 2048, **options)


def _r3d34(frames, classes):
    options = {"input_key": "video", "stage_planes": 64, "stem_maxpool": False}
    return _network3d("r3d", [3, 4, 6, 3], frames, [[3]] * 4, None, classes, 112, 512, **options)


def _clips(name, kind, frames, crop=112, **options):
    augment = {"name": "video_default_augment", "crop_size": crop, "size_range": [crop * 8 // 7, crop * 10 // 7]}
    resize = {"name": "video_default_no_augment", "size": crop * 8 // 7}
    clips = 1 if kind == "train" else 10
    return {
        "name": name,
        "split": kind,
        "batchsize_per_replica": 8 if kind == "train" else 10,
        "use_shuffle": kind == "train",
        "num_samples": None,
        "frames_per_clip": frames,
        "step_between_clips": 1,
        "clips_per_video": clips,
        "transforms": {"video": [augment if kind == "train" else resize]},
        **options,
    }


def _video(name, model, frames, crop=112, epochs=40, task="classification_task", keys=None, **options):
    keys = keys or {"video_dir": "/path/of/videos", "metadata_file": "/path/of/metadata.pt"}
    meter = {"topk": [1, 5], "clips_per_video_train": 1, "clips_per_video_test": 10}
    return {
        "name": task,
        "num_epochs": epochs,
        "loss": {"name": "CrossEntropyLoss"},
        "dataset": {kind: _clips(name, kind, frames, crop, **keys) for kind in ("train", "test")},
        "meters": {**TOP, "video_accuracy": meter},
        "model": model,
        "optimizer": _sgd({"name": "multistep", "num_epochs": epochs, "values": [0.005, 0.0005], "milestones": [20]}),
        **options,
    }


def _kinetics(bottleneck, tuned=False):
    task = {"task": "fine_tuning", "freeze_trunk": False, "reset_heads": True} if tuned else {}
    bounds = {"start_value": 0.1, "end_value": 0.00005}
    schedule = _warm_up({"name": "cosine", **bounds}, 0.01, 0.1, 0.13, "epoch")
    keys = {"frame_rate": None, "video_min_dimension": 256, "extensions": ["mp4"], "audio_channels": 0}
    paths = {"video_dir": "/path/of/videos", "metadata_file": "/path/of/metadata.pt"}
    optimizer = _sgd(schedule, num_epochs=100)
    return _video("kinetics400", _i3d(bottleneck), 8, 224, 100, keys={**keys, **paths}, optimizer=optimizer, **task)


def _vit(name, planes, size=224, tuned=False):
    crops = {
        "train": [{"name": "RandomResizedCrop", "size": size}, {"name": "RandomHorizontalFlip"}],
        "test": [{"name": "Resize", "size": size * 8 // 7}, {"name": "CenterCrop", "size": size}],
    }
    head = {"name": "vision_transformer_head", "unique_id": "default_head", "in_plane": planes, "num_classes": 1000}
    model = {"name": name, "image_size": size, "heads": [{**head, "fork_block": "trunk_output"}]}
    cosine = {"name": "cosine", "start_value": 0.003, "end_value": 0.0}
    common = {"amp_args": {"amp_type": "pytorch"}, "clip_grad_norm": 1.0, "bn_weight_decay": False}
    if tuned:
        optimizer = _sgd(_warm_up(cosine, 0.0, 0.003, 0.05, "step"), weight_decay=0.0, nesterov=False)
        task = {"name": "fine_tuning", "reset_heads": True, "pretrained_checkpoint": "/path/of/checkpoint.torch"}
        return _imagenet(model, crops=crops, **common, **task, num_epochs=8) | {"optimizer": optimizer}
    model["dropout_rate"] = 0.1
    model["heads"][0]["hidden_dim"] = planes
    options = {
        "mixup": {"alpha": 0.5, "num_classes": 1000, "cutmix_alpha": 0.0, "mode": "batch"},
        "simulated_global_batchsize": 4096,
        "distributed": {"broadcast_buffers": "disabled", "fp16_grad_compress": False, "bucket_cap_mb": 25},
        "hooks": [{"name": "ema_model_weights", "decay": 0.999, "consider_bn_buffers": True, "device": "gpu"}],
    }
    loss = {"name": "soft_target_cross_entropy", "ignore_index": -100, "reduction": "mean"}
    adamw = {"name": "adamw", "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.3, "amsgrad": False}
    optimizer = {**adamw, "param_schedulers": {"lr": _warm_up(cosine, 0.0, 0.003, 0.0333, "step")}}
    more = ({"name": "imagenet_autoaugment"},)
    return _imagenet(model, loss=loss, crops=crops, more=more, **common, **options) | {"optimizer": optimizer}


def _synthetic_images(name="synthetic_image"):
    image = {"crop_size": 224, "class_ratio": 0.5, "num_samples": 320, "seed": 0, "batchsize_per_replica": 32}
    return {
        kind: {
            "name": name,
            "split": kind,
            **image,
            "use_augmentation": False,
            "use_shuffle": kind == "train",
            "transforms": [
                {"name": "generic_image_transform", "transforms": [*CROPS[kind], {"name": "ToTensor"}, NORMALIZE]}
            ],
        }
        for kind in ("train", "test")
    }


def _synthetic(model, optimizer, **options):
    task = {"name": "classification_task", "num_epochs": 2, "loss": {"name": "CrossEntropyLoss"}}
    return {
        **task,
        "dataset": _synthetic_images(),
        "meters": {"accuracy": {"topk": [1]}},
        "model": model,
        "optimizer": optimizer,
        **options,
    }


REGNET = {"depth": 17, "w_0": 192, "w_a": 76.82, "w_m": 2.19, "group_width": 56, "bottleneck_multiplier": 1.0}
REGNET |= {"name": "regnet", "use_se": True, "se_ratio": 0.25, "stem_width": 32, "bn_epsilon": 1e-5, "bn_momentum": 0.1}
RESNEXT = {"name": "resnext", "base_width_and_cardinality": [4, 32]}
DENSENET = {"name": "densenet", "num_blocks": [6, 12, 24, 16], "growth_rate": 32, "small_input": False}
SMOOTHING = {"name": "label_smoothing_cross_entropy", "ignore_index": -1, "reduction": "mean", "smoothing_param": 0.1}
SPLITS = {"video_dir": "/path/of/videos", "metadata_file": "/path/of/metadata.pt", "splits_dir": "/path/of/splits"}
STEP = {"name": "step", "values": [0.1, 0.01]}
NOISE = {"num_samples": 20, "num_classes": 101, "video_width": 170, "video_height": 128, "audio_samples": 0}
HALF_COSINE = {"name": "cosine", "start_value": 0.1, "end_value": 0.0}

CONFIGS = {
    "resnet50_synthetic_image": _synthetic(_resnet([3, 4, 6, 3]), _sgd(STEP, nesterov=False)),
    "r3d34_synthetic_video": _video("synthetic_video", _r3d34(8, 101), 8, keys=NOISE),
    "densenet121": _imagenet({**DENSENET, "num_classes": 1000, **_head("trunk_output", 1024)}),
    **{
        f"{kind}_r2d{50 if blocks[2] == 6 else 101}": _imagenet(_r2d(kind, blocks), _warm_up(HALF_COSINE, 0, 0.1, 0.1))
        for kind in ("postactivated", "preactivated")
        for blocks in ([3, 4, 6, 3], [3, 4, 23, 3])
    },
    "regnet_y_8gf": _imagenet({**REGNET, **_head("block4-0", 2016)}),
    "resnet50": _imagenet(_resnet([3, 4, 6, 3])),
    "resnet101": _imagenet(_resnet([3, 4, 23, 3])),
    "resnet50_label_smoothing": _imagenet(_resnet([3, 4, 6, 3]), loss=SMOOTHING),
    "resnext50": _imagenet(_resnet([3, 4, 6, 3], **RESNEXT)),
    "resnext101": _imagenet(_resnet([3, 4, 23, 3], **RESNEXT)),
    "resnext101_fine_tuning": _imagenet(
        _resnet([3, 4, 23, 3], **RESNEXT), name="fine_tuning", freeze_trunk=True, reset_heads=True,
        pretrained_checkpoint="/path/of/checkpoint.torch", optimizer=_sgd({"name": "constant", "value": 0.01}),
    ),
    **{
        f"{kind}_i3d50{'_fine_tuning' * tuned}": _kinetics(kind, tuned)
        for kind in ("postactivated", "preactivated")
        for tuned in (False, True)
    },
    **{
        name: _video(name, _r3d34(32, classes), 32, keys={**SPLITS, "fold": 1, "video_min_dimension": 128})
        for name, classes in (("hmdb51", 51), ("ucf101", 101))
    },
    **{
        f"{name}{'_fine_tuning' * tuned}": _vit(name, 768 if "_b_" in name else 1024, 384 if tuned else 224, tuned)
        for name in ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32")
        for tuned in (False, True)
    },
    "streaming": {
        **_synthetic({"name": "mlp", "input_dim": 150528, "output_dim": 2, "hidden_dims": [8]}, _sgd(STEP)),
        "dataset": {
            kind: {
                **one,
                "name": "synthetic_image_streaming",
                "length": 320,
                "transforms": one["transforms"][0]["transforms"],
            }
            for kind, one in _synthetic_images().items()
        },
    },
    "efficientnet": _imagenet({"name": "efficientnet_b0", **_head("trunk_output", 1280, zero_init_bias=True)}),
}  # fmt: skip


def _write_images(folder):
    rng = np.random.default_rng(0)
    for index in range(4):
        file = folder / f"class{index % 2}" / f"{index}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(file)


def _write_videos(folder, splits, extension):
    """Two classes of two videos, of which the first is in the split "train" and the other one in "test"."""
    splits.mkdir()
    for label in ("run", "walk"):
        for index in range(2):
            save_video(folder / label / f"{index}{extension}", frames=34, size=(64, 80), first=index)
        (splits / f"{label}_test_split1.txt").write_text(f"0{extension} 1\n1{extension} 2\n")
    for index, kind in enumerate(("train", "test")):
        lines = [f"{label}/{index}{extension} 1\n" for label in ("run", "walk")]
        (splits / f"{kind}list01.txt").write_text("".join(lines))


def _write_weights(model, file):
    state = build_model(model).get_classy_state()
    torch.save({"input_args": None, "classy_state_dict": {"base_model": state}}, file)


@pytest.fixture
def placed(tmp_path):
    """Returns a config of the table with its data in place, and batches of 2; nothing else is changed."""

    def place(name):
        config = json.loads(json.dumps(CONFIGS[name]))
        for kind, one in config["dataset"].items():
            one["batchsize_per_replica"] = 2
            if one["name"] == "image_path":
                one["image_folder"] = str(tmp_path / "images")
            elif "video_dir" in one:
                one["video_dir"], one["metadata_file"] = str(tmp_path / "videos"), str(tmp_path / f"{kind}.pt")
                one |= {"splits_dir": str(tmp_path / "splits")} if "splits_dir" in one else {}
        if "video_dir" in config["dataset"]["train"]:
            extension = ".avi" if "fold" in config["dataset"]["train"] else ".mp4"
            _write_videos(tmp_path / "videos", tmp_path / "splits", extension)
        elif config["dataset"]["train"]["name"] == "image_path":
            _write_images(tmp_path / "images")
        if config["name"] == "fine_tuning" and name not in LARGE:
            config["pretrained_checkpoint"] = str(tmp_path / "pretrained.torch")
            _write_weights(config["model"], config["pretrained_checkpoint"])
        return config

    return place


LARGE = ["vit_l_16_fine_tuning", "vit_l_32_fine_tuning"]
KINDS = ["resnet50_synthetic_image", "vit_b_32", "ucf101"]
STEPPED = [
    "streaming",
    "resnet50_label_smoothing",
    "densenet121",
    "regnet_y_8gf",
    "preactivated_r2d50",
    "postactivated_i3d50",
]
STEPPED += ["preactivated_i3d50_fine_tuning", "r3d34_synthetic_video", "vit_b_16", "vit_b_32_fine_tuning"]


@pytest.mark.parametrize("name", KINDS)
def test_a_config_of_each_kind_passes_the_check(placed, name):
    task, seen = draft_task(checked(placed(name)), 1, False)
    assert (seen.keys() == {"train", "test"} or name == "streaming") and task.num_epochs == CONFIGS[name]["num_epochs"]


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {*KINDS, *LARGE}))
def test_each_config_passes_the_check(placed, name):
    test_a_config_of_each_kind_passes_the_check(placed, name)


@pytest.mark.full
@pytest.mark.parametrize("name", LARGE)
def test_a_large_network_is_built_without_its_memory(placed, name):
    task = build_checked_task(checked(placed(name)), Draft("meta", {}))
    assert {one.device.type for one in task.base_model.parameters()} == {"meta"}


@pytest.mark.full
@pytest.mark.parametrize("name", STEPPED)
def test_a_config_makes_a_train_step(placed, name):
    task = build_task(placed(name))
    task.prepare()
    task.on_start()
    task.on_phase_start()
    task.step()
    assert task.num_updates == 2 and task.last_batch.loss.isfinite()


def _small(name):
    """A config of a kind, written for synthetic data of 32 pixels and a narrow network."""
    config = json.loads(json.dumps(CONFIGS[name]))
    model, (head,) = config["model"], config["model"]["heads"]
    if name == "r3d34_synthetic_video":
        model.update(num_blocks=[1, 1, 1, 1], stem_planes=8, stage_planes=8, width_per_group=8, clip_crop_size=32)
        head.update(fork_block="pathway0-stage4-block0", in_plane=64, pool_size=[1, 1, 1], num_classes=7)
        for one in config["dataset"].values():
            one.update(num_classes=7, video_height=48, video_width=48)
            one["transforms"]["video"][0].pop("size_range", None)
            one["transforms"]["video"] = [{"name": "video_default_no_augment", "size": 32}]
    else:
        config["dataset"] = json.loads(json.dumps(_synthetic_images()))
        config["meters"] = {"accuracy": {"topk": [1]}}
        for one in config["dataset"].values():
            one.update(crop_size=32, num_samples=64, batchsize_per_replica=16)
            for transform in one["transforms"][0]["transforms"]:
                transform.update({"size": 32} if "size" in transform else {})
    if name == "vit_b_32":
        sizes = {"image_size": 32, "patch_size": 16, "num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 64}
        model.update(name="vision_transformer", **sizes)
        head.update(in_plane=32, hidden_dim=32, num_classes=2)
        config["mixup"]["num_classes"], config["simulated_global_batchsize"] = 2, 64
    elif name == "resnet50_synthetic_image":
        model.update(num_blocks=[1, 1, 1, 1], init_planes=8)
        head.update(fork_block="block3-0", in_plane=256)
    config["num_epochs"] = 2
    return config


@pytest.mark.full
@pytest.mark.parametrize("name", ["resnet50_synthetic_image", "r3d34_synthetic_video", "vit_b_32"])
def test_a_config_of_each_kind_trains_in_one_process(name, tmp_path):
    result = LocalTrainer(str(tmp_path)).train(build_task(_small(name)))
    assert 0 < result.metrics["test"]["loss"] < 10 and 0 <= result.metrics["test"]["accuracy"]["top_1"] <= 1


@pytest.mark.full
@pytest.mark.ray
@pytest.mark.parametrize("name", ["resnet50_synthetic_image", "r3d34_synthetic_video", "vit_b_32"])
def test_a_config_of_each_kind_trains_on_two_ray_workers(ray_cluster, name, tmp_path):
    from ray.train import ScalingConfig

    scaling = ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1})
    result = RayTrainer(scaling, storage_path=str(tmp_path)).train(build_task(_small(name)))
    assert 0 < result.metrics["test"]["loss"] < 10 and 0 <= result.metrics["test"]["accuracy"]["top_1"] <= 1
