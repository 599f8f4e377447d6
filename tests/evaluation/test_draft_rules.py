"""Verdicts against what engines do: transformers itself is asked, near-misses are planted."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer

from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import TokswapError
from tokswap.evaluation.draft_llama_cpp import added_tokens, llama_cpp_rules, vocabulary_type
from tokswap.evaluation.draft_rules import ENGINES, transformers_rules, vllm_rules
from tokswap.evaluation.draft_tokens import Side, compare, open_side

Edit = Callable[[dict[str, Any]], None]
Make = Callable[..., Side]


@pytest.fixture(scope="module")
def side_of(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A real tokenizer with a config.json; its files can be edited first."""
    plain: dict[str, Side] = {}

    def make(
        tokenizer: str,
        name: str,
        *,
        rows: int | None = None,
        edit: Edit | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Side:
        if edit is None and settings is None:
            side = plain.get(tokenizer) or written(tokenizer)
            plain[tokenizer] = side
        else:
            side = written(tokenizer, edit, settings)
        return replace(side, name=name, rows=rows or side.rows)

    def written(
        tokenizer: str, edit: Edit | None = None, settings: dict[str, Any] | None = None
    ) -> Side:
        source = shared / "tokenizers" / tokenizer
        specification = json.loads((source / "tokenizer.json").read_text())
        said = json.loads((source / "tokenizer_config.json").read_text())
        if edit is not None:
            edit(specification)
        vocabulary = specification["model"]["vocab"]
        size = len(vocabulary | {t["content"]: 0 for t in specification["added_tokens"]})
        config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": size}
        folder = tmp_path_factory.mktemp("side")
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").write_text(json.dumps(specification))
        (folder / "tokenizer_config.json").write_text(json.dumps(said | (settings or {})))
        return open_side(Checkpoint.open(str(folder)))

    return make


def rename(number: int, string: str) -> Edit:
    def edit(specification: dict[str, Any]) -> None:
        vocabulary = specification["model"]["vocab"]
        old = next(token for token, n in vocabulary.items() if n == number)
        specification["model"]["vocab"] = {
            string if token == old else token: n for token, n in vocabulary.items()
        }

    return edit


# llama.cpp


def test_a_tokenizer_drafts_for_itself_in_llama_cpp(side_of: Make) -> None:
    verdict = llama_cpp_rules(side_of("llama2", "draft"), side_of("llama2", "target"))
    assert verdict.yes
    assert "SPM of 32,000 tokens" in verdict.reason


@pytest.mark.parametrize(("number", "yes"), [(4, True), (5, False), (31999, False)])
def test_llama_cpp_compares_texts_from_id_5_on(side_of: Make, number: int, yes: bool) -> None:
    target = side_of("llama2", "target")
    draft = side_of("llama2", "draft", edit=rename(number, "planted"))
    verdict = llama_cpp_rules(draft, target)
    assert verdict.yes == yes
    if not yes:
        assert f"1 of 31,995 token texts differ, the first at id {number}: 'planted' and " in (
            verdict.reason
        )
        assert verdict.reason.endswith(repr(target.vocabulary.strings[number]))
        assert "tokswap transplant --base" in verdict.advice


@pytest.mark.parametrize(("rows", "yes"), [(32_128, True), (32_129, False)])
@pytest.mark.parametrize("turned", [False, True])
def test_llama_cpp_allows_128_tokens_between_the_sizes(
    side_of: Make, rows: int, yes: bool, turned: bool
) -> None:
    sides = [side_of("llama2", "draft", rows=rows), side_of("llama2", "target")]
    verdict = llama_cpp_rules(*(sides[::-1] if turned else sides))
    assert verdict.yes == yes
    assert ("differ by more than 128 tokens" in verdict.reason) != yes


def test_rows_without_a_token_are_alike_in_llama_cpp(side_of: Make) -> None:
    draft, target = (side_of("llama2", name, rows=32_064) for name in ("draft", "target"))
    assert llama_cpp_rules(draft, target).yes

    def longer(specification: dict[str, Any]) -> None:
        specification["model"]["vocab"]["planted"] = 32_000

    verdict = llama_cpp_rules(side_of("llama2", "c", rows=32_064, edit=longer), target)
    assert not verdict.yes
    assert "1 of 32,059 token texts differ, the first at id 32000: 'planted' and '[PAD32000]'" in (
        verdict.reason
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"add_bos_token": False}, "target adds bos to a text and draft does not"),
        ({"add_eos_token": True}, "draft adds eos to a text and target does not"),
        ({"bos_token": "</s>"}, "both add bos, which is id 2 in draft and 1 in target"),
        ({"eos_token": "<s>"}, None),  # not added, so its id does not matter
    ],
)
def test_llama_cpp_compares_bos_and_eos_where_they_are_added(
    side_of: Make, settings: dict[str, Any], reason: str | None
) -> None:
    def bare(specification: dict[str, Any]) -> None:
        specification["post_processor"] = None

    target = side_of("llama2", "target", edit=bare)
    verdict = llama_cpp_rules(side_of("llama2", "draft", edit=bare, settings=settings), target)
    said = verdict.reason.replace(target.name, "target").replace(
        f"{target.name[:-6]}draft", "draft"
    )
    assert verdict.yes == (reason is None)
    assert reason is None or said == reason


