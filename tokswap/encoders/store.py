"""Vectors of texts on disk, one file for each encoder with its settings.

The files lie in ``$TOKSWAP_CACHE/vectors`` if that is set, else in ``tokswap/vectors`` in the
user's cache folder (``$XDG_CACHE_HOME``, or ``~/.cache``). They are called after the encoder and
the digest of all that decides its vectors. Deleting a file, or the folder, only costs the time to
compute its vectors again.

A file is a header and records of one size: 16 bytes of the text's digest, the vector, and a
checksum of both. Records are only ever appended, under a lock, so that two processes can keep
vectors at once; what a killed one left of its last record is cut off by the next. A record that is
damaged is told from its checksum, and computed and appended anew; of two records of one text, the
last counts.
"""

import hashlib
import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tokswap.progress import note

if TYPE_CHECKING:
    from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows: two processes may cut into each other's records, and notice it
    fcntl = None  # type: ignore[assignment]

HEADER = struct.Struct("<8sII")
MAGIC, FORMAT = b"tokswapV", 1
DIGEST, CHECKSUM = 16, 4
BLOCK = 8192
"""Records that are read at once."""


def vectors_folder() -> Path:
    """Folder that vectors of texts are kept in, if not said otherwise."""
    if said := os.environ.get("TOKSWAP_CACHE"):
        return Path(said).expanduser() / "vectors"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "tokswap" / "vectors"


class VectorStore:
    """The vectors of one encoder with its settings.

    Attributes:
        path: The file that holds them.
    """

    def __init__(self, folder: Path, name: str, key: str) -> None:
        self.path = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)[:60]}-{key[:32]}.vectors"
        self._given_up = False

    def read(self, texts: Sequence[str]) -> "tuple[list[bool], Tensor | None]":
        """Look texts up.

        Args:
            texts: The texts, none of them twice.

        Returns:
            Which are here, and their vectors, (n, width) float32, with arbitrary rows for the
            others; None where nothing is kept yet.
        """
        import numpy as np
        import torch

        found = [False] * len(texts)
        records = self._records()
        if records is None:
            return found, None
        width = records.dtype["row"].shape[0]
        vectors = torch.empty(len(texts), width)
        last = {digest: place for place, digest in enumerate(records["digest"].tolist())}
        wanted = [(place, last.get(_digest(text), -1)) for place, text in enumerate(texts)]
        # By their place in the file, so that the disk is read forwards.
        wanted = sorted((w for w in wanted if w[1] >= 0), key=lambda pair: pair[1])
        damaged = 0
        for start in range(0, len(wanted), BLOCK):
            places, numbers = zip(*wanted[start : start + BLOCK], strict=True)
            block = np.ascontiguousarray(records[list(numbers)])
            fit = _checksums(block) == block["checksum"]
            damaged += int((~fit).sum())
            vectors[list(places)] = torch.from_numpy(np.ascontiguousarray(block["row"]))
            for place, is_fit in zip(places, fit.tolist(), strict=True):
                found[place] = is_fit
        if damaged:
            note(f"note: {damaged} vectors in {self.path} are damaged and are computed again")
        return found, vectors

    def append(self, texts: Sequence[str], vectors: "Tensor") -> None:
        """Keep vectors; where the disk does not let it, say so once and go on.

        Args:
            texts: The texts.
            vectors: (n, width) float32.
        """
        import numpy as np

        if self._given_up:
            return
        block = np.empty(len(texts), _kind(vectors.shape[1]))
        block["digest"] = [_digest(text) for text in texts]
        block["row"] = vectors.numpy()
        block["checksum"] = _checksums(block)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._held() as file:
                self._make_whole(file, vectors.shape[1])
                file.write(block.tobytes())
        except OSError as error:
            self._given_up = True
            note(
                f"note: {self.path} cannot be written ({error.strerror}), so vectors are not kept "
                "and a later run computes them again; set TOKSWAP_CACHE to another folder"
            )

    def _records(self) -> Any:
        """The records as an array on the disk; None where there is no readable file."""
        import numpy as np

        try:
            with self.path.open("rb") as file:
                header = file.read(HEADER.size)
                size = file.seek(0, os.SEEK_END)
        except OSError:
            return None
        width = _width(header)
        if width is None:
            note(f"note: {self.path} is damaged and is begun anew")
            return None
        kind = _kind(width)
        if not (count := (size - HEADER.size) // kind.itemsize):
            return None
        return np.memmap(self.path, kind, mode="r", offset=HEADER.size, shape=(count,))

    @contextmanager
    def _held(self) -> Iterator[IO[bytes]]:
        """Open the file to append to it, alone."""
        with self.path.open("a+b") as file:
            if fcntl is not None:
                with suppress(OSError):  # a network's disk without locks
                    fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            yield file

    def _make_whole(self, file: IO[bytes], width: int) -> None:
        """Begin the file, or cut off what a killed process left at its end."""
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if _width(file.read(HEADER.size)) != width:
            file.truncate(0)
            file.write(HEADER.pack(MAGIC, FORMAT, width))
            return
        torn = (size - HEADER.size) % _kind(width).itemsize
        if torn:
            file.truncate(size - torn)
        file.seek(0, os.SEEK_END)


def _kind(width: int) -> Any:
    import numpy as np

    fields = [("digest", f"V{DIGEST}"), ("row", "<f4", (width,)), ("checksum", "<u4")]
    return np.dtype(fields)


def _width(header: bytes) -> int | None:
    if len(header) != HEADER.size:
        return None
    magic, version, width = HEADER.unpack(header)
    return width if (magic, version) == (MAGIC, FORMAT) and width else None


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()


def _checksums(block: Any) -> Any:
    """Checksum of each record's digest and vector, (n,) uint32."""
    import numpy as np

    rows = block.view(np.uint8).reshape(len(block), -1)[:, :-CHECKSUM]
    return np.array([zlib.crc32(row) for row in rows], np.uint32)
