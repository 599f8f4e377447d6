"""Writing a checkpoint: the vocabulary's tensors replaced, every other byte carried as it is."""

import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tokswap.checkpoint.files import is_tokenizer_file
from tokswap.checkpoint.header import DTYPE_BITS, Header, pack_header
from tokswap.checkpoint.source import INDEX, SINGLE, Checkpoint
from tokswap.checkpoint.target import RECORD
from tokswap.errors import OutputError
from tokswap.progress import bar

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 16 << 20
"""Bytes copied at once."""

WEIGHT_SUFFIXES = (
    ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt", ".ot",
)  # fmt: skip


@dataclass(frozen=True)
class Replacement:
    """A tensor to write in the place of a stored one.

    Attributes:
        dtype: Stored type, as safetensors names it.
        shape: The new shape.
        make: Computes the tensor in parts whose bytes follow each other; called once, when its
            turn to be written comes.
        parts: Names of the stored tensors whose place it takes, where these are not the one of its
            own name: the parts of a quantised weight. It goes where the first of them lies.
    """

    dtype: str
    shape: tuple[int, ...]
    make: "Callable[[], Iterable[Tensor]]"
    parts: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * DTYPE_BITS[self.dtype] // 8


def write_weights(
    folder: Path,
    base: Checkpoint,
    replace: Mapping[str, Replacement],
    drop: Collection[str] = (),
) -> None:
    """Write the base's weight files with some tensors replaced.

    A file without a replaced or dropped tensor is copied whole, in the kernel, which shares the
    blocks where the file system can. It is never linked: a user who edits the output would edit the
    source, or the Hub's cache. In the others the kept tensors' bytes are copied in chunks, so that
    memory holds one replaced tensor at a time and never the model.

    Args:
        folder: Where to write; the files have the base's names.
        base: The checkpoint whose tensors are carried.
        replace: By stored name, what to write instead.
        drop: Stored names to leave out. A file of which nothing is left is not written.
    """
    # By the stored name: the new tensor's, or None for what goes without one in its place.
    new_name: dict[str, str | None] = dict.fromkeys(drop)
    for name, new in replace.items():
        first, *others = new.parts or (name,)
        new_name |= {first: name, **dict.fromkeys(others)}
    total = sum(base.files.path(shard).stat().st_size for shard in base.shards)
    with bar("write weights", total) as advance:
        for shard in base.shards:
            source, header = base.files.path(shard), base.header(shard)
            if all(new_name.get(name, name) is None for name in header.tensors):
                advance(source.stat().st_size)
                continue
            with source.open("rb") as reader, (folder / shard).open("wb") as writer:
                if new_name.keys() & header.tensors.keys():
                    _write_shard(reader, writer, header, new_name, replace, advance)
                else:
                    _copy_range(reader, writer, 0, source.stat().st_size, advance)
    if INDEX in base.files.names and SINGLE not in base.files.names:
        _write_index(folder / INDEX, base, new_name, replace)


def _write_index(
    path: Path,
    base: Checkpoint,
    new_name: Mapping[str, str | None],
    replace: Mapping[str, Replacement],
) -> None:
    index = base.read_json(INDEX)
    if isinstance((index.get("metadata") or {}).get("total_size"), int):
        gone = [base.stored_info(name) for name in new_name]
        change = sum(new.size for new in replace.values()) - sum(i.end - i.begin for i in gone)
        index["metadata"]["total_size"] += change
    index["weight_map"] = {
        new: shard
        for name, shard in index["weight_map"].items()
        if (new := new_name.get(name, name)) is not None
    }
    path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write_shard(
    reader: BinaryIO,
    writer: BinaryIO,
    header: Header,
    new_name: Mapping[str, str | None],
    replace: Mapping[str, Replacement],
    advance: Callable[[int], None],
) -> None:
    entries = {}
    for name, info in header.tensors.items():
        written = new_name.get(name, name)
        if name not in new_name:
            entries[name] = (info.dtype, info.shape, info.end - info.begin)
        elif written is not None:
            new = replace[written]
            entries[written] = (new.dtype, new.shape, new.size)
    writer.write(pack_header(entries, header.metadata))
    for name, info in header.tensors.items():
        if name not in new_name:
            _copy_range(reader, writer, header.start + info.begin, info.end - info.begin, advance)
            continue
        if (written := new_name[name]) is not None:
            size = 0
            for block in replace[written].make():
                size += writer.write(tensor_bytes(block))
            if size != replace[written].size:
                raise ValueError(f"{written!r} has {size} bytes, {replace[written].size} were said")
        advance(info.end - info.begin)


def _copy_range(
    reader: BinaryIO, writer: BinaryIO, start: int, count: int, advance: Callable[[int], None]
) -> None:
    """Copy bytes from a place in one file to the end of another, inside the kernel if it can.

    Raises:
        OutputError: If the file that is read is shorter than it was.
    """
    writer.flush()
    end, target, in_kernel = start + count, writer.tell(), hasattr(os, "copy_file_range")
    while start < end:
        size, done = min(CHUNK, end - start), 0
        if in_kernel:
            try:
                done = os.copy_file_range(reader.fileno(), writer.fileno(), size, start, target)
            except OSError:  # some file systems cannot; if it is the disk, writing will tell
                in_kernel = False
        if not done:
            reader.seek(start)
            writer.seek(target)
            done = writer.write(reader.read(size))
            writer.flush()
        if not done:
            raise OutputError(f"{reader.name} ended early while it was read; run again")
        start, target = start + done, target + done
        advance(done)
    writer.seek(target)


def tensor_bytes(tensor: "Tensor") -> memoryview:
    """Return a CPU tensor's bytes in row-major order, without a copy where it is contiguous."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def carried_files(base: Checkpoint) -> list[str]:
    """Name the base's small files that go along: licences, custom code and settings.

    Weights in other formats, the tokenizer, the settings that are patched and the model card are
    left out; so is everything in folders below.
    """
    left_out = {
        "config.json",
        "generation_config.json",
        "params.json",  # Mistral's own form of config.json, whose size of the vocabulary is stale
        "adapter_config.json",  # without the adapter's weights
        RECORD,
    }
    return sorted(
        name
        for name in base.files.names - left_out
        if not is_tokenizer_file(name)
        and not name.endswith((*WEIGHT_SUFFIXES, ".index.json", ".plan"))
        and not name.startswith((".", "README", "tokenizer"))
    )


def needed_files(base: Checkpoint) -> list[str]:
    """Name the base's files that an output is made from; no weights in other formats."""
    # The model card of the base states its licence.
    settings = {"config.json", "generation_config.json", INDEX, "README.md"} & base.files.names
    tokenizer = {name for name in base.files.names if is_tokenizer_file(name)}
    return sorted({*base.shards, *carried_files(base), *settings, *tokenizer})
