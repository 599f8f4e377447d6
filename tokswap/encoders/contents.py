"""What lies in an encoder's folder: which parts, which files, and whether it may be loaded.

Everything is checked on file names and settings, before a weight is read or fetched.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokswap.checkpoint.files import Files, is_tokenizer_file
from tokswap.errors import EncoderError

PARTS = {
    "Transformer": True,
    "StaticEmbedding": True,
    "Dense": True,
    "LayerNorm": True,
    "Pooling": False,
    "Normalize": False,
    "Dropout": False,
}
"""Parts of sentence-transformers' own that are loaded, and whether they hold weights."""

OWN_CLASS = re.compile(rf"sentence_transformers(\.\w+)*\.({'|'.join(PARTS)})")
"""Classes that modules.json may name; the library imports whatever is named there."""

ACTIVATION = re.compile(r"torch\.nn\.modules\.\w+\.\w+")
"""Functions that a Dense part may name; for others the library takes another than is named."""

KERNELS = {"use_kernels", "kernel_config"}
"""Settings by which transformers fetches code from the Hub; so does an attention named so."""

PART_PATH = re.compile(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)*|")

SETTINGS = {".json", ".txt", ".model", ".jinja"}
SENTENCE_SETTINGS = "config_sentence_transformers.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Part:
    """One module of a sentence-transformers model.

    Attributes:
        kind: The last word of its class: ``Transformer``, ``Pooling`` …
        path: Its folder below the model's; empty for the model's folder itself.
    """

    kind: str
    path: str


@dataclass(frozen=True)
class Contents:
    """An encoder's folder, as far as it is needed.

    Attributes:
        files: Where the files lie.
        parts: Modules of a sentence-transformers model; none where it is read as a plain encoder.
        path: Folder, below the model's, of the transformer; empty for the model's folder itself.
        settings: Names of the small files.
        weights: Names of the files that hold weights.
    """

    files: Files
    parts: tuple[Part, ...]
    path: str
    settings: frozenset[str]
    weights: frozenset[str]

    def fetch(self) -> Path:
        """Bring all files here; returns the model's folder."""
        needed = self.settings | self.weights
        self.files.fetch(needed)
        name = min(needed, key=lambda name: name.count("/"))
        return self.files.path(name).parents[name.count("/")]

    def identity(self) -> str:
        """Tell these weights and settings from all others: a commit, or a digest of the files."""
        location = self.files.location
        if location.kind == "hub" and self.files.revision:
            return f"{location.target}@{self.files.revision}"
        digest = hashlib.sha256()
        for name in sorted(self.settings | self.weights):
            with self.files.open(name) as file:
                part = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            digest.update(f"{name}\0{part}\n".encode())
        return f"sha256:{digest.hexdigest()}"


def read_contents(files: Files, *, plain: bool) -> Contents:
    """Look into an encoder's folder.

    Args:
        files: The files there.
        plain: Read a sentence-transformers model as a plain encoder: its transformer alone.

    Raises:
        EncoderError: If there is no encoder in it, or one that is not loaded here.
    """
    parts = read_parts(files, plain=plain) if "modules.json" in files.names else ()
    path = parts[0].path if parts else ""
    if plain or not parts:
        parts = ()
        if f"{path}/config.json".lstrip("/") not in names_in(files, path):
            raise EncoderError(
                f"encoder {files.location.name!r} has no config.json of a transformer; give a "
                "sentence-transformers model or a Hugging Face encoder"
            )
    folders = {part.path: False for part in parts} or {path: True}
    for part in parts:
        folders[part.path] |= PARTS[part.kind]
    settings = {name for name in files.names if parts and is_setting(name)}
    weights: set[str] = set()
    for folder, with_weights in folders.items():
        names = names_in(files, folder)
        settings |= {name for name in names if is_setting(Path(name).name)}
        if with_weights:
            weights |= weights_in(files, folder, names)
    for name in sorted(settings):
        if name.endswith("config.json"):
            refuse_foreign(files, name)
    for part in parts:
        if part.kind == "Dense":
            refuse_function(files, f"{part.path}/config.json")
    if parts and SENTENCE_SETTINGS in settings:
        refuse_kind(files)
    return Contents(files, parts, path, frozenset(settings), frozenset(weights))


