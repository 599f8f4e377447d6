"""The text in windows: nothing twice, nothing lost, and what decides is not what is fitted to."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from tests.refit.made import Bench, prose, text_of
from tokswap.errors import RefitError
from tokswap.evaluation.texts import Text
from tokswap.evaluation.windows import Window, cut_windows
from tokswap.refit.windows import RUN, Cut, cut_texts

Make = Callable[..., Cut]
WINDOW = 48


def documents() -> tuple[str, str, str]:
    whole = prose(24_000)
    return whole[:14_000], "naïve Übung — Привет", whole[14_000:]


@pytest.fixture
def cut(untied: Bench) -> Make:
    def make(*texts: Text, window: int = WINDOW, tokens: int = 100_000) -> Cut:
        backend = untied.pair.donor.vocabulary.backend
        names = ", ".join(text.name for text in texts)
        return cut_texts(texts, backend, start_id=1, window=window, tokens=tokens, names=names)

    return make


def documents_ids(bench: Bench) -> list[list[int]]:
    encode = bench.pair.donor.vocabulary.backend.encode
    return [encode(document, add_special_tokens=False).ids for document in documents()]


def test_every_token_is_a_target_once(cut: Make, untied: Bench) -> None:
    found = cut(text_of(*documents()[:2]), text_of(documents()[2]))
    targets = [token for window in found.fit + found.held_out for token in window.targets]
    whole = documents_ids(untied)
    assert Counter(targets) == Counter(token for ids in whole for token in ids)
    assert found.tokens == len(targets)
    assert found.bytes == sum(len(document.encode()) for document in documents())
    assert not found.more


def test_what_is_held_out_is_not_fitted_to(cut: Make, untied: Bench) -> None:
    found = cut(text_of(*documents()))
    ids = documents_ids(untied)
    whole = [one for each in ids for one in cut_windows([each], 1, WINDOW, WINDOW)]
    assert Counter(map(str, found.fit + found.held_out)) == Counter(map(str, whole))
    assert 0.08 < len(found.held_out) / len(whole) < 0.17
    # Whole runs of windows that follow each other are held out.
    start = whole.index(found.held_out[0])
    assert start % RUN == 0
    assert list(found.held_out[:RUN]) == whole[start : start + RUN]


def test_no_more_is_read_than_asked(cut: Make) -> None:
    found = cut(text_of(*documents()), tokens=3_000)
    assert 3_000 <= found.tokens < 3_000 + WINDOW
    assert found.more
    whole = cut(text_of(*documents()))
    assert {str(window) for window in found.fit + found.held_out} < {
        str(window) for window in whole.fit + whole.held_out
    }
    assert not cut(text_of(*documents()), tokens=whole.tokens).more


def test_tokens_are_counted_where_they_are_fitted(cut: Make, untied: Bench) -> None:
    found = cut(text_of(*documents()))
    targets = Counter(token for window in found.fit for token in window.targets)
    missing = untied.pair.alignment.missing
    counts = found.seen(missing, untied.pair.alignment.rows)
    assert counts.dtype == np.int64
    assert counts.tolist() == [targets[number] for number in missing.tolist()]
    assert counts.sum() > 100


@pytest.mark.parametrize(("own", "weight"), [(0, None), (1, 3.0), (2, 2.0), (8, 1.0)])
def test_what_the_base_wrote_counts_for_as_much_as_the_text(own: int, weight: float | None) -> None:
    def some(count: int, of: int) -> tuple[Window, ...]:
        return tuple(Window([of] * 10, [of] * 10) for _ in range(count))

    text = Cut(some(4, 1), some(3, 1), 70, 70, False)
    both = text.with_own(Cut(some(own, 2), some(1, 2), 10 * own + 10, 90, False)) if own else text
    for blocks, windows in zip(both.blocks(3), (both.fit, both.held_out), strict=True):
        assert tuple(window for block in blocks for window in block.windows) == windows
        assert all(0 < len(block.windows) <= 3 for block in blocks)
        for block in blocks:
            of = {window.inputs[0] for window in block.windows}
            assert (of, block.weight) in (({1}, 1.0), ({2}, weight))
    assert both.tokens == sum(len(window.targets) for window in both.fit + both.held_out)


def test_too_little_text_is_told_with_figures(cut: Make) -> None:
    said = (
        r"^short is [1-9]\d\d of the donor's tokens long, and a refit needs 2,000 in 8 windows at"
    )
    with pytest.raises(RefitError, match=said):
        cut(text_of(documents()[0][:2_000], name="short"))
    with pytest.raises(RefitError, match=r"^one, two is \d,\d{3} of the donor's tokens long"):
        cut(text_of(documents()[0], name="one"), text_of("b", name="two"), window=4_000)
