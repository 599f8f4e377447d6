"""The tokenizer of an output folder: what AutoTokenizer gives beside each type of model."""

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers.models.auto import tokenization_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from tokswap.checkpoint.fidelity import PROBE
from tokswap.checkpoint.tokenizer_config import CLASS, NO_CODE
from tokswap.tokenizer_folder import Settled, settle_files, try_loader, write_tokenizer

DOCS = Path(__file__).parents[1] / "docs" / "tokenizers.md"
LENGTH = {"model_max_length": 1000000000000000019884624838656}  # that of all these donors

DONORS = {"llama3": CLASS, "llama2": "LlamaTokenizer", "mistral-nemo": "GPT2Tokenizer"}
"""With the classes that their own repositories name."""


@pytest.fixture(scope="module")
def small(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A real tokenizer with its first merges only, so that it loads in no time."""
    made: dict[str, Path] = {}

    def shrink(name: str) -> Path:
        if name in made:
            return made[name]
        path = shared / "tokenizers" / name / "tokenizer.json"
        if not path.is_file():
            pytest.skip(f"needs the tokenizer {name}")
        said = json.loads(path.read_text(encoding="utf-8"))
        model = said["model"]
        merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
        known = set(model["vocab"]) - {a + b for a, b in merges}
        known |= {token["content"] for token in said["added_tokens"]}
        kept = []
        for a, b in merges:
            if len(kept) < 1000 and a in known and b in known:
                known.add(a + b)
                kept.append([a, b])
        model["merges"] = kept
        model["vocab"] = {token: n for token, n in model["vocab"].items() if token in known}
        folder = tmp_path_factory.mktemp(name)
        (folder / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")
        settings = LENGTH | {"tokenizer_class": DONORS[name]}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        return made.setdefault(name, folder)

    return shrink


def settled(donor: Path, config: dict[str, Any], **settings: Any) -> Settled:
    """Settle a folder's tokenizer beside a base of which only config.json is known."""
    files = {path.name: path for path in donor.iterdir()}
    said = json.loads(files["tokenizer_config.json"].read_text())
    tokens = [t["content"] for t in json.loads(files["tokenizer.json"].read_text())["added_tokens"]]
    about = {"base": LENGTH, "base_config": config, "config": config, "tokens": tokens}
    return settle_files(files, donor=said, **about | settings)


def kinds() -> dict[tuple[str | None, bool], list[str]]:
    """Types of model by what AutoTokenizer knows of them: a class, and whether it insists."""
    found: dict[tuple[str | None, bool], list[str]] = defaultdict(list)
    names = tokenization_auto.TOKENIZER_MAPPING_NAMES
    for kind in sorted({*names, *CONFIG_MAPPING_NAMES}):
        insists = kind in tokenization_auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS
        found[names.get(kind), insists].append(kind)
    return found


def documented(heading: str) -> set[str]:
    """The types of model that the page lists under a heading."""
    part = DOCS.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(.+?)` \|", part, re.MULTILINE))


def sweep(donor: Path, types: Iterable[str]) -> dict[str, Settled]:
    return {kind: settled(donor, {"model_type": kind}) for kind in types}


def check_sweep(found: dict[str, Settled]) -> None:
    """Every type loads faithfully; those that take an ``auto_map`` are the documented ones."""
    faults = {kind: one.fault for kind, one in found.items() if one.fault}
    print("types that could not be tried:", faults)  # noqa: T201
    assert set(faults) == documented("Types that could not be tried") & set(found), faults
    insisting = {kind for kind, one in found.items() if one.remedy == "no code"}
    print("types that replace the tokenizer:", *sorted(insisting))  # noqa: T201
    assert insisting == documented("Types that replace the tokenizer") & set(found)


@pytest.mark.parametrize("donor", ["llama3", "llama2"])
def test_beside_every_kind_of_model_it_loads_faithfully(donor: str, small) -> None:
    """One type of each kind, and all types whose class transformers insists on."""
    types = [
        kind for (_, insists), all_ in kinds().items() for kind in all_[: None if insists else 1]
    ]
    assert documented("Types that replace the tokenizer") <= set(types)
    check_sweep(sweep(small(donor), types))


@pytest.mark.slow
@pytest.mark.parametrize("donor", DONORS)
def test_beside_every_type_of_model_it_loads_faithfully(donor: str, small) -> None:
    check_sweep(sweep(small(donor), [kind for all_ in kinds().values() for kind in all_]))


LOOK = """
import json, sys
from transformers import AutoTokenizer
text = sys.stdin.read()
for folder in sys.argv[1:]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    limits = tokenizer.model_max_length, tokenizer.padding_side
    print(json.dumps([tokenizer(text)["input_ids"], *limits]))
"""


def look(folders: list[Path], text: str) -> list[list[Any]]:
    """Load folders in a fresh process, which could be asked for trust but says nothing."""
    command = [sys.executable, "-c", LOOK, *map(str, folders)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "trust" not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def donors(request: pytest.FixtureRequest, shared: Path, small) -> list[Path]:
    """Whole tokenizers, and a small one where its whole would take long."""
    folders = [shared / "tokenizers" / name for name in request.param]
    if missing := [folder.name for folder in folders if not folder.is_dir()]:
        pytest.skip(f"needs the tokenizers {missing}")
    return folders if "llama3" in request.param else [small("llama3"), *folders]


@pytest.mark.parametrize(
    "donors",
    [
        ("gpt2", "mistral-v3"),
        pytest.param(("llama3", "mistral-nemo", "qwen", "llama2"), marks=pytest.mark.slow),
    ],
    indirect=True,
)
def test_beside_a_qwen2_in_a_fresh_process(donors: list[Path], tmp_path: Path) -> None:
    config = {"model_type": "qwen2", "max_position_embeddings": 777}
    folders = []
    for number, donor in enumerate(donors):
        one = settled(donor, config, base={})
        assert (one.fault, one.remedy, one.loader) == (None, "no code", "auto")
        assert one.settings is not None
        assert one.settings["auto_map"] == NO_CODE
        folder = tmp_path / str(number)
        folder.mkdir()
        write_tokenizer(folder, {path.name: path for path in donor.iterdir()}, one.settings)
        (folder / "config.json").write_text(json.dumps(config))
        assert (folder / "tokenizer.json").read_bytes() == (donor / "tokenizer.json").read_bytes()
        folders.append(folder)
    for folder, (ids, length, side) in zip(folders, look(folders, PROBE), strict=True):
        assert ids == Tokenizer.from_file(str(folder / "tokenizer.json")).encode(PROBE).ids
        assert (length, side) == (777, "right")


def test_where_nothing_must_change_nothing_does(small, tmp_path: Path) -> None:
    donor = small("llama3")
    one = settled(donor, {"model_type": "llama"})
    assert one == Settled("TokenizersBackend", "none", None, (), None, "auto")
    assert one.notes() == []
    write_tokenizer(tmp_path, {path.name: path for path in donor.iterdir()}, one.settings)
    for path in donor.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_class_that_rebuilds_the_tokenizer_is_set_aside(small) -> None:
    one = settled(small("mistral-nemo"), {"model_type": "llama"})
    assert (one.fault, one.remedy) == (None, "class")
    assert one.settings == LENGTH | {"tokenizer_class": CLASS}
    assert one.changes == (f"tokenizer_class {CLASS} for GPT2Tokenizer",)
    assert f"tokenizer_class {CLASS}" in one.notes()[0]


def test_a_donor_without_settings_gets_the_few_that_are_needed(small, tmp_path: Path) -> None:
    shutil.copy(small("llama3") / "tokenizer.json", tmp_path)
    files = {"tokenizer.json": tmp_path / "tokenizer.json"}
    about = {"donor": {}, "base": {"model_max_length": 64}, "base_config": {}, "tokens": ["<x>"]}
    one = settle_files(files, config={"model_type": "gpt2"}, **about)
    assert (one.fault, one.remedy) == (None, "class")
    assert one.settings == {"model_max_length": 64, "tokenizer_class": CLASS}


def test_code_of_the_donors_is_not_needed(small, tmp_path: Path) -> None:
    """The donor's class is code in its repository, which does not come along."""
    donor = tmp_path / "donor"
    shutil.copytree(small("llama3"), donor)
    said = LENGTH | {
        "auto_map": {"AutoTokenizer": ["tokenization_x.XTokenizer", None]},
        "tokenizer_class": "XTokenizer",
    }
    (donor / "tokenizer_config.json").write_text(json.dumps(said))
    for kind in ("llama", "qwen2", "unheard_of"):
        one = settled(donor, {"model_type": kind})
        assert one.fault is None
        assert one.settings is not None
        assert one.settings["tokenizer_class"] == CLASS
        assert one.settings.get("auto_map") in (None, NO_CODE)


def test_a_token_that_tokenizer_json_has_not_is_not_named(small, tmp_path: Path) -> None:
    """It would get an id for which there is no row."""
    donor = tmp_path / "donor"
    shutil.copytree(small("llama3"), donor)
    named = {"pad_token": "[PAD]", "bos_token": "<|begin_of_text|>", "eos_token": None}
    said = LENGTH | {"tokenizer_class": CLASS, **named}
    (donor / "tokenizer_config.json").write_text(json.dumps(said))
    one = settled(donor, {"model_type": "llama"})
    assert one.fault is None
    assert one.settings == {key: value for key, value in said.items() if key != "pad_token"}
    assert one.changes == ("pad_token left out (tokenizer.json has no '[PAD]')",)

    said = LENGTH | {"tokenizer_class": CLASS, "additional_special_tokens": ["<|more|>"]}
    (donor / "tokenizer_config.json").write_text(json.dumps(said))
    one = settled(donor, {"model_type": "llama"})
    assert one.fault is not None
    assert "adds '<|more|>'" in one.fault


def test_what_cannot_be_mended_is_said_with_the_line_that_loads_it(small, tmp_path: Path) -> None:
    """A donor whose settings contradict its tokenizer.json: special tokens are read as text."""
    donor = tmp_path / "donor"
    shutil.copytree(small("llama2"), donor)
    said = LENGTH | {"tokenizer_class": CLASS, "split_special_tokens": True}
    (donor / "tokenizer_config.json").write_text(json.dumps(said))
    one = settled(donor, {"model_type": "llama"})
    assert one.fault is not None
    assert "otherwise than tokenizer.json" in one.fault
    assert one.settings is None  # nothing helps, so nothing is changed
    assert one.line("x") == 'PreTrainedTokenizerFast(tokenizer_file="x/tokenizer.json")'
    assert one.line("x") in one.notes()[-1].replace("path/to/this/folder", "x")


def test_a_config_that_transformers_refuses_leaves_the_faithful_class(small) -> None:
    config = {"model_type": "gemma4_assistant", "hidden_size": "wide"}
    one = settled(small("llama3"), config)
    assert one.fault is not None
    assert one.fault.startswith("AutoTokenizer cannot read")
    assert one.line("x") == 'PreTrainedTokenizerFast.from_pretrained("x")'


def test_where_it_was_tried_is_no_part_of_what_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "tokenizer.json").write_text("{}")
    class_name, fault = try_loader(tmp_path, "auto", Tokenizer(BPE()), [])
    assert class_name is None
    assert fault is not None
    assert "the folder" in fault
    assert str(tmp_path) not in fault
