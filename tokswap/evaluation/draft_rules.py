"""The rules by which inference engines take one model as the draft of another.

The rules of transformers are those of the installed version, asked of its own classes. vLLM and
llama.cpp are not installed beside it: theirs are written down from their published sources and
have not been run here.

- vLLM, ``vllm/config/speculative.py`` (``verify_equal_vocab_size_if_draft_model``,
  ``use_heterogeneous_vocab``) and ``vllm/v1/spec_decode/vocab_mapping.py`` at 0f17ee061e41.
- llama.cpp: see :mod:`tokswap.evaluation.draft_llama_cpp`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tokswap.evaluation.draft_tokens import Difference, Side

ENGINES = {
    "transformers": "transformers",
    "transformers-universal": "transformers, both tokenizers given",
    "vllm": "vLLM",
    "vllm-tli": "vLLM, use_heterogeneous_vocab",
    "llama.cpp": "llama.cpp",
}
"""The ways of drafting that are judged, with their names for people."""

NOT_RUN = "published source, not run here"
STATIC_CACHES = ("static", "hybrid", "sliding_window")
ENCODER_SIZES = ("encoder_attention_heads", "encoder_ffn_dim", "encoder_layers")


@dataclass(frozen=True)
class Verdict:
    """What one engine says.

    Attributes:
        engine: A key of ENGINES.
        yes: Whether the draft can draft for the target there.
        reason: Why, in one sentence.
        advice: What to do about a no, or how to use a yes; may be empty.
        rule: Where the rule is known from.
    """

    engine: str
    yes: bool
    reason: str
    advice: str
    rule: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def transplant_advice(draft: Side, target: Side) -> str:
    """What gives the draft the target's vocabulary."""
    return (
        f"`tokswap transplant --base {draft.name} --donor {target.name}` gives {draft.name} "
        f"the tokens and the rows of {target.name}"
    )


def transformers_rules(draft: Side, target: Side, found: Difference) -> list[Verdict]:
    """Judge by the installed transformers: with one tokenizer, and with both given.

    transformers compares sizes alone (``_validate_generation_mode``): with equal ones it takes the
    proposed ids as they are, with others it asks for both tokenizers, and it refuses them where
    the sizes are equal.
    """
    import transformers

    rule = f"transformers {transformers.__version__}, as installed"
    plain, universal = "transformers", "transformers-universal"
    if obstacle := next(_obstacles(draft, target), None):
        reason, advice = obstacle
        return [Verdict(way, False, reason, advice, rule) for way in (plain, universal)]
    transplant = transplant_advice(draft, target)
    yes, reason = _same_ids(found, "transformers")
    advice = "pass assistant_model= to generate()" if yes else transplant
    verdicts = [Verdict(plain, yes, reason, advice, rule)]
    if found.rows[0] == found.rows[1]:
        no = f"both have {found.rows[1]:,} rows, and transformers refuses assistant_tokenizer then"
        advice = "leave assistant_tokenizer out of generate()" if yes else transplant
        return [*verdicts, Verdict(universal, False, no, advice, rule)]
    reason = (
        "greedy proposals are translated through their text; sampling keeps to the "
        f"{_common(found)}"
    )
    advice = "pass assistant_model=, tokenizer= and assistant_tokenizer= to generate()"
    return [*verdicts, Verdict(universal, True, reason, advice, rule)]


def _obstacles(draft: Side, target: Side) -> Iterator[tuple[str, str]]:
    """Find what keeps transformers from assisting at all; reasons, each with advice."""
    unread = [side for side in (draft, target) if side.config is None]
    for side in unread:
        yield (
            f"the installed transformers cannot read the config of {side.name}",
            "upgrade transformers",
        )
    if unread:
        return
    ours, theirs = _class_of(draft.config), _class_of(target.config)
    if getattr(theirs, "_is_stateful", False):
        yield (
            f"{target.name} ({theirs.__name__}) keeps a state that cannot be rolled back to the "
            "last accepted token",
            "choose another target, since no draft will do",
        )
    modes = getattr(theirs, "_supported_generation_modes", None)
    if modes is not None and "assisted_generation" not in modes:
        yield (
            f"{target.name} ({theirs.__name__}) has no assisted generation",
            "choose another target, since no draft will do",
        )
    for side in (draft, target):
        cache = side.generation.get("cache_implementation")
        if cache in STATIC_CACHES:
            yield (
                f"the generation_config.json of {side.name} asks for a {cache} cache, which cannot "
                "be cut back to the last accepted token",
                f"remove cache_implementation from the generation_config.json of {side.name}",
            )
    if getattr(ours, "_is_stateful", False) and not _has_attention(ours, draft.config):
        yield (
            f"{draft.name} ({ours.__name__}) has a state where drafting needs a cache to cut back",
            "choose another draft",
        )
    yield from _encoders(draft, target)


