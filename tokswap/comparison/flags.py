"""What the command line says over what a comparison's file says, as yet unchecked."""

from collections.abc import Mapping
from typing import Any

from tokswap.comparison.recipe import OF_ONE_METHOD, entries_of
from tokswap.comparison.runs import by_default
from tokswap.errors import RecipeError
from tokswap.methods import DEFAULT, METHODS
from tokswap.names import near
from tokswap.yaml_text import with_setting


def with_flags(
    said: Mapping[str, Any], flags: Mapping[str, Any], measured: Mapping[str, Any]
) -> dict[str, Any]:
    """Put what the command line says over what a file says.

    Args:
        said: The file's keys and values.
        flags: Keys to replace, where they are not None.
        measured: Keys of ``eval`` to replace, where they are not None.
    """
    given = {**said, **{key: value for key, value in flags.items() if value is not None}}
    if flags.get("methods") is not None:
        given = {key: value for key, value in given.items() if key not in OF_ONE_METHOD}
    if changed := {key: value for key, value in measured.items() if value is not None}:
        own = given.get("eval")
        given["eval"] = {**(own if isinstance(own, Mapping) else {}), **changed}
    return given


def with_sweep(said: Mapping[str, Any], sweep: str) -> dict[str, Any]:
    """Give a method several values of a setting, in a copy of what is asked for.

    Args:
        said: What is asked for, as yet unchecked.
        sweep: ``METHOD.KEY=V1,V2``, what stands in a YAML list; of one role ``METHOD.output.KEY``.

    Raises:
        RecipeError: If it has another form, or the method is not among those that are compared.
    """
    place, equals, values = sweep.partition("=")
    method, dot, key = place.partition(".")
    try:
        parsed = with_setting({}, f"value=[{values}]")["value"]
    except RecipeError as error:
        raise RecipeError(
            f"--sweep {sweep!r}: {values!r} are no valid YAML values; give it as omp.k=8,16"
        ) from error
    if not (equals and dot and method and all(key.split(".")) and parsed):
        raise RecipeError(
            f"--sweep {sweep!r} is not of the form METHOD.KEY=V1,V2; give it as omp.k=8,16"
        )
    if method not in METHODS:
        raise RecipeError(
            f"--sweep {sweep!r}: {method!r} is no method{near(method, list(METHODS))} "
            f"(known: {', '.join(METHODS)})"
        )
    changed = dict(said)
    if "methods" in said:
        entries = entries_of(said["methods"])
    elif one := {key: changed.pop(key) for key in OF_ONE_METHOD if key in said}:
        entries = [{"method": DEFAULT, **one}]
    else:
        entries = entries_of(list(dict.fromkeys([*by_default(), method])))
    if not isinstance(entries, list):
        return changed  # which is refused for what it is
    places = [n for n, e in enumerate(entries) if isinstance(e, dict) and e.get("method") == method]
    if not places:
        raise RecipeError(
            f"--sweep {sweep!r}: {method} is not among the methods that are compared; add it"
        )
    entries = list(entries)
    for number in places:
        parameters = dict(entries[number].get("parameters") or {})
        role, dot, inner = key.partition(".")
        if dot:
            parameters[role] = {**(parameters.get(role) or {}), inner: parsed}
        else:
            parameters[key] = parsed
        entries[number] = {**entries[number], "parameters": parameters}
    return {**changed, "methods": entries}
