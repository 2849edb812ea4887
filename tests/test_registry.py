import copy
import pickle
import sys
from importlib import import_module

import pytest

from ray_classy.cli.list import KINDS
from ray_classy.errors import ComponentError, ConfigError, RegistrationError, UnknownComponentError
from ray_classy.models import MODEL_REGISTRY, register_model
from ray_classy.registry import (
    REQUIRED,
    Key,
    Registry,
    config_keys,
    construct,
    constructor_arguments,
    former_keys,
    nearest,
    reads_signature,
    registrations_restored,
    registry_of,
    signature_keys,
)


class Base:
    @classmethod
    @reads_signature
    def from_config(cls, config):
        return cls(**constructor_arguments(cls, config))


@pytest.fixture
def toys():
    registry = Registry("toy")
    registry.base = Base
    yield registry
    del Registry.all["toy"]


def test_found_by_name(toys):
    @toys.register("car")
    class Car(Base):
        pass

    assert toys.find("car") is toys["car"] is toys.named_class({"name": "car"}) is Car and list(toys) == ["car"]


def test_taken_name_is_refused(toys):
    toys.register("car")(type("Car", (Base,), {}))
    with pytest.raises(RegistrationError, match=r"toy 'car': the name belongs to .*Car; choose another name"):
        toys.register("car")(type("Other", (Base,), {}))


def test_module_that_is_imported_twice_registers_twice(toys):
    toys.register("car")(type("Car", (Base,), {"__module__": "__main__"}))
    toys.register("car")(type("Car", (Base,), {"__module__": "cars"}))


def test_a_notebook_cell_that_is_run_twice_replaces_its_class(toys):
    cells = [type("Car", (Base,), {"__module__": "__main__"}) for _ in range(2)]
    for cell in cells:
        toys.register("car")(cell)
    assert toys["car"] is cells[1]


def test_wrong_base_is_refused(toys):
    with pytest.raises(RegistrationError, match="must derive from Base"):
        toys.register("car")(dict)


def test_checks_can_be_bypassed(toys):
    toys.register("car")(type("Car", (Base,), {}))
    assert toys.register("car", bypass_checks=True)(dict) is dict and toys["car"] is dict


def test_class_names_are_unique_where_asked():
    registry = Registry("toy2", unique_class_names=True)
    registry.register("car")(type("Car", (), {}))
    with pytest.raises(RegistrationError, match="rename the class"):
        registry.register("truck")(type("Car", (), {}))
    del Registry.all["toy2"]


def test_unknown_name_tells_the_nearest_and_the_way(toys):
    toys.register("car")(type("Car", (Base,), {}))
    with pytest.raises(UnknownComponentError, match=r"unknown toy 'cra': did you mean 'car'.*@register_toy.*imports"):
        toys.find("cra")


def test_unknown_name_that_is_near_to_none_lists_all(toys):
    toys.register("car")(type("Car", (Base,), {}))
    with pytest.raises(UnknownComponentError, match="known: car"):
        toys.find("xylophone")


@pytest.mark.parametrize(("config", "error"), [([1], ConfigError), ({"nmae": "car"}, UnknownComponentError)])
def test_config_without_a_name(toys, config, error):
    with pytest.raises(error, match="name"):
        toys.named_class(config)


def test_fallback_answers_last():
    registry = Registry("toy3", fallback=lambda name: dict if name == "Dict" else None, fallback_names=lambda: ["Dict"])
    assert registry.find("Dict") is dict and registry.names() == ["Dict"]
    with pytest.raises(UnknownComponentError, match="'Dict'"):
        registry.find("Dicts")
    del Registry.all["toy3"]


def test_keys_of_a_signature():
    def function(a, b: int, c: float = 2.0, d: str = None, *args, e=3, **kwargs):  # noqa: RUF013
        pass

    assert signature_keys(function) == {
        "a": Key(),
        "b": Key(int),
        "c": Key(float, 2.0),
        "d": Key(str | None, None),
        "e": Key(default=3),
    }


def test_keys_of_a_component():
    class Car(Base):
        def __init__(self, wheels: int):
            pass

    assert config_keys(Car) == {"wheels": Key(int, REQUIRED)}


def test_keys_that_are_unknown():
    class Car(Base):
        @classmethod
        def from_config(cls, config):
            return cls()

    assert config_keys(Car) is None


