"""What is told of rows, against the whole table at once."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import cosine_similarity

import tokswap
from tokswap.errors import RecipeError, TokswapError
from tokswap.on_demand import describe as module
from tokswap.on_demand.describe import describe
from tokswap.on_demand.embedder import TokenEmbedder

Open = Callable[[str], TokenEmbedder]
TOKENS = [b" the", b" tokenizer", b"\xe2\x96"]


@pytest.mark.parametrize("at_once", [1000, 100_000])
def test_norms_and_neighbours(opened: Open, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    embedder = opened("tiny-mistral")
    found = describe(embedder, TOKENS, 4)
    used = torch.from_numpy(embedder.pair.alignment.used_base_ids)
    for role, rows in (("input", found.rows.inputs), ("output", found.rows.outputs)):
        table = embedder.table(role)[used].double()
        assert found.mean_norms[role] == pytest.approx(float(table.norm(dim=1).mean()))
        for token, row in zip(found.tokens, rows.double(), strict=True):
            said = token.roles[role]
            assert said.norm == pytest.approx(float(row.norm()))
            cosines = cosine_similarity(row[None], table, dim=1)
            if token.id is not None:
                cosines[used == token.id] = -2.0
            best = cosines.topk(4)
            assert [near.id for near in said.neighbours] == used[best.indices].tolist()
            torch.testing.assert_close(
                torch.tensor([near.cosine for near in said.neighbours]).double(),
                best.values,
                atol=1e-6,
                rtol=0,
            )


def test_what_is_said_of_each_text(opened: Open) -> None:
    embedder = opened("tiny-mistral")
    found = describe(embedder, [*TOKENS, b"<s>"], 0)
    the, tokenizer, part, special = found.tokens
    assert the.id == embedder.vocabulary.ids[b" the"]
    assert (the.text, tokenizer.text, part.text) == ("' the'", "' tokenizer'", r"b'\xe2\x96'")
    assert tokenizer.id is part.id is None
    spelt = b"".join(embedder.vocabulary.spelling[n] or b"" for n, _ in tokenizer.pieces)
    assert spelt == b" tokenizer"
    assert (special.id, special.special) == (None, embedder.vocabulary.special_ids["<s>"])
    assert the.roles["input"].neighbours == ()


def test_one_table_is_told_once(opened: Open) -> None:
    said = describe(opened("tiny-llama"), TOKENS, 2).to_dict()
    assert said["tied"]
    assert list(said["tokens"][0]["roles"]) == ["input"]
    assert said["tokens"][2]["bytes"] == "e296"
    assert len(said["tokens"][1]["roles"]["input"]["neighbours"]) == 2


def test_texts_are_their_bytes_whatever_these_are() -> None:
    argument = b"\xe2\x96".decode(errors="surrogateescape")  # as it comes from a shell
    found = tokswap.embed("tiny-llama", argument, b"\xe2\x96", method="mean")
    assert [token.bytes for token in found.tokens] == [b"\xe2\x96"] * 2
    assert found.method == "mean"


def test_nothing_to_look_at_is_refused() -> None:
    with pytest.raises(RecipeError, match="0 texts with 5 neighbours"):
        tokswap.embed("tiny-llama")
    with pytest.raises(RecipeError, match="1 texts with -1 neighbours"):
        tokswap.embed("tiny-llama", "a", neighbours=-1)
    with pytest.raises(TokswapError, match="did you mean 'tiny-llama'"):
        tokswap.embed("tiny-lama", "a")
