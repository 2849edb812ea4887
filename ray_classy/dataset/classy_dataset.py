"""The dataset of a phase: rows, their transform, and their batches."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch.utils.data

from ray_classy.dataset.known_classes import class_indices, class_names
from ray_classy.dataset.loader import Feed, PhaseLoader
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.row_dataset import check_sources, row_dataset_of
from ray_classy.dataset.sampling.classy_sampling import ClassySampling, build_sampling
from ray_classy.dataset.split import SplitRows
from ray_classy.dataset.target_columns import TargetColumn
from ray_classy.dataset.transforms import ClassyTransform, build_transforms
from ray_classy.distributed import get_rank, get_world_size
from ray_classy.errors import ArgumentNameError, ComponentError, DataError, RowNumberError
from ray_classy.registry import (
    REQUIRED,
    Key,
    Keys,
    Registry,
    construct_from,
    constructor_arguments,
    reads_signature,
    signature_keys,
)

DATASET_REGISTRY: Registry[ClassyDataset] = Registry(
    "dataset",
    {
        "classy_cifar10": "ray_classy.dataset.classy_cifar:CIFAR10Dataset",
        "classy_cifar100": "ray_classy.dataset.classy_cifar:CIFAR100Dataset",
        "digits": "ray_classy.dataset.digits:DigitsDataset",
        "image_path": "ray_classy.dataset.image_path_dataset:ImagePathDataset",
        "hmdb51": "ray_classy.dataset.classy_hmdb51:HMDB51Dataset",
        "kinetics400": "ray_classy.dataset.classy_kinetics400:Kinetics400Dataset",
        "manifest": "ray_classy.dataset.manifest:ManifestDataset",
        "parquet": "ray_classy.dataset.parquet:ParquetDataset",
        "synthetic_image": "ray_classy.dataset.classy_synthetic_image:SyntheticImageDataset",
        "synthetic_image_streaming": (
            "ray_classy.dataset.classy_synthetic_image_streaming:SyntheticImageStreamingDataset"
        ),
        "synthetic_video": "ray_classy.dataset.classy_synthetic_video:SyntheticVideoDataset",
        "ucf101": "ray_classy.dataset.classy_ucf101:UCF101Dataset",
        "video_path": "ray_classy.dataset.video_path:VideoPathDataset",
        "webdataset": "ray_classy.dataset.webdataset:WebDatasetDataset",
    },
    unique_class_names=True,
)
register_dataset = DATASET_REGISTRY.register

DEFAULT_NUM_WORKERS = 0


class ClassyDataset:
    """A map-style dataset with a transform, read in batches by every rank of a run.

    Args:
        dataset: any map-style dataset; its rows are passed through `transform`.
        batchsize_per_replica: rows per step and rank, at least 1.
        shuffle: whether rows are read in another order in every epoch, drawn from the run's seed.
        transform: makes a sample of a row; tasks expect `{"input": ..., "target": ...}`.
        num_samples: use only the first `num_samples` rows.

    Attributes:
        num_workers: processes that read and transform rows ahead; 0 reads in the training process, with one thread per
            CPU. Under Ray it is the number of those threads, if it is not 0.
        drop_last: whether the last global batch of a train phase is dropped if it is short.
        phases_per_epoch: number of train phases that each epoch is divided into.
        sampling: decides which rows a train phase has, and how often; None for each row once.
        classes: class names in the order of their targets, if the dataset knows them.
        remarks: what a user should know about the source of the rows; `ray-classy check` prints it, a run logs it.
        without_targets: why samples have no targets, for the error of a task that needs them.
        split_rows: the rule by which the rows were divided, if these are only one side of it.
        order_is_stable: whether row i is the same row in every run; if not, a run cannot resume inside an epoch.
        feed: makes the batches elsewhere; None makes them in this process or its loading processes.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    FORMER_KEYS: ClassVar[tuple[str, ...]] = ("use_augmentation",)

    classes: list[str] | None = None
    remarks: Sequence[str] = ()
    without_targets: str = ""
    split_rows: SplitRows | None = None
    sampling: ClassySampling | None = None
    order_is_stable: bool = True
    feed: Feed | None = None

    def __init__(
        self,
        dataset: Sequence[Any] | torch.utils.data.Dataset,
        batchsize_per_replica: int,
        shuffle: bool,
        transform: Callable[[Any], Any] | None = None,
        num_samples: int | None = None,
    ) -> None:
        if type(batchsize_per_replica) is not int or batchsize_per_replica < 1:
            raise ComponentError(
                f"batchsize_per_replica must be an integer of at least 1, not {batchsize_per_replica!r}"
            )
        if type(shuffle) is not bool:
            raise ComponentError(f"shuffle must be true or false, not {shuffle!r}")
        if num_samples is not None and (type(num_samples) is not int or num_samples < 1):
            raise ComponentError(f"num_samples must be an integer of at least 1 or null, not {num_samples!r}")
        self.dataset = dataset
        self.batchsize_per_replica = batchsize_per_replica
        self.shuffle = shuffle
        self.transform = transform
        self.num_samples = num_samples
        self.num_workers = DEFAULT_NUM_WORKERS
        self.drop_last = False
        self.phases_per_epoch = 1

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out of copies what belongs to this process: the memory cache, the feed, ways back to the source."""
        return {name: value for name, value in self.__dict__.items() if name not in _OF_THIS_PROCESS}

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> ClassyDataset:
        """Builds the dataset from a config whose keys are those of `config_keys`."""
        arguments = constructor_arguments(cls, config)
        transforms, batchsize, shuffle, num_samples = cls.parse_config(config)
        if shuffle is None:
            raise ComponentError("use_shuffle is missing: a task sets it for its train and test datasets, others must")
        missing = [name for name, key in cls.config_keys().items() if key.default is REQUIRED and name not in config]
        if missing:
            raise ArgumentNameError(f"the config of {cls.__name__} lacks {', '.join(missing)}")
        for key in ("transforms", "batchsize_per_replica", "use_shuffle", "num_samples", *_LOADING_KEYS):
            arguments.pop(key, None)
        common = {
            "batchsize_per_replica": batchsize,
            "shuffle": shuffle,
            "transform": build_transforms(transforms) if transforms is not None else None,
            "num_samples": num_samples,
        }
        return construct_from(cls, {**common, **arguments}, config.get("name", cls.__name__))

    @classmethod
    def parse_config(cls, config: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
        """Returns the values of the common keys: transforms, batchsize_per_replica, use_shuffle, num_samples."""
        return (
            copy.deepcopy(config.get("transforms")),
            config.get("batchsize_per_replica"),
            config.get("use_shuffle"),
            config.get("num_samples"),
        )

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the keys of the config: the common ones, then those of the subclass's constructor."""
        own = signature_keys(cls, skip=frozenset(signature_keys(ClassyDataset)))
        return {
            "batchsize_per_replica": Key(int),
            "use_shuffle": Key(bool | None, None, "whether rows are shuffled; null shuffles the train dataset only."),
            "num_samples": Key(int | None, None),
            "transforms": Key(list[ClassyTransform] | None, None, "applied to each sample, one after the other."),
            **_LOADING_KEYS,
            **own,
        }

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self.dataset):  # type: ignore[arg-type]
            raise RowNumberError(f"row {index} of a dataset of {len(self.dataset)} rows")  # type: ignore[arg-type]
        sample = self.dataset[index]
        return sample if self.transform is None else self.transform(sample)

    def __len__(self) -> int:
        rows = len(self.dataset)  # type: ignore[arg-type]
        if self.num_samples is None:
            return rows
        if self.num_samples > rows:
            raise DataError(f"num_samples is {self.num_samples}, but the dataset has {rows} rows; lower it")
        return self.num_samples

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None if it is neither known from the dataset nor set."""
        names = class_names(self)
        return len(names) if names is not None else self.__dict__.get("_num_classes")

    @num_classes.setter
    def num_classes(self, num_classes: int | None) -> None:
        self._num_classes = num_classes

    @property
    def samples_are_transformed_rows(self) -> bool:
        """Whether a sample is `transform(dataset[index])` and nothing else, so that the loader may place transforms."""
        return type(self).__getitem__ is ClassyDataset.__getitem__

    def labels(self) -> np.ndarray | None:
        """Returns the targets of all rows, shape (rows,); None if they are not known without decoding."""
        return None

    def row_keys(self, column: str | None = None) -> np.ndarray:
        """Returns a 64-bit hash of the id of each row, shape (rows,), uint64, by which a `Split` divides them.

        Args:
            column: of the ids; None for the paths of rows within the source.

        Raises:
            ComponentError: the rows have no ids, or no columns.
            DataError: there is no such column, or a row has no value in it.
        """
        raise ComponentError(
            f"the rows of {type(self).__name__} have no ids, by which they could be split: define row_keys in it, or "
            f"use a dataset of files"
        )

    def row_values(self, column: str) -> np.ndarray:
        """Returns the numbers in a column of the source, shape (rows,).

        Raises:
            ComponentError: the rows have no columns.
            DataError: there is no such column, or it does not hold numbers.
        """
        raise ComponentError(
            f"the rows of {type(self).__name__} have no columns, and none {column!r}: only those of a manifest and of "
            f"Parquet files have"
        )

    def keep_rows(self, numbers: np.ndarray) -> None:
        """Leaves only some rows in the dataset, given by their numbers, int64, shape (rows kept,)."""
        raise ComponentError(f"no rows of {type(self).__name__} can be left out: define keep_rows in it")

    def own_classes(self) -> tuple[list[str] | None, np.ndarray | None]:
        """Returns names of classes and targets of all rows, each None if it is not known, before `map_targets`."""
        return class_names(self), class_indices(self)

    def target_columns(self, own: bool = False) -> dict[str, TargetColumn]:
        """Returns the targets of all rows by name, where rows have several labels (under "") or several targets.

        Args:
            own: as they were read, before `map_targets`.
        """
        return {}

    def map_targets(self, by_target: dict[int, int], classes: list[str] | None, target: str = "") -> bool:
        """Numbers the classes otherwise, so that they are those of another dataset or of a checkpoint.

        Args:
            by_target: the new targets by those of `own_classes`; others stay.
            classes: the names in the order of the new targets.
            target: name of the target, of several.

        Returns:
            Whether targets of this dataset can be mapped; if not, it stays as it is.
        """
        return False

    def set_num_workers(self, num_workers: int) -> ClassyDataset:
        """Sets the number of processes that read ahead, and returns the dataset."""
        self.num_workers = num_workers
        return self

    def get_batchsize_per_replica(self) -> int:
        """Returns the number of rows per step and rank."""
        return self.batchsize_per_replica

    def get_global_batchsize(self) -> int:
        """Returns the number of rows per step of all ranks together."""
        return self.batchsize_per_replica * get_world_size()

    def rows_of_epoch(self, phase_type: str) -> int:
        """Returns the rows of a pass over the dataset: with a `sampling` those that it draws, in train phases.

        Raises:
            ComponentError: rows are not shuffled, or are read front to back, so that none can be sampled.
            DataError: rows lack what the sampling needs of them, their classes, say.
        """
        if self.sampling is None or phase_type != "train":
            return len(self)
        base = row_dataset_of(self)
        if not self.shuffle or (base is not None and not base.rows.random_access):
            what = "rows of a stream are used once" if self.shuffle else "sampling also decides the order of rows"
            raise ComponentError(f"{what}: leave {'sampling' if self.shuffle else 'use_shuffle: false'} out")
        self.sampling.check(self)
        return self.sampling.num_rows(self)

    def plan(
        self, phase_type: str = "test", phase_id: int = 0, seed: int = 0, start: int = 0, shuffle_seed: int = 0
    ) -> PhasePlan:
        """Plans which rows this rank reads in a phase.

        Args:
            phase_type: "train" or "test".
            phase_id: number of the train phase, from 0; test phases always use 0.
            seed: the run's seed.
            start: number of rows of the phase that are consumed already.
            shuffle_seed: added to the number of the epoch.

        Raises:
            DataError: no row would be read; see `PhasePlan.check`.
        """
        train = phase_type == "train"
        parts = self.phases_per_epoch if train else 1
        sampling, epoch = self.sampling if train else None, shuffle_seed + phase_id // parts
        plan = PhasePlan(
            num_rows=self.rows_of_epoch(phase_type),
            batch_size=self.get_batchsize_per_replica(),
            world_size=get_world_size(),
            rank=get_rank(),
            train=train,
            shuffle=self.shuffle,
            drop_last=self.drop_last,
            seed=seed,
            epoch=epoch,
            part=(phase_id % parts, parts),
            start=start,
            drawn=None if sampling is None else functools.partial(sampling.order, self, seed, epoch),
            period=None if sampling is None else len(self.dataset),  # type: ignore[arg-type]
        )
        plan.check()
        return plan

    def iterator(
        self,
        *,
        shuffle_seed: int = 0,
        current_phase_id: int = 0,
        phase_type: str = "test",
        seed: int = 0,
        start: int = 0,
        num_workers: int | None = None,
        pin_memory: bool = False,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: str | None = None,
        **_: Any,
    ) -> torch.utils.data.DataLoader:
        """Returns a DataLoader over this rank's rows of a phase.

        Arguments that `plan` does not have are those of torch's DataLoader.

        Raises:
            ComponentError: an argument has an invalid value.
            DataError: see `plan`.
        """
        for name, value in (("shuffle_seed", shuffle_seed), ("current_phase_id", current_phase_id)):
            if not isinstance(value, int):
                raise ComponentError(f"{name} must be an integer, not {value!r}")
        workers = self.num_workers if num_workers is None else num_workers
        plan = self.plan(phase_type, current_phase_id, seed, start, shuffle_seed)
        check_sources(self, plan.rank, ends=False)
        return PhaseLoader(
            self,
            plan,
            num_workers=workers,
            pin_memory=pin_memory,
            worker_init_fn=worker_init_fn,
            multiprocessing_context=multiprocessing_context if workers else None,
        )


_OF_THIS_PROCESS = ("_cache", "feed", "_keys_of_rows", "_read_column")

_LOADING_KEYS: Keys = {
    "num_workers": Key(int | None, None),
    "drop_last": Key(bool, False),
    "phases_per_epoch": Key(int, 1),
    "sampling": Key(ClassySampling | None, None),
}

DATASET_REGISTRY.base = ClassyDataset


def build_dataset(config: Mapping[str, Any], *args: Any, **kwargs: Any) -> ClassyDataset:
    """Builds a dataset from its config; `name` chooses the class.

    Raises:
        UnknownComponentError: no dataset has that name.
        ComponentError: an argument has an invalid value.
    """
    cls = DATASET_REGISTRY.named_class(config)
    dataset = cls.from_config(copy.deepcopy(dict(config)), *args, **kwargs)
    for key, least in (("num_workers", 0), ("phases_per_epoch", 1)):
        if config.get(key) is not None and (type(config[key]) is not int or config[key] < least):
            raise ComponentError(f"{key} must be an integer of at least {least}, not {config[key]!r}")
    if config.get("num_workers") is not None:
        dataset.set_num_workers(config["num_workers"])
    for key in ("drop_last", "phases_per_epoch"):
        if key in config:
            setattr(dataset, key, config[key])
    if config.get("sampling") is not None:
        dataset.sampling = build_sampling(config["sampling"])
        dataset.sampling.check(dataset)
    return dataset
