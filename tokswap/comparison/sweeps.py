"""Settings that stand for several: lists of values, and training texts that all methods share."""

import itertools
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError

from tokswap.methods import METHODS, ROLES, Method

TEXT = "text"
"""The setting of a method that learns from text: its files."""
LIST = (list, tuple, set, frozenset, Sequence)


@dataclass(frozen=True)
class Variant:
    """One of the settings that a method is to be tried with.

    Attributes:
        parameters: The settings, as a recipe's ``parameters``.
        label: What to call them: ``k=8``, ``output.k=8 center=false``.
        swept: The same of those alone that are tried with several values.
    """

    parameters: Mapping[str, Any]
    label: str
    swept: str


def variants(method: Any, parameters: Mapping[str, Any]) -> list[Variant]:
    """Give every combination of the values that are listed.

    A list stands for several values where the setting itself is no list; where it is one, a list
    of lists does.

    Args:
        method: A method's name, or one for each role as ``{input:, output:}``.
        parameters: The settings; under ``input:`` and ``output:`` those of one role.

    Raises:
        ValueError: If a list of values is empty; all such lists are named.
    """
    places: list[tuple[tuple[str, ...], list[Any]]] = []
    for key, value in parameters.items():
        if key in ROLES and isinstance(value, Mapping):
            places += [((key, k), _values(kinds(method, key), k, v)) for k, v in value.items()]
        else:
            places.append(((key,), _values(kinds(method), key, value)))
    if empty := [".".join(map(str, place)) for place, values in places if not values]:
        raise ValueError(f"{', '.join(empty)}: the list is empty; give one value or more")
    bare: dict[str, Any] = {role: {} for role in ROLES if parameters.get(role) == {}}
    found = []
    for chosen in itertools.product(*(values for _, values in places)):
        settings: dict[str, Any] = dict(bare)
        words: dict[str, str] = {}
        swept: dict[str, str] = {}
        for (place, values), value in zip(places, chosen, strict=True):
            level = settings if len(place) == 1 else settings.setdefault(place[0], {})
            level[place[-1]] = value
            words[".".join(place)] = word = _word(value, values)
            swept |= {".".join(place): word} if len(values) > 1 else {}
        found.append(Variant(settings, _label(words), _label(swept)))
    return found


def kinds(method: Any, role: str | None = None) -> list[type[Method]]:
    """Give the known methods that a name, or a name for each role, stands for.

    Args:
        method: As in a recipe.
        role: Of which role; of both without it.
    """
    names = method if isinstance(method, Mapping) else dict.fromkeys(ROLES, method)
    asked = [names.get(role)] if role else list(dict.fromkeys(names.values()))
    return [METHODS[str(name)] for name in asked if str(name) in METHODS]


def _values(kinds: Sequence[type[Method]], key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    fields = [kind.model_fields[key].annotation for kind in kinds if key in kind.model_fields]
    if any(_takes_list(field) for field in fields):
        return value if value and all(isinstance(part, list) for part in value) else [value]
    return value


def _takes_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        return any(_takes_list(part) for part in get_args(annotation))
    if origin is None and get_args(annotation):
        return _takes_list(get_args(annotation)[0])
    return annotation is Any or (origin or annotation) in LIST


def _word(value: Any, values: list[Any]) -> str:
    """Say a value in a label; what has no short form is numbered, if it is one of several."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, str) and len(value) <= 24:
        return value
    return "" if len(values) == 1 else f"#{values.index(value) + 1}"


def _label(words: Mapping[str, str]) -> str:
    """Say settings: ``k=8``, ``output.k=8``, and ``k=8/16`` for 8 as input and 16 as output."""
    found: dict[str, str] = {}
    for place, word in words.items():
        role, dot, key = place.partition(".")
        if not dot or not all(words.get(f"{role}.{key}") for role in ROLES):
            found[place] = word
        elif role == ROLES[0]:
            found[key] = "/".join(words[f"{role}.{key}"] for role in ROLES)
    return " ".join(f"{place}={word}" for place, word in found.items() if word)


def with_texts(said: Mapping[str, Any], files: Sequence[str]) -> dict[str, Any]:
    """Give training texts to every method that learns from text and names none of its own.

    A method whose settings leave no use for a text gets none.

    Args:
        said: ``method`` and ``parameters`` (and ``per_kind``), as in a recipe, without lists of
            values.
        files: The texts.
    """
    if not files:
        return dict(said)
    changed = dict(said)
    parameters = dict(said.get("parameters") or {})
    if isinstance(parts := parameters.get("of"), list):  # of a mix
        parameters["of"] = [_part(part, files) for part in parts]
    method = said.get("method")
    common = {key: value for key, value in parameters.items() if key not in ROLES}
    own = {role: dict(parameters.get(role) or {}) for role in ROLES}
    takers = {r: next((k for k in kinds(method, r) if _use(k, common | own[r])), None) for r in own}
    if isinstance(method, str):
        if all(takers.values()) and (kind := takers["input"]):
            parameters[TEXT] = _texts(kind, files)
    else:
        for role, kind in takers.items():
            if kind:
                parameters[role] = {**own[role], TEXT: _texts(kind, files)}
    if parameters:
        changed["parameters"] = parameters
    if isinstance(by_kind := said.get("per_kind"), Mapping):
        changed["per_kind"] = {kind: _part(part, files) for kind, part in by_kind.items()}
    return changed


def _part(said: Any, files: Sequence[str]) -> Any:
    """Do the same for a method within another's settings; a name alone may stay one."""
    if not isinstance(said, str | Mapping):
        return said
    given = {"method": said} if isinstance(said, str) else dict(said)
    changed = with_texts(given, files)
    return said if changed == given else changed


def _use(kind: type[Method], settings: Mapping[str, Any]) -> bool:
    """Tell whether a method with these settings learns from a text, and names none."""
    if TEXT not in kind.model_fields or TEXT in settings:
        return False
    try:
        kind(**settings, **{TEXT: _texts(kind, ["a.txt"])})
    except ValidationError:  # as of one that takes its vectors from elsewhere
        return False
    return True


def _texts(kind: type[Method], files: Sequence[str]) -> Any:
    return list(files) if _takes_list(kind.model_fields[TEXT].annotation) else files[0]
