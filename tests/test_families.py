"""Every family of models in the installed transformers, transplanted and loaded again.

A small random checkpoint of each (see families.py) goes through the pipeline's own functions onto
three tokenizers: its own, its own with permuted ids, and another. One fresh process then loads all
folders and writes down what their models compute.
"""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers
from families import DEFAULT, PICTURE, REST, VOCAB, Family
from safetensors.torch import load_file

from tokswap.checkpoint.layout import check_sizes, find_layout
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError
from tokswap.names import BUNDLED_FOLDER
from tokswap.output import write_folder
from tokswap.pair import Pair
from tokswap.pipeline import plan_for
from tokswap.plan import Plan
from tokswap.recipe import make_recipe
from tokswap.vocabulary.align import Alignment, align

SHARED = Path(__file__).resolve().parents[2] / "shared"
OWN = BUNDLED_FOLDER / "tiny-llama"
PROMPT = "def main(self, name):\n    return the value of this"
RECIPE = make_recipe({"base_model": "b", "donor": "d", "method": "pieces", "eval": False})


@dataclass(frozen=True)
class Donor:
    """A tokenizer to adopt, aligned once for all families: all have one tokenizer."""

    checkpoint: Checkpoint
    alignment: Alignment
    plan: Plan
    new_of: Mapping[int, int]
    """New ids by old ones, of the tokens that both have."""


def permuted(folder: Path) -> Path:
    """Write the tokenizer with its ids shuffled, but for the one that stands for a picture."""
    said = json.loads((OWN / "tokenizer.json").read_text())
    size = max(token["id"] for token in said["added_tokens"]) + 1
    order = [n for n in range(size) if n != PICTURE]
    random.Random(5).shuffle(order)  # noqa: S311 - no secret
    order.insert(PICTURE, PICTURE)
    said["model"]["vocab"] = {token: order[n] for token, n in said["model"]["vocab"].items()}
    for token in said["added_tokens"]:
        token["id"] = order[token["id"]]
    said["added_tokens"].sort(key=lambda token: token["id"])
    for entry in said["post_processor"]["special_tokens"].values():
        entry["ids"] = [order[n] for n in entry["ids"]]
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(said))
    shutil.copy(OWN / "tokenizer_config.json", folder)
    return folder


def open_donors(folder: Path) -> dict[str, Donor]:
    """Align and plan once what all families share."""
    base = Checkpoint.open(str(OWN))
    folders = {
        "own": OWN,
        "permuted": permuted(folder / "donor"),
        "other": SHARED / "tokenizers" / "llama2",
    }
    found = {}
    for name, folder in folders.items():
        donor = Checkpoint.open(str(folder))
        rows = len(donor.vocabulary)
        alignment = align(base.vocabulary, donor.vocabulary, base_rows=VOCAB, rows=rows)
        pair = Pair(base, donor, find_layout(base), None, alignment)
        new_of = {int(old): new for new, old in enumerate(alignment.source) if old >= 0}
        found[name] = Donor(donor, alignment, plan_for(pair, RECIPE), new_of)
    return found


def prompt(donors: Mapping[str, Donor]) -> list[int]:
    """A text's ids in the base, without the tokens that one of the donors lacks."""
    ids = donors["own"].checkpoint.vocabulary.backend.encode(PROMPT, add_special_tokens=False).ids
    common = [n for n in ids if all(n in donor.new_of for donor in donors.values())]
    assert len(common) > 8
    assert PICTURE not in common
    return common


def write(family: Family, folder: Path, donors: Mapping[str, Donor]) -> None:
    """Write a family's base and its results.

    Raises:
        CheckpointError: If it is refused.
    """
    base = folder / "base"
    family.build().save_pretrained(base)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(OWN / file, base)
    checkpoint = Checkpoint.open(str(base))
    layout = find_layout(checkpoint)
    check_sizes(checkpoint, layout)
    for name, donor in donors.items():
        (folder / name).mkdir()
        pair = Pair(checkpoint, donor.checkpoint, layout, None, donor.alignment)
        write_folder(folder / name, pair, donor.plan, RECIPE)
    (folder / "model_class").write_text(layout.model_class)


