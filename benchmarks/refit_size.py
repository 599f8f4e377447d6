"""The head's rows refitted at the size of a real model, with random weights and random text.

    python benchmarks/refit_size.py                Llama 3.2 1B onto Mistral NeMo's vocabulary
    python benchmarks/refit_size.py --device cuda
    python benchmarks/refit_size.py --tokens 100000 --missing 4000 --width 512     (a minute)

States are drawn where a model's would be, in the form and through the files in which they are kept;
targets follow Zipf's law, as many of them new as `--new` says. What is solved, and how far, is what
a transplant does with so much text. The time of reading is not in it: it is the model's own.
"""

import argparse
import platform
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tokswap import progress
from tokswap.memory import default_budget
from tokswap.refit.asked import STRENGTHS
from tokswap.refit.outputs import fit_rows
from tokswap.refit.states import affordable, kept_part
from tokswap.refit.store import StateStore, packed, state_bytes
from tokswap.solvers.softmax_rows import Head

BLOCK = 4096
"""Tokens of a block."""


def main() -> None:
    """Draw, keep, fit, and print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--missing", type=int, default=58_432)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--new", type=float, default=0.06, help="part of the targets that is new")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="where states are kept; a temporary folder")
    parser.add_argument("--strengths", type=int, default=len(STRENGTHS), help="the weakest so many")
    asked = parser.parse_args()
    progress.show(True)
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="tokswap-") as name:
        run(asked, Path(name))


def run(asked: argparse.Namespace, folder: Path) -> None:
    """Do it in a folder."""
    generator = np.random.default_rng(0)
    zipf = 1.0 / np.arange(1, asked.missing + 1)
    fresh = generator.choice(asked.missing, round(asked.tokens * asked.new), p=zipf / zipf.sum())
    counts = np.bincount(fresh, minlength=asked.missing)
    fitted = affordable(counts)
    place = np.full(asked.missing, -1)
    place[fitted] = np.arange(fitted.sum())
    rows, free = int(fitted.sum()), int(counts[fitted].sum())
    part = kept_part(asked.tokens, free, rows)
    kept = free + round((asked.tokens - free) * part)
    print(
        f"{asked.tokens:,} tokens, {len(fresh):,} of them new: {(counts > 0).sum():,} of "
        f"{asked.missing:,} new tokens are seen, {rows:,} are fitted, {free:,} times"
    )
    whole = state_bytes(asked.tokens, asked.width)
    print(
        f"states of all tokens would take {whole / 1e9:.2f} GB; {part:.1%} of those before other "
        f"tokens are kept: {kept:,} positions, {state_bytes(kept, asked.width) / 1e9:.2f} GB"
    )
    each = 4.0 * kept * rows * asked.width
    print(f"a reading of all: {kept * rows / 1e9:.2f} G products, {each / 1e12:.1f} TFLOP")

    blocks = -(-kept // BLOCK)
    store = StateStore(folder / "states", "0" * 16, blocks, memory=default_budget("cpu") // 4)
    store.check_room(kept, asked.width)
    begun = time.monotonic()
    draw(store, asked.width, kept, place[fresh[place[fresh] >= 0]], part, blocks)
    print(f"kept in {time.monotonic() - begun:.0f} s")

    start = 0.02 * torch.randn(rows, asked.width, generator=torch.Generator().manual_seed(1))
    held = max(1, blocks // 8)
    begun = time.monotonic()
    found = fit_rows(
        store,
        (range(blocks - held), range(blocks - held, blocks)),
        start.to(asked.device),
        Head(),
        variance=0.0004,
        strengths=STRENGTHS[-asked.strengths :],
        memory=default_budget(asked.device),
    )
    seconds = time.monotonic() - begun
    where = platform.processor() or platform.machine()
    if asked.device.startswith("cuda"):
        where = torch.cuda.get_device_name(asked.device)
    print(
        f"fitted for {len(found)} strengths in {seconds:.0f} s on {where}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )


def draw(
    store: StateStore, width: int, kept: int, targets: np.ndarray, part: float, blocks: int
) -> None:
    """Draw the positions: the new tokens spread among the others."""
    generator = torch.Generator().manual_seed(0)
    where = torch.randperm(kept, generator=generator)[: len(targets)]
    target = torch.full((kept,), -1)
    target[where] = torch.from_numpy(targets)
    size = partial(torch.randn, generator=generator)
    for number in range(blocks):
        own = target[number * BLOCK : (number + 1) * BLOCK]
        states = size(len(own), width)
        states[:, 0] += 8  # a direction that all states share, as in real models
        rest = 12 + size(len(own))
        weights = torch.where(own >= 0, 1.0, 1 / part)
        store.put(number, packed(states, rest, own, weights))


if __name__ == "__main__":
    main()
