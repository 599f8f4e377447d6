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
import tempfile
import warnings
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

OWN = BUNDLED_FOLDER / "tiny-llama"
SMALLER = BUNDLED_FOLDER / "tiny-mistral"
LARGER = Path(__file__).resolve().parents[2] / "shared" / "tokenizers" / "llama2"
"""Another tokenizer, of 32,000 tokens: opened three times a family, so for the long run alone."""
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


def with_padding(folder: Path, source: Path) -> Path:
    """Copy a tokenizer and say which token pads, without which some classes do not load."""
    shutil.copytree(source, folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": "<unk>"}))
    return folder


def open_donors(folder: Path, other: Path) -> dict[str, Donor]:
    """Align and plan once what all families share."""
    base = Checkpoint.open(str(OWN))
    folders = {
        "own": OWN,
        "permuted": permuted(folder / "donor"),
        "other": with_padding(folder / "other", other),
    }
    found = {}
    for name, place in folders.items():
        donor = Checkpoint.open(str(place))
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
from tokswap.checkpoint.classes import load_model, run_model

warnings.simplefilter("ignore")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
for line in sys.stdin:
    folder, name, ids = json.loads(line)
    folder = Path(folder)
    try:
        model = load_model(folder / name, (folder / "model_class").read_text()).eval()
        for tensor in model.parameters():
            # Where a file is mapped, tensors begin at any byte, and by that sums are ordered.
            tensor.data = tensor.data.clone()
        seen = {}
        head = model.get_output_embeddings()
        if head is not None:
            head.register_forward_pre_hook(lambda _, given: seen.update(hidden=given[0]))
        with torch.inference_mode():
            seen["logits"] = run_model(model, torch.tensor([ids]))
        save_file({k: v.contiguous() for k, v in seen.items()}, folder / f"{name}.seen")
        fault = None
    except Exception as error:
        fault = f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    print(json.dumps(fault), flush=True)
"""


def compare(folder: Path, donors: Mapping[str, Donor]) -> Iterator[str]:
    """Say in which way a family's results are not what they must be."""
    for path in (folder / "base").iterdir():
        same = (folder / "own" / path.name).read_bytes() == path.read_bytes()
        if not same and (path.suffix == ".safetensors" or path.name == "config.json"):
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


def quieten() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")  # what shrunk configs are warned of is no matter here


def outcomes(families: Iterable[Family], folder: Path, other: Path) -> dict[Family, str]:
    """Transplant each family; an empty string means that all is as it must be."""
    quieten()
    donors, found = open_donors(folder, other), dict[Family, str]()
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
            place = folder / f"{family.model_type}-{family.class_name}"
            faults = [json.loads(process.stdout.readline()) for _ in requests]  # type: ignore
            if faults[0]:
                found[family] = f"not built: {faults[0]}"
            else:
                faults = [fault for fault in faults if fault] or list(compare(place, donors))
                found[family] = "fails: " * bool(faults) + "; ".join(faults)
            shutil.rmtree(place)

        for family in families:
            place = folder / f"{family.model_type}-{family.class_name}"
            try:
                write(family, place, donors)
            except CheckpointError as error:
                found[family] = reason("refused", error, place)
            except Exception as error:
                found[family] = reason("not built", error, place)
            else:
                for name, tokens in requests.items():
                    line = json.dumps([str(place), name, tokens])
                    process.stdin.write(line + "\n")
                process.stdin.flush()
                waiting.append(family)  # it is looked at while the next one is written
            if family in found:
                shutil.rmtree(place, ignore_errors=True)
            if len(waiting) > 1:
                settle(waiting.pop(0))
        for family in waiting:
            settle(family)
        process.stdin.close()
    return found


def reason(word: str, error: Exception, place: Path) -> str:
    """One line on what an exception says, the same wherever the folder lies."""
    kind = "" if isinstance(error, CheckpointError) else f"{type(error).__name__}: "
    text = " ".join(str(error).split()).replace(str(place / "base"), "it").removeprefix("it: ")
    return f"{word}: {kind}{text[:200]}".replace("|", "/")


DOC = Path(__file__).resolve().parents[1] / "docs" / "families.md"
HEAD = f"""# Families of models

Every family that transformers {transformers.__version__} can build as a language model: decoders,
encoders with a head for masked tokens, models of pictures and text, and encoder-decoders. tokswap
has no table of them: it asks transformers how a model is built, and tries which of its tensors grow
with the vocabulary.

A small random checkpoint of each is transplanted onto three tokenizers and loaded again in another
process: onto its own (the same files, byte for byte), its own with permuted ids (the logits are
permuted) and another, larger one (the hidden states of a prompt that both cut alike are the same,
bit for bit).
`not built` means that shrinking the family's default config gives no model that runs, so that it
was not tried; it says nothing of real checkpoints. Of models of pictures and sounds the text part
is tried.

Refused by name as well, whatever the family: models that transformers has no class for, such as
those that bring their own code (the first MiniCPM); models that keep codes of pictures or sounds
among the token ids (`vocab_offset`, `vocabulary_map`, `additional_vocab_size`: Gemma 3n with its
towers, Chameleon, Emu3, Idefics, Molmo 2); EAGLE-3 drafts that read their target's embedding.

Written by `make families`; the tests compare it with what is so.

| family | class | outcome |
|---|---|---|
"""


def row(family: Family, outcome: str) -> str:
    return f"| `{family.model_type}` | {family.class_name} | {outcome or 'works'} |"


def listed() -> dict[Family, str]:
    """What docs/families.md says."""
    found = {}
    text = DOC.read_text(encoding="utf-8") if DOC.is_file() else ""
    for line in text.splitlines():
        if line.startswith("| `"):
            name, kind, outcome = (cell.strip() for cell in line.strip("| ").split(" | "))
            found[Family(name.strip("`"), kind)] = outcome
    return found


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[Family, str]:
    folder = tmp_path_factory.mktemp("families")
    if not request.config.getoption("--all-families"):
        return outcomes(DEFAULT, folder, SMALLER)
    request.getfixturevalue("shared")
    return outcomes(DEFAULT + REST, folder, LARGER)


@pytest.mark.parametrize("family", DEFAULT, ids=lambda family: family.model_type)
def test_a_family_comes_through_unharmed(family: Family, results: dict[Family, str]) -> None:
    assert results[family] == ""


def test_the_list_of_families_says_what_is_so(results: dict[Family, str]) -> None:
    if transformers.__version__ not in DOC.read_text(encoding="utf-8"):
        pytest.skip(f"docs/families.md is of another version than {transformers.__version__}")
    said = listed()
    assert set(said) == {*DEFAULT, *REST}
    assert {family: said[family] for family in results} == {
        family: outcome or "works" for family, outcome in results.items()
    }


@pytest.mark.parametrize(
    ("family", "outcome"),
    [(family, outcome) for family, outcome in listed().items() if outcome != "works"],
    ids=lambda said: said.model_type if isinstance(said, Family) else "",
)
def test_a_family_that_is_not_tried_or_refused(family: Family, outcome: str) -> None:
    assert outcome.startswith(("refused: ", "not built: "))
    pytest.skip(f"{family.model_type}: {outcome}")


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        chosen = DEFAULT + REST
        if sys.argv[1:]:
            chosen = [family for family in chosen if family.model_type in sys.argv[1:]]
        found = outcomes(chosen, Path(name), LARGER)
    rows = [row(family, found[family]) for family in sorted(found, key=lambda f: f.model_type)]
    sys.stdout.write(HEAD + "\n".join(rows) + "\n")