def _encoders(draft: Side, target: Side) -> Iterator[tuple[str, str]]:
    """Find what keeps encoder-decoders apart; reasons, each with advice."""
    kinds = (draft.config.is_encoder_decoder, target.config.is_encoder_decoder)
    if kinds == (True, False):
        yield f"{draft.name} is an encoder-decoder and {target.name} is not", "choose another draft"
    sizes = [name for name in ENCODER_SIZES if hasattr(draft.config, name)]
    if kinds == (False, True) and any(
        getattr(draft.config, name) != getattr(target.config, name, None) for name in sizes
    ):
        yield f"{draft.name} does not fit the encoder of {target.name}", "choose another draft"


def _class_of(config: Any) -> Any:
    """The class that config.json names, or the one that stands for its type."""
    import transformers

    names = [*(getattr(config, "architectures", None) or []), ""]
    named = getattr(transformers, str(names[0]), None) if names[0] else None
    return named or transformers.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config))


def _has_attention(kind: Any, config: Any) -> bool:
    """Tell whether a model's cache counts tokens, as drafting asks it to."""
    from transformers import DynamicCache

    if not kind._supports_default_dynamic_cache():
        return False
    try:
        DynamicCache(config=config.get_text_config(decoder=True)).get_seq_length()
    except ValueError:  # a cache of linear-attention layers only
        return False
    return True


def vllm_rules(draft: Side, target: Side, found: Difference) -> list[Verdict]:
    """Judge by vLLM: with equal vocabularies, and by token-level intersection (TLI)."""
    transplant = transplant_advice(draft, target)
    yes, reason = _same_ids(found, "vLLM")
    advice = '"method": "draft_model" in --speculative-config' if yes else transplant
    verdicts = [Verdict("vllm", yes, reason, advice, NOT_RUN)]
    for side in (draft, target):
        if not {"unk", "eos"} & side.vocabulary.roles.keys():
            no = f"{side.name} has neither an unknown token nor an end of text to stand in"
            return [*verdicts, Verdict("vllm-tli", False, no, transplant, NOT_RUN)]
    if not found.common:
        no = "the vocabularies have no token in common"
        return [*verdicts, Verdict("vllm-tli", False, no, transplant, NOT_RUN)]
    reason = f"greedy proposals keep to the {_common(found)}"
    advice = '"use_heterogeneous_vocab": true in --speculative-config'
    return [*verdicts, Verdict("vllm-tli", True, reason, advice, NOT_RUN)]


def _common(found: Difference) -> str:
    return (
        f"{found.common:,} tokens that both write alike "
        f"({found.common / max(1, found.tokens[0]):.0%} of the draft's)"
    )


def _same_ids(found: Difference, engine: str) -> tuple[bool, str]:
    """Judge an engine that compares sizes; another vocabulary of the same size is a no as well."""
    ours, theirs = found.rows
    count = f"{found.differing:,} of {found.ordinary:,} tokens differ"
    if ours != theirs:
        tokens = f"{count} ({found.first})" if found.differing else "the tokens are the same"
        return False, (
            f"the draft has {ours:,} rows and the target {theirs:,}, which must be equal; {tokens}"
        )
    if not found.matching:
        return False, (
            f"both have {theirs:,} rows, so {engine} would start, but {count} and would be "
            f"refused ({found.first})"
        )
    if found.differing:
        return True, f"both have {theirs:,} rows; {count} and cannot be drafted ({found.first})"
    return True, f"both have {theirs:,} rows and the same tokens"
