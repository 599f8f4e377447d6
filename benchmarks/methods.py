"""Bits per byte of every method, in both directions of a pair, as Markdown tables.

    python benchmarks/methods.py [--base NAME --donor NAME] [--text FILE] [--seeds 0,1,2] [--roles]

It is `tokswap compare` with the settings below: the bundled models on the bundled sample text,
unless others are named. What is finished is kept in the folder, so that it can be stopped.
"""

import argparse
import importlib.metadata
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import tokswap
from tokswap.comparison.compare import Compared

LAST: dict[str, Any] = {"method": "pieces", "parameters": {"strategy": "last"}}
BY_ENCODER = {"method": "wechsel", "parameters": {"encoder": "all-MiniLM-L6-v2"}}
AS_PUBLISHED = {"k": 64, "normalize": False, "center": False, "outliers": None}

METHODS: tuple[dict[str, Any], ...] = (
    {"method": "omp-pieces"},
    {"method": "omp"},
    {"method": "omp", "parameters": {"k": [8, 32, 64]}},
    {"label": "omp as published", "method": "omp", "parameters": AS_PUBLISHED},
    {"method": "interpolate"},
    {"method": "interpolate", "parameters": {"weights": "barycentric"}},
    {"method": "clp"},
    {"label": "clp as published", "method": "clp", "parameters": {"k": None, "center": False}},
    {"method": "ofa", "parameters": {"rank": 64}},
    {"method": "procrustes"},
    {"method": "ridge"},
    {"method": "landmarks"},
    {"method": "tokenadapt"},
    {
        "label": "tokenadapt as published",
        "method": "tokenadapt",
        "parameters": {"variant": "paper"},
    },
    {"method": "tokenadapt", "parameters": {"encoder": "base"}},
    {"method": "focus"},
    {"method": "wechsel"},
    {"label": "wechsel by the encoder", **BY_ENCODER},
    {"method": "transtokenizer"},
    {"label": "pieces, mean (retok, fvt)", "method": "pieces"},
    {"method": "transplant-vocab"},
    {"method": "mean"},
    {"method": "normal"},
    {"method": "zero"},
    {
        "label": "last piece in, omp out",
        "method": {"input": "pieces", "output": "omp"},
        "parameters": {"input": {"strategy": "last"}},
    },
    {
        "label": "omp + last piece in, ridge out",
        "method": {"input": "mix", "output": "ridge"},
        "parameters": {"input": {"of": [{"method": "omp"}, LAST]}},
    },
    {
        "label": "mix of wechsel by the encoder and omp-pieces",
        "method": "mix",
        "parameters": {"of": ["omp-pieces", BY_ENCODER]},
    },
)


READ: dict[str, dict[str, Any]] = {
    "omp": {"method": "omp"},
    "last piece": LAST,
    "mean of pieces": {"method": "pieces"},
    "mean": {"method": "mean"},
    "omp + last piece": {"method": "mix", "parameters": {"of": ["omp", LAST]}},
    "interpolate + last piece": {"method": "mix", "parameters": {"of": ["interpolate", LAST]}},
}
"""What an embedding's rows may be."""
WRITE: dict[str, dict[str, Any]] = {
    "omp": {"method": "omp"},
    "ridge": {"method": "ridge"},
    "mean of pieces": {"method": "pieces"},
    "mean": {"method": "mean"},
}
"""What a head's rows may be."""


def roles() -> list[dict[str, Any]]:
    """Pair every way to fill an embedding with every way to fill a head."""
    return [
        {
            "label": f"{read} in, {write} out",
            "method": "mix",
            "parameters": {"input": {"of": [READ[read]]}, "output": {"of": [WRITE[write]]}},
        }
        for read in READ
        for write in WRITE
    ]


def lines(found: Compared) -> Iterator[str]:
    """Write a comparison as a Markdown table, the best method first."""
    floor = found.floor["bits_per_byte"]
    head = (
        "bits per byte",
        "over the floor",
        "of shared tokens",
        "of new tokens",
        "seconds to plan",
    )
    yield f"| | {' | '.join(head)} |"
    yield "|---|---:|---:|---:|---:|---:|"
    yield f"| the base, own cut | {found.own['bits_per_byte']:.3f} | | | | |"
    groups = (found.floor["groups"][name]["bits_per_byte"] for name in ("shared", "new"))
    yield f"| **segmentation floor** | {floor:.3f} | | {' | '.join(f'{b:.3f}' for b in groups)} | |"
    for result in found.results:
        bits, spread = result.bits_per_byte, result.spread
        drawn = "" if spread is None else f" ± {spread:.3f}"
        shared, new = (result.group(name) or 0.0 for name in ("shared", "new"))
        cells = [f"{bits:.3f}{drawn}", f"{bits - floor:+.3f}", f"{shared:.3f}", f"{new:.3f}"]
        yield f"| {result.label} | {' | '.join(cells)} | {result.seconds:.1f} |"
    for failure in found.failures:
        yield f"| {failure.label} | failed: {failure.error} | | | | |"
    new = found.floor["groups"]["new"]
    share = new["bytes"] / found.floor["bytes"]
    yield f"\nNew tokens in the text: {new['tokens']:,} ({share:.0%} of the bytes)."


def main() -> None:
    """Print one table for each direction."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", default="tiny-llama")
    parser.add_argument("--donor", default="tiny-mistral")
    parser.add_argument("--text", action="append", default=[], help="text file; the sample")
    parser.add_argument("--train-text", action="append", default=[])
    parser.add_argument("--roles", action="store_true", help="every pair of methods for the roles")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", default="out/figures", help="folder for what is finished")
    asked = parser.parse_args()
    version = importlib.metadata.version("tokswap")
    print(f"tokswap {version}, torch {torch.__version__}, ", end="")
    print(f"Python {platform.python_version()}, {torch.get_num_threads()} threads")
    pair = (asked.base, asked.donor)
    for number, (base, donor) in enumerate((pair, pair[::-1])):
        counts = tokswap.inspect(base, donor).counts
        names = Path(base).name, Path(donor).name
        print(f"\n**{names[0]} with the vocabulary of {names[1]}**: ", end="")
        print(f"{counts['shared']:,} shared, {counts['missing']:,} missing.\n")
        found = tokswap.compare(
            base_model=base,
            donor=donor,
            methods=roles() if asked.roles else list(METHODS),
            eval={"text": asked.text},
            train_text=asked.train_text,
            seed=[int(seed) for seed in asked.seeds.split(",")],
            out=f"{asked.out}{'-roles' * asked.roles}-{number}",
        )
        print("\n".join(lines(found)), flush=True)


if __name__ == "__main__":
    main()
