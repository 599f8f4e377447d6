"""Word vectors from files: fastText's text format (.vec, word2vec's and GloVe's too) and its .bin.

What gensim itself saves (.model, .kv) are pickles, which run code as they are read: refused.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tokswap.errors import MethodError
from tokswap.progress import bar, note
from tokswap.static_vectors import Rows, StaticVectors, gensim_fasttext, of_model, quiet

MAGIC = struct.pack("<i", 793712314)
HEADER = struct.Struct("<14id3i")
"""Magic number, version, twelve settings (width first, buckets ninth), one more; three sizes."""
PICKLES = (".model", ".kv", ".pkl", ".pickle")
MOST_WORDS = 200_000
"""Words read of a text file, the frequent ones first."""
FORMATS = "a .vec file in text or a .bin file of fastText's"


def read_vectors(path: Path, *, method: str) -> StaticVectors:
    """Read word vectors from a file.

    Args:
        path: A text file of one word and its numbers a line, with or without a line of sizes before
            them; or a fastText model (.bin), which has vectors of character n-grams as well.
        method: What messages call the method.

    Raises:
        MethodError: If the file is missing, or holds no such vectors.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(4)
            if path.suffix in PICKLES or begin[:1] == b"\x80":
                raise MethodError(
                    f"{method} does not read {path}, which looks like a pickle and could run code; "
                    f"give {FORMATS}"
                )
            if begin != MAGIC:
                file.seek(0)
                return _read_text(file, path, method)
    except OSError as error:
        raise MethodError(
            f"{method} cannot read {path}: {error.strerror}; give {FORMATS}"
        ) from error
    return _read_fasttext(path, method)


def _read_text(file: BinaryIO, path: Path, method: str) -> StaticVectors:
    places: dict[str, int] = {}
    rows: list[Rows] = []
    line = file.readline()
    sizes = line.split()
    count, number = 0, 1
    if len(sizes) == 2 and all(size.isdigit() for size in sizes):
        count = int(sizes[0])
        line, number = file.readline(), 2
    # Words may hold what Python takes for white space, but no plain space.
    width = len(line.rstrip(b" \r\n").split(b" ")) - 1
    with bar(f"vectors of {path.name}", min(count, MOST_WORDS)) as advance:
        while line and len(rows) < MOST_WORDS:
            word, *numbers = line.rstrip(b" \r\n").split(b" ")
            try:
                row = np.array(numbers, dtype=np.float32)
            except ValueError:
                row = np.zeros(0, dtype=np.float32)
            if not width or len(row) != width or not np.isfinite(row).all():
                raise MethodError(
                    f"{method} cannot read {path}: line {number} is not a word and "
                    f"{width or 'some'} numbers; give {FORMATS}"
                )
            if places.setdefault(word.decode(errors="replace"), len(rows)) == len(rows):
                rows.append(row)
            advance(1)
            line, number = file.readline(), number + 1
    if not rows:
        raise MethodError(f"{method} finds no vectors in {path}; give {FORMATS}")
    if line:
        note(f"{method} reads the first {MOST_WORDS:,} words of {path}")
    # Without counts: the frequent words come first, and frequency falls as 1 / rank.
    counts = 1.0 / np.arange(1, len(rows) + 1)
    return StaticVectors(places, np.stack(rows), counts)


def _read_fasttext(path: Path, method: str) -> StaticVectors:
    fasttext = gensim_fasttext(method)
    refused = MethodError(
        f"{method} cannot read {path}, a fastText file that is cut off, quantised or a classifier; "
        f"fetch it again, or give {FORMATS}"
    )
    with path.open("rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        raise refused
    said = HEADER.unpack(head)
    width, buckets, words = said[2], said[10], said[16]
    # gensim would look for the end of a word for ever in a file that ends within its words.
    if path.stat().st_size < 4 * width * (words + buckets):
        raise refused
    try:
        with quiet():
            found = fasttext.load_facebook_vectors(str(path))
    except Exception as error:  # gensim checks sizes by assertions, and the rest fails anyhow
        raise refused from error
    return of_model(found)
