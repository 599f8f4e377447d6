"""Acceptance, counted against transformers' own count and against planted answers."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers.generation import candidate_generator

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import EvaluationError
from tokswap.evaluation.acceptance import Acceptance, cut_prompts, measure_acceptance
from tokswap.evaluation.load import load_for_scoring
from tokswap.names import BUNDLED_FOLDER

SAMPLE = (BUNDLED_FOLDER / "sample.txt").read_text(encoding="utf-8")


def load(name: str) -> tuple[Any, Tokenizer]:
    return load_for_scoring(BUNDLED_FOLDER / name)


def nearly() -> Any:
    """tiny-llama with noise before its head, so that it is right now and then."""
    model = load("tiny-llama")[0]
    scale = model.model.norm.weight
    noise = torch.randn(scale.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scale.add_(0.5 * noise)
    return model


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    tokenizer = load("tiny-llama")[1]
    return cut_prompts(SAMPLE, tokenizer, frozenset({6141, 6142}), prompts=3, length=12)


def test_a_model_accepts_all_that_it_proposes_to_itself(prompts: list[list[int]]) -> None:
    draft, target = load("tiny-llama")[0], load("tiny-llama")[0]
    found = measure_acceptance(draft, target, prompts, tokens=20, draft_tokens=4)
    assert found.rate == 1.0
    assert found.proposed == found.accepted > 0
    assert (found.prompts, found.generated, found.unlike) == (3, 60, 0)
    # 20 tokens are four passes of 5: four proposed and one of the target's own.
    assert (found.passes, found.proposed) == (12, 48)
    assert found.tokens_per_pass == 5
    assert found.accepted_per_draft == 4


def test_an_end_of_text_that_was_proposed_is_accepted(prompts: list[list[int]]) -> None:
    draft, target = load("tiny-llama")[0], load("tiny-llama")[0]
    ids = torch.tensor([prompts[0]])
    longer = target.generate(ids, do_sample=False, max_new_tokens=20)[0, ids.shape[1] :].tolist()
    end = longer[7]
    target.generation_config.eos_token_id = end
    found = measure_acceptance(draft, target, prompts[:1], tokens=20, draft_tokens=4)
    assert found.generated == longer.index(end) + 1 < 20
    assert found.rate == 1.0
    assert found.unlike == 0


def test_the_counts_are_those_of_transformers(
    prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = candidate_generator.AssistedCandidateGenerator
    counted = {"proposed": 0, "accepted": 0, "passes": 0}
    get, update = kind.get_candidates, kind.update_candidate_strategy

    def noted_get(self: Any, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        found = get(self, input_ids, **kwargs)
        counted["proposed"] += found[0].shape[1] - input_ids.shape[1]
        return found

    def noted_update(self: Any, input_ids: torch.Tensor, scores: Any, num_matches: int) -> None:
        counted["accepted"] += int(num_matches)
        counted["passes"] += 1
        update(self, input_ids, scores, num_matches)

    monkeypatch.setattr(kind, "get_candidates", noted_get)
    monkeypatch.setattr(kind, "update_candidate_strategy", noted_update)
    target = load("tiny-llama")[0]
    target.generation_config.eos_token_id = None  # an end that is accepted is not counted there
    found = measure_acceptance(nearly(), target, prompts, tokens=24, draft_tokens=5)
    assert {name: getattr(found, name) for name in counted} == counted
    assert 0 < found.rate < 1
    assert found.generated == found.accepted + found.passes
    assert found.unlike == 0


def test_a_draft_that_is_always_wrong_is_never_accepted(prompts: list[list[int]]) -> None:
    draft, target = load("tiny-llama")[0], load("tiny-llama")[0]
    never = 5000
    for model, sign in ((draft, 1e4), (target, -1e4)):
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(6144))
        with torch.no_grad():
            model.lm_head.bias[never] = sign
    found = measure_acceptance(draft, target, prompts, tokens=10, draft_tokens=3)
    assert (found.accepted, found.rate, found.tokens_per_pass, found.unlike) == (0, 0.0, 1.0, 0)
    assert found.proposed > 0


def test_a_continuation_that_drafting_changes_is_counted(prompts: list[list[int]]) -> None:
    draft, target = load("tiny-llama")[0], load("tiny-llama")[0]

    def spoilt(_module: Any, given: tuple[Any, ...], output: Any) -> None:
        if output.logits.shape[1] > 1:  # only where proposals are read
            output.logits[..., 77] += 1e4

    target.register_forward_hook(spoilt)
    found = measure_acceptance(draft, target, prompts, tokens=8, draft_tokens=3)
    assert found.unlike == 3


def test_the_models_own_settings_do_not_matter(prompts: list[list[int]]) -> None:
    draft, target = load("tiny-llama")[0], load("tiny-llama")[0]
    plain = measure_acceptance(draft, target, prompts, tokens=8, draft_tokens=3)
    for model in (draft, target):
        model.generation_config.update(
            do_sample=True, temperature=5.0, repetition_penalty=3.0, num_assistant_tokens=9
        )
    again = measure_acceptance(draft, target, prompts, tokens=8, draft_tokens=3)
    figures = ("generated", "passes", "proposed", "accepted", "unlike")
    assert [getattr(plain, name) for name in figures] == [getattr(again, name) for name in figures]


def test_the_watch_leaves_nothing_behind(prompts: list[list[int]]) -> None:
    draft, target = load("tiny-llama")[0], load("tiny-llama")[0]

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    hook = draft.register_forward_pre_hook(interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_acceptance(draft, target, prompts, tokens=8, draft_tokens=3)
    assert not target._forward_pre_hooks
    hook.remove()
    assert measure_acceptance(draft, target, prompts, tokens=8, draft_tokens=3).rate == 1.0


def test_nothing_proposed_is_no_division_by_zero() -> None:
    found = Acceptance(1, 5, 1, 1, 0, 0, 0, 0, 0.1, 0.1)
    assert (found.rate, found.accepted_per_draft, found.tokens_per_pass) == (0.0, 0.0, 1.0)


def test_prompts_are_spread_over_the_text_and_begin_at_lines() -> None:
    vocabulary = Checkpoint.open("tiny-llama").vocabulary
    found = cut_prompts(SAMPLE, vocabulary.backend, vocabulary.special, prompts=5, length=16)
    assert len(found) == 5
    places = []
    for ids in found:
        assert (len(ids), ids[0]) == (16, vocabulary.roles["bos"])
        text = vocabulary.backend.decode(ids[1:-1])
        assert text in SAMPLE
        place = SAMPLE.index(text)
        assert place == 0 or SAMPLE[place - 1] == "\n"
        places.append(place / len(SAMPLE))
    assert places == sorted(places)
    assert all(abs(place - n / 5) < 0.1 for n, place in enumerate(places))


def test_a_short_text_gives_fewer_prompts_and_ends_without_special_tokens() -> None:
    vocabulary = Checkpoint.open("tiny-llama").vocabulary
    backend = Tokenizer.from_str(vocabulary.backend.to_str())
    backend.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A <|end_of_text|>",
        special_tokens=[("<|begin_of_text|>", 6141), ("<|end_of_text|>", 6142)],
    )
    found = cut_prompts("return", backend, vocabulary.special, prompts=4, length=16)
    assert len(found) == 1
    assert found[0][0] == 6141
    assert vocabulary.backend.decode(found[0]) == "return"
    with pytest.raises(EvaluationError, match="too short to cut prompts from"):
        cut_prompts("", backend, vocabulary.special, prompts=4, length=16)
