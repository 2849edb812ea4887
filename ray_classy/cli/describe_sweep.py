"""What `ray-classy check` prints about a sweep."""

from __future__ import annotations

import os
from typing import Any

from ray_classy.cli.describe_code import code_lines, describe_code
from ray_classy.cli.given import Given
from ray_classy.cli.output import Answer
from ray_classy.cli.tune import tuner_for
from ray_classy.config.ray_options import amounts
from ray_classy.ray_compat.train import resources_per_worker
from ray_classy.tune.plan import Plan
from ray_classy.tune.space import in_words


def describe_sweep(given: Given) -> Answer:
    """Describes what a sweep searches, how many trials it has, and what each needs.

    Raises:
        RayClassyError: the config has a mistake.
    """
    plan = Plan(tuner_for(given))
    scheduler, chosen = (given.config.get("tune") or {}).get("scheduler") or {"name": "fifo"}, plan.tune_config
    total = "no end of" if plan.total == float("inf") else int(plan.total)
    each = resources_per_worker(plan.settings.scaling)
    workers = "1 worker" if plan.workers == 1 else f"{plan.workers} workers"
    data: dict[str, Any] = {
        "config": given.file,
        "searched": {node.name: in_words(node) for node in plan.space.nodes},
        "trials": None if plan.total == float("inf") else int(plan.total),
        "epochs": plan.examined.epochs,
        "metric": chosen.metric,
        "mode": chosen.mode,
        "metrics": plan.examined.metrics,
        "resources_per_trial": {name: plan.workers * amount for name, amount in each.items()},
    }
    lines = [f"searched: {name}: {words}" for name, words in data["searched"].items()]
    of = f"of {plan.examined.epochs} epochs, {scheduler['name']}, by {chosen.metric} ({chosen.mode})"
    lines += [f"trials: {total} {of}", f"a trial: {workers} x {amounts(each)}"]
    data["code"] = describe_code(plan.settings.address or os.environ.get("RAY_ADDRESS") or None)
    lines += code_lines(data["code"])
    return Answer("\n".join(f"# {line}" for line in lines), data)
