"""What a transplant will fetch, compute and write, in bytes, known before it begins."""

import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokswap.checkpoint.files import is_tokenizer_file
from tokswap.checkpoint.header import DTYPE_BITS, written_type
from tokswap.checkpoint.licences import files_for_card
from tokswap.checkpoint.parts import bytes_to_fetch
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.target import check_space
from tokswap.checkpoint.writer import needed_files
from tokswap.errors import OutputError
from tokswap.pair import Pair
from tokswap.peak_memory import peak_memory, plan_bytes, weights_bytes
from tokswap.recipe import Recipe
from tokswap.report.record import counts

REPORTS = 64 << 10
"""Bytes of the record and the model card, at most."""


@dataclass(frozen=True)
class Fetch:
    """Bytes that come over the network.

    Attributes:
        model: ``base``, ``donor`` or ``original``, which a transplanted base was made of.
        file: The file they are of.
        tensor: The tensor that they are, or None for the whole file.
        bytes: How many.
    """

    model: str
    file: str
    tensor: str | None
    bytes: int


@dataclass(frozen=True)
class Table:
    """A vocabulary tensor before and after.

    Attributes:
        name: Its stored name.
        dtype: The type that is written, as safetensors names it.
        old_shape: Shape in the base.
        shape: Shape in the result.
        old_bytes: Bytes in the base.
        bytes: Bytes in the result.
    """

    name: str
    dtype: str
    old_shape: tuple[int, ...]
    shape: tuple[int, ...]
    old_bytes: int
    bytes: int


@dataclass(frozen=True)
class Disk:
    """A disk that will be written to.

    Attributes:
        folder: The folder that was asked about.
        purpose: What goes there: ``output``, ``cache`` or both.
        needed: Bytes that will be written there.
        free: Bytes that are free.
    """

    folder: str
    purpose: str
    needed: int
    free: int

    @property
    def enough(self) -> bool:
        """Whether it has room."""
        return self.free >= self.needed


@dataclass(frozen=True)
class Estimate:
    """What a transplant will fetch, compute and write.

    Attributes:
        fetches: What comes over the network; what is in a cache already is left out.
        counts: Rows of the new vocabulary by where they come from.
        tables: The vocabulary tensors before and after.
        memory: Bytes at the peak of each stage, about.
        writes: Bytes of the output by sort of file, about.
    """

    fetches: tuple[Fetch, ...]
    counts: Mapping[str, Any]
    tables: tuple[Table, ...]
    memory: Mapping[str, int]
    writes: Mapping[str, int]

    @property
    def fetched(self) -> int:
        """All bytes that come over the network."""
        return sum(fetch.bytes for fetch in self.fetches)

    @property
    def written(self) -> int:
        """All bytes of the output."""
        return sum(self.writes.values())

    def disks(self, target: Path) -> list[Disk]:
        """Tell whether the output's disk and the cache's have room.

        Args:
            target: The folder to write. What it holds now is kept until the end, so it frees none.
        """
        needs = [("output", target.resolve(), self.written)]
        if self.fetches:
            needs += [
                (purpose, folder, sum(f.bytes for f in self.fetches if (f.tensor is None) == whole))
                for purpose, folder, whole in _caches()
            ]
        merged: dict[int, Disk] = {}
        for purpose, folder, needed in needs:
            place = next(path for path in (folder, *folder.parents) if path.exists())
            device, free = os.stat(place).st_dev, shutil.disk_usage(place).free
            other = merged.get(device)
            if other is None:
                merged[device] = Disk(str(place), purpose, needed, free)
            elif needed:
                purposes = dict.fromkeys([*other.purpose.split(" and "), purpose])
                both = " and ".join(purposes)
                merged[device] = Disk(other.folder, both, other.needed + needed, free)
        return list(merged.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "fetch": {"bytes": self.fetched, "parts": [asdict(fetch) for fetch in self.fetches]},
            "compute": {
                "counts": dict(self.counts),
                "tables": [asdict(table) for table in self.tables],
                "memory": dict(self.memory),
                "peak_memory": max(self.memory.values()),
            },
            "write": {"bytes": self.written, "groups": dict(self.writes)},
        }


