"""Prediction by a hypernetwork of a published size: seconds, and memory against the budget.

    python benchmarks/hypernet.py [--size xlm-roberta-base] [--tokens 50000] [--memory 2GB]
        [--threads 2] [--device cuda] [--dtype bfloat16] [--tokenizers DIR]

The weights and the base's rows are random, which costs the same. The tokens are those that the
vocabulary of llama3 has and that of llama2 lacks, cut by the latter rewritten byte-level.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from tokswap import progress
from tokswap.hypernet.byte_level import byte_level
from tokswap.hypernet.config import HypernetConfig
from tokswap.hypernet.network import Hypernet
from tokswap.hypernet.predict import Predictor, bytes_needed, predict
from tokswap.hypernet.surface import SurfaceForms
from tokswap.memory import parse_size, show_size
from tokswap.peak import peak_memory
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

SIZES = {
    "xlm-roberta-base": {"n_embd": 768, "original_vocab_size": 250002, "pad_token_id": 1},
    "TinyLlama-1.1B": {"n_embd": 2048, "original_vocab_size": 32000, "pad_token_id": 2},
    "Mistral-7B": {"n_embd": 4096, "original_vocab_size": 32000, "pad_token_id": 2},
}


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="xlm-roberta-base")
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--memory", default="2GB", help="what prediction may take")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokenizers", type=Path, default=Path("../shared/tokenizers"))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    progress.show()
    config, forms = problem(asked.size, asked.tokens, asked.tokenizers)
    dtype = getattr(torch, asked.dtype)
    budget = parse_size(asked.memory)
    standing, each = bytes_needed(config, torch.float32, dtype)
    count = 2 if config.separate_out_embeddings else 1
    rows = [torch.randn(config.original_vocab_size, config.n_embd) for _ in range(count)]
    with peak_memory(asked.device) as ready:
        predictor = Predictor(
            Hypernet(config), rows, dtype=dtype, device=asked.device, memory=budget
        )
    start = time.perf_counter()
    with peak_memory(asked.device) as working:
        made = predict(predictor, forms)
    seconds = time.perf_counter() - start
    found = made.inputs.nbytes + (0 if made.outputs is None else made.outputs.nbytes)
    own = sum(table.nbytes for table in rows) if asked.device == "cpu" else 0
    peak = own + (ready.bytes or 0) + (working.bytes or 0)
    pieces = (forms != config.pad_token_id).sum(dim=1).float().mean()
    print(f"{asked.size}, {asked.dtype}, {asked.device} with {asked.threads} threads")
    print(
        f"{len(forms):,} tokens of {pieces:.2f} pieces: {seconds:.1f} s, {predictor.batch} at once"
    )
    print(
        f"weights and rows {show_size(standing)}, {show_size(each)} a token at once; peak "
        f"{show_size(peak)} of {show_size(budget)}, with the {show_size(found)} of the result"
    )


def problem(size: str, count: int, folder: Path) -> tuple[HypernetConfig, torch.Tensor]:
    """Give the settings of a published size, and the surface forms of some tokens."""
    base, donor = (read(folder / name) for name in ("llama2", "llama3"))
    said = SIZES[size]
    wide = said["n_embd"]
    specification, added = byte_level(base)
    config = HypernetConfig(
        **said,
        hn_hidden_size=wide,
        hn_intermediate_size=2 * wide,
        hn_num_attention_heads=12 if wide == 768 else None,
        hn_rescale_embeddings=True,
        hn_surface_maxlen=7,
        hn_n_extra_tokens=max(added, 161),
        separate_out_embeddings=wide != 768,
    )
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "tokenizer.json").write_text(json.dumps(specification), encoding="utf-8")
        own = read(Path(name))
    spelling = enumerate(donor.spelling)
    missing = [
        data
        for number, data in spelling
        if data and number not in donor.special and data not in base.ids
    ]
    step = max(len(missing) // count, 1)
    forms, truncated = SurfaceForms(own, config).forms(missing[::step][:count])
    print(f"{truncated:,} tokens are cut short")
    return config, forms


def read(folder: Path) -> Vocabulary:
    """Read a tokenizer's folder."""
    return load_vocabulary({path.name: path for path in folder.iterdir()}, name=folder.name)


if __name__ == "__main__":
    main()
