import inspect
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from tokswap.errors import EvaluationError
from tokswap.evaluation import losses
from tokswap.evaluation.load import load_for_scoring
from tokswap.evaluation.score import Score, score_model
from tokswap.evaluation.streaming import stream_ids
from tokswap.evaluation.texts import Text

LONG = "The quick brown fox jumps over the lazy dog, and naïve 😀 it sleeps 365 days.\n" * 3
SHORT = "Привет, the old tree"
Make = Callable[..., Text]


def score(model: Any, tokenizer: Tokenizer, *texts: Text, **settings: Any) -> Score:
    chosen = {"name": "tiny", "start_id": 0, "window": 32, "stride": 16} | settings
    return score_model(model, tokenizer, texts, **chosen)


@torch.no_grad()
def plain_nats(model: Any, tokenizer: Tokenizer, text: str, window: int, stride: int) -> float:
    """Token by token, in float64: what each costs after the tokens that its window shows."""
    ids = [0, *tokenizer.encode(text).ids]
    nats = 0.0
    for position in range(1, len(ids)):
        # The first window ends before position window + 1, later ones lie `stride` further.
        moves = max(0, math.ceil((position - window) / stride))
        end = min(window + moves * stride, len(ids) - 1)
        seen = ids[max(0, end - window) : position]
        logits = model(torch.tensor([seen])).logits[0, -1].double()
        nats -= logits.log_softmax(-1)[ids[position]].item()
    return nats


class Uniform(torch.nn.Module):
    """Knows nothing: each of ``width`` tokens is as likely as the next; no logits_to_keep."""

    def __init__(self, rows: int, width: int | None = None, level: float = 3.0) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(rows, 1)
        self.width = width or rows
        self.level = level
        self.shapes: list[torch.Size] = []

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.embedding

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        self.shapes.append(input_ids.shape)
        return SimpleNamespace(logits=torch.full((*input_ids.shape, self.width), self.level))


@pytest.mark.parametrize(("window", "stride"), [(32, 16), (32, 32), (32, 1), (20, 7), (128, 64)])
def test_bits_per_byte_is_that_of_a_plain_loop(
    llama: LlamaForCausalLM, byte_level: Tokenizer, text_of: Make, window: int, stride: int
) -> None:
    found = score(llama, byte_level, text_of(LONG), window=window, stride=stride)
    nats = plain_nats(llama, byte_level, LONG, window, stride)
    tokens = len(byte_level.encode(LONG).ids)
    assert (found.tokens, found.bytes) == (tokens, len(LONG.encode()))
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / len(LONG.encode()), rel=1e-5)
    assert found.token_perplexity == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert found.tokens_per_byte == pytest.approx(tokens / len(LONG.encode()))


def test_a_document_of_one_window_costs_what_the_model_itself_says(
    llama: LlamaForCausalLM, byte_level: Tokenizer, text_of: Make
) -> None:
    found = score(llama, byte_level, text_of(SHORT), window=128, stride=64)
    ids = torch.tensor([[0, *byte_level.encode(SHORT).ids]])
    with torch.no_grad():
        loss = llama(ids, labels=ids).loss.item()
    assert found.nats / found.tokens == pytest.approx(loss, rel=1e-5)


def test_a_trained_model_scores_what_was_measured_for_it(shared: Path) -> None:
    model, tokenizer = load_for_scoring(shared / "models/base", device="cpu", dtype=None)
    path = shared / "text/udhr/eng.txt"
    text = path.read_text("utf-8")[:1_500]
    found = score(model, tokenizer, Text("eng", lambda: iter([iter([text])])), window=512)
    ids = torch.tensor([[0, *tokenizer.encode(text, add_special_tokens=False).ids]])
    with torch.no_grad():
        nats = model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
    assert ids.shape[1] <= 512
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / len(text.encode()), rel=1e-5)
    assert 1 < found.bits_per_byte < 3


@pytest.mark.parametrize("document", [SHORT, LONG])
def test_a_uniform_model_costs_log2_of_its_rows_a_token(
    byte_level: Tokenizer, text_of: Make, document: str
) -> None:
    found = score(Uniform(512), byte_level, text_of(document))
    tokens = len(byte_level.encode(document).ids)
    assert found.bits_per_byte == pytest.approx(tokens * 9 / len(document.encode()), rel=1e-6)
    assert found.token_perplexity == pytest.approx(512, rel=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 64, 100, 10_000])
def test_the_batch_size_does_not_matter(
    llama: LlamaForCausalLM, byte_level: Tokenizer, text_of: Make, batch_tokens: int
) -> None:
    texts = (text_of(LONG, SHORT, LONG[:50]), text_of(SHORT, LONG, name="second"))
    expected = score(llama, byte_level, *texts)
    found = score(llama, byte_level, *texts, batch_tokens=batch_tokens)
    assert found.nats == pytest.approx(expected.nats, rel=1e-6)
    for text, other in zip(found.texts, expected.texts, strict=True):
        assert text.bits_per_byte == pytest.approx(other.bits_per_byte, rel=1e-6)
        assert (text.tokens, text.bytes) == (other.tokens, other.bytes)


