"""What several files of tests of the command line say."""

from typing import Any

PAIR = ("--base", "tiny-llama", "--donor", "tiny-mistral")


def one_line(ran: Any) -> str:
    """The one line that an error is; nothing is printed as a result."""
    assert (ran.code, ran.out) == (1, "")
    line, end, rest = ran.err.partition("\n")
    assert (end, rest) == ("\n", "")
    return line
