"""The files beside the weights, written by whole transplants of the bundled models."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from families import build
from transformers import AutoTokenizer, GenerationConfig

from tokswap.beside import look_beside
from tokswap.carry_out import Transplant
from tokswap.errors import CheckpointError, RecipeError
from tokswap.names import BUNDLED_FOLDER
from tokswap.pair import open_pair
from tokswap.pipeline import transplant
from tokswap.recipe import make_recipe

TURNS = "{% for m in messages %}{{ m.content }}MARK{% endfor %}"
OF_MISTRAL = TURNS.replace("MARK", "{{ eos_token }}")  # </s>
OF_LLAMA = TURNS.replace("MARK", "<|pad|>")  # a special token of the base alone
Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Copy a bundled model with some of its JSON files' keys set, or whole files replaced."""

    def make(name: str, source: str, files: dict[str, Any] | None = None) -> Path:
        folder = tmp_path / name
        shutil.copytree(BUNDLED_FOLDER / source, folder)
        for file, said in (files or {}).items():
            path = folder / file
            path.parent.mkdir(exist_ok=True)
            if said is None:
                path.unlink()
            elif isinstance(said, dict):
                before = json.loads(path.read_text()) if path.is_file() else {}
                path.write_text(json.dumps(before | said))
            else:
                path.write_text(said)
        return folder

    return make


def swap(base: Path, donor: Path, out: Path, **settings: Any) -> Transplant:
    said = {"method": "pieces", "eval": False, "verify": False} | settings
    return transplant(base_model=str(base), donor=str(donor), out=str(out), **said)


