"""Prediction in batches: the same rows, whatever the order, the batch and the memory."""

import pytest
import torch
from torch import Tensor

from tests.hypernet.made import LENGTH, settings, weights
from tokswap.errors import MethodError
from tokswap.hypernet.config import read_config
from tokswap.hypernet.network import Hypernet
from tokswap.hypernet.predict import Predictor, bytes_needed, predict
from tokswap.hypernet.stored import fill
from tokswap.peak import peak_memory

ROWS, WIDTH, PAD = 50, 12, 2


def network(kind: str = "untied") -> Hypernet:
    said = settings(kind)
    made = Hypernet(read_config(said, "made"))
    fill(made, weights(said), "made")
    return made


def tables(count: int = 2, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    made = [torch.randn(ROWS + 4, WIDTH, generator=generator) for _ in range(count)]
    return [table.to(dtype) for table in made]


def forms(count: int = 70) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    found = torch.randint(3, ROWS + 9, (count, LENGTH), generator=generator)
    lengths = torch.randint(0, LENGTH + 1, (count,), generator=generator)
    found[torch.arange(LENGTH) >= lengths[:, None]] = PAD
    return found


@pytest.mark.parametrize(("kind", "language"), [("tied", None), ("untied", None), ("language", 2)])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_any_batch_gives_the_same_rows(kind: str, language: int | None, batch: int) -> None:
    made, asked = network(kind), forms()
    some = tables(2 if made.config.separate_out_embeddings else 1)
    with torch.no_grad():
        wanted = made(asked, torch.cat(some, dim=1), language)
    found = predict(Predictor(made, some, language=language, batch=batch), asked)
    for ours, theirs in zip(vars(found).values(), vars(wanted).values(), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
            assert not ours.requires_grad


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_a_base_may_have_rows_for_fewer_ids(kind: str) -> None:
    made = network(kind)
    some = tables(2 if kind == "untied" else 1)
    asked = forms().clamp(max=ROWS - 10)
    asked[0, 0] = ROWS + 1  # a row of the network's own
    whole, short = (
        predict(Predictor(made, [t[:n] for t in some]), asked) for n in (ROWS, ROWS - 5)
    )
    assert torch.equal(whole.inputs, short.inputs)


def test_no_tokens() -> None:
    found = predict(Predictor(network(), tables()), forms(0))
    assert found.inputs.shape == (0, WIDTH)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_near_and_come_as_floats(dtype: torch.dtype) -> None:
    made = network()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    wanted = predict(Predictor(made, tables()), forms()).inputs
    found = predict(Predictor(made, tables(dtype=dtype), dtype=dtype), forms()).inputs
    assert found.dtype == torch.float32
    error = (found - wanted).norm() / wanted.norm()
    assert 0 < error < 0.05
    state = made.state_dict().items()
    assert all(torch.equal(tensor, before[name]) for name, tensor in state)  # it is not converted


def test_the_batch_is_what_the_memory_holds() -> None:
    made = network()
    standing, each = bytes_needed(made.config, torch.float32, torch.float32)
    assert Predictor(made, tables(), memory=standing + 10 * each).batch == 10
    assert Predictor(made, tables(), memory=standing + 10 * each, batch=3).batch == 3
    with pytest.raises(MethodError, match=r"needs \S+ at least .* may take \S+; give --memory \S+"):
        Predictor(made, tables(), memory=standing + each - 1)


def test_prediction_keeps_to_its_memory() -> None:
    """At a size that is measurable; the weights and the rows are there before."""
    config = read_config(
        settings("untied", width=64, hn_hidden_size=128, hn_intermediate_size=256), "made"
    )
    made, each = Hypernet(config), bytes_needed(config, torch.float32, torch.float32)[1]
    some = [torch.zeros(ROWS, 64) for _ in range(2)]
    asked = torch.randint(3, ROWS, (3000, LENGTH))
    predictor = Predictor(made, some, batch=1000)
    with peak_memory() as peak:
        predictor.rows(asked)
    allowed = 1000 * each + 3000 * 8 * 64 * 2 + (8 << 20)  # the rows that come of it; the runtime
    assert peak.bytes < allowed


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_gives_the_same(dtype: torch.dtype) -> None:
    made, near = network(), 1e-3 if dtype == torch.float32 else 0.05
    here = predict(Predictor(made, tables()), forms()).outputs
    there = predict(Predictor(made, tables(), dtype=dtype, device="cuda"), forms()).outputs
    assert here is not None
    assert there is not None
    assert (there - here).norm() < near * here.norm()