LOOK = """
import json, sys, warnings
from pathlib import Path
import torch, transformers
from safetensors.torch import save_file
from tokswap.checkpoint.skeleton import load_model, run_model

warnings.simplefilter("ignore")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
for line in sys.stdin:
    folder, name, ids = json.loads(line)
    folder = Path(folder)
    try:
        model = load_model(folder / name, (folder / "model_class").read_text()).eval()
        seen = {}
        head = model.get_output_embeddings()
        if head is not None:
            head.register_forward_pre_hook(lambda _, given: seen.update(hidden=given[0]))
        with torch.inference_mode():
            seen["logits"] = run_model(model, torch.tensor([ids]))
        save_file({k: v.contiguous() for k, v in seen.items()}, folder / f"{name}.seen")
        fault = None
    except Exception as error:
        fault = f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    print(json.dumps(fault), flush=True)
"""


def compare(folder: Path, donors: Mapping[str, Donor]) -> Iterator[str]:
    """Say in which way a family's results are not what they must be."""
    for path in (folder / "base").iterdir():
        if path.suffix == ".safetensors" or path.name == "config.json":
            if (folder / "own" / path.name).read_bytes() != path.read_bytes():
                yield f"identity: {path.name} differs"
    old = load_file(folder / "base.seen")
    for name in ("permuted", "other"):
        new, new_of = load_file(folder / f"{name}.seen"), donors[name].new_of
        # What comes before the head does not know of the vocabulary: equal bit for bit.
        if "hidden" in old and not torch.equal(old["hidden"], new["hidden"]):
            yield f"{name}: hidden states differ"
        if old["logits"].shape[-1] == VOCAB:
            before = old["logits"][..., list(new_of)]
            after = new["logits"][..., list(new_of.values())]
            # A product of another width may add in another order.
            if not torch.allclose(after, before, rtol=1e-5, atol=1e-5):
                yield f"{name}: logits differ by {(after - before).abs().max():.2g}"
        elif not torch.equal(old["logits"], new["logits"]):
            yield f"{name}: last hidden states differ"


def outcomes(families: Iterable[Family], folder: Path) -> dict[Family, str]:
    """Transplant each family; an empty string means that all is as it must be."""
    donors, found = open_donors(folder), dict[Family, str]()
    ids = prompt(donors)
    requests = {"base": ids} | {
        name: [donors[name].new_of[n] for n in ids] for name in ("permuted", "other")
    }
    with subprocess.Popen(
        [sys.executable, "-c", LOOK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        waiting: list[Family] = []

        def settle(family: Family) -> None:
            place = folder / family.class_name
            faults = [json.loads(process.stdout.readline()) for _ in requests]  # type: ignore
            faults = [fault for fault in faults if fault] or list(compare(place, donors))
            found[family] = "".join(f"fails: {fault}; " for fault in faults)
            shutil.rmtree(place)

        for family in families:
            place = folder / family.class_name
            try:
                write(family, place, donors)
            except CheckpointError as error:
                found[family] = "refused: " + str(error).replace(str(place / "base"), "it")
            except Exception as error:
                found[family] = f"not built: {type(error).__name__}: {error}"
            else:
                for name, tokens in requests.items():
                    line = json.dumps([str(place), name, tokens])
                    process.stdin.write(line + "\n")
                process.stdin.flush()
                waiting.append(family)  # it is looked at while the next one is written
            if len(waiting) > 1:
                settle(waiting.pop(0))
        for family in waiting:
            settle(family)
        process.stdin.close()
    return found


if __name__ == "__main__":
    import tempfile, time

    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        chosen = DEFAULT + (REST if "--all" in sys.argv else [])
        only = [a for a in sys.argv[1:] if a[0] != "-"]
        chosen = [f for f in chosen if not only or f.model_type in only]
        t = time.time()
        for family, outcome in outcomes(chosen, Path(name)).items():
            print(family.model_type, family.class_name, "|", " ".join(outcome.split())[:500])
        print(time.time() - t)
