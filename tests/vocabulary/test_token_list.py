"""The list of tokens that a user writes."""

from pathlib import Path

import pytest

from tokswap.errors import RecipeError
from tokswap.vocabulary.token_list import read_tokens


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "tokens.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_every_line_is_a_token_as_it_stands(tmp_path: Path) -> None:
    path = written(
        tmp_path, ' word\nword \n\n  \nd\'être\r\n"\\n\\t"\n"\\"q\\""\n\'x\'\n{"a": 1}\nend'
    )
    tokens = [" word", "word ", "  ", "d'être", "\n\t", '"q"', "'x'", '{"a": 1}', "end"]
    assert read_tokens(path) == tokens


def test_a_mark_of_the_byte_order_is_no_text(tmp_path: Path) -> None:
    assert read_tokens(written(tmp_path, b"\xef\xbb\xbfword\n")) == ["word"]


def test_other_line_ends_are_text(tmp_path: Path) -> None:
    assert read_tokens(written(tmp_path, "a\u2028b\x0cc\n")) == ["a\u2028b\x0cc"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", r"is not UTF-8 \(invalid start byte at byte 0\); convert it"),
        ("\n\r\n", "is empty; write one token a line"),
        ('"\n', r"not valid, .* a JSON string, such as \"\\n\" .*:\n  line 1: Unterminated string"),
        ('a\n"x" y\n"\\ud800"', r"\n  line 2: Extra data\n  line 3: half a surrogate pair"),
        ('"\n' * 8, r"line 5: .*\n  and 3 more"),
        ('""\n', "is empty"),
    ],
)
def test_faults_are_told_with_their_lines(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        read_tokens(written(tmp_path, content))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere cannot be read \(No such file"):
        read_tokens(tmp_path / "nowhere")
