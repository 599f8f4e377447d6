"""A base is loaded to be trained through: its kind, its tables, and what stands around texts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from tokswap.checkpoint.layout import Layout, find_layout
from tokswap.checkpoint.skeleton import read_skeleton
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.tables import check_tokens, load_table
from tokswap.errors import CheckpointError
from tokswap.evaluation.load import load_for_scoring, position_limit, quiet
from tokswap.evaluation.loaded import local_folder
from tokswap.evaluation.tokens import start_of
from tokswap.hypernet.training.frozen import FrozenBase

LOOKED_AT = 8
"""Tokens by which a base is tried before it is trained through."""


def freeze(
    name: str, *, device: str = "cpu", dtype: str | None = None
) -> tuple[FrozenBase, Tokenizer]:
    """Load a base, of causal language models or of those that fill gaps.

    Args:
        name: What the user calls it.
        device: Where it goes.
        dtype: Name of a torch dtype to compute in; float32 on a CPU, its own elsewhere, without it.

    Returns:
        The base, and its tokenizer.

    Raises:
        CheckpointError: If it is of another kind, or its tables are not all that there is of its
            vocabulary.
        TokswapError: If it cannot be had or loaded.
    """
    checkpoint = Checkpoint.open(name)
    layout = find_layout(checkpoint)
    check_tokens(checkpoint, layout.input)
    vocabulary = checkpoint.vocabulary
    before: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()
    mask = None
    folder = local_folder(checkpoint)
    if layout.causal:
        model, tokenizer = load_for_scoring(folder, device=device, dtype=dtype)
        start = start_of(vocabulary)
        before = () if start is None else (start,)
    else:
        model, tokenizer = _gap_filler(checkpoint, layout, folder, device, dtype)
        roles = vocabulary.roles
        before = tuple(roles[r] for r in ("cls", "bos") if r in roles)[:1]
        behind = tuple(roles[r] for r in ("sep", "eos") if r in roles)[:1]
        mask = roles["mask"]
    model.requires_grad_(False)
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    embedding.padding_idx = None  # it would have to be one of the new rows
    kinds: tuple[Any, ...] = (layout.input,) if layout.tied else (layout.input, layout.output)
    tables = [load_table(checkpoint, stored).float() for stored in kinds]
    rows = min(len(vocabulary), *(len(table) for table in tables))
    source = torch.cat([table[:rows] for table in tables], dim=1)
    source = functional.pad(source, (0, 0, 0, len(vocabulary) - rows)).to(embedding.weight.device)
    first = _first_position(model) if layout.counts_from_pad else None
    limit = position_limit(model.config)
    limit = limit if limit is None or first is None else limit - first
    names, bias = _names(checkpoint, layout, model), None
    if "bias" in names:
        said = model.get_parameter(names["bias"]).detach().float()[:rows]
        bias = functional.pad(said, (0, len(vocabulary) - rows))
    base = FrozenBase(
        checkpoint=checkpoint,
        layout=layout,
        model=model,
        source=source,
        rows=rows,
        bias=bias,
        before=before,
        behind=behind,
        mask=mask,
        names=names,
        first=first,
        limit=limit,
    )
    _check(base)
    return base, tokenizer


def _gap_filler(
    checkpoint: Checkpoint, layout: Layout, folder: Any, device: str, dtype: str | None
) -> tuple[nn.Module, Tokenizer]:
    """Load a model that fills gaps.

    Raises:
        CheckpointError: If it is none, or cannot be loaded.
    """
    from transformers import AutoModelForMaskedLM
    from transformers.models.auto import modeling_auto

    known = set(modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.values())
    if layout.model_class not in known or "mask" not in checkpoint.vocabulary.roles:
        raise CheckpointError(
            f"{checkpoint.name} is a {layout.model_class or 'draft model'}, which neither predicts "
            "the next token nor fills gaps; give a causal language model, or an encoder with the "
            "head that it was trained with (…ForMaskedLM) and a mask token"
        )
    kind: Any = "auto" if dtype is None else getattr(torch, dtype)
    if dtype is None and torch.device(device).type == "cpu":
        kind = torch.float32
    try:
        with quiet():
            model, info = AutoModelForMaskedLM.from_pretrained(
                folder,
                dtype=kind,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except Exception as error:  # transformers has no common kind for a folder that does not load
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{checkpoint.name} does not load as a model that fills gaps: {reason}; give a folder "
            "with config.json, safetensors and tokenizer.json"
        ) from error
    # transformers fills what is missing with random numbers and merely warns.
    if lacking := [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]:
        raise CheckpointError(
            f"{checkpoint.name} lacks {len(lacking)} weights of its model, or has them in another "
            f"shape, among them {min(lacking)}; fetch it again, or give an encoder with the head "
            "that it was trained with"
        )
    return model.to(device).eval(), checkpoint.vocabulary.backend


@torch.no_grad()
def _first_position(model: nn.Module) -> int | None:
    """Tell where a model begins to count positions, if it counts them from the padding's id.

    It does if it says the same when it is told so. Others have a table of positions with a row for
    the padding, and count without it.
    """
    config: Any = model.config
    first = int(config.get_text_config().pad_token_id) + 1
    ids = torch.full((1, 3), first, device=next(model.parameters()).device)
    told = torch.arange(3, device=ids.device)[None] + first
    plain, again = (model(input_ids=ids, **more).logits for more in ({}, {"position_ids": told}))
    return first if torch.allclose(plain, again, rtol=1e-3, atol=1e-3) else None


def _names(checkpoint: Checkpoint, layout: Layout, model: nn.Module) -> dict[str, str]:
    """Find the model's own names of its tables.

    Raises:
        CheckpointError: If it has other tensors with an entry for each token.
    """
    own = {id(tensor): name for name, tensor in reversed(list(model.named_parameters()))}
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    found = {"input": own[id(embedding.weight)]}
    if not layout.tied:
        found["output"] = own[id(head.weight)]
    bias = getattr(head, "bias", None)
    if bias is not None:
        found["bias"] = own[id(bias)]
    others = [t.name for t in layout.tensors if t.name not in {layout.input, layout.output}]
    if others:
        _refuse_others(checkpoint, others, model, found)
    return found


def _refuse_others(
    checkpoint: Checkpoint, stored: Sequence[str], model: nn.Module, tables: Mapping[str, str]
) -> None:
    """Refuse a model that reads other tensors with an entry for each token.

    What is stored beside is often a table once more, or for other engines, and not read.

    Raises:
        CheckpointError: If there is one.
    """
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors |= dict(model.named_buffers(remove_duplicate=False))
    known = {id(tensors[name]) for name in tables.values()}
    module_names = read_skeleton(checkpoint).module_names
    for name in stored:
        tensor = tensors.get(module_names[name])
        if tensor is not None and id(tensor) not in known:
            raise CheckpointError(
                f"{checkpoint.name} has {name}, which has an entry for each token beside its "
                "embedding and head; a hypernetwork predicts no such entries; give another base"
            )


@torch.no_grad()
def _check(base: FrozenBase) -> None:
    """Check that some of a base's rows, alone and with other ids, say what they say among all.

    Raises:
        CheckpointError: If they do not: an id means more to it than a row of its tables.
    """
    padding = None if base.first is None else base.first - 1
    own = (n for n in base.checkpoint.vocabulary.ids.values() if n < base.rows and n != padding)
    ids = torch.tensor(sorted(own)[-LOOKED_AT:], device=base.source.device).flip(0)
    there = torch.ones(1, len(ids), dtype=torch.bool, device=ids.device)
    some = dict(zip(base.names, (table[ids] for table in base.tables), strict=True))
    places = torch.arange(len(ids), device=ids.device)[None]
    fault = CheckpointError(
        f"{base.checkpoint.name} is a {base.layout.model_class} that does not go by the rows of "
        "its tokens alone, so it cannot be trained through; give another base"
    )
    try:
        alone = base.logits(places, some["input"], some.get("output"), some.get("bias"), there)
    except (IndexError, RuntimeError) as error:  # other tables have another size
        raise fault from error
    said = {} if base.mask is None else {"attention_mask": there.long()}
    among = base.model(input_ids=ids[None], **said).logits[..., ids]
    kind = base.model.get_parameter(base.names["input"]).dtype
    coarse = max(1e-3, 8 * torch.finfo(kind).eps)
    if (alone - among).abs().max() > coarse * among.abs().max():
        raise fault