def test_what_is_added_is_read_from_the_template(side_of: Make) -> None:
    def ended(specification: dict[str, Any]) -> None:
        end = {"SpecialToken": {"id": "<unk>", "type_id": 0}}
        specification["post_processor"]["single"].append(end)

    tiny = open_side(Checkpoint.open("tiny-llama"))  # byte-level: nothing is added unsaid
    assert added_tokens(tiny) == {"bos": 6141}
    assert added_tokens(replace(tiny, settings={"add_bos_token": False})) == {}
    assert added_tokens(side_of("gpt2", "a")) == {}
    assert added_tokens(side_of("llama2", "b")) == {"bos": 1}
    assert added_tokens(side_of("llama2", "c", edit=ended)) == {"bos": 1, "eos": 0}


def test_llama_cpp_compares_the_types(side_of: Make) -> None:
    draft, target = side_of("gpt2", "draft"), side_of("llama2", "target")
    assert (vocabulary_type(draft), vocabulary_type(target)) == ("BPE", "SPM")
    assert f"the vocabulary of {draft.name} is BPE and that of {target.name} SPM" in (
        llama_cpp_rules(draft, target).reason
    )


# vLLM, and what it shares with transformers: sizes


def verdicts(draft: Side, target: Side) -> dict[str, Any]:
    found = compare(draft, target)
    said = [*transformers_rules(draft, target, found), *vllm_rules(draft, target, found)]
    return {verdict.engine: verdict for verdict in [*said, llama_cpp_rules(draft, target)]}


def test_every_way_is_judged(side_of: Make) -> None:
    said = verdicts(side_of("gpt2", "draft"), side_of("gpt2", "target"))
    assert list(said) == list(ENGINES)
    assert {engine for engine, verdict in said.items() if not verdict.yes} == {
        "transformers-universal"
    }


def test_padding_alone_keeps_a_draft_from_sizes_that_must_be_equal(side_of: Make) -> None:
    said = verdicts(side_of("gpt2", "draft", rows=50_304), side_of("gpt2", "target"))
    for engine in ("transformers", "vllm"):
        assert not said[engine].yes
        assert said[engine].reason == (
            "the draft has 50,304 rows and the target 50,257, which must be equal; "
            "the tokens are the same"
        )
    for engine in ("transformers-universal", "vllm-tli", "llama.cpp"):
        assert said[engine].yes


def test_another_vocabulary_of_the_same_size_is_no_yes(side_of: Make) -> None:
    def turned(specification: dict[str, Any]) -> None:
        model, last = specification["model"], len(specification["model"]["vocab"]) - 1
        # ids 0 to 2 are <unk>, <s> and </s>, which stay
        model["vocab"] = {t: n if n < 3 else last + 3 - n for t, n in model["vocab"].items()}

    draft, target = side_of("llama2", "draft", edit=turned), side_of("llama2", "target")
    said = verdicts(draft, target)
    for engine in ("transformers", "vllm"):
        assert not said[engine].yes
        assert "both have 32,000 rows, so " in said[engine].reason
        assert "31,996 of 31,997 tokens differ" in said[engine].reason
        shown = [side.vocabulary.show(3) for side in (draft, target)]
        assert f"(id 3 is {shown[0]} in draft and {shown[1]} in target)" in said[engine].reason
    assert "transplant" in said["transformers-universal"].advice
    assert said["vllm-tli"].yes


def test_a_few_tokens_may_differ_where_sizes_are_compared(side_of: Make) -> None:
    def some(count: int) -> Edit:
        def edit(specification: dict[str, Any]) -> None:
            vocabulary = specification["model"]["vocab"]
            specification["model"]["vocab"] = {
                f"planted{n}" if 1000 <= n < 1000 + count else token: n
                for token, n in vocabulary.items()
            }

        return edit

    target = side_of("llama2", "target")
    few = verdicts(side_of("llama2", "few", edit=some(319)), target)
    many = verdicts(side_of("llama2", "many", edit=some(320)), target)
    for engine in ("transformers", "vllm"):
        assert few[engine].yes
        assert (
            "319 of 31,997 tokens differ and cannot be drafted (id 1000 is " in few[engine].reason
        )
        assert not many[engine].yes


def test_common_tokens_are_counted_whatever_marks_the_space(side_of: Make) -> None:
    byte_level, marked = side_of("gpt2", "a"), side_of("llama2", "b")
    found = compare(byte_level, marked)
    ours = {s.replace("Ġ", " ") for s in byte_level.vocabulary.strings}
    theirs = {s.replace("▁", " ") for s in marked.vocabulary.strings}
    # Tokens with a space inside or several spaces are the only ones that the two counts differ in.
    assert abs(found.common - len(ours & theirs)) < 50
    assert found.common > 5_000
    assert f"{found.common:,} tokens" in verdicts(byte_level, marked)["vllm-tli"].reason


