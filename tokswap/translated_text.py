"""Texts that are translations of each other, line by line."""

from collections.abc import Sequence
from pathlib import Path

from tokswap.errors import EvaluationError, MethodError
from tokswap.evaluation.texts import file_chunks


def translated_lines(
    first: Sequence[str], second: Sequence[str], *, method: str
) -> list[tuple[str, str]]:
    """Read files in one language and their translations.

    Args:
        first: Files in UTF-8.
        second: Their translations, in the same order, with a line for each line.
        method: What messages call the method.

    Returns:
        Pairs of lines; those that are blank on either side are left out.

    Raises:
        MethodError: If a file cannot be read, a translation is missing or has not as many lines as
            what it translates, or no line has a translation.
    """
    if len(first) != len(second):
        raise MethodError(
            f"{method} was given {len(first)} files of text and {len(second)} of donor_text; give "
            "one translation for each, in the same order"
        )
    pairs: list[tuple[str, str]] = []
    for path, translation in zip(first, second, strict=True):
        lines, others = (_lines(name, method) for name in (path, translation))
        if len(lines) != len(others):
            raise MethodError(
                f"{path} has {len(lines)} lines and {translation} has {len(others)}, so {method} "
                "cannot tell which translate each other; give files that are aligned line by line"
            )
        pairs += [pair for pair in zip(lines, others, strict=True) if all(map(str.strip, pair))]
    if not pairs:
        raise MethodError(
            f"{method} finds no line in {', '.join(first)} that has a translation in "
            f"{', '.join(second)}; give files that hold text in the same lines"
        )
    return pairs


def _lines(path: str, method: str) -> list[str]:
    try:
        text = "".join(file_chunks(Path(path)))
    except EvaluationError as error:
        raise MethodError(f"{method} cannot read its text: {error}") from error
    # Not splitlines(), which takes more characters for line ends than files have.
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
