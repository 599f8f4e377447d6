"""The text that is trained on, a batch at a time, each batch the same whenever it is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tokswap.bundled.train.corpus import read_corpus
from tokswap.errors import EvaluationError
from tokswap.evaluation.texts import dataset_rows
from tokswap.hypernet.training.recipe import SourcePart

LINE = 200
"""Characters within which a text begins behind a space or a line end, where there is one."""


class Source(Protocol):
    """Text that is read in batches, one after the other."""

    def batch(self, count: int, characters: int) -> list[str]:
        """Read the next texts, each up to so many characters long."""

    def state(self) -> dict[str, Any]:
        """Tell where it stands, JSON-ready."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where a source like this one stood."""


@dataclass(eq=False)
class Spans:
    """Random spans of files, or of what every Python carries; any batch can be read at once.

    Attributes:
        parts: The text, in bytes that are UTF-8.
        seed: What decides the spans.
        done: Batches that were read.
    """

    parts: Sequence[Any]
    seed: Sequence[int]
    done: int = 0

    def batch(self, count: int, characters: int) -> list[str]:
        """See :meth:`Source.batch`."""
        rng = np.random.default_rng([*self.seed, self.done])
        self.done += 1
        sizes = np.array([len(part) for part in self.parts])
        return [self._span(rng, sizes, characters) for _ in range(count)]

    def _span(self, rng: np.random.Generator, sizes: "np.ndarray[Any, Any]", length: int) -> str:
        """Cut a span out of a part, behind a space where one is near."""
        part = self.parts[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
        start = int(rng.integers(max(len(part) - length, 1)))
        data = bytes(part[start : start + LINE + 4 * length])
        if start:
            spaces = (data.find(space, 0, LINE) for space in (b" ", b"\n"))
            first = min((place for place in spaces if place >= 0), default=-1)
            data = data[first:] if first >= 0 else data
        return data.decode(errors="ignore")[:length]

    def state(self) -> dict[str, Any]:
        """See :meth:`Source.state`."""
        return {"done": self.done}

    def restore(self, state: dict[str, Any]) -> None:
        """See :meth:`Source.restore`."""
        self.done = int(state["done"])


@dataclass(eq=False)
class Streamed:
    """A dataset that is read row by row, from its first again when it ends.

    Attributes:
        name: What messages call it.
        rows: The dataset, streamed.
        column: The column that holds the text.
        seed: What decides which span of a row is read.
    """

    name: str
    rows: Any
    column: str
    seed: Sequence[int]
    done: int = 0
    _open: Iterator[Any] | None = field(default=None, repr=False)
    _place: dict[str, Any] | None = field(default=None, repr=False)
    """Where the rows begin when they are opened; None for the first."""

    def batch(self, count: int, characters: int) -> list[str]:
        """See :meth:`Source.batch`.

        Raises:
            EvaluationError: If the dataset cannot be read on, or holds no text.
        """
        rng = np.random.default_rng([*self.seed, self.done])
        self.done += 1
        found: list[str] = []
        ended = False
        while len(found) < count:
            row = self._next()
            if row is None:
                if ended and not found:
                    raise EvaluationError(f"{self.name} holds no text to train on; give another")
                ended, self._open, self._place = True, None, None
                continue
            text = row[self.column]
            if isinstance(text, str) and text.strip():
                start = int(rng.integers(max(len(text) - characters, 0) + 1))
                found.append(text[start : start + characters])
        return found

    def _next(self) -> Any:
        try:
            if self._open is None:
                self.rows.load_state_dict(self._place or {})
                self._open = iter(self.rows)
            return next(self._open, None)
        except Exception as error:  # network and file formats fail in many ways
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise EvaluationError(
                f"{self.name} cannot be read on: {reason}; check the network, and go on with "
                "--resume"
            ) from error

    def state(self) -> dict[str, Any]:
        """See :meth:`Source.state`."""
        place = self._place if self._open is None else self.rows.state_dict()
        return {"done": self.done, "rows": place}

    def restore(self, state: dict[str, Any]) -> None:
        """See :meth:`Source.restore`."""
        self.done, self._open, self._place = int(state["done"]), None, state["rows"]


def open_source(said: SourcePart | None, seed: Sequence[int]) -> Source:
    """Open what a recipe names.

    Args:
        said: The source; None for the sources and the documentation of Python's library, without
            the files that the bundled models are measured on.
        seed: What decides the texts.

    Raises:
        EvaluationError: If a file or a dataset cannot be read, or holds nothing.
    """
    if said is None:
        documents = [document.text.encode() for document in read_corpus().train]
        return Spans([b"\n".join(documents)], seed)
    if said.dataset is not None:
        rows, column, name = dataset_rows(said.dataset, splits=("train",))
        return Streamed(name, rows, column, seed)
    return Spans([_mapped(Path(path).expanduser()) for path in said.text], seed)


def _mapped(path: Path) -> Any:
    """Map a file into memory, which reads of it what is asked for.

    Raises:
        EvaluationError: If it cannot be read, is empty, or begins with what is not UTF-8.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
        bytes(data[: 1 << 20]).decode()
    except UnicodeDecodeError as error:
        if error.start < (1 << 20) - 4:
            raise EvaluationError(f"{path} is not UTF-8: {error.reason}; convert it") from error
    except OSError as error:
        raise EvaluationError(
            f"{path} cannot be read: {error.strerror}; give the path of a text file in UTF-8"
        ) from error
    except ValueError as error:  # numpy maps no empty file
        raise EvaluationError(f"{path} is empty; give a file that holds some text") from error
    return data
