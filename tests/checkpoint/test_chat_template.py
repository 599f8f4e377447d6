"""Chat templates as files, held against what transformers reads from the same folder."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tokswap.checkpoint.chat_template import (
    copy_folder,
    place_templates,
    read_template_file,
    read_templates,
)
from tokswap.checkpoint.files import FolderFiles
from tokswap.errors import CheckpointError, RecipeError
from tokswap.names import BUNDLED_FOLDER, Location

NAMED = [{"name": "default", "template": "D\n{{ a }}"}, {"name": "tool_use", "template": "T"}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(BUNDLED_FOLDER / "tiny-llama" / name, made / name)
    return made


def say(folder: Path, template: object) -> None:
    path = folder / "tokenizer_config.json"
    said = json.loads(path.read_text()) | {"chat_template": template}
    path.write_text(json.dumps(said))


def read(folder: Path) -> dict[str, str]:
    return read_templates(FolderFiles(Location("m", "folder", str(folder))))


def by_transformers(folder: Path) -> dict[str, str]:
    found = AutoTokenizer.from_pretrained(folder).chat_template
    return {"default": found} if isinstance(found, str) else found or {}


def write(folder: Path, **templates: str) -> None:
    for name, text in templates.items():
        below = folder / "additional_chat_templates"
        below.mkdir(exist_ok=True)
        path = folder / "chat_template.jinja" if name == "default" else below / f"{name}.jinja"
        path.write_text(text)


def test_templates_are_read_as_transformers_does(folder: Path) -> None:
    assert read(folder) == by_transformers(folder) == {}
    say(folder, "one\n")
    assert read(folder) == by_transformers(folder) == {"default": "one\n"}
    say(folder, NAMED)
    assert read(folder) == by_transformers(folder) == {"default": "D\n{{ a }}", "tool_use": "T"}
    write(folder, default="of the file")
    assert read(folder) == by_transformers(folder) == {"default": "of the file"}
    write(folder, rag="R")
    assert read(folder) == by_transformers(folder) == {"default": "of the file", "rag": "R"}
    (folder / "chat_template.jinja").unlink()
    assert read(folder) == by_transformers(folder) == {"rag": "R"}


def test_a_processors_template_is_the_last_that_counts(folder: Path) -> None:
    (folder / "processor_config.json").write_text(json.dumps({"chat_template": "P"}))
    assert read(folder) == {"default": "P"}
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "J"}))
    assert read(folder) == {"default": "J"}
    say(folder, "T")
    assert read(folder) == {"default": "T"}


@pytest.mark.parametrize("before", ["one\n", NAMED, None])
@pytest.mark.parametrize(
    "templates", [{}, {"default": "ä\r\n"}, {"default": "D", "rag": "R"}, {"rag": "R"}]
)
def test_placed_templates_are_the_only_ones(
    folder: Path, before: object, templates: dict[str, str]
) -> None:
    say(folder, before)
    write(folder, default="old", old="old")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "old"}))
    said = place_templates(folder, templates)
    assert (said is None) == (before is None)
    if said is not None:
        assert "chat_template" not in said
        (folder / "tokenizer_config.json").write_text(json.dumps(said))
    assert read(folder) == {n: t.replace("\r\n", "\n") for n, t in templates.items()}
    assert by_transformers(folder) == read(folder)
    assert not (folder / "chat_template.json").exists()
    assert (folder / "additional_chat_templates").exists() == ("rag" in templates)


def test_a_folder_of_templates_travels_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    write(folder, rag="R\r\n", tool_use="T")
    (folder / "additional_chat_templates" / "other.txt").touch()
    (tmp_path / "out").mkdir()
    copy_folder(FolderFiles(Location("m", "folder", str(folder))), tmp_path / "out")
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert found == {"rag.jinja": b"R\r\n", "tool_use.jinja": b"T"}


@pytest.mark.parametrize("name", ["../config", "a/b", "", ".hidden", "a\\b"])
def test_a_name_that_leads_elsewhere_is_refused(folder: Path, name: str) -> None:
    say(folder, [{"name": name, "template": "x"}])
    with pytest.raises(CheckpointError, match="which is no name for a file; rename it"):
        read(folder)


def test_a_file_that_is_no_text_or_no_json_is_refused(folder: Path) -> None:
    (folder / "chat_template.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"m: chat_template\.json is not valid JSON .*mend"):
        read(folder)
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"m: chat_template\.jinja is no UTF-8 text .*mend"):
        read(folder)


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    with pytest.raises(RecipeError, match=r"mine\.jinja cannot be read \(No such file.*give donor"):
        read_template_file(str(path))
    path.write_bytes(b"\xff")
    with pytest.raises(RecipeError, match=r"cannot be read \(it is no UTF-8 text\)"):
        read_template_file(str(path))
    path.write_text("mine")
    assert read_template_file(str(path)) == {"default": "mine"}
