"""Files of folders and of the Hub; what is said when the Hub says no, or says nothing."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tokswap.checkpoint.files import (
    FolderFiles,
    is_tokenizer_file,
    open_files,
    tokenizer_files,
)
from tokswap.checkpoint.hub import HubFiles
from tokswap.errors import NameUnknownError
from tokswap.names import Location

HTTP = import_module(HfHubHTTPError.__mro__[1].__module__.partition(".")[0])  # httpx, or its heir
SECRET = "hf_" + "x" * 34
HUB = Location("org/model@v2", "hub", "org/model", "v2")

Fail = Callable[..., None]


def refused(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    """The Hub's own error, with a token in every part of it."""
    request = HTTP.Request("GET", f"https://huggingface.co/{SECRET}",
                           headers={"authorization": f"Bearer {SECRET}"})  # fmt: skip
    return kind(f"refused: {SECRET}", response=HTTP.Response(status, request=request))


@pytest.fixture(autouse=True)
def aliases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKSWAP_ALIASES", str(tmp_path / "none.yaml"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Replace the three calls of the Hub's client: an exception is raised, a value returned."""

    def replace(listing: Any = None, cached: Any = None, download: Any = None) -> None:
        def call(answer: Any) -> Callable[..., Any]:
            def answered(*_args: object, **_kwargs: object) -> Any:
                if isinstance(answer, Exception):
                    raise answer
                assert answer is not None, "not to be called"
                return answer

            return answered

        monkeypatch.setattr("huggingface_hub.HfApi.model_info", call(listing))
        monkeypatch.setattr("huggingface_hub.HfApi.resolve_revision", call(HUB.revision))
        monkeypatch.setattr(huggingface_hub, "snapshot_download", call(cached), raising=False)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", call(download), raising=False)

    return replace


def info(*names: str) -> SimpleNamespace:
    return SimpleNamespace(
        sha="abc123", siblings=[SimpleNamespace(rfilename=n, size=1) for n in names]
    )


def test_a_folder_lists_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("config.json", "tokenizer.json", "below/other.json"):
        (tmp_path / name).touch()
    files = open_files(Location("x", "folder", str(tmp_path)))
    assert isinstance(files, FolderFiles)
    assert files.names == {"config.json", "tokenizer.json"}
    assert files.revision is None
    assert tokenizer_files(files) == {"tokenizer.json": tmp_path / "tokenizer.json"}


