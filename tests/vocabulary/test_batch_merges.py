"""Merges over a batch against a recount after each, and what must never merge."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from tokswap.vocabulary.batch_merges import BatchMerger
from tokswap.vocabulary.boundary import Holds, holder
from tokswap.vocabulary.tokens import Vocabulary

Make = Callable[..., Vocabulary]
Load = Callable[[str], Vocabulary]
TOKENS = ["<s>", "a", "b", "c", "▁", "ab", "▁a", "ccc"]
FIRST = 10
"""Two rows without a token stand behind the vocabulary."""


@pytest.fixture
def vocabulary(make: Make) -> Vocabulary:
    return make(TOKENS, special=["<s>"])


def short(data: bytes) -> bool:
    return len(data) <= 6 and b" " not in data[1:]


class Recount:
    """The algorithm as it is said: all pairs are counted anew for each merge."""

    def __init__(self, sequences: Sequence[Sequence[int]], vocabulary: Vocabulary, holds: Holds):
        self.now = [list(sequence) for sequence in sequences]
        self.vocabulary, self.holds = vocabulary, holds
        self.bytes = {n: vocabulary.spelling[n] for n in vocabulary.ids.values()}
        self.new: list[bytes] = []

    def merge(self) -> bool:
        counts = Counter(pair for sequence in self.now for pair in pairwise(sequence))
        for (a, b), _ in sorted(counts.items(), key=lambda found: (-found[1], found[0])):
            if a in self.bytes and b in self.bytes and self.holds(self.bytes[a] + self.bytes[b]):
                self._apply(a, b)
                return True
        return False

    def _apply(self, a: int, b: int) -> None:
        data = self.bytes[a] + self.bytes[b]
        known = {spelling: number for number, spelling in self.bytes.items()}
        number = self.vocabulary.ids.get(data, known.get(data, FIRST + len(self.new)))
        if number == FIRST + len(self.new):
            self.new.append(data)
        self.bytes[number] = data
        for place, sequence in enumerate(self.now):
            found: list[int] = []
            for token in sequence:
                if found and found[-1] == a and token == b:
                    found[-1] = number
                else:
                    found.append(token)
            self.now[place] = found


def random_batch(seed: int) -> list[list[int]]:
    chance = random.Random(seed)  # noqa: S311
    letters = chance.choices(range(len(TOKENS)), k=4)  # few, so that runs occur
    return [chance.choices(letters, k=chance.randrange(30)) for _ in range(chance.randrange(1, 6))]


@pytest.mark.parametrize("seed", range(60))
def test_each_merge_is_that_of_a_recount(vocabulary: Vocabulary, seed: int) -> None:
    batch = random_batch(seed)
    merger = BatchMerger(batch, vocabulary, short, FIRST)
    slow = Recount(batch, vocabulary, short)
    assert merger.sequences() == batch
    merges = 0
    while slow.merge():
        merges += 1
        assert merger.merge(merges)
        assert merger.sequences() == slow.now
        assert merger.tokens == slow.new
        assert merger.totals[-1] == sum(map(len, slow.now))
    assert not merger.merge(merges + 1)
    assert merger.merges == merges
    assert len(merger.totals) == merges + 1


def test_steps_do_not_matter(vocabulary: Vocabulary) -> None:
    batch = random_batch(3)
    whole, parts = (BatchMerger(batch, vocabulary, short, FIRST) for _ in range(2))
    whole.merge(7)
    for step in (1, 2, 5, 7, 7):
        parts.merge(step)
    assert (whole.sequences(), whole.tokens) == (parts.sequences(), parts.tokens)


def test_the_text_stays_the_same_and_the_input_too(vocabulary: Vocabulary) -> None:
    batch = random_batch(5)
    before = [list(sequence) for sequence in batch]
    merger = BatchMerger(batch, vocabulary, short, FIRST)
    merger.merge(1000)
    assert batch == before

    def text(sequences: list[list[int]]) -> list[bytes]:
        return [b"".join(merger.spelling(n) or b"|" for n in sequence) for sequence in sequences]

    assert text(merger.sequences()) == text(before)
    assert sum(map(len, merger.sequences())) < sum(map(len, before))


def test_bytes_that_the_base_has_become_its_token(vocabulary: Vocabulary) -> None:
    merger = BatchMerger([[1, 2], [3, 3, 3]], vocabulary, short, FIRST)
    merger.merge(3)
    # "cc" is new, "ccc" and "ab" are the base's.
    assert merger.tokens == [b"cc"]
    assert merger.sequences() == [[5], [7]]


def test_a_run_is_merged_from_the_left_however_it_came_about(make: Make) -> None:
    vocabulary = make(["a", "bc", "ab", "c"])
    # The first of three "abc" is made last.
    merger = BatchMerger([[0, 1, 2, 3, 2, 3]], vocabulary, lambda _: True, FIRST)
    merger.merge(3)
    assert merger.tokens == [b"abc", b"abcabc"]
    assert merger.sequences() == [[FIRST + 1, FIRST]]


def test_special_and_unknown_ids_never_merge(vocabulary: Vocabulary) -> None:
    sequence = [0, 0, 1, 0, 9, 9, 2, 8]
    merger = BatchMerger([sequence], vocabulary, lambda _: True, FIRST)
    assert not merger.merge(5)
    assert merger.sequences() == [sequence]
    assert merger.merges == 0


@pytest.mark.parametrize("batch", [[], [[]], [[1]], [[], [1], []]])
def test_nothing_to_merge(vocabulary: Vocabulary, batch: list[list[int]]) -> None:
    merger = BatchMerger(batch, vocabulary, short, FIRST)
    assert not merger.merge(1)
    assert merger.sequences() == batch


def test_a_text_is_merged_within_its_pretokens(small: Load) -> None:
    vocabulary = small("byte-level")
    text = "The 🦊🦊 foxes and the other foxes, the 🦊 too.\n\n" * 3
    ids = vocabulary.backend.encode(text, add_special_tokens=False).ids
    merger = BatchMerger([ids], vocabulary, holder(vocabulary, "pretokens"), len(vocabulary))
    merger.merge(500)
    assert b"".join(map(merger.spelling, merger.sequences()[0])) == text.encode()
    cut = vocabulary.backend.pre_tokenizer.pre_tokenize_str(text)  # type: ignore[union-attr]
    # All that is left is whole pre-tokens; only two that stand side by side may be one by itself.
    assert len(merger.sequences()[0]) <= len(cut) < len(ids)
