"""A checkpoint to read from: its config, its tensors by name, each loaded when asked for."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.files import Files, open_files, tokenizer_files
from tokswap.checkpoint.header import Header, TensorInfo, parse_header
from tokswap.checkpoint.parts import tensor_file
from tokswap.checkpoint.quantised.parts import Parts, group_parts, plain_name
from tokswap.checkpoint.quantised.settings import quantisation
from tokswap.checkpoint.quantised.weights import is_packed, is_quantised, load_plain, plain_info
from tokswap.errors import CheckpointError
from tokswap.names import Location, resolve
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

if TYPE_CHECKING:
    from torch import Tensor

TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "decoder")
"""Where models of several modalities keep the settings of their text part."""

OTHER_FORMATS = (".bin", ".pt", ".pth", ".gguf", ".h5")
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class Checkpoint:
    """A read-only view of a model's files, or of a bare tokenizer's.

    Nothing is read before it is asked for, and of a remote checkpoint only the files that hold
    what is asked for are fetched.
    """

    def __init__(self, files: Files) -> None:
        self.files = files

    @classmethod
    def open(cls, name: str) -> "Checkpoint":
        """Open what a name stands for (see :func:`tokswap.names.resolve`).

        Raises:
            NameUnknownError: If the name stands for nothing that can be had.
        """
        return cls(open_files(resolve(name)))

    @property
    def location(self) -> Location:
        """Where the files lie."""
        return self.files.location

    @property
    def name(self) -> str:
        """What the user called it."""
        return self.location.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The parsed config.json.

        Raises:
            CheckpointError: If there is none, or it is no JSON object.
        """
        if "config.json" not in self.files.names:
            raise CheckpointError(f"{self.name} has no config.json, so it is no model; give one")
        return self.read_json("config.json")

    def read_json(self, name: str) -> dict[str, Any]:
        """Parse one of the JSON files.

        Raises:
            CheckpointError: If it is no JSON object.
        """
        try:
            said = json.loads(self.files.path(name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(
                f"{self.name}: {name} is not valid JSON ({error}); mend it"
            ) from error
        if not isinstance(said, dict):
            raise CheckpointError(f"{self.name}: {name} is no JSON object; mend it")
        return said

    @property
    def vocab_size(self) -> int | None:
        """Rows that config.json says the vocabulary has, or None where it says nothing."""
        parts = [self.config, *(self.config.get(name) for name in TEXT_CONFIGS)]
        sizes = [part.get("vocab_size") for part in parts if isinstance(part, dict)]
        return next((size for size in sizes if isinstance(size, int)), None)

    @property
    def has_weights(self) -> bool:
        """Whether there are weights beside the tokenizer; a bare tokenizer has none."""
        return bool(self.files.names & {SINGLE, INDEX})

    @property
    def other_weights(self) -> list[str]:
        """Names of weight files in formats that are not read."""
        return sorted(n for n in self.files.names if n.endswith(OTHER_FORMATS))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's tokens as bytes.

        Raises:
            VocabularyError: If there is no tokenizer.json that can be read.
        """
        config = self.config if "config.json" in self.files.names else None
        return load_vocabulary(tokenizer_files(self.files), name=self.name, config=config)

    @cached_property
    def shard_of(self) -> Mapping[str, str]:
        """The file that holds each tensor.

        Raises:
            CheckpointError: If there are no safetensors weights, or the index names files outside
                the folder.
        """
        names = self.files.names
        if SINGLE in names:  # transformers looks for it first
            return dict.fromkeys(self.header(SINGLE).tensors, SINGLE)
        if INDEX in names:
            shards = self.read_json(INDEX).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise CheckpointError(f"{self.name}: {INDEX} has no weight_map; fetch it again")
            for file in dict.fromkeys(map(str, shards.values())):
                if Path(file).name != file or not file.endswith(".safetensors"):
                    raise CheckpointError(
                        f"{self.name}: {INDEX} names {file!r}, which is no safetensors file in the "
                        "folder; do not trust this checkpoint"
                    )
            if lacking := sorted(set(map(str, shards.values())) - names):
                shown = ", ".join(lacking[:3]) + (" …" if len(lacking) > 3 else "")
                raise CheckpointError(
                    f"{self.name} lacks {shown}, which {INDEX} names; {self.files.advice}"
                )
            return shards
        if self.other_weights:
            raise CheckpointError(
                f"{self.name} has no safetensors weights, only {self.other_weights[0]}; load it "
                "once with transformers and save_pretrained(), which writes safetensors"
            )
        raise CheckpointError(
            f"{self.name} has no weights ({SINGLE} or {INDEX}); give a folder that holds a model"
        )

    @cached_property
    def shards(self) -> list[str]:
        """Names of the weight files, in order."""
        return sorted(set(self.shard_of.values()))

    @cached_property
    def _headers(self) -> dict[str, Header]:
        return {}

    def header(self, shard: str) -> Header:
        """Read the header of a weight file.

        Raises:
            CheckpointError: If it is not a whole safetensors file.
        """
        if shard not in self._headers:
            with self.files.open(shard) as file:
                size, called = self.files.size(shard), self.files.called(shard)
                self._headers[shard] = parse_header(file, size, called)
        return self._headers[shard]

    @cached_property
    def quantisation(self) -> Mapping[str, Any] | None:
        """Settings of the quantisation, or None where the weights are plain."""
        if "config.json" not in self.files.names:
            return None
        if found := quantisation(self.config):
            return found
        if "quantize_config.json" in self.files.names:  # as the first of GPTQ's tools left it
            return {"quant_method": "gptq", **self.read_json("quantize_config.json")}
        return None

    @cached_property
    def quantised(self) -> Mapping[str, Parts]:
        """The stored parts of weights that may be quantised, by the name of the plain weight."""
        return group_parts(self.shard_of) if self.quantisation else {}

    def parts(self, name: str) -> Parts | None:
        """Name the stored tensors that make a quantised weight; None where it is plain."""
        parts = self.quantised.get(name)
        if parts and is_quantised({part: self.stored_info(n) for part, n in parts.items()}):
            return parts
        return None

    @cached_property
    def names(self) -> list[str]:
        """Names of all stored tensors, and of weights of which only quantised parts are stored."""
        packed = (name for name, parts in self.quantised.items() if is_packed(parts))
        return list(dict.fromkeys([*self.shard_of, *packed]))

    def stored_names(self, name: str) -> tuple[str, ...]:
        """Name what is stored for a tensor: itself, or the parts of a quantised weight."""
        return tuple((self.parts(name) or {name: name}).values())

    def plain_name(self, stored: str) -> str:
        """Name the weight that a stored tensor is a part of, or the tensor itself."""
        return plain_name(stored) if self.quantisation else stored

    def info(self, name: str) -> TensorInfo:
        """Type, shape and place of a tensor; of a quantised weight, as :meth:`load` gives it.

        Raises:
            CheckpointError: If the file that should hold it does not, or it is quantised in a way
                that cannot be undone.
        """
        parts = self.parts(name)
        return plain_info(self, name, parts) if parts else self.stored_info(name)

    def stored_info(self, name: str) -> TensorInfo:
        """Type, shape and place of a tensor as it is stored.

        Raises:
            CheckpointError: If the file that should hold it does not.
        """
        shard = self.shard_of[name]
        tensors = self.header(shard).tensors
        if name not in tensors:
            raise CheckpointError(
                f"{self.name}: {shard} lacks {name!r}, which the index puts there; fetch it again"
            )
        return tensors[name]

    def load(self, name: str) -> "Tensor":
        """Load a tensor on the CPU, in its stored type; a quantised weight is made plain."""
        parts = self.parts(name)
        return load_plain(self, name, parts) if parts else self.load_stored(name)

    def load_stored(self, name: str) -> "Tensor":
        """Load a tensor as it is stored, on the CPU; of a remote file, its bytes alone."""
        from safetensors import safe_open

        self.stored_info(name)
        shard = self.shard_of[name]
        path = self.files.whole(shard) or tensor_file(self.files, shard, name, self.header(shard))
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor
