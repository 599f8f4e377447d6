"""The model without its weights: what transformers builds from config.json on the meta device.

There is no table of architectures. The model is built twice, the second time with every size of a
vocabulary in its config enlarged, each by an amount of its own: what grew, along which dimension
and by how much, tells which tensors have an entry for each token, and of which vocabulary. Which
stored name stands for which of the model's tensors is asked of transformers too.
"""

import copy
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.classes import AUTO_CLASSES, build, gives, quiet
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

STEP = 64
"""Entries by which the first size is enlarged: models that round a size up round to less."""

Path = tuple[str, ...]
"""Place of a setting in config.json: the keys from the outside in."""


@dataclass(frozen=True)
class Slot:
    """A parameter or buffer of the model that grows with a vocabulary.

    Attributes:
        names: Its names in the model; several where modules share it.
        axis: The dimension that grows.
        settings: The settings that it grows with; none where it grows in some other way.
        embeds: The names that belong to embeddings, which are looked up by tokens.
    """

    names: tuple[str, ...]
    axis: int
    settings: tuple[Path, ...]
    embeds: frozenset[str]


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A model as transformers builds it, without weights.

    Attributes:
        class_name: Its class.
        config: Its config, with the defaults of its class.
        sizes: The sizes of vocabularies in the config, by their places.
        slots: Its tensors that grow with one of these.
        shapes: Shapes of all of its tensors.
        input: Name of the embedding's weight, or None.
        output: Name of the head's weight, or None where the model has no head.
        module_names: By stored name, the name in the model.
        counts_from_pad: Whether ``pad_token_id`` is a row of another table too, as of positions.
        whole: Names of its tensors that hold whole numbers.
        saved: Names of its tensors that are saved with it: all but what is computed anew.
        causal: Whether AutoModelForCausalLM gives that class.
    """

    class_name: str
    config: Any
    sizes: Mapping[Path, int]
    slots: tuple[Slot, ...]
    shapes: Mapping[str, tuple[int, ...]]
    input: str | None
    output: str | None
    module_names: Mapping[str, str]
    counts_from_pad: bool
    whole: frozenset[str]
    saved: frozenset[str]
    causal: bool

    @cached_property
    def stored_names(self) -> Mapping[str, str]:
        """By name in the model, the name that is stored."""
        return {name: stored for stored, name in self.module_names.items() if name in self.shapes}

    def slot_of(self, name: str | None) -> Slot | None:
        """Find the slot of one of the model's tensors."""
        return next((slot for slot in self.slots if name in slot.names), None)

    @cached_property
    def main(self) -> Slot | None:
        """The embedding's slot; None where the embedding does not grow with a vocabulary."""
        slot = self.slot_of(self.input)
        return slot if slot and slot.settings and slot.axis == 0 else None

    def is_short(self, slot: Slot) -> bool:
        """Tell whether a slot is looked up by tokens but may end before the vocabulary does."""
        if self.main is None or slot.settings == self.main.settings:
            return False
        beside = {place[:-1] for place in self.main.settings}
        return any(s[:-1] in beside and s[-1].startswith("vocab_size_") for s in slot.settings)

    @cached_property
    def vocabulary(self) -> tuple[Slot, ...]:
        """The slots that follow the tokens: not those of entities, speakers and the like."""
        return tuple(
            slot
            for slot in self.slots
            if not slot.settings
            or (self.main and slot.settings == self.main.settings)
            or self.is_short(slot)
        )

    def is_steady(self, stored: str) -> bool:
        """Tell whether a stored tensor belongs to a module that the tokens do not change.

        A module that is stored quantised has tensors that the plain one lacks; they count as its.
        """
        name = self.module_names[stored]
        module = name.rpartition(".")[0]
        growing = {name for slot in self.vocabulary for name in slot.names}
        if name in self.shapes:
            return name not in growing
        return module in self._modules and module not in {n.rpartition(".")[0] for n in growing}

    @cached_property
    def _modules(self) -> set[str]:
        return {name.rpartition(".")[0] for name in self.shapes}


def read_skeleton(checkpoint: Checkpoint) -> Skeleton:
    """Ask transformers how a checkpoint's model is built.

    Raises:
        CheckpointError: If transformers cannot build it.
    """
    with _explained(checkpoint):
        config = read_config(checkpoint)
        places = dict(_sizes(config))
        # Settings of the same size grow together: they may be one size, said twice.
        steps = {size: STEP * 5**number for number, size in enumerate(sorted(set(places.values())))}
        plain = build(config, checkpoint.config.get("architectures"))
        grown = _grown(config, {place: size + steps[size] for place, size in places.items()}, plain)
        settings = {
            step: tuple(place for place, value in places.items() if value == size)
            for size, step in steps.items()
        }
        slots = tuple(_slots(plain, grown, settings))
        embedding = _weight_of(plain, "get_input_embeddings")
        main = next((slot.settings for slot in slots if embedding in slot.names), ())
        if main and not all(slot.settings for slot in slots):
            # What grows by a multiple may be of codes of sounds: does it without the tokens?
            alone = _grown(config, {place: places[place] + STEP for place in main}, plain)
            moved = {name for slot in _slots(plain, alone, {}) for name in slot.names}
            slots = tuple(slot for slot in slots if slot.settings or moved & set(slot.names))
        skeleton = Skeleton(
            class_name=type(plain).__name__,
            config=config,
            sizes=places,
            slots=slots,
            shapes={name: tuple(tensor.shape) for name, tensor in _tensors(plain)},
            input=embedding,
            output=_weight_of(plain, "get_output_embeddings"),
            module_names=_module_names(plain, checkpoint.names),
            counts_from_pad=False,
            whole=frozenset(n for n, t in _tensors(plain) if not t.is_floating_point()),
            saved=frozenset(plain.state_dict()),
            causal=gives(AUTO_CLASSES[0], config, type(plain)),
        )
        tables = {name for slot in skeleton.vocabulary for name in slot.names}
        return replace(skeleton, counts_from_pad=_counts_from_pad(plain, tables))


