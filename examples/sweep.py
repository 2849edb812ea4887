"""Searches a learning rate and a weight decay with Ray Tune.

    python examples/sweep.py [--num-samples 6] [--num-epochs 4] [--storage-path runs]

Expected: the best of six trials has more than 95 % test top-1, after half a minute on two CPU cores.
"""

import argparse
import pathlib

from ray import tune

from ray_classy.config import load_config
from ray_classy.trainer import RayTrainer
from ray_classy.tune import TaskTuner

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "digits.yaml"


def main() -> None:
    """Runs the sweep and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-samples", type=int, default=6)
    parser.add_argument("--num-epochs", type=int, default=4)
    parser.add_argument("--storage-path", default="runs")
    arguments = parser.parse_args()

    config = load_config(CONFIG)
    config["num_epochs"] = arguments.num_epochs
    config["ray"]["num_workers"] = 1
    config["optimizer"]["weight_decay"] = tune.loguniform(1e-4, 1e-2)
    config["optimizer"]["param_schedulers"]["lr"]["start_value"] = tune.loguniform(0.02, 0.5)

    tune_config = tune.TuneConfig(metric="test.accuracy.top_1", mode="max", num_samples=arguments.num_samples)
    result = TaskTuner(config, tune_config=tune_config, trainer=RayTrainer(storage_path=arguments.storage_path)).fit()
    print(result.table())
    print("best config:", result.best_config["optimizer"])
    print("its checkpoint:", result.best_checkpoint)


if __name__ == "__main__":
    main()
