"""What a name leads to."""

from pathlib import Path

import pytest

from tokswap.errors import NameUnknownError
from tokswap.names import (
    ALIASES,
    BUNDLED,
    BUNDLED_FOLDER,
    Location,
    aliases_file,
    known_aliases,
    near,
    resolve,
    user_aliases,
)


@pytest.fixture(autouse=True)
def aliases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's alias file, which is not there yet; the working folder is empty."""
    path = tmp_path / "aliases.yaml"
    monkeypatch.setenv("TOKSWAP_ALIASES", str(path))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return path


@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_is_a_hub_id(name: str) -> None:
    assert resolve(name) == Location(name, "hub", ALIASES[name])


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_lies_in_the_package(name: str) -> None:
    assert resolve(name) == Location(name, "bundled", str(BUNDLED_FOLDER / name))


def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert resolve(str(tmp_path / "org")) == Location(
        str(tmp_path / "org"), "folder", str(tmp_path / "org")
    )
    assert resolve("org/model").kind == "hub"
    monkeypatch.chdir(tmp_path)
    assert resolve("org/model") == Location("org/model", "folder", "org/model")  # it is here
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/org").target == str(tmp_path / "org")


@pytest.mark.parametrize(
    ("name", "target", "revision"),
    [
        ("org/model", "org/model", None),
        ("org/model@v1.0", "org/model", "v1.0"),
        ("Org-1/model_2.0-B@refs/pr/1", "Org-1/model_2.0-B", "refs/pr/1"),
    ],
)
def test_a_hub_id_with_a_revision(name: str, target: str, revision: str | None) -> None:
    assert resolve(name) == Location(name, "hub", target, revision)


@pytest.mark.parametrize("name", ["org/model@", "org/model/x", "a b/c", "-x/y", "org/", "", " "])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(NameUnknownError, match=r"no alias, no bundled model, .*tokswap models"):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("lama", "'llama'"), ("Mistrall", "'mistral'"), ("tiny-lama", "'tiny-llama'")],
)
def test_a_misspelt_name_is_told_the_near_ones(name: str, meant: str) -> None:
    with pytest.raises(NameUnknownError, match=rf"'{name}' is no alias.*did you mean .*{meant}"):
        resolve(name)


def test_a_name_like_no_other_is_told_none() -> None:
    with pytest.raises(NameUnknownError) as raised:
        resolve("zzzzzz")
    assert "did you mean" not in str(raised.value)
    assert near("zzzzzz", ["llama"]) == ""
    assert near("LLAMA", ["llama"]) == "; did you mean 'llama'?"


def test_a_file_is_told_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(NameUnknownError, match=r"model\.safetensors' is a file; give the folder"):
        resolve(str(path))


def test_the_users_aliases_win(aliases: Path) -> None:
    aliases.write_text("llama: org/mine@v2\ntiny: tiny-llama\n", encoding="utf-8")
    assert resolve("llama") == Location("llama", "hub", "org/mine", "v2")
    assert resolve("tiny") == Location("tiny", "bundled", str(BUNDLED_FOLDER / "tiny-llama"))
    assert resolve("mistral").target == ALIASES["mistral"]
    assert known_aliases() == {
        "llama": ("org/mine@v2", str(aliases)),
        "mistral": (ALIASES["mistral"], "tokswap"),
        "tiny": ("tiny-llama", str(aliases)),
    }


def test_an_alias_may_be_a_folder(aliases: Path, tmp_path: Path) -> None:
    aliases.write_text(f"mine: {tmp_path}\n", encoding="utf-8")
    assert resolve("mine") == Location("mine", "folder", str(tmp_path))


def test_no_alias_file_means_no_aliases(aliases: Path) -> None:
    assert user_aliases() == {}
    aliases.write_text("# nothing yet\n", encoding="utf-8")
    assert user_aliases() == {}


def test_the_alias_file_lies_among_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TOKSWAP_ALIASES")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert aliases_file() == tmp_path / "tokswap" / "aliases.yaml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert aliases_file() == tmp_path / ".config" / "tokswap" / "aliases.yaml"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"llama: [", r"aliases\.yaml is not valid YAML .*mend or remove it"),
        (b"\xff\xfe\xfa", r"aliases\.yaml is not valid YAML"),
        (b"- llama", r"aliases\.yaml must map names to names"),
        (b"llama: 3", r"aliases\.yaml must map names to names, like `llama: org/model`"),
        (b"3: org/model", r"aliases\.yaml must map names to names"),
        (b"llama: {a: b}", r"aliases\.yaml must map names to names"),
    ],
)
def test_a_malformed_alias_file_is_refused(aliases: Path, said: bytes, message: str) -> None:
    aliases.write_bytes(said)
    with pytest.raises(NameUnknownError, match=message):
        resolve("llama")


@pytest.mark.parametrize(
    ("location", "short"),
    [
        (Location("llama", "hub", "meta-llama/Llama-3.2-1B"), "llama"),
        (Location("org/model-1.0@v2", "hub", "org/model-1.0", "v2"), "model-1.0"),
        (Location("tiny-llama", "bundled", "x"), "tiny-llama"),
        (Location("/data/my model@home/", "folder", "/data/my model@home"), "my-model-home"),
        (Location(".", "folder", "/data/here"), "here"),
        (Location("/", "folder", "/"), "model"),
    ],
)
def test_short_names_are_fit_for_folders(location: Location, short: str) -> None:
    assert location.short == short
