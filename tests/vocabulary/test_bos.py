"""The base's beginning of text kept in a donor's tokenizer."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tokswap.checkpoint.fidelity import PROBE
from tokswap.errors import RecipeError
from tokswap.vocabulary.bos import KeptBos, keep_bos, opening
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

Make = Callable[..., Vocabulary]
Load = Callable[[str], Vocabulary]

LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
A, B = ({"Sequence": {"id": name, "type_id": n}} for n, name in enumerate("AB"))
END = {"SpecialToken": {"id": "</s>", "type_id": 0}}
ENDING = {
    "type": "TemplateProcessing",
    "single": [A, END],
    "pair": [A, END, B, END],
    "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}},
}
PROCESSORS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "byte-level": LEVEL,
    "ending": ENDING,
    "both": {"type": "Sequence", "processors": [LEVEL, ENDING]},
    "list": {"type": "Sequence", "processors": [LEVEL]},
}


def files_of(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir()}


def written(kept: KeptBos, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in kept.contents.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def base(make: Make) -> Vocabulary:
    return make(["<begin>", "</s>", "x"], special=["<begin>", "</s>"], bos="<begin>", eos="</s>")


def donor_folder(
    folder: Path, make: Make, processor: Mapping[str, Any] | None, **tokens: Any
) -> Path:
    """Write a byte-level donor whose texts begin with nothing."""
    table = tokens.get("table", {"a": 0, "b": 1, "</s>": 2})
    special = [token for token in table if token.startswith("<")]
    said = dict(make(table, special=special, alphabet="byte-level").specification)
    said["post_processor"] = processor
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(said))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    return folder


def load(folder: Path) -> Vocabulary:
    return load_vocabulary(files_of(folder), name=folder.name)


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_text_begins_with_it_and_nothing_else_changes(
    name: str, base: Vocabulary, make: Make, tmp_path: Path
) -> None:
    folder = donor_folder(tmp_path / "donor", make, PROCESSORS[name])
    donor = load(folder)
    kept = keep_bos(base, donor, files_of(folder))
    assert (kept.token, kept.id, kept.base_id) == ("<begin>", 3, 0)
    edited = load(written(kept, tmp_path / "edited"))
    for text in ("ab", "", "a</s>b"):
        for pair in (None, "ba"):
            old = donor.backend.encode(text, pair, add_special_tokens=True)
            new = edited.backend.encode(text, pair, add_special_tokens=True)
            assert new.ids == [3, *old.ids]
            assert new.tokens == ["<begin>", *old.tokens]
            assert new.type_ids == [0, *old.type_ids]
            bare = donor.backend.encode(text, pair, add_special_tokens=False).ids
            assert edited.backend.encode(text, pair, add_special_tokens=False).ids == bare
    assert edited.roles == {"eos": 2, "bos": 3}
    assert opening(edited) == [3]
    changed = {"added_tokens", "post_processor"}
    for key in edited.specification.keys() - changed:
        assert edited.specification[key] == donor.specification[key]
    assert edited.specification["added_tokens"][:-1] == donor.specification["added_tokens"]


READ = """
import json, sys
from transformers import AutoTokenizer
seen = {}
for folder, texts in json.load(sys.stdin).items():
    loaded = AutoTokenizer.from_pretrained(folder)
    seen[folder] = {
        "ids": [loaded(text)["input_ids"] for text in texts],
        "bare": [loaded(text, add_special_tokens=False)["input_ids"] for text in texts],
        "bos": [loaded.bos_token, loaded.bos_token_id],
        "special": loaded.all_special_tokens,
    }