def test_tli_needs_a_token_for_what_is_not_shared(side_of: Make) -> None:
    target = side_of("gpt2", "target")
    draft = replace(target, name="draft", vocabulary=replace(target.vocabulary, roles={}))
    said = verdicts(draft, target)["vllm-tli"]
    assert not said.yes
    assert "draft has neither an unknown token nor an end of text" in said.reason


def test_a_config_without_a_size_is_refused(shared: Path, tmp_path: Path) -> None:
    tokenizer = (shared / "tokenizers" / "gpt2" / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(tokenizer)
    with pytest.raises(TokswapError, match=r"has no config\.json, so it is no model"):
        open_side(Checkpoint.open(str(tmp_path)))
    (tmp_path / "config.json").write_text('{"model_type": "never-heard-of"}')
    with pytest.raises(TokswapError, match=r"config\.json without vocab_size"):
        open_side(Checkpoint.open(str(tmp_path)))


def test_a_model_that_transformers_does_not_know(shared: Path, tmp_path: Path) -> None:
    tokenizer = (shared / "tokenizers" / "gpt2" / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(tokenizer)
    config = {"model_type": "never-heard-of", "vocab_size": 50257, "eos_token_id": 50256}
    (tmp_path / "config.json").write_text(json.dumps(config))
    side = open_side(Checkpoint.open(str(tmp_path)))
    said = verdicts(side, side)
    assert {engine for engine, v in said.items() if v.yes} == {"vllm", "vllm-tli", "llama.cpp"}
    assert "the installed transformers cannot read the config of" in said["transformers"].reason


# transformers: the verdict is what generate() does

SMALL = {
    "vocab_size": 400,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
STATE = {"vocab_size": 400, "hidden_size": 16, "num_hidden_layers": 2}
HYBRID = {
    **SMALL,
    "layer_types": ["linear_attention", "full_attention"],
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "head_dim": 8,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", SMALL),
    "wider": ("Llama", SMALL | {"vocab_size": 408}),
    "gpt2": ("GPT2", {"vocab_size": 400, "n_embd": 16, "n_layer": 1, "n_head": 2}),
    "mamba": ("Mamba", STATE),
    "hybrid": ("Qwen3Next", HYBRID),
    "static": ("Llama", SMALL),
}


@pytest.fixture(scope="module")
def small(byte_level: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Random models with one tokenizer, each with its side; made once."""
    made: dict[str, tuple[Any, Side]] = {}
    transformers.logging.set_verbosity_error()

    def make(kind: str) -> tuple[Any, Side]:
        if kind not in made:
            name, settings = KINDS[kind]
            torch.manual_seed(0)
            config = getattr(transformers, f"{name}Config")(
                **settings, bos_token_id=0, eos_token_id=0, pad_token_id=0
            )
            model = transformers.AutoModelForCausalLM.from_config(config).eval()
            folder = tmp_path_factory.mktemp(kind)
            if kind == "static":
                model.generation_config.cache_implementation = "static"
            model.config.architectures = [type(model).__name__]
            model.config.save_pretrained(folder)
            model.generation_config.save_pretrained(folder)
            byte_level.save(str(folder / "tokenizer.json"))
            made[kind] = model, open_side(Checkpoint.open(str(folder)))
        return made[kind]

    return make


@pytest.mark.parametrize(
    ("draft", "target", "yes"),
    [
        ("gpt2", "llama", True),
        ("hybrid", "llama", True),
        ("llama", "wider", False),
        ("wider", "llama", False),
        ("mamba", "llama", False),
        ("llama", "mamba", False),
        ("llama", "hybrid", False),
        ("llama", "static", False),
        ("static", "llama", False),
    ],
)
@pytest.mark.parametrize("way", ["transformers", "transformers-universal"])
@pytest.mark.filterwarnings("ignore")
def test_transformers_does_what_the_verdict_says(
    small: Any, byte_level: Tokenizer, draft: str, target: str, yes: bool, way: str
) -> None:
    (assistant, ours), (model, theirs) = small(draft), small(target)
    given: dict[str, Any] = {"assistant_model": copy.deepcopy(assistant)}
    if way == "transformers-universal":
        yes = "wider" in {draft, target}  # both tokenizers, where the sizes are unequal
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=byte_level)
        given |= {"tokenizer": fast, "assistant_tokenizer": copy.deepcopy(fast)}
    said = verdicts(ours, theirs)[way]
    assert said.yes == yes, said.reason
    ids = torch.tensor([byte_level.encode("The quick brown fox").ids])
    model = copy.deepcopy(model)

    def assisted() -> torch.Tensor:
        found: torch.Tensor = model.generate(ids, do_sample=False, max_new_tokens=8, **given)
        return found

    if yes:
        alone = model.generate(ids, do_sample=False, max_new_tokens=8)
        assert assisted().tolist() == alone.tolist()
    else:
        with pytest.raises((ValueError, AttributeError)):
            assisted()
