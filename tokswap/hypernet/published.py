"""A hypernetwork's checkpoint: opened by name, checked against a base, loaded; no code is run."""

import hashlib
import math
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch

from tokswap.checkpoint.files import open_files
from tokswap.checkpoint.source import INDEX, SINGLE, Checkpoint
from tokswap.errors import CheckpointError, MethodError
from tokswap.hypernet.config import HypernetConfig, read_config
from tokswap.hypernet.flax import FLAX, read_flax
from tokswap.hypernet.network import Hypernet
from tokswap.hypernet.stored import WORDS, fill, stored_shapes
from tokswap.hypernet.surface import SurfaceForms
from tokswap.names import Location, near, resolve
from tokswap.vocabulary.identity import content_hash
from tokswap.vocabulary.tokens import Vocabulary


class Published:
    """A hypernetwork's files; each is read, or fetched, when it is asked for.

    config.json's ``auto_map`` names code beside the weights; it is not looked at.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @property
    def name(self) -> str:
        """What the user called it."""
        return self.checkpoint.name

    @cached_property
    def config(self) -> HypernetConfig:
        """Its settings.

        Raises:
            CheckpointError: If it is no hypernetwork, or none that is supported.
        """
        return read_config(self.checkpoint.config, self.name)

    @property
    def about(self) -> Mapping[str, Any]:
        """What `tokswap hypernet train` has noted of the base and the training, if it was that."""
        said = self.checkpoint.config.get("tokswap")
        return said if isinstance(said, dict) else {}

    @property
    def base(self) -> str | None:
        """Name of the base that it was made for, where the files tell."""
        base = self.about.get("base")
        said = base.get("name") if isinstance(base, dict) else None
        said = said or self.checkpoint.config.get("_name_or_path")
        return said if isinstance(said, str) and said else None

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Its own tokenizer, which is byte-level.

        Raises:
            VocabularyError: If there is no tokenizer.json that can be read.
        """
        return self.checkpoint.vocabulary

    @cached_property
    def surface_forms(self) -> SurfaceForms:
        """What cuts tokens into the pieces that it reads.

        Raises:
            CheckpointError: If its tokenizer is not byte-level, or not that of the network.
        """
        return SurfaceForms(self.vocabulary, self.config)

    @property
    def parameters(self) -> int:
        """Numbers that the network has, the table of words that nothing reads left out."""
        shapes = stored_shapes(self.config).items()
        return sum(math.prod(shape) for name, shape in shapes if name != WORDS)

    @property
    def weights(self) -> list[str]:
        """Names of the files that hold the weights: safetensors before Flax's.

        Raises:
            CheckpointError: If there are none that are read.
        """
        if self.checkpoint.has_weights:
            index = [INDEX] if SINGLE not in self.checkpoint.files.names else []
            return [*index, *self.checkpoint.shards]
        if FLAX in self.checkpoint.files.names:
            return [FLAX]
        raise CheckpointError(
            f"{self.name} has neither {SINGLE} nor {FLAX}; give a folder or a repository that "
            "holds a hypernetwork's weights"
        )

    @property
    def identity(self) -> str:
        """Tell it from all others: the commit on the Hub, or a digest of its files.

        Raises:
            CheckpointError: If it has no weights.
        """
        files = self.checkpoint.files
        if files.location.kind == "hub" and files.revision:
            return f"{files.location.target}@{files.revision}"
        digest = hashlib.sha256()
        for name in sorted({"config.json", "tokenizer.json", *self.weights} & files.names):
            digest.update(f"{name}\0{_digest(*_stamp(files.path(name)))}\n".encode())
        return f"sha256:{digest.hexdigest()}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: what it is and what it is for; no weight is loaded.

        Raises:
            TokswapError: If it is no hypernetwork, or its files do not fit together.
        """
        config = self.config
        self.surface_forms  # noqa: B018 - whether the tokenizer is the network's
        return {
            "name": self.name,
            "base": self.base,
            "width": config.n_embd,
            "tied": not config.separate_out_embeddings,
            "base_rows": config.original_vocab_size,
            "own_rows": config.hn_n_extra_tokens,
            "pieces": config.hn_surface_maxlen,
            "languages": config.langs or config.languages if config.languages else [],
            "predicts_bias": config.hn_predict_bias,
            "parameters": self.parameters,
            "weights": self.weights,
            "identity": self.identity,
            "tokswap": dict(self.about),
        }

    def load(self) -> Hypernet:
        """Load the network on the CPU in float32, for prediction.

        Raises:
            CheckpointError: If a tensor is missing, misshapen or of no use here, or the file is
                damaged.
        """
        config, weights, files = self.config, self.weights, self.checkpoint.files
        files.fetch(weights)
        if weights == [FLAX]:
            tensors = read_flax(files.path(FLAX), self.name)
        else:
            names = self.checkpoint.shard_of
            tensors = {name: self.checkpoint.load_stored(name) for name in names}
        with torch.device("meta"):
            network = Hypernet(config)
        fill(network, tensors, self.name)
        return network.eval().requires_grad_(requires_grad=False)

    def language(self, asked: str | int | None) -> int | None:
        """Find the index of a language.

        Args:
            asked: Its name, or its number where the checkpoint tells no names.

        Returns:
            None for a network that is told no language.

        Raises:
            MethodError: If it is not among those that the network knows, or missing, or asked of a
                network that is told none.
        """
        count, names = self.config.languages, self.config.langs or []
        if not count:
            if asked is not None:
                raise MethodError(
                    f"{self.name} is told no language, given {asked!r}; leave method.language out"
                )
            return None
        known = ", ".join(names) if names else f"0 to {count - 1}"
        if asked is None:
            raise MethodError(
                f"{self.name} is told which language tokens are of; give --set method.language=… "
                f"({known})"
            )
        if asked in names:
            return names.index(str(asked))
        number = int(asked) if str(asked).isdecimal() else -1
        if 0 <= number < count:
            return number
        raise MethodError(
            f"{self.name} knows no language {asked!r}{near(str(asked), names)}; it knows {known}"
        )

    def check_base(self, base: Vocabulary, *, rows: int, width: int, tied: bool) -> None:
        """Refuse a base that the network was not made for.

        Args:
            base: The base's vocabulary.
            rows: S.
            width: D.
            tied: Whether one table of the base's serves both roles.

        Raises:
            MethodError: If its width, its number of tables, its number of rows or a token is
                another; the message names what differs.
        """
        config, made_for = self.config, f" ({self.base})" if self.base else ""
        if config.n_embd != width:
            raise MethodError(
                f"{self.name} predicts rows of width {config.n_embd}, and those of {base.name!r} "
                f"have width {width}; give a hypernetwork for this base, or the base that it was "
                f"made for{made_for}"
            )
        if config.separate_out_embeddings == tied:
            ours, theirs = "one table for both roles (tied)", "a head of its own"
            has, wants = (ours, theirs) if tied else (theirs, ours)
            raise MethodError(
                f"{base.name!r} has {has}, and {self.name} was made for a base with {wants}"
                f"{made_for}; give a hypernetwork for this base"
            )
        if config.original_vocab_size > max(rows, len(base)):
            raise MethodError(
                f"{self.name} reads {config.original_vocab_size:,} rows of its base{made_for}, and "
                f"{base.name!r} has {rows:,}; give a hypernetwork for this base"
            )
        said = self.about.get("base")
        if isinstance(said, dict) and said.get("sha256") == content_hash(base):
            return
        if wrong := self._differing(base):
            here, there = (side.show(wrong[0]) for side in (base, self.vocabulary))
            raise MethodError(
                f"{self.name} was made for another vocabulary than that of {base.name!r}"
                f"{made_for}: id {wrong[0]} is {here} in the base and {there} in "
                f"the hypernetwork's tokenizer.json; {len(wrong):,} of "
                f"{config.original_vocab_size:,} ids differ; give a hypernetwork for this base"
            )

    def _differing(self, base: Vocabulary) -> list[int]:
        """List the ids of rows that it reads whose token is another in the base.

        A token has to have its bytes, or its string: the second of two tokens with the same bytes
        keeps its string in byte-level form. What one side calls special is no piece of anything,
        and neither is what a fine-tune has added.
        """
        own, found = self.vocabulary, []
        added = set(base.added_ids.values())
        for number in range(min(self.config.original_vocab_size, len(base))):
            here = None if number in base.special else base.spelling[number]
            inside = number < len(own) and number not in own.special
            there = own.spelling[number] if inside else None
            if here == there or (here is not None and base.ids.get(here) != number):
                continue
            alike = number < len(own) and base.strings[number] == own.strings[number]
            if not alike and not (there is None and number in added):
                found.append(number)
        return found


def open_published(name: str) -> Published:
    """Open a hypernetwork's checkpoint; nothing of it is read yet.

    Args:
        name: A folder, or an id on the Hub, ``org/model[@revision]``.

    Raises:
        NameUnknownError: If the name stands for nothing that can be had.
    """
    location = resolve(name)
    stamps: tuple[tuple[str, int, int], ...] = ()
    if location.kind != "hub":
        paths = sorted(path for path in Path(location.target).iterdir() if path.is_file())
        stamps = tuple(_stamp(path) for path in paths)
    return _opened(location, stamps)


@lru_cache(maxsize=2)
def _opened(location: Location, _stamps: tuple[tuple[str, int, int], ...]) -> Published:
    """What was read of files stays, for they are asked about several times in a run."""
    return Published(Checkpoint(open_files(location)))


def _stamp(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns


@lru_cache(maxsize=16)
def _digest(path: str, _size: int, _changed: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
