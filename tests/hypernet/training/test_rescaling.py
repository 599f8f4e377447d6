"""The rescalers: what goes in and what comes out has the stated mean and deviation."""

import pytest
import torch

from tests.hypernet.made import settings
from tokswap.hypernet.config import read_config
from tokswap.hypernet.network import SPREAD, Hypernet
from tokswap.hypernet.training.rescaling import LOOKED_AT, set_rescalers


def made(kind: str, rows: int) -> tuple[Hypernet, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    config = read_config(settings(kind, rows=rows), "made")
    size = config.read
    spread, mean = torch.rand(size, generator=draw) * 5 + 0.1, torch.randn(size, generator=draw)
    source = torch.randn(rows, size, generator=draw) * spread + mean
    return Hypernet(config, generator=draw), source


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("tied", 300),
        ("untied language", 300),
        ("single head", 300),
        ("untied", LOOKED_AT + 500),
    ],
)
def test_rows_are_read_and_predicted_at_the_right_size(kind: str, rows: int) -> None:
    network, source = made(kind, rows)
    set_rescalers(network, source)
    read = network.in_scaler(source)
    assert torch.allclose(read.mean(0), torch.zeros(read.shape[1]), atol=1e-5)
    assert torch.allclose(read.std(0, correction=0), torch.full_like(read[0], SPREAD), rtol=1e-4)
    language = 0 if network.config.languages else None
    ids = torch.arange(min(rows, LOOKED_AT))[:, None]
    with torch.no_grad():
        predicted = network(ids, source, language)
    width = network.config.n_embd
    pairs = [(predicted.inputs, source[:, :width])]
    pairs += [] if predicted.outputs is None else [(predicted.outputs, source[:, width:])]
    assert len(pairs) == 1 + network.config.separate_out_embeddings
    for rows_now, own in pairs:
        assert torch.allclose(rows_now.mean(0), own.mean(0), atol=1e-3)
        assert torch.allclose(rows_now.std(0, correction=0), own.std(0, correction=0), rtol=1e-3)


def test_only_the_last_one_goes_on_learning() -> None:
    network, source = made("untied", 100)
    set_rescalers(network, source)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"in_scaler.w", "in_scaler.b", "scaler.w", "scaler.b"}


def test_a_dimension_that_is_the_same_in_all_rows_does_no_harm() -> None:
    network, source = made("untied", 100)
    source[:, 3] = 7.0
    set_rescalers(network, source)
    with torch.no_grad():
        found = network(torch.arange(100)[:, None], source)
    assert found.inputs.isfinite().all()
    assert torch.allclose(found.inputs[:, 3], torch.full((100,), 7.0), atol=1e-3)


def test_a_network_without_rescalers_stays_as_it_is() -> None:
    network, source = made("plain", 60)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    set_rescalers(network, source)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