def test_files_in_a_folder_below(hub: Fail, tmp_path: Path) -> None:
    names = ("a.txt", "below/b.txt", "below/deeper/c.txt", "belowx/d.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    hub(listing=info(*names))
    for files in (open_files(Location("x", "folder", str(tmp_path))), open_files(HUB)):
        assert files.below("below") == {"below/b.txt"}
        assert files.below("nowhere") == frozenset()
        assert files.names == {"a.txt"}
    hub(listing=OUTAGES["timeout"], cached=str(tmp_path))
    assert HubFiles(HUB).below("below") == {"below/b.txt"}
    assert HubFiles(HUB).names == {"a.txt"}


def test_the_hub_lists_the_top_level(hub: Fail) -> None:
    hub(listing=info("config.json", "onnx/model.onnx"), download="/cache/config.json")
    files = open_files(HUB)
    assert isinstance(files, HubFiles)
    assert files.names == {"config.json"}
    assert files.revision == "abc123"
    assert files.path("config.json") == Path("/cache/config.json")


def test_a_file_is_fetched_of_the_listed_commit(hub: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(listing=info("config.json"))
    asked: list[object] = []

    def download(*args: object, **kwargs: object) -> str:
        asked.extend([args, kwargs])
        return "x"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    HubFiles(HUB).path("config.json")
    assert asked == [("org/model", "config.json"), {"revision": "abc123"}]


REFUSALS = [
    (GatedRepoError, 403, r"'org/model@v2' is gated; accept its terms at https://huggingface\.co/"
                          r"org/model, then log in with `hf auth login`"),
    (RevisionNotFoundError, 404, r"'org/model@v2' has no revision 'v2'; see .*/tree/main"),
    (RepositoryNotFoundError, 401, r"no folder here and the Hub has no such model, or it is "
                                   r"private.*check the spelling, or log in with `hf auth login`"),
    (HfHubHTTPError, 403, r"the Hub has no such model, or it is private"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "message"), REFUSALS)
def test_a_refusal_says_what_to_do(
    hub: Fail, kind: type[HfHubHTTPError], status: int, message: str
) -> None:
    hub(listing=refused(kind, status))
    with pytest.raises(NameUnknownError, match=message) as raised:
        _ = HubFiles(HUB).names
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(("kind", "status", "message"), REFUSALS)
def test_a_refused_file_says_what_to_do(
    hub: Fail, kind: type[HfHubHTTPError], status: int, message: str
) -> None:
    hub(listing=info("config.json"), download=refused(kind, status))
    with pytest.raises(NameUnknownError, match=message) as raised:
        HubFiles(HUB).path("config.json")
    assert SECRET not in str(raised.value)


def test_a_name_that_the_hub_does_not_take_is_refused(hub: Fail) -> None:
    hub(listing=HFValidationError(f"{SECRET} is no repo id"))
    with pytest.raises(NameUnknownError, match="the Hub has no such model") as raised:
        _ = HubFiles(Location("a..b/c", "hub", "a..b/c")).names
    assert SECRET not in str(raised.value)


OUTAGES = {
    "no connection": HTTP.ConnectError(f"no route {SECRET}"),
    "timeout": HTTP.ReadTimeout(f"slow {SECRET}"),
    "python's own": ConnectionError(f"refused {SECRET}"),
    "offline": OfflineModeIsEnabled(f"offline {SECRET}"),
    "hub is down": refused(HfHubHTTPError, 503),
    "too many requests": refused(HfHubHTTPError, 429),
}


@pytest.mark.parametrize("error", OUTAGES.values(), ids=OUTAGES)
def test_without_network_and_cache_nothing_is_to_be_had(hub: Fail, error: Exception) -> None:
    hub(listing=error, cached=LocalEntryNotFoundError(f"not cached {SECRET}"))
    message = r"'org/model@v2' is no folder here, the Hub .*, and nothing of it was fetched before"
    with pytest.raises(NameUnknownError, match=message + r".*check the spelling and the network"):
        _ = HubFiles(HUB).names
    with pytest.raises(NameUnknownError) as raised:
        _ = HubFiles(HUB).revision
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("error", OUTAGES.values(), ids=OUTAGES)
def test_without_network_the_cache_does(hub: Fail, tmp_path: Path, error: Exception) -> None:
    folder = tmp_path / "def456"
    folder.mkdir()
    (folder / "config.json").touch()
    hub(listing=error, cached=str(folder))
    assert HubFiles(HUB).names == {"config.json"}
    assert HubFiles(HUB).revision == "def456"


@pytest.mark.parametrize("error", [*OUTAGES.values(), LocalEntryNotFoundError(SECRET)])
def test_a_file_that_is_cut_off_on_its_way_may_be_fetched_again(
    hub: Fail, error: Exception
) -> None:
    hub(listing=info("config.json"), download=error)
    message = r"config\.json of 'org/model@v2' cannot be fetched: the Hub .*network.*run again"
    with pytest.raises(NameUnknownError, match=message) as raised:
        HubFiles(HUB).path("config.json")
    assert SECRET not in str(raised.value)


def test_a_full_disk_is_no_outage(hub: Fail) -> None:
    hub(listing=info("config.json"), download=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    message = r"config\.json of .* cannot be kept here \(No space left on device\); free some space"
    with pytest.raises(NameUnknownError, match=message):
        HubFiles(HUB).path("config.json")


def test_a_fault_of_the_program_is_not_hidden(hub: Fail) -> None:
    hub(listing=ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        _ = HubFiles(HUB).names
    hub(listing=info("config.json"), download=ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        HubFiles(HUB).path("config.json")


def test_an_alias_is_named_with_what_it_stands_for(hub: Fail) -> None:
    hub(listing=refused(GatedRepoError, 403))
    location = Location("llama", "hub", "meta-llama/Llama-3.2-1B")
    with pytest.raises(NameUnknownError, match=r"^'llama' \(meta-llama/Llama-3\.2-1B\) is gated"):
        _ = HubFiles(location).names


def test_a_misspelt_hub_id_is_told_the_near_ones(hub: Fail) -> None:
    hub(listing=refused(RepositoryNotFoundError, 404))
    location = Location("meta-lama/Llama-3.2-1B", "hub", "meta-lama/Llama-3.2-1B")
    with pytest.raises(NameUnknownError, match=r"did you mean 'meta-llama/Llama-3\.2-1B'"):
        _ = HubFiles(location).names


def test_offline_mode_is_told_in_one_sentence(tmp_path: Path) -> None:
    code = (
        "from tokswap.checkpoint.source import Checkpoint\n"
        "from tokswap.errors import NameUnknownError\n"
        "try: Checkpoint.open('org/model').files.names\n"
        "except NameUnknownError as error: print(error)"
    )
    away = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_TOKEN": SECRET}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **away}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith("'org/model' is no folder here, the Hub cannot be reached")
    assert SECRET not in done.stdout + done.stderr


def test_every_vocabulary_file_that_transformers_reads_is_known() -> None:
    """A base's file that is not known as a tokenizer's would be carried into the output."""
    import transformers

    models = Path(transformers.__file__).parent / "models"
    named = re.compile(r"VOCAB_FILES_NAMES = \{(.*?)\}", re.DOTALL)
    names = {
        name
        for source in models.glob("*/tokenization_*.py")
        for block in named.findall(source.read_text(encoding="utf-8"))
        for name in re.findall(r':\s*"([^"]+\.\w+)"', block)
    }
    assert len(names) > 20
    assert [name for name in sorted(names) if not is_tokenizer_file(name)] == []


@pytest.mark.parametrize(
    "name",
    ["tekken.json", "tekken_240911.json", "tokenizer.model.v3", "qwen.tiktoken", "tiktoken.model"],
)
def test_versioned_tokenizer_files_are_known(name: str) -> None:
    assert is_tokenizer_file(name)


@pytest.mark.parametrize("name", ["config.json", "model.py", "tokenization_x.py", "LICENSE"])
def test_other_files_are_no_tokenizers(name: str) -> None:
    assert not is_tokenizer_file(name)
