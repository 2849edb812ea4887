"""Registries and components of the tests' own: a machine with wheels and an engine."""

from __future__ import annotations

import enum
from typing import Any, Literal

import torch

from ray_classy.registry import ByName, Key, Keys, Registry, constructor_arguments, reads_signature

WHEELS: Registry[Any] = Registry("toy_wheel")
ENGINES: Registry[Any] = Registry("toy_engine")


class FromSignature:
    @classmethod
    @reads_signature
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**constructor_arguments(cls, config))


class Wheel(FromSignature):
    pass


class Engine(FromSignature):
    pass


WHEELS.base = Wheel
ENGINES.base = Engine


class Fuel(enum.Enum):
    PETROL = "petrol"
    DIESEL = "diesel"


@WHEELS.register("round")
class Round(Wheel):
    FORMER_KEYS = ("colour",)

    def __init__(self, radius: float, spokes: int = 8, hub: Wheel | None = None) -> None:
        self.radius = radius


@WHEELS.register("spare")
class Spare(Wheel):
    def __init__(self, **anything: Any) -> None:
        pass


@ENGINES.register("motor")
class Motor(Engine):
    def __init__(
        self,
        power: float = 1.5,
        fuel: Fuel = Fuel.PETROL,
        gears: tuple[float, float] = (1.0, 2.0),
        cooling: Literal["air", "water"] = "air",
        wheel: Wheel | float | list[Wheel] = 1.0,
        weight: torch.Tensor | None = None,
        turbo: bool = False,
        label: str = "x",
        rate_limit: float | list[int] | None = None,
    ) -> None:
        pass


@ENGINES.register("secret")
class Secret(Engine):
    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls()


@ENGINES.register("declared")
class Declared(Engine):
    @classmethod
    def config_keys(cls) -> Keys:
        return {"volume": Key(int), "options": Key({"depth": Key(int, 3)}, {})}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls()


MACHINE: Keys = {
    "name": Key(str),
    "speed": Key(float, 1.0),
    "engine": Key(Engine),
    "wheels": Key(list[Wheel], []),
    "spares": Key(dict[str, Wheel], {}),
    "gauges": Key(ByName(Wheel), {}),
    "lights": Key({"beam": Key(float), "count": Key(int, 2)}, None),
    "notes": Key(Any, None),
}


def machine(**changes: Any) -> dict[str, Any]:
    """A good config, with changes."""
    return {"name": "car", "engine": {"name": "motor"}, **changes}
