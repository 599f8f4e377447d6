"""FOCUS where the answer is known, and where there is nothing to learn from."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tokswap
from tokswap.errors import MethodError, RecipeError
from tokswap.methods import Problem
from tokswap.methods.focus import Focus
from tokswap.methods.pieces import Pieces
from tokswap.recipe import make_recipe
from tokswap.static_vectors import Training, train
from tokswap.training_text import training_documents
from tokswap.vocabulary.align import Alignment, align
from tokswap.vocabulary.spelled import cut_into_words, spell_tokens
from tokswap.vocabulary.tokens import Vocabulary

Ask = Callable[..., Problem]
Make = Callable[..., Vocabulary]
SAMPLE = str(Path(tokswap.__file__).parent / "bundled" / "sample.txt")


@pytest.fixture
def pair(tiny_vocabulary: Make) -> Callable[[str, str], Alignment]:
    """Align vocabularies whose tokens are letters."""

    def make(base: Sequence[str], donor: Sequence[str]) -> Alignment:
        made = [tiny_vocabulary(name, list(said)) for name, said in (("b", base), ("d", donor))]
        return align(*made, base_rows=len(made[0]), rows=len(made[1]))

    return make


@pytest.fixture
def usage(tmp_path: Path) -> str:
    """A text in which p, q and r are used alike, and s, t and u are."""
    random = np.random.default_rng(0)
    lines = []
    for kind in random.integers(0, 2, 200):
        for _ in range(15):
            letter = ("pqr", "stu")[kind][random.integers(0, 3)]
            lines.append("".join(random.permutation([*("abc", "def")[kind], letter])))
    path = tmp_path / "usage.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def test_a_token_is_made_of_those_that_are_used_alike(
    pair: Callable[[str, str], Alignment], usage: str, ask: Ask
) -> None:
    alignment = pair("abcdefpqst", "abcdefpqrstu")
    base = alignment.base
    method = Focus(text=usage, dimension=12, epochs=6, temperature=0.02, outliers=None)
    ids = [alignment.donor.ids[letter] for letter in (b"r", b"u")]
    rows = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    answer = method.fill(ask(ids, given=alignment, base=rows, donor=None))
    for place, (like, other) in enumerate([("pq", "stdef"), ("st", "pqabc")]):
        found = dict(answer.row(place))
        assert sum(found.values()) == pytest.approx(1.0)
        near = [found.get(base.ids[letter.encode()], 0.0) for letter in like]
        far = [found.get(base.ids[letter.encode()], 0.0) for letter in other]
        assert min(near) > 1.5 * max(far)


def test_weights_are_the_sparsemax_of_cosines_with_anchors(ask: Ask, alignment: Alignment) -> None:
    method = Focus(text=SAMPLE, dimension=20, epochs=1, minimum_count=3, outliers=None)
    donor = alignment.donor
    documents = training_documents([SAMPLE], method="focus")
    words = cut_into_words(donor, documents)
    vectors = train(words, Training(20, 1, 3), method="focus", label="")
    spelled = spell_tokens(donor)
    ids = [int(n) for n in alignment.missing if spelled[n] in vectors.places][:40]
    assert len(ids) == 40
    anchors = [int(n) for n in alignment.anchors if spelled[n] in vectors.places]

    def unit(numbers: list[int]) -> Tensor:
        rows = torch.tensor(vectors.rows[[vectors.places[spelled[n] or ""] for n in numbers]])
        return torch.nn.functional.normalize(rows.double())

    scores = unit(ids) @ unit(anchors).T
    answer = method.fill(ask(ids))
    for place, row in enumerate(scores):
        found = dict(answer.row(place))
        # What is above a threshold, with a sum of 1: no other weights are.
        best = row.max()
        low, high = float(best) - 1, float(best)
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if (row - middle).clamp_min(0).sum() > 1 else (low, middle)
        wanted = torch.zeros(alignment.base_rows, dtype=torch.float64)
        wanted[alignment.source[anchors]] = (row - low).clamp_min(0)
        given = torch.zeros(alignment.base_rows, dtype=torch.float64)
        given[list(found)] = torch.tensor(list(found.values()), dtype=torch.float64)
        torch.testing.assert_close(given, wanted, rtol=0, atol=2e-6)


def test_tokens_that_the_text_lacks_are_made_of_their_pieces(
    ask: Ask, alignment: Alignment
) -> None:
    method = Focus(text=SAMPLE, dimension=20, epochs=1, minimum_count=1)
    words = cut_into_words(alignment.donor, training_documents([SAMPLE], method="focus"))
    seen = {word for some in words for word in some}
    spelled = spell_tokens(alignment.donor)
    unseen = [int(n) for n in alignment.missing if spelled[n] not in seen][:20]
    assert len(unseen) == 20
    problem = ask(unseen)
    answer, pieces = method.fill(problem), Pieces().fill(problem)
    assert [answer.row(n) for n in range(20)] == [pieces.row(n) for n in range(20)]
    other = Focus(text=SAMPLE, dimension=20, epochs=1, minimum_count=1, unseen=True).fill(problem)
    assert all(other.row(n) != pieces.row(n) for n in range(20))


def test_untrained_rows_are_no_anchors(ask: Ask, alignment: Alignment, base_table: Tensor) -> None:
    method = Focus(text=SAMPLE, dimension=20, epochs=1, minimum_count=2)
    spelled = spell_tokens(alignment.donor)
    words = cut_into_words(alignment.donor, training_documents([SAMPLE], method="focus"))
    twice = [word for some in words for word in some]
    ids = [int(n) for n in alignment.missing if twice.count(spelled[n] or "") >= 2][:40]
    used = method.fill(ask(ids)).indices.unique()
    base = base_table.clone()
    base[used[::2]] = 0.0
    again = method.fill(ask(ids, base=base)).indices.unique()
    assert len(again) > 10
    assert not set(again.tolist()) & set(used[::2].tolist())


def test_no_anchors_and_no_use_of_them_are_told(
    pair: Callable[[str, str], Alignment], usage: str, ask: Ask
) -> None:
    rows = torch.randn(3, 4)
    problem = ask([0], given=pair("xyz", "abc"), base=rows, donor=None)
    with pytest.raises(MethodError, match=r"shares 0 tokens .* choose a donor with a closer vocab"):
        Focus(text=usage, outliers=None).fill(problem)
    problem = ask([0], given=pair("xyz", "axyz"), base=rows, donor=None)
    with pytest.raises(
        MethodError, match=r"none of 3 shared tokens occurs 10 times; give a longer"
    ):
        Focus(text=usage, outliers=None).fill(problem)


def test_an_empty_text_is_refused_before_anything_slow(tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "empty.txt"
    path.write_bytes(b"")
    with pytest.raises(MethodError, match=r"focus cannot learn from .*empty.txt, which is empty; "):
        Focus(text=str(path)).check(None)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=r"cannot learn from .*empty.txt, which is empty; "):
        Focus(text=str(path)).fill(ask([5]))
    with pytest.raises(MethodError, match=r"missing.txt: there is no such file; check its path"):
        Focus(text=f"{path.parent}/missing.txt").check(None)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=r"it is a folder; give the files in it"):
        Focus(text=str(path.parent)).check(None)  # type: ignore[arg-type]


def test_a_recipe_gives_one_text_or_several() -> None:
    asked = {"base_model": "b", "donor": "d", "method": "focus"}
    for said in (SAMPLE, [SAMPLE]):
        recipe = make_recipe({**asked, "parameters": {"text": said}})
        assert recipe.methods["input"] == Focus(text=[SAMPLE])
    with pytest.raises(RecipeError, match="text"):
        make_recipe({**asked, "parameters": {"text": 3}})


WITHOUT = """
import sys
sys.modules["gensim"] = None
from tokswap.errors import MethodError
from tokswap.methods import METHODS
from tokswap.static_vectors import Training, train
for method in ("focus", "wechsel"):
    for work in (METHODS[method]().check, lambda _: train([], Training(), method=method, label="")):
        try:
            work(None)
        except MethodError as error:
            print(error)
"""


def test_without_gensim_one_line_says_what_to_install() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    )
    said = "{} needs the package gensim, which is not installed; pip install 'tokswap[vectors]'"
    assert ran.stdout.splitlines() == [said.format(m) for m in ("focus", "wechsel") for _ in "12"]
