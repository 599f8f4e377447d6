"""The tokenizer of an output folder: the donor's files, so that the Auto class reads them right.

tokenizer.json travels byte for byte, always. transformers does not always read it: which class it
builds depends on tokenizer_config.json and on the base's type of model, and some classes keep only
the vocabulary of the file. So the folder is tried before anything slow is done, and as little of
tokenizer_config.json is changed as makes the ids those of tokenizer.json.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.classes import quiet
from tokswap.checkpoint.fidelity import read_tokenizer, tokenizer_faults
from tokswap.checkpoint.files import tokenizer_files
from tokswap.checkpoint.settings import patch_settings
from tokswap.checkpoint.tokenizer_config import Said, adopt, with_class, with_no_code
from tokswap.pair import Pair
from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SETTINGS = "tokenizer_config.json"

LOADERS: Mapping[str, str] = {
    "auto": 'AutoTokenizer.from_pretrained("{}")',
    "fast": 'PreTrainedTokenizerFast.from_pretrained("{}")',
    "file": 'PreTrainedTokenizerFast(tokenizer_file="{}/tokenizer.json")',
}
"""Lines of code that load a folder's tokenizer, the one that everybody writes first."""

REMEDIES: Mapping[str, Callable[[Said], Said]] = {
    "none": lambda said: said,
    "class": with_class,
    "no code": with_no_code,
}
"""What may be done to tokenizer_config.json, the mildest first."""


