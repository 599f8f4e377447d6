"""Exit codes, and what goes to stdout and what to stderr, of every command in this process."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tokswap.cli import app
from tokswap.methods import DEFAULT, METHODS
from tokswap.names import ALIASES, BUNDLED, BUNDLED_FOLDER
from tokswap.plan import PLAN_FILE, Plan
from tokswap.recipe import load_recipe

COMMANDS = [str(command.name) for command in app.registered_commands]
PAIR = ("--base", "tiny-llama", "--donor", "tiny-mistral")
Run = Callable[..., Any]


def one_line(ran: Any) -> str:
    """The one line that an error is; nothing is printed as a result."""
    assert (ran.code, ran.out) == (1, "")
    line, end, rest = ran.err.partition("\n")
    assert (end, rest) == ("\n", "")
    return line


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(tokswap: Run, command: list[str], flag: str) -> None:
    ran = tokswap(*command, flag)
    assert (ran.code, ran.err) == (0, "")
    assert "Usage: " in ran.out
    for part in command or COMMANDS:
        assert part in ran.out


def test_commands_are_those_that_are_promised() -> None:
    said = [
        "transplant",
        "run",
        "apply",
        "extend",
        "eval",
        "inspect",
        "held-out",
        "compare",
        "check",
        "embed",
        "methods",
        "models",
    ]
    assert said == COMMANDS


def test_version(tokswap: Run) -> None:
    assert tokswap("--version") == (0, f"tokswap {version('tokswap')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transplnt"], "No such command 'transplnt'"),
        (["--bogus"], "No such option: --bogus"),
        (["transplant"], "Missing option '--base'"),
        (["transplant", "--base", "tiny-llama"], "--donor: is missing; give it, or --like"),
        (["transplant", *PAIR, "--seed", "x"], "Invalid value for '--seed'"),
        (["transplant", *PAIR, "stray"], "unexpected extra argument"),
        (["run"], "Missing argument 'RECIPE.yaml'"),
        (["run", "recipe.yaml", "--method", "omp"], "No such option: --method"),
        (["eval"], "Missing argument 'MODEL...'"),
        (["eval", "tiny-llama", "--dynamic-merges", "0"], "greater than or equal to 1"),
        (["embed", "tiny-llama"], "Missing argument 'TEXT...'"),
        (["embed", "tiny-llama", "a", "--neighbours", "-1"], "'--neighbours'"),
        (["inspect", "--plan"], "requires an argument"),
        (["methods", "--quiet"], "No such option: --quiet"),
    ],
)
def test_usage_errors(tokswap: Run, arguments: list[str], message: str) -> None:
    ran = tokswap(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_without_arguments_there_is_help(tokswap: Run) -> None:
    ran = tokswap()
    assert "Usage: " in ran.out + ran.err
    assert ran.code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transplant", "--base", "tiny-lama", "--donor", "x/y"], "did you mean 'tiny-llama'"),
        (["transplant", *PAIR, "--method", "opm"], "method: 'opm' is unknown; did you mean 'omp'?"),
        (
            ["transplant", *PAIR, "--set", "method.k=0"],
            "parameters.k: Input should be greater than",
        ),
        (["transplant", *PAIR, "--set", "method.k"], "'method.k' is not of the form key=value"),
        (["transplant", *PAIR, "--seed", "-1"], "seed: Input should be greater than or equal to 0"),
        (["transplant", *PAIR, "--device", "gpu"], "device: give auto, cpu"),
        (
            ["transplant", *PAIR, "--chat-template", "mine"],
            "chat_template: give donor, base, none or the path of a .jinja file, given 'mine'",
        ),
        (
            ["transplant", *PAIR, "--chat-template", "nowhere.jinja"],
            "chat_template: nowhere.jinja cannot be read (No such file or directory); give donor",
        ),
        (["transplant", *PAIR, "--size", "padded"], "tokenizer.size: Input should be 'donor' or"),
        (["transplant", *PAIR, "--pad-to-multiple-of", "0"], "tokenizer.pad_to_multiple_of: "),
        (
            ["transplant", *PAIR, "--bos", "both"],
            "tokenizer.bos: Input should be 'donor' or 'keep'",
        ),
        (["transplant", *PAIR, "--bos", "keep"], "'tiny-mistral' begins them with <s>; leave it"),
        (["run", "nowhere.yaml"], "the recipe nowhere.yaml cannot be read"),
        (["inspect", "--base", "tiny-llama"], "no donor was given"),
        (["inspect", *PAIR, "--token", "return to"], "is not one token of tiny-mistral"),
        (["inspect", *PAIR, "--plan", "nowhere"], "nowhere is not a plan"),
        (["inspect", *PAIR, "--text", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["inspect", *PAIR, "--set", "method.k=0"], "parameters.k: Input should be greater"),
        (["eval", "tiny-lama"], "did you mean 'tiny-llama'"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--json"]], ids=str)
def test_errors_are_one_line(
    tokswap: Run, arguments: list[str], flags: list[str], message: str
) -> None:
    line = one_line(tokswap(*arguments, *flags))
    assert line.startswith("error: ")
    assert message in line


def test_several_faults_of_a_recipe_stand_below_one_another(tokswap: Run) -> None:
    ran = tokswap("transplant", *PAIR, "--seed", "-1", "--set", "method.k=0")
    assert (ran.code, ran.out) == (1, "")
    head, *faults = ran.err.splitlines()
    assert head == "error: the request is not valid:"
    assert [fault.partition(":")[0] for fault in faults] == ["  seed", "  parameters.k"]


def test_an_interrupt_has_its_own_code(tokswap: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tokswap.inspection.inspect", interrupted)
    ran = tokswap("inspect", *PAIR)
    assert ran == (130, "", "interrupted; nothing unfinished was kept\n")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tokswap.inspection.inspect", broken)
    monkeypatch.setattr("sys.argv", ["tokswap", "inspect", *PAIR])
    from tokswap.cli import main

    with pytest.raises(ZeroDivisionError):
        main()


def test_methods(tokswap: Run) -> None:
    ran = tokswap("methods")
    assert (ran.code, ran.err) == (0, "")
    for name, kind in METHODS.items():
        for said in (name, kind.summary, kind.paper, *kind.model_fields):
            assert said in ran.out
    assert f"{DEFAULT} (default)" in ran.out


def test_one_method(tokswap: Run) -> None:
    ran = tokswap("methods", "tokenadapt")
    assert (ran.code, ran.err) == (0, "")
    for name, field in METHODS["tokenadapt"].model_fields.items():
        assert f"  {name}: " in ran.out
        assert (field.description or "").replace("`", "") in ran.out
    assert "interpolate" not in ran.out
    assert [m["name"] for m in json.loads(tokswap("methods", "mix", "--json").out)["methods"]] == [
        "mix"
    ]
    wrong = tokswap("methods", "tokenadap")
    assert (wrong.code, wrong.out) == (1, "")
    assert "did you mean 'tokenadapt'?" in wrong.err


def test_settings_are_listed_as_they_are_given(tokswap: Run) -> None:
    said = tokswap("methods").out
    assert "normalize=true" in said
    assert "penalty=null" in said
    assert "of=[omp, pieces]" in said


def test_methods_as_json(tokswap: Run) -> None:
    said = json.loads(tokswap("methods", "--json").out)["methods"]
    assert [method["name"] for method in said] == list(METHODS)
    assert [method["name"] for method in said if method["default"]] == [DEFAULT]
    for method in said:
        kind = METHODS[method["name"]]
        assert method["needs_donor_weights"] == kind().needs_donor
        assert method["settings"] == kind().model_dump()


def test_models(tokswap: Run, tmp_path: Path) -> None:
    (tmp_path / "aliases.yaml").write_text("mine: some/where\nllama: some/other\n")
    ran = tokswap("models")
    assert (ran.code, ran.err) == (0, "")
    for said in ("mine", "some/where", "some/other", *BUNDLED, ALIASES["mistral"]):
        assert said in ran.out
    assert ALIASES["llama"] not in ran.out  # the user's own alias wins
    said = json.loads(tokswap("models", "--json").out)
    assert said["aliases_file"] == str(tmp_path / "aliases.yaml")
    about = {row["name"]: (row["about"], row["from"]) for row in said["models"]}
    assert about["mine"] == ("some/where", str(tmp_path / "aliases.yaml"))
    assert about["mistral"] == (ALIASES["mistral"], "tokswap")
    assert about["tiny-llama"][1] == "bundled"


@pytest.mark.parametrize("content", ["- a\n", "a: [1\n", "a: 3\n"])
def test_a_damaged_aliases_file_is_named(tokswap: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "aliases.yaml").write_text(content)
    ran = tokswap("models")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {tmp_path / 'aliases.yaml'} ")


def test_a_user_alias_names_a_model(tokswap: Run, tmp_path: Path) -> None:
    (tmp_path / "aliases.yaml").write_text(f"mine: {BUNDLED_FOLDER / 'tiny-llama'}\n")
    said = json.loads(tokswap("inspect", "-b", "mine", "-d", "tiny-mistral", "--json").out)
    assert (said["base"], said["base_size"]) == ("mine", 6144)


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


def test_transplant(tokswap: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = (
        "transplant",
        *PAIR,
        "--method",
        "pieces",
        "--no-eval",
        "--no-verify",
        "--out",
        out,
    )
    ran = tokswap(*arguments)
    assert ran.code == 0
    assert ran.out.startswith("6,144 base rows → 4,096 new rows: ")
    assert ran.out.splitlines()[-1].startswith(f"wrote {out} (align ")
    assert "write weights" in ran.err
    assert not [line for line in ran.err.splitlines() if line in ran.out.splitlines()]
    assert {"config.json", "model.safetensors", "tokswap.json", PLAN_FILE} <= {
        path.name for path in out.iterdir()
    }
    again = one_line(tokswap(*arguments, "--quiet"))
    assert str(out) in again
    assert "--overwrite" in again


def test_plan_only_as_json(tokswap: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ("--method", "pieces", "--seed", "3", "--set", "method.strategy=last")
    ran = tokswap("transplant", *PAIR, *flags, "--plan-only", "--json", "--quiet", "-o", out)
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert said["out"] == str(out)
    assert said["recipe"]["seed"] == 3
    assert said["recipe"]["parameters"]["strategy"] == "last"
    assert said["results"] == []
    assert {path.name for path in out.iterdir()} == {PLAN_FILE, "tokswap.json"}
    assert Plan.load(out / PLAN_FILE).rows == said["counts"]["donor_size"] == 4096
    token = tokswap("inspect", "--plan", out, "--token", "<s>")
    assert token.code == 0
    assert "<|begin_of_text|>" in token.out


@pytest.mark.parametrize("command", ["transplant", "run"])
def test_a_dry_run_tells_and_writes_nothing(tokswap: Run, tmp_path: Path, command: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("base_model: tiny-llama\ndonor: tiny-mistral\nmethod: pieces\n")
    what = ["run", recipe] if command == "run" else ["transplant", *PAIR, "-m", "pieces"]
    ran = tokswap(*what, "--out", tmp_path / "out", "--dry-run", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    for said in (
        "fetch: nothing",
        "compute: 6,144 base rows → 4,096 new rows",
        "6144×128 → 4096×128",
        "memory at the peak, about: ",
        f"write to {tmp_path / 'out'}",
        "vocabulary tensors",
        f"the disk of {tmp_path} (output) has room",
        "dry run: nothing was written",
    ):
        assert said in ran.out
    assert list(tmp_path.iterdir()) == [recipe]


@pytest.mark.parametrize("name", ["123", "a: b", "null", "x #y", "2024-13-45"])
def test_run_takes_a_recipe_with_settings_and_a_folder_of_any_name(
    tokswap: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = "base_model: tiny-llama\ndonor: tiny-mistral\nmethod: pieces\nout: elsewhere\n"
    recipe.write_text(text)
    asked = []

    def noted(*said: Any, **flags: Any) -> None:
        asked.append((said, flags))
        raise KeyboardInterrupt

    monkeypatch.setattr("tokswap.pipeline.transplant", noted)
    flags = ("--set", "method.strategy=last", "--plan-only", "--overwrite", "--resume")
    assert tokswap("run", recipe, *flags, "--out", name).code == 130
    expected = load_recipe(recipe, ["method.strategy=last"]).model_copy(update={"out": name})
    assert asked == [((expected,), {"overwrite": True, "plan_only": True, "resume": True})]


def test_flags_make_the_recipe(tokswap: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(recipe: Any, **_: Any) -> None:
        asked.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr("tokswap.pipeline.transplant", noted)
    tokswap("transplant", *PAIR)
    tokswap("transplant", *PAIR, "--no-eval", "--no-verify", "--device", "cpu", "-m", "mean")
    tokswap("transplant", *PAIR, "--text", "a.txt", "--text", "b.txt", "--set", "eval.window=64")
    tokswap("transplant", *PAIR, "--bos", "keep", "--set", "tokenizer.pad_to_multiple_of=64")
    plain, bare, measured, kept = asked
    assert plain.record() == {**plain.record(), "method": DEFAULT, "verify": True, "seed": 0}
    assert plain.eval is not None
    assert plain.out is None
    assert (bare.eval, bare.verify, bare.device, bare.method) == (None, False, "cpu", "mean")
    assert (measured.eval.text, measured.eval.window) == (["a.txt", "b.txt"], 64)
    assert (plain.tokenizer.bos, kept.tokenizer.bos) == ("donor", "keep")
    assert kept.tokenizer.pad_to_multiple_of == 64


@pytest.mark.parametrize("flag", ["--keep-tensor", "--drop-tensor"])
def test_a_tensor_that_is_not_stored_is_named_with_what_is_near(
    tokswap: Run, tmp_path: Path, flag: str
) -> None:
    line = one_line(
        tokswap("transplant", *PAIR, "--out", tmp_path / "out", flag, "model.nrom.weight")
    )
    assert "stores no tensor 'model.nrom.weight'; did you mean 'model.norm.weight'" in line
    recipe = tmp_path / "r.yaml"
    recipe.write_text("base_model: tiny-llama\ndonor: tiny-mistral\n")
    line = one_line(tokswap("run", recipe, "--out", tmp_path / "out", flag, "lm_heat"))
    assert "stores no tensor 'lm_heat'" in line


def test_settings_of_the_output_role_are_not_lost_silently(tokswap: Run, tmp_path: Path) -> None:
    flags = ("-m", "pieces", "--set", "method.output.strategy=first", "--plan-only", "--json")
    tied = tokswap("transplant", *PAIR, *flags, "-o", tmp_path / "tied")
    assert [w for w in json.loads(tied.out)["warnings"] if "those of the output role" in w]
    assert "note: the base's head is its embedding (tied)" in tied.err
    pair = ("--base", "tiny-mistral", "--donor", "tiny-llama")
    untied = tokswap("transplant", *pair, *flags, "-o", tmp_path / "untied")
    assert not [w for w in json.loads(untied.out)["warnings"] if "output role" in w]


def test_a_bare_tokenizer_cannot_be_a_base(tokswap: Run, tmp_path: Path) -> None:
    shutil.copy(BUNDLED_FOLDER / "tiny-llama" / "tokenizer.json", tmp_path)
    message = one_line(tokswap("transplant", "-b", tmp_path, "-d", "tiny-mistral", "-m", "mean"))
    assert "has no config.json, so it is no model; give one" in message


def test_the_size_is_said_by_flags(tokswap: Run, tmp_path: Path) -> None:
    flags = ("--method", "zero", "--plan-only", "--overwrite", "--out", tmp_path / "out", "--json")
    for said, rows in (
        (("--size", "tight"), 4096),
        (("--size", "tight", "--pad-to-multiple-of", 1000), 5000),
        (("--pad-to-multiple-of", 100, "--set", "tokenizer.size=donor"), 4100),
    ):
        ran = tokswap("transplant", *PAIR, *flags, *said)
        assert json.loads(ran.out)["counts"]["donor_size"] == rows
