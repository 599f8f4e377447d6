"""Where the measured text comes from: files and datasets, read as a stream."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokswap.errors import EvaluationError

CHUNK = 1 << 18  # characters read from a file at once
SPLITS = ("test", "validation", "train")  # what stands for a split that was not named
COLUMNS = ("text", "content")


@dataclass(frozen=True)
class Text:
    """A named sequence of documents that can be read any number of times.

    Attributes:
        name: What figures and messages call it.
        open: Starts reading: yields the documents, each an iterator over chunks of its text. A
            document is read to its end before the next one is asked for.
        size: About how many bytes there are, for a progress bar; 0 where nobody knows.
    """

    name: str
    open: Callable[[], Iterator[Iterator[str]]]
    size: int = 0


def file_text(path: Path) -> Text:
    """Take a file as one document.

    The file is read once at the start, so that a fault in its last line shows before a model runs.

    Args:
        path: A file in UTF-8. Line ends are kept as they are.

    Returns:
        The text, named like the file.

    Raises:
        EvaluationError: If the file is missing, empty or not UTF-8.
    """
    if sum(len(chunk) for chunk in file_chunks(path)) == 0:
        raise EvaluationError(f"{path} is empty; give a file that holds some text")
    return Text(path.name, lambda: iter([file_chunks(path)]), path.stat().st_size)


def file_chunks(path: Path) -> Iterator[str]:
    """Read a file piece by piece, line ends kept as they are.

    Args:
        path: A file in UTF-8.

    Yields:
        Up to ``CHUNK`` characters of it.

    Raises:
        EvaluationError: If the file is missing or not UTF-8.
    """
    try:
        # newline="": translated line ends would change the number of bytes.
        with path.open(encoding="utf-8", newline="") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise EvaluationError(
            f"{path} is not UTF-8: {error.reason} (0x{byte:02x}); convert it to UTF-8 first"
        ) from error
    except OSError as error:
        raise EvaluationError(
            f"{path} cannot be read: {error.strerror}; give the path of a text file in UTF-8"
        ) from error


def dataset_text(spec: str, max_bytes: int | None = None, splits: Sequence[str] = SPLITS) -> Text:
    """Stream a dataset from the Hugging Face Hub or a local folder; every row is a document.

    Args:
        spec: ``ID[:CONFIG[:SPLIT]]``. ID is a Hub id or a folder with data files; an empty CONFIG
            is the default one.
        max_bytes: Read whole documents until this many bytes are reached; all without it.
        splits: Without a SPLIT the first of these that is there is read.

    Returns:
        The text, whose name says which split it is.

    Raises:
        EvaluationError: If the dataset cannot be opened, or no column is known to hold the text.
    """
    rows, column, name = dataset_rows(spec, splits)
    return Text(name, lambda: _documents(spec, rows, column, max_bytes), size=max_bytes or 0)


def dataset_rows(spec: str, splits: Sequence[str]) -> tuple[Any, str, str]:
    """Open a dataset as a stream of rows.

    Args:
        spec: See :func:`dataset_text`.
        splits: Which splits stand for one that is not named, the first that is there.

    Returns:
        The rows, the column that holds the text, and a name that says which split it is.

    Raises:
        EvaluationError: As :func:`dataset_text`.
    """
    identity, config, split = _parse(spec)
    try:
        with _quiet():
            import datasets

            found = datasets.load_dataset(identity, config, streaming=True)
    except Exception as error:  # the library raises a dozen kinds, down to those of pyarrow
        raise EvaluationError(
            f"dataset {spec!r} cannot be opened: {_one_line(error)}; check the spelling "
            "(ID[:CONFIG[:SPLIT]]) and the network, or give a local folder with data files"
        ) from error
    split = split or next((name for name in splits if name in found), splits[0])
    if split not in found:
        raise EvaluationError(
            f"dataset {spec!r} has no split {split!r}, only {', '.join(map(str, found))}; "
            "name one of them as ID:CONFIG:SPLIT"
        )
    label = Path(identity).name if Path(identity).is_dir() else identity
    name = f"{label}{f':{config}' if config else ''} ({split})"
    return found[split], _text_column(spec, found[split]), name


def _parse(spec: str) -> tuple[str, str | None, str | None]:
    identity, *rest = spec.split(":")
    if not identity or len(rest) > 2:
        raise EvaluationError(
            f"dataset {spec!r} is not of the form ID[:CONFIG[:SPLIT]]; write for example "
            "Salesforce/wikitext:wikitext-2-raw-v1:test"
        )
    config, split = [*rest, "", ""][:2]
    return identity, config or None, split or None


def _text_column(spec: str, rows: Any) -> str:
    # By name, or the only one that holds strings.
    first = next(_rows(spec, rows), None)
    if first is None:
        raise EvaluationError(f"dataset {spec!r} has no rows; choose another split")
    if rows.features is None:  # some formats tell their columns only by their rows
        strings = [name for name, value in first.items() if isinstance(value, str)]
    else:
        kinds = {name: getattr(kind, "dtype", None) for name, kind in rows.features.items()}
        strings = [name for name, kind in kinds.items() if kind in {"string", "large_string"}]
    for name in COLUMNS:
        if name in strings:
            return name
    if len(strings) != 1:
        raise EvaluationError(
            f"dataset {spec!r} has the columns {', '.join(first)}, and none of them is plainly "
            "the text; rename the right one to 'text'"
        )
    return strings[0]


def _rows(spec: str, rows: Any) -> Iterator[dict[str, Any]]:
    try:
        yield from rows
    except Exception as error:  # network and file formats fail in many ways
        raise EvaluationError(
            f"dataset {spec!r} cannot be read on: {_one_line(error)}; "
            "check the network and the data files"
        ) from error


def _documents(spec: str, rows: Any, column: str, max_bytes: int | None) -> Iterator[Iterator[str]]:
    done = 0
    for row in _rows(spec, rows):
        if max_bytes is not None and done >= max_bytes:
            return
        if text := row[column]:
            done += len(text.encode())
            yield iter([text])


def _one_line(error: Exception) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return line.rstrip(".") if len(line) <= 300 else f"{line[:300]} ..."


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the bars and the retries that datasets and huggingface_hub write to stderr."""
    import datasets

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()
