"""Bits per byte of every method on the bundled pair, in both directions, as a Markdown table.

    python benchmarks/methods.py [--text FILE]

Each row is one transplant, measured on the bundled sample text: all tokens, those that both
vocabularies share, and those that are new to the base.
"""

import argparse
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import tokswap

PAIRS = (("tiny-llama", "tiny-mistral"), ("tiny-mistral", "tiny-llama"))

RUNS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("`omp` (k = 64, the default)", "omp", {}),
    ("`omp`, k = 32", "omp", {"k": 32}),
    ("`omp`, k = 8", "omp", {"k": 8}),
    ("`omp`, `center: false`", "omp", {"center": False}),
    ("`omp`, `outliers: null`", "omp", {"outliers": None}),
    (
        "`omp` as published (neither, `normalize: false`)",
        "omp",
        {"normalize": False, "center": False, "outliers": None},
    ),
    ("`interpolate` (k = 10, softmax)", "interpolate", {}),
    ("`interpolate`, barycentric", "interpolate", {"weights": "barycentric"}),
    ("`procrustes`", "procrustes", {}),
    ("`ridge`", "ridge", {}),
    ("`landmarks` (512)", "landmarks", {}),
    ("`pieces` (mean)", "pieces", {}),
    (
        "`pieces`, last in, decayed out",
        "pieces",
        {"input": {"strategy": "last"}, "output": {"strategy": "decayed"}},
    ),
    ("`mean`", "mean", {}),
    ("`normal`", "normal", {}),
    ("`zero`", "zero", {}),
)


def rows(base: str, donor: str, texts: list[str], folder: Path) -> Iterator[str]:
    """Transplant by every method; yield one line of the table each."""
    for number, (label, method, parameters) in enumerate(RUNS):
        done = tokswap.transplant(
            base_model=base,
            donor=donor,
            method=method,
            parameters=parameters,
            eval={"text": texts},
            verify=False,
            out=str(folder / f"{base}-{number}"),
        )
        assert done.evaluation is not None  # noqa: S101 - it was asked for
        own, score = done.evaluation.results
        if number == 0:
            yield f"| {base}, own tokenizer | {own.bits_per_byte:.3f} | | | |"
            share = score.groups["new"].bytes / score.bytes
            new = f"{score.groups['new'].tokens:,} ({share:.0%} of the bytes)"
        shared, fresh = score.groups["shared"], score.groups["new"]
        yield (
            f"| {label} | {score.bits_per_byte:.3f} | {shared.bits_per_byte:.3f} "
            f"| {fresh.bits_per_byte:.3f} | {done.seconds['plan']:.1f} |"
        )
    yield f"\nNew tokens in the text: {new}."


def main() -> None:
    """Print one table for each direction."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--text", action="append", default=[], help="text file; the sample")
    texts = parser.parse_args().text
    print(f"tokswap {_version()}, torch {torch.__version__}, ", end="")
    print(f"Python {platform.python_version()}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as work:
        for base, donor in PAIRS:
            counts = tokswap.inspect(base, donor).counts
            print(f"\n{base} with the vocabulary of {donor}: ", end="")
            print(f"{counts['shared']:,} shared, {counts['missing']:,} missing\n")
            print("| | bits per byte | of shared tokens | of new tokens | seconds to plan |")
            print("|---|---:|---:|---:|---:|")
            for line in rows(base, donor, texts, Path(work)):
                print(line, flush=True)


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("tokswap")


if __name__ == "__main__":
    main()
