"""New merges: what they make, what they need on the way, and what they leave as it was."""

import json
import random
from collections.abc import Callable

import pytest

from tokswap.errors import VocabularyError
from tokswap.vocabulary.extend import read_merges
from tokswap.vocabulary.merges import join, new_merges
from tokswap.vocabulary.tokens import Vocabulary

LETTERS = "abcdexy"


def ranks_of(merges: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    return {pair: rank for rank, pair in enumerate(merges)}


def words(seed: int, count: int = 300) -> list[str]:
    rng = random.Random(seed)  # noqa: S311 - no secret
    return ["".join(rng.choices(LETTERS, k=rng.randint(1, 9))) for _ in range(count)]


def random_model(seed: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Merges that make a token of two earlier ones, and a few tokens that no merge makes."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    tokens, merges = list(LETTERS), []
    for _ in range(12):
        pair = rng.choice(tokens), rng.choice(tokens)
        if "".join(pair) not in tokens and len("".join(pair)) < 5:
            tokens.append("".join(pair))
            merges.append(pair)
    return [*tokens, *(w for w in words(seed + 1, 5) if w not in tokens)], merges


@pytest.mark.parametrize("name", ["byte-level", "split"])
def test_merges_join_as_the_library_joins(name: str, small: Callable[[str], Vocabulary]) -> None:
    vocabulary = small(name)
    merges = read_merges(vocabulary.specification["model"])
    for word in ["theretherethe", "overlazy", "aaaa", "sleepsunder", "x", "hoursdog"]:
        assert join(word, ranks_of(merges)) == vocabulary.backend.encode(word).tokens


@pytest.mark.parametrize("seed", range(20))
def test_every_target_becomes_one_token_and_other_text_stays(seed: int) -> None:
    tokens, merges = random_model(seed)
    targets = list(dict.fromkeys(w for w in words(seed + 2, 20) if len(w) > 1 and w not in tokens))
    found = new_merges(targets, tokens=tokens, merges=merges)
    old, new = ranks_of(merges), ranks_of([*merges, *found.pairs])
    for target in targets:
        assert join(target, new) == [target]
    assert not {*found.intermediates} & {*tokens, *targets}
    assert {*found.bridges} <= {*tokens}
    made = {left + right for left, right in found.pairs}
    assert made <= {*targets, *found.intermediates, *found.bridges}
    for word in words(seed + 3):
        before, after = join(word, old), join(word, new)
        if not any(token in word for token in made):
            assert before == after


def test_a_target_of_two_tokens_needs_nothing_on_the_way() -> None:
    found = new_merges(["abc"], tokens=["a", "b", "c", "ab", "bc"], merges=[("a", "b")])
    assert found.pairs == (("a", "bc"), ("ab", "c"))
    assert (found.intermediates, found.bridges) == ((), ())


def test_what_is_on_the_way_is_shared() -> None:
    found = new_merges(["abcx", "abcy", "eabc"], tokens=LETTERS, merges=[])
    assert set(found.intermediates) in ({"ab", "abc"}, {"bc", "abc"})
    assert new_merges(["abc", "abcd"], tokens=LETTERS, merges=[]).intermediates == ("bc",)


def test_a_token_that_is_there_is_taken_instead_of_a_new_one() -> None:
    found = new_merges(["abc"], tokens=[*"abc", "ab"], merges=[])
    assert (found.intermediates, found.bridges) == ((), ("ab",))
    # Two joins further: the token that is there spares one of two new ones.
    found = new_merges(["abcd"], tokens=[*"abcd", "bcd"], merges=[])
    assert (len(found.intermediates), found.bridges) == (1, ("bcd",))


def test_the_longest_of_equals_is_taken() -> None:
    tokens = [*"abcxy", "xy", "xya"]
    found = new_merges(["abxya"], tokens=tokens, merges=[("x", "y"), ("xy", "a")])
    assert found.intermediates == ("bxya",)


def test_no_merge_makes_a_forbidden_token() -> None:
    found = new_merges(["abc"], tokens=[*"abc", "bc"], merges=[], forbidden=["bc"])
    assert found.pairs == (("a", "b"), ("ab", "c"))
    with pytest.raises(VocabularyError, match="'abc' can only be made by way of one that is spec"):
        new_merges(["abc"], tokens=[*"abc", "ab", "bc"], merges=[], forbidden=["ab", "bc"])


def test_a_word_that_stands_alone_needs_nothing_on_the_way() -> None:
    found = new_merges(["abc", "ab"], tokens=LETTERS, merges=[], alone=True)
    assert found.pairs == (("a", "b"), ("ab", "c"))
    assert found.intermediates == ()
    assert new_merges(["abc"], tokens=LETTERS, merges=[], alone=True).pairs == ()


def test_characters_that_the_model_lacks_become_tokens() -> None:
    found = new_merges(["aß", "ö"], tokens=LETTERS, merges=[])
    assert (found.pairs, found.intermediates) == ((("a", "ß"),), ("ß",))


def test_the_same_tokens_give_the_same_merges_in_any_order() -> None:
    targets = [word for word in words(7, 60) if len(word) > 1]
    one = new_merges(targets, tokens=LETTERS, merges=[])
    assert one == new_merges(targets[::-1], tokens=[*LETTERS][::-1], merges=[])
    assert json.dumps(one.pairs)
