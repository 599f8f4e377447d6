"""How many of a draft's proposals a target accepts, counted in transformers' own assisted loop.

Nothing of the loop is done here: ``generate(assistant_model=...)`` runs as it is. A hook on the
target's forward pass sees what was proposed, and a streamer, which transformers calls with the
tokens of each pass, sees what came of it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from tokswap.errors import EvaluationError
from tokswap.evaluation.load import quiet
from tokswap.progress import bar


@dataclass(frozen=True)
class Acceptance:
    """What came of a draft's proposals, greedily, over several prompts.

    Attributes:
        prompts: Texts that were continued.
        draft_tokens: Tokens that the draft was asked for at a time.
        generated: Tokens that were generated.
        passes: Forward passes of the target that this took.
        drafts: Passes among them that had something proposed.
        proposed: Tokens that were proposed to the target, in its own vocabulary.
        accepted: Proposed tokens that the target would have chosen too, up to the first it would
            not.
        unlike: Prompts whose continuation is not the one of the target alone. Greedy drafting
            changes nothing but for rounding: many rows in one product round otherwise than one.
        seconds: With the draft.
        seconds_alone: Without it.
    """

    prompts: int
    draft_tokens: int
    generated: int
    passes: int
    drafts: int
    proposed: int
    accepted: int
    unlike: int
    seconds: float
    seconds_alone: float

    @property
    def rate(self) -> float:
        """Accepted of the proposed tokens; 0 where none was proposed."""
        return self.accepted / self.proposed if self.proposed else 0.0

    @property
    def accepted_per_draft(self) -> float:
        """Accepted tokens each time that something was proposed."""
        return self.accepted / self.drafts if self.drafts else 0.0

    @property
    def tokens_per_pass(self) -> float:
        """Tokens for each forward pass of the target; 1 without a draft."""
        return self.generated / self.passes

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "rate": self.rate,
            "accepted_per_draft": self.accepted_per_draft,
            "tokens_per_pass": self.tokens_per_pass,
            **vars(self),
        }


def cut_prompts(
    text: str, tokenizer: Tokenizer, special: frozenset[int], *, prompts: int, length: int
) -> list[list[int]]:
    """Cut prompts from a text, evenly spread over it, each from the start of a line.

    Args:
        text: What to cut from.
        tokenizer: The target's; what it puts before a text is put before each prompt.
        special: Ids that are cut off at the end of a prompt, as an end of text is.
        prompts: How many; fewer are given where the text is too short to start so many.
        length: Tokens in a prompt, at most.

    Raises:
        EvaluationError: If the text gives no prompt.
    """
    found: dict[int, list[int]] = {}
    for number in range(prompts):
        place = len(text) * number // prompts
        start = text.rfind("\n", 0, place) + 1 if place else 0
        # No token is so long that the ids of so much text would be fewer.
        ids = tokenizer.encode(text[start : start + 64 * length]).ids[:length]
        while ids and ids[-1] in special:
            ids.pop()
        if ids:
            found.setdefault(start, ids)
    if not found:
        raise EvaluationError("the text is too short to cut prompts from; give more of it")
    return list(found.values())


def measure_acceptance(
    draft: nn.Module,
    target: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    draft_tokens: int,
    tokenizers: tuple[Any, Any] | None = None,
) -> Acceptance:
    """Let the target continue each prompt with and without the draft, greedily.

    The draft proposes the same number of tokens each time (a constant schedule and no confidence
    threshold), so that the figures are comparable.

    Args:
        draft: The model that proposes; not the same object as the target.
        target: The model that decides.
        prompts: Token ids of the target's vocabulary.
        tokens: Tokens to generate for each prompt, or fewer where the text ends.
        draft_tokens: Tokens to propose at a time.
        tokenizers: transformers tokenizers of draft and target, where proposals go through text.
    """
    import transformers

    models: tuple[Any, Any] = (draft, target)
    eos = models[1].generation_config.eos_token_id
    pad = eos[0] if isinstance(eos, list) else eos
    config: Any = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=tokens, eos_token_id=eos, pad_token_id=pad or 0
    )
    # What the models' own settings would add (penalties, sampling) is not wanted on either side.
    models[1].generation_config = transformers.GenerationConfig(eos_token_id=eos)
    models[0].generation_config = transformers.GenerationConfig(
        num_assistant_tokens=draft_tokens,
        num_assistant_tokens_schedule="constant",
        assistant_confidence_threshold=0.0,
    )
    assistance: dict[str, Any] = {"assistant_model": models[0]}
    if tokenizers is not None:
        assistance |= {"assistant_tokenizer": tokenizers[0], "tokenizer": tokenizers[1]}
    device = next(target.parameters()).device
    watch = _Watch()
    unlike, seconds, alone = 0, 0.0, 0.0
    hook = target.register_forward_pre_hook(watch.before_pass, with_kwargs=True)
    try:
        with quiet(), bar("measure acceptance", len(prompts)) as advance:
            for prompt in prompts:
                ids = torch.tensor([prompt], device=device)
                given: dict[str, Any] = {
                    "inputs": ids,
                    "attention_mask": torch.ones_like(ids),
                    "generation_config": config,
                }
                start = time.perf_counter()
                watch.on(len(prompt))
                drafted = models[1].generate(**given, **assistance, streamer=watch).tolist()
                watch.off()
                middle = time.perf_counter()
                plain = models[1].generate(**given).tolist()
                seconds += middle - start
                alone += time.perf_counter() - middle
                unlike += drafted != plain
                advance(1)
    finally:
        hook.remove()
    return Acceptance(
        prompts=len(prompts),
        draft_tokens=draft_tokens,
        generated=watch.generated,
        passes=watch.passes,
        drafts=watch.drafts,
        proposed=watch.proposed,
        accepted=watch.accepted,
        unlike=unlike,
        seconds=seconds,
        seconds_alone=alone,
    )


class _Watch:
    """Counts what is proposed to a model and what comes of it, while it is on.

    The target reads the prompt and the proposal in its first pass, and in every other pass the
    last token and the proposal.
    """

    def __init__(self) -> None:
        self.generated = self.passes = self.drafts = self.proposed = self.accepted = 0
        self._known = 0  # tokens of the next pass that were there before; 0 while it is off
        self._prompt = False  # whether the streamer is still to be given the prompt
        self._proposal: list[int] = []

    def on(self, prompt: int) -> None:
        """Begin to count, at a prompt of so many tokens."""
        self._known, self._prompt = prompt, True

    def off(self) -> None:
        """Stop counting."""
        self._known = 0

    def before_pass(
        self, _module: nn.Module, _arguments: tuple[Any, ...], given: dict[str, Any]
    ) -> None:
        """See what a pass of the target reads; a hook of torch."""
        if self._known:
            self._proposal = given["input_ids"][0, self._known :].tolist()
            self._known = 1

    def put(self, tokens: torch.Tensor) -> None:
        """See what a pass gave; called by transformers, first of all with the prompt."""
        if self._prompt:
            self._prompt = False
            return
        chosen = tokens.flatten().tolist()
        # What was chosen ends with the first token that was not proposed, or with the text.
        agreed = [ours == theirs for ours, theirs in zip(self._proposal, chosen, strict=False)]
        self.passes += 1
        self.generated += len(chosen)
        self.drafts += bool(self._proposal)
        self.proposed += len(self._proposal)
        self.accepted += sum(agreed)

    def end(self) -> None:
        """Called by transformers when a text is finished."""
