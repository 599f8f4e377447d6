"""Wall time and peak memory of writing a 2 GB checkpoint, beside `cp -r` and mergekit.

Builds a random, sharded checkpoint of Llama's architecture with a real tokenizer, and a small donor
whose tokenizer is the first 64,000 tokens of a real one. Transplants the one onto the other with
zero rows (no verification, no evaluation), copies the base with `cp -r`, and, where its command is
given, runs mergekit's tokensurgeon on the same folders with the same method.

    python benchmarks/writing.py --base-tokenizer DIR --donor-tokenizer DIR \
        [--peer ENVIRONMENT/bin/mergekit-tokensurgeon]

Each DIR holds tokenizer.json and tokenizer_config.json, as those of Llama 2 and Llama 3. Every
output is flushed to the disk (`sync`) inside the time that is measured, or none is (`--no-sync`).
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processes import measured

WIDTH, HIDDEN, SHARDS, DONOR_WIDTH = 2_048, 8_192, 4, 64


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


def write_config(folder: Path, vocabulary: int, width: int, layers: int) -> None:
    """Write the config of an untied Llama."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "num_key_value_heads": max(width // 256, 1),
        "head_dim": 64,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))


def build_base(folder: Path, tokenizer: Path, layers: int) -> None:
    """Write a random untied Llama checkpoint in shards, with a real tokenizer."""
    import torch
    from safetensors.torch import save_file

    vocabulary = len(json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"])
    names = list(range(layers))
    shapes: list[dict[str, tuple[int, ...]]] = [
        {name: s for n in names[part::SHARDS] for name, s in layer(n).items()}
        for part in range(SHARDS)
    ]
    shapes[0] = {"model.embed_tokens.weight": (vocabulary, WIDTH), **shapes[0]}
    shapes[-1] |= {"model.norm.weight": (WIDTH,), "lm_head.weight": (vocabulary, WIDTH)}
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
    write_config(folder, vocabulary, WIDTH, layers)
    for file in tokenizer.iterdir():
        shutil.copy(file, folder)


def build_donor(folder: Path, tokenizer: Path, size: int) -> None:
    """Write a small random model whose tokenizer is the first tokens of a real one."""
    import torch
    from safetensors.torch import save_file

    said: dict[str, Any] = json.loads((tokenizer / "tokenizer.json").read_text())
    model, added = said["model"], said["added_tokens"]
    kept = size - len(added)
    model["vocab"] = {token: n for token, n in model["vocab"].items() if n < kept}
    merges = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    model["merges"] = [p for p in merges if {*p, "".join(p)} <= model["vocab"].keys()]
    for number, token in enumerate(added):
        token["id"] = kept + number
    ids = {token["content"]: token["id"] for token in added}
    renumber(said["post_processor"], ids)
    (folder / "tokenizer.json").write_text(json.dumps(said))
    shutil.copy(tokenizer / "tokenizer_config.json", folder)
    shape = (size, DONOR_WIDTH)
    tables = {name: torch.randn(shape).bfloat16() for name in ("model.embed_tokens", "lm_head")}
    save_file({f"{name}.weight": t for name, t in tables.items()}, folder / "model.safetensors")
    write_config(folder, size, DONOR_WIDTH, 0)


def renumber(part: Any, ids: dict[str, int]) -> None:
    """Give a template's special tokens the ids that they have now."""
    for each in part.get("processors", []):
        renumber(each, ids)
    for token in part.get("special_tokens", {}).values():
        token["ids"] = [ids[string] for string in token["tokens"]]


def report(said: argparse.Namespace, base: Path, donor: Path) -> Iterator[str]:
    """Alternate the programs; yield one line a measurement."""
    target = base.parent / "out"
    pair = ["--base", base, "--donor", donor, "--out", target, "--method", "zero"]
    swap = [sys.executable, "-m", "tokswap", "transplant", *pair]
    swap += ["--no-eval", "--no-verify", "--quiet"]
    commands = {"tokswap": swap, "cp -r": ["cp", "-r", base, target]}
    if said.peer:
        commands["mergekit"] = [said.peer, base, donor, target, "-a", "zero", "--quiet"]
    for _ in range(said.runs):
        for name, command in commands.items():
            os.sync()
            cost = measured([str(part) for part in command], sync=said.sync)
            size = sum(file.stat().st_size for file in target.iterdir())
            yield (
                f"{name:10} {cost.seconds:7.2f} s   peak {cost.peak:6.0f} MB, "
                f"{cost.anonymous:6.0f} MB anonymous   wrote {size / 1e9:.2f} GB"
            )
            shutil.rmtree(target)


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base-tokenizer", type=Path, required=True)
    parser.add_argument("--donor-tokenizer", type=Path, required=True)
    parser.add_argument("--donor-tokens", type=int, default=64_000)
    parser.add_argument("--layers", type=int, default=14)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peer", type=Path, help="mergekit-tokensurgeon of an environment")
    parser.add_argument("--sync", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder")
    said = parser.parse_args()
    # torch is not imported here: a process counts what the one that started it held as its own.
    versions = {name: importlib.metadata.version(name) for name in ("tokswap", "torch")}
    print(f"{versions}, Python {platform.python_version()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(dir=said.folder) as work:
        base, donor = Path(work) / "base", Path(work) / "donor"
        for folder, build, arguments in (
            (base, build_base, (said.base_tokenizer, said.layers)),
            (donor, build_donor, (said.donor_tokenizer, said.donor_tokens)),
        ):
            folder.mkdir()
            spawned = multiprocessing.get_context("spawn").Process(
                target=build, args=(folder, *arguments)
            )
            spawned.start()
            spawned.join()
        table = said.donor_tokens * WIDTH * 2 / 2**20
        print(f"checkpoint of {sum(f.stat().st_size for f in base.iterdir()) / 1e9:.2f} GB")
        print(f"one new embedding table: {table:.0f} MB")
        for line in report(said, base, donor):
            print(line, flush=True)


if __name__ == "__main__":
    main()
