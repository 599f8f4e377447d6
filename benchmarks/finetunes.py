"""A fine-tune like a transplanted base that was trained further, with several strengths.

    OMP_NUM_THREADS=1 python benchmarks/finetunes.py --text TEXT [--work FOLDER]

``TEXT`` is what the fine-tune is trained on, all but its last 100 KB, of which 60 KB measure it.
The base is tiny-llama; its transplant onto tiny-mistral's vocabulary is trained further on what
the base was trained on, the sources of Python's library. Both trainings are of all tensors: in
float32, stored as bfloat16. The fine-tune is then made like the transplant with every strength,
once with the rows' difference whole and once with as much of it as of the body's.
"""

import argparse
import math
import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import tokswap
from tokswap.bundled.train.corpus import read_corpus
from tokswap.names import BUNDLED_FOLDER

BASE, DONOR = "tiny-llama", "tiny-mistral"
STRENGTHS = (0.0, 0.3, 0.5, 0.7, 1.0)
WINDOW, BATCH, WARM_UP = 192, 12, 20
WEIGHTS, TABLE = "model.safetensors", "model.embed_tokens.weight"
QUIET = {"eval": False, "verify": False, "overwrite": True}


def train(source: Path, text: str, out: Path, *, steps: int, lr: float) -> Path:
    """Train all of a model on a text, and save it as a trainer does."""
    if out.is_dir():
        return out
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    ids = torch.tensor(tokenizer(text, add_special_tokens=False).input_ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    start = time.perf_counter()
    for step in range(steps):
        fall = 0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.param_groups[0]["lr"] = lr * min(1, (step + 1) / WARM_UP) * fall
        places = torch.randint(0, len(ids) - WINDOW, (BATCH,))
        windows = torch.stack([ids[place : place + WINDOW] for place in places])
        loss = model(input_ids=windows, labels=windows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            past = time.perf_counter() - start
            print(f"{out.name} {step}: {loss.item():.3f}, {past:.0f} s", flush=True)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def with_rows(whole: Path, plain: Path, strength: float, out: Path) -> Path:
    """Copy a result with only a part of the rows' difference."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(whole, out)
    tensors, before = load_file(whole / WEIGHTS), load_file(plain / WEIGHTS)[TABLE]
    tensors[TABLE] = torch.lerp(before.float(), tensors[TABLE].float(), strength).bfloat16()
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    return out


def main() -> None:
    """Train, make, measure, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("finetunes"))
    said = parser.parse_args()
    work: Path = said.work
    work.mkdir(parents=True, exist_ok=True)
    text, corpus = said.text.read_text(encoding="utf-8"), read_corpus()
    (work / "tuned.txt").write_text(text[-100_000:-40_000], encoding="utf-8")
    held_out = "\n".join(document.text for document in corpus.held_out)
    (work / "library.txt").write_text(held_out[:60_000], encoding="utf-8")
    order = torch.randperm(len(corpus.train), generator=torch.Generator().manual_seed(0))
    library = "\n".join(corpus.train[number].text for number in order.tolist())[:6_000_000]

    made = work / "made"
    tokswap.transplant(base_model=BASE, donor=DONOR, out=str(made), **QUIET)
    tuned = train(BUNDLED_FOLDER / BASE, text[:-100_000], work / "tuned", steps=300, lr=3e-4)
    healed = train(made, library, work / "healed", steps=200, lr=2e-4)
    for name in ("tokswap.json", "tokswap.plan"):  # which a trainer leaves out
        shutil.copy(made / name, healed)

    def measure(called: str, model: str | Path) -> None:
        figures = [
            tokswap.evaluate(str(model), texts=[work / name]).results[0].bits_per_byte
            for name in ("tuned.txt", "library.txt")
        ]
        print(f"{called:<40} " + "  ".join(f"{figure:.4f}" for figure in figures), flush=True)

    for called, model in (
        ("base", BASE),
        ("fine-tune", tuned),
        ("transplanted base", made),
        ("the same, trained further", healed),
    ):
        measure(called, model)
    pair = {"base_model": str(tuned), **QUIET}
    plain = work / "plain"
    tokswap.transplant(like=str(made), out=str(plain), **pair)
    measure("fine-tune by the plan alone", plain)
    for strength in STRENGTHS:
        out = work / f"strength-{strength}"
        tokswap.transplant(like=str(healed), strength=strength, out=str(out), **pair)
        measure(f"strength {strength}", out)
        if 0 < strength < 1:
            less = with_rows(out, plain, strength, work / f"rows-{strength}")
            measure(f"strength {strength}, of the rows too", less)


if __name__ == "__main__":
    main()