def test_declared_keys():
    class Car(Base):
        @classmethod
        def config_keys(cls):
            return {"doors": Key(int)}

        @classmethod
        def from_config(cls, config):
            return cls()

    assert config_keys(Car) == {"doors": Key(int)}


def test_former_keys_are_dropped_unless_a_subclass_takes_them():
    class Car(Base):
        FORMER_KEYS = ("horses",)

    class Cart(Car):
        def __init__(self, horses: int):
            pass

    config = {"name": "car", "horses": 3}
    assert former_keys(Car) == {"horses"} and constructor_arguments(Car, config) == {}
    assert former_keys(Cart) == set() and constructor_arguments(Cart, config) == {"horses": 3}


def test_arguments_are_a_deep_copy():
    config = {"wheels": [1, 2]}
    constructor_arguments(Base, config)["wheels"].append(3)
    assert config == {"wheels": [1, 2]}


class Car:
    def __init__(self, wheels, color="red"):
        self.wheels = wheels


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "car"}, "the config of 'car' has no `wheels`, which it requires"),
        ({"wheels": 4, "colour": "red"}, "'Car' has no argument 'colour': did you mean 'color'?"),
        ({"wheels": 4, "x": 1}, "'Car' has no argument 'x': it takes wheels, color"),
    ],
    ids=["missing", "near", "unknown"],
)
@pytest.mark.parametrize("error", [ConfigError, ComponentError, KeyError, TypeError, AssertionError])
def test_arguments_that_are_missing_or_unknown(config, message, error):
    with pytest.raises(error) as caught:
        construct(Car, config)
    assert str(caught.value) == message
    assert construct(Car, {"name": "car", "wheels": 4}).wheels == 4


def test_required_is_one_object_everywhere():
    assert pickle.loads(pickle.dumps(REQUIRED)) is REQUIRED is copy.deepcopy(REQUIRED)


def test_nearest_ignores_case():
    assert nearest("crossentropyloss", ["CrossEntropyLoss", "NLLLoss"]) == "'CrossEntropyLoss'"


def test_registry_of_a_base_class(toys):
    assert registry_of(Base) is toys and registry_of(int) is None


# Registered by place


@pytest.fixture
def vehicles(tmp_path, monkeypatch):
    """A registry that declares one class of a module, and the module."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bikes_module.py").write_text(
        "import sys\nfrom ray_classy.registry import Registry\n"
        "@Registry.all['vehicle'].register('bike')\nclass Bike: pass\n"
    )
    yield Registry("vehicle", {"bike": "bikes_module:Bike"}, unique_class_names=True)
    del Registry.all["vehicle"]
    sys.modules.pop("bikes_module", None)


def test_names_are_known_before_the_module_is_imported(vehicles):
    assert list(vehicles) == vehicles.names() == ["bike"] and "bike" in vehicles and len(vehicles) == 1
    assert "bikes_module" not in sys.modules
    assert vehicles.find("bike").__module__ == "bikes_module" and len(vehicles) == 1


def test_a_name_and_a_class_name_are_taken_before_the_module_is_imported(vehicles):
    with pytest.raises(RegistrationError, match=r"bikes_module\.Bike; choose another name"):
        vehicles.register("bike")(type("Other", (), {}))
    with pytest.raises(RegistrationError, match=r"'bike' is a class of the same name \(bikes_module\)"):
        vehicles.register("tandem")(type("Bike", (), {}))
    assert "bikes_module" not in sys.modules


def test_a_replaced_component_stays_replaced_when_its_module_is_imported(vehicles):
    other = vehicles.register("bike", bypass_checks=True)(type("Other", (), {}))
    import_module("bikes_module")
    assert vehicles["bike"] is other


def test_replacements_are_undone_and_new_names_stay(vehicles):
    with registrations_restored():
        vehicles.register("bike", bypass_checks=True)(type("Other", (), {}))
        added = vehicles.register("cart")(type("Cart", (), {}))
    assert vehicles["bike"].__name__ == "Bike" and vehicles["cart"] is added


@pytest.mark.parametrize(("kind", "module"), KINDS.items())
def test_our_components_are_where_their_registry_says(kind, module):
    import_module(module)
    registry = Registry.all[kind]
    for name in registry._places:
        cls = registry[name]
        assert issubclass(cls, registry.base) and registry._places[name] == f"{cls.__module__}:{cls.__qualname__}"


def test_a_registry_pickled_with_a_users_function_is_the_same_one():
    assert pickle.loads(pickle.dumps(register_model)).__self__ is MODEL_REGISTRY
