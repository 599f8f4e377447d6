"""``tokswap embed``: what is printed, and what is refused."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


def test_texts_are_shown_with_rows_and_neighbours(tokswap: Run) -> None:
    ran = tokswap("embed", "tiny-mistral", " return", " return x", "<s>", "qwx" * 9)
    assert (ran.code, ran.err) == (0, "")
    assert re.search(r"^' return': token \d+ of tiny-mistral, its own row$", ran.out, re.M)
    assert "no token of tiny-mistral, which cuts it into ' return' ' x'; by pieces" in ran.out
    assert "'<s>' is written like the special token 1; these are the rows of the text" in ran.out
    assert "pieces long; one row cannot say as much as they do" in ran.out
    assert "' raise' 0." in ran.out


def test_settings_reach_the_method_and_json_has_it_all(tokswap: Run) -> None:
    call = ("embed", "tiny-mistral", " return x", "--neighbours", 1, "--json")
    said = json.loads(tokswap(*call, "--set", "method.strategy=asymmetric").out)
    (token,) = said["tokens"]
    near = {role: row["neighbours"][0]["token"] for role, row in token["roles"].items()}
    assert near == {"input": "' x'", "output": "' return'"}
    assert token["roles"]["input"]["neighbours"][0]["cosine"] == pytest.approx(1)
    assert (said["method"], said["tied"], token["id"]) == ("pieces", False, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny-llama", ""], "error: an empty token has no row; give at least one byte"),
        (["tiny-lama", "a"], "did you mean 'tiny-llama'"),
        (["tiny-llama", "a", "-m", "omp"], "omp reads a donor's weights and none is given"),
        (["tiny-llama", "a", "-m", "pices"], "'pices' is unknown; did you mean 'pieces'"),
        (["tiny-llama", "a", "--set", "method.k=3"], "parameters.k: unknown key"),
    ],
)
def test_mistakes_are_told_in_a_line(tokswap: Run, arguments: list[str], message: str) -> None:
    ran = tokswap("embed", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1
