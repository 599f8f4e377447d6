"""What is typed and told when a run is interrupted and gone on with, and how much it may take."""

import signal
from pathlib import Path

from tokswap import blocks, kept_blocks
from tokswap.cli import INTERRUPTED
from tokswap.kept_blocks import KeptBlocks

PAIR = ("--base", "tiny-mistral", "--donor", "tiny-llama", "--set", "method.k=4")
QUICK = ("--no-eval", "--no-verify")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_interrupted_run_says_how_to_go_on(tokswap, tmp_path, monkeypatch):
    """Seven blocks, which serve both roles; it ends after the fifth."""
    monkeypatch.setattr(blocks, "ROWS", 512)
    monkeypatch.setattr(kept_blocks, "WORTH", 0.0)
    put, numbers = KeptBlocks.put, []

    def stopping(keep: KeptBlocks, key: str, number: int, data: bytes) -> None:
        put(keep, key, number, data)
        numbers.append(number)
        if len(numbers) == 5:
            signal.raise_signal(signal.SIGINT)

    command = ("transplant", *PAIR, *QUICK, "--out", tmp_path / "out")
    # A process that a shell has started in the background ignores the signal otherwise.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patched:
        patched.setattr(KeptBlocks, "put", stopping)
        ran = tokswap(*command)
    signal.signal(signal.SIGINT, before)
    kept = tmp_path / ".out.blocks"
    assert ran.code == INTERRUPTED
    assert f"5 finished blocks are kept in {kept}; the same command with --resume goes" in ran.err
    assert len(contents(kept)) == 5

    ran = tokswap(*command, "--resume", "--memory", "1GB")
    assert ran.code == 0, ran.err
    assert "omp, input rows: 5 of 7 blocks are there from an earlier run" in ran.err
    assert not kept.exists()
    assert tokswap("transplant", *PAIR, *QUICK, "--out", tmp_path / "whole").code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_resume_and_memory_go_with_a_recipe_too(tokswap, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{base_model: tiny-llama, donor: tiny-mistral, verify: false, eval: false}")
    said = ("run", recipe, "--out", tmp_path / "out", "--resume", "--memory")
    ran = tokswap(*said, "1MB")
    assert ran.code == 1
    assert f"note: there is nothing to resume in {tmp_path / '.out.blocks'}" in ran.err
    assert "may take 1MB; give --memory" in ran.err
    ran = tokswap(*said, "some")
    assert ran.err.endswith("memory: give a size such as 4GB, 512MB or 2GiB, given 'some'\n")
    assert tokswap(*said, "1GB", "--set", "method.k=4").code == 0
