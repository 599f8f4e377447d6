"""What the cut costs by kind of text: planted answers, and what must add up on real cuts."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.test_reading import BASE, DONOR, aligned, spelt, tokenizer
from evaluation.test_swapped import LLAMA, MISTRAL, recipe_of
from tokswap.evaluation.cut_cost import NO_TEXT, Kinds, by_kind, cut_cost, scored_pieces
from tokswap.evaluation.figures import Tally
from tokswap.evaluation.swapped import SwappedModel
from tokswap.evaluation.texts import Text
from tokswap.pair import open_pair
from tokswap.vocabulary.align import align
from tokswap.vocabulary.kinds import byte_kind

BIT = math.log(2)
SENTENCE = "On 12 May 2024\r\n\tx = f(7)  # naïve, Привет! 世界\n\nin all 1,234.5\n"


def text(content: str) -> Text:
    return Text("text", lambda: iter([iter([content])]))


def test_nats_are_spread_evenly_over_the_bytes_of_a_piece() -> None:
    pieces = [(b" 12", 2, 3 * BIT), (b"a", 1, 5 * BIT), (b"\n", 4, 2 * BIT), (b"", 3, 7 * BIT)]
    pieces += [(b"\xd0", 1, 1 * BIT), ("é!".encode(), 1, 3 * BIT), (b"3\t", 1, 0.0)]
    found = by_kind(pieces, 10)
    assert {kind: part["bytes"] for kind, part in found.items()} == {
        "letters": 1, "digits": 5, "spaces": 3, "line ends": 4, "punctuation": 1,
        "beyond ASCII": 3, NO_TEXT: 0,
    }  # fmt: skip
    assert {kind: part["of_total"] for kind, part in found.items()} == pytest.approx(
        {"letters": 0.5, "digits": 0.2, "spaces": 0.1, "line ends": 0.2, "punctuation": 0.1,
         "beyond ASCII": 0.3, NO_TEXT: 0.7}
    )  # fmt: skip
    assert by_kind([], 10) == {}


def kinds(**costs: tuple[int, float]) -> Kinds:
    named = ((name.replace("_", " "), cost) for name, cost in costs.items())
    return {name: {"bytes": size, "of_total": bits} for name, (size, bits) in named}


def test_kinds_that_carry_the_cost_are_named_the_worst_first() -> None:
    own = kinds(letters=(70, 1.0), digits=(5, 0.2), spaces=(20, 0.6), line_ends=(5, 0.2))
    floor = kinds(letters=(70, 1.1), digits=(5, 0.3), spaces=(20, 0.8), line_ends=(5, 0.21))
    found = cut_cost(own, floor)
    assert found.bits_per_byte == pytest.approx(0.41)
    assert found.kinds == pytest.approx(
        {"letters": 0.1, "digits": 0.1, "spaces": 0.2, "line ends": 0.01}
    )
    assert found.of_bytes == {"letters": 0.7, "digits": 0.05, "spaces": 0.2, "line ends": 0.05}
    # Letters cost as much as digits, but less than their part of the text.
    assert found.causes == ("spaces", "digits")
    assert found.to_dict()["kinds"]["spaces"] == pytest.approx(
        {"bits_per_byte": 0.2, "of_bytes": 0.2}
    )


@pytest.mark.parametrize(
    ("floor", "causes"),
    [
        ({"digits": (10, 0.6), "letters": (90, 2.0)}, ("digits",)),
        ({"digits": (10, 0.511), "letters": (90, 2.009)}, ()),  # less than 1 % in all
        ({"digits": (10, 0.58), "letters": (90, 2.42)}, ()),  # less than a fifth of it
        ({"digits": (10, 0.4), "letters": (90, 1.9)}, ()),  # nothing is lost
        ({"digits": (10, 0.7), "letters": (90, 1.95)}, ("digits",)),  # more than all of it
        ({"digits": (10, 0.5), "letters": (90, 2.0), NO_TEXT: (0, 0.5)}, ()),  # no text
    ],
)
def test_what_does_not_carry_it_is_not_named(floor: Any, causes: tuple[str, ...]) -> None:
    own = kinds(digits=(10, 0.5), letters=(90, 2.0))
    given = {name: {"bytes": size, "of_total": bits} for name, (size, bits) in floor.items()}
    assert cut_cost(own, given).causes == causes


def test_what_is_not_spelt_takes_the_bytes_of_the_text(tmp_path: Path) -> None:
    alignment = aligned(tmp_path, [*BASE, "<unk>"])
    reading, tally = spelt(alignment), Tally(spelt(alignment))
    for token, nats in (("abc", 1.0), ("cz", 2.0), ("z", 3.0), ("<x>", 4.0), ("<unk>", 5.0)):
        pieces, _ = reading.read([DONOR.index(token)])
        tally.add(torch.tensor([pieces]), torch.full((1, len(pieces)), nats).double())
    assert sorted(scored_pieces(tally, alignment.base, alignment.donor)) == [
        (b"", 1, 5.0), (b"<", 1, 4.0), (b">", 1, 4.0), (b"ab", 1, 1.0), (b"c", 1, 1.0),
        (b"cz", 1, 2.0), (b"x", 1, 4.0), (b"z", 1, 3.0),
    ]  # fmt: skip


def test_what_is_spelt_in_part_has_each_byte_once(tmp_path: Path) -> None:
    base = tokenizer(tmp_path / "base", ["<s>", "a", "b"], [], ["<s>"])
    donor = tokenizer(tmp_path / "donor", DONOR, ["a b", "ab c", "c z"], ["<s>", "<x>", "<unk>"])
    reading = spelt(align(base, donor, base_rows=len(base), rows=len(DONOR)))
    tally = Tally(reading)
    pieces, _ = reading.read([DONOR.index("abc")])
    tally.add(torch.tensor([pieces]), torch.ones(1, 2).double())
    assert list(scored_pieces(tally, base, donor)) == [(b"a", 1, 1.0), (b"bc", 1, 1.0)]


@pytest.mark.parametrize("pair", [(LLAMA, MISTRAL), (MISTRAL, LLAMA)])
def test_both_cuts_have_the_bytes_of_the_text_and_the_costs_add_up(pair: tuple[str, str]) -> None:
    model = SwappedModel.load(open_pair(recipe_of(*pair)))
    seen = {"window": 64, "stride": 32}
    own, floor = model.own([text(SENTENCE)], **seen), model.floor([text(SENTENCE)], **seen)
    expected = Counter(byte_kind(byte) for byte in SENTENCE.encode())
    for found, cutter in ((own, pair[0]), (floor, pair[1])):
        # tiny-mistral puts a dummy space before a document.
        more = {"spaces": 1} if cutter == MISTRAL else {}
        assert {k: part["bytes"] for k, part in found.kinds.items()} == expected + Counter(more)
        of_total = sum(part["of_total"] for part in found.kinds.values())
        assert of_total == pytest.approx(found.score.bits_per_byte)
    cost = cut_cost(own.kinds, floor.kinds).bits_per_byte
    assert cost == pytest.approx(floor.score.bits_per_byte - own.score.bits_per_byte)


def test_single_digits_are_found_to_be_the_cause() -> None:
    """tiny-llama reads numbers in groups of three, tiny-mistral in single digits."""
    model = SwappedModel.load(open_pair(recipe_of(LLAMA, MISTRAL)))
    numbers = text("".join(f"{n * 7919 % 900000 + 100000} apples, " for n in range(120)))
    seen = {"window": 64, "stride": 32}
    own, floor = model.own([numbers], **seen), model.floor([numbers], **seen)
    found = cut_cost(own.kinds, floor.kinds)
    assert found.causes[0] == "digits"
    assert found.kinds["digits"] > 0.5 * found.bits_per_byte > 0
