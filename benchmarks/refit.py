"""Methods with and without a refit: bits per byte over the segmentation floor, and top-1.

    python benchmarks/refit.py --pair tiny-mistral tiny-llama --pair tiny-llama tiny-mistral
    python benchmarks/refit.py --pair BASE DONOR --text wiki=wikitext.txt --seeds 0 1 2

Rows are refitted to the library of the running Python (its documentation and its sources, in an
order that the seed decides) and measured on files of it that are held out, prose and code apart
and together (`mix`, the domain of the refit), and on what `--text` names. `+ refit` is the head
alone and the blend of the embedding, which take no gradient through the body; `+ match` also
matches the embedding's rows.
"""

import argparse
import json
import math
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from tokswap.bundled.train.corpus import code, prose, read_corpus
from tokswap.evaluation.swapped import SwappedModel
from tokswap.evaluation.texts import Text, file_text
from tokswap.evaluation.tokens import start_of
from tokswap.evaluation.windows import cut_windows
from tokswap.memory import default_budget
from tokswap.pair import Pair, open_pair
from tokswap.pipeline import plan_for
from tokswap.plan import Plan
from tokswap.ranks import Ranks
from tokswap.recipe import make_recipe
from tokswap.refit.asked import RefitPart
from tokswap.refit.context import Work, Written
from tokswap.refit.refit import refit
from tokswap.vocabulary.align import Kind

METHODS = ("mean", "pieces", "omp", "omp-pieces")
MIX = ("prose", "code")
SHOWN = {"window": 256, "stride": 128}


@dataclass(frozen=True)
class Cell:
    """Figures of rows on a text: nats and top-1 of new and shared tokens, and bits per byte."""

    bits: float
    new: float
    shared: float
    new_top1: float
    shared_top1: float


@dataclass(frozen=True)
class Read:
    """Sums over a text of shared and of new tokens: nats, how many the most likely, how many."""

    nats: torch.Tensor
    hits: torch.Tensor
    count: torch.Tensor
    size: int

    def __add__(self, other: "Read") -> "Read":
        """Give the sums over both texts."""
        return Read(
            self.nats + other.nats,
            self.hits + other.hits,
            self.count + other.count,
            self.size + other.size,
        )

    def cell(self) -> Cell:
        """Give the means."""
        shared, new = (self.nats / self.count.clamp_min(1)).tolist()
        shared_top1, new_top1 = (self.hits / self.count.clamp_min(1)).tolist()
        bits = float(self.nats.sum()) / math.log(2) / self.size
        return Cell(bits, new, shared, new_top1, shared_top1)


