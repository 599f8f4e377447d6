"""Text that the base writes: the same for a seed, about as much as asked, read like any other."""

from typing import Any

import pytest
import torch

from tests.refit.made import Bench
from tokswap.errors import RefitError
from tokswap.refit.ahead import OWN
from tokswap.refit.written import as_text, write


def documents(bench: Bench, tokens: int, seed: int = 0) -> list[str]:
    text = as_text(write(bench.swapped.base, bench.pair, tokens, device="cpu", seed=seed))
    assert text.name == OWN
    found = ["".join(chunks) for chunks in text.open()]
    assert ["".join(chunks) for chunks in text.open()] == found
    return found


def test_a_seed_decides_what_is_written(untied: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokswap.refit.written.LENGTH", 24)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    found = documents(untied, 500)
    assert torch.equal(torch.rand(3), wanted)  # nothing else is drawn from
    assert documents(untied, 500) == found
    assert documents(untied, 500, seed=1) != found
    assert len(set(found)) > 10
    assert all(document.strip() for document in found)
    text = "".join(found)
    assert "<s>" not in text
    backend = untied.pair.base.vocabulary.backend
    ids = [token for one in found for token in backend.encode(one, add_special_tokens=False).ids]
    assert 250 < len(ids) < 1_000  # whole sequences are written


def test_a_base_that_cannot_write_is_told(untied: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_said: Any) -> None:
        raise NotImplementedError("no  cache\nhere")

    monkeypatch.setattr(untied.swapped.base, "generate", fail)
    said = r"^tiny-mistral cannot write text \(no cache here\); give a text to refit to instead$"
    with pytest.raises(RefitError, match=said):
        documents(untied, 500)
