"""Recipes: the shipped ones, every fault with its place, settings from the command line."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tokswap.errors import RecipeError
from tokswap.methods import DEFAULT, METHODS
from tokswap.pair import open_pair
from tokswap.recipe import Recipe, load_recipe, make_recipe
from tokswap.report.keys import recipe_keys

FOLDER = Path(__file__).parents[1] / "recipes"
OTHERS = {"compare", "hypernet"}
SHIPPED = [p for p in sorted(FOLDER.rglob("*.y*ml")) if not OTHERS & {p.stem, p.parent.name}]
PAIR = {"base_model": "tiny-llama", "donor": "tiny-mistral"}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(said: dict[str, Any], *settings: str) -> list[str]:
    """Every fault that is found, each as `place: reason`."""
    with pytest.raises(RecipeError) as caught:
        make_recipe(said, settings)
    head, _, rest = str(caught.value).partition(":")
    assert head == "the request is not valid"
    return [line.strip() for line in rest.splitlines() if line.strip()]


def test_there_are_recipes() -> None:
    names = {str(path.relative_to(FOLDER)) for path in SHIPPED}
    assert {"tiny/omp.yaml", "llama-mistral/omp.yaml", "llama-mistral/draft.yaml"} <= names


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_shipped_recipe_is_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.out == f"out/{path.parent.name}-{path.stem}"
    assert make_recipe(recipe.record()).record() == recipe.record()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert f"#     tokswap run recipes/{path.parent.name}/{path.name}" in lines


def test_no_two_shipped_recipes_write_to_one_folder() -> None:
    assert len({load_recipe(path).out for path in SHIPPED}) == len(SHIPPED)


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if path.parent.name == "tiny"], ids=lambda path: path.name
)
def test_a_tiny_recipe_fits_its_models(path: Path) -> None:
    recipe = load_recipe(path)
    pair = open_pair(recipe)
    assert len(pair.alignment.overrides) == len(recipe.tokenizer.tokens)
    assert pair.alignment.rows % (recipe.tokenizer.pad_to_multiple_of or 1) == 0


def test_the_readme_has_every_key() -> None:
    assert f"\n{recipe_keys()}\n" in (FOLDER / "README.md").read_text(encoding="utf-8"), (
        "recipes/README.md is stale; put in what `python -m tokswap.report.keys` prints"
    )


def test_every_key_is_described() -> None:
    rows = [row for row in recipe_keys().splitlines() if row.startswith("| `")]
    assert not [row for row in rows if row.endswith("|  |")]
    settings = sum(len(kind.model_fields) for kind in METHODS.values())
    keys = [row.split("`")[1] for row in rows]
    assert set(Recipe.model_fields) <= set(keys[:-settings])
    assert set(keys[-settings:]) == {name for name, kind in METHODS.items() if kind.model_fields}


def test_two_names_are_enough() -> None:
    recipe = make_recipe(PAIR)
    assert recipe.method == DEFAULT
    assert recipe.methods == {"input": METHODS[DEFAULT](), "output": METHODS[DEFAULT]()}
    assert recipe.out is recipe.dtype is None
    assert recipe.verify
    assert recipe.eval is not None


def test_what_is_not_said_has_its_default() -> None:
    assert make_recipe({**PAIR, "method": None, "seed": None, "eval": None}) == make_recipe(PAIR)


def test_all_faults_are_told_at_once() -> None:
    said = {
        "donor": 3,
        "methd": "omp",
        "method": "omp",
        "parameters": {"k": 0, "kk": 1, "input": {"rtol": 2}, "output": {"normalize": "yes"}},
        "dtype": "float8",
        "tokenizer": {
            "tokens": {"a": {"source": []}, "b": {"from": "c"}, "d": "e"},
            "pad_to_multiple_of": 0,
            "pad": 1,
            "bos": "both",
            "functions": {"turn_ends": ["</s>"]},
        },
        "eval": {"window": "wide", "stride": 0, "text": 7},
        "seed": -1,
        "device": "gpu",
        "verify": 1,
    }
    found = faults(said)
    expected = {
        "base_model": "is missing",
        "donor": "valid string, given 3",
        "methd": "unknown key; did you mean 'method'?",
        "dtype": "'bfloat16', given 'float8'",
        "tokenizer.tokens.a.source": "give a base token, a list of base tokens, or `zero`",
        "tokenizer.tokens.b.source": "is missing",
        "tokenizer.tokens.b.from": "unknown key",
        "tokenizer.tokens.d": "given 'e'",
        "tokenizer.pad_to_multiple_of": "greater than 0, given 0",
        "tokenizer.pad": "unknown key",
        "tokenizer.bos": "'donor' or 'keep', given 'both'",
        "tokenizer.functions": "'turn_ends' is no function; did you mean 'turn_end' or",
        "eval.window": "valid integer, given 'wide'",
        "eval.stride": "greater than 0, given 0",
        "eval.text": "valid list, given 7",
        "seed": "greater than or equal to 0, given -1",
        "device": "given 'gpu'",
        "verify": "valid boolean, given 1",
        "parameters.k": "greater than 0, given 0",
        "parameters.kk": "unknown key",
        "parameters.input.rtol": "less than 1, given 2",
        "parameters.output.normalize": "valid boolean, given 'yes'",
    }
    by_place = {line.partition(": ")[0]: line.partition(": ")[2] for line in found}
    assert len(found) == len(by_place)
    assert by_place.keys() == expected.keys()
    for place, reason in expected.items():
        assert reason in by_place[place], place


def test_one_fault_is_one_line_and_several_stand_below_each_other() -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe({**PAIR, "seed": -1})
    wrong = "Input should be greater than or equal to 0, given -1"
    assert str(caught.value) == f"the request is not valid: seed: {wrong}"
    with pytest.raises(RecipeError) as caught:
        make_recipe({**PAIR, "seed": -1, "sed": 1})
    said = f"the request is not valid:\n  seed: {wrong}\n  sed: unknown key; did you mean 'seed'?"
    assert str(caught.value) == said


def test_an_unknown_method_is_named_with_its_like() -> None:
    assert faults({**PAIR, "method": "opm"}) == [
        f"method: 'opm' is unknown; did you mean 'omp'? (known: {', '.join(METHODS)})"
    ]
    assert "give the name of a method" in faults({**PAIR, "method": 3})[0]


def test_settings_of_another_method_are_unknown() -> None:
    said = {**PAIR, "method": "pieces", "parameters": {"k": 4}}
    assert faults(said) == ["parameters.k: unknown key"]
    assert faults({**PAIR, "parameters": {"input": 4}}) == [
        "parameters.input: give settings as `key: value`"
    ]


def test_a_stride_beyond_the_window_is_refused() -> None:
    (fault,) = faults({**PAIR, "eval": {"window": 8, "stride": 9}})
    assert fault.startswith("eval: a stride of 9 skips text in windows of 8")
    assert make_recipe({**PAIR, "eval": {"window": 8, "stride": 8}})


def test_keys_that_are_no_strings_are_refused() -> None:
    assert "keys must be strings" in faults({**PAIR, 3: 4})[0]


@pytest.mark.parametrize(
    ("source", "tokens"),
    [("zero", []), ("a", ["a"]), (["a", "b"], ["a", "b"]), (["zero"], ["zero"])],
)
def test_overrides(source: str | list[str], tokens: list[str]) -> None:
    recipe = make_recipe({**PAIR, "tokenizer": {"tokens": {"<unk>": {"source": source}}}})
    assert recipe.tokenizer.tokens["<unk>"].tokens == tokens


@pytest.mark.parametrize(("said", "measured"), [(False, False), (True, True), ({}, True)])
def test_eval_can_be_switched(said: Any, measured: bool) -> None:
    assert (make_recipe({**PAIR, "eval": said}).eval is not None) == measured


def test_a_role_has_its_own_settings() -> None:
    said = {"decay": 0.25, "input": {"strategy": "last"}, "output": {"strategy": "decayed"}}
    methods = make_recipe({**PAIR, "method": "pieces", "parameters": said}).methods
    assert methods["input"] == METHODS["pieces"](strategy="last", decay=0.25)
    assert methods["output"] == METHODS["pieces"](strategy="decayed", decay=0.25)


@pytest.mark.parametrize(
    ("setting", "place", "value"),
    [
        ("method.k=8", "parameters.k", 8),
        ("parameters.k=8", "parameters.k", 8),
        ("method.rtol=1e-3", "parameters.rtol", "1e-3"),  # YAML 1.1 wants 1.0e-3; read all the same
        ("method.normalize=off", "parameters.normalize", False),
        ("method.input.k=4", "parameters.input.k", 4),
        ("method.output.k=5", "parameters.output.k", 5),
        ("method=mean", "method", "mean"),
        ("eval.window=256", "eval.window", 256),
        ("eval.text=[a.txt, b.txt]", "eval.text", ["a.txt", "b.txt"]),
        ("tokenizer.pad_to_multiple_of=64", "tokenizer.pad_to_multiple_of", 64),
        ("tokenizer.bos=keep", "tokenizer.bos", "keep"),
        ("tokenizer.functions.turn_end=</s>", "tokenizer.functions.turn_end", ["</s>"]),
        ("tokenizer.functions={fim_pad: [a, b]}", "tokenizer.functions.fim_pad", ["a", "b"]),
        ("tokenizer.functions=false", "tokenizer.functions", None),
        ("tokenizer.tokens.<unk>.source=zero", "tokenizer.tokens.<unk>.source", "zero"),
        ("tokenizer.tokens={<s>: {source: a=b}}", "tokenizer.tokens.<s>.source", "a=b"),
        ("out='2024-01-01'", "out", "2024-01-01"),
        ("out=", "out", None),
        ("dtype=null", "dtype", None),
    ],
)
def test_set(setting: str, place: str, value: Any) -> None:
    recipe = make_recipe({**PAIR, "out": "x", "dtype": "float32"}, [setting])
    found: Any = recipe.model_dump()
    for part in place.split("."):
        found = found[part]
    assert found == value


def test_set_replaces_and_adds_in_order_and_leaves_the_rest() -> None:
    said = {**PAIR, "parameters": {"k": 3, "rtol": 0.5}, "eval": {"window": 64}}
    recipe = make_recipe(said, ["method.k=4", "method.k=5", "eval.stride=8"])
    assert recipe.methods["input"] == METHODS[DEFAULT](k=5, rtol=0.5)
    assert recipe.eval is not None
    assert (recipe.eval.window, recipe.eval.stride) == (64, 8)
    assert said["parameters"] == {"k": 3, "rtol": 0.5}
    assert said["eval"] == {"window": 64}


def test_set_values_are_checked_like_the_rest() -> None:
    settings = ["method.k=0", "seed=-1", "method.input.kk=2", "bogus.key=1"]
    places = [fault.partition(":")[0] for fault in faults(PAIR, *settings)]
    assert places == ["seed", "bogus", "parameters.k", "parameters.input.kk"]
    assert faults(PAIR, "method.input=3")[0].startswith("parameters.input: give settings")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("method.k", "'method.k' is not of the form key=value, as method.k=32"),
        ("=3", "'=3' is not of the form key=value"),
        ("method..k=3", "'method..k=3' is not of the form key=value"),
        (".k=3", "is not of the form"),
        ("method.k=[3", r"'method.k=\[3': '\[3' is not a valid YAML value"),
        ("out=2024-13-45", "'2024-13-45' is not a valid YAML value"),
        ("eval={a: 1, a: 2}", "is not a valid YAML value"),
        ("donor.name=x", "donor is 'tiny-mistral', which has no keys below it"),
        ("eval.window.size=3", "window is 64, which has no keys below it"),
    ],
)
def test_malformed_set(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe({**PAIR, "eval": {"window": 64}}, [setting])


def test_a_recipe_is_read_from_a_file(tmp_path: Path) -> None:
    text = "base_model: tiny-llama\ndonor: tiny-mistral\neval:\nparameters: {k: 8}\nout: Ω/x\n"
    path = write(tmp_path, text)
    expected = make_recipe({**PAIR, "parameters": {"k": 8}, "out": "Ω/x"})
    assert load_recipe(path) == load_recipe(str(path)) == expected
    assert load_recipe(path, ["method.k=9"]).methods["input"] == METHODS[DEFAULT](k=9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", "the key 'seed' is given twice.* line 2"),
        ("eval: {window: 4, window: 5}\n", "the key 'window' is given twice"),
        ("- base_model\n", "is no mapping; write keys like `base_model: NAME`"),
        ("just words\n", "is no mapping"),
        ("", "is no mapping"),
        ("a: [1\n", "is not valid YAML"),
        ("{a: b}: c\n", "is not valid YAML: .*unhashable key"),
        ("out: 2024-13-45\n", "is not valid YAML: month must be in 1..12"),
        ("a: !!python/object/apply:os.getcwd []\n", "is not valid YAML: .*could not determine"),
        ("seed: -1\n", r"recipe.yaml is not valid:\n  base_model: is missing\n  seed"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(write(tmp_path, text))
    assert "recipe.yaml" in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere.yaml cannot be read .*; give a YAML file"):
        load_recipe(tmp_path / "nowhere.yaml")
    with pytest.raises(RecipeError, match=r"cannot be read|is not UTF-8"):
        load_recipe(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"donor: caf\xe9")
    with pytest.raises(RecipeError, match=r"cannot be read|is not UTF-8"):
        load_recipe(tmp_path / "latin.yaml")


RECORDED = [
    {},
    {"out": "somewhere"},
    {"eval": False, "verify": False, "seed": 3, "dtype": "bfloat16", "chat_template": "none"},
    {"chat_template": "my/own.jinja", "text_only": True},
    {"eval": {"window": 64, "stride": 32, "text": ["a.txt"]}},
    {"method": "mean", "device": "cuda:1"},
    {"parameters": {"k": 8, "input": {"k": 4}}},
    {"method": "pieces", "parameters": {"output": {"strategy": "first"}}},
    {"tokenizer": {"tokens": {"a": {"source": ["b", "c"]}, "d": {"source": "zero"}}}},
    {"tokenizer": {"bos": "keep", "functions": {"turn_end": "a", "fim_pad": ["b", "c"]}}},
    {"tokenizer": {"functions": False}},
]


@pytest.mark.parametrize("said", RECORDED, ids=str)
def test_the_record_is_a_recipe_again(said: dict[str, Any]) -> None:
    recipe = make_recipe({**PAIR, **said})
    record = recipe.record()
    assert "out" not in record
    again = make_recipe(record)
    assert again.record() == record
    assert again.methods == recipe.methods
    same = recipe.model_dump(exclude={"out", "parameters"})
    assert again.model_dump(exclude={"out", "parameters"}) == same


def test_the_record_writes_the_settings_of_roles_out() -> None:
    one = make_recipe({**PAIR, "parameters": {"k": 8}}).record()["parameters"]
    assert one == METHODS[DEFAULT](k=8).model_dump()
    two = make_recipe({**PAIR, "parameters": {"k": 8, "input": {"k": 4}}}).record()["parameters"]
    assert two == {"input": METHODS[DEFAULT](k=4).model_dump(), "output": one}


def test_a_recipe_made_in_python_is_checked_as_well() -> None:
    with pytest.raises(ValidationError, match="'opm' is unknown; did you mean 'omp'"):
        Recipe(base_model="a", donor="b", method="opm")
    with pytest.raises(ValidationError, match=r"parameters\.output\.k: .* greater than 0, given 0"):
        Recipe(base_model="a", donor="b", parameters={"output": {"k": 0}})
    with pytest.raises(ValidationError, match="frozen"):
        make_recipe(PAIR).seed = 3


def test_one_text_needs_no_list() -> None:
    recipe = make_recipe({**PAIR, "eval": {"text": "notes.txt"}})
    assert recipe.eval is not None
    assert recipe.eval.text == ["notes.txt"]
