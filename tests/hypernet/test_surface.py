"""Surface forms: cut by the model of the network's tokenizer alone, first pieces kept."""

import json

import pytest
import torch
from tokenizers import Tokenizer

from tests.hypernet.made import settings
from tokswap.errors import CheckpointError
from tokswap.hypernet import surface
from tokswap.hypernet.config import HypernetConfig, read_config
from tokswap.hypernet.surface import SurfaceForms
from tokswap.vocabulary.spelling import to_byte_level
from tokswap.vocabulary.tokens import Vocabulary


def config(vocabulary: Vocabulary, length: int = 5) -> HypernetConfig:
    said = settings(rows=len(vocabulary), hn_surface_maxlen=length)
    return read_config(said, "made")


DATA = [
    b" the",
    b"the quick brown fox",
    b"",
    b"\xe4\xb8",
    "naïve".encode(),
    b"zq9z xqz",
    b" the",
    b"zqxzq",
]


def test_the_pieces_are_those_of_the_model_alone(small) -> None:
    vocabulary = small("split")
    model = Tokenizer.from_str(json.dumps(vocabulary.specification)).model
    forms, truncated = SurfaceForms(vocabulary, config(vocabulary)).forms(DATA)
    assert forms.dtype == torch.int64
    assert forms.shape == (len(DATA), 5)
    cut = [[token.id for token in model.tokenize(to_byte_level(data))] for data in DATA]
    assert 5 in map(len, cut)
    assert truncated == sum(len(ids) > 5 for ids in cut) > 0
    for form, ids in zip(forms.tolist(), cut, strict=True):
        assert form == (ids + [2] * 5)[:5]


def test_words_are_not_kept_apart(small) -> None:
    """Merges go over spaces where the pre-tokenizer would not let them."""
    vocabulary = small("split")
    forms, _ = SurfaceForms(vocabulary, config(vocabulary)).forms([b"a b" * 9])
    assert len(vocabulary.backend.pre_tokenizer.pre_tokenize_str("a b" * 9)) > 1
    assert bool((forms != 2).all())


def test_what_was_cut_before_is_the_same(small, monkeypatch) -> None:
    """In another order, beside others, and after what is remembered was forgotten."""
    monkeypatch.setattr(surface, "KEPT", 40)
    vocabulary = small("split")
    tokens = [data for data in vocabulary.spelling if data is not None]
    forms = SurfaceForms(vocabulary, config(vocabulary))
    whole, _ = SurfaceForms(vocabulary, config(vocabulary)).forms(tokens)
    for start in range(0, len(tokens), 7):
        some = tokens[start : start + 20][::-1]
        wanted = whole[start : start + 20].flip(0)
        assert torch.equal(forms.forms(some)[0], wanted)
        assert len(forms._place) <= 40


def test_the_truncated_are_counted_each_time(small) -> None:
    vocabulary = small("split")
    forms = SurfaceForms(vocabulary, config(vocabulary, 2))
    counts = [forms.forms([b"quick zzzz", b"a", b"xxxxxx", b"quick zzzz"])[1] for _ in range(2)]
    assert counts == [3, 3]


def test_no_tokens(small) -> None:
    vocabulary = small("split")
    assert SurfaceForms(vocabulary, config(vocabulary)).forms([])[0].shape == (0, 5)


def test_a_tokenizer_of_another_alphabet_is_refused(small) -> None:
    vocabulary = small("prepend")
    with pytest.raises(CheckpointError, match=r"prepend: .*byte-level, and this one is sentence"):
        SurfaceForms(vocabulary, config(vocabulary))


def test_a_tokenizer_with_more_ids_than_rows_is_refused(small) -> None:
    vocabulary = small("split")
    rows = len(vocabulary) - 9
    with pytest.raises(CheckpointError, match=f"ids up to {rows + 8}, and .* rows for {rows + 8}"):
        SurfaceForms(vocabulary, read_config(settings(rows=rows - 1), "made"))
    SurfaceForms(vocabulary, read_config(settings(rows=rows), "made"))