def _grown(config: Any, sizes: Mapping[Path, int], plain: Any) -> Any:
    """Build a model again with other sizes in its config."""
    config = copy.deepcopy(config)
    for place, size in sizes.items():
        level = config
        for key in place[:-1]:
            level = getattr(level, key)
        setattr(level, place[-1], size)
    return build(config, [type(plain).__name__])


def read_config(checkpoint: Checkpoint) -> Any:
    """Read config.json as transformers does, without what it says of quantisation."""
    from transformers import AutoConfig

    folder = checkpoint.files.path("config.json").parent
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    for _, level in config_levels(config):
        if getattr(level, "quantization_config", None) is not None:
            del level.quantization_config
    return config


@contextmanager
def _explained(checkpoint: Checkpoint) -> Iterator[None]:
    """Silence transformers, and turn what it raises into one sentence.

    Raises:
        CheckpointError: If transformers cannot build the model.
    """
    try:
        with quiet():
            yield
    except CheckpointError:
        raise
    except Exception as error:  # each architecture refuses settings by exceptions of its own
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{checkpoint.name} is a {checkpoint.config.get('model_type')!r} model, which the "
            f"installed transformers cannot build ({reason}); give one that it can, or upgrade "
            "transformers"
        ) from error


def config_levels(config: Any, place: Path = ()) -> Iterator[tuple[Path, Any]]:
    """List a config and the configs nested in it, each with its place."""
    from transformers import PretrainedConfig

    yield place, config
    for key, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            yield from config_levels(value, (*place, key))


NO_SIZE = re.compile(r"type_|offset|divisible|ratio|unpadded")
"""Settings with `vocab` in their names that are no number of tokens."""


def _sizes(config: Any) -> Iterator[tuple[Path, int]]:
    """Find the sizes of vocabularies that a config holds."""
    for place, level in config_levels(config):
        for key, value in vars(level).items():
            if "vocab" in key and not NO_SIZE.search(key) and type(value) is int and value > 1:
                yield (*place, key), value


def _tensors(model: Any) -> "Iterator[tuple[str, Tensor]]":
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _slots(plain: Any, grown: Any, settings: Mapping[int, tuple[Path, ...]]) -> Iterator[Slot]:
    """Compare a model with its larger twin."""
    from torch.nn import Embedding

    larger = {name: tensor.shape for name, tensor in _tensors(grown)}
    groups: dict[int, list[str]] = {}
    tensors = dict(_tensors(plain))
    for name, tensor in tensors.items():
        if larger.get(name) != tensor.shape:
            groups.setdefault(id(tensor), []).append(name)
    for names in groups.values():
        shape, after = tensors[names[0]].shape, larger.get(names[0], ())
        growth = [b - a for a, b in zip(shape, after, strict=len(shape) == len(after))]
        axes = [axis for axis, more in enumerate(growth) if more]
        only = len(axes) == 1 and len(shape) == len(after)
        yield Slot(
            names=tuple(names),
            axis=axes[0] if axes else 0,
            settings=settings.get(growth[axes[0]], ()) if only else (),
            embeds=frozenset(
                name
                for name in names
                if isinstance(plain.get_submodule(name.rpartition(".")[0]), Embedding)
            ),
        )


def _counts_from_pad(model: Any, tables: Collection[str]) -> bool:
    """Tell whether ``pad_token_id`` is a row of a table that is not the vocabulary's.

    RoBERTa counts positions from it on: its table of positions has the padding's row, as if
    positions were tokens.
    """
    from torch.nn import Embedding

    pad = getattr(model.config.get_text_config(), "pad_token_id", None)
    return pad is not None and any(
        getattr(module, "padding_idx", None) == pad
        and f"{name}.weight" not in tables
        and (isinstance(module, Embedding) or "position" in type(module).__name__.lower())
        for name, module in model.named_modules()
    )


def _weight_of(model: Any, getter: str) -> str | None:
    """Name the weight of the module that a model gives as its embedding or head."""
    try:
        module = getattr(model, getter)()
    except (NotImplementedError, AttributeError):  # models without one say so in these two ways
        return None
    weight = getattr(module, "weight", None)
    for name, found in model.named_modules(remove_duplicate=False):
        if found is module and weight is not None:
            return f"{name}.weight"
    return next((name for name, found in _tensors(model) if found is weight), None)


def _module_names(model: Any, stored: list[str]) -> dict[str, str]:
    """Ask transformers under which names it would load what is stored."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    mapping = get_model_conversion_mapping(model)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    state, prefix = model.state_dict(), model.base_model_prefix
    names = {}
    for name in sorted(stored, key=dot_natural_key):  # some renamings wait for a first key
        found, _ = rename_source_key(name, renamings, converters, prefix, state)
        if found not in state and name in state:
            found, _ = rename_source_key(name, [], [], prefix, state)
        names[name] = found
    return names
