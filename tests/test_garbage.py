"""The collector runs seldom in tokswap's own processes, and in no other."""

import subprocess
import sys

PROGRAM = """
import atexit, gc, sys
usual = gc.get_threshold()
atexit.register(lambda: print(gc.get_threshold() != usual, gc.get_freeze_count() > 0))
{}
"""


def at_the_end(program: str) -> list[str]:
    """Whether the collector was set to run seldom, and whether it was kept from the last look."""
    command = [sys.executable, "-c", PROGRAM.format(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()[-2:]


def test_a_command_sets_it() -> None:
    program = "import tokswap.__main__ as m; sys.argv = ['tokswap', '--version']; m.main()"
    assert at_the_end(program) == ["True", "True"]


def test_the_process_that_verifies_sets_it() -> None:
    program = "import io, tokswap.verify as v; sys.stdin = io.StringIO(''); v.main()"
    assert at_the_end(program) == ["True", "True"]


def test_who_imports_the_package_keeps_theirs() -> None:
    program = "import tokswap.cli, tokswap.pipeline, tokswap.verify, tokswap.__main__"
    assert at_the_end(program) == ["False", "False"]