@dataclass(frozen=True)
class Settled:
    """How an output folder's tokenizer will load, and what has to be changed for it.

    Attributes:
        class_name: The class that the loader gives; None where nothing loads it.
        remedy: Which of ``REMEDIES`` was taken.
        settings: What tokenizer_config.json is to say; None where the donor's travels as it is.
        changes: How it differs from the donor's.
        fault: Why AutoTokenizer does not read tokenizer.json as it is; None where it does.
        loader: Which of ``LOADERS`` reads it as it is.
    """

    class_name: str | None
    remedy: str
    settings: Mapping[str, Any] | None
    changes: tuple[str, ...]
    fault: str | None
    loader: str

    def line(self, folder: str = "path/to/this/folder") -> str:
        """The line of Python that loads the tokenizer right."""
        return LOADERS[self.loader].format(folder)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, for the record."""
        return {
            "class": self.class_name,
            "remedy": self.remedy,
            "changed": list(self.changes),
            "fault": self.fault,
            "load": self.line(),
        }

    def notes(self) -> list[str]:
        """What the user should know, a line each."""
        found = []
        if self.changes:
            found.append(f"{SETTINGS} is the donor's but for: {', '.join(self.changes)}")
        if self.remedy == "no code":
            found.append(
                "the tokenizer loads as it should unless trust_remote_code=True is given, which "
                "makes transformers look for code that is neither there nor needed"
            )
        if self.fault:
            found.append(f"{self.fault}; load the tokenizer by {self.line()}")
        return found


def settle(pair: Pair) -> Settled:
    """Find the mildest change by which AutoTokenizer reads the donor's tokenizer beside the base.

    Raises:
        CheckpointError: If a tokenizer_config.json is not valid JSON.
    """
    base, donor = (
        side.read_json(SETTINGS) if SETTINGS in side.files.names else {}
        for side in (pair.base, pair.donor)
    )
    return settle_files(
        tokenizer_files(pair.donor.files),
        donor=donor,
        base=base,
        base_config=pair.base.config,
        config=patch_settings(pair.base.config, pair.alignment)[0],
        tokens=tokens_to_try(pair),
    )


def tokens_to_try(pair: Pair) -> list[str]:
    """List the tokens that a class may treat otherwise than tokenizer.json: special and added.

    Of a base that keeps its own tokenizer and gets more tokens, those too.
    """
    vocabulary, alignment = pair.donor.vocabulary, pair.alignment
    new = alignment.missing.tolist() if alignment.own else []
    spelt = (vocabulary.spelling[number] or b"" for number in new)
    texts = [data.decode(errors="ignore") for data in spelt]
    return [*_special_and_added(vocabulary), *filter(None, texts)]


def _special_and_added(vocabulary: Vocabulary) -> list[str]:
    added = (token["content"] for token in vocabulary.specification.get("added_tokens") or [])
    special = (vocabulary.strings[number] for number in sorted(vocabulary.special))
    return list(dict.fromkeys([*special, *added]))


def settle_files(
    files: Mapping[str, Path],
    *,
    donor: Mapping[str, Any],
    base: Mapping[str, Any],
    base_config: Mapping[str, Any],
    config: Mapping[str, Any],
    tokens: Sequence[str],
) -> Settled:
    """Do the work of :func:`settle` on files.

    Args:
        files: The tokenizer's files by name; tokenizer.json is needed.
        donor: The donor's parsed tokenizer_config.json, or nothing.
        base: The base's.
        base_config: The base's parsed config.json.
        config: What config.json will say in the output folder.
        tokens: Special and added tokens, to be tried one by one.
    """
    known = not donor.get("auto_map") or _is_known(donor.get("tokenizer_class"))
    tried: list[Said] = []
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as name, quiet():
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        write_tokenizer(folder, files, None)
        written = read_tokenizer(folder)
        own = adopt(donor, base, base_config, known=known, has=partial(_has, written))
        for remedy, change in REMEDIES.items():
            said = change(own)
            if said in tried:
                continue
            tried.append(said)
            _write_settings(folder, files, said.settings)
            class_name, fault = try_loader(folder, "auto", written, tokens)
            if fault is None:
                return Settled(class_name, remedy, said.settings, said.changes, None, "auto")
            faults.append(fault)
        _write_settings(folder, files, own.settings)
        for loader in ("fast", "file"):
            class_name, fault = try_loader(folder, loader, written, tokens)
            if fault is None:
                break
    return Settled(class_name, "none", own.settings, own.changes, faults[0], loader)


def try_loader(
    folder: Path, loader: str, written: "Tokenizer", tokens: Sequence[str]
) -> tuple[str | None, str | None]:
    """Load a folder's tokenizer and compare it with its tokenizer.json.

    Args:
        folder: The folder.
        loader: One of ``LOADERS``.
        written: Its tokenizer.json.
        tokens: Special and added tokens, to be tried one by one.

    Returns:
        The name of the class, and what is wrong; None for either where there is none.
    """
    try:
        loaded = load_tokenizer(folder, loader)
    except Exception as error:  # transformers has no common kind for what does not load
        # Where it was tried is no part of the record: that would be another place each time.
        reason = " ".join(str(error).replace(str(folder), "the folder").split())[:300]
        return None, f"AutoTokenizer cannot read the donor's tokenizer beside this base: {reason}"
    return type(loaded).__name__, next(tokenizer_faults(written, loaded, tokens), None)


def load_tokenizer(folder: Path, loader: str) -> Any:
    """Load a folder's tokenizer through transformers by one of ``LOADERS``; no code is run."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if loader == "auto":
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if loader == "fast":
        return PreTrainedTokenizerFast.from_pretrained(folder)
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


def write_tokenizer(
    folder: Path, files: Mapping[str, Path], settings: Mapping[str, Any] | None
) -> None:
    """Write a tokenizer's files, byte for byte but for what tokenizer_config.json is to say.

    Args:
        folder: Where to.
        files: The files by name.
        settings: What tokenizer_config.json is to say, or None: what it says.
    """
    for name, path in files.items():
        if name != SETTINGS:
            shutil.copyfile(path, folder / name)
    _write_settings(folder, files, settings)


def _write_settings(
    folder: Path, files: Mapping[str, Path], settings: Mapping[str, Any] | None
) -> None:
    if settings is not None:
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        (folder / SETTINGS).write_text(text, encoding="utf-8")
    elif SETTINGS in files:
        shutil.copyfile(files[SETTINGS], folder / SETTINGS)


def _has(written: "Tokenizer", token: str) -> bool:
    return written.token_to_id(token) is not None


def _is_known(class_name: Any) -> bool:
    """Tell whether transformers has a tokenizer class of that name."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    if not isinstance(class_name, str):
        return True  # none is named, so none is missed
    return tokenizer_class_from_name(class_name) is not None
