"""YAML and ``--set`` as plain mappings, before anything is known of what they mean."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tokswap.errors import RecipeError

METHOD_ALIAS = "method."
"""``--set method.k=32`` is the way to write ``--set parameters.k=32``."""


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        RecipeError: If the file cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            f"the recipe {path} cannot be read ({error.strerror}); give a YAML file"
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"the recipe {path} is not UTF-8 ({error}); convert it first") from error
    try:
        said = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a safe loader, see below
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        reason = " ".join(str(error).split())
        raise RecipeError(f"the recipe {path} is not valid YAML: {reason}") from error
    if not isinstance(said, dict):
        raise RecipeError(f"the recipe {path} is no mapping; write keys like `base_model: NAME`")
    return said


def with_setting(said: dict[str, Any], override: str) -> dict[str, Any]:
    """Set one value, given as ``key.path=value`` with a YAML value, in a copy of a recipe.

    Raises:
        RecipeError: If the setting has another form, or its place is no mapping.
    """
    key, equals, raw = override.partition("=")
    if not equals or not key or not all(key.split(".")):
        raise RecipeError(f"--set {override!r} is not of the form key=value, as method.k=32")
    if key.startswith(METHOD_ALIAS):
        key = "parameters." + key.removeprefix(METHOD_ALIAS)
    try:
        value = yaml.load(raw, Loader=_UniqueKeys)  # noqa: S506 - a safe loader, see below
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"--set {override!r}: {raw!r} is not a valid YAML value") from error
    *path, last = key.split(".")
    changed = dict(said)
    level = changed
    for part in path:
        inner = level.get(part)
        if inner is not None and not isinstance(inner, dict):
            raise RecipeError(
                f"--set {override!r}: {part} is {inner!r}, which has no keys below it"
            )
        level[part] = dict(inner or {})
        level = level[part]
    level[last] = value
    return changed


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, of which YAML would keep the last unsaid."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # the loader below says so
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