def test_batches_are_as_large_as_asked(byte_level: Tokenizer, text_of: Make) -> None:
    model = Uniform(512)
    score(model, byte_level, text_of(*[SHORT] * 8), batch_tokens=10_000)
    score(model, byte_level, text_of(*[SHORT] * 8), batch_tokens=1)
    assert [shape[0] for shape in model.shapes] == [8] + [1] * 8


def test_logits_held_at_once_are_bounded(
    llama: LlamaForCausalLM, byte_level: Tokenizer, text_of: Make, monkeypatch: Any
) -> None:
    expected = score(llama, byte_level, text_of(LONG * 3))
    rows = byte_level.get_vocab_size()
    monkeypatch.setattr(losses, "LOGITS_BYTES", 2 * 16 * rows * 4)
    taken: list[torch.Size] = []
    hook = llama.lm_head.register_forward_hook(lambda *args: taken.append(args[2].shape))
    found = score(llama, byte_level, text_of(LONG * 3))
    hook.remove()
    # Two windows at a time, and of them only the positions that are asked.
    assert {tuple(shape) for shape in taken} >= {(1, 32, rows), (2, 16, rows)}
    assert max(shape[0] * shape[1] for shape in taken) == 32
    assert found.nats == pytest.approx(expected.nats, rel=1e-6)
    assert "logits_to_keep" in inspect.signature(llama.forward).parameters


def test_a_model_without_logits_to_keep_is_measured_alike(
    llama: LlamaForCausalLM, byte_level: Tokenizer, text_of: Make
) -> None:
    class Plain(Uniform):
        def forward(self, input_ids: torch.Tensor) -> Any:
            return llama(input_ids)

    plain = Plain(byte_level.get_vocab_size())
    expected = score(llama, byte_level, text_of(LONG, SHORT))
    assert score(plain, byte_level, text_of(LONG, SHORT)).nats == pytest.approx(expected.nats)


def test_texts_add_up(llama: LlamaForCausalLM, byte_level: Tokenizer, text_of: Make) -> None:
    first, second = text_of(LONG, SHORT, name="first"), text_of(SHORT, name="second")
    both = score(llama, byte_level, first, second)
    alone = [score(llama, byte_level, text) for text in (first, second)]
    apart = [score(llama, byte_level, text_of(document)) for document in (LONG, SHORT)]
    assert both.nats == pytest.approx(sum(one.nats for one in alone))
    assert alone[0].nats == pytest.approx(sum(one.nats for one in apart))
    assert both.tokens == sum(one.tokens for one in alone)
    assert both.bytes == sum(one.bytes for one in alone)
    assert [text.name for text in both.texts] == ["first", "second"]
    for text, one in zip(both.texts, alone, strict=True):
        assert text.bits_per_byte == pytest.approx(one.bits_per_byte)
    # The text can be opened again, as each model of a comparison does.
    assert score(llama, byte_level, first, second) == both


def lengths_of(tokenizer: Tokenizer) -> torch.Tensor:
    """Bytes of the tokens of a byte-level tokenizer: one for each character of their names."""
    names = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    return torch.tensor([len(name) for name in names])


def test_groups_add_up_to_the_whole(
    llama: LlamaForCausalLM, byte_level: Tokenizer, text_of: Make
) -> None:
    lengths = lengths_of(byte_level)
    found = score(
        llama,
        byte_level,
        text_of(LONG, SHORT),
        group_of=(lengths > 2).long(),
        group_names=["short", "long", "none"],
        token_bytes=lengths,
    )
    short, long, none = (found.groups[name] for name in ("short", "long", "none"))
    assert short.tokens + long.tokens == found.tokens
    assert short.bytes + long.bytes == found.bytes
    assert short.nats + long.nats == pytest.approx(found.nats)
    assert long.bits_per_byte == pytest.approx(long.nats / math.log(2) / long.bytes)
    assert long.token_perplexity == pytest.approx(math.exp(long.nats / long.tokens))
    ids = byte_level.encode(LONG).ids + byte_level.encode(SHORT).ids
    assert long.tokens == sum(int(lengths[i]) > 2 for i in ids)
    assert (none.tokens, none.bits_per_byte, none.token_perplexity) == (0, None, None)


def test_groups_without_their_lengths_are_refused(byte_level: Tokenizer, text_of: Make) -> None:
    groups = torch.zeros(512, dtype=torch.long)
    with pytest.raises(ValueError, match="group_of needs token_bytes of the same shape"):
        score(Uniform(512), byte_level, text_of(SHORT), group_of=groups, group_names=["all"])
    with pytest.raises(ValueError, match="outside of the 0 group_names"):
        score(Uniform(512), byte_level, text_of(SHORT), group_of=groups, token_bytes=groups)


