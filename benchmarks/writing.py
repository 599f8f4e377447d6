"""Wall time and peak memory of a transplant of a 2 GB checkpoint, beside a plain copy of it.

Builds a random checkpoint of Llama's architecture with a real vocabulary of 128,256 tokens,
transplants it onto another real tokenizer with 131,072 (method `pieces`, no donor weights, no
verification, no evaluation), and copies the same folder with `cp -r`.

    python benchmarks/writing.py --base-tokenizer DIR --donor-tokenizer DIR

Each DIR holds tokenizer.json and tokenizer_config.json, as those of Llama 3 and Mistral NeMo.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

VOCABULARY, WIDTH, HIDDEN, SHARDS = 128_256, 2_048, 8_192, 2


def layer(number: int) -> dict[str, tuple[int, ...]]:
    """Shapes of one decoder layer's tensors."""
    stem = f"model.layers.{number}."
    return {
        stem + "self_attn.q_proj.weight": (WIDTH, WIDTH),
        stem + "self_attn.k_proj.weight": (512, WIDTH),
        stem + "self_attn.v_proj.weight": (512, WIDTH),
        stem + "self_attn.o_proj.weight": (WIDTH, WIDTH),
        stem + "mlp.gate_proj.weight": (HIDDEN, WIDTH),
        stem + "mlp.up_proj.weight": (HIDDEN, WIDTH),
        stem + "mlp.down_proj.weight": (WIDTH, HIDDEN),
        stem + "input_layernorm.weight": (WIDTH,),
        stem + "post_attention_layernorm.weight": (WIDTH,),
    }


def build(folder: Path, tokenizer: Path, layers: int) -> None:
    """Write a random untied Llama checkpoint in two shards, with a real tokenizer."""
    import torch
    from safetensors.torch import save_file

    shapes: list[dict[str, tuple[int, ...]]] = [{"model.embed_tokens.weight": (VOCABULARY, WIDTH)}]
    shapes[0] |= {name: s for n in range(layers // 2) for name, s in layer(n).items()}
    shapes.append({name: s for n in range(layers // 2, layers) for name, s in layer(n).items()})
    shapes[1] |= {"model.norm.weight": (WIDTH,), "lm_head.weight": (VOCABULARY, WIDTH)}
    generator, index, total = torch.Generator().manual_seed(0), {}, 0
    for number, shard in enumerate(shapes, 1):
        name = f"model-{number:05}-of-{SHARDS:05}.safetensors"
        tensors = {
            key: torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
            for key, shape in shard.items()
        }
        save_file(tensors, folder / name, {"format": "pt"})
        index |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    said = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(said))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
    }
    (folder / "config.json").write_text(json.dumps(config))
    for file in tokenizer.iterdir():
        shutil.copy(file, folder)


def measured(command: list[str]) -> tuple[float, float]:
    """Run a command in a process of its own; return its seconds and its peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def report(runs: int, folder: Path, donor: Path) -> Iterator[str]:
    """Alternate the transplant and the copy; yield one line a measurement."""
    target = folder.parent / "out"
    swap = [sys.executable, "-m", "tokswap", "transplant", "--base", str(folder)]
    swap += ["--donor", str(donor), "--out", str(target), "--method", "pieces"]
    swap += ["--no-eval", "--no-verify", "--quiet"]
    for _ in range(runs):
        for name, command in (("transplant", swap), ("cp -r", ["cp", "-r", folder, target])):
            seconds, peak = measured([str(part) for part in command])
            size = sum(file.stat().st_size for file in target.iterdir())
            yield f"{name:12} {seconds:7.1f} s   peak {peak:7.0f} MB   wrote {size / 1e9:.2f} GB"
            shutil.rmtree(target)


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base-tokenizer", type=Path, required=True)
    parser.add_argument("--donor-tokenizer", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder")
    said = parser.parse_args()
    # torch is not imported here: a process counts what the one that started it held as its own.
    versions = {name: importlib.metadata.version(name) for name in ("tokswap", "torch")}
    print(f"{versions}, Python {platform.python_version()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(dir=said.folder) as work:
        folder = Path(work) / "base"
        folder.mkdir()
        builder = multiprocessing.get_context("spawn").Process(
            target=build, args=(folder, said.base_tokenizer, said.layers)
        )
        builder.start()
        builder.join()
        table = VOCABULARY * WIDTH * 2 / 2**20
        print(f"checkpoint of {sum(f.stat().st_size for f in folder.iterdir()) / 1e9:.2f} GB")
        print(f"one embedding table: {table:.0f} MB")
        for line in report(said.runs, folder, said.donor_tokenizer):
            print(line, flush=True)


if __name__ == "__main__":
    main()
