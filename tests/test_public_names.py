"""No public name disappears: those of `__all__` are compared with a record, to which new ones are added by hand."""

import importlib
from pathlib import Path

PACKAGES = (
    "ray_classy",
    "ray_classy.checkpoint",
    "ray_classy.config",
    "ray_classy.dataset",
    "ray_classy.dataset.core",
    "ray_classy.dataset.sampling",
    "ray_classy.dataset.transforms",
    "ray_classy.heads",
    "ray_classy.hooks",
    "ray_classy.hub",
    "ray_classy.inference",
    "ray_classy.ingest",
    "ray_classy.losses",
    "ray_classy.meters",
    "ray_classy.models",
    "ray_classy.optim",
    "ray_classy.optim.param_scheduler",
    "ray_classy.report",
    "ray_classy.tasks",
    "ray_classy.trainer",
    "ray_classy.tune",
)
RECORD = Path(__file__).parent / "data" / "public_names.txt"


def names():
    return {f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__}


def test_recorded_names_are_still_public():
    assert sorted(set(RECORD.read_text().split()) - names()) == []


def test_public_names_are_recorded():
    missing = sorted(names() - set(RECORD.read_text().split()))
    assert not missing, f"add these lines to {RECORD.name}, and keep them: {missing}"
