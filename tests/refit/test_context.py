"""What a refit works on: its windows, and the rows that are free."""

from collections import Counter
from pathlib import Path

import pytest

from tests.refit.made import Bench
from tokswap.errors import RefitError
from tokswap.refit import ahead
from tokswap.refit.ahead import OWN


def test_free_tokens_are_the_missing_ones_of_the_text_to_fit(
    untied: Bench, text: Path, tmp_path: Path
) -> None:
    context = untied.context(tmp_path, text=[str(text)])
    counts = Counter(token for window in context.cut.fit for token in window.targets)
    missing = set(untied.pair.alignment.missing.tolist())
    assert context.free.tolist() == sorted(missing & set(counts))
    assert context.times == sum(counts[number] for number in context.free.tolist())
    place = context.place.tolist()
    assert [place.index(n) for n in range(len(context.free))] == context.free.tolist()
    assert place.count(-1) == untied.pair.alignment.rows - len(context.free)


def test_where_all_take_too_long_the_seldom_ones_stay(
    untied: Bench, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = untied.context(tmp_path, text=[str(text)]).free.tolist()
    monkeypatch.setattr(ahead, "affordable", lambda counts: counts > 3)
    fewer = untied.context(tmp_path, text=[str(text)])
    assert 0 < len(fewer.free) < len(whole)
    assert set(fewer.free.tolist()) < set(whole)
    assert fewer.times > 3 * len(fewer.free)


def test_the_base_writes_as_much_as_a_short_text_is_long(
    untied: Bench, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokswap.refit.written.LENGTH", 64)
    alone = untied.context(tmp_path, text=[str(text)])
    both = untied.context(tmp_path, text=[str(text)], written=None)
    assert both.names == [*alone.names, OWN] == ["prose.txt", OWN]
    # The user's windows stand first; behind them others are fitted to, and held out.
    for one, more in (
        (alone.cut.fit, both.cut.fit),
        (alone.cut.held_out, both.cut.held_out),
    ):
        assert more[: len(one)] == one
        assert len(more) > len(one)
    assert alone.cut.own == alone.cut.own_fit == 0
    assert both.cut.own_fit == len(both.cut.fit) - len(alone.cut.fit)
    assert both.cut.own == len(both.cut.held_out) - len(alone.cut.held_out)
    written = both.cut.tokens - alone.cut.tokens
    assert alone.cut.tokens / 2 < written < alone.cut.tokens * 2
    assert both.cut.more is alone.cut.more is True
    # Which is kept for whatever else is refitted with the same base.
    monkeypatch.setattr("tokswap.refit.written.write", None)
    assert untied.context(tmp_path, text=[str(text)], written=None).cut == both.cut


def test_a_window_for_which_there_are_no_positions_is_refused(
    untied: Bench, text: Path, tmp_path: Path
) -> None:
    context = untied.context(tmp_path, text=[str(text)], window=300)
    said = r"a window of 300 is longer than the 256 positions of tiny-mistral; .*window=256\)$"
    with pytest.raises(RefitError, match=said):
        _ = context.cut
