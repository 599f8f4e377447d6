"""Ids behind the vocabulary: a row is read wherever it stands, and the head stays as it is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from tokswap.errors import EvaluationError
from tokswap.evaluation.longer_input import LongerInput
from tokswap.evaluation.losses import Losses
from tokswap.evaluation.prefixes import Split
from tokswap.evaluation.windows import Window

S = 50
SMALL: dict[str, Any] = {
    "vocab_size": S,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.4,
}


def gpt2(positions: int) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=S, n_positions=positions, n_embd=16, n_layer=2, n_head=2, initializer_range=0.4
    )
    return GPT2LMHeadModel(config)


MODELS: dict[str, Callable[[], Any]] = {
    "padding at the end": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, pad_token_id=S - 1)),
    "tied, with positions": lambda: gpt2(64),
    "tied, scaled rows": lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8)),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


def random_splits(sizes: list[tuple[int, int]], rows: int = S) -> list[Split]:
    generator = torch.Generator().manual_seed(3)

    def ids(count: int, bound: int) -> list[int]:
        return torch.randint(0, bound, (count,), generator=generator).tolist()

    return [Split(ids(before, rows), ids(after, S)) for before, after in sizes]


RAGGED = random_splits([(9, 4), (3, 4), (5, 1), (1, 7), (9, 4)])


def test_without_more_rows_it_is_the_plain_model(model: Any) -> None:
    splits = random_splits([(6, 4)] * 5)
    windows = [Window([*s.prefix, *s.suffix[:-1]], s.suffix) for s in splits]
    plain = Losses(model, "m").of(windows).sum(dim=1).tolist()
    reader = LongerInput(model, "m")
    assert reader.nats(splits) == plain
    reader.set_rows(torch.randn(7, 16))
    assert reader.nats(splits) == plain


def test_a_planted_row_is_read_like_the_tokens(model: Any) -> None:
    reader = LongerInput(model, "m")
    plain = reader.nats(RAGGED)
    place = {number: S + rank for rank, number in enumerate(range(3, S))}
    reader.set_rows(model.get_input_embeddings().weight.detach()[3:])
    moved = [Split([place.get(n, n) for n in s.prefix], s.suffix) for s in RAGGED]
    assert moved != RAGGED
    assert reader.nats(moved) == plain
    reader.set_rows(torch.zeros(S - 3, 16))
    assert reader.nats(moved) != pytest.approx(plain)


def test_splits_of_any_length_do_not_disturb_each_other(model: Any) -> None:
    reader = LongerInput(model, "m")
    alone = [reader.nats([split])[0] for split in RAGGED]
    assert reader.nats(RAGGED) == pytest.approx(alone, rel=1e-5)


def test_the_model_stays_as_it_was(model: Any) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    reader = LongerInput(model, "m")
    reader.check([1, 2, 3])
    for count in (1, 2, 30, 3):  # the table grows, and is written over
        reader.set_rows(torch.randn(count, 16))
        reader.nats([Split([1, S + count - 1], [2, 3])])
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert model(torch.tensor([[1, 2]])).logits.shape == (1, 2, S)


class Marked(LlamaForCausalLM):
    """A model that goes by the number of a token, too, as those do that keep pictures apart."""

    def forward(self, input_ids: Tensor, **options: Any) -> Any:
        out = super().forward(input_ids, **options)
        out.logits[..., 0] += (input_ids >= S).any()
        return out


class Beside(LlamaForCausalLM):
    """A model that looks up something else for each token."""

    def forward(self, input_ids: Tensor, **options: Any) -> Any:
        out = super().forward(input_ids, **options)
        out.logits[..., 0] += torch.ones(S)[input_ids[:, -1:]]
        return out


@pytest.mark.parametrize("kind", [Marked, Beside])
def test_a_model_that_goes_by_ids_is_refused(kind: type[LlamaForCausalLM]) -> None:
    torch.manual_seed(0)
    reader = LongerInput(kind(LlamaConfig(**SMALL)).eval(), "marked")
    with pytest.raises(EvaluationError, match="marked does more with a token than to read its row"):
        reader.check([1, 2, 3])


class Hashed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(S, 16))


def test_another_kind_of_embedding_is_refused() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SMALL))
    model.set_input_embeddings(Hashed())
    with pytest.raises(EvaluationError, match="looks up its tokens in a Hashed"):
        LongerInput(model, "hashed")


def test_what_fails_in_the_model_is_told() -> None:
    reader = LongerInput(gpt2(4).eval(), "m")
    with pytest.raises(EvaluationError, match="m cannot be run on 1 windows of 9 tokens"):
        reader.nats([Split([1] * 5, [2] * 5)])
