"""The command line in this process, with what it printed and its exit code."""

import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tokswap import progress
from tokswap.cli import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    """Keep what main() changes, and the user's own settings, out of the tests."""
    monkeypatch.setenv("TOKSWAP_ALIASES", str(tmp_path / "aliases.yaml"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    progress.show(False)


@pytest.fixture
def tokswap(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Run the command line as the installed script does."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["tokswap", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return Ran(int(stop.value.code or 0), said.out, said.err)

    return run
