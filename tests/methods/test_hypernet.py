"""A network's rows in a plan: those that transformers' encoder gives for the tokens' pieces."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from tests.hypernet.made import for_base, reference, weights
from tests.methods.conftest import random_table
from tokswap import progress
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import MethodError
from tokswap.hypernet.published import Published, open_published
from tokswap.methods import METHODS, ROLES, Method, Problem, Role, Sizes
from tokswap.methods.by_kind import ByKind
from tokswap.methods.hypernet import Hypernet
from tokswap.pipeline import transplant
from tokswap.plan import Plan
from tokswap.planning import Tables, make_plan
from tokswap.vocabulary.align import Alignment, Kind
from tokswap.vocabulary.spelling import to_byte_level

WIDTH = 24
ONLY = slice(None, None, 97)
Net = Callable[..., Path]


@pytest.fixture(scope="module")
def net(tmp_path_factory, alignment: Alignment) -> Net:
    """Networks of each kind for tiny-llama's vocabulary."""
    made: dict[str, Path] = {}

    def write(kind: str = "untied", **more) -> Path:
        key = json.dumps([kind, more])
        if key not in made:
            folder = tmp_path_factory.mktemp("net")
            made[key] = for_base(folder, alignment.base, WIDTH, kind, **more)
        return made[key]

    return write


def tables(alignment: Alignment, *, tied: bool = False, has_bias: bool = False) -> Tables:
    both = {role: random_table(alignment.base_rows, WIDTH, n) for n, role in enumerate(ROLES)}
    return Tables(lambda role: both[role], None, tied=tied, has_bias=has_bias)


def wanted(
    folder: Path, alignment: Alignment, given: Tables, ids: list[int], language: int | None = None
) -> dict[str, Tensor | None]:
    """Cut the tokens by the file's own model, and let the library predict."""
    said = json.loads((folder / "config.json").read_text())
    model = Tokenizer.from_file(str(folder / "tokenizer.json")).model
    cut = [
        [token.id for token in model.tokenize(to_byte_level(alignment.donor.spelling[n] or b""))]
        for n in ids
    ]
    length, pad = said["hn_surface_maxlen"], said["pad_token_id"]
    forms = torch.tensor([(pieces + [pad] * length)[:length] for pieces in cut])
    roles: list[Role] = ["input", "output"] if said["separate_out_embeddings"] else ["input"]
    source = torch.cat([given.base(role) for role in roles], dim=1)
    return reference(said, weights(said), forms, source, language)


def planned(alignment: Alignment, method: Method, given: Tables, only=None) -> Plan:
    return make_plan(alignment, dict.fromkeys(ROLES, method), given, only=only)


@pytest.mark.parametrize(
    ("kind", "tied", "language"),
    [("untied", False, None), ("tied", True, None), ("language", True, "fr"),
     ("untied language", False, 1), ("single head", False, None), ("plain", False, None)],
)  # fmt: skip
def test_the_plan_holds_what_the_library_predicts(
    kind: str, tied: bool, language, alignment: Alignment, net: Net
) -> None:
    folder, given = net(kind), tables(alignment, tied=tied)
    ids = [int(number) for number in alignment.missing[ONLY]]
    method = Hypernet(checkpoint=str(folder), language=language)
    plan = planned(alignment, method, given, ids)
    said = wanted(folder, alignment, given, ids, {"fr": 2, 1: 1}.get(language))
    for role, name in zip(plan.roles, ("inputs", "outputs"), strict=False):
        rows = plan.roles[role].dense_rows
        theirs = said[name]
        assert theirs is not None
        torch.testing.assert_close(rows / theirs.std(), theirs / theirs.std(), rtol=0, atol=1e-5)
        assert plan.roles[role].dense_ids.tolist() == ids
    assert ("output" in plan.roles) != tied


