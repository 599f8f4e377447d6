"""What a recipe may say of a refit, and what it must."""

from typing import Any

import pytest

from tokswap.errors import RecipeError
from tokswap.recipe import make_recipe
from tokswap.refit.asked import TOKENS, RefitPart, asked_refit


def asked(**said: Any) -> RefitPart:
    part = make_recipe({"base_model": "a", "donor": "b", "refit": said}).refit
    assert part is not None
    return part


def test_one_text_is_a_list_of_one() -> None:
    assert asked(text="some.txt").text == ["some.txt"]
    assert asked(text=["a", "b"], datasets="c:d").datasets == ["c:d"]
    assert asked(text="a").tokens == TOKENS


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({}, r"refit: .*give text files as `text` \(--refit\), `datasets`, or `written: N` "),
        ({"text": []}, "give text files as `text`"),
        ({"written": 0}, "give text files as `text`"),
        ({"text": "a", "written": -1}, "refit.written: .*0"),
        ({"text": "a", "tokens": 100}, "refit.tokens: .*256"),
        ({"text": "a", "match": -1}, "refit.match: .*0"),
        ({"text": "a", "strength": 0}, "refit.strength: .*0"),
        ({"text": "a", "window": 1}, "refit.window: .*1"),
        ({"text": "a", "more": 1}, "refit.more: "),
        ({"text": "a", "tokens": "many"}, "refit.tokens: "),
    ],
    ids=str,
)
def test_what_cannot_be_is_told(said: dict[str, Any], fault: str) -> None:
    with pytest.raises(RecipeError, match=fault):
        asked(**said)


def test_flags_say_what_a_recipe_says() -> None:
    assert asked_refit(None, None, None) is None
    assert asked_refit([], None, None) is None
    assert asked_refit(["a.txt"], 2.5, None) == {"text": ["a.txt"], "match": 2.5}
    assert asked_refit(None, 0.0, 100) == {"written": 100, "match": 0.0}
    with pytest.raises(RecipeError, match="give text files as `text`"):
        asked(**asked_refit(None, 1.0, None))