def read(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(path.read_text())
    return said


def chat(template: object) -> dict[str, Any]:
    return {"tokenizer_config.json": {"chat_template": template}}


def add_special(folder: Path, *tokens: str) -> list[int]:
    """Give a tokenizer further special tokens; return their ids."""
    said = read(folder / "tokenizer.json")
    ids = [token["id"] for token in said["added_tokens"]] + list(said["model"]["vocab"].values())
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    new = list(range(max(ids) + 1, max(ids) + 1 + len(tokens)))
    for number, token in zip(new, tokens, strict=True):
        said["added_tokens"].append({"id": number, "content": token, "special": True, **plain})
    (folder / "tokenizer.json").write_text(json.dumps(said))
    return new


def test_generation_ends_where_the_donors_template_ends_a_turn(made: Made, tmp_path: Path) -> None:
    donor = made("donor", "tiny-mistral", chat(TURNS.replace("MARK", "<|im_end|>")))
    (end,) = add_special(donor, "<|im_end|>")
    base = made("base", "tiny-llama")
    swap(base, donor, tmp_path / "out")
    assert read(tmp_path / "out" / "config.json")["eos_token_id"] == 2
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == [2, end]
    listed = made("listed", "tiny-llama", {"config.json": {"eos_token_id": [6142]}})
    swap(listed, donor, tmp_path / "second")
    assert read(tmp_path / "second" / "config.json")["eos_token_id"] == [2, end]


def test_without_a_file_generation_still_ends(made: Made, tmp_path: Path) -> None:
    donor = made("donor", "tiny-mistral", chat(TURNS.replace("MARK", "<|im_end|>")))
    (end,) = add_special(donor, "<|im_end|>")
    base = made("base", "tiny-llama", {"generation_config.json": None})
    swap(base, donor, tmp_path / "out")
    written = read(tmp_path / "out" / "generation_config.json")
    assert written == {"bos_token_id": 1, "eos_token_id": [2, end]}
    # Where config.json does, none is made.
    plain = made("plain", "tiny-mistral", chat(OF_MISTRAL))
    swap(base, plain, tmp_path / "second")
    assert not (tmp_path / "second" / "generation_config.json").exists()


def test_an_end_that_is_known_changes_nothing(made: Made, tmp_path: Path) -> None:
    base, donor = made("base", "tiny-llama"), made("donor", "tiny-mistral", chat(OF_MISTRAL))
    result = swap(base, donor, tmp_path / "out")
    assert read(tmp_path / "out" / "generation_config.json")["eos_token_id"] == 2
    assert not [line for line in result.warnings if "template" in line]


def test_a_model_on_its_own_tokenizer_keeps_every_file(made: Made, tmp_path: Path) -> None:
    files = {
        # It ends its turn with a token that is not among its ends, and names one that is not there.
        "chat_template.jinja": OF_LLAMA + "{# <|nowhere|> #}",
        "additional_chat_templates/rag.jinja": "R\n",
        "config.json": {"image_token_id": 9, "tokenizer_class": "X", "auto_map": {"A": "b.C"}},
        "generation_config.json": {"suppress_tokens": [1, 2], "bad_words_ids": [[5, 6]]},
        "processor_config.json": {"image_token": "<no such>", "chat_template": "P"},
        "LICENSE": "L",
        "NOTICE": "N",
        "modeling_x.py": "raise SystemExit",
    }
    base = made("base", "tiny-llama", files)
    result = swap(base, base, tmp_path / "out")
    assert result.warnings == ()
    of = {
        folder: {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in (base, tmp_path / "out")
    }
    ours = {"tokswap.json", "tokswap.plan", "README.md"}
    written = {name: data for name, data in of[tmp_path / "out"].items() if name not in ours}
    assert written == {name: data for name, data in of[base].items() if name not in ours}


NAMED = [{"name": "default", "template": OF_MISTRAL}, {"name": "rag", "template": "R"}]


@pytest.mark.parametrize("whose", ["donor", "base"])
@pytest.mark.parametrize("form", ["list", "folder"])
def test_named_templates_travel(whose: str, form: str, made: Made, tmp_path: Path) -> None:
    named = chat(NAMED) if form == "list" else {
        "chat_template.jinja": OF_MISTRAL, "additional_chat_templates/rag.jinja": "R",
    }  # fmt: skip
    sides = {"base": "tiny-llama", "donor": "tiny-mistral"}
    folders = {
        side: made(side, source, named if side == whose else chat("{{ messages }} of the other"))
        for side, source in sides.items()
    }
    swap(folders["base"], folders["donor"], tmp_path / "out", chat_template=whose)
    found = AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    assert found == {"default": OF_MISTRAL, "rag": "R"}


def test_a_template_of_the_users_own(made: Made, tmp_path: Path) -> None:
    base, donor = made("base", "tiny-llama"), made("donor", "tiny-mistral", chat("{{ messages }}"))
    mine = tmp_path / "mine.jinja"
    mine.write_text(OF_MISTRAL)
    result = swap(base, donor, tmp_path / "out", chat_template=str(mine))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == OF_MISTRAL
    assert len(result.record["sha256"]["mine.jinja"]) == 64
    assert "chat_template" not in read(tmp_path / "out" / "tokenizer_config.json")
    assert result.record["recipe"]["chat_template"] == str(mine)


@pytest.mark.parametrize("whose", ["base", "mine.jinja"])
def test_a_template_that_the_new_tokenizer_cuts_up_is_refused(
    whose: str, made: Made, tmp_path: Path
) -> None:
    base, donor = made("base", "tiny-llama", chat(OF_LLAMA)), made("donor", "tiny-mistral")
    (tmp_path / "mine.jinja").write_text(OF_LLAMA)
    wanted = whose if whose == "base" else str(tmp_path / whose)
    way = "use donor or none" if whose == "base" else "give a template with the donor's tokens"
    message = rf"writes <\|pad\|>, which the donor's tokenizer cuts into pieces; {way}$"
    with pytest.raises(RecipeError, match=message):
        swap(base, donor, tmp_path / "out", chat_template=wanted)
    assert not (tmp_path / "out").exists()


def test_what_is_one_token_in_the_base_alone_is_meant_as_one(made: Made, tmp_path: Path) -> None:
    base = made("base", "tiny-llama", chat(TURNS.replace("MARK", "[DONE]")))
    donor = made("donor", "tiny-mistral")
    swap(base, donor, tmp_path / "plain", chat_template="base")  # text to both
    add_special(base, "[DONE]")
    with pytest.raises(RecipeError, match=r"the base's chat template writes \[DONE\], which"):
        swap(base, donor, tmp_path / "out", chat_template="base")


def test_a_template_that_needs_what_the_donor_has_not_is_refused(
    made: Made, tmp_path: Path
) -> None:
    template = "{{ sep_token + messages[0].content }}"
    base, donor = made("base", "tiny-llama", chat(template)), made("donor", "tiny-mistral")
    message = r"the base's chat template cannot be used with .* \('sep_token' is undefined\); use"
    with pytest.raises(RecipeError, match=message):
        swap(base, donor, tmp_path / "out", chat_template="base")


def test_the_donors_own_faults_are_told(made: Made, tmp_path: Path) -> None:
    base = made("base", "tiny-llama")
    donor = made("donor", "tiny-mistral", chat(OF_LLAMA + "{% if tools %}<|tool|>{% endif %}"))
    result = swap(base, donor, tmp_path / "out")
    assert [line for line in result.warnings if "template" in line] == [
        "the donor's chat template writes <|pad|>, which the donor's tokenizer cuts into pieces",
        "the donor's chat template names <|tool|>, which the donor's tokenizer cuts into pieces",
    ]


def test_a_base_that_sees_is_refused_unless_for_text_alone(made: Made, tmp_path: Path) -> None:
    files = {
        "config.json": {"image_token_id": 6143},
        "processor_config.json": {"image_token": "<|pad|>", "processor_class": "LlavaProcessor"},
        "preprocessor_config.json": {"size": 336},
    }
    base, donor = made("base", "tiny-llama", files), made("donor", "tiny-mistral")
    # The padding of the base has no counterpart.
    said = {"base_model": str(base), "donor": str(donor)}
    pair = open_pair(make_recipe(said))
    message = (
        "takes in pictures, films or sound by <|pad|> (image_token_id), and "
        f"{str(donor)!r} has no such token; give a donor that has them all, or "
        "`--set text_only=true`"
    )
    with pytest.raises(CheckpointError, match=re.escape(message)):
        look_beside(pair, make_recipe(said))
    result = swap(base, donor, tmp_path / "out", text_only=True)
    assert "pictures, films and sound no longer work: there is no <|pad|> (image_token_id)" in (
        result.warnings
    )
    assert read(tmp_path / "out" / "config.json")["image_token_id"] == -1
    assert not list((tmp_path / "out").glob("*processor*"))


def test_ids_that_config_json_leaves_to_its_class_count_too(made: Made) -> None:
    base, donor = made("base", "tiny-llama"), made("donor", "tiny-mistral")
    recipe = make_recipe({"base_model": str(base), "donor": str(donor)})
    pair = open_pair(recipe)
    layout = replace(pair.layout, unsaid={"text_config": {"image_token_id": 6143, "n": 1}})
    with pytest.raises(CheckpointError, match=r"sound by <\|pad\|> \(image_token_id\)"):
        look_beside(replace(pair, layout=layout), recipe)
    assert look_beside(pair, recipe).settings["config.json"]["vocab_size"] == 4096


def test_processor_files_travel_patched(made: Made, tmp_path: Path) -> None:
    files = {
        "config.json": {"image_token_id": 6143},
        "processor_config.json": {"image_token": "<|pad|>", "image_token_id": 6143, "n": 6143},
        "preprocessor_config.json": '{"size":   336}',
        "tokenizer_config.json": {"image_token": "<|pad|>"},
    }
    base, donor = made("base", "tiny-llama", files), made("donor", "tiny-mistral")
    (new,) = add_special(donor, "<|pad|>")
    result = swap(base, donor, tmp_path / "out")
    out = tmp_path / "out"
    assert read(out / "config.json")["image_token_id"] == new
    assert read(out / "processor_config.json") == {
        "image_token": "<|pad|>", "image_token_id": new, "n": 6143,
    }  # fmt: skip
    assert (out / "preprocessor_config.json").read_text() == '{"size":   336}'
    assert (
        "the donor's tokenizer_config.json names no image_token, which the base's processor may "
        "ask for"
    ) in result.warnings


def test_ends_without_counterpart_are_told(made: Made, tmp_path: Path) -> None:
    # pad_token_id 6143, <|pad|>, has no counterpart in the donor.
    base, donor = made("base", "tiny-llama"), made("donor", "tiny-mistral")
    result = swap(base, donor, tmp_path / "out")
    assert (
        "pad_token_id 6143 (config.json and generation_config.json) has no counterpart in the new "
        "vocabulary and was dropped"
    ) in result.warnings


def test_both_licences_lie_there_and_the_card_names_them(made: Made, tmp_path: Path) -> None:
    card = "---\nlicense: other\nlicense_name: llama3.2\n---\n# A model\n"
    base = made("base", "tiny-llama", {"LICENSE": "A", "README.md": card})
    donor = made("donor", "tiny-mistral", {"LICENSE": "B", "NOTICE": "N"})
    swap(base, donor, tmp_path / "out")
    found = {path.name: path.read_text() for path in (tmp_path / "out").glob("[LN]*")}
    assert found == {"LICENSE": "A", "LICENSE.donor": "B", "NOTICE.donor": "N"}
    written = (tmp_path / "out" / "README.md").read_text()
    assert f"- base `{base}`: llama3.2; see LICENSE\n" in written
    assert f"- donor `{donor}`: none stated; see LICENSE.donor, NOTICE.donor\n" in written
    assert "license:" not in written.split("---")[1]
    swap(base, base, tmp_path / "same")
    assert "license: llama3.2\n" in (tmp_path / "same" / "README.md").read_text().split("---")[1]


@pytest.fixture
def roberta(tmp_path: Path) -> Path:
    """An encoder that counts positions from its padding, with tiny-llama's tokenizer."""
    folder = tmp_path / "roberta"
    build("roberta", "RobertaForMaskedLM").save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-llama" / file, folder)
    return folder


def test_padding_that_is_counted_from_stays_in_every_file(
    roberta: Path, made: Made, tmp_path: Path
) -> None:
    (roberta / "generation_config.json").write_text('{"pad_token_id": 1, "max_length": 9}')
    result = swap(roberta, made("donor", "tiny-mistral"), tmp_path / "out")
    (told,) = [line for line in result.warnings if "pad_token_id" in line]
    assert told.startswith("pad_token_id stays 1, for ")
    for file in ("config.json", "generation_config.json"):
        assert read(tmp_path / "out" / file)["pad_token_id"] == 1


def test_an_encoder_is_loaded_as_one_and_gets_no_settings_of_generation(
    roberta: Path, made: Made, tmp_path: Path
) -> None:
    donor = made("donor", "tiny-mistral", chat(TURNS.replace("MARK", "<|im_end|>")))
    add_special(donor, "<|im_end|>")
    swap(roberta, donor, tmp_path / "out")
    assert not (tmp_path / "out" / "generation_config.json").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "from transformers import AutoModelForMaskedLM, AutoTokenizer\n" in card
    assert 'model = AutoModelForMaskedLM.from_pretrained("' in card
    assert "CausalLM" not in card
    t5 = tmp_path / "t5"
    build("t5", "T5ForConditionalGeneration").save_pretrained(t5)
    (t5 / "generation_config.json").unlink(missing_ok=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-llama" / file, t5)
    swap(t5, donor, tmp_path / "second")
    assert (tmp_path / "second" / "generation_config.json").exists()  # it writes text
    assert "model = AutoModelForSeq2SeqLM." in (tmp_path / "second" / "README.md").read_text()


@pytest.mark.parametrize("file", ["processor_config.json", "chat_template.json"])
def test_a_template_that_only_a_processor_reads_is_not_lost(
    file: str, made: Made, tmp_path: Path
) -> None:
    donor = made("donor", "tiny-mistral", {file: {"chat_template": OF_MISTRAL}})
    swap(made("base", "tiny-llama"), donor, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == OF_MISTRAL
    swap(donor, donor, tmp_path / "same")
    assert (tmp_path / "same" / file).read_bytes() == (donor / file).read_bytes()
    assert not (tmp_path / "same" / "chat_template.jinja").exists()
