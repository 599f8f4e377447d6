"""Can this model draft for that one? The rules of three engines, and the measured acceptance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import EvaluationError, TokswapError
from tokswap.evaluation.acceptance import Acceptance, cut_prompts, measure_acceptance
from tokswap.evaluation.draft_llama_cpp import llama_cpp_rules
from tokswap.evaluation.draft_rules import Verdict, transformers_rules, vllm_rules
from tokswap.evaluation.draft_tokens import Difference, Side, compare, open_side
from tokswap.evaluation.load import load_for_scoring, other_kind, position_limit
from tokswap.evaluation.loaded import local_folder
from tokswap.evaluation.measure import SAMPLE, pick_device
from tokswap.evaluation.texts import file_text
from tokswap.progress import note

if TYPE_CHECKING:
    from torch import nn

PROMPT = 32
"""Tokens in a prompt, at most."""

REFUSALS = (AttributeError, NotImplementedError, TypeError, ValueError)
"""How transformers fails with models that it cannot assist; memory that runs out is another."""


@dataclass(frozen=True)
class DraftCheck:
    """Whether a model can draft for another.

    Attributes:
        draft: Name of the model that proposes.
        target: Name of the model that decides.
        verdicts: One for each way of drafting (see ENGINES).
        difference: How the two vocabularies differ.
        acceptance: What was measured, or None.
        way: The verdict's engine by which was measured, or None.
        unmeasured: Why nothing was measured; "" where something was.
        text: Name of the text that prompts are cut from.
    """

    draft: str
    target: str
    verdicts: tuple[Verdict, ...]
    difference: Difference
    acceptance: Acceptance | None
    way: str | None
    unmeasured: str
    text: str

    def verdict(self, engine: str) -> Verdict:
        """The verdict of one engine, by its key in ENGINES."""
        return next(verdict for verdict in self.verdicts if verdict.engine == engine)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "draft": self.draft,
            "target": self.target,
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "vocabulary": self.difference.to_dict(),
            "acceptance": self.acceptance
            and {"way": self.way, "text": self.text, **self.acceptance.to_dict()},
            "unmeasured": self.unmeasured or None,
        }


def check(
    draft: str,
    target: str,
    *,
    text: str | Path | None = None,
    prompts: int = 8,
    tokens: int = 64,
    draft_tokens: int = 5,
    device: str = "auto",
    measure: bool = True,
) -> DraftCheck:
    """Tell whether a model can draft for another (speculative decoding), and how well.

    Args:
        draft: Name of the small model that proposes tokens.
        target: Name of the large model that accepts or refuses them.
        text: A text file to cut prompts from; the bundled sample without it.
        prompts: How many prompts to continue.
        tokens: Tokens to generate for each.
        draft_tokens: Tokens that the draft proposes at a time.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        measure: Whether to load both models and measure; the rules need no weights.

    Returns:
        The verdicts and, where transformers can draft and both models load, the acceptance.

    Raises:
        EvaluationError: If the text, the device or the sizes asked for are of no use.
        TokswapError: If one of the two cannot be had, or has no config or tokenizer.
    """
    for name, value in (("prompts", prompts), ("tokens", tokens), ("draft_tokens", draft_tokens)):
        if value < 1:
            raise EvaluationError(f"{name} is {value}; give 1 or more")
    path = SAMPLE if text is None else Path(text).expanduser()
    source = file_text(path)
    device = pick_device(device) if measure else device
    checkpoints = Checkpoint.open(draft), Checkpoint.open(target)
    sides = open_side(checkpoints[0]), open_side(checkpoints[1])
    found = compare(*sides)
    verdicts = [*transformers_rules(*sides, found), *vllm_rules(*sides, found)]
    verdicts.append(llama_cpp_rules(*sides))
    verdicts = _of_decoders(verdicts, checkpoints)
    way = next((verdict.engine for verdict in verdicts[:2] if verdict.yes), None)
    acceptance, unmeasured = None, "not asked for"
    if measure and way is None:
        unmeasured = "transformers cannot draft with this pair"
    elif measure:
        for side in sides:
            _check_positions(side, tokens, draft_tokens)
        ids = cut_prompts(
            "".join(chunk for document in source.open() for chunk in document),
            sides[1].vocabulary.backend,
            sides[1].vocabulary.special,
            prompts=prompts,
            length=PROMPT,
        )
        try:
            acceptance = measure_acceptance(
                _load(checkpoints[0], device),
                _load(checkpoints[1], device),
                ids,
                tokens=tokens,
                draft_tokens=draft_tokens,
                tokenizers=_tokenizers(checkpoints) if way == "transformers-universal" else None,
            )
            unmeasured = ""
        except TokswapError as error:  # the rules are answered all the same
            unmeasured = str(error)
        except REFUSALS as error:  # what happens is right, whatever was read from the rules
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            unmeasured = f"the assisted generation of transformers fails: {reason}"
            verdicts = [
                replace(verdict, yes=False, reason=unmeasured, advice="choose another draft")
                if verdict.engine == way
                else verdict
                for verdict in verdicts
            ]
    return DraftCheck(
        draft=draft,
        target=target,
        verdicts=tuple(verdicts),
        difference=found,
        acceptance=acceptance,
        way=way if acceptance else None,
        unmeasured=unmeasured,
        text=source.name,
    )


def _of_decoders(verdicts: Sequence[Verdict], checkpoints: Sequence[Checkpoint]) -> list[Verdict]:
    """Turn to no what is said of models that predict no next token.

    Two encoder-decoders may draft for each other, in transformers alone.
    """
    kinds = {side.name: kind for side in checkpoints if (kind := other_kind(side.config))}
    pair = all(side.config.get("is_encoder_decoder") for side in checkpoints)
    if not kinds:
        return list(verdicts)
    reason = " and ".join(f"{name} is a {kind}" for name, kind in kinds.items())
    return [
        verdict
        if pair and verdict.engine.startswith("transformers")
        else replace(
            verdict,
            yes=False,
            reason=f"{reason}, which predicts no next token",
            advice="give two causal language models",
        )
        for verdict in verdicts
    ]


def _check_positions(side: Side, tokens: int, draft_tokens: int) -> None:
    """Check that a model has positions for a prompt and what comes after it.

    Raises:
        EvaluationError: If it has too few.
    """
    limit = position_limit(side.config)
    if limit is not None and PROMPT + tokens + draft_tokens > limit:
        raise EvaluationError(
            f"{side.name} has {limit} positions, too few for {PROMPT} tokens of prompt, {tokens} "
            f"to generate and {draft_tokens} to draft; give fewer tokens"
        )


def _load(checkpoint: Checkpoint, device: str) -> "nn.Module":
    note(f"load {checkpoint.name}")
    return load_for_scoring(local_folder(checkpoint), device=device)[0]


def _tokenizers(checkpoints: Sequence[Checkpoint]) -> tuple[Any, Any]:
    """Load tokenizers as their tokenizer.json says; AutoTokenizer replaces some by its own."""
    from transformers import PreTrainedTokenizerFast

    draft, target = (
        PreTrainedTokenizerFast.from_pretrained(local_folder(checkpoint), local_files_only=True)
        for checkpoint in checkpoints
    )
    return draft, target
