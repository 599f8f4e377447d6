"""Remote checkpoints: the Hub's own client against a server on the loopback address.

Each question is asked in a process of its own, for the client reads its settings once.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, HubServer, Repo
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from tokswap.checkpoint.header import read_header
from tokswap.checkpoint.source import INDEX
from tokswap.names import BUNDLED_FOLDER
from tokswap.pipeline import transplant

ROWS, WIDTH = 6144, 256
TABLES = ("model.embed_tokens.weight", "lm_head.weight")
WEIGHTS = r"\.safetensors$"
PRELUDE = """
import time
from tokswap.checkpoint.parts import tensor_file
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import TokswapError

slept = []
time.sleep = slept.append

def place(checkpoint, name):
    shard = checkpoint.shard_of[name]
    return tensor_file(checkpoint.files, shard, name, checkpoint.header(shard))

def said(work):
    try:
        work()
    except TokswapError as error:
        print(error)
"""

Ask = Callable[..., str]


@pytest.fixture(scope="session")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in several shards whose body is three times its two tables."""
    folder = tmp_path_factory.mktemp("hub") / "donor"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=WIDTH,
        intermediate_size=1024,
        num_hidden_layers=10,
        num_attention_heads=4,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="10MB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / "tiny-llama" / name, folder)
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-mistral in two shards, beside weights in other formats."""
    folder = tmp_path_factory.mktemp("hub") / "base"
    shutil.copytree(BUNDLED_FOLDER / "tiny-mistral", folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {name: f"model-{1 + (name in TABLES)}-of-2.safetensors" for name in tensors}
    for shard in set(shards.values()):
        part = {name: tensor for name, tensor in tensors.items() if shards[name] == shard}
        save_file(part, folder / shard, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    for name in ("pytorch_model.bin", "model-q4.gguf", "tf_model.h5", "rust_model.ot"):
        (folder / name).write_bytes(bytes(100_000))
    return folder


@pytest.fixture
def hub(base: Path, donor: Path) -> Iterator[HubServer]:
    repos = {"org/base": Repo(base), "org/donor": Repo(donor)}
    repos["org/gated"] = Repo(donor, gated=True)
    with HubServer(repos) as server:
        yield server
        assert server.faults == []


@pytest.fixture
def ask(hub: HubServer, tmp_path: Path) -> Ask:
    """Run code in a process whose Hub is the server; its cache is the test's own."""

    def run(code: str, **settings: str) -> str:
        environment = os.environ | hub.environment(tmp_path / "home") | settings
        ran = subprocess.run(
            [sys.executable, "-c", PRELUDE + code],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert TOKEN not in ran.stdout + ran.stderr
        return ran.stdout.strip()

    return run


def bytes_of(folder: Path, name: str) -> bytes:
    shard = json.loads((folder / INDEX).read_text())["weight_map"][name]
    header = read_header(folder / shard)
    info, raw = header.tensors[name], (folder / shard).read_bytes()
    return raw[header.start + info.begin : header.start + info.end]


def assert_same_bytes(path: str, folder: Path, name: str) -> None:
    kept = read_header(Path(path))
    assert list(kept.tensors) == [name]
    assert Path(path).read_bytes()[kept.start :] == bytes_of(folder, name)


def shard_of(folder: Path, name: str) -> str:
    return str(json.loads((folder / INDEX).read_text())["weight_map"][name])


TWO_TABLES = """
donor = Checkpoint.open("org/donor")
print(donor.info("lm_head.weight").shape)
for name in ("model.embed_tokens.weight", "lm_head.weight"):
    print(place(donor, name))
"""


def test_of_a_donor_only_its_tables_are_fetched(hub: HubServer, ask: Ask, donor: Path) -> None:
    shape, *paths = ask(TWO_TABLES).splitlines()
    assert shape == str((ROWS, WIDTH))
    for path, name in zip(paths, TABLES, strict=True):
        assert_same_bytes(path, donor, name)
    tables = sum(len(bytes_of(donor, name)) for name in TABLES)
    body = sum(file.stat().st_size for file in donor.glob("*.safetensors")) - tables
    assert body > 3 * tables
    assert tables <= hub.sent("org/donor", WEIGHTS) <= 1.02 * tables
    whole = [answer for answer in hub.served if answer.size and not answer.range]
    assert not [answer for answer in whole if answer.name.endswith(".safetensors")]

    hub.clear()
    assert ask(TWO_TABLES).splitlines() == [shape, *paths]
    assert hub.sent("org/donor", WEIGHTS) <= 0.02 * tables  # only the headers, again


def test_loading_gives_the_tensor_once(hub: HubServer, ask: Ask, donor: Path) -> None:
    code = """
donor = Checkpoint.open("org/donor")
tensors = [donor.load("lm_head.weight") for _ in range(2)]
print(tensors[0].shape[0], tensors[0].dtype, tensors[0].double().sum().item())
"""
    theirs = load_file(donor / shard_of(donor, "lm_head.weight"))["lm_head.weight"]
    assert ask(code) == f"{ROWS} torch.float32 {theirs.double().sum().item()}"
    assert hub.sent("org/donor", WEIGHTS) <= 1.02 * theirs.numel() * 4


def test_a_file_that_is_here_is_used(hub: HubServer, ask: Ask, donor: Path) -> None:
    shard = shard_of(donor, "lm_head.weight")
    code = f"""
donor = Checkpoint.open("org/donor")
print(donor.files.whole({shard!r}))
path = donor.files.path({shard!r})
print(donor.files.whole({shard!r}) == path, donor.load("lm_head.weight").shape[0])
"""
    assert ask(code) == f"None\nTrue {ROWS}"
    asked = [a.range for a in hub.served if a.name.endswith(shard) and a.size]
    assert asked == [None]


def test_a_cut_range_is_asked_for_again(hub: HubServer, ask: Ask, donor: Path) -> None:
    # The first answer with the file's bytes is the header's, the next the table's.
    shard = shard_of(donor, "lm_head.weight")
    hub.cut[f"org/donor/{shard}"] = 2
    path = ask('print(place(Checkpoint.open("org/donor"), "lm_head.weight"))')
    assert_same_bytes(path, donor, "lm_head.weight")
    assert hub.cut[f"org/donor/{shard}"] == 0


def test_a_cut_file_is_taken_up_where_it_ended(hub: HubServer, ask: Ask, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(24 << 20))
    hub.repos["org/large"] = Repo(folder)
    hub.cut["org/large/model.safetensors"] = 1  # after 12 MB, of which 10 were written
    path = ask('print(Checkpoint.open("org/large").files.path("model.safetensors"))')
    assert Path(path).read_bytes() == bytes(24 << 20)
    ranges = [answer.range for answer in hub.served if answer.size and answer.place == "storage"]
    assert ranges == [None, f"bytes={10 << 20}-"]


@pytest.mark.parametrize("what", ["file", "table"])
def test_a_connection_that_stays_cut_is_told(
    hub: HubServer, ask: Ask, base: Path, what: str
) -> None:
    shard = shard_of(base, "lm_head.weight")
    other = shard_of(base, "model.norm.weight")
    fetch = {
        "file": f"base.files.fetch({[shard, other]})",
        "table": 'place(base, "lm_head.weight")',
    }[what]
    code = f'base = Checkpoint.open("org/base"); base.header({other!r})\nsaid(lambda: {fetch})'
    hub.silent.add(f"org/base/{shard}")
    line = ask(code)
    assert f"{shard} of 'org/base' cannot be fetched: the Hub cannot be reached" in line.replace(
        f"{other}, ", ""
    )
    assert "check the network, then run again: every file that was fetched whole is kept" in line

    hub.silent.clear()
    hub.clear()
    assert ask(code) == ""
    if what == "file":
        assert hub.sent("org/base", f"{other}$") <= 40_000  # the header; the file is kept
        assert hub.sent("org/base", f"{shard}$") == (base / shard).stat().st_size


def test_the_hub_is_given_the_time_that_it_asks_for(hub: HubServer, ask: Ask, donor: Path) -> None:
    shard = shard_of(donor, "lm_head.weight")
    hub.busy[f"org/donor/{shard}"] = 1  # the header
    hub.busy[f"storage:org/donor/{shard}"] = 1
    path, slept = ask(
        'print(place(Checkpoint.open("org/donor"), "lm_head.weight")); print(slept)'
    ).splitlines()
    assert_same_bytes(path, donor, "lm_head.weight")
    assert slept == "[31.0, 31.0]"  # Retry-After, and a second


def test_too_many_requests_are_told(hub: HubServer, ask: Ask) -> None:
    hub.busy["api"] = 100
    line = ask('said(lambda: Checkpoint.open("org/base").files.names)')
    assert "the Hub answers that there were too many requests (429; wait 30 s" in line
    assert "nothing of it was fetched before" in line


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/gated", "'org/gated' is gated; accept its terms at https://huggingface.co/org/gated"
                      ", then log in with `hf auth login`"),
        ("org/nothing", "'org/nothing' is no folder here and the Hub has no such model, or it is "
                        "private; check the spelling, or log in with `hf auth login`"),
        ("org/base@v9", "'org/base@v9' has no revision 'v9'; see https://huggingface.co/org/base/"
                        "tree/main"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_do(ask: Ask, name: str, message: str) -> None:
    assert ask(f"said(lambda: Checkpoint.open({name!r}).config)") == message


def test_a_token_that_is_not_taken_is_told(hub: HubServer, ask: Ask) -> None:
    line = ask('said(lambda: Checkpoint.open("org/base").config)', HF_TOKEN="hf_" + "x" * 34)
    assert "log in with `hf auth login`" in line


def test_a_gated_shard_is_told(hub: HubServer, ask: Ask, donor: Path) -> None:
    shard = shard_of(donor, "lm_head.weight")
    ask('Checkpoint.open("org/donor").read_json("model.safetensors.index.json")')
    hub.repos["org/donor"].gated = True
    line = ask('said(lambda: Checkpoint.open("org/donor").info("lm_head.weight"))')
    assert line.startswith("'org/donor' is gated; accept its terms")
    assert hub.sent("org/donor", shard) == 0


def test_a_hub_that_is_down_is_told(hub: HubServer, ask: Ask) -> None:
    hub.down = True
    line = ask('said(lambda: Checkpoint.open("org/base").config)')
    assert "the Hub is out of order (503), and nothing of it was fetched before" in line


@pytest.mark.parametrize("away", ["offline", "nobody there"])
def test_without_the_network_what_is_missing_is_named(
    hub: HubServer, ask: Ask, base: Path, donor: Path, away: str
) -> None:
    ask('Checkpoint.open("org/donor").read_json("model.safetensors.index.json")')
    ask('base = Checkpoint.open("org/base"); base.files.fetch(base.shards); base.config')
    settings = (
        {"HF_HUB_OFFLINE": "1"} if away == "offline" else {"HF_ENDPOINT": "http://127.0.0.1:9"}
    )
    code = """
said(lambda: Checkpoint.open("org/donor").shard_of)
base = Checkpoint.open("org/base")
print(base.files.revision, base.config["model_type"], base.info("lm_head.weight").shape[0])
"""
    missing, read = ask(code, **settings).splitlines()
    shards = sorted(path.name for path in donor.glob("*.safetensors"))
    assert missing == (
        f"org/donor lacks {', '.join(shards[:3])} …, which {INDEX} names; the Hub cannot be "
        "reached and it was not fetched before: connect, run again"
    )
    assert read == f"{hub.repos['org/base'].commit} mistral 4096"


def test_a_truncated_remote_shard_is_told_by_its_header(
    hub: HubServer, ask: Ask, donor: Path, tmp_path: Path
) -> None:
    shutil.copytree(donor, tmp_path / "cut")
    shard = tmp_path / "cut" / shard_of(donor, "lm_head.weight")
    size = shard.stat().st_size
    os.truncate(shard, size - 1000)
    hub.repos["org/cut"] = Repo(tmp_path / "cut")
    line = ask('said(lambda: Checkpoint.open("org/cut").load("lm_head.weight"))')
    assert line == (
        f"{shard.name} of 'org/cut' is {size - 1000} bytes long, its header says {size}; "
        "fetch it again"
    )
    assert hub.sent("org/cut", WEIGHTS) < 40_000


def test_a_dry_run_tells_what_the_run_then_fetches_and_writes(
    hub: HubServer, base: Path, donor: Path, tmp_path: Path
) -> None:
    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        command = ["transplant", "--base", "org/base", "--donor", "org/donor", "--no-eval"]
        command += ["--no-verify", "--set", "method.k=4", "--device", "cpu", "--out", "out"]
        environment = os.environ | hub.environment(tmp_path / "home")
        environment["TOKSWAP_ALIASES"] = str(tmp_path / "none.yaml")
        return subprocess.run(
            [sys.executable, "-m", "tokswap", *command, *flags],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
            check=True,
        )  # fmt: skip

    told = json.loads(run("--dry-run", "--json").stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    tables = sum(len(bytes_of(donor, name)) for name in TABLES)
    assert hub.sent("org/base", WEIGHTS) < 80_000  # headers
    assert hub.sent("org/donor", WEIGHTS) < 80_000
    of_donor = [part for part in told["fetch"]["parts"] if part["model"] == "donor"]
    assert {(part["tensor"], part["bytes"]) for part in of_donor} == {
        (name, tables // 2) for name in TABLES
    }
    of_base = {part["file"]: part["bytes"] for part in told["fetch"]["parts"][: -len(of_donor)]}
    assert told["enough_room"] is True

    small = hub.sent("org/base") - hub.sent("org/base", WEIGHTS)
    hub.clear()
    ran = run()
    assert "Traceback" not in ran.stderr
    assert hub.sent("org/donor", WEIGHTS) <= 1.02 * tables
    headers = [answer for answer in hub.served if answer.range == "bytes=0-32767"]
    headers = [answer for answer in headers if answer.name.startswith("org/base/")]
    fetched = hub.sent("org/base") - sum(answer.size for answer in headers)
    assert fetched == sum(of_base.values())
    for file in base.glob("*.safetensors"):
        assert of_base[file.name] == file.stat().st_size
    others = ("pytorch_model.bin", "model-q4.gguf", "tf_model.h5")
    assert not [answer for answer in hub.served if answer.name.endswith(others)]
    assert small < 1_000_000

    out = tmp_path / "out"
    written = sum(file.stat().st_size for file in out.iterdir())
    assert written == pytest.approx(told["write"]["bytes"], rel=0.05)
    assert told["write"]["groups"]["vocabulary tensors"] == sum(
        len(bytes_of(out, name)) for name in TABLES
    )
    local = transplant(
        base_model=str(base), donor=str(donor), parameters={"k": 4}, out=str(tmp_path / "local"),
        eval=False, verify=False, device="cpu",
    )  # fmt: skip
    for file in sorted(local.folder.iterdir()):
        if file.name not in {"README.md", "tokswap.json", "tokswap.plan"}:  # which name the models
            assert (out / file.name).read_bytes() == file.read_bytes(), file.name