def test_the_network_runs_once_for_both_roles(
    alignment: Alignment, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    load = Published.load
    monkeypatch.setattr(Published, "load", lambda self: runs.append(self.name) or load(self))
    folder = str(net())
    planned(alignment, Hypernet(checkpoint=folder), tables(alignment), alignment.missing[:9])
    assert runs == [folder]


def test_shared_rows_are_copied_and_predicted_on_request(alignment: Alignment, net: Net) -> None:
    folder, given = net(), tables(alignment)
    copy = Hypernet(checkpoint=str(folder))
    predict = Hypernet(checkpoint=str(folder), shared="predict")
    shared = np.setdiff1d(alignment.ids(Kind.SHARED), alignment.doubles)
    special = alignment.ids(Kind.SPECIAL)
    for role, name in zip(ROLES, ("inputs", "outputs"), strict=True):
        base = given.base(role)
        made = planned(alignment, copy, given).apply(base, role)
        assert torch.equal(made[shared], base[alignment.source[shared]])
        plan = planned(alignment, predict, given)
        other = plan.apply(base, role)
        some = [int(number) for number in shared[::50]]
        theirs = wanted(folder, alignment, given, some)[name]
        assert theirs is not None
        torch.testing.assert_close(
            other[some] / theirs.std(), theirs / theirs.std(), rtol=0, atol=1e-5
        )
        torch.testing.assert_close(
            other[alignment.missing], made[alignment.missing], rtol=1e-4, atol=1e-5
        )
        source = alignment.source.copy()
        split = alignment.input_source if role == "input" else {}
        source[list(split)] = list(split.values())
        assert len(special)
        assert torch.equal(other[special], base[source[special]])
        assert not bool((plan.copied(role)[shared] >= 0).any())
        assert (plan.kind.numpy() == alignment.kind).all()
        assert plan.roles[role].weights.row(some[0]) == []


def test_a_method_of_one_role_may_predict_shared_rows(alignment: Alignment, net: Net) -> None:
    """The other role copies them, as it would alone."""
    given, shared = tables(alignment), alignment.ids(Kind.SHARED)
    predict = Hypernet(checkpoint=str(net()), shared="predict")
    methods: dict[Role, Method] = {"input": METHODS["pieces"](), "output": predict}
    plan = make_plan(alignment, methods, given)
    assert (plan.copied("input")[shared].numpy() == alignment.source[shared]).all()
    assert bool((plan.copied("output")[shared] < 0).all())


def test_the_bias_is_predicted_for_a_base_that_has_one(
    alignment: Alignment, net: Net, tmp_path: Path
) -> None:
    given = tables(alignment, has_bias=True)
    ids = [int(number) for number in alignment.missing[ONLY]]
    plan = planned(alignment, Hypernet(checkpoint=str(net())), given, ids)
    theirs = wanted(net(), alignment, given, ids)["bias"]
    plan.save(tmp_path / "plan")
    bias = random_table(alignment.base_rows, 1, 5)[:, 0]
    for read in (plan, Plan.load(tmp_path / "plan")):
        made = read.apply(bias, "output")
        torch.testing.assert_close(made[ids], theirs, rtol=0, atol=1e-5)
        shared = np.setdiff1d(alignment.ids(Kind.SHARED), alignment.doubles)
        assert torch.equal(made[shared], bias[alignment.source[shared]])
        assert read.roles["input"].dense_bias is None


def test_without_a_bias_in_the_base_or_the_network_it_is_the_mean(
    alignment: Alignment, net: Net
) -> None:
    bias = random_table(alignment.base_rows, 1, 5)[:, 0]
    mean = bias[alignment.used_base_ids].mean()
    for kind, has_bias in (("untied", False), ("plain", True)):
        given = tables(alignment, has_bias=has_bias)
        plan = planned(alignment, Hypernet(checkpoint=str(net(kind))), given, alignment.missing[:5])
        made = plan.apply(bias, "output")[alignment.missing[:5]]
        torch.testing.assert_close(made, mean.expand(5))


def test_a_token_without_bytes_gets_the_mean(ask, alignment: Alignment, net: Net) -> None:
    ids = [int(number) for number in alignment.missing[:4]]
    spelling = [*alignment.donor.spelling]
    spelling[ids[2]] = b""
    given = replace(alignment, donor=replace(alignment.donor, spelling=tuple(spelling)))
    method = Hypernet(checkpoint=str(net()))
    answer, whole = method.fill(ask(ids, given=given)), method.fill(ask(ids))
    assert answer.places.tolist() == [0, 1, 3]
    assert answer.weights.row(2) == [(alignment.base_rows, 1.0)]
    torch.testing.assert_close(answer.rows, whole[[0, 1, 3]], rtol=1e-4, atol=1e-5)


def test_tells_how_many_tokens_are_cut_short(
    alignment: Alignment, net: Net, capsys: pytest.CaptureFixture[str]
) -> None:
    short = net(hn_surface_maxlen=2)
    progress.show(True)
    try:
        planned(alignment, Hypernet(checkpoint=str(short)), tables(alignment), alignment.missing)
    finally:
        progress.show(False)
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if "more than 2 pieces" in line]
    assert len(lines) == 1  # for both roles
    assert f"of {len(alignment.missing):,} tokens" in lines[0]
    assert "hypernet, rows: " in said