def read_parts(files: Files, *, plain: bool) -> tuple[Part, ...]:
    """Read modules.json; of a model that is read as a plain encoder, the first part only.

    Raises:
        EncoderError: If it names other parts than sentence-transformers' own, below the folder.
    """
    said = read_json(files, "modules.json")
    if not isinstance(said, list) or not said:
        raise EncoderError(f"{files.called('modules.json')} lists no modules; fetch it again")
    parts = []
    for said_part in said[:1] if plain else said:
        entry = said_part if isinstance(said_part, dict) else {}
        kind, path = str(entry.get("type")), str(entry.get("path"))
        if not plain and OWN_CLASS.fullmatch(kind) is None:
            raise EncoderError(
                f"{files.called('modules.json')} names the class {kind!r}, and only these of "
                f"sentence-transformers' own are loaded: {', '.join(PARTS)}; choose another "
                "encoder, or give `encoder_pooling` to use its transformer alone"
            )
        if PART_PATH.fullmatch(path) is None:
            raise EncoderError(
                f"{files.called('modules.json')} names the folder {path!r}, which is not below "
                "the model's; choose another encoder"
            )
        parts.append(Part(kind.rpartition(".")[2], path))
    if not plain and parts[0].kind not in {"Transformer", "StaticEmbedding"}:
        raise EncoderError(
            f"{files.called('modules.json')} begins with {parts[0].kind}, which reads no text; "
            "choose another encoder"
        )
    return tuple(parts)


def names_in(files: Files, folder: str) -> frozenset[str]:
    """Names of the files in a folder below the model's, or in the model's own."""
    return files.below(folder) if folder else files.names


def is_setting(name: str) -> bool:
    """Tell whether a file is one of the small ones that a model is loaded with."""
    return is_tokenizer_file(name) or (
        Path(name).suffix in SETTINGS
        and not name.startswith(("pytorch_model", "README", "LICENSE"))
    )


def weights_in(files: Files, folder: str, names: frozenset[str]) -> set[str]:
    """Names of the safetensors files that hold a part's weights.

    Raises:
        EncoderError: If there are none.
    """
    front = f"{folder}/" if folder else ""
    if front + WEIGHTS in names:
        return {front + WEIGHTS}
    if front + INDEX in names:
        said = read_json(files, front + INDEX)
        shards = {front + str(shard) for shard in said.get("weight_map", {}).values()}
        if shards and shards <= names:
            return shards
        lacking = min(shards - names, default="any weights")
        raise EncoderError(f"{files.called(front + INDEX)} lacks {lacking}; {files.advice}")
    found = next((name for name in sorted(names) if name.endswith((".bin", ".pt", ".ckpt"))), None)
    raise EncoderError(
        f"encoder {files.location.name!r} has no {front}{WEIGHTS}"
        + (f", only {found}, a pickle, which can run code when it is loaded" if found else "")
        + "; choose a revision or an encoder with safetensors, or save it again with "
        "`save_pretrained`"
    )


def refuse_foreign(files: Files, name: str) -> None:
    """Refuse settings by which a library would load something from elsewhere.

    Raises:
        EncoderError: If there are such.
    """
    if Path(name).name == "adapter_config.json":
        raise EncoderError(
            f"encoder {files.location.name!r} is an adapter to another model; merge the two and "
            "save them, or choose another encoder"
        )
    for key, value in settings_in(read_json(files, name)):
        if ("attn_implementation" in key and "/" in str(value)) or (key in KERNELS and value):
            raise EncoderError(
                f"{files.called(name)} asks for code from the Hub ({key}: {value}), which is not "
                "run; choose another encoder"
            )
        if key == "tokenizer_name_or_path" and value:
            raise EncoderError(
                f"{files.called(name)} takes its tokenizer from elsewhere ({value}); choose "
                "another encoder, or save it with its tokenizer"
            )


def refuse_function(files: Files, name: str) -> None:
    """Refuse a Dense part with another function than torch's own: the library would take tanh.

    Raises:
        EncoderError: If it has one.
    """
    function = dict(settings_in(read_json(files, name))).get("activation_function")
    if function is not None and ACTIVATION.fullmatch(str(function)) is None:
        raise EncoderError(
            f"{files.called(name)} names the function {function!r}, which is none of torch's "
            "modules; choose another encoder, or give `encoder_pooling` to use its transformer "
            "alone"
        )


def refuse_kind(files: Files) -> None:
    """Refuse what sentence-transformers saves beside text encoders: rerankers, sparse encoders.

    Raises:
        EncoderError: If the folder holds one.
    """
    kind = dict(settings_in(read_json(files, SENTENCE_SETTINGS))).get("model_type")
    if kind not in {None, "SentenceTransformer"}:
        raise EncoderError(
            f"encoder {files.location.name!r} is a {kind}, which gives no vector of a text; choose "
            "a SentenceTransformer"
        )


def settings_in(said: Any) -> Iterator[tuple[str, Any]]:
    """All settings of a JSON file with their keys, however deep they lie."""
    entries = said.items() if isinstance(said, dict) else []
    for key, value in entries:
        yield str(key), value
        yield from settings_in(value)


def read_json(files: Files, name: str) -> Any:
    """Read a JSON file.

    Raises:
        EncoderError: If it is none.
    """
    try:
        return json.loads(files.path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{files.called(name)} cannot be read ({error}); fetch it again"
        ) from error
