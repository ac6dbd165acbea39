from __future__ import annotations

import importlib
import inspect
import pkgutil
import types

import pytest

import hasten

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(hasten.__path__, "hasten.")
    if not module.name.endswith("__main__")
)


def defined_names(module: types.ModuleType) -> set[str]:
    """Public functions, classes and constants that the module itself defines."""
    found = set()
    for name, value in vars(module).items():
        if name.startswith("_") or isinstance(value, types.ModuleType):
            continue
        if (inspect.isclass(value) or inspect.isfunction(value)) and (
            value.__module__ == module.__name__
        ):
            found.add(name)
    return found


@pytest.mark.parametrize("name", MODULES)
def test_public_names_of_a_module_equal_its_all(name: str) -> None:
    module = importlib.import_module(name)
    listed = set(getattr(module, "__all__", ()))

    assert {each for each in listed if not hasattr(module, each)} == set()
    assert defined_names(module) <= listed


def test_every_public_name_of_the_package_can_be_had() -> None:
    assert {name: getattr(hasten, name) for name in hasten.__all__}.keys() == set(hasten.__all__)
    assert set(dir(hasten)) == set(hasten.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fast'"):
        _ = hasten.fast