def test_a_donor_without_weights_will_do(alignment: Alignment, net: Net, ask) -> None:
    ids = [int(number) for number in alignment.missing[:3]]
    assert len(Hypernet(checkpoint=str(net())).fill(ask(ids, donor=None))) == 3


def problem(ask, alignment: Alignment, **other) -> Problem:
    return replace(ask([int(alignment.missing[0])]), **other)


def test_says_what_is_lacking(ask, alignment: Alignment, net: Net) -> None:
    with pytest.raises(MethodError, match=r"give its folder .*: --set method.checkpoint=…"):
        Hypernet().check(Sizes(alignment, WIDTH, 0))
    with pytest.raises(
        MethodError, match=r"rows of width 24, and those of 'tiny-llama' have .* 32"
    ):
        Hypernet(checkpoint=str(net())).check(Sizes(alignment, 32, 0))
    with pytest.raises(MethodError, match="one table for both roles"):
        Hypernet(checkpoint=str(net())).fill(problem(ask, alignment, tied=True))
    with pytest.raises(MethodError, match="knows no language 'xx'"):
        Hypernet(checkpoint=str(net("untied language")), language="xx").check(
            Sizes(alignment, WIDTH, 0)
        )


def test_rows_that_are_not_finite_are_told(ask, alignment: Alignment, net: Net) -> None:
    huge = random_table(alignment.base_rows, WIDTH, 1) * 1e30
    with pytest.raises(MethodError, match=r"not finite in float16; set method\.dtype=float32"):
        Hypernet(checkpoint=str(net()), dtype="float16").fill(
            problem(ask, alignment, base_table=lambda: huge)
        )


def test_predicted_shared_rows_stand_alone(alignment: Alignment, net: Net) -> None:
    predict = Hypernet(checkpoint=str(net()), shared="predict")
    with pytest.raises(MethodError, match="set shared: copy, or leave the other methods out"):
        ByKind(rest=METHODS["mean"](), kinds={"digits": predict}).check(Sizes(alignment, WIDTH, 0))


def test_a_kind_of_tokens_may_be_predicted(alignment: Alignment, net: Net) -> None:
    """Its bias too, where all rows that are held have one."""
    method = ByKind(rest=METHODS["mean"](), kinds={"code": Hypernet(checkpoint=str(net()))})
    given = tables(alignment, has_bias=True)
    plan = planned(alignment, method, given)
    bias = plan.roles["output"].dense_bias
    held = plan.roles["output"].dense_ids
    assert bias is not None
    assert 0 < len(held) < len(alignment.missing)
    theirs = wanted(net(), alignment, given, held[:20].tolist())["bias"]
    torch.testing.assert_close(bias[:20], theirs, rtol=0, atol=1e-5)


def test_a_transplant_writes_what_was_predicted(tmp_path: Path) -> None:
    """Rows of shared tokens too; so only special ones are to be found in the base."""
    base = Checkpoint.open("tiny-llama")
    folder = for_base(tmp_path / "net", base.vocabulary, 128, "tied")
    made = transplant(
        base_model="tiny-llama",
        donor="tiny-mistral",
        method="hypernet",
        parameters={"checkpoint": str(folder), "shared": "predict"},
        out=str(tmp_path / "out"),
        eval=False,
        device="cpu",
    )
    assert made.record["verified"]["copied_rows"] == made.record["counts"]["special"] == 2
    said = {str(folder): open_published(str(folder)).identity}
    assert made.record["sources"] == made.plan.about["sources"] == said
    written = Checkpoint.open(str(tmp_path / "out")).load("model.embed_tokens.weight")
    plan = made.plan.roles["input"]
    assert len(plan.dense_ids) == made.record["counts"]["shared"] + made.record["counts"]["missing"]
    assert torch.equal(written[plan.dense_ids], plan.dense_rows.to(written.dtype))


def test_a_saved_plan_needs_no_network(alignment: Alignment, net: Net) -> None:
    sizes = Sizes(alignment, WIDTH, 0)
    there, gone = (Hypernet(checkpoint=folder).cost(sizes) for folder in (str(net()), "gone/net"))
    assert there.dense
    assert there.memory > 0
    assert gone.dense
