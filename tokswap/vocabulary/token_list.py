"""A list of tokens that a user writes: one a line, as text."""

import json
from pathlib import Path

from tokswap.errors import RecipeError

SHOWN = 5
"""Faulty lines that a message names."""


def read_tokens(path: Path) -> list[str]:
    r"""Read a list of tokens: UTF-8, one token a line, exactly as it stands in texts.

    Spaces count, those at both ends too. A line that begins with a double quote is a JSON string,
    for tokens that hold line ends or other signs that are hard to write (``"\n\t"``), or that begin
    with a double quote themselves (``"\"name\""``). Empty lines are passed over.

    Raises:
        RecipeError: If the file cannot be read, holds no token, or has lines that are not valid.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RecipeError(
            f"the list of tokens {path} cannot be read ({error.strerror}); give a text file with "
            "one token a line"
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"the list of tokens {path} is not UTF-8 ({error.reason} at byte {error.start}); "
            "convert it to UTF-8 first"
        ) from error
    tokens, faults = [], []
    for number, ended in enumerate(text.split("\n"), start=1):
        line = ended.removesuffix("\r")
        if not line.startswith('"'):
            tokens.append(line)
            continue
        try:
            token = json.loads(line)
            token.encode()
        except ValueError as error:
            faults.append(f"line {number}: {_reason(error)}")
        else:
            tokens.append(token)
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise RecipeError(
            f"the list of tokens {path} is not valid, for a line that begins with a double quote "
            'is a JSON string, such as "\\n" or "\\"name\\"":\n  '
            + "\n  ".join(faults[:SHOWN])
            + more
        )
    tokens = [token for token in tokens if token]
    if not tokens:
        raise RecipeError(f"the list of tokens {path} is empty; write one token a line")
    return tokens


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "half a surrogate pair, which no text holds"
    return str(error).partition(": line")[0]