def main() -> None:
    """Measure, and print a table for each pair."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pair", nargs=2, action="append", metavar=("BASE", "DONOR"))
    parser.add_argument("--text", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--bytes", type=int, default=64_000, help="of each text to measure on")
    parser.add_argument("--refit-text", choices=("mix", "prose", "code", "none"), default="mix")
    parser.add_argument("--written", type=int, help="tokens that the base writes beside them")
    parser.add_argument("--match", nargs="*", default=["omp-pieces"], help="methods to match, too")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    found = []
    with tempfile.TemporaryDirectory(prefix="tokswap-") as name:
        folder = Path(name)
        texts = held_out_texts(folder, asked)
        for base, donor in asked.pair or [("tiny-mistral", "tiny-llama")]:
            found.append(measure_pair(base, donor, asked, folder, texts))
            if asked.json:
                asked.json.write_text(json.dumps(found, indent=1))


def measure_pair(
    base: str, donor: str, asked: argparse.Namespace, folder: Path, texts: dict[str, Text]
) -> dict[str, object]:
    """Measure all methods of a pair."""
    names = {"base_model": base, "donor": donor, "chat_template": "none"}
    pair = open_pair(make_recipe({**names, "method": "omp-pieces"}))
    swapped = SwappedModel.load(pair)
    written: Written = {}
    said: dict[str, object] = {"base": base, "donor": donor}
    shown = {"window": min(SHOWN["window"], 256), "stride": SHOWN["stride"]}
    print(f"\n{base} → {donor}: {len(pair.alignment.missing):,} missing rows")
    names_shown = ["mix", *texts]
    head = " | ".join(f"{n}: bits, new, shared, top-1" for n in names_shown)
    print(f"| rows | seed | {head} |")
    floors, owns = {}, {}
    for name, text in texts.items():
        owns[name] = swapped.own([text], **shown).score.bits_per_byte
        floors[name] = swapped.floor([text], **shown).score.bits_per_byte
    sizes = {name: size_of(texts[name]) for name in MIX}
    for found in (owns, floors):
        found["mix"] = sum(found[n] * sizes[n] for n in MIX) / sum(sizes.values())
    said |= {f"own {n}": owns[n] for n in names_shown} | {f"floor {n}": floors[n] for n in floors}
    print("own: " + ", ".join(f"{n} {owns[n]:.4f}" for n in names_shown), end="; ")
    print("floor: " + ", ".join(f"{n} {value:.4f}" for n, value in floors.items()))
    rows = []

    def tell(label: str, seed: int, plan: Plan, seconds: float, **more: object) -> None:
        read = {name: measured(swapped, pair, plan, text) for name, text in texts.items()}
        read = {"mix": read["prose"] + read["code"], **read}
        cells = {name: each.cell() for name, each in read.items()}
        rows.append(
            {"rows": label, "seed": seed, "seconds": round(seconds, 1), **more}
            | {name: asdict(cell) for name, cell in cells.items()}
        )
        parts = [
            f"{c.bits - floors[n]:+.4f}, {c.new:.2f}, {c.shared:.3f}, {c.new_top1:.1%}"
            for n, c in cells.items()
        ]
        print(f"| {label} | {seed} | " + " | ".join(parts) + f" | {seconds:.0f} s", flush=True)

    for method in asked.methods:
        said_of = {"strategy": "last"} if method == "pieces" else {}
        for seed in asked.seeds:
            recipe = make_recipe({**names, "method": method, "parameters": said_of, "seed": seed})
            begun = time.monotonic()
            plan = plan_for(pair, recipe)
            drawn = any(each.draws for each in recipe.methods.values())
            if drawn or seed == asked.seeds[0]:
                tell(method, seed, plan, time.monotonic() - begun)
            kind = asked.refit_text
            given = [] if kind == "none" else [str(refit_text(folder, kind, seed))]
            common = {"text": given, "tokens": asked.tokens, "written": asked.written}
            for label, more in (("refit", {}), ("match", {"match": 1000.0})):
                if label == "match" and method not in asked.match:
                    continue
                begun = time.monotonic()
                with tempfile.TemporaryDirectory(dir=folder) as name:
                    memory = default_budget("cpu")
                    work = Work(Path(name), "cpu", Ranks(), memory, seed, written)
                    asked_for = RefitPart(**common, **more)
                    made = refit(pair, plan, asked_for, work=work, swapped=swapped)
                taken, whole = time.monotonic() - begun, made.about.get("whole")
                tell(f"{method} + {label}", seed, made.plan, taken, whole=whole)
    return said | {"rows": rows}


@torch.inference_mode()
def measured(swapped: SwappedModel, pair: Pair, plan: Plan, text: Text) -> Read:
    """Measure a plan on a text, each token once in windows that overlap by half."""
    model, vocabulary = swapped.model(plan), swapped.vocabulary
    new = torch.from_numpy(pair.alignment.kind == Kind.MISSING)
    nats, hits, count = torch.zeros(3, 2, dtype=torch.float64)
    for inputs, targets in shaped(text, pair, start_of(vocabulary)):
        logits = model(input_ids=inputs, use_cache=False).logits[:, -targets.shape[1] :]
        lost = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), reduction="none"
        )
        group = new[targets.flatten()].long()
        right = (logits.argmax(-1) == targets).flatten().double()
        nats.index_add_(0, group, lost.double())
        hits.index_add_(0, group, right)
        count.index_add_(0, group, torch.ones_like(right))
    return Read(nats, hits, count, size_of(text))


def size_of(text: Text) -> int:
    """Count the bytes of a text."""
    return sum(len(c.encode()) for document in text.open() for c in document)


def shaped(
    text: Text, pair: Pair, start: int | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Give windows of one shape together."""
    shapes: dict[tuple[int, int], list[tuple[list[int], list[int]]]] = {}
    for document in text.open():
        whole = "".join(document)
        ids = pair.donor.vocabulary.backend.encode(whole, add_special_tokens=False).ids
        for window in cut_windows([ids], start, SHOWN["window"], SHOWN["stride"]):
            shape = len(window.inputs), len(window.targets)
            shapes.setdefault(shape, []).append((window.inputs, window.targets))
    for alike in shapes.values():
        for at in range(0, len(alike), 16):
            inputs, targets = zip(*alike[at : at + 16], strict=True)
            yield torch.tensor(inputs), torch.tensor(targets)


def held_out_texts(folder: Path, asked: argparse.Namespace) -> dict[str, Text]:
    """Write what is measured on: files that are held out, and what the user names."""
    held = read_corpus().held_out
    parts: dict[str, Sequence[str]] = {"prose": list(prose(held)), "code": list(code(held))}
    found = {}
    for name, documents in parts.items():
        data = "\n\n".join(documents).encode()[: asked.bytes].decode(errors="ignore")
        path = folder / f"{name}.txt"
        path.write_text(data, encoding="utf-8")
        found[name] = file_text(path)
    for said in asked.text:
        name, _, source = said.partition("=")
        path = folder / f"{name}.txt"
        data = Path(source).read_bytes()[: asked.bytes].decode(errors="ignore")
        path.write_text(data, encoding="utf-8")
        found[name] = file_text(path)
    return found


def refit_text(folder: Path, kind: str, seed: int) -> Path:
    """Write what is refitted to: documentation and sources in turn, in the seed's order."""
    path = folder / f"refit-{kind}-{seed}.txt"
    if not path.exists():
        train = read_corpus().train
        written, sources = list(prose(train)), list(code(train))
        order = np.random.default_rng(seed)
        parts: list[str] = []
        for documents in (written, sources):
            order.shuffle(documents)
        words, lines = iter(written), iter(sources)
        wanted = {"mix": (True, True), "prose": (True, False), "code": (False, True)}[kind]
        for _ in range(400):
            if wanted[0]:
                parts.append(_upto(words, 8_000))
            if wanted[1]:
                parts.append(_upto(lines, 8_000))
        path.write_text("\n\n".join(parts), encoding="utf-8")
    return path


def _upto(documents: Iterator[str], size: int) -> str:
    found = ""
    for document in documents:
        found += f"{document[:size]}\n\n"
        if len(found) >= size:
            break
    return found


if __name__ == "__main__":
    main()
