"""The estimate against what a run then does; --dry-run, which writes nothing."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.hypernet.made import for_base
from tokswap.checkpoint.header import DTYPE_BITS
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import EvaluationError, OutputError, RecipeError
from tokswap.estimate import Disk, Estimate, Fetch, check_room
from tokswap.methods import METHODS
from tokswap.names import BUNDLED_FOLDER
from tokswap.peak_memory import RUNTIME
from tokswap.pipeline import transplant
from tokswap.preview import preview
from tokswap.recipe import Recipe, make_recipe

PLAN = "tokswap.plan"
SAMPLE = str(BUNDLED_FOLDER / "sample.txt")
TURNS = "{% for m in messages %}{{ m.content }}<|pad|>{% endfor %}"  # it is of the base alone
LEARNED = {"text": SAMPLE, "epochs": 1}
SETTINGS: dict[str, dict[str, object]] = {
    "omp": {"k": 8},
    "landmarks": {"count": 32},
    "tokenadapt": {"encoder": "base"},
    "transtokenizer": {"text": SAMPLE},
    "focus": LEARNED,
    "wechsel": LEARNED,
}
PAIRS = [("tiny-llama", "tiny-mistral"), ("tiny-mistral", "tiny-llama")]


def recipe(base: str, donor: str, out: Path, **settings: object) -> Recipe:
    said = {"base_model": base, "donor": donor, "out": str(out), "method": "mean"}
    return make_recipe(said | {"eval": False, "verify": False, "device": "cpu"} | settings)


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("method", "base", "donor"), [("omp", *PAIRS[0]), *((name, *PAIRS[1]) for name in METHODS)]
)
def test_what_is_written_is_what_was_said(
    method: str, base: str, donor: str, tmp_path: Path
) -> None:
    parameters = dict(SETTINGS.get(method, {}))
    if method == "hypernet":
        folder = for_base(tmp_path / "net", Checkpoint.open(base).vocabulary, 144)
        parameters["checkpoint"] = str(folder)
    asked = recipe(base, donor, tmp_path / "out", method=method, parameters=parameters)
    expected = preview(asked).estimate
    assert not (tmp_path / "out").exists()
    written = sizes(transplant(asked).folder)
    weights = expected.writes["vocabulary tensors"] + expected.writes["other tensors"]
    assert written["model.safetensors"] == pytest.approx(weights, abs=64)  # the header's digits
    tokenizer = ("tokenizer.json", "tokenizer_config.json")
    assert sum(written[name] for name in tokenizer) == expected.writes["tokenizer"]
    least = 0.0 if method == "focus" else 0.5  # how many anchors are alike, the text decides
    assert least < written[PLAN] / expected.writes["plan"] < 1.05
    assert sum(written.values()) <= expected.written
    assert expected.fetches == ()
    assert expected.fetched == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("multiple", [None, 1000])
def test_type_and_padding_are_counted(dtype: str, multiple: int | None, tmp_path: Path) -> None:
    tokenizer = {"pad_to_multiple_of": multiple}
    asked = recipe(*PAIRS[1], tmp_path / "out", dtype=dtype, tokenizer=tokenizer)
    expected = preview(asked).estimate
    rows = 6144 if multiple is None else 7000
    assert {table.shape for table in expected.tables} == {(rows, 144)}
    width = 4 if dtype == "float32" else 2
    assert expected.writes["vocabulary tensors"] == 2 * rows * 144 * width
    written = sizes(transplant(asked).folder)
    weights = expected.writes["vocabulary tensors"] + expected.writes["other tensors"]
    assert written["model.safetensors"] == pytest.approx(weights, abs=64)


def test_a_plan_alone_is_small(tmp_path: Path) -> None:
    asked = recipe(*PAIRS[0], tmp_path / "out", eval=True, verify=True)
    whole, plan = preview(asked).estimate, preview(asked, plan_only=True).estimate
    assert plan.writes.keys() == {"plan", "record"}
    assert plan.memory.keys() == {"plan"}
    assert whole.memory.keys() == {"plan", "write", "verify", "evaluate"}
    assert plan.written < whole.written


def test_a_dry_run_refuses_what_the_run_would(tmp_path: Path) -> None:
    asked = recipe(*PAIRS[0], tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis").touch()
    with pytest.raises(OutputError, match="is no output of this program"):
        preview(asked)


def test_a_dry_run_refuses_a_template_and_a_device_that_do_not_suit(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(TURNS)
    odd = recipe(*PAIRS[0], tmp_path / "out", chat_template=str(tmp_path / "own.jinja"))
    for run in (preview, transplant):
        with pytest.raises(RecipeError, match=r"writes <\|pad\|>, which the donor's tokenizer"):
            run(odd)
        with pytest.raises(EvaluationError, match="device 'mps' cannot be used"):
            run(recipe(*PAIRS[0], tmp_path / "out", device="mps"))
    assert preview(odd, plan_only=True).warnings is not None


def test_a_dry_run_accepts_what_the_run_does_and_tells_the_same(tmp_path: Path) -> None:
    # More than the model has positions for; nothing is measured where only a plan is made.
    wide = recipe(*PAIRS[0], tmp_path / "out", eval={"window": 100_000})
    with pytest.raises(EvaluationError, match="window 100000 is longer"):
        preview(wide)
    assert preview(wide, plan_only=True).warnings == transplant(wide, plan_only=True).warnings
    plain = recipe(*PAIRS[0], tmp_path / "second")
    told = preview(plain).warnings
    assert [line for line in told if "pad_token_id 6143" in line]
    assert set(told) == set(transplant(plain).warnings)


def test_leftovers_are_named_and_let_be(tmp_path: Path) -> None:
    left = tmp_path / ".out.0123abcd.partial"
    left.mkdir()
    assert preview(recipe(*PAIRS[0], tmp_path / "out")).leftovers == (left,)
    assert left.is_dir()


def expected_of(fetch: int, write: int) -> Estimate:
    fetches = (Fetch("base", "model.safetensors", None, fetch),)
    return Estimate(fetches, {}, (), {}, {"tensors": write})


def test_one_disk_must_hold_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HF_ASSETS_CACHE"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path / "cache" / name))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3_000_000_000))
    room = expected_of(1_000_000_000, 2_000_000_000)
    assert room.disks(tmp_path / "out") == [
        Disk(str(tmp_path), "output and cache", 3_000_000_000, 3_000_000_000)
    ]
    check_room(room, tmp_path / "out")
    with pytest.raises(OutputError, match=r"\(output and cache\) needs about 3\.5 GB and its disk"):
        check_room(expected_of(1_500_000_000, 2_000_000_000), tmp_path / "out")
    with pytest.raises(OutputError, match=r"out needs about 3\.5 GB and the disk has 3\.0 GB"):
        check_room(expected_of(0, 3_500_000_000), tmp_path / "out")


def test_two_disks_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shm = Path("/dev/shm")  # noqa: S108 - another disk
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second disk at /dev/shm")
    for name in ("HF_HUB_CACHE", "HF_ASSETS_CACHE"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(shm / "nothing" / name))
    output, cache = expected_of(7, 5).disks(tmp_path / "out")
    assert (output.purpose, output.needed, cache.purpose, cache.needed) == ("output", 5, "cache", 7)
    assert (output.folder, cache.folder) == (str(tmp_path), str(shm))


def test_a_run_without_room_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe(*PAIRS[0], tmp_path / "new" / "out")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3_000_000))
    assert preview(asked).enough is False
    with pytest.raises(OutputError, match=r"needs about 0\.0 GB and the disk has 0\.0 GB; free"):
        transplant(asked)
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_is_json(tmp_path: Path) -> None:
    said = json.loads(json.dumps(preview(recipe(*PAIRS[1], tmp_path / "out")).to_dict()))
    assert said["dry_run"] is True
    assert said["compute"]["counts"]["donor_size"] == 6144
    assert said["compute"]["peak_memory"] == max(said["compute"]["memory"].values())
    assert said["write"]["bytes"] == sum(said["write"]["groups"].values())
    assert {table["name"] for table in said["compute"]["tables"]} == {
        "model.embed_tokens.weight",
        "lm_head.weight",
    }


def test_writing_takes_the_memory_of_blocks_not_of_tables(tmp_path: Path) -> None:
    def writing(rows: int, **settings: object) -> tuple[int, Estimate]:
        settings |= {"tokenizer": {"pad_to_multiple_of": rows}}
        found = preview(recipe(*PAIRS[0], tmp_path / "out", **settings)).estimate
        # Without the plan, which does grow with the rows.
        return found.memory["write"] - found.writes["plan"], found

    block = 8192 * 128
    few, _ = writing(10_000)
    many, found = writing(200_000)
    assert few == many
    (width,) = {DTYPE_BITS[table.dtype] // 8 for table in found.tables}
    assert many - RUNTIME == 4 * block * width
    # In another type the old table is held too, and all is computed in the wider of the two.
    wide, found = writing(200_000, dtype="float64")
    assert wide - RUNTIME == (4 * block + 6144 * 128) * 8
    assert wide - RUNTIME < min(table.bytes for table in found.tables) / 2
