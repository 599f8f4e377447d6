"""The public names: all there, what they claim to be, and nothing else."""

import importlib
import inspect
from pathlib import Path

import pytest

import tokswap

FUNCTIONS = {
    "apply",
    "check",
    "compare",
    "embed",
    "embedder",
    "evaluate",
    "evaluate_dynamic",
    "extend",
    "hold_out",
    "inspect",
    "load_recipe",
    "train_hypernet",
    "transplant",
}
CLASSES = {"Plan", "Recipe", "TokswapError"}


def test_exported_names() -> None:
    assert sorted(tokswap.__all__) == sorted(FUNCTIONS | CLASSES)
    assert set(tokswap.__all__) <= set(dir(tokswap))


@pytest.mark.parametrize("name", tokswap.__all__)
def test_a_public_name_is_what_it_claims(name: str) -> None:
    found = getattr(tokswap, name)
    assert inspect.isclass(found) if name in CLASSES else inspect.isfunction(found)
    assert found.__name__ == name
    assert found.__module__.startswith("tokswap.")
    assert getattr(importlib.import_module(found.__module__), name) is found
    assert found.__doc__
    assert getattr(tokswap, name) is found


def test_importing_all_gives_every_name() -> None:
    names: dict[str, object] = {}
    exec("from tokswap import *", names)  # noqa: S102 - the import itself is tested
    assert set(tokswap.__all__) <= set(names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tokswap' has no attribute 'transplnt'"):
        _ = tokswap.transplnt
    assert not hasattr(tokswap, "nothing")


def test_every_error_has_one_base_class() -> None:
    from tokswap import errors

    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert len(kinds) > 5
    for kind in kinds:
        assert issubclass(kind, tokswap.TokswapError)
        assert kind is tokswap.TokswapError or f"── {kind.__name__} " in errors.__doc__


def test_the_package_is_typed() -> None:
    assert (Path(tokswap.__file__).parent / "py.typed").is_file()
