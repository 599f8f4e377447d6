"""``tokswap inspect``, and the floor of ``tokswap eval``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.said import PAIR

Run = Callable[..., Any]


def test_inspect(tokswap: Run) -> None:
    ran = tokswap("inspect", *PAIR)
    assert (ran.code, ran.err) == (0, "")
    for said in ("6,144", "4,096", "single digits", "shared, copied from the base", "role bos"):
        assert said in ran.out


def test_inspect_takes_the_settings_of_the_tokenizer(tokswap: Run) -> None:
    setting = "tokenizer.tokens.<unk>.source=<|pad|>"
    ran = tokswap("inspect", *PAIR, "--set", setting, "--json", "--quiet")
    special = {row["token"]: row["by"] for row in json.loads(ran.out)["special"]}
    assert special == {"<unk>": "override", "<s>": "role bos", "</s>": "role eos"}


def test_inspect_as_json(tokswap: Run) -> None:
    ran = tokswap("inspect", *PAIR, "--json")
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert (said["base_size"], said["donor_size"]) == (6144, 4096)
    assert said["shared"] + said["missing"] + len(said["special"]) == 4096
    assert said["token"] is None


def test_inspect_a_token(tokswap: Run) -> None:
    ran = tokswap("inspect", *PAIR, "--token", " return")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("' return' (id 416): shared\n")
    assert "the row is the sum of" in ran.out
    said = json.loads(tokswap("inspect", *PAIR, "--token", " return", "--json").out)["token"]
    assert said["rows"] == {"input": [{"token": "' return'", "weight": 1.0}]}


def test_inspect_tells_what_the_cut_costs(tokswap: Run, tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"{n * 7919 % 900000 + 100000} apples, " for n in range(60)))
    ran = tokswap("inspect", *PAIR, "--text", path)
    assert ran.code == 0
    assert "load tiny-llama\n" in ran.err
    assert "load tiny-mistral" not in ran.err
    said = json.loads(tokswap("inspect", *PAIR, "--text", path, "--json", "--quiet").out)
    own, floor, cut = (said[name] for name in ("own", "floor", "cut"))
    rows = {line[:26].strip(): line.split() for line in ran.out.splitlines()}
    bits = [f"{score['bits_per_byte']:.4f}" for score in (own, floor)]
    assert rows["the base's bits per byte"][-2:] == bits
    assert rows["digits"][-1] == f"{cut['kinds']['digits']['bits_per_byte']:+.4f}"
    assert cut["causes"][0] == "digits"
    line = f"the cut alone costs {cut['bits_per_byte']:+.4f} bits/byte (digits +"
    assert line in ran.out
    assert ran.out.endswith("), which no initialisation mends\n")
    counted = tokswap("inspect", *PAIR, "--text", path, "--no-eval")
    assert (counted.code, counted.err) == (0, "")
    assert "bits" not in counted.out


def test_eval_tells_the_floor(tokswap: Run, tmp_path: Path) -> None:
    path, out = tmp_path / "numbers.txt", tmp_path / "out"
    path.write_text("".join(f"{n * 7919 % 900000 + 100000} apples, " for n in range(60)))
    flags = ("--method", "mean", "--text", path, "--no-verify", "--out", out)
    ran = tokswap("transplant", *PAIR, *flags, "--set", "held_out=0")
    assert ran.code == 0
    evaluated = tokswap("eval", out, "--against", "tiny-llama", "--text", path)
    assert evaluated.code == 0
    said = [line.strip() for line in evaluated.out.splitlines() if line.strip()]
    assert set(said) < {line.strip() for line in ran.out.splitlines()}
    assert [line.split("  ")[0] for line in said[2:5]] == [
        "tiny-llama",
        "segmentation floor",
        str(out),
    ]
    assert said[-1].startswith(f"{out}: of +")
    assert "bits/byte the changed cut costs +" in said[-1]
    assert "(digits +" in said[-1]
