"""What config.json says of the vocabulary's tensors, beside ``vocab_size`` and token ids."""

from collections.abc import Mapping
from typing import Any

from tokswap.checkpoint.draft import new_draft
from tokswap.checkpoint.layout import Layout
from tokswap.checkpoint.settings import merged
from tokswap.checkpoint.unclaimed import VocabTensor
from tokswap.pair import Pair
from tokswap.plan import Plan
from tokswap.vocabulary.special import levels


def new_rows_of(tensor: VocabTensor, plan: Plan) -> int:
    """Count the entries that a tensor will have for the new vocabulary.

    A table that ends early stands for all tokens behind its end by its first row. It may end early
    again, where the new vocabulary's last tokens are such tokens.
    """
    if tensor.rows == plan.base_rows:
        return plan.rows
    source = plan.copied(tensor.role)
    first = (source == 0) | (source >= tensor.rows)
    if not bool(first[0]):
        return plan.rows
    kept = (~first).nonzero()[:, 0].tolist()
    return int(kept[-1]) + 1 if kept else 1


def with_defaults(config: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """Write out what a config leaves to the defaults of its class, at every level."""
    return merged(config, layout.unsaid)


def set_sizes(config: dict[str, Any], old: Mapping[str, Any], pair: Pair, plan: Plan) -> list[str]:
    """Set the sizes that go by another name than ``vocab_size``, and what must not change.

    Args:
        config: The new config.json, in place.
        old: The base's, with no ids changed.
        pair: The base and the donor.
        plan: Where the new rows come from.

    Returns:
        What the user should know of it.
    """
    if pair.base.vocabulary.sha256 == pair.donor.vocabulary.sha256:
        return []
    tensors = {tensor.name: tensor for tensor in pair.layout.tensors}
    for place, name in pair.layout.sizes.items():
        level: Any = config
        for key in place[:-1]:
            level = level.get(key, {})
        if place[-1] in level and name in tensors:
            level[place[-1]] = new_rows_of(tensors[name], plan)
    draft = pair.layout.draft
    if draft:
        ids, _ = new_draft(pair.base.load(draft.d2t), plan.copied(), plan.base_rows)
        for level in levels(config):
            if isinstance(level, dict) and level.get("draft_vocab_size") == draft.rows:
                level["draft_vocab_size"] = len(ids)
    for level in levels(config):
        if isinstance(level, dict) and isinstance(level.get("unpadded_vocab_size"), int):
            level["unpadded_vocab_size"] = len(pair.donor.vocabulary)
    return (
        _keep_pad(config, with_defaults(old, pair.layout), pair)
        if pair.layout.counts_from_pad
        else []
    )


def _keep_pad(config: dict[str, Any], old: Mapping[str, Any], pair: Pair) -> list[str]:
    """Leave ``pad_token_id`` as it is in a model that numbers more than tokens by it."""
    notes = []
    for new_level, old_level in zip(levels(config), levels(old), strict=False):
        pad = old_level.get("pad_token_id")
        if pad is not None and isinstance(new_level, dict) and new_level.get("pad_token_id") != pad:
            new_level["pad_token_id"] = pad
            token = pair.donor.vocabulary.show(pad) if pad < len(pair.donor.vocabulary) else "none"
            notes.append(
                f"pad_token_id stays {pad}, for {pair.base.name} counts more than tokens by it; in "
                f"the new vocabulary that is {token}, which is taken for padding where a text is "
                "given without position_ids"
            )
    return list(dict.fromkeys(notes))