print(json.dumps(seen))
"""


def test_real_donors_in_a_fresh_process(real: Load, shared: Path, tmp_path: Path) -> None:
    wanted, request = {}, {}
    # `<s>` is text to Qwen, which has it among its merges.
    for base, donor, token in (
        ("mistral-nemo", "qwen", "<|begin_of_text|>"),
        ("llama2", "gpt2", "<s>"),
    ):
        files = files_of(shared / "tokenizers" / donor)
        kept = keep_bos(real(base), real(donor), files)
        number = len(real(donor))
        assert (kept.token, kept.id, kept.base_id) == (token, number, 1)
        folder = str(written(kept, tmp_path / donor))
        request[folder] = [PROBE, "", "x", *real(donor).special_ids, f"a{token}b"]
        old = Tokenizer.from_file(str(files["tokenizer.json"]))
        bare = [old.encode(text, add_special_tokens=False).ids for text in request[folder]]
        a, b = (old.encode(text, add_special_tokens=False).ids for text in "ab")
        bare[-1] = [*a, number, *b]
        wanted[folder] = {
            "ids": [[number, *ids] for ids in bare],
            "bare": bare,
            "bos": [token, number],
        }
    ran = subprocess.run(
        [sys.executable, "-c", READ], input=json.dumps(request),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seen = json.loads(ran.stdout.splitlines()[-1])
    for folder, said in wanted.items():
        assert said["bos"][0] in seen[folder].pop("special")
        assert seen[folder] == said


def test_all_that_lies_beside_knows_of_it(base: Vocabulary, make: Make, tmp_path: Path) -> None:
    folder = donor_folder(tmp_path / "donor", make, None)
    config = {
        "eos_token": "</s>",
        "padding_side": "left",
        "added_tokens_decoder": {"2": {"content": "</s>", "special": True}},
        "chat_template": [{"name": "default", "template": "{{ messages }}"}],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text('{"eos_token": "</s>"}')
    (folder / "added_tokens.json").write_text('{"</s>": 2}')
    (folder / "merges.txt").write_text("")
    kept = keep_bos(base, load(folder), files_of(folder))
    said = {name: json.loads(text) for name, text in kept.contents.items()}
    assert "merges.txt" not in said
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    assert said["tokenizer_config.json"] == config | {
        "bos_token": "<begin>",
        "add_bos_token": True,
        "added_tokens_decoder": {
            "2": {"content": "</s>", "special": True},
            "3": {"content": "<begin>", **flags, "special": True},
        },
        "chat_template": said["tokenizer_config.json"]["chat_template"],
    }
    assert said["special_tokens_map.json"] == {"eos_token": "</s>", "bos_token": "<begin>"}
    assert said["added_tokens.json"] == {"</s>": 2, "<begin>": 3}
    assert kept.to_dict() == {"token": "<begin>", "id": 3, "base_id": 0, "files": sorted(said)}


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}",
        "    {% for m in messages %}\n  {{ m.content }}\n    {% endfor %}\n",
        "\n\n{%- for m in messages %}{{ m.content }}{% endfor %}\n",
        "text\n  {%- set x = 1 %}\n {{ messages[0].content }}",
    ],
)
@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
def test_chats_begin_with_it_and_are_rendered_as_before(
    file: str, template: str, base: Vocabulary, make: Make, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    folder = donor_folder(tmp_path / "donor", make, LEVEL)
    if file == "chat_template.jinja":
        (folder / file).write_text(template)
    else:
        (folder / file).write_text(json.dumps({"eos_token": "</s>", "chat_template": template}))
    kept = keep_bos(base, load(folder), files_of(folder))
    chat = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "ba"}]
    old, new = (
        AutoTokenizer.from_pretrained(place)
        for place in (folder, written(kept, tmp_path / "edited"))
    )
    before = old.apply_chat_template(chat, tokenize=False)
    assert "ab" in before
    assert new.apply_chat_template(chat, tokenize=False) == "<begin>" + before
    ids = new.apply_chat_template(chat, tokenize=True)["input_ids"]
    assert ids[0] == 3
    assert 3 not in ids[1:]


def test_a_template_that_writes_it_already_is_left(
    base: Vocabulary, make: Make, tmp_path: Path
) -> None:
    folder = donor_folder(tmp_path / "donor", make, None)
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages }}")
    kept = keep_bos(base, load(folder), files_of(folder))
    assert kept.contents["chat_template.jinja"] == "{{ bos_token }}{{ messages }}"


@pytest.mark.parametrize(
    "table",
    [{"a": 0, "b": 7, "</s>": 2}, {"a": 0, "b": 1, "</s>": 2, "c": 9}, {"a": 1, "</s>": 2}],
)
def test_gaps_in_the_donors_ids(
    table: dict[str, int], base: Vocabulary, make: Make, tmp_path: Path
) -> None:
    folder = donor_folder(tmp_path / "donor", make, ENDING, table=table)
    donor = load(folder)
    kept = keep_bos(base, donor, files_of(folder))
    assert kept.id == len(donor)
    edited = load(written(kept, tmp_path / "edited"))
    assert edited.backend.encode("a</s>").ids == [kept.id, *donor.backend.encode("a</s>").ids]
    assert edited.strings[kept.id] == "<begin>"


def test_a_special_token_of_that_name_is_taken(
    base: Vocabulary, make: Make, tmp_path: Path
) -> None:
    table = {"a": 0, "b": 1, "</s>": 2, "<begin>": 3}
    folder = donor_folder(tmp_path / "donor", make, LEVEL, table=table)
    donor = load(folder)
    kept = keep_bos(base, donor, files_of(folder))
    edited = load(written(kept, tmp_path / "edited"))
    assert (kept.id, len(edited)) == (3, len(donor))
    assert edited.backend.encode("ab").ids == [3, 0, 1]


def test_one_token_that_opens_and_closes_the_base(real: Load, shared: Path) -> None:
    kept = keep_bos(real("gpt2"), real("qwen"), files_of(shared / "tokenizers" / "qwen"))
    assert (kept.token, kept.id) == ("<|endoftext|>", 151_643)  # Qwen's own end of text


def test_what_cannot_be_kept_is_refused(
    base: Vocabulary, make: Make, real: Load, tmp_path: Path
) -> None:
    without = make(["x", "</s>"], special=["</s>"], eos="</s>")
    with pytest.raises(RecipeError, match="has no beginning of text; leave it out"):
        keep_bos(without, real("qwen"), {})
    with pytest.raises(RecipeError, match=r"'llama3' begins them with <.begin_of_text.>; leave"):
        keep_bos(base, real("llama3"), {})
    names = ["<begin>", "<|begin_of_text|>", "<|bos|>"]
    text = make([*names, "x"], alphabet="byte-level")
    with pytest.raises(RecipeError, match=r"needs a token of the name <begin> or .* all of them"):
        keep_bos(base, text, {})


def test_a_name_that_means_something_else_is_not_taken(base: Vocabulary, make: Make) -> None:
    ends = make(["<begin>", "x"], special=["<begin>"], eos="<begin>", alphabet="byte-level")
    text = make(["<begin>", "x"], alphabet="byte-level")
    for donor in (ends, text):
        kept = keep_bos(base, donor, {})
        assert (kept.token, kept.id, kept.base_id) == ("<|begin_of_text|>", 2, 0)


def test_what_the_real_tokenizers_put_before_a_text(real: Load) -> None:
    begins = {name: real(name) for name in ("llama3", "mistral-nemo", "llama2", "mistral-v3")}
    assert all(opening(v) == [v.roles["bos"]] for v in begins.values())
    assert opening(real("qwen")) == opening(real("gpt2")) == []
