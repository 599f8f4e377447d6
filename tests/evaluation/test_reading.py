"""What a base reads for a donor's tokens, on two tokenizers of a handful of tokens each."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.test_score import Uniform
from tokswap.evaluation.reading import Reading, plain_reading, spelt_reading
from tokswap.evaluation.score import tally_model
from tokswap.evaluation.texts import Text
from tokswap.evaluation.tokens import lengths_of
from tokswap.vocabulary.align import Alignment, align
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

Make = Callable[..., Text]
DONOR = ["a", "b", "c", "z", "ab", "abc", "cz", "<s>", "<x>", "<", ">", "x", "<unk>"]


def tokenizer(folder: Path, tokens: list[str], merges: list[str], special: list[str]) -> Vocabulary:
    """Write and read a byte-level tokenizer, with ``<s>`` to begin a text."""
    folder.mkdir()
    unknown = "<unk>" if "<unk>" in tokens else None
    said: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": tokens.index(token), "content": token, "single_word": False,
                "lstrip": False, "rstrip": False, "normalized": False, "special": True,
            }
            for token in special
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True
        },
        "model": {
            "type": "BPE", "dropout": None, "unk_token": unknown, "fuse_unk": False,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "byte_fallback": False,
            "vocab": {token: number for number, token in enumerate(tokens)}, "merges": merges,
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(said))
    roles = {"bos_token": "<s>"} | ({"unk_token": unknown} if unknown else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(roles))
    return load_vocabulary({path.name: path for path in folder.iterdir()}, name=folder.name)


def aligned(folder: Path, base: list[str]) -> Alignment:
    special = [token for token in ("<s>", "<unk>") if token in base]
    of_base = tokenizer(folder / "base", base, ["a b"], special)
    merges = ["a b", "ab c", "c z"]
    donor = tokenizer(folder / "donor", DONOR, merges, ["<s>", "<x>", "<unk>"])
    return align(of_base, donor, base_rows=len(base), rows=len(DONOR))


def spelt(alignment: Alignment) -> Reading:
    donor = alignment.donor
    return spelt_reading(alignment, lengths_of(donor), donor.roles["unk"])


def said(reading: Reading, alignment: Alignment, token: str) -> tuple[list[str], int, int, int]:
    """What is read for a token; whether nothing is, how often it is unknown, and its bytes."""
    numbers, lost = reading.read([DONOR.index(token)])
    pieces = torch.tensor(numbers, dtype=torch.int64)
    assert reading.ends[pieces].tolist() == [n == len(numbers) for n in range(1, len(numbers) + 1)]
    assert set(reading.token[pieces].tolist()) <= {DONOR.index(token)}
    assert reading.sizes is not None
    assert int(reading.sizes.min()) >= 0
    return (
        [alignment.base.strings[number] for number in reading.ids[pieces].tolist()],
        lost,
        int(reading.unknown[pieces].sum()),
        int(reading.sizes[pieces].sum()),
    )


BASE = ["<s>", "a", "b", "c", "ab", "<", ">", "x"]


@pytest.mark.parametrize("unknown", [False, True])
def test_tokens_are_read_as_the_base_would_write_them(tmp_path: Path, unknown: bool) -> None:
    alignment = aligned(tmp_path, BASE + ["<unk>"] * unknown)
    reading = spelt(alignment)
    assert reading.tokens == len(DONOR)
    nothing = (["<unk>"], 0, 1) if unknown else ([], 1, 0)
    expected: dict[str, tuple[list[str], int, int, int]] = {
        "a": (["a"], 0, 0, 1),
        "ab": (["ab"], 0, 0, 2),  # shared
        "abc": (["ab", "c"], 0, 0, 3),  # new
        "cz": (["c"], 0, 1, 2),  # half of it cannot be spelt
        "z": (*nothing, 1 if unknown else 0),
        "<s>": (["<s>"], 0, 0, 0),  # by its role
        "<x>": (["<", "x", ">"], 0, 0, 0),  # special to the donor alone
        "<unk>": (*nothing, 0),
    }
    assert {token: said(reading, alignment, token) for token in expected} == expected
    together, lost = reading.read([DONOR.index(token) for token in ("abc", "z", "a")])
    assert (len(together), lost) == ((4, 0) if unknown else (3, 1))


def test_tokens_without_a_row_in_the_base_are_not_read(tmp_path: Path) -> None:
    whole = aligned(tmp_path, BASE)
    short = align(whole.base, whole.donor, base_rows=len(BASE) - 1, rows=len(DONOR))
    reading = spelt(short)
    assert said(reading, short, "x") == ([], 1, 0, 0)
    assert said(reading, short, "<x>") == (["<", ">"], 0, 1, 0)
    assert int(reading.ids.max()) < len(BASE) - 1


def test_a_token_costs_what_its_pieces_cost_together(tmp_path: Path, text_of: Make) -> None:
    alignment = aligned(tmp_path, BASE)
    text = "abcazcz<x>"
    tokens = alignment.donor.backend.encode(text, add_special_tokens=False).tokens
    assert tokens == ["abc", "a", "z", "cz", "<x>"]
    score, tally = tally_model(
        Uniform(8), alignment.donor.backend, [text_of(text, "ab")], spelt(alignment),
        name="tiny", start_id=0, window=4, stride=2,
    )  # fmt: skip
    counts, nats = tally.by_token(len(DONOR) + 3)
    costs = {"abc": 2, "a": 1, "cz": 1, "<x>": 3, "ab": 1}
    for number, token in enumerate(DONOR):
        assert int(counts[number]) == (token in costs)
        assert nats[number].item() == pytest.approx(costs.get(token, 0) * math.log(8))
    assert counts[len(DONOR) :].tolist() == [0, 0, 0]
    # "z" is not read at all, "cz" in part; the bytes of both are the text's all the same.
    assert (score.tokens, score.unknown, score.bytes) == (5, 2, len(text) + 2)
    assert score.nats == pytest.approx(8 * math.log(8))
    assert score.token_perplexity == pytest.approx(math.exp(8 * math.log(8) / 5))
    groups = tally.groups(["short", "long"], torch.tensor([len(token) > 2 for token in DONOR]))
    assert [(groups[name].tokens, groups[name].bytes) for name in groups] == [(3, 5), (2, 3)]
    assert groups["long"].nats == pytest.approx(5 * math.log(8))


def test_without_a_start_the_first_piece_is_left_out(tmp_path: Path, text_of: Make) -> None:
    alignment = aligned(tmp_path, BASE)
    score, tally = tally_model(
        Uniform(8), alignment.donor.backend, [text_of("abca")], spelt(alignment),
        name="tiny", start_id=None, window=4, stride=2,
    )  # fmt: skip
    # Of "abc" only "c" is asked for.
    assert (score.tokens, score.bytes) == (2, 2)
    assert score.nats == pytest.approx(2 * math.log(8))
    groups = tally.groups(["all"], torch.zeros(len(DONOR)))
    assert (groups["all"].tokens, groups["all"].bytes) == (2, 2)


def test_a_plain_reading_is_the_tokens_themselves() -> None:
    reading = plain_reading(5, 3, torch.tensor([1, 2, 3, 4, 5, 6, 7]))
    assert reading.read([4, 3, 3]) == ([4, 3, 3], 0)
    assert reading.ids.tolist() == reading.token.tolist() == [0, 1, 2, 3, 4]
    assert reading.unknown.tolist() == [False, False, False, True, False]
    assert (reading.tokens, bool(reading.ends.all())) == (5, True)
    assert plain_reading(5, None, None).unknown.sum() == 0