def test_without_a_start_token_the_first_token_is_left_out(
    byte_level: Tokenizer, text_of: Make
) -> None:
    lengths = lengths_of(byte_level)
    settings = {"start_id": None, "token_bytes": lengths}
    found = score(Uniform(512), byte_level, text_of(SHORT, LONG), **settings)
    ids = [byte_level.encode(document).ids for document in (SHORT, LONG)]
    assert found.tokens == sum(map(len, ids)) - 2
    missed = int(lengths[ids[0][0]] + lengths[ids[1][0]])
    assert found.bytes == len((SHORT + LONG).encode()) - missed
    unknown = score(Uniform(512), byte_level, text_of(SHORT, LONG), start_id=None)
    assert unknown.bytes == len((SHORT + LONG).encode())


def test_a_text_of_which_nothing_is_predicted_is_refused(
    sentencepiece: Tokenizer, text_of: Make
) -> None:
    # The dummy space takes the only byte away, and what stands for it is asked for no byte.
    assert len(sentencepiece.encode("\n").ids) == 2
    lengths = torch.ones(sentencepiece.get_vocab_size(), dtype=torch.long)
    model = Uniform(sentencepiece.get_vocab_size())
    with pytest.raises(EvaluationError, match="nothing to score"):
        score(model, sentencepiece, text_of("\n"), start_id=None, token_bytes=lengths)


@pytest.mark.parametrize("start_id", [0, None])
def test_a_long_document_is_scored_as_a_stream(
    llama: LlamaForCausalLM,
    byte_level: Tokenizer,
    text_of: Make,
    monkeypatch: pytest.MonkeyPatch,
    start_id: int | None,
) -> None:
    texts = (text_of(LONG * 3, "", SHORT),)
    settings = {"start_id": start_id, "token_bytes": lengths_of(byte_level)}
    expected = score(llama, byte_level, *texts, **settings)
    monkeypatch.setattr("tokswap.evaluation.score.stream_ids", partial(stream_ids, piece=100))
    assert score(llama, byte_level, *texts, **settings) == expected


def test_unknown_tokens_are_counted(byte_level: Tokenizer, text_of: Make) -> None:
    comma = byte_level.token_to_id(",")
    found = score(Uniform(512), byte_level, text_of(LONG), unk_id=comma)
    assert found.unknown == byte_level.encode(LONG).ids.count(comma) > 0
    assert score(Uniform(512), byte_level, text_of(LONG)).unknown == 0


def test_a_score_goes_through_json(byte_level: Tokenizer, text_of: Make) -> None:
    lengths = lengths_of(byte_level)
    found = score(
        Uniform(512),
        byte_level,
        text_of(SHORT),
        group_of=torch.zeros_like(lengths),
        group_names=["all"],
        token_bytes=lengths,
    )
    record = found.to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["texts"][0]["name"] == "given"
    assert record["groups"]["all"]["tokens"] == found.tokens
    assert (record["window"], record["stride"], record["dtype"]) == (32, 16, "float32")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 1, "stride": 1}, "window 1 is too short to predict in; give 2 or more"),
        ({"stride": 0}, "stride 0 does not fit window 32: .* 16 is a good choice"),
        ({"stride": 33}, "stride 33 does not fit window 32"),
        ({"window": 129}, "window 129 is longer than the 128 positions of tiny; give 128 or"),
        ({"start_id": 9_999}, r"start token 9999 is none of the \d+ embedding rows of tiny"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    llama: LlamaForCausalLM, byte_level: Tokenizer, text_of: Make, settings: Any, message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        score(llama, byte_level, text_of(SHORT), **settings)


def test_ids_without_a_row_are_refused(byte_level: Tokenizer, text_of: Make) -> None:
    top = max(byte_level.encode(LONG).ids)
    with pytest.raises(EvaluationError, match=rf"id {top}, but tiny has rows for {top} tokens"):
        score(Uniform(top), byte_level, text_of(LONG))
    with pytest.raises(EvaluationError, match=rf"head of tiny has {top} rows.* id {top}; give"):
        score(Uniform(top + 1, width=top), byte_level, text_of(LONG))
    assert score(Uniform(top + 1), byte_level, text_of(LONG)).tokens > 0


@pytest.mark.parametrize("level", [math.nan, math.inf])
def test_losses_that_are_no_numbers_are_refused(
    byte_level: Tokenizer, text_of: Make, level: float
) -> None:
    with pytest.raises(EvaluationError, match=r"tiny gives losses that are not finite .* float32"):
        score(Uniform(512, level=level), byte_level, text_of(SHORT))


@pytest.mark.parametrize("documents", [(), ("",), ("", "")])
def test_a_text_without_text_is_refused(
    byte_level: Tokenizer, text_of: Make, documents: tuple[str, ...]
) -> None:
    with pytest.raises(EvaluationError, match="empty gives tiny nothing to score; give a text"):
        score(Uniform(512), byte_level, text_of(SHORT), text_of(*documents, name="empty"))


def test_a_model_that_fails_is_told_in_a_sentence(byte_level: Tokenizer, text_of: Make) -> None:
    class Short(Uniform):
        def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
            raise IndexError("index out of\n range")

    model = Short(byte_level.get_vocab_size())
    with pytest.raises(EvaluationError, match=r"tokens \(index out of range\); give a shorter"):
        score(model, byte_level, text_of("some text to be read"))
