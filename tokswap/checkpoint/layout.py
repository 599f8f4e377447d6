"""Where a checkpoint keeps its vocabulary: the tensors with an entry for each token.

The model's own tensors are found by :mod:`tokswap.checkpoint.skeleton`. What is stored beside them
and has a vocabulary's size is claimed by its name or its content, or refused.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokswap.checkpoint.body import stored_body
from tokswap.checkpoint.draft import DraftVocabulary, find_draft
from tokswap.checkpoint.header import FLOATS
from tokswap.checkpoint.quantised.weights import refusal
from tokswap.checkpoint.skeleton import Path, Skeleton, Slot, config_levels, read_skeleton
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.unclaimed import Side, VocabTensor, copies, refuse_unknown, same
from tokswap.errors import CheckpointError
from tokswap.names import near
from tokswap.vocabulary.special import levels

WHOLE = ("I64", "I32", "I16", "U8", "BOOL")


@dataclass(frozen=True)
class Layout:
    """The vocabulary's tensors of one checkpoint, by their stored names.

    Attributes:
        input: The embedding, (S, D): the table that methods read for the role ``input``.
        output: The head, (S, D); the same name as ``input`` where the head is tied to it.
        tensors: All stored tensors that a change of vocabulary replaces, these two first.
        sizes: By place in config.json, the tensor whose size it holds; ``vocab_size`` itself, which
            is the embedding's wherever it equals S, is not among them.
        draft: The part of the vocabulary that a draft model predicts, if it is one of that sort.
        dropped: Stored tensors that are left out of the result.
        unsaid: Settings about the vocabulary that config.json leaves to transformers' defaults, as
            nested as they are there.
        counts_from_pad: Whether ``pad_token_id`` is a row of another table too, as of positions, so
            that its number must stay.
        model_class: The class that transformers loads the checkpoint with; empty where it has none.
        causal: Whether AutoModelForCausalLM loads it, so that texts can be scored.
        body: The model's other tensors; see :func:`~tokswap.checkpoint.body.stored_body`.
    """

    input: str
    output: str
    tensors: tuple[VocabTensor, ...]
    sizes: Mapping[Path, str] = field(default_factory=dict)
    draft: DraftVocabulary | None = None
    dropped: tuple[str, ...] = ()
    unsaid: Mapping[str, Any] = field(default_factory=dict)
    counts_from_pad: bool = False
    model_class: str = ""
    causal: bool = True
    body: Mapping[str, str] = field(default_factory=dict)

    @property
    def tied(self) -> bool:
        """Whether one table serves both roles."""
        return self.input == self.output

    @property
    def names(self) -> tuple[str, ...]:
        """Stored names of all of them."""
        return tuple(tensor.name for tensor in self.tensors)


def find_layout(
    checkpoint: Checkpoint,
    keep: Iterable[str] = (),
    drop: Iterable[str] = (),
    *,
    tables_only: bool = False,
) -> Layout:
    """Find the tensors that a change of vocabulary must replace.

    Args:
        checkpoint: The model.
        keep: Stored tensors to carry as they are, whatever their size.
        drop: Stored tensors to leave out.
        tables_only: Whether the tables are only to be read, as a donor's: what else depends on the
            vocabulary is no matter then.

    Raises:
        CheckpointError: If transformers does not know the model, if a vocabulary tensor is not
            stored or quantised in a way that cannot be undone, or one of the vocabulary's size is
            not known.
    """
    keep, drop = set(keep), set(drop)
    if not tables_only:
        _refuse_shared_ids(checkpoint)
    _check_names(checkpoint, keep, drop)
    draft = find_draft(checkpoint)
    apart = draft.names if draft else ()
    skeleton = read_skeleton(checkpoint)
    found = {tensor.name: tensor for tensor in _own_tensors(checkpoint, skeleton, apart)}
    first = next(iter(found.values()))
    head = next((t for t in _of(skeleton, skeleton.output, found) if t.role == "output"), first)
    tables = {*checkpoint.stored_names(first.name), *checkpoint.stored_names(head.name)}
    for name in sorted(tables & (keep | drop)):
        raise CheckpointError(
            f"{checkpoint.name}: {name} is a table that every transplant replaces; name other "
            "tensors to keep or drop"
        )
    for name in sorted(drop):
        if skeleton.module_names.get(checkpoint.plain_name(name)) in skeleton.shapes:
            raise CheckpointError(
                f"{checkpoint.name}: {name} is a part of {skeleton.class_name}, which would get "
                "random numbers for it; drop only what the model does not load"
            )
    if not tables_only:
        for tensor in copies(checkpoint, skeleton, first, head):
            found.setdefault(tensor.name, tensor)
        refuse_unknown(checkpoint, skeleton, first, {*found, *apart} | keep | drop)
    return Layout(
        input=first.name,
        output=head.name,
        tensors=tuple(t for name, t in found.items() if name not in keep | drop),
        sizes=_sizes(skeleton, found),
        draft=draft,
        dropped=tuple(sorted(drop)),
        unsaid=_unsaid(checkpoint, skeleton),
        counts_from_pad=skeleton.counts_from_pad,
        model_class="" if draft else skeleton.class_name,
        causal=skeleton.causal and draft is None,
        body=stored_body(checkpoint, skeleton, {*found, *apart} | keep | drop),
    )


def check_sizes(checkpoint: Checkpoint, layout: Layout) -> int:
    """Check that all vocabulary tensors agree with each other and with config.json.

    Returns:
        S, the rows of the embedding.

    Raises:
        CheckpointError: If they do not.
    """
    shape = checkpoint.info(layout.input).shape
    if len(shape) != 2:
        raise CheckpointError(
            f"{checkpoint.name}: {layout.input} has the shape {shape}; an embedding has two "
            "dimensions, fetch it again"
        )
    may_end_early = set(layout.sizes.values())
    for tensor in layout.tensors:
        if tensor.rows > shape[0] or (tensor.rows < shape[0] and tensor.name not in may_end_early):
            raise CheckpointError(
                f"{checkpoint.name}: {tensor.name} has the shape "
                f"{checkpoint.info(tensor.name).shape} and {layout.input} {shape}; this program "
                "needs their rows to agree"
            )
    if checkpoint.vocab_size not in {None, shape[0]}:
        raise CheckpointError(
            f"{checkpoint.name}: config.json says a vocab_size of {checkpoint.vocab_size} and "
            f"{layout.input} has {shape[0]} rows; mend config.json"
        )
    return shape[0]


def _check_names(checkpoint: Checkpoint, keep: set[str], drop: set[str]) -> None:
    """Check that the tensors that the user named are stored.

    Raises:
        CheckpointError: If one is not, or is to be both kept and dropped.
    """
    stored = checkpoint.shard_of
    for name in sorted(keep | drop):
        if name not in stored:
            raise CheckpointError(
                f"{checkpoint.name} stores no tensor {name!r}{near(name, list(stored))}; name one "
                "that it stores"
            )
    for name in sorted(keep & drop):
        raise CheckpointError(f"{name} is to be both kept and dropped; say one of them")


def _refuse_shared_ids(checkpoint: Checkpoint) -> None:
    """Refuse models that give ids of the tokenizer's range to pictures or sounds.

    Raises:
        CheckpointError: If this is one.
    """
    for level in levels(checkpoint.config):
        for key in ("vocab_offset", "vocabulary_map", "additional_vocab_size"):
            if level.get(key):
                raise CheckpointError(
                    f"{checkpoint.name} keeps the codes of pictures or sounds among the token ids "
                    f"({key} in config.json), and a new vocabulary would put other tokens there; "
                    "give a model of text alone"
                )


def _own_tensors(
    checkpoint: Checkpoint, skeleton: Skeleton, apart: Collection[str]
) -> Iterator[VocabTensor]:
    """Find what is stored of the model's own tensors that grow with its vocabulary.

    The embedding comes first, the head second. Where a head is stored beside the embedding that it
    is tied to, and differs from it, transformers unties the two; so do we.

    Raises:
        CheckpointError: If the embedding or the head is not stored as it should be.
    """
    main, head = skeleton.main, skeleton.slot_of(skeleton.output)
    if main is None:
        raise CheckpointError(
            f"{checkpoint.name}: the embedding of {skeleton.class_name} does not grow with a "
            "vocab_size in config.json, one row for each token; such models are not supported"
        )
    for slot in dict.fromkeys([main, *([head] if head else []), *skeleton.vocabulary]):
        names = sorted(slot.names, key=lambda n: (n != skeleton.input, n != skeleton.output))
        stored = [skeleton.stored_names[name] for name in names if name in skeleton.stored_names]
        if slot is not main and set(stored) & set(apart):
            continue
        stored = [name for name in stored if name not in apart]
        if not stored and slot in {main, head}:
            raise CheckpointError(_absent(checkpoint, names[0], slot is main))
        primary: VocabTensor | None = None
        for place in stored:
            name, info = skeleton.module_names[place], checkpoint.info(place)
            _check_stored(checkpoint, place, slot, name in skeleton.whole)
            side: Side = "input" if name in slot.embeds else "output"
            if slot is main and primary is None:
                side = "input"
            elif primary and same(checkpoint, primary.name, place):
                side = primary.role
            tensor = VocabTensor(place, side, slot.axis, info.shape[slot.axis])
            primary = primary or tensor
            yield tensor


def _absent(checkpoint: Checkpoint, name: str, embedding: bool) -> str:
    if checkpoint.quantisation:
        return refusal(checkpoint, name)
    if embedding:
        return (
            f"{checkpoint.name} stores no embedding under {name}; it lies under another name, "
            "which is not supported; give a plain checkpoint as save_pretrained() writes it"
        )
    return (
        f"{checkpoint.name} says that its head is not tied to the embedding, but stores no {name}; "
        "give the whole, plain checkpoint"
    )


def _check_stored(checkpoint: Checkpoint, name: str, slot: Slot, whole: bool) -> None:
    """Check that a vocabulary tensor is stored so that entries can be replaced.

    Raises:
        CheckpointError: If it is not.
    """
    info = checkpoint.info(name)
    if info.dtype not in (WHOLE if whole else FLOATS):
        raise CheckpointError(
            f"{checkpoint.name} stores {name} as {info.dtype}; quantised vocabulary tensors need a "
            "quantization_config that says how; give the plain checkpoint"
        )
    if not slot.settings or len(info.shape) <= slot.axis:
        raise CheckpointError(
            f"{checkpoint.name}: {name} {info.shape} grows with the vocabulary, but not by one "
            "entry for each token, so it cannot be carried over; such models are not supported"
        )


def _of(
    skeleton: Skeleton, name: str | None, found: Mapping[str, VocabTensor]
) -> list[VocabTensor]:
    """List the stored tensors of one slot."""
    slot = skeleton.slot_of(name)
    return [t for t in found.values() if slot and skeleton.module_names[t.name] in slot.names]


def _sizes(skeleton: Skeleton, found: Mapping[str, VocabTensor]) -> dict[Path, str]:
    """Find the settings that hold a tensor's size under another name than ``vocab_size``."""
    return {
        place: tensors[0].name
        for slot in skeleton.vocabulary
        if (tensors := _of(skeleton, slot.names[0], found))
        for place in slot.settings
        if place[-1] != "vocab_size"
    }


def _unsaid(checkpoint: Checkpoint, skeleton: Skeleton) -> dict[str, Any]:
    """Collect what config.json leaves to the defaults of its class: sizes and token ids."""
    unsaid: dict[str, Any] = {}
    text = skeleton.config.get_text_config()
    sizes = {place for slot in skeleton.vocabulary for place in slot.settings}
    for place, level in config_levels(skeleton.config):
        said: Any = checkpoint.config
        for key in place:
            said = said.get(key) if isinstance(said, dict) else None
        said = said if isinstance(said, dict) else {}
        for key, value in vars(level).items():
            is_id = (level is text or not place) and key.endswith(("_token_id", "_token_index"))
            if key in said or value is None or not (is_id or (*place, key) in sizes):
                continue
            inner = unsaid
            for part in place:
                inner = inner.setdefault(part, {})
            inner[key] = value
    return unsaid