def estimate(
    pair: Pair,
    recipe: Recipe,
    *,
    plan_only: bool = False,
    plan: int | None = None,
    also: Iterable[Fetch] = (),
) -> Estimate:
    """Estimate a transplant from the headers and the vocabularies; nothing is loaded.

    Args:
        pair: The base and the donor.
        recipe: What was asked for.
        plan_only: Whether no weights are to be written.
        plan: Bytes of the plan, where it is made already.
        also: What is fetched beside the base and the donor's vocabulary.
    """
    tables = tuple(_tables(pair, recipe))
    plan = plan_bytes(pair, recipe) if plan is None else plan
    fetches = dict.fromkeys([*_fetches(pair, plan_only), *also])
    return Estimate(
        fetches=tuple(fetch for fetch in fetches if fetch.bytes),
        counts=counts(pair.alignment),
        tables=tables,
        memory=peak_memory(pair, recipe, tables, plan, plan_only=plan_only),
        writes={"plan": plan, "record": REPORTS} if plan_only else _writes(pair, tables, plan),
    )


def check_room(expected: Estimate, target: Path) -> None:
    """Check that the disks have room, before anything is fetched or written.

    Raises:
        OutputError: If one has too little.
    """
    check_space(target, expected.written)
    for disk in expected.disks(target):
        if not disk.enough:
            raise OutputError(
                f"{disk.folder} ({disk.purpose}) needs about {disk.needed / 1e9:.1f} GB and its "
                f"disk has {disk.free / 1e9:.1f} GB; free some space, or set HF_HOME to another "
                "disk"
            )


def _tables(pair: Pair, recipe: Recipe) -> Iterator[Table]:
    for tensor in pair.layout.tensors:
        info, axis = pair.base.info(tensor.name), tensor.axis
        dtype = written_type(info.dtype, recipe.dtype)
        shape = (*info.shape[:axis], pair.alignment.rows, *info.shape[axis + 1 :])
        size = math.prod(shape) * DTYPE_BITS[dtype] // 8
        stored = [pair.base.stored_info(part) for part in pair.base.stored_names(tensor.name)]
        old = sum(part.end - part.begin for part in stored)
        yield Table(tensor.name, dtype, info.shape, shape, old, size)


def _fetches(pair: Pair, plan_only: bool) -> Iterator[Fetch]:
    base, donor = pair.base, pair.donor
    if not plan_only:
        yield from whole_files("base", base, needed_files(base))
    elif pair.donor_layout:  # such methods look at the base's rows too
        yield from single_tensors("base", base, {pair.layout.input, pair.layout.output})
    if not plan_only:
        yield from whole_files("donor", donor, files_for_card(donor))
    if pair.donor_layout:
        names = {pair.donor_layout.input}
        names |= set() if pair.layout.tied else {pair.donor_layout.output}
        yield from single_tensors("donor", donor, names)


def whole_files(model: str, checkpoint: Checkpoint, names: Iterable[str]) -> Iterator[Fetch]:
    """Tell what fetching files whole takes."""
    files = checkpoint.files
    for name in names:
        yield Fetch(model, name, None, 0 if files.whole(name) else files.size(name))


def single_tensors(model: str, checkpoint: Checkpoint, names: Iterable[str]) -> Iterator[Fetch]:
    """Tell what fetching single tensors takes."""
    stored = {part for name in names for part in checkpoint.stored_names(name)}
    for name in sorted(stored):
        shard = checkpoint.shard_of[name]
        size = bytes_to_fetch(checkpoint.files, shard, name, checkpoint.header(shard))
        yield Fetch(model, shard, name, size)


def _caches() -> list[tuple[str, Path, bool]]:
    """Where whole files and single tensors are kept."""
    from huggingface_hub.constants import HF_ASSETS_CACHE, HF_HUB_CACHE

    return [
        ("cache", Path(HF_HUB_CACHE).expanduser().resolve(), True),
        ("cache", Path(HF_ASSETS_CACHE).expanduser().resolve(), False),
    ]


def _writes(pair: Pair, tables: tuple[Table, ...], plan: int) -> dict[str, int]:
    base, donor = pair.base.files, pair.donor.files
    weights = weights_bytes(pair.base)
    needed = set(needed_files(pair.base)) - set(pair.base.shards)
    small = {name for name in needed if not is_tokenizer_file(name)}
    return {
        "vocabulary tensors": sum(table.bytes for table in tables),
        "other tensors": weights - sum(table.old_bytes for table in tables),
        "tokenizer": sum(donor.size(n) for n in donor.names if is_tokenizer_file(n)),
        "settings and other files": sum(base.size(name) for name in small),
        "plan": plan,
        "record and model card": REPORTS,
    }
